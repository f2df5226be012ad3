/* Cuts a message into body and attachments. The message comes from a hostile sender, and so do its
 * boundaries; those who get the pieces trust us to lose, change and invent nothing.
 *
 * Three modes. HEADER: lines of a part's header go to the body at once, and a copy of the field
 * under way is kept. CONTENT: bytes run through untouched until a line may be a delimiter; just
 * that line, and the CRLF before it, is held back. PASS: nothing can follow that would matter. */
#include "envelope/cutter.h"
#include "envelope/mimepart.h"

#include <stdalign.h>
#include <stdbool.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define MAX_FIELD 4096u /* a header field, folded; a longer one of interest is in doubt */
#define MAX_LINE  256u  /* a delimiter line with padding and CRLF; a longer line is none */
#define MAX_DASH  (2u + MIMEPART_MAX_BOUNDARY)

enum mode { MODE_HEADER, MODE_CONTENT, MODE_PASS, MODE_ENDED };

/* A multipart that is open: "--" and its boundary. */
struct level {
    uint8_t dash[MAX_DASH];
    uint8_t len;
    bool digest;
};

struct cutter {
    struct cutter_sink sink;
    void *ctx;
    enum sp_err err; /* the first one, for good */
    enum mode mode;
    uint64_t body;        /* bytes of the body so far */
    uint32_t attachments; /* so far */
    uint32_t names;       /* bytes of their names and types */
    bool open;            /* an attachment is under way: content is its bytes */

    uint32_t depth; /* multiparts open, outermost first */
    struct level levels[CUTTER_MAX_DEPTH];

    struct mimepart part; /* the part whose header is read */
    size_t line_len;      /* HEADER: bytes of the line under way */
    bool cr;              /* HEADER: the last of them was a CR */
    bool whole;           /* HEADER: field holds all of the field */
    size_t field_len;
    uint8_t field[MAX_FIELD];

    size_t
        lead; /* CONTENT: bytes of the held CRLF: 2, or 0 when the CRLF went to the body already */
    size_t held_len;
    uint8_t held[2 + MAX_LINE];
};

size_t cutter_size(void)
{
    _Static_assert(alignof(struct cutter) <= 8, "the caller aligns to 8");
    return sizeof(struct cutter);
}

static void start_part(struct cutter *c, bool digest)
{
    mimepart_init(&c->part, digest);
    c->mode = MODE_HEADER;
    c->line_len = 0;
    c->field_len = 0;
    c->cr = false;
    c->whole = true;
}

/* What comes next stands at the start of a line whose CRLF before it is gone: the blank line of a
 * header, or the end of a delimiter, serves as the CRLF of the next delimiter. */
static void start_content(struct cutter *c)
{
    c->mode = c->depth > 0 ? MODE_CONTENT : MODE_PASS;
    c->lead = 0;
    c->held_len = 0;
}

void cutter_init(struct cutter *c, const struct cutter_sink *sink, void *ctx)
{
    memset(c, 0, sizeof *c);
    c->sink = *sink;
    c->ctx = ctx;
    start_part(c, false);
}

static void check(struct cutter *c, enum sp_err err)
{
    if (c->err == SP_OK)
        c->err = err;
}

static void emit_body(struct cutter *c, const uint8_t *bytes, size_t len)
{
    if (len == 0 || c->err != SP_OK)
        return;
    check(c, c->sink.body(c->ctx, bytes, len));
    c->body += len;
}

static void emit_content(struct cutter *c, const uint8_t *bytes, size_t len)
{
    if (!c->open)
        emit_body(c, bytes, len);
    else if (len > 0 && c->err == SP_OK)
        check(c, c->sink.bytes(c->ctx, bytes, len));
}

static void end_attachment(struct cutter *c)
{
    if (c->open && c->err == SP_OK)
        check(c, c->sink.attachment_end(c->ctx));
    c->open = false;
}

/* ---- delimiters (RFC 2046 5.1.1) ---- */

