/* One request: checked before anything is asked of the store, answered once, and ended in one
 * place whatever comes first: the answer, or the end of its connection. Clients are hostile. */
#include "daemon/web/page.h"
#include "daemon/web/web.h"

#include <event2/buffer.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct outcome common[] = {
    {SP_ERR_FORMAT, 400, "malformed request"},
    {SP_ERR_LIMIT, 429, "too many, try again"},
    {SP_ERR_AUTH, 401, "no session, or it is over"},
    {SP_ERR_EXPIRED, 401, "no session, or it is over"},
    {SP_ERR_DENIED, 401, "no session, or it is over"},
    {SP_ERR_NOT_FOUND, 404, "not found"},
    {SP_ERR_EXISTS, 409, "exists already"},
    {SP_ERR_STATE, 409, "not now"},
    {SP_ERR_NO_SPACE, 503, "busy, try again"},
    {SP_ERR_MEMORY, 503, "busy, try again"},
    {SP_ERR_PEER, 503, "busy, try again"},
    {0, 0, NULL},
};

static const struct outcome *find_outcome(const struct outcome *list, enum sp_err err)
{
    for (; list != NULL && list->code != 0; list++)
        if (list->status == err)
            return list;
    return NULL;
}

static const struct outcome *outcome_of(const struct route *route, enum sp_err err)
{
    static const struct outcome unknown = {SP_ERR_SYSTEM, 500, "internal error"};
    const struct outcome *o = find_outcome(route->outcomes, err);
    if (o == NULL)
        o = find_outcome(common, err);
    return o != NULL ? o : &unknown;
}

/* --- the end --- */

struct evhttp_request *exchange_end(struct exchange *x)
{
    struct evhttp_request *req = x->req;
    evbuffer_drain(evhttp_request_get_input_buffer(req), SIZE_MAX);
    if (x->conn != NULL)
        x->conn->exchange = NULL;
    if (x->ask != NULL)
        x->ask->exchange = NULL;
    if (x->waiting)
        TAILQ_REMOVE(&x->web->waiting, x, next);
    if (x->gathered != NULL)
        evbuffer_free(x->gathered);
    if (x->pause != NULL)
        event_free(x->pause);
    x->web->n_exchanges--;
    sodium_memzero(x, sizeof(*x));
    free(x);
    return req;
}

void exchange_gone(struct exchange *x)
{
    struct evhttp_request *req = exchange_end(x);
    /* evhttp has let go of a request that we were working on, and keeps any other. */
    if (evhttp_request_get_connection(req) == NULL)
        evhttp_request_free(req);
}

static void on_close(struct evhttp_connection *evcon, void *arg)
{
    struct conn *conn = arg;
    (void)evcon;
    if (conn->exchange != NULL)
        exchange_gone(conn->exchange);
}

void exchange_answer(struct exchange *x, int code, const char *type, struct evbuffer *body)
{
    conn_answer(exchange_end(x), code, type, body);
    if (body != NULL)
        evbuffer_free(body);
}

static void add_advice(struct evhttp_request *req, int code, const char *scheme)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    if (code == 401) /* RFC 9110 15.5.2 */
        evhttp_add_header(headers, "WWW-Authenticate", scheme);
    if (code == 503 || code == 429)
        evhttp_add_header(headers, "Retry-After", "2");
}

static void refuse(struct evhttp_request *req, const struct outcome *o, const char *scheme)
{
    add_advice(req, o->code, scheme);
    conn_answer_error(req, o->code, o->text);
}

static void on_pause_over(evutil_socket_t fd, short what, void *arg)
{
    struct exchange *x = arg;
    (void)fd, (void)what;
    const struct outcome *o = outcome_of(x->route, SP_ERR_AUTH);
    refuse(exchange_end(x), o, AUTH_SESSION);
}

/* Nobody who can prove who they are waits for it: not even on the same address. */
static void refuse_late(struct exchange *x)
{
    const struct timeval pause = {.tv_usec = WEB_PAUSE_MS * 1000};
    x->pause = evtimer_new(x->web->role->base, on_pause_over, x);
    if (x->pause == NULL || event_add(x->pause, &pause) != 0)
        conn_drop(x->conn);
}

