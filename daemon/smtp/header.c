/* The header of a message on its way by. The sender is hostile and would like a field to be ours
 * for the reader, and not for us: names are matched in any case, with blanks before the colon, and
 * over folds and comments before the server's name. */
#include "daemon/smtp/header.h"
#include "daemon/domain.h"

#include <string.h>
#include <strings.h>

enum header_state {
    AT_LINE,  /* the first octet of a line comes next */
    AT_BLANK, /* behind the CR of a line that has nothing else */
    IN_LINE,  /* to its end nothing matters */
    IN_RECEIVED,
    IN_NAME, /* from here on held: Authentication-Results */
    BEFORE_ID,
    IN_COMMENT,
    COMMENT_PAIR,
    IN_ID,
    IN_QUOTED,
    QUOTED_PAIR,
    IN_BODY,
};

enum fate { PASS, HOLD, REMOVE };

static const char received[] = "received", results[] = "authentication-results";

static char lower(uint8_t b)
{
    return (char)(b >= 'A' && b <= 'Z' ? b + ('a' - 'A') : b);
}

static bool is_blank(uint8_t b)
{
    return b == ' ' || b == '\t';
}

static enum fate in_line(struct header *h, uint8_t b)
{
    h->state = b == '\n' ? AT_LINE : IN_LINE;
    return h->drop ? REMOVE : PASS;
}

/* What was held is somebody else's. */
static enum fate release(struct header *h, uint8_t b)
{
    h->let_go = true;
    return in_line(h, b);
}

static enum fate claim(struct header *h, uint8_t b)
{
    h->drop = true;
    h->held = 0;
    return in_line(h, b);
}

/* The name of the server (authserv-id) is complete. */
static bool is_own(struct header *h)
{
    char ascii[DOMAIN_MAX + 1];
    if (h->id_len > 0 && h->id[h->id_len - 1] == '.')
        h->id_len--;
    h->id[h->id_len] = '\0';
    return domain_to_ascii(h->id, ascii) == SP_OK && strcasecmp(ascii, h->own) == 0;
}

static enum fate decide(struct header *h, uint8_t b)
{
    return is_own(h) ? claim(h, b) : release(h, b);
}

static enum fate at_line(struct header *h, uint8_t b)
{
    if (is_blank(b)) /* the field goes on */
        return in_line(h, b);
    h->drop = h->eol = false;
    h->at = 1;
    if (b == '\r')
        h->state = AT_BLANK;
    else if (lower(b) == received[0])
        h->state = IN_RECEIVED;
    else if (lower(b) == results[0])
        h->state = IN_NAME;
    else
        return in_line(h, b);
    return h->state == IN_NAME ? HOLD : PASS;
}

/* The name of a field: true while it may become the one that is looked for. */
static bool matches(struct header *h, uint8_t b, const char *name, bool *whole)
{
    *whole = name[h->at] == '\0' && b == ':';
    if (name[h->at] == '\0')
        return *whole || is_blank(b);
    return lower(b) == name[h->at] && ++h->at;
}

static enum fate in_received(struct header *h, uint8_t b)
{
    bool whole;
    if (matches(h, b, received, &whole) && !whole)
        return PASS;
    h->received += whole;
    return in_line(h, b);
}

static enum fate in_name(struct header *h, uint8_t b)
{
    bool whole;
    if (!matches(h, b, results, &whole))
        return release(h, b);
    h->id_len = 0;
    h->state = whole ? BEFORE_ID : IN_NAME;
    return HOLD;
}

static enum fate add_to_id(struct header *h, uint8_t b, enum header_state next)
{
    if (h->id_len + 1 >= sizeof(h->id))
        return release(h, b); /* longer than any name of ours */
    h->id[h->id_len++] = (char)b;
    h->state = next;
    return HOLD;
}

static enum fate before_id(struct header *h, uint8_t b)
{
    h->deep = b == '(';
    h->state = b == '(' ? IN_COMMENT : b == '"' ? IN_QUOTED : BEFORE_ID;
    if (h->state != BEFORE_ID || is_blank(b))
        return HOLD;
    return b == ';' ? release(h, b) : add_to_id(h, b, IN_ID);
}

/* Comments nest (RFC 5322 3.2.2). */
static enum fate in_comment(struct header *h, uint8_t b)
{
    h->deep += b == '(';
    h->deep -= b == ')';
    h->state = b == '\\' ? COMMENT_PAIR : h->deep == 0 ? BEFORE_ID : IN_COMMENT;
    return HOLD;
}

