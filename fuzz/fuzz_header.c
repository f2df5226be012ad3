/* libs: -lidn2 */
/* The filter of a message's header. Any cut gives the same output, and what is missing from it are
 * whole Authentication-Results fields of the header and nothing else. */
#include "daemon/domain.c"
#include "daemon/smtp/header.c"

#include <stdlib.h>

#define MAX_INPUT 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct got {
    uint8_t bytes[MAX_INPUT];
    size_t len;
    unsigned received;
};

static struct got whole, parts;

static void must(bool ok)
{
    if (!ok)
        abort();
}

static enum sp_err on_bytes(void *ctx, const uint8_t *bytes, size_t len)
{
    struct got *got = ctx;
    must(len > 0 && len <= sizeof(got->bytes) - got->len);
    memcpy(got->bytes + got->len, bytes, len);
    got->len += len;
    return SP_OK;
}

static void feed(const uint8_t *in, size_t len, uint32_t seed, struct got *got)
{
    static struct header h;
    got->len = 0;
    header_init(&h, "mx.example", on_bytes, got);
    for (size_t at = 0, n; at < len; at += n) {
        n = len - at;
        if (seed != 0) {
            seed = seed * 1664525u + 1013904223u;
            n = 1 + (seed >> 16) % 40 < n ? 1 + (seed >> 16) % 40 : n;
        }
        uint8_t *own = malloc(n);
        must(own != NULL);
        memcpy(own, in + at, n);
        must(header_push(&h, own, n) == SP_OK);
        must(h.held <= HEADER_HOLD);
        free(own);
    }
    must(header_finish(&h) == SP_OK);
    got->received = header_received(&h);
}

/* Behind the field that begins at i: the next line that does not go on with it. */
static size_t field_end(const uint8_t *in, size_t i, size_t len)
{
    while (i < len) {
        const uint8_t *lf = memchr(in + i, '\n', len - i);
        if (lf == NULL)
            return len;
        i = (size_t)(lf - in) + 1;
        if (i == len || (in[i] != ' ' && in[i] != '\t'))
            return i;
    }
    return len;
}

/* Walks input and output side by side. */
static void compare(const uint8_t *in, size_t len)
{
    size_t i = 0, o = 0;
    bool body = false;
    while (i < len) {
        size_t end = body ? len : field_end(in, i, len);
        if (whole.len - o >= end - i && memcmp(in + i, whole.bytes + o, end - i) == 0) {
            body |= end - i >= 2 && in[i] == '\r' && in[i + 1] == '\n';
            o += end - i;
        } else {
            must(end - i > 22 && strncasecmp((const char *)in + i, results, 22) == 0);
        }
        i = end;
    }
    must(o == whole.len);
}

/* The content reader lets nothing else through. */
static bool has_clean_lines(const uint8_t *in, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((in[i] == '\r' && i + 1 < len && in[i + 1] != '\n') ||
            (in[i] == '\n' && (i == 0 || in[i - 1] != '\r')))
            return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > MAX_INPUT)
        return 0;
    feed(data + 1, size - 1, 0, &whole);
    feed(data + 1, size - 1, 1u + data[0], &parts);
    must(whole.len == parts.len && memcmp(whole.bytes, parts.bytes, whole.len) == 0);
    must(whole.received == parts.received);
    if (has_clean_lines(data + 1, size - 1))
        compare(data + 1, size - 1);
    return 0;
}