void exchange_fail(struct exchange *x, enum sp_err err)
{
    static const struct outcome no_gate = {SP_ERR_AUTH, 401, "no gate"};
    const char *scheme = x->route->needs == NEEDS_GATE ? AUTH_GATE : AUTH_SESSION;
    const struct outcome *o =
        x->ungated && err == SP_ERR_AUTH ? &no_gate : outcome_of(x->route, err);
    if (o->code == 503)
        x->web->n_busy++;
    if (x->route->needs == NEEDS_PROOF && o->code == 403) {
        refuse_late(x);
    } else if (x->streaming) {
        conn_drop(x->conn); /* half an answer is out: what is missing must be seen */
    } else if (o->text == NULL) {
        add_advice(x->req, o->code, scheme);
        page_answer(x, o->code);
    } else {
        refuse(exchange_end(x), o, scheme);
    }
}

/* --- the beginning --- */

static bool is_named(const struct evkeyval *h, const char *name)
{
    return strcasecmp(h->key, name) == 0;
}

/* Framing that two readers could understand in two ways is refused (RFC 9112 6.1, 6.3, 11.2:
 * request smuggling). So is a transfer coding as such (SP_ERR_STATE): nobody needs one here,
 * libevent takes any but "chunked" for no body at all, and reads chunk sizes as strtoll() does. */
static enum sp_err check_framing(const struct evhttp_request *req)
{
    const struct evkeyval *h;
    size_t lengths = 0, codings = 0, hosts = 0, authorizations = 0;
    TAILQ_FOREACH(h, req->input_headers, next)
    {
        if (!field_is_plain(h->key, h->value))
            return SP_ERR_FORMAT;
        lengths += is_named(h, "Content-Length");
        codings += is_named(h, "Transfer-Encoding");
        hosts += is_named(h, "Host");
        authorizations += is_named(h, "Authorization");
    }
    bool has_host = hosts == 1 || (hosts == 0 && req->major == 1 && req->minor == 0);
    if (lengths + codings > 1 || authorizations > 1 || !has_host)
        return SP_ERR_FORMAT;
    return codings == 0 ? SP_OK : SP_ERR_STATE;
}

static const char *method_name(unsigned method)
{
    switch (method) {
    case EVHTTP_REQ_GET:
        return "GET, HEAD";
    case EVHTTP_REQ_POST:
        return "POST";
    case EVHTTP_REQ_PUT:
        return "PUT";
    default:
        return "DELETE";
    }
}

static bool route_fits(const struct route *route, const char *path, size_t len, const char *query,
                       struct path_args *args)
{
    return (!(route->query & QUERY_MARKED) || query_is_marked(query)) &&
           path_match(route->pattern, path, len, args);
}

/* Not the method, but the path: says what it can do. */
static void answer_methods(struct evhttp_request *req, const char *path, size_t len)
{
    char allow[64] = "";
    size_t at = 0;
    struct path_args args;
    const struct route *route;
    for (size_t i = 0; (route = route_at(i)) != NULL; i++) {
        if (!route_fits(route, path, len, NULL, &args))
            continue;
        int n = snprintf(allow + at, sizeof(allow) - at, "%s%s", at > 0 ? ", " : "",
                         method_name(route->method));
        at += n > 0 && (size_t)n < sizeof(allow) - at ? (size_t)n : 0;
    }
    if (at == 0) {
        conn_answer_error(req, 404, "not found");
        return;
    }
    evhttp_add_header(evhttp_request_get_output_headers(req), "Allow", allow);
    conn_answer_error(req, 405, "no such method here");
}

static const struct route *find_route(unsigned method, const char *path, size_t len,
                                      const char *query, struct path_args *args)
{
    const struct route *route;
    for (size_t i = 0; (route = route_at(i)) != NULL; i++)
        if (route->method == method && route_fits(route, path, len, query, args))
            return route;
    return NULL;
}

