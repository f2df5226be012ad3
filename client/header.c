/* A message's header on its way out. It comes from the user's own mail program: it is checked for
 * what would make the mail go elsewhere than meant, and otherwise left as it is. */
#include "client/header.h"
#include "client/addrlist.h"
#include "client/secret.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

struct header {
    size_t len;  /* of the fields */
    size_t line; /* where the unfinished line begins */
    size_t rest; /* bytes behind the fields that belong to the body */
    size_t fill; /* bytes of text in use */
    char text[HEADER_MAX];
};

static const char *const names[] = {
    [HEADER_FROM] = "From", [HEADER_TO] = "To",     [HEADER_CC] = "Cc",
    [HEADER_BCC] = "Bcc",   [HEADER_DATE] = "Date", [HEADER_ID] = "Message-ID",
};

struct header *header_new(void)
{
    return secret_alloc(sizeof(struct header));
}

void header_free(struct header *h)
{
    secret_free(h);
}

/* Bytes of a field's name, blanks before the colon aside (obsolete, RFC 5322 4.5); 0: no field. */
static size_t name_length(const char *line, size_t len)
{
    size_t n = 0, colon;
    while (n < len && line[n] > 0x20 && line[n] < 0x7f && line[n] != ':')
        n++;
    for (colon = n; colon < len && (line[colon] == ' ' || line[colon] == '\t');)
        colon++;
    return colon < len && line[colon] == ':' ? n : 0;
}

/* Judges the line that has just ended; true: the header is over. */
static bool line_ends(struct header *h)
{
    const char *line = h->text + h->line;
    size_t n = h->fill - h->line;
    if (n == 2) { /* the blank line */
        h->len = h->line;
        h->fill = h->line;
        return true;
    }
    bool folded = (line[0] == ' ' || line[0] == '\t') && h->line > 0;
    if (!folded && name_length(line, n) == 0) {
        if (h->line == 0 && n > 5 && memcmp(line, "From ", 5) == 0) { /* an mbox's own line */
            h->fill = 0;
            return false;
        }
        h->len = h->line;
        h->rest = n;
        return true;
    }
    h->line = h->len = h->fill;
    return false;
}

enum sp_err header_push(struct header *h, const uint8_t *bytes, size_t len, size_t *used,
                        bool *done)
{
    *used = 0;
    *done = false;
    while (*used < len && !*done) {
        const uint8_t *at = bytes + *used;
        const uint8_t *end = memchr(at, '\n', len - *used);
        size_t n = end != NULL ? (size_t)(end - at) + 1 : len - *used;
        if (n > HEADER_MAX - h->fill)
            return SP_ERR_LIMIT;
        memcpy(h->text + h->fill, at, n);
        h->fill += n;
        *used += n;
        if (end != NULL)
            *done = line_ends(h);
    }
    return SP_OK;
}

const uint8_t *header_rest(const struct header *h, size_t *len)
{
    *len = h->rest;
    return (const uint8_t *)h->text + h->len;
}

/* The next field with its folded lines: its first byte is at *at, which then moves behind it. */
static const char *next_field(const struct header *h, size_t *at, size_t *len)
{
    const char *field = h->text + *at;
    if (*at >= h->len)
        return NULL;
    size_t n = 0, left = h->len - *at;
    do {
        const char *end = memchr(field + n, '\n', left - n);
        n = end != NULL ? (size_t)(end - field) + 1 : left;
    } while (n < left && (field[n] == ' ' || field[n] == '\t'));
    *at += n;
    *len = n;
    return field;
}

static bool is_field(const char *field, size_t len, const char *name)
{
    size_t n = strlen(name);
    return name_length(field, len) == n && strncasecmp(field, name, n) == 0;
}

unsigned header_count(const struct header *h, enum header_field field)
{
    const char *f;
    unsigned count = 0;
    for (size_t at = 0, n = 0; (f = next_field(h, &at, &n)) != NULL;)
        count += is_field(f, n, names[field]) ? 1 : 0;
    return count;
}

enum sp_err header_addresses(const struct header *h, enum header_field field,
                             enum sp_err (*each)(void *ctx, const char *address), void *ctx)
{
    const char *f;
    enum sp_err err = SP_OK;
    for (size_t at = 0, n = 0; err == SP_OK && (f = next_field(h, &at, &n)) != NULL;) {
        if (!is_field(f, n, names[field]))
            continue;
        const char *body = (const char *)memchr(f, ':', n) + 1;
        err = addrlist_each((const uint8_t *)body, n - (size_t)(body - f), each, ctx);
    }
    return err;
}

enum sp_err header_write(const struct header *h, const char *added,
                         enum sp_err (*write)(void *ctx, const uint8_t *bytes, size_t len),
                         void *ctx)
{
    const char *f;
    enum sp_err err = SP_OK;
    if (*added != '\0')
        err = write(ctx, (const uint8_t *)added, strlen(added));
    for (size_t at = 0, n = 0; err == SP_OK && (f = next_field(h, &at, &n)) != NULL;) {
        if (!is_field(f, n, "Bcc") && !is_field(f, n, "Resent-Bcc"))
            err = write(ctx, (const uint8_t *)f, n);
    }
    return err == SP_OK ? write(ctx, (const uint8_t *)"\r\n", 2) : err;
}

/* strftime's names follow the locale; these do not. */
void header_date(int64_t seconds, char out[HEADER_DATE_MAX])
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t t = (time_t)seconds;
    struct tm tm;
    if (localtime_r(&t, &tm) == NULL)
        memset(&tm, 0, sizeof tm);
    long zone = tm.tm_gmtoff / 60, minutes = zone < 0 ? -zone : zone;
    snprintf(out, HEADER_DATE_MAX, "%.3s, %d %.3s %d %02d:%02d:%02d %c%02ld%02ld",
             days + (ptrdiff_t)3 * tm.tm_wday, tm.tm_mday, months + (ptrdiff_t)3 * tm.tm_mon,
             tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec, zone < 0 ? '-' : '+',
             minutes / 60, minutes % 60);
}
