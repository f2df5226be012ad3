/* libs: */
/* The cutter: the pieces rejoined are the input, two different cuts of the input give the same
 * pieces, limits hold, names are clean. The first two bytes choose the cut. */
#include "envelope/utf8.c"
#include "envelope/mimeparam.c"
#include "envelope/mimename.c"
#include "envelope/mimepart.c"
#include "envelope/cutter.c"

#include <stdlib.h>

#define MAX_INPUT (256u * 1024u)
#define HELD      258u /* the most that the cutter may keep back */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct pieces {
    uint8_t body[MAX_INPUT];
    uint8_t bytes[MAX_INPUT];
    size_t body_len, bytes_len;
    struct {
        uint64_t splice_at;
        size_t from;
    } list[CUTTER_MAX_ATTACHMENTS];
    uint8_t names[CUTTER_MAX_NAMES];
    size_t names_len;
    size_t count;
    bool open;
};

static struct pieces one, two;

static void must(bool ok)
{
    if (!ok)
        abort();
}

static enum sp_err on_body(void *ctx, const uint8_t *bytes, size_t len)
{
    struct pieces *p = ctx;

    must(!p->open && len > 0 && len <= MAX_INPUT - p->body_len);
    memcpy(p->body + p->body_len, bytes, len);
    p->body_len += len;
    return SP_OK;
}

static void take_text(struct pieces *p, const char *text, size_t len)
{
    must(len <= CUTTER_MAX_NAME && len <= sizeof p->names - p->names_len);
    memcpy(p->names + p->names_len, text, len);
    p->names_len += len;
}

static enum sp_err on_attachment(void *ctx, uint64_t splice_at, const char *media_type,
                                 size_t media_len, const char *file_name, size_t name_len)
{
    struct pieces *p = ctx;

    must(!p->open && p->count < CUTTER_MAX_ATTACHMENTS && splice_at == p->body_len);
    p->list[p->count].splice_at = splice_at;
    p->list[p->count++].from = p->bytes_len;
    p->open = true;
    must(media_len >= 3 && memchr(media_type, '/', media_len) != NULL);
    for (size_t i = 0; i < media_len; i++)
        must(media_type[i] > ' ' && media_type[i] < 0x7f &&
             !(media_type[i] >= 'A' && media_type[i] <= 'Z'));
    must(utf8_is_text((const uint8_t *)file_name, name_len));
    must(name_len == 0 ||
         (memchr(file_name, '/', name_len) == NULL && memchr(file_name, '\\', name_len) == NULL));
    take_text(p, media_type, media_len);
    take_text(p, file_name, name_len);
    return SP_OK;
}

static enum sp_err on_bytes(void *ctx, const uint8_t *bytes, size_t len)
{
    struct pieces *p = ctx;

    must(p->open && len > 0 && len <= MAX_INPUT - p->bytes_len);
    memcpy(p->bytes + p->bytes_len, bytes, len);
    p->bytes_len += len;
    return SP_OK;
}

static enum sp_err on_end(void *ctx)
{
    struct pieces *p = ctx;

    must(p->open);
    p->open = false;
    return SP_OK;
}

/* whole: in one push. */
static void cut_up(const uint8_t *in, size_t len, bool whole, uint32_t seed, struct pieces *p)
{
    static const struct cutter_sink sink = {on_body, on_attachment, on_bytes, on_end};
    static struct cutter cutter;

    p->body_len = p->bytes_len = p->names_len = p->count = 0;
    p->open = false;
    cutter_init(&cutter, &sink, p);
    for (size_t at = 0, n = 0; at < len; at += n) {
        seed = seed * 1664525u + 1013904223u;
        n = whole ? len : 1 + (seed >> 16) % ((seed >> 8) % 97 + 1);
        if (n > len - at)
            n = len - at;
        uint8_t *own = malloc(n); /* so that reading beyond it is seen */
        must(own != NULL);
        memcpy(own, in + at, n);
        must(cutter_push(&cutter, own, n) == SP_OK);
        free(own);
        must(p->body_len + p->bytes_len + HELD >= at + n);
    }
    must(cutter_finish(&cutter) == SP_OK);
    must(!p->open);
}

static void must_rejoin(const struct pieces *p, const uint8_t *in, size_t len)
{
    size_t body = 0;
    size_t at = 0;

    must(p->body_len + p->bytes_len == len);
    for (size_t i = 0; i < p->count; i++) {
        const size_t n = (size_t)p->list[i].splice_at - body;
        const size_t end = i + 1 < p->count ? p->list[i + 1].from : p->bytes_len;
        const size_t m = end - p->list[i].from;
        must(memcmp(p->body + body, in + at, n) == 0);
        body += n;
        at += n;
        must(memcmp(p->bytes + p->list[i].from, in + at, m) == 0);
        at += m;
    }
    must(memcmp(p->body + body, in + at, len - at) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > MAX_INPUT)
        return 0;
    const uint32_t seed = (uint32_t)data[0] << 8 | data[1];
    data += 2;
    size -= 2;
    cut_up(data, size, true, 0, &one);
    must_rejoin(&one, data, size);
    cut_up(data, size, false, seed, &two);
    must(one.count == two.count && one.body_len == two.body_len && one.names_len == two.names_len);
    must(memcmp(one.body, two.body, one.body_len) == 0);
    must(memcmp(one.bytes, two.bytes, one.bytes_len) == 0);
    must(memcmp(one.names, two.names, one.names_len) == 0);
    for (size_t i = 0; i < one.count; i++)
        must(one.list[i].splice_at == two.list[i].splice_at &&
             one.list[i].from == two.list[i].from);
    return 0;
}
