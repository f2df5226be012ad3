/* Prometheus' text format on [metrics] listen: what the roles say in `status`, gathered by the
 * supervisor, as numbers. Whoever can connect may read it: it holds counts, no names. */
#include "daemon/web/metrics.h"
#include "daemon/messages.h"
#include "daemon/web/web.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define MAX_WAITING 256u
#define MAX_HEADERS 4096
#define TIMEOUT     10 /* seconds */
#define MAX_NAME    64u
#define MAX_VALUE   24u

/* One metric: a number of one role's status. Histograms: NAME_le_LIMIT ... NAME_count, NAME_sum. */
static const struct metric {
    const char *role, *status, *name, *type, *help;
} metrics[] = {
    {"supervisor", "restarts", "tree_restarts_total", "counter", "Fresh trees after a role died"},
    {"supervisor", "violations", "sandbox_violations_total", "counter",
     "Roles ended by their filter"},
    {"smtp", "sessions", "sessions", "gauge", "SMTP and LMTP sessions open"},
    {"smtp", "sessions_accepted", "sessions_total", "counter", "SMTP and LMTP sessions taken"},
    {"smtp", "sessions_refused", "sessions_refused_total", "counter", "Connections refused"},
    {"smtp", "sessions_cut", "sessions_cut_total", "counter", "Sessions ended for what they did"},
    {"sealer", "messages_sealed", "messages_sealed_total", "counter", "Messages taken in"},
    {"sealer", "bytes_sealed", "sealed_bytes_total", "counter", "Bytes of messages taken in"},
    {"store", "users", "users", "gauge", "Users"},
    {"store", "messages", "messages_stored", "gauge", "Messages in all mailboxes"},
    {"store", "bytes stored", "stored_bytes", "gauge", "Bytes of ciphertext"},
    {"store", "map used", "map_used_bytes", "gauge", "Of the database's map"},
    {"store", "map size", "map_size_bytes", "gauge", "The most it may grow to"},
    {"store", "commits", "commits_total", "counter", "Group commits"},
    {"audit", "events", "audit_events_total", "counter", "Events in the audit log"},
    {"audit", "checkpoints", "audit_checkpoints_total", "counter", "Checkpoints since the start"},
    {"web", "web.connections", "web_connections", "gauge", "HTTPS connections open"},
    {"web", "web.requests", "web_requests_total", "counter", "HTTPS requests"},
    {"web", "web.requests_busy", "web_requests_busy_total", "counter", "Requests answered 503"},
};

struct asking {
    LIST_ENTRY(asking) next;
    struct evhttp_request *req;
};

static struct {
    struct web *web;
    struct evhttp *http;
    LIST_HEAD(, asking) waiting;
    unsigned n_waiting;
    bool asked;
} self;

static void answer_busy(struct evhttp_request *req)
{
    evhttp_add_header(evhttp_request_get_output_headers(req), "Retry-After", "1");
    evhttp_send_reply(req, HTTP_SERVUNAVAIL, "Busy", NULL);
}

static void forget(struct asking *a)
{
    LIST_REMOVE(a, next);
    self.n_waiting--;
    free(a);
}

static void on_gone(struct evhttp_connection *conn, void *ctx)
{
    (void)conn;
    forget(ctx);
}

static void on_request(struct evhttp_request *req, void *ctx)
{
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(req));
    (void)ctx;
    if (path == NULL || strcmp(path, "/metrics") != 0) {
        evhttp_send_error(req, HTTP_NOTFOUND, NULL);
        return;
    }
    struct asking *a = self.n_waiting < MAX_WAITING ? calloc(1, sizeof(*a)) : NULL;
    bool sent = self.asked || (a != NULL && ipc_peer_send(self.web->role->supervisor, CT_METRICS, 0,
                                                          NULL, -1) == SP_OK);
    if (a == NULL || !sent) {
        free(a);
        answer_busy(req);
        return;
    }
    self.asked = true;
    a->req = req;
    LIST_INSERT_HEAD(&self.waiting, a, next);
    self.n_waiting++;
    evhttp_connection_set_closecb(evhttp_request_get_connection(req), on_gone, a);
}

/* --- the reply --- */

static bool is_number(const char *text)
{
    return text[0] != '\0' && strspn(text, "0123456789") == strlen(text);
}

