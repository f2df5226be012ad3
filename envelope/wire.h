#ifndef SEALPOST_WIRE_H
#define SEALPOST_WIRE_H
/*
 * Reading and writing of big-endian fields (FORMAT.md section 1), for the sealed-mail format and
 * for the frames between processes alike.
 *
 * Both sides are sticky: after the first error every further call does nothing and reads zeros,
 * so that a codec is a list of fields with one check at its end:
 *     wire_in_done() when decoding (an exact fit is demanded), wire_out_ok() when encoding.
 * Nothing is copied or allocated on reading: pointers lead into the caller's buffer.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wire_in {
    const uint8_t *at;
    size_t left;
    bool bad;
};

struct wire_out {
    uint8_t *at; /* start of the caller's buffer */
    size_t len;  /* bytes written */
    size_t cap;
    bool full; /* something did not fit */
};

struct wire_in wire_in(const void *bytes, size_t len);
uint8_t wire_get_u8(struct wire_in *in);
uint16_t wire_get_u16(struct wire_in *in);
uint32_t wire_get_u32(struct wire_in *in);
uint64_t wire_get_u64(struct wire_in *in);
/* n bytes where they stand; NULL on error. */
const uint8_t *wire_get_bytes(struct wire_in *in, size_t n);
/* Copies n bytes to out; zeros on error. */
void wire_get_copy(struct wire_in *in, void *out, size_t n);
/* A field with a u16 or u32 length in front, of at most max bytes; *len is 0 and the result NULL
 * on error (an empty field is not NULL). */
const uint8_t *wire_get_b16(struct wire_in *in, size_t max, size_t *len);
const uint8_t *wire_get_b32(struct wire_in *in, size_t max, size_t *len);
/* Marks the input as bad. */
void wire_in_fail(struct wire_in *in);
/* True if nothing went wrong and no byte is left over. */
bool wire_in_done(const struct wire_in *in);

struct wire_out wire_out(void *buf, size_t cap);
void wire_put_u8(struct wire_out *out, uint8_t v);
void wire_put_u16(struct wire_out *out, uint16_t v);
void wire_put_u32(struct wire_out *out, uint32_t v);
void wire_put_u64(struct wire_out *out, uint64_t v);
void wire_put_bytes(struct wire_out *out, const void *bytes, size_t n);
void wire_put_b16(struct wire_out *out, const void *bytes, size_t n);
void wire_put_b32(struct wire_out *out, const void *bytes, size_t n);
void wire_put_str(struct wire_out *out, const char *s); /* as b16, without the NUL */
bool wire_out_ok(const struct wire_out *out);

#endif
