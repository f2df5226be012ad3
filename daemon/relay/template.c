/* Fills in the notification's template. It is the operator's, who is trusted; the values are a
 * sender's. */
#include "daemon/relay/template.h"
#include "envelope/utf8.h"

#include <string.h>

#define HTML_LINE "---html---\n"

const char template_built_in[] =
    "{sender} sent you a confidential message.\n"
    "\n"
    "Subject: {subject}\n"
    "Open it in your browser, until {expires}:\n"
    "\n"
    "{link}\n"
    "\n"
    "The message is encrypted. Its key is the part of the link behind the #: your\n"
    "browser does not send it to {host}, which does not keep it either.\n"
    "Whoever has this mail can open the message: do not pass it on.\n"
    "\n"
    "A genuine link begins with {url}/m/ and opens\n"
    "without an account. You are never asked for a password.\n"
    "\n"
    "This notification was sent by {host} for {sender}.\n"
    "---html---\n"
    "<!doctype html>\n"
    "<html lang=\"en\"><head><meta charset=\"utf-8\"><title>A confidential message</title></head>\n"
    "<body style=\"font:16px/1.5 sans-serif;max-width:36em;margin:2em auto;padding:0 1em\">\n"
    "<p><b>{sender}</b> sent you a confidential message.</p>\n"
    "<p>Subject: {subject}</p>\n"
    "<p><a href=\"{link}\">Open the message in your browser</a><br>\n"
    "until {expires}</p>\n"
    "<p>The message is encrypted. Its key is the part of the link behind the #: your browser does\n"
    "not send it to {host}, which does not keep it either. Whoever has this mail can open the\n"
    "message: do not pass it on.</p>\n"
    "<p>A genuine link begins with {url}/m/ and opens without an account. You are never asked for "
    "a\n"
    "password.</p>\n"
    "<p><small>This notification was sent by {host} for {sender}.</small></p>\n"
    "</body></html>\n";

static const char *const names[TEMPLATE_VALUES] = {
    [TEMPLATE_SENDER] = "{sender}",   [TEMPLATE_RECIPIENT] = "{recipient}",
    [TEMPLATE_SUBJECT] = "{subject}", [TEMPLATE_LINK] = "{link}",
    [TEMPLATE_EXPIRES] = "{expires}", [TEMPLATE_HOST] = "{host}",
    [TEMPLATE_URL] = "{url}",
};

struct span {
    const char *at;
    size_t len;
};

/* Which value stands at the beginning; TEMPLATE_VALUES: none. */
static enum template_value value_at(struct span s)
{
    int v = 0;
    while (v < TEMPLATE_VALUES &&
           (strlen(names[v]) > s.len || memcmp(s.at, names[v], strlen(names[v])) != 0))
        v++;
    return (enum template_value)v;
}

static struct span part(const char *text, size_t len, bool html)
{
    const char *mark = memmem(text, len, HTML_LINE, strlen(HTML_LINE));
    bool there = mark != NULL && (mark == text || mark[-1] == '\n');
    if (!html)
        return (struct span){text, there ? (size_t)(mark - text) : len};
    if (!there)
        return (struct span){NULL, 0};
    mark += strlen(HTML_LINE);
    return (struct span){mark, len - (size_t)(mark - text)};
}

static bool names_value(struct span line, enum template_value v)
{
    return memmem(line.at, line.len, names[v], strlen(names[v])) != NULL;
}

const char *template_fault(const char *text, size_t len)
{
    struct span body = part(text, len, false), html = part(text, len, true);
    if (len == 0 || len > TEMPLATE_MAX)
        return "is empty, or over 8192 bytes";
    for (size_t i = 0, used = 0; i < len; i += used)
        if (utf8_get((const uint8_t *)text + i, len - i, &used) == UTF8_BAD)
            return "is not UTF-8";
    if (!names_value(body, TEMPLATE_LINK))
        return "its text has no {link}";
    if (html.at == NULL)
        return "has no HTML: put a line ---html--- and the HTML behind the text";
    if (!names_value(html, TEMPLATE_LINK))
        return "its HTML has no {link}";
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
            return "has a control character in it";
        if (c == '{' && value_at((struct span){text + i, len - i}) == TEMPLATE_VALUES)
            return "has an unknown {name}: sender, recipient, subject, link, expires, host, url "
                   "are "
                   "known";
    }
    return NULL;
}

struct target {
    char *at;
    size_t len, cap;
    bool full;
};

static void put(struct target *t, const char *bytes, size_t len)
{
    if (len > t->cap - t->len)
        t->full = true;
    if (t->full)
        return;
    memcpy(t->at + t->len, bytes, len);
    t->len += len;
}

static void put_value(struct target *t, const char *value, bool html)
{
    static const struct {
        char c;
        const char *as;
    } escapes[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"}};
    for (; *value != '\0'; value++) {
        size_t i = 0, n = html ? sizeof(escapes) / sizeof(escapes[0]) : 0;
        while (i < n && escapes[i].c != *value)
            i++;
        if (i < n)
            put(t, escapes[i].as, strlen(escapes[i].as));
        else
            put(t, value, 1);
    }
}

static void put_line(struct target *t, struct span line, bool html,
                     const char *const value[TEMPLATE_VALUES])
{
    if (value[TEMPLATE_SUBJECT][0] == '\0' && names_value(line, TEMPLATE_SUBJECT))
        return;
    while (line.len > 0) {
        enum template_value v = value_at(line);
        size_t n = v < TEMPLATE_VALUES ? strlen(names[v]) : 1;
        if (v < TEMPLATE_VALUES)
            put_value(t, value[v], html);
        else
            put(t, line.at, 1);
        line.at += n;
        line.len -= n;
    }
    put(t, "\r\n", 2);
}

enum sp_err template_render(const char *text, size_t text_len, bool html,
                            const char *const value[TEMPLATE_VALUES], char *out, size_t cap,
                            size_t *len)
{
    struct span rest = part(text, text_len, html);
    struct target t = {.at = out, .cap = cap};
    while (rest.len > 0) {
        const char *lf = memchr(rest.at, '\n', rest.len);
        struct span line = {rest.at, lf != NULL ? (size_t)(lf - rest.at) : rest.len};
        size_t used = line.len + (lf != NULL);
        if (line.len > 0 && line.at[line.len - 1] == '\r')
            line.len--;
        put_line(&t, line, html, value);
        rest.at += used;
        rest.len -= used;
    }
    *len = t.len;
    return t.full ? SP_ERR_LIMIT : SP_OK;
}
