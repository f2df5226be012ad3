/* Replies of an SMTP server, which is hostile: nothing that can be read in two ways is read at all,
 * and nothing but printable ASCII leaves here. */
#include "daemon/relay/reply.h"

#include <string.h>

void reply_init(struct reply *r)
{
    memset(r, 0, sizeof(*r));
}

static bool is_digit(uint8_t b)
{
    return b >= '0' && b <= '9';
}

static enum reply_event bad(struct reply *r, const char *problem)
{
    r->problem = problem;
    return REPLY_BAD;
}

/* The code of a line, or 0. */
static unsigned code_of(const uint8_t *raw, size_t len)
{
    if (len < 3 || raw[0] < '2' || raw[0] > '5' || !is_digit(raw[1]) || !is_digit(raw[2]))
        return 0;
    return (raw[0] - 48u) * 100 + (raw[1] - 48u) * 10 + (raw[2] - 48u);
}

static void clean(struct reply *r, const uint8_t *in, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t b = in[i] == '\t' ? ' ' : in[i];
        r->line[i] = b >= ' ' && b < 0x7f ? (char)b : '?';
    }
    r->line[len] = '\0';
    r->line_len = len;
}

/* Up to three digits; *at moves behind them. */
static bool number(const char **at)
{
    size_t n = strspn(*at, "0123456789");
    *at += n;
    return n >= 1 && n <= 3;
}

/* The bytes of "5.1.1 " at the front of the line, if there is such a code and it is of the reply's
 * class (RFC 2034 4); else 0. */
static size_t enhanced_of(const struct reply *r)
{
    const char *at = r->line + 1;
    if (r->line_len == 0 || r->line[0] != (char)('0' + r->code / 100) || *at++ != '.' ||
        !number(&at) || *at++ != '.' || !number(&at))
        return 0;
    if (*at != ' ' && *at != '\0')
        return 0;
    return (size_t)(at - r->line) + (*at == ' ');
}

static void append(struct reply *r, const char *text)
{
    size_t n = strlen(text), room = REPLY_TEXT - r->text_len;
    if (n > 0 && r->text_len > 0 && room > 0) {
        r->text[r->text_len++] = ' ';
        room--;
    }
    n = n < room ? n : room;
    memcpy(r->text + r->text_len, text, n);
    r->text_len += n;
    r->text[r->text_len] = '\0';
}

static void gather(struct reply *r)
{
    size_t n = enhanced_of(r);
    if (n > 0 && r->enhanced[0] == '\0') {
        size_t code = strspn(r->line, "0123456789.");
        memcpy(r->enhanced, r->line, code);
        r->enhanced[code] = '\0';
    }
    append(r, r->line + n);
}

/* raw[0..len) is a line, without its CRLF. */
static enum reply_event line(struct reply *r, size_t len)
{
    unsigned code = code_of(r->raw, len);
    uint8_t mark = len > 3 ? r->raw[3] : ' ';
    if (code == 0)
        return bad(r, "a line without a reply code");
    if (mark != ' ' && mark != '-')
        return bad(r, "a reply code without a separator");
    if (r->lines > 0 && code != r->code)
        return bad(r, "a reply of several codes");
    if (++r->lines > REPLY_LINES)
        return bad(r, "a reply of too many lines");
    r->code = code;
    clean(r, r->raw + 4, len > 4 ? len - 4 : 0);
    gather(r);
    r->len = 0;
    r->cr = false;
    r->done = mark == ' ';
    return r->done ? REPLY_DONE : REPLY_NEXT;
}

enum reply_event reply_push(struct reply *r, const uint8_t *in, size_t len, size_t *used)
{
    *used = 0;
    if (r->problem != NULL || r->done)
        return bad(r, r->problem != NULL ? r->problem : "a reply too many");
    for (size_t i = 0; i < len; i++) {
        uint8_t b = in[i];
        *used = i + 1;
        if (r->cr && b == '\n')
            return line(r, r->len - 1);
        if (r->cr || b == '\n')
            return bad(r, r->cr ? "a bare CR in a reply" : "a bare LF in a reply");
        /* Its LF must fit as well. */
        if (r->len + 1 >= REPLY_LINE)
            return bad(r, "a reply line that is too long");
        r->cr = b == '\r';
        r->raw[r->len++] = b;
    }
    return REPLY_MORE;
}
