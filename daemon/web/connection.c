/* Connections of clients: accepted up to a limit, always under a deadline, dropped in one way.
 * Everything that comes from the other side is hostile. */
#include "daemon/web/web.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/listener.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define SMALL (WEB_MAX_HEADERS + WEB_MAX_BODY)

static int conn_index = -1; /* where an SSL object keeps its conn */

static void set_listening(struct web *web, bool on)
{
    for (size_t i = 0; i < web->n_listeners; i++)
        on ? evconnlistener_enable(web->listener[i]) : evconnlistener_disable(web->listener[i]);
    web->listening = on;
}

/* OpenSSL calls it when the SSL object is freed, whatever was the reason: the one end of a conn.
 * Its exchange has heard from evhttp (exchange.c) before. */
static void conn_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int index, long argl, void *argp)
{
    struct conn *conn = ptr;
    (void)parent, (void)ad, (void)index, (void)argl, (void)argp;
    if (conn == NULL)
        return;
    struct web *web = conn->web;
    if (conn->deadline != NULL)
        event_free(conn->deadline);
    LIST_REMOVE(conn, next);
    if (conn->wants)
        TAILQ_REMOVE(&web->wanting, conn, wanting);
    web->n_large -= conn->large;
    free(conn);
    web->n_conns--;
    if (!web->listening && !web->stopping)
        set_listening(web, true);
}

enum sp_err conn_init(struct web *web)
{
    struct rlimit limit;
    conn_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, conn_free);
    web->max_conns = WEB_MAX_CONNECTIONS;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < web->max_conns + 64)
        web->max_conns = limit.rlim_cur > 128 ? limit.rlim_cur - 64 : 64;
    return conn_index >= 0 ? SP_OK : SP_ERR_CRYPTO;
}

static void on_deadline(evutil_socket_t fd, short what, void *arg);

static struct conn *conn_new(struct web *web, SSL *ssl)
{
    struct conn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL)
        return NULL;
    conn->web = web;
    conn->deadline = evtimer_new(web->role->base, on_deadline, conn);
    if (conn->deadline == NULL || SSL_set_ex_data(ssl, conn_index, conn) != 1) {
        if (conn->deadline != NULL)
            event_free(conn->deadline);
        free(conn);
        return NULL;
    }
    LIST_INSERT_HEAD(&web->conns, conn, next);
    web->n_conns++;
    return conn;
}

/* --- room for large bodies ---
 *
 * evhttp gathers a whole body before it says a word about the request, so that anybody could fill
 * our memory. A connection that has sent more than a little asks for room, of which there is so
 * much in all and for one client, and is not read from until it has some.
 *
 * Reading is stopped between two turns of the loop, not by a high-water mark: as long as evhttp
 * wants more, libevent calls it again and again when the buffer has reached one. While an answer is
 * on its way evhttp reads on without looking; then a mark is right. */

static void want(struct conn *conn)
{
    if (conn->wants || conn->large || conn->exchange != NULL ||
        evbuffer_get_length(bufferevent_get_input(conn->bev)) < SMALL)
        return;
    conn->wants = true;
    TAILQ_INSERT_TAIL(&conn->web->wanting, conn, wanting);
}

static void on_input(struct evbuffer *input, const struct evbuffer_cb_info *info, void *arg)
{
    (void)input, (void)info;
    want(arg);
}

static bool may_grow(const struct conn *conn)
{
    const struct conn *other;
    unsigned same = 0;
    if (conn->web->n_large >= WEB_MAX_LARGE)
        return false;
    LIST_FOREACH(other, &conn->web->conns, next)
    {
        same += other->large && strcmp(other->guest.key, conn->guest.key) == 0;
    }
    return same < WEB_MAX_LARGE_OF;
}

static void grow(struct conn *conn)
{
    TAILQ_REMOVE(&conn->web->wanting, conn, wanting);
    conn->wants = false;
    conn->large = true;
    conn->web->n_large++;
    conn_deadline(conn, WEB_DEADLINE_BODY);
    if (conn->paused)
        bufferevent_enable(conn->bev, EV_READ);
    conn->paused = false;
}

void conn_grow(struct web *web)
{
    struct conn *conn, *next;
    for (conn = TAILQ_FIRST(&web->wanting); conn != NULL; conn = next) {
        next = TAILQ_NEXT(conn, wanting);
        if (may_grow(conn)) {
            grow(conn);
        } else if (!conn->paused) {
            conn->paused = true;
            bufferevent_disable(conn->bev, EV_READ);
        }
    }
}

void conn_hold(struct conn *conn)
{
    bufferevent_setwatermark(conn->bev, EV_READ, 0, SMALL);
}

/* The request is answered: somebody else may have the room. */
static void shrink(struct conn *conn)
{
    conn->web->n_large -= conn->large;
    conn->large = conn->paused = false; /* evhttp reads again when it wants to */
    bufferevent_setwatermark(conn->bev, EV_READ, 0, 0);
    want(conn);
}

