#ifndef SEALPOST_CLIENT_HTTP_H
#define SEALPOST_CLIENT_HTTP_H
/* HTTPS requests over one kept connection: certificates always verified, https alone, no redirects.
 */
#include "envelope/error.h"

#include <stddef.h>
#include <stdint.h>

struct http;

struct http_request {
    const char *method;  /* "GET", "POST", "PUT", "DELETE" */
    const char *path;    /* from the first slash on */
    const char *session; /* token as text, or NULL */
    const char *gate;    /* a link's, as text, or NULL */
    const void *body;    /* POST, PUT */
    size_t body_len;
    uint64_t from; /* first byte wanted; 0: all of it, and no Range is sent */
};

#define HTTP_MAX_ERROR 256u

struct http_reply {
    long status;
    char error[HTTP_MAX_ERROR]; /* what the server or the connection says, cleaned; may be empty */
};

/* Gets the body's bytes as they come: of a 200, or of a 206 when a range was asked for. */
typedef enum sp_err (*http_sink)(void *ctx, const uint8_t *bytes, size_t len);

/* url without trailing slash; ca: a file of certificates trusted as well, or NULL. SP_ERR_CRYPTO,
 * SP_ERR_MEMORY. */
enum sp_err http_open(const char *url, const char *ca, struct http **out);
void http_close(struct http *h);

/* SP_OK: a whole answer came, of whatever status. SP_ERR_PEER: no answer, or cut short;
 * SP_ERR_AUTH: the certificate does not verify; else the sink's error. */
enum sp_err http_do(struct http *h, const struct http_request *rq, http_sink sink, void *ctx,
                    struct http_reply *reply);

/* One path segment, percent-encoded; free() it. NULL: no memory. */
char *http_escape(const char *text);

#endif
