/* DKIM's relaxed canonicalisation. The mail is the sender's; nothing here trusts its form. */
#include "daemon/relay/canon.h"

#include <string.h>

static void put(struct canon_body *b, uint8_t byte)
{
    if (b->len == sizeof(b->out)) {
        b->sink(b->ctx, b->out, b->len);
        b->len = 0;
    }
    b->out[b->len++] = byte;
}

/* What waited turns out to stand before something. */
static void put_waiting(struct canon_body *b)
{
    for (; b->lines > 0; b->lines--) {
        put(b, '\r');
        put(b, '\n');
    }
    if (b->blank)
        put(b, ' ');
    b->blank = false;
    b->any = true;
}

static void put_plain(struct canon_body *b, uint8_t byte)
{
    if (b->lines > 0 || b->blank || !b->any)
        put_waiting(b);
    put(b, byte);
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
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = in[i];
        if (b->cr && byte == '\n') {
            b->cr = false;
            b->blank = false; /* at the end of a line */
            b->lines++;
            continue;
        }
        if (b->cr)
            put_plain(b, '\r');
        b->cr = byte == '\r';
        if (byte == ' ' || byte == '\t')
            b->blank = true;
        else if (!b->cr)
            put_plain(b, byte);
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