enum match { MATCH_NO, MATCH_PART, MATCH_CLOSE, MATCH_MAYBE };

/* Does what follows a boundary end the line: blanks and a CRLF, or the message? */
static enum match match_end(const uint8_t *rest, size_t len, bool at_end, enum match found)
{
    size_t i = 0;

    while (i < len && (rest[i] == ' ' || rest[i] == '\t'))
        i++;
    if (i == len)
        return at_end ? found : MATCH_MAYBE;
    if (rest[i] != '\r')
        return MATCH_NO;
    if (i + 1 == len)
        return at_end ? MATCH_NO : MATCH_MAYBE;
    return rest[i + 1] == '\n' ? found : MATCH_NO;
}

static enum match match_level(const struct level *level, const uint8_t *line, size_t len,
                              bool at_end)
{
    const size_t shared = len < level->len ? len : level->len;

    if (len > 2 &&
        line[2] != level->dash[2]) /* soon, since a hostile line begins every four bytes */
        return MATCH_NO;
    if (memcmp(line, level->dash, shared) != 0)
        return MATCH_NO;
    if (len < level->len)
        return at_end ? MATCH_NO : MATCH_MAYBE;
    const uint8_t *rest = line + level->len;
    len -= level->len;
    if (len == 0 || *rest != '-')
        return match_end(rest, len, at_end, MATCH_PART);
    if (len == 1)
        return at_end ? MATCH_NO : MATCH_MAYBE;
    return rest[1] == '-' ? match_end(rest + 2, len - 2, at_end, MATCH_CLOSE) : MATCH_NO;
}

/* Is the line (from its start; bytes behind its CRLF are not looked at) a delimiter of an open
 * multipart, the innermost first? Only the whole line counts, so that a boundary that begins
 * another one does not end it. A line of MAX_LINE bytes or more never is one, wherever the input is
 * cut. */
static enum match match_line(const struct cutter *c, const uint8_t *line, size_t len, bool at_end,
                             uint32_t *level)
{
    enum match match = MATCH_NO;
    const bool over = len > MAX_LINE;

    if (over)
        len = MAX_LINE;
    for (*level = c->depth; *level > 0 && match == MATCH_NO; (*level)--)
        match = match_level(&c->levels[*level - 1], line, len, at_end && !over);
    if (match == MATCH_MAYBE && len == MAX_LINE)
        match = MATCH_NO;
    return match;
}

/* A delimiter of that level (0: outermost) was read: it ends every multipart inside. */
static void take_delimiter(struct cutter *c, uint32_t level, enum match match)
{
    if (match == MATCH_PART) {
        c->depth = level + 1;
        start_part(c, c->levels[level].digest);
    } else {
        c->depth = level;
        start_content(c);
    }
}

/* ---- header ---- */

static void enter_multipart(struct cutter *c)
{
    struct level *level = &c->levels[c->depth++];

    memcpy(level->dash, "--", 2);
    memcpy(level->dash + 2, c->part.boundary, c->part.boundary_len);
    level->len = (uint8_t)(2 + c->part.boundary_len);
    level->digest = mimepart_is_digest(&c->part);
}

static void begin_attachment(struct cutter *c)
{
    size_t name_len = 0;
    const char *name = mimepart_name(&c->part, &name_len);
    const size_t both = name_len + c->part.type_len;

    if (c->attachments == CUTTER_MAX_ATTACHMENTS || c->names + both > CUTTER_MAX_NAMES)
        return; /* it stays in the body */
    c->attachments++;
    c->names += (uint32_t)both;
    c->open = true;
    if (c->err == SP_OK)
        check(c,
              c->sink.attachment(c->ctx, c->body, c->part.type, c->part.type_len, name, name_len));
}

static void end_field(struct cutter *c)
{
    if (c->field_len > 0)
        mimepart_field(&c->part, c->field, c->field_len, c->whole);
    c->field_len = 0;
    c->whole = true;
}

