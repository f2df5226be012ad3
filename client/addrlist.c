/* Address lists. They come from the user's mail program, or from a stranger's message whose From is
 * compared with who signed it: what is ambiguous is an error, never a guess. */
#include "client/addrlist.h"
#include "envelope/utf8.h"

#include <string.h>
#include <strings.h>

#define MAX_COMMENT_DEPTH 16u

/* One element of the list while it is read. */
struct element {
    char spec[ADDRLIST_MAX + 1]; /* what may become "local@domain" */
    size_t len;
    size_t at;    /* where the domain begins; 0: no '@' yet */
    bool any;     /* there was a token */
    bool word;    /* the last token was a word: another one beside it makes a display name */
    bool name;    /* it is a display name: only <...> can give an address */
    bool angle;   /* inside of <...> */
    bool closed;  /* behind it */
    bool toolong; /* for spec; a display name may be */
};

struct list {
    const uint8_t *at;
    size_t left;
    bool group; /* between ':' and ';' */
    struct element now;
    enum sp_err (*each)(void *ctx, const char *address);
    void *ctx;
};

static void skip(struct list *l, size_t n)
{
    l->at += n;
    l->left -= n;
}

static void keep(struct element *e, const uint8_t *bytes, size_t n)
{
    if (n > ADDRLIST_MAX - e->len) {
        e->toolong = true;
        return;
    }
    memcpy(e->spec + e->len, bytes, n);
    e->len += n;
}

/* A comment with comments inside; left behind its closing parenthesis. */
static enum sp_err skip_comment(struct list *l)
{
    unsigned depth = 0;
    while (l->left > 0) {
        uint8_t c = *l->at;
        skip(l, 1);
        if (c == '\\' && l->left > 0)
            skip(l, 1);
        else if (c == '(' && ++depth > MAX_COMMENT_DEPTH)
            return SP_ERR_LIMIT;
        else if (c == ')' && --depth == 0)
            return SP_OK;
    }
    return SP_ERR_FORMAT;
}

static bool is_atom(uint8_t c)
{
    return c > 0x20 && c != 0x7f && strchr("()<>[]:;@\\,.\"", c) == NULL;
}

/* A word came: two in a row are no part of an address. */
static enum sp_err word(struct element *e)
{
    if (e->closed)
        return SP_ERR_FORMAT;
    if (e->word && e->angle)
        return SP_ERR_FORMAT;
    e->name = e->name || e->word;
    e->any = e->word = true;
    return SP_OK;
}

static enum sp_err atom(struct list *l)
{
    size_t n = 0;
    enum sp_err err = word(&l->now);
    while (n < l->left && is_atom(l->at[n]))
        n++;
    keep(&l->now, l->at, n);
    skip(l, n);
    return err;
}

/* A quoted string: a display name, or a local part, whose quotes go when nothing needs them. */
static enum sp_err quoted(struct list *l)
{
    struct element *e = &l->now;
    enum sp_err err = word(e);
    size_t start = e->len;
    bool needed = false;
    skip(l, 1);
    while (err == SP_OK && l->left > 0 && *l->at != '"') {
        if (*l->at == '\\' && l->left > 1)
            skip(l, 1);
        needed = needed || (!is_atom(*l->at) && *l->at != '.');
        keep(e, l->at, 1);
        skip(l, 1);
    }
    if (err != SP_OK || l->left == 0)
        return err != SP_OK ? err : SP_ERR_FORMAT;
    skip(l, 1);
    if (needed || e->len == start || e->spec[start] == '.' || e->spec[e->len - 1] == '.') {
        if (e->angle || e->at > 0)
            return SP_ERR_FORMAT;
        e->name = true;
    }
    return SP_OK;
}

static enum sp_err dot_or_at(struct element *e, uint8_t c)
{
    if (e->closed)
        return SP_ERR_FORMAT;
    if (!e->word || (c == '@' && e->at > 0)) {
        if (e->angle || e->at > 0 || c == '@')
            return SP_ERR_FORMAT;
        e->name = true; /* "J. R. Smith <j@x>": dots in a name are obsolete, and common */
    }
    keep(e, &c, 1);
    e->any = true;
    e->word = false;
    if (c == '@')
        e->at = e->len;
    return SP_OK;
}

/* Hands the element on, if it is an address, and begins the next. */
static enum sp_err flush(struct list *l)
{
    struct element e = l->now;
    memset(&l->now, 0, sizeof l->now);
    if (!e.any)
        return SP_OK; /* "a@x,,b@x": obsolete, and harmless */
    if (e.angle || (e.name && !e.closed) || e.at == 0 || !e.word)
        return SP_ERR_FORMAT;
    if (e.toolong)
        return SP_ERR_LIMIT;
    e.spec[e.len] = '\0';
    return utf8_is_text((const uint8_t *)e.spec, e.len) ? l->each(l->ctx, e.spec) : SP_ERR_FORMAT;
}

static enum sp_err special(struct list *l)
{
    struct element *e = &l->now;
    uint8_t c = *l->at;
    if (c == '(')
        return skip_comment(l);
    if (c == '"')
        return quoted(l);
    skip(l, 1);
    if (c == '.' || c == '@')
        return dot_or_at(e, c);
    if (c == ',' && !e->angle)
        return flush(l);
    if (c == '<' && !e->angle && !e->closed && e->at == 0) {
        *e = (struct element){.any = true, .angle = true};
        return SP_OK;
    }
    if (c == '>' && e->angle) {
        e->angle = false;
        e->closed = true;
        return SP_OK;
    }
    if (c == ':' && !l->group && !e->angle && !e->closed && e->any && e->at == 0) {
        memset(e, 0, sizeof *e);
        l->group = true;
        return SP_OK;
    }
    if (c == ';' && l->group && !e->angle) {
        l->group = false;
        return flush(l);
    }
    return SP_ERR_FORMAT;
}

enum sp_err addrlist_each(const uint8_t *text, size_t len,
                          enum sp_err (*each)(void *ctx, const char *address), void *ctx)
{
    struct list l = {.at = text, .left = len, .each = each, .ctx = ctx};
    enum sp_err err = SP_OK;
    while (err == SP_OK && l.left > 0) {
        if (memchr(" \t\r\n", *l.at, 4) != NULL)
            skip(&l, 1);
        else if (is_atom(*l.at))
            err = atom(&l);
        else
            err = special(&l);
    }
    if (err == SP_OK && l.group)
        err = SP_ERR_FORMAT;
    return err == SP_OK ? flush(&l) : err;
}

bool addrlist_same(const char *a, const char *b)
{
    return strcasecmp(a, b) == 0;
}
