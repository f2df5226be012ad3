/* libs: */
/* Replies of a hostile server. Any cut gives the same; what is taken for a reply follows the
 * grammar, by a naive reading of the same bytes; what leaves is printable. */
#include "daemon/relay/reply.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool good)
{
    if (!good)
        abort();
}

struct run {
    enum reply_event event;
    size_t used;
    unsigned lines;
    struct reply reply;
};

static void insist_clean(const char *text, size_t max)
{
    insist(strlen(text) <= max);
    for (; *text != '\0'; text++)
        insist(*text >= ' ' && *text < 0x7f);
}

/* Up to the end of one reply, at most step octets at a time. */
static void feed(struct run *run, const uint8_t *in, size_t len, size_t step)
{
    memset(run, 0, sizeof(*run));
    reply_init(&run->reply);
    while (run->used < len && run->event != REPLY_DONE && run->event != REPLY_BAD) {
        size_t used, n = step < len - run->used ? step : len - run->used;
        uint8_t *part = malloc(n);
        memcpy(part, in + run->used, n);
        run->event = reply_push(&run->reply, part, n, &used);
        free(part);
        insist(used <= n && (run->event != REPLY_MORE || used == n));
        run->used += used;
        if (run->event == REPLY_NEXT || run->event == REPLY_DONE) {
            run->lines++;
            insist(strlen(run->reply.line) == run->reply.line_len);
            insist_clean(run->reply.line, REPLY_LINE);
        }
    }
}

/* What was used is lines of one code, each ended by CRLF and nothing but the last one final. */
static void insist_reply(const struct run *run, const uint8_t *in)
{
    size_t at = 0;
    unsigned lines = 0;
    const struct reply *r = &run->reply;
    insist(r->code >= 200 && r->code <= 599 && run->lines <= REPLY_LINES);
    while (at < run->used) {
        const uint8_t *lf = memchr(in + at, '\n', run->used - at);
        insist(lf != NULL);
        size_t len = (size_t)(lf - (in + at));
        insist(len >= 4 && len + 1 <= REPLY_LINE && lf[-1] == '\r');
        insist(memchr(in + at, '\r', len - 1) == NULL);
        insist((unsigned)(in[at] - '0') * 100 + (unsigned)(in[at + 1] - '0') * 10 +
                   (unsigned)(in[at + 2] - '0') ==
               r->code);
        bool last = at + len + 1 == run->used;
        insist(in[at + 3] == '-' ? !last : last && (in[at + 3] == ' ' || len == 4));
        at += len + 1;
        lines++;
    }
    insist(lines == run->lines);
    insist_clean(r->text, REPLY_TEXT);
    insist(r->enhanced[0] == '\0' || (unsigned)(r->enhanced[0] - '0') == r->code / 100);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run whole, parts;
    if (size < 1)
        return 0;
    feed(&whole, data + 1, size - 1, size);
    feed(&parts, data + 1, size - 1, 1u + data[0] % 7u);
    insist(whole.event == parts.event || (whole.event == REPLY_NEXT && parts.event == REPLY_MORE) ||
           (whole.event == REPLY_MORE && parts.event == REPLY_NEXT));
    insist(whole.used == parts.used && whole.lines == parts.lines);
    insist(strcmp(whole.reply.text, parts.reply.text) == 0);
    insist(strcmp(whole.reply.enhanced, parts.reply.enhanced) == 0);
    if (whole.event == REPLY_DONE)
        insist_reply(&whole, data + 1);
    if (whole.event == REPLY_BAD)
        insist(whole.reply.problem != NULL &&
               strcmp(whole.reply.problem, parts.reply.problem) == 0);
    return 0;
}