/* The blank line was read. A message that is no multipart at all is the body: its content was
 * reached through no multipart (FORMAT.md section 4). */
static void end_header(struct cutter *c)
{
    const enum mimepart_kind kind = mimepart_kind(&c->part);

    if (kind == MIMEPART_MULTIPART && c->depth < CUTTER_MAX_DEPTH)
        enter_multipart(c);
    else if (kind == MIMEPART_ATTACHMENT && c->depth > 0)
        begin_attachment(c);
    start_content(c);
}

static void keep_field(struct cutter *c, const uint8_t *in, size_t len)
{
    const size_t room = MAX_FIELD - c->field_len;

    c->whole &= len <= room;
    if (len > room)
        len = room;
    memcpy(c->field + c->field_len, in, len);
    c->field_len += len;
}

/* A line of the header is complete. Only one that is not folded can be a delimiter, and then it is
 * all that field holds. */
static void end_line(struct cutter *c)
{
    uint32_t level = 0;
    const size_t len = c->line_len;

    c->line_len = 0;
    if (len == 2) {
        c->field_len = 0;
        end_header(c);
        return;
    }
    if (c->field_len != len)
        return;
    const enum match match = match_line(c, c->field, len, false, &level);
    if (match == MATCH_PART || match == MATCH_CLOSE)
        take_delimiter(c, level, match);
}

/* Takes up to the end of a line; returns the bytes taken. */
static size_t push_header(struct cutter *c, const uint8_t *in, size_t len)
{
    const uint8_t *lf = memchr(in, '\n', len);
    const size_t n = lf == NULL ? len : (size_t)(lf - in) + 1;

    emit_body(c, in, n);
    if (c->line_len == 0 && *in != ' ' && *in != '\t')
        end_field(c);
    keep_field(c, in, n);
    c->line_len += n;
    const bool crlf = lf != NULL && (n > 1 ? in[n - 2] == '\r' : c->cr);
    c->cr = in[n - 1] == '\r';
    if (crlf)
        end_line(c);
    return n;
}

/* ---- content ---- */

/* The first LF with "--" behind it, or len. */
static size_t find_dashes(const uint8_t *in, size_t at, size_t len)
{
#ifdef __SSE2__
    const __m128i lf = _mm_set1_epi8('\n');
    const __m128i dash = _mm_set1_epi8('-');
    for (; len - at >= 18; at += 16) {
        const __m128i *p = (const __m128i *)(const void *)(in + at);
        const __m128i *p2 = (const __m128i *)(const void *)(in + at + 2);
        const __m128i a = _mm_cmpeq_epi8(_mm_loadu_si128(p), lf);
        const __m128i b = _mm_cmpeq_epi8(_mm_loadu_si128(p2), dash);
        const int hit = _mm_movemask_epi8(_mm_and_si128(a, b));
        if (hit == 0)
            continue;
        const size_t i = at + (size_t)__builtin_ctz((unsigned)hit);
        if (in[i + 1] == '-')
            return i;
        at = i + 1 - 16; /* go on right behind it */
    }
#endif
    while (len - at >= 3) {
        const uint8_t *p = memchr(in + at, '\n', len - at - 2);
        if (p == NULL)
            return len;
        if (p[1] == '-' && p[2] == '-')
            return (size_t)(p - in);
        at = (size_t)(p - in) + 1;
    }
    return len;
}

/* Bytes at the end of the input that may begin CRLF "--". */
static size_t unfinished(const uint8_t *in, size_t len)
{
    static const char start[] = "\r\n-";

    for (size_t n = 3; n > 0; n--) {
        if (len >= n && memcmp(in + len - n, start, n) == 0)
            return n;
    }
    return 0;
}

static void hold(struct cutter *c, const uint8_t *in, size_t len)
{
    memcpy(c->held + c->held_len, in, len);
    c->held_len += len;
}

