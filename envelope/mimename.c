/* File names of MIME parts. They come from a hostile sender and end up on someone's disk: what
 * leaves is valid UTF-8, one path component, without controls and without marks that turn text
 * around. */
#include "envelope/mimename.h"
#include "envelope/utf8.h"

#include <string.h>

enum charset { CHARSET_UNKNOWN, CHARSET_ASCII, CHARSET_UTF8, CHARSET_LATIN1, CHARSET_CP1252 };

static const struct {
    const char *name;
    enum charset charset;
} charsets[] = {
    {"utf-8", CHARSET_UTF8},          {"utf8", CHARSET_UTF8},         {"us-ascii", CHARSET_ASCII},
    {"ascii", CHARSET_ASCII},         {"iso-8859-1", CHARSET_LATIN1}, {"latin1", CHARSET_LATIN1},
    {"windows-1252", CHARSET_CP1252}, {"cp1252", CHARSET_CP1252},
};

/* windows-1252 from 0x80 to 0x9f; 0: not assigned. */
static const uint16_t cp1252[32] = {
    0x20ac, 0,      0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160,
    0x2039, 0x0152, 0,      0x017d, 0,      0,      0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
    0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0,      0x017e, 0x0178,
};

/* Where the decoded name goes. UTF-8 is checked at the end, since senders split characters between
 * sections and words. */
struct sink {
    char *out;
    size_t cap;
    size_t len;
    enum charset charset;
    bool bad;
};

static enum charset find_charset(const uint8_t *name, size_t len)
{
    for (size_t i = 0; i < sizeof charsets / sizeof charsets[0]; i++) {
        if (mimeparam_is(name, len, charsets[i].name))
            return charsets[i].charset;
    }
    return CHARSET_UNKNOWN;
}

static void put_byte(struct sink *s, uint8_t b)
{
    if (s->len == s->cap)
        s->bad = true;
    else
        s->out[s->len++] = (char)b;
}

/* One byte in the charset of the sink. */
static void put(struct sink *s, uint8_t b)
{
    uint8_t utf8[4];
    uint32_t c = b;

    if (b < 0x80 || s->charset == CHARSET_UTF8) {
        put_byte(s, b);
        return;
    }
    if (s->charset == CHARSET_CP1252 && b < 0xa0)
        c = cp1252[b - 0x80];
    if (c == 0 || (s->charset != CHARSET_LATIN1 && s->charset != CHARSET_CP1252)) {
        s->bad = true;
        return;
    }
    const size_t n = utf8_put(c, utf8);
    for (size_t i = 0; i < n; i++)
        put_byte(s, utf8[i]);
}

static int hex(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Two hex digits behind an escape ("%" or "="), of which *i is the index. */
static void put_hex(struct sink *s, const uint8_t *at, size_t len, size_t *i)
{
    const int high = *i + 2 < len ? hex(at[*i + 1]) : -1;
    const int low = *i + 2 < len ? hex(at[*i + 2]) : -1;

    if (high < 0 || low < 0) {
        s->bad = true;
        return;
    }
    put(s, (uint8_t)(high << 4 | low));
    *i += 2;
}

/* The text of a section, percent signs undone if it has them. */
static void put_section(struct sink *s, const uint8_t *at, size_t len, bool extended)
{
    for (size_t i = 0; i < len && !s->bad; i++) {
        if (extended && at[i] == '%')
            put_hex(s, at, len, &i);
        else
            put(s, at[i]);
    }
}

/* charset'language'text (RFC 2231 4); an empty charset is ASCII. */
static void put_extended(struct sink *s, const struct mimename_part *p)
{
    const uint8_t *first = memchr(p->at, '\'', p->len);
    const uint8_t *end = p->at + p->len;
    const uint8_t *second =
        first == NULL ? NULL : memchr(first + 1, '\'', (size_t)(end - first - 1));

    if (second == NULL) {
        s->bad = true;
        return;
    }
    s->charset = first == p->at ? CHARSET_ASCII : find_charset(p->at, (size_t)(first - p->at));
    s->bad |= s->charset == CHARSET_UNKNOWN;
    put_section(s, second + 1, (size_t)(end - second - 1), true);
}

/* The B encoding (RFC 2045 6.8). */
static void put_base64(struct sink *s, const uint8_t *at, size_t len)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    size_t n = 0;

    while (len > 0 && at[len - 1] == '=')
        len--;
    for (size_t i = 0; i < len; i++) {
        const char *digit = at[i] == 0 ? NULL : strchr(alphabet, at[i]);
        if (digit == NULL) {
            s->bad = true;
            return;
        }
        bits = bits << 6 | (uint32_t)(digit - alphabet);
        n += 6;
        if (n >= 8) {
            n -= 8;
            put(s, (uint8_t)(bits >> n));
        }
    }
    s->bad |= n == 6; /* a lone digit */
}

/* The Q encoding (RFC 2047 4.2). */
static void put_q(struct sink *s, const uint8_t *at, size_t len)
{
    for (size_t i = 0; i < len && !s->bad; i++) {
        if (at[i] == '=')
            put_hex(s, at, len, &i);
        else
            put(s, at[i] == '_' ? ' ' : at[i]);
    }
}

struct word {
    const uint8_t *charset;
    size_t charset_len;
    uint8_t encoding;
    const uint8_t *text;
    size_t text_len;
    size_t total;
};

