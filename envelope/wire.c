/* Big-endian fields in and out of bounded buffers. Input is hostile, the caller is trusted. */
#include "envelope/wire.h"

#include <string.h>

struct wire_in wire_in(const void *bytes, size_t len)
{
    return (struct wire_in){.at = bytes, .left = len};
}

void wire_in_fail(struct wire_in *in)
{
    in->bad = true;
    in->left = 0;
}

const uint8_t *wire_get_bytes(struct wire_in *in, size_t n)
{
    if (in->bad || n > in->left) {
        wire_in_fail(in);
        return NULL;
    }
    const uint8_t *p = in->at;
    if (n > 0) {
        in->at += n;
        in->left -= n;
    }
    return p;
}

static uint64_t get_be(struct wire_in *in, size_t n)
{
    const uint8_t *p = wire_get_bytes(in, n);
    uint64_t v = 0;
    for (size_t i = 0; p != NULL && i < n; i++)
        v = v << 8 | p[i];
    return v;
}

uint8_t wire_get_u8(struct wire_in *in)
{
    return (uint8_t)get_be(in, 1);
}

uint16_t wire_get_u16(struct wire_in *in)
{
    return (uint16_t)get_be(in, 2);
}

uint32_t wire_get_u32(struct wire_in *in)
{
    return (uint32_t)get_be(in, 4);
}

uint64_t wire_get_u64(struct wire_in *in)
{
    return get_be(in, 8);
}

void wire_get_copy(struct wire_in *in, void *out, size_t n)
{
    const uint8_t *p = wire_get_bytes(in, n);
    if (p != NULL)
        memcpy(out, p, n);
    else
        memset(out, 0, n);
}

static const uint8_t *get_counted(struct wire_in *in, size_t n, size_t max, size_t *len)
{
    *len = 0;
    if (in->bad || n > max) {
        wire_in_fail(in);
        return NULL;
    }
    const uint8_t *p = wire_get_bytes(in, n);
    if (p != NULL)
        *len = n;
    return p;
}

const uint8_t *wire_get_b16(struct wire_in *in, size_t max, size_t *len)
{
    size_t n = wire_get_u16(in);
    return get_counted(in, n, max, len);
}

const uint8_t *wire_get_b32(struct wire_in *in, size_t max, size_t *len)
{
    size_t n = wire_get_u32(in);
    return get_counted(in, n, max, len);
}

bool wire_in_done(const struct wire_in *in)
{
    return !in->bad && in->left == 0;
}

struct wire_out wire_out(void *buf, size_t cap)
{
    return (struct wire_out){.at = buf, .cap = cap};
}

void wire_put_bytes(struct wire_out *out, const void *bytes, size_t n)
{
    if (out->full || n > out->cap - out->len) {
        out->full = true;
        return;
    }
    if (n > 0)
        memcpy(out->at + out->len, bytes, n);
    out->len += n;
}

static void put_be(struct wire_out *out, uint64_t v, size_t n)
{
    uint8_t b[8];
    for (size_t i = 0; i < n; i++)
        b[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
    wire_put_bytes(out, b, n);
}

void wire_put_u8(struct wire_out *out, uint8_t v)
{
    put_be(out, v, 1);
}

void wire_put_u16(struct wire_out *out, uint16_t v)
{
    put_be(out, v, 2);
}

void wire_put_u32(struct wire_out *out, uint32_t v)
{
    put_be(out, v, 4);
}

void wire_put_u64(struct wire_out *out, uint64_t v)
{
    put_be(out, v, 8);
}

void wire_put_b16(struct wire_out *out, const void *bytes, size_t n)
{
    if (n > UINT16_MAX)
        out->full = true;
    wire_put_u16(out, (uint16_t)n);
    wire_put_bytes(out, bytes, n);
}

void wire_put_b32(struct wire_out *out, const void *bytes, size_t n)
{
    if (n > UINT32_MAX)
        out->full = true;
    wire_put_u32(out, (uint32_t)n);
    wire_put_bytes(out, bytes, n);
}

void wire_put_str(struct wire_out *out, const char *s)
{
    wire_put_b16(out, s, strlen(s));
}

bool wire_out_ok(const struct wire_out *out)
{
    return !out->full;
}
