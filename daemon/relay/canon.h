#ifndef SEALPOST_RELAY_CANON_H
#define SEALPOST_RELAY_CANON_H
/*
 * Canonicalisation of mail for DKIM: relaxed/relaxed (RFC 6376 3.4.2, 3.4.4). The body streams: any
 * cut of the input gives the same, and what may have to be dropped later (blanks, empty lines) is
 * counted, not kept. Allocates nothing.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A run of canonical bytes, in order. */
typedef void canon_sink(void *ctx, const void *bytes, size_t len);

struct canon_body {
    canon_sink *sink;
    void *ctx;
    uint64_t lines; /* CRLFs that wait for a byte behind them */
    bool blank;     /* so do one or more blanks */
    bool cr;        /* a CR waits for its LF */
    bool any;       /* something was not blank */
    size_t len;
    uint8_t out[1024]; /* of the mail: locked memory, wiped by the owner */
};

void canon_body_init(struct canon_body *b, canon_sink *sink, void *ctx);
/* A CR or LF that stands alone is a byte like any other. */
void canon_body_push(struct canon_body *b, const void *bytes, size_t len);
/* The last byte has come: what is not empty ends with one CRLF. */
void canon_body_end(struct canon_body *b);

/* One header field, whole ("Name : value", folded or not, with its CRLF or without): writes
 * "name:value" without CRLF, never longer than the input. Returns its length; 0: there is no colon.
 * out may be in. */
size_t canon_field(const char *in, size_t len, char *out);

#endif
