/* The content of a message, read off the network. The sender is hostile and wants us to see an end,
 * or to miss one, where others do not: the table below is the whole of what we believe. Octets that
 * mean nothing inside a line are passed over 16 at a time. */
#include "daemon/smtp/content.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum content_state {
    AT_START, /* behind a CRLF, or at the very start (RFC 5321 4.1.1.4: ".CRLF" alone ends empty
                 content) */
    IN_TEXT,
    BEHIND_CR,
    BEHIND_DOT, /* a dot that began a line: dropped, whatever follows (RFC 5321 4.5.2) */
    BEHIND_DOT_CR,
    STATES,
    ENDED = STATES,
};

enum octet { OCTET_OTHER, OCTET_CR, OCTET_LF, OCTET_NUL, OCTET_DOT, OCTETS };

enum action {
    KEEP,
    DROP,
    REFUSE_CR, /* the CR before this octet was bare */
    REFUSE_LF,
    REFUSE_NUL,
};

static const char *const refusals[] = {
    [REFUSE_CR] = "bare-cr", [REFUSE_LF] = "bare-lf", [REFUSE_NUL] = "nul"};

/* What an octet does in a state. After a refusal reading goes on by the same rules, so that it is
 * the true CRLF.CRLF and nothing else that ends it. */
static const struct step {
    uint8_t next;
    uint8_t action;
} steps[STATES][OCTETS] = {
    [AT_START] = {[OCTET_OTHER] = {IN_TEXT, KEEP},
                  [OCTET_CR] = {BEHIND_CR, KEEP},
                  [OCTET_LF] = {IN_TEXT, REFUSE_LF},
                  [OCTET_NUL] = {IN_TEXT, REFUSE_NUL},
                  [OCTET_DOT] = {BEHIND_DOT, DROP}},
    [IN_TEXT] = {[OCTET_OTHER] = {IN_TEXT, KEEP},
                 [OCTET_CR] = {BEHIND_CR, KEEP},
                 [OCTET_LF] = {IN_TEXT, REFUSE_LF},
                 [OCTET_NUL] = {IN_TEXT, REFUSE_NUL},
                 [OCTET_DOT] = {IN_TEXT, KEEP}},
    [BEHIND_CR] = {[OCTET_OTHER] = {IN_TEXT, REFUSE_CR},
                   [OCTET_CR] = {BEHIND_CR, REFUSE_CR},
                   [OCTET_LF] = {AT_START, KEEP},
                   [OCTET_NUL] = {IN_TEXT, REFUSE_CR},
                   [OCTET_DOT] = {IN_TEXT, REFUSE_CR}},
    [BEHIND_DOT] = {[OCTET_OTHER] = {IN_TEXT, KEEP},
                    [OCTET_CR] = {BEHIND_DOT_CR, DROP},
                    [OCTET_LF] = {IN_TEXT, REFUSE_LF},
                    [OCTET_NUL] = {IN_TEXT, REFUSE_NUL},
                    [OCTET_DOT] = {IN_TEXT, KEEP}},
    [BEHIND_DOT_CR] = {[OCTET_OTHER] = {IN_TEXT, REFUSE_CR},
                       [OCTET_CR] = {BEHIND_CR, REFUSE_CR},
                       [OCTET_LF] = {ENDED, DROP},
                       [OCTET_NUL] = {IN_TEXT, REFUSE_CR},
                       [OCTET_DOT] = {IN_TEXT, REFUSE_CR}},
};

void content_init(struct content *c, enum content_mode mode)
{
    *c = (struct content){.mode = mode, .state = AT_START};
}

/* Passes over octets that are neither CR, LF nor NUL, in wide steps; may stop before such a one. */
static size_t pass_over(const uint8_t *in, size_t i, size_t len)
{
#ifdef __SSE2__
    const __m128i cr = _mm_set1_epi8('\r');
    const __m128i lf = _mm_set1_epi8('\n');
    for (; len - i >= 16; i += 16) {
        const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(in + i));
        const __m128i ends = _mm_or_si128(_mm_cmpeq_epi8(v, cr), _mm_cmpeq_epi8(v, lf));
        const __m128i nul = _mm_cmpeq_epi8(v, _mm_setzero_si128());
        const int hit = _mm_movemask_epi8(_mm_or_si128(ends, nul));
        if (hit != 0)
            return i + (size_t)__builtin_ctz((unsigned)hit);
    }
#else
    const uint64_t ones = 0x0101010101010101u;
    for (uint64_t v = 0; len - i >= sizeof v; i += sizeof v) {
        memcpy(&v, in + i, sizeof v);
        if (((v - ones * 0x0e) & ~v & (ones << 7)) != 0)
            return i; /* one of the eight is below 0x0e */
    }
#endif
    return i;
}

/* The first CR, LF or NUL at or behind i, or len. */
static size_t next_control(const uint8_t *in, size_t i, size_t len)
{
    i = pass_over(in, i, len);
    while (i < len && in[i] != '\r' && in[i] != '\n' && in[i] != '\0')
        i++;
    return i;
}

static enum octet classify(const struct content *c, uint8_t b)
{
    switch (b) {
    case '\r':
        return OCTET_CR;
    case '\n':
        return OCTET_LF;
    case '\0':
        return OCTET_NUL;
    case '.':
        return c->mode == CONTENT_DATA ? OCTET_DOT : OCTET_OTHER;
    default:
        return OCTET_OTHER;
    }
}

static enum sp_err hand_on(struct content *c, const uint8_t *run, size_t len, content_sink *sink,
                           void *ctx)
{
    enum sp_err err = SP_OK;

    if (len > 0 && c->refused == NULL)
        err = sink(ctx, run, len);
    if (err != SP_OK)
        c->state = ENDED;
    c->bytes += len;
    return err;
}

enum sp_err content_push(struct content *c, const uint8_t *in, size_t len, size_t *used, bool *done,
                         content_sink *sink, void *ctx)
{
    size_t from = 0; /* in[from..i) is content that was not handed on yet */
    size_t i = 0;
    enum sp_err err = SP_OK;

    *used = 0;
    *done = false;
    if (c->state == ENDED)
        return SP_ERR_STATE;
    while (i < len && c->state != ENDED) {
        if (c->state == IN_TEXT && (i = next_control(in, i, len)) == len)
            break;
        const struct step step = steps[c->state][classify(c, in[i])];
        if (step.action != KEEP) {
            err = hand_on(c, in + from, i - from, sink, ctx);
            if (err != SP_OK)
                return err;
            from = i + (step.action == DROP);
            if (step.action >= REFUSE_CR)
                content_refuse(c, refusals[step.action]);
        }
        c->state = step.next;
        i++;
    }
    *used = i;
    *done = c->state == ENDED;
    return hand_on(c, in + from, i - from, sink, ctx);
}

void content_end(struct content *c)
{
    if (c->mode == CONTENT_BDAT && c->state == BEHIND_CR)
        content_refuse(c, refusals[REFUSE_CR]);
    if (c->mode == CONTENT_BDAT)
        c->state = ENDED;
}

void content_refuse(struct content *c, const char *why)
{
    if (c->refused == NULL)
        c->refused = why;
}

const char *content_refused(const struct content *c)
{
    return c->refused;
}

uint64_t content_bytes(const struct content *c)
{
    return c->bytes;
}