static bool take_text(struct wire_in *in, char *out, size_t cap)
{
    size_t len;
    const uint8_t *text = wire_get_b16(in, UINT16_MAX, &len);
    if (text == NULL)
        return false;
    len = len < cap - 1 ? len : cap - 1;
    memcpy(out, text, len);
    out[len] = '\0';
    return true;
}

static void put_head(struct evbuffer *out, const struct metric *m)
{
    evbuffer_add_printf(out, "# HELP sealpost_%s %s\n# TYPE sealpost_%s %s\n", m->name, m->help,
                        m->name, m->type);
}

/* NAME of a metric is the beginning of name: what follows says which number of a histogram it is.
 */
static void put_part(struct evbuffer *out, const struct metric *m, const char *rest,
                     const char *value)
{
    if (strncmp(rest, "_le_", 4) == 0)
        evbuffer_add_printf(out, "sealpost_%s_bucket{le=\"%s\"} %s\n", m->name,
                            strcmp(rest + 4, "inf") == 0 ? "+Inf" : rest + 4, value);
    else if (strncmp(rest, "_by_", 4) == 0)
        evbuffer_add_printf(out, "sealpost_%s{kind=\"%s\"} %s\n", m->name, rest + 4, value);
    else
        evbuffer_add_printf(out, "sealpost_%s%s %s\n", m->name, rest, value);
}

static void put_metric(struct evbuffer *out, const struct metric *m, struct wire_in rows)
{
    char role[MAX_NAME], name[MAX_NAME], value[MAX_VALUE];
    size_t len = strlen(m->status);
    bool headed = false, parts = strcmp(m->type, "histogram") == 0;
    while (rows.left > 0 && take_text(&rows, role, sizeof(role)) &&
           take_text(&rows, name, sizeof(name)) && take_text(&rows, value, sizeof(value))) {
        bool starts = strncmp(name, m->status, len) == 0 && strcmp(role, m->role) == 0;
        bool part = starts && name[len] == '_' && (parts || strncmp(name + len, "_by_", 4) == 0);
        if (!is_number(value) || !starts || (name[len] != '\0' && !part))
            continue;
        if (!headed)
            put_head(out, m);
        headed = true;
        put_part(out, m, name + len, value);
    }
}

enum sp_err metrics_reply(struct ipc_frame *frame)
{
    struct evbuffer *text = evbuffer_new();
    size_t len = frame->body.left;
    struct wire_in rows = frame->body;
    (void)wire_get_bytes(&frame->body, len);
    self.asked = false;
    for (size_t i = 0; text != NULL && i < sizeof(metrics) / sizeof(metrics[0]); i++)
        put_metric(text, &metrics[i], rows);
    while (!LIST_EMPTY(&self.waiting)) {
        struct asking *a = LIST_FIRST(&self.waiting);
        struct evhttp_request *req = a->req;
        evhttp_connection_set_closecb(evhttp_request_get_connection(req), NULL, NULL);
        forget(a);
        if (text == NULL || len == 0) {
            answer_busy(req);
            continue;
        }
        struct evbuffer *body = evbuffer_new();
        if (body != NULL)
            evbuffer_add(body, evbuffer_pullup(text, -1), evbuffer_get_length(text));
        evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type",
                          "text/plain; version=0.0.4; charset=utf-8");
        evhttp_send_reply(req, HTTP_OK, "OK", body);
        if (body != NULL)
            evbuffer_free(body);
    }
    if (text != NULL)
        evbuffer_free(text);
    return SP_OK;
}

enum sp_err metrics_start(struct web *web, int first_fd)
{
    size_t n = web->role->config->metrics_listen.count;
    self.web = web;
    LIST_INIT(&self.waiting);
    if (n == 0)
        return SP_OK;
    self.http = evhttp_new(web->role->base);
    if (self.http == NULL)
        return SP_ERR_MEMORY;
    evhttp_set_allowed_methods(self.http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
    evhttp_set_max_headers_size(self.http, MAX_HEADERS);
    evhttp_set_max_body_size(self.http, 0);
    evhttp_set_timeout(self.http, TIMEOUT);
    evhttp_set_gencb(self.http, on_request, NULL);
    for (size_t i = 0; i < n; i++)
        if (evutil_make_socket_nonblocking(first_fd + (int)i) != 0 ||
            evhttp_accept_socket(self.http, first_fd + (int)i) != 0)
            return SP_ERR_SYSTEM;
    return SP_OK;
}