/* The whole input at once, while nothing is held. */
static size_t push_run(struct cutter *c, const uint8_t *in, size_t len)
{
    uint32_t level = 0;
    size_t at = 0;

    while ((at = find_dashes(in, at, len)) < len) {
        const uint8_t *line = in + at + 1;
        const size_t left = len - at - 1;
        const enum match match =
            at == 0 || in[at - 1] != '\r' ? MATCH_NO : match_line(c, line, left, false, &level);
        if (match == MATCH_NO) {
            at += 3;
            continue;
        }
        emit_content(c, in, at - 1);
        if (match == MATCH_MAYBE) {
            hold(c, in + at - 1, left + 2);
            return len;
        }
        const uint8_t *lf = memchr(line, '\n', left);
        const size_t end = (size_t)(lf - in) + 1;
        end_attachment(c);
        emit_body(c, in + at - 1, end - (at - 1));
        take_delimiter(c, level, match);
        return end;
    }
    const size_t tail = unfinished(in, len);
    emit_content(c, in, len - tail);
    hold(c, in + len - tail, tail);
    return len;
}

/* What is held is content, but for tail bytes at its end that may begin the next delimiter. */
static void release(struct cutter *c, size_t tail)
{
    emit_content(c, c->held, c->held_len - tail);
    memmove(c->held, c->held + c->held_len - tail, tail);
    c->held_len = tail;
    c->lead = 2;
}

/* Adds to a held line that begins with "--", up to its end; returns the bytes taken. */
static size_t push_held_line(struct cutter *c, const uint8_t *in, size_t len)
{
    uint32_t level = 0;
    size_t n = c->lead + MAX_LINE - c->held_len;

    if (n > len)
        n = len;
    const uint8_t *lf = memchr(in, '\n', n);
    if (lf != NULL)
        n = (size_t)(lf - in) + 1;
    hold(c, in, n);
    const enum match match = match_line(c, c->held + c->lead, c->held_len - c->lead, false, &level);
    if (match == MATCH_NO) {
        const size_t tail = unfinished(c->held, c->held_len);
        release(c, tail);
    } else if (match != MATCH_MAYBE) {
        end_attachment(c);
        emit_body(c, c->held, c->held_len);
        take_delimiter(c, level, match);
    }
    return n;
}

/* Something is held, or content begins. Until its line has begun with "--", the next byte decides
 * whether push_run() may have the input back; returns the bytes taken. */
static size_t push_held(struct cutter *c, const uint8_t *in, size_t len)
{
    static const uint8_t start[] = "\r\n--";
    const size_t at = c->held_len + 2 - c->lead;

    if (at >= 4)
        return push_held_line(c, in, len);
    if (*in == start[at]) {
        hold(c, in, 1);
        return 1;
    }
    release(c, 0);
    return 0;
}

enum sp_err cutter_push(struct cutter *c, const uint8_t *bytes, size_t len)
{
    if (c->mode == MODE_ENDED)
        return SP_ERR_STATE;
    while (len > 0 && c->err == SP_OK) {
        size_t n = len;
        if (c->mode == MODE_HEADER)
            n = push_header(c, bytes, len);
        else if (c->mode == MODE_PASS)
            emit_body(c, bytes, len);
        else if (c->held_len > 0 || c->lead == 0)
            n = push_held(c, bytes, len);
        else
            n = push_run(c, bytes, len);
        bytes += n;
        len -= n;
    }
    return c->err;
}

enum sp_err cutter_finish(struct cutter *c)
{
    uint32_t level = 0;

    if (c->mode == MODE_ENDED)
        return SP_ERR_STATE;
    if (c->mode == MODE_CONTENT && c->held_len > c->lead) {
        const enum match match =
            match_line(c, c->held + c->lead, c->held_len - c->lead, true, &level);
        if (match == MATCH_PART || match == MATCH_CLOSE)
            end_attachment(c); /* the delimiter's line ends with the message */
    }
    emit_content(c, c->held, c->mode == MODE_CONTENT ? c->held_len : 0);
    end_attachment(c);
    c->mode = MODE_ENDED;
    return c->err;
}
