/* GET /metrics on [metrics] listen: what the roles say in `status`, gathered by the supervisor, as
 * numbers. Whoever can connect may read it: it holds counts, no names. */
#include "daemon/web/metrics.h"
#include "daemon/messages.h"
#include "daemon/web/exposition.h"
#include "daemon/web/web.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define MAX_WAITING 256u
#define MAX_HEADERS 4096
#define TIMEOUT     10 /* seconds */

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

enum sp_err metrics_reply(struct ipc_frame *frame)
{
    struct evbuffer *text = evbuffer_new();
    size_t len = frame->body.left;
    struct wire_in rows = frame->body;
    (void)wire_get_bytes(&frame->body, len);
    self.asked = false;
    if (text != NULL)
        exposition_write(rows, text);
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