static void start(struct exchange *x)
{
    struct evbuffer *input = evhttp_request_get_input_buffer(x->req);
    size_t len = evbuffer_get_length(input);
    const uint8_t *bytes = len > 0 ? evbuffer_pullup(input, -1) : NULL;
    if (len > x->route->body_max || (len > 0 && bytes == NULL)) {
        conn_answer_error(exchange_end(x), 413, "body too large");
        return;
    }
    struct wire_in body = wire_in(len > 0 ? (const void *)bytes : "", len);
    struct wire_out frame = ask_frame(x);
    bool answers = x->route->ask == 0;
    enum sp_err err = x->route->start(x, &body, &frame);
    if (answers && err == SP_OK)
        return; /* and x is gone */
    if (err == SP_OK && !wire_in_done(&body))
        err = SP_ERR_FORMAT;
    bool made = err == SP_OK;
    if (made)
        err = ask_send(x, &frame);
    ask_wipe(&frame);
    if (err == SP_OK)
        return;
    if (err == SP_ERR_FORMAT)
        conn_answer_error(exchange_end(x), 400, "malformed request");
    else /* the route's SP_ERR_NO_SPACE is the store's; too many questions to it are MEMORY */
        exchange_fail(x, made ? SP_ERR_MEMORY : err);
}

static struct exchange *exchange_new(struct conn *conn, struct evhttp_request *req)
{
    struct exchange *x = calloc(1, sizeof(*x));
    if (x == NULL)
        return NULL;
    x->web = conn->web;
    x->web->n_exchanges++;
    x->conn = conn;
    x->req = req;
    conn->exchange = x;
    return x;
}

static enum sp_err take_authorization(struct exchange *x)
{
    const char *header =
        evhttp_find_header(evhttp_request_get_input_headers(x->req), "Authorization");
    if (x->route->needs == NEEDS_TOKEN)
        return auth_parse(header, AUTH_SESSION, x->token);
    if (x->route->needs == NEEDS_GATE)
        x->ungated = auth_parse(header, AUTH_GATE, x->token) != SP_OK;
    return SP_OK;
}

/* Looks the request up in the table; SP_OK when all that can be checked here is in order. *route
 * stays NULL when there is none. */
static enum sp_err classify(struct exchange *x, const char **path, size_t *path_len)
{
    const char *query;
    unsigned method = evhttp_request_get_command(x->req);
    *path = evhttp_request_get_uri(x->req);
    *path_len = 0;
    enum sp_err err = check_framing(x->req);
    if (err == SP_OK)
        err = target_split(*path, path_len, &query);
    if (err != SP_OK)
        return err;
    x->head = method == EVHTTP_REQ_HEAD;
    x->route = find_route(x->head ? EVHTTP_REQ_GET : method, *path, *path_len, query, &x->args);
    if (x->route == NULL)
        return SP_ERR_NOT_FOUND;
    err = query_parse(query, x->route->query, &x->query);
    return err == SP_OK ? take_authorization(x) : err;
}

/* What is said to what could not be read. */
static const struct outcome unreadable[] = {
    {SP_ERR_LIMIT, 414, "target too long"},
    {SP_ERR_STATE, 411, "a body needs its Content-Length, and no transfer coding"},
    {0, 0, NULL},
};

void exchange_begin(struct evhttp_request *req, void *arg)
{
    struct web *web = arg;
    struct conn *conn = conn_of(req);
    const char *path;
    size_t path_len;
    struct exchange *x = conn != NULL ? exchange_new(conn, req) : NULL;
    if (conn != NULL)
        conn_hold(conn);
    if (x == NULL) {
        conn_answer_error(req, 503, "busy, try again");
        return;
    }
    web->n_requests++;
    conn_deadline(conn, WEB_DEADLINE_STORE);
    evhttp_connection_set_closecb(evhttp_request_get_connection(req), on_close, conn);
    enum sp_err err = classify(x, &path, &path_len);
    if (err == SP_OK) {
        start(x);
    } else if (err == SP_ERR_NOT_FOUND) {
        answer_methods(exchange_end(x), path, path_len);
    } else {
        if (err !=
            SP_ERR_AUTH) /* what follows on the connection cannot be trusted to be a request */
            evhttp_add_header(evhttp_request_get_output_headers(req), "Connection", "close");
        exchange_end(x);
        const struct outcome *o = find_outcome(unreadable, err);
        refuse(req, o != NULL ? o : find_outcome(common, err), AUTH_SESSION);
    }
}