/* An encoded word (RFC 2047 2) at the start of at: =?charset?encoding?text?= */
static bool find_word(const uint8_t *at, size_t len, struct word *w)
{
    if (len < 2 || at[0] != '=' || at[1] != '?')
        return false;
    w->charset = at + 2;
    const uint8_t *end = at + len;
    const uint8_t *q = memchr(w->charset, '?', (size_t)(end - w->charset));
    if (q == NULL || end - q < 5 || q[2] != '?')
        return false;
    w->charset_len = (size_t)(q - w->charset);
    const uint8_t *language = memchr(w->charset, '*', w->charset_len); /* RFC 2231 5 */
    if (language != NULL)
        w->charset_len = (size_t)(language - w->charset);
    w->encoding = q[1] | 0x20;
    w->text = q + 3;
    q = memchr(w->text, '?', (size_t)(end - w->text));
    if (q == NULL || end - q < 2 || q[1] != '=' || (w->encoding != 'b' && w->encoding != 'q'))
        return false;
    w->text_len = (size_t)(q - w->text);
    w->total = (size_t)(q + 2 - at);
    return true;
}

static void put_word(struct sink *s, const struct word *w)
{
    s->charset = find_charset(w->charset, w->charset_len);
    s->bad |= s->charset == CHARSET_UNKNOWN;
    if (w->encoding == 'b')
        put_base64(s, w->text, w->text_len);
    else
        put_q(s, w->text, w->text_len);
    s->charset = CHARSET_UTF8;
}

/* A plain value: encoded words, and between them text that must be UTF-8. Blanks between two words
 * mean nothing (RFC 2047 6.2). */
static void put_plain(struct sink *s, const struct mimename_part *p)
{
    struct word word;
    size_t i = 0;

    s->charset = CHARSET_UTF8;
    while (i < p->len && !s->bad) {
        if (!find_word(p->at + i, p->len - i, &word)) {
            put(s, p->at[i++]);
            continue;
        }
        put_word(s, &word);
        i += word.total;
        size_t next = i;
        while (next < p->len && (p->at[next] == ' ' || p->at[next] == '\t'))
            next++;
        if (find_word(p->at + next, p->len - next, &word))
            i = next;
    }
}

/* All sections from 0 on, without a gap (RFC 2231 3). */
static void put_sections(struct sink *s, const struct mimename *name)
{
    s->charset = CHARSET_ASCII;
    for (size_t i = 0; i < name->sections && !s->bad; i++) {
        const struct mimename_part *p = &name->section[i];
        if (p->at == NULL)
            s->bad = true;
        else if (i == 0 && p->extended)
            put_extended(s, p);
        else
            put_section(s, p->at, p->len, p->extended);
    }
}

/* Marks that reorder what is shown: "gpj.exe" must not pass for "exe.jpg". */
static bool has_bidi(const uint8_t *s, size_t len)
{
    for (size_t i = 0, used = 0; i < len; i += used) {
        const uint32_t c = utf8_get(s + i, len - i, &used);
        if ((c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069))
            return true;
    }
    return false;
}

/* Makes what was decoded a name (in place), or nothing. */
static size_t clean(const struct sink *s)
{
    char *from = s->out;
    size_t len = s->len;

    for (size_t i = 0; i < s->len; i++) {
        if (s->out[i] == '\t')
            s->out[i] = ' ';
        if (s->out[i] == '/' || s->out[i] == '\\') {
            from = s->out + i + 1;
            len = s->len - i - 1;
        }
    }
    while (len > 0 && *from == ' ') {
        from++;
        len--;
    }
    while (len > 0 && from[len - 1] == ' ')
        len--;
    const uint8_t *text = (const uint8_t *)from;
    if (mimeparam_is(text, len, ".") || mimeparam_is(text, len, "..") || !utf8_is_text(text, len) ||
        has_bidi(text, len))
        return 0;
    memmove(s->out, from, len);
    return len;
}

static void keep(struct mimename *name, struct mimename_part *part, const struct mimeparam *p,
                 bool extended)
{
    name->doubt |= part->at != NULL;
    *part = (struct mimename_part){p->value, p->value_len, extended};
}

/* What stands behind "name*": "" or a section's number, the latter with or without a last "*". */
static void add_extended(struct mimename *name, const uint8_t *rest, size_t len,
                         const struct mimeparam *p)
{
    size_t n = 0;
    size_t digits = 0;

    if (len == 0) {
        keep(name, &name->extended, p, true);
        return;
    }
    for (; digits < len && digits < 3 && rest[digits] >= '0' && rest[digits] <= '9'; digits++)
        n = n * 10 + (size_t)(rest[digits] - '0');
    const bool star = digits + 1 == len && rest[digits] == '*';
    if (digits == 0 || (digits > 1 && rest[0] == '0') || n >= MIMENAME_SECTIONS ||
        (!star && digits != len)) {
        name->doubt = true;
        return;
    }
    keep(name, &name->section[n], p, star);
    if (n + 1 > name->sections)
        name->sections = n + 1;
}

void mimename_add(struct mimename *name, const char *base, const struct mimeparam *p)
{
    const size_t len = strlen(base);

    if (p->name_len < len || !mimeparam_is(p->name, len, base))
        return;
    if (p->name_len == len)
        keep(name, &name->plain, p, false);
    else if (p->name[len] == '*')
        add_extended(name, p->name + len + 1, p->name_len - len - 1, p);
}

size_t mimename_decode(const struct mimename *name, char *out, size_t cap)
{
    struct sink s = {.out = out, .cap = cap};
    size_t len = 0;

    if (name->doubt)
        return 0;
    if (name->extended.at != NULL) {
        put_extended(&s, &name->extended);
        len = s.bad ? 0 : clean(&s);
    }
    if (len == 0 && name->sections > 0) {
        s = (struct sink){.out = out, .cap = cap};
        put_sections(&s, name);
        len = s.bad ? 0 : clean(&s);
    }
    if (len == 0 && name->plain.at != NULL) {
        s = (struct sink){.out = out, .cap = cap};
        put_plain(&s, &name->plain);
        len = s.bad ? 0 : clean(&s);
    }
    return len;
}