static void await_request(struct conn *conn)
{
    struct web *web = conn->web;
    conn_deadline(conn,
                  web->n_conns > web->max_conns / 2 ? WEB_DEADLINE_CROWDED : WEB_DEADLINE_REQUEST);
}

/* One client must not take all connections. libevent makes the bufferevent before it has a socket:
 * whose it is can be asked one turn later, which is a connection's first deadline. */
static bool is_one_too_many(struct conn *conn)
{
    struct sockaddr_storage from = {0};
    socklen_t len = sizeof(from);
    const struct conn *other;
    uint64_t same = 0;
    if (getpeername(bufferevent_getfd(conn->bev), (struct sockaddr *)&from, &len) != 0)
        return true; /* gone already */
    conn->guest = guest_of(&from);
    LIST_FOREACH(other, &conn->web->conns, next)
    {
        same += strcmp(other->guest.key, conn->guest.key) == 0;
    }
    return same > conn->web->role->config->web_max_per_client;
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct conn *conn = arg;
    (void)fd, (void)what;
    if (conn->guest.key[0] != '\0' || is_one_too_many(conn))
        conn_drop(conn);
    else
        await_request(conn);
}

/* Never returns NULL, which evhttp would take for a wish for plain text: out of memory is the end
 * of the process, and the tree starts anew. */
struct bufferevent *conn_accept(struct event_base *base, void *arg)
{
    struct web *web = arg;
    SSL *ssl = SSL_new(web->tls);
    struct conn *conn = ssl != NULL ? conn_new(web, ssl) : NULL;
    if (conn != NULL)
        conn->bev = bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING,
                                                   BEV_OPT_CLOSE_ON_FREE);
    if (conn == NULL || conn->bev == NULL) {
        role_log("out of memory");
        _exit(71);
    }
    bufferevent_openssl_set_allow_dirty_shutdown(conn->bev, 1);
    if (evbuffer_add_cb(bufferevent_get_input(conn->bev), on_input, conn) == NULL) {
        role_log("out of memory");
        _exit(71);
    }
    conn_deadline(conn, 0);
    if (web->n_conns >= web->max_conns)
        set_listening(web, false);
    return conn->bev;
}

struct conn *conn_of(struct evhttp_request *req)
{
    struct evhttp_connection *evcon = evhttp_request_get_connection(req);
    if (evcon == NULL)
        return NULL;
    SSL *ssl = bufferevent_openssl_get_ssl(evhttp_connection_get_bufferevent(evcon));
    return SSL_get_ex_data(ssl, conn_index);
}

void conn_deadline(struct conn *conn, int seconds)
{
    struct timeval tv = {.tv_sec = seconds};
    event_add(conn->deadline, &tv);
}

void conn_drop(struct conn *conn)
{
    event_del(conn->deadline);
    bufferevent_trigger_event(conn->bev, BEV_EVENT_READING | BEV_EVENT_TIMEOUT,
                              BEV_TRIG_DEFER_CALLBACKS);
}

void conn_add_headers(struct evhttp_request *req, const char *type)
{
    static const struct {
        const char *name, *value;
    } always[] = {
        {"Cache-Control", "no-store"},
        {"X-Content-Type-Options", "nosniff"},
        {"Strict-Transport-Security", "max-age=31536000"},
        {"Referrer-Policy", "no-referrer"},
        {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
    };
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
        if (evhttp_find_header(headers, always[i].name) == NULL)
            evhttp_add_header(headers, always[i].name, always[i].value);
    if (type != NULL)
        evhttp_add_header(headers, "Content-Type", type);
}

/* The answer is with the client; the connection waits for its next request. */
static void on_complete(struct evhttp_request *req, void *arg)
{
    (void)req;
    shrink(arg);
    await_request(arg);
}

void conn_finishing(struct evhttp_request *req, struct conn *conn)
{
    evhttp_request_set_on_complete_cb(req, on_complete, conn);
    conn_deadline(conn, WEB_DEADLINE_BLOCK);
}

void conn_answer(struct evhttp_request *req, int code, const char *type, struct evbuffer *body)
{
    struct conn *conn = conn_of(req);
    if (conn == NULL) {
        evhttp_request_free(req);
        return;
    }
    conn_add_headers(req, type);
    if (evhttp_request_get_command(req) == EVHTTP_REQ_HEAD && body != NULL) {
        char length[32];
        snprintf(length, sizeof(length), "%zu", evbuffer_get_length(body));
        evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Length", length);
        body = NULL;
    }
    if (conn->web->stopping)
        evhttp_add_header(evhttp_request_get_output_headers(req), "Connection", "close");
    conn_finishing(req, conn);
    evhttp_send_reply(req, code, NULL, body);
}

void conn_answer_error(struct evhttp_request *req, int code, const char *text)
{
    char json[256];
    size_t len;
    struct evbuffer *body = evbuffer_new();
    if (error_json(text, json, sizeof(json), &len) == SP_OK && body != NULL)
        evbuffer_add(body, json, len);
    conn_answer(req, code, "application/json", body);
    if (body != NULL)
        evbuffer_free(body);
}
