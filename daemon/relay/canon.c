/* DKIM's relaxed canonicalisation. The mail is the sender's; nothing here trusts its form. */
#include "daemon/relay/canon.h"

#include <string.h>

static void put(struct canon_body *b, const void *bytes, size_t n)
{
    if (n > sizeof(b->out) - b->len) {
        b->sink(b->ctx, b->out, b->len);
        b->len = 0;
    }
    if (n > sizeof(b->out)) {
        b->sink(b->ctx, bytes, n);
        return;
    }
    memcpy(b->out + b->len, bytes, n);
    b->len += n;
}

/* What waited turns out to stand before something. */
static void put_waiting(struct canon_body *b)
{
    for (; b->lines > 0; b->lines--)
        put(b, "\r\n", 2);
    if (b->blank)
        put(b, " ", 1);
    b->blank = false;
    b->any = true;
}

static void put_plain(struct canon_body *b, const void *bytes, size_t n)
{
    if (b->lines > 0 || b->blank || !b->any)
        put_waiting(b);
    put(b, bytes, n);
}

/* Octets in front that are neither blanks nor controls: most of a mail. Eight at a time, as long as
 * none of them is below 0x21 (then one of them borrows, and its own top bit was not set). */
static size_t plain_run(const uint8_t *in, size_t len)
{
    static const uint64_t each = UINT64_C(0x0101010101010101);
    size_t n = 0;
    for (uint64_t eight; n + sizeof(eight) <= len; n += sizeof(eight)) {
        memcpy(&eight, in + n, sizeof(eight));
        if (((eight - each * 0x21) & ~eight & each * 0x80) != 0)
            break;
    }
    while (n < len && in[n] > ' ')
        n++;
    return n;
}

void canon_body_init(struct canon_body *b, canon_sink *sink, void *ctx)
{
    memset(b, 0, sizeof(*b));
    b->sink = sink;
    b->ctx = ctx;
}

/* One octet that is a blank or a control. */
static void push_other(struct canon_body *b, uint8_t byte)
{
    bool end = b->cr && byte == '\n';
    if (b->cr && !end)
        put_plain(b, "\r", 1);
    b->cr = byte == '\r';
    if (end) {
        b->blank = false;
        b->lines++;
    } else if (byte == ' ' || byte == '\t') {
        b->blank = true;
    } else if (!b->cr) {
        put_plain(b, &byte, 1);
    }
}

void canon_body_push(struct canon_body *b, const void *bytes, size_t len)
{
    const uint8_t *in = bytes;
    while (len > 0) {
        size_t n = plain_run(in, len);
        if (n == 0) {
            push_other(b, *in);
            n = 1;
        } else {
            if (b->cr)
                put_plain(b, "\r", 1);
            b->cr = false;
            put_plain(b, in, n);
        }
        in += n;
        len -= n;
    }
}

void canon_body_end(struct canon_body *b)
{
    if (b->cr)
        put_plain(b, "\r", 1);
    if (b->any)
        put(b, "\r\n", 2);
    b->sink(b->ctx, b->out, b->len);
    b->len = 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* CRLF that folds; one that ends the field vanishes as well. */
static bool is_fold(const char *in, size_t len, size_t i)
{
    return in[i] == '\r' && i + 1 < len && in[i + 1] == '\n';
}

size_t canon_field(const char *in, size_t len, char *out)
{
    const char *colon = len > 0 ? memchr(in, ':', len) : NULL;
    size_t n = 0, i = 0;
    bool blank = false;
    if (colon == NULL)
        return 0;
    for (size_t name = (size_t)(colon - in); i < name; i++)
        if (!is_blank(in[i]))
            out[n++] = in[i] >= 'A' && in[i] <= 'Z' ? (char)(in[i] + ('a' - 'A')) : in[i];
    out[n++] = ':';
    size_t value = n;
    for (i++; i < len; i++) {
        if (is_fold(in, len, i)) {
            i++;
        } else if (is_blank(in[i])) {
            blank = true;
        } else {
            if (blank && n > value)
                out[n++] = ' ';
            blank = false;
            out[n++] = in[i];
        }
    }
    return n;
}
