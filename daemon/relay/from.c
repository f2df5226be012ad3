/* The From field. Its writer may want to be seen as somebody else: what could be read in two ways
 * is refused. */
#include "daemon/relay/from.h"
#include "envelope/utf8.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define LOCAL_MAX  64u
#define DOMAIN_MAX 255u

struct cursor {
    const char *at;
    size_t left;
};

static char peek(const struct cursor *c)
{
    return c->left > 0 ? c->at[0] : '\0';
}

static void step(struct cursor *c)
{
    c->at++;
    c->left--;
}

static bool is_atext(char ch)
{
    if ((unsigned char)ch >= 0x80 || (ch >= '0' && ch <= '9') || (ch >= 'A' && ch <= 'Z') ||
        (ch >= 'a' && ch <= 'z'))
        return true;
    return ch != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", ch) != NULL;
}

static bool is_ldh(char ch)
{
    return (unsigned char)ch >= 0x80 || (ch >= '0' && ch <= '9') || (ch >= 'A' && ch <= 'Z') ||
           (ch >= 'a' && ch <= 'z') || ch == '-' || ch == '_';
}

/* A comment; the cursor is on its '('. */
static bool skip_comment(struct cursor *c)
{
    size_t depth = 0;
    while (c->left > 0) {
        char ch = peek(c);
        if (ch == '\\') {
            step(c);
            if (c->left == 0)
                return false;
        } else if (ch == '(') {
            depth++;
        } else if (ch == ')') {
            depth--;
        }
        step(c);
        if (depth == 0)
            return true;
    }
    return false;
}

/* Blanks and comments. */
static bool skip_space(struct cursor *c)
{
    for (;;) {
        if (peek(c) == ' ' || peek(c) == '\t')
            step(c);
        else if (peek(c) != '(')
            return true;
        else if (!skip_comment(c))
            return false;
    }
}

/* A quoted string, without its quotes; out may be NULL. The cursor is on its first quote. */
static bool quoted(struct cursor *c, char *out, size_t cap, size_t *len)
{
    *len = 0;
    step(c);
    while (c->left > 0) {
        char ch = peek(c);
        step(c);
        if (ch == '"')
            return true;
        if (ch == '\\') {
            if (c->left == 0)
                return false;
            ch = peek(c);
            step(c);
        }
        if (out != NULL) {
            if (*len == cap)
                return false;
            out[(*len)++] = ch;
        }
    }
    return false;
}

static bool dotted(struct cursor *c, bool (*is_part)(char), char *out, size_t cap, size_t *len)
{
    bool part = false;
    *len = 0;
    for (; c->left > 0 && (is_part(peek(c)) || peek(c) == '.'); step(c)) {
        if (peek(c) == '.' && !part)
            return false;
        part = peek(c) != '.';
        if (*len == cap)
            return false;
        out[(*len)++] = peek(c);
    }
    return part;
}

/* addr-spec, with nothing in between. */
static bool address(struct cursor *c, char out[FROM_MAX])
{
    size_t local, domain;
    bool ok = peek(c) == '"' ? quoted(c, out, LOCAL_MAX, &local) && local > 0
                             : dotted(c, is_atext, out, LOCAL_MAX, &local);
    if (!ok || peek(c) != '@')
        return false;
    step(c);
    out[local] = '@';
    char *at = out + local + 1;
    if (!dotted(c, is_ldh, at, DOMAIN_MAX, &domain))
        return false;
    at[domain] = '\0';
    for (; *at != '\0'; at++)
        if (*at >= 'A' && *at <= 'Z')
            *at = (char)(*at + ('a' - 'A'));
    return true;
}

/* Words of a display name, up to the '<' of the address. */
static bool skip_name(struct cursor *c)
{
    size_t ignored;
    for (;;) {
        if (!skip_space(c))
            return false;
        if (peek(c) == '<')
            return true;
        if (peek(c) == '"' ? !quoted(c, NULL, 0, &ignored) : !is_atext(peek(c)) && peek(c) != '.')
            return false;
        while (is_atext(peek(c)) || peek(c) == '.')
            step(c);
    }
}

static bool in_brackets(struct cursor *c, char out[FROM_MAX])
{
    if (!skip_name(c))
        return false;
    step(c);
    if (!address(c, out) || peek(c) != '>')
        return false;
    step(c);
    return true;
}

enum sp_err from_parse(const char *value, size_t len, char out[FROM_MAX])
{
    struct cursor start = {value, len}, c;
    out[0] = '\0';
    if (!utf8_is_text((const uint8_t *)value, len) || !skip_space(&start))
        return SP_ERR_FORMAT;
    c = start;
    bool ok = address(&c, out);
    if (!ok) {
        c = start;
        ok = in_brackets(&c, out);
    }
    if (ok && skip_space(&c) && c.left == 0)
        return SP_OK;
    memset(out, 0, FROM_MAX);
    return SP_ERR_FORMAT;
}
