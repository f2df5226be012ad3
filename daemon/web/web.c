/* The web role: HTTPS for clients, ciphertext and public data alone. It sees no secret of a
 * message: TLS signatures come from the keeper, and the store checks every token. Clients are
 * hostile; the store and the keeper are trusted, and do not trust us. */
#include "daemon/web/web.h"

#include "daemon/tls.h"
#include "daemon/web/metrics.h"
#include "daemon/web/page.h"

#include <event2/listener.h>
#include <fcntl.h>
#include <malloc.h>
#include <jansson.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define STOP_TICK_MS 100
#define STOP_MAX_MS  10000u
#define IDLE_TIMEOUT 60                /* seconds; evhttp's own, behind our deadlines */
#define KEPT_FREE    (8 * 1024 * 1024) /* bytes of heap that are not given back to the kernel */

static struct web the_web; /* one a process */

/* libevent has much to say about what clients do. */
static void on_library_log(int severity, const char *text)
{
    if (severity >= EVENT_LOG_ERR)
        role_log("libevent: %s", text);
}

/* What libevent has read goes through its heap: tokens, gates, and a password that a mail filter
 * put into a path (link.c). So its blocks are wiped when they are given back. Malloc's own blocks,
 * so that those from before are freed as well. */
static void wiping_free(void *at)
{
    if (at != NULL)
        sodium_memzero(at, malloc_usable_size(at));
    free(at);
}

static void *wiping_realloc(void *at, size_t n)
{
    size_t had = at != NULL ? malloc_usable_size(at) : 0;
    void *new = malloc(n);
    if (new == NULL)
        return NULL;
    if (at != NULL)
        memcpy(new, at, had < n ? had : n);
    wiping_free(at);
    return new;
}

static enum sp_err prepare_listener(int fd)
{
    int on = 1;
    /* Both are inherited by what it accepts. */
    if (evutil_make_socket_nonblocking(fd) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0)
        return SP_ERR_SYSTEM;
    return SP_OK;
}

static enum sp_err make_http(struct web *web)
{
    web->http = evhttp_new(web->role->base);
    if (web->http == NULL)
        return SP_ERR_MEMORY;
    evhttp_set_allowed_methods(web->http, UINT16_MAX); /* the table of routes says no */
    evhttp_set_max_headers_size(web->http, WEB_MAX_HEADERS);
    evhttp_set_max_body_size(web->http, WEB_MAX_PUT);
    evhttp_set_timeout(web->http, IDLE_TIMEOUT);
    evhttp_set_default_content_type(web->http, NULL);
    evhttp_set_bevcb(web->http, conn_accept, web);
    evhttp_set_gencb(web->http, exchange_begin, web);
    return SP_OK;
}

static enum sp_err prepare(struct role *role)
{
    struct web *web = &the_web;
    size_t seed;
    role->state = web;
    web->role = role;
    TAILQ_INIT(&web->waiting);
    TAILQ_INIT(&web->wanting);
    if (sodium_init() < 0)
        return SP_ERR_CRYPTO;
    randombytes_buf(&seed, sizeof(seed));
    json_object_seed(seed | 1); /* else jansson opens /dev/urandom, too late */
    event_set_log_callback(on_library_log);
    event_set_mem_functions(malloc, wiping_realloc, wiping_free);
    /* A block of a piece comes and goes with every turn: without this each is a page fault for
     * every 4 KiB, and a fifth of all that a fetch costs. */
    mallopt(M_TRIM_THRESHOLD, KEPT_FREE);
    mallopt(M_MMAP_THRESHOLD, KEPT_FREE);
    enum sp_err err = tls_init();
    for (size_t i = 0; err == SP_OK && i < role->config->web_listen.count; i++)
        err = prepare_listener(FD_EXTRA + (int)i);
    if (err == SP_OK)
        err = conn_init(web);
    if (err == SP_OK)
        err = make_http(web);
    return err;
}

/* Without the keeper no handshake ends: the tree is coming down, or should. */
static void on_idle(void *ctx)
{
    struct web *web = ctx;
    conn_grow(web);
    if (!tls_keeper_lost() || web->stopping)
        return;
    role_log("the keeper's edge ended");
    event_base_loopbreak(web->role->base);
}

