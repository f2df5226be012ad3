/* libs: */
/* The content reader against a naive model: the end is the first CRLF.CRLF there is, and what
 * stands before it is refused for any CR, LF or NUL that is not part of a CRLF. Any cut gives the
 * same. */
#include "daemon/smtp/content.c"

#include <stdlib.h>

#define MAX_INPUT 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct got {
    uint8_t bytes[MAX_INPUT];
    size_t len;
    size_t used;
    bool done;
    const char *refused;
    uint64_t count;
};

static struct got naive, whole, parts;

static void must(bool ok)
{
    if (!ok)
        abort();
}

static enum sp_err on_content(void *ctx, const uint8_t *bytes, size_t len)
{
    struct got *got = ctx;

    must(len > 0 && len <= sizeof got->bytes - got->len);
    memcpy(got->bytes + got->len, bytes, len);
    got->len += len;
    return SP_OK;
}

static void feed(const uint8_t *in, size_t len, enum content_mode mode, uint32_t seed,
                 struct got *got)
{
    struct content c;

    got->len = 0;
    got->used = 0;
    got->done = false;
    content_init(&c, mode);
    while (got->used < len && !got->done) {
        size_t n = len - got->used;
        size_t used = 0;
        if (seed != 0) {
            seed = seed * 1664525u + 1013904223u;
            n = 1 + (seed >> 16) % 40 < n ? 1 + (seed >> 16) % 40 : n;
        }
        uint8_t *own = malloc(n);
        must(own != NULL);
        memcpy(own, in + got->used, n);
        must(content_push(&c, own, n, &used, &got->done, on_content, got) == SP_OK);
        free(own);
        must(got->done ? used <= n : used == n);
        got->used += used;
    }
    got->refused = content_refused(&c);
    got->count = content_bytes(&c);
}

/* True for an octet that is neither ordinary nor part of a CRLF; a CR at the very end is undecided.
 */
static bool offends(const uint8_t *in, size_t i, size_t len)
{
    if (in[i] == '\r')
        return i + 1 < len && in[i + 1] != '\n';
    if (in[i] == '\n')
        return i == 0 || in[i - 1] != '\r';
    return in[i] == 0;
}

static bool starts_line(const uint8_t *in, size_t i)
{
    return i == 0 || (i >= 2 && in[i - 2] == '\r' && in[i - 1] == '\n');
}

static void model(const uint8_t *in, size_t len, enum content_mode mode, struct got *got)
{
    size_t end = len;

    got->len = 0;
    got->done = false;
    got->used = len;
    for (size_t i = 0; mode == CONTENT_DATA && i + 3 <= len; i++) {
        if (starts_line(in, i) && memcmp(in + i, ".\r\n", 3) == 0) {
            got->done = true;
            got->used = i + 3;
            end = i;
            break;
        }
    }
    got->refused = NULL;
    for (size_t i = 0; i < end; i++) {
        if (offends(in, i, len))
            got->refused = "it is";
        const bool dot = mode == CONTENT_DATA && in[i] == '.' && starts_line(in, i);
        /* The CR of what may become the final dot is no content. */
        const bool half = mode == CONTENT_DATA && in[i] == '\r' && i + 1 == len && i > 0 &&
                          in[i - 1] == '.' && starts_line(in, i - 1);
        if (!dot && !half)
            got->bytes[got->len++] = in[i];
    }
}

static void must_equal(const struct got *a, const struct got *b)
{
    must(a->done == b->done && a->used == b->used);
    must((a->refused == NULL) == (b->refused == NULL));
    if (a->refused == NULL)
        must(a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > MAX_INPUT)
        return 0;
    const enum content_mode mode = (data[0] & 1) != 0 ? CONTENT_BDAT : CONTENT_DATA;
    const uint32_t seed = 1u + data[1];
    data += 2;
    size -= 2;
    model(data, size, mode, &naive);
    feed(data, size, mode, 0, &whole);
    feed(data, size, mode, seed, &parts);
    must_equal(&naive, &whole);
    must_equal(&whole, &parts);
    must(whole.len == parts.len && whole.refused == parts.refused && whole.count == parts.count);
    return 0;
}