static enum fate in_id(struct header *h, uint8_t b)
{
    bool ends = is_blank(b) || b == '\r' || b == '\n' || b == ';' || b == '(' || b == '/';
    return ends ? decide(h, b) : add_to_id(h, b, IN_ID);
}

static enum fate in_quoted(struct header *h, uint8_t b)
{
    if (b == '"')
        return decide(h, b);
    if (b == '\\') {
        h->state = QUOTED_PAIR;
        return HOLD;
    }
    return add_to_id(h, b, IN_QUOTED);
}

/* A held field has ended, in whatever state it was: b begins the next one. */
static enum fate end_field(struct header *h, uint8_t b)
{
    if ((h->state == IN_ID || h->state == IN_QUOTED) && is_own(h))
        h->held = 0;
    else
        h->let_go = true;
    return at_line(h, b);
}

static enum fate in_held(struct header *h, uint8_t b)
{
    if (h->eol && !is_blank(b))
        return end_field(h, b);
    h->eol = b == '\n';
    if (h->state == IN_NAME)
        return in_name(h, b);
    if (h->state == IN_ID)
        return in_id(h, b);
    if (b == '\r' || b == '\n') /* a fold is no part of anything (RFC 5322 3.2.2, 3.2.4) */
        return HOLD;
    switch ((enum header_state)h->state) {
    case BEFORE_ID:
        return before_id(h, b);
    case IN_COMMENT:
        return in_comment(h, b);
    case IN_QUOTED:
        return in_quoted(h, b);
    case QUOTED_PAIR:
        return add_to_id(h, b, IN_QUOTED);
    default: /* COMMENT_PAIR */
        h->state = IN_COMMENT;
        return HOLD;
    }
}

static enum fate step(struct header *h, uint8_t b)
{
    switch ((enum header_state)h->state) {
    case AT_LINE:
        return at_line(h, b);
    case AT_BLANK:
        h->state = b == '\n' ? IN_BODY : IN_LINE;
        return PASS;
    case IN_RECEIVED:
        return in_received(h, b);
    case IN_LINE:
    case IN_BODY:
        return in_line(h, b);
    default:
        return in_held(h, b);
    }
}

void header_init(struct header *h, const char *own, header_sink *sink, void *ctx)
{
    memset(h, 0, sizeof(*h));
    h->own = own;
    h->sink = sink;
    h->ctx = ctx;
}

static enum sp_err hand_on(struct header *h, const uint8_t *bytes, size_t len)
{
    return len > 0 ? h->sink(h->ctx, bytes, len) : SP_OK;
}

static enum sp_err hand_on_held(struct header *h)
{
    size_t n = h->held;
    h->let_go = false;
    h->held = 0;
    return hand_on(h, h->hold, n);
}

/* The rest of a line, in one go. */
static size_t pass_line(struct header *h, const uint8_t *in, size_t i, size_t len)
{
    const uint8_t *lf = memchr(in + i, '\n', len - i);
    if (lf != NULL)
        h->state = AT_LINE;
    return lf != NULL ? (size_t)(lf - in) + 1 : len;
}

enum sp_err header_push(struct header *h, const uint8_t *in, size_t len)
{
    size_t i = 0, from = 0; /* in[from..i) is to be handed on */
    enum sp_err err = SP_OK;
    while (err == SP_OK && i < len && h->state != IN_BODY) {
        if (h->state == IN_LINE) {
            i = pass_line(h, in, i, len);
            from = h->drop ? i : from;
            continue;
        }
        enum fate fate = step(h, in[i]);
        if (h->let_go) /* all that came since is held, so that nothing else waits */
            err = hand_on_held(h);
        if (fate == HOLD && h->held == sizeof(h->hold))
            fate = claim(h, in[i]);
        if (fate != PASS && err == SP_OK) {
            err = hand_on(h, in + from, i - from);
            from = i + 1;
        }
        if (fate == HOLD)
            h->hold[h->held++] = in[i];
        i++;
    }
    return err == SP_OK ? hand_on(h, in + from, len - from) : err;
}

enum sp_err header_finish(struct header *h)
{
    if ((h->state == IN_ID || h->state == IN_QUOTED) && is_own(h))
        h->held = 0;
    return hand_on_held(h);
}

unsigned header_received(const struct header *h)
{
    return h->received;
}
