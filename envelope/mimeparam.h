#ifndef SEALPOST_MIMEPARAM_H
#define SEALPOST_MIMEPARAM_H
/*
 * Structured MIME header fields: the type in front and the parameters behind it (RFC 2045 5.1,
 * RFC 2183 2). Works in the caller's buffer: quoted strings are unescaped where they stand, so a
 * field is walked once. Nothing is allocated, and no byte of the field is copied to the stack.
 */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mimeparam_in {
    uint8_t *at;
    size_t left;
};

struct mimeparam {
    uint8_t *name;
    size_t name_len;
    uint8_t *value; /* unescaped, into the field; bytes above 127 as they came */
    size_t value_len;
    bool loose; /* not quoted, and it holds "(" or ")", which others may take for a comment */
};

/* The body of a field as it came, folded or not (RFC 5322 2.2.3: the CRLFs go). SP_ERR_FORMAT if a
 * control other than HT is left. */
enum sp_err mimeparam_open(struct mimeparam_in *in, uint8_t *body, size_t len);

/* "type/subtype" into out, lower case, with its slash; SP_ERR_LIMIT if longer than cap. */
enum sp_err mimeparam_media_type(struct mimeparam_in *in, char *out, size_t cap, size_t *len);
/* A single token ("attachment"), in place. */
enum sp_err mimeparam_token(struct mimeparam_in *in, uint8_t **token, size_t *len);
/* The next parameter; SP_ERR_NOT_FOUND: no more of them. SP_ERR_FORMAT: malformed from here on. */
enum sp_err mimeparam_next(struct mimeparam_in *in, struct mimeparam *out);

/* bytes are this ASCII word, in any case. */
bool mimeparam_is(const uint8_t *bytes, size_t len, const char *word);

#endif