static enum sp_err run(struct role *role)
{
    struct web *web = role->state;
    tls_set_keeper(ROLE_FD(ROLE_KEEPER));
    ipc_on_idle(on_idle, web);
    enum sp_err err = asks_init(web);
    return err == SP_OK ? metrics_start(web, FD_EXTRA + (int)role->config->web_listen.count) : err;
}

/* RFC 7301: nothing but HTTP/1.1 is spoken here; a client that insists on another hears so. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen = NULL;
    (void)ssl, (void)arg;
    if (SSL_select_next_proto(&chosen, out_len, ours, sizeof(ours) - 1, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static enum sp_err listen_on(struct web *web, int fd)
{
    struct evconnlistener *l = evconnlistener_new(
        web->role->base, NULL, NULL, LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_CLOSE_ON_FREE, 0, fd);
    if (l == NULL || evhttp_bind_listener(web->http, l) == NULL)
        return SP_ERR_MEMORY;
    web->listener[web->n_listeners++] = l;
    return SP_OK;
}

/* New connections get the new certificate, older ones keep theirs to their end. */
static enum sp_err take_certificate(struct web *web, const char *pem, size_t len)
{
    SSL_CTX *ctx = NULL;
    enum sp_err err = tls_server_new(pem, len, &ctx);
    if (err != SP_OK) {
        role_log("certificate refused: %s", sp_err_text(err));
        return web->tls != NULL ? SP_OK : err;
    }
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS); /* many idle connections */
    SSL_CTX_free(web->tls);
    web->tls = ctx;
    size_t n = web->role->config->web_listen.count;
    while (err == SP_OK && web->n_listeners < n)
        err = listen_on(web, FD_EXTRA + (int)web->n_listeners);
    web->listening = err == SP_OK && web->n_conns < web->max_conns;
    return err;
}

static enum sp_err control(struct role *role, struct ipc_frame *frame)
{
    size_t len = frame->body.left;
    if (frame->type == CT_METRICS_REPLY)
        return metrics_reply(frame);
    if (frame->type != CT_CERTIFICATE)
        return SP_ERR_DENIED;
    return take_certificate(role->state, (const char *)wire_get_bytes(&frame->body, len), len);
}

/* Ends once no request is under way, and one tick later, for the last answers to go out. */
static void on_stop_tick(evutil_socket_t fd, short what, void *arg)
{
    struct web *web = arg;
    (void)fd, (void)what;
    uint64_t grace = web->role->config->shutdown_grace * 1000;
    uint64_t waited = (uint64_t)++web->stop_ticks * STOP_TICK_MS;
    if (web->n_exchanges == 0 || waited >= (grace < STOP_MAX_MS ? grace : STOP_MAX_MS))
        event_base_loopexit(web->role->base, NULL);
}

static void stop(struct role *role)
{
    struct web *web = role->state;
    const struct timeval tick = {.tv_usec = STOP_TICK_MS * 1000};
    web->stopping = true;
    for (size_t i = 0; i < web->n_listeners; i++)
        evconnlistener_disable(web->listener[i]);
    web->stop_timer = event_new(role->base, -1, EV_PERSIST, on_stop_tick, web);
    if (web->stop_timer == NULL || event_add(web->stop_timer, &tick) != 0)
        event_base_loopexit(role->base, NULL);
}

static void status(struct role *role, struct wire_out *pairs)
{
    const struct web *web = role->state;
    role_status_number(pairs, "connections", web->n_conns);
    role_status_number(pairs, "connections_max", web->max_conns);
    role_status_number(pairs, "requests", web->n_requests);
    role_status_number(pairs, "requests_busy", web->n_busy);
    tls_status(web->tls, pairs);
    wire_put_str(pairs, "page_sha256");
    wire_put_str(pairs, page_sha256);
    wire_put_str(pairs, "page_files_sha256");
    wire_put_str(pairs, page_files_sha256);
}

const struct role_ops web_role = {
    .id = ROLE_WEB,
    .name = "web",
    .prepare = prepare,
    .run = run,
    .stop = stop,
    .status = status,
    .control = control,
};
