#ifndef SEALPOST_RELAY_CANON_H
#define SEALPOST_RELAY_CANON_H
/*
 * Canonicalisation of mail for DKIM: relaxed/relaxed (RFC 6376 3.4.2, 3.4.4), streaming; any cut of
 * the input gives the same. Holds no more of the content than a few counters, allocates nothing.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A run of canonical bytes, in order. */
typedef void canon_sink(void *ctx, const void *bytes, size_t len);

struct canon_body {
    uint64_t lines; /* CRLFs that wait for a byte behind them */
    bool space;     /* blanks wait */
    bool cr;        /* a CR waits for its LF */
    bool any;       /* something stands on the current line, or did before it */
};

void canon_body_init(struct canon_body *b);
/* A CR or LF that stands alone is a byte like any other. */
void canon_body_push(struct canon_body *b, const uint8_t *in, size_t len, canon_sink *sink,
                     void *ctx);
/* The last byte has come: what is not empty ends with CRLF. */
void canon_body_end(struct canon_body *b, canon_sink *sink, void *ctx);

/* One header field, whole ("Name: value", folded or not, with its CRLF or without): writes
 * "name:value" without CRLF, never longer than the input. Returns its length; 0: not a field. out
 * may be in. */
size_t canon_field(const char *in, size_t len, char *out);

#endif
