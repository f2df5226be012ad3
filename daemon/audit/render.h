#ifndef SEALPOST_AUDIT_RENDER_H
#define SEALPOST_AUDIT_RENDER_H
/* From a frame to JSON text. */
#include "envelope/error.h"
#include "envelope/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Text that grows in the caller's buffer; sticky, as the writer of wire.h. */
struct audit_text {
    char *at;
    size_t len, cap;
    bool full;
};

void audit_put(struct audit_text *out, const char *text);
void audit_put_number(struct audit_text *out, uint64_t v);
void audit_put_hex(struct audit_text *out, const uint8_t *bytes, size_t n);
/* A JSON string with its quotes. What is no UTF-8 becomes U+FFFD; quotes, backslashes, controls (C1
 * ones and line separators too: the log is read on terminals) are escaped. */
void audit_put_json(struct audit_text *out, const uint8_t *bytes, size_t n);

/* Decodes the body of AU_EVENT, which `reporter` (an enum role_id) has sent, and appends
 * `"event":"name","field":...`. *event: which it is. SP_ERR_FORMAT; SP_ERR_DENIED: not this role's
 * to report; SP_ERR_LIMIT: out is full. */
enum sp_err audit_render(struct wire_in *body, unsigned reporter, struct audit_text *out,
                         unsigned *event);

#endif
