/* DKIM's relaxed canonicalisation. The mail is the sender's; nothing here trusts its form. */
#include "daemon/relay/canon.h"
#include "daemon/relay/octets.h"

#include <string.h>

static void flush(struct canon_body *b)
{
    b->sink(b->ctx, b->out, b->len);
    b->len = 0;
}

static void put(struct canon_body *b, uint8_t byte)
{
    if (b->len == sizeof(b->out))
        flush(b);
    b->out[b->len++] = byte;
}

static bool is_waiting(const struct canon_body *b)
{
    return b->lines > 0 || b->blank || b->cr || !b->any;
}

/* An octet that is none of what may be dropped; so what waited is not. */
static void put_plain(struct canon_body *b, uint8_t byte)
{
    for (; b->lines > 0; b->lines--) {
        put(b, '\r');
        put(b, '\n');
    }
    if (b->blank)
        put(b, ' ');
    b->blank = false;
    b->any = true;
    put(b, byte);
}

static void push_one(struct canon_body *b, uint8_t byte)
{
    bool end = b->cr && byte == '\n';
    if (b->cr && !end)
        put_plain(b, '\r');
    b->cr = byte == '\r';
    if (end) {
        b->blank = false;
        b->lines++;
    } else if (byte == ' ' || byte == '\t') {
        b->blank = true;
    } else if (!b->cr) {
        put_plain(b, byte);
    }
}

/* Most of a mail is as it should be, and goes on as it stands. Returns the octets taken; nothing
 * may be waiting. */
static size_t push_run(struct canon_body *b, const uint8_t *in, size_t len)
{
    size_t n = octets_canonical(in, len);
    if (n > sizeof(b->out) - b->len)
        flush(b);
    if (n > sizeof(b->out)) {
        b->sink(b->ctx, in, n);
    } else {
        memcpy(b->out + b->len, in, n);
        b->len += n;
    }
    return n;
}

void canon_body_init(struct canon_body *b, canon_sink *sink, void *ctx)
{
    memset(b, 0, sizeof(*b));
    b->sink = sink;
    b->ctx = ctx;
}

void canon_body_push(struct canon_body *b, const void *bytes, size_t len)
{
    const uint8_t *in = bytes;
    while (len > 0) {
        size_t n = is_waiting(b) ? 0 : push_run(b, in, len);
        if (n == 0) {
            push_one(b, *in);
            n = 1;
        }
        in += n;
        len -= n;
    }
}

void canon_body_end(struct canon_body *b)
{
    if (b->cr)
        put_plain(b, '\r');
    if (b->any) {
        put(b, '\r');
        put(b, '\n');
    }
    flush(b);
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
