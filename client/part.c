/* Parts of hostile mail. All of it is pure: bytes in, bytes out, bounded by the caller's buffers.
 * The link page decides alike (page/mail.js), so that both save the same bytes. */
#include "client/part.h"
#include "envelope/utf8.h"

#include <string.h>
#include <strings.h>

/* --- the header --- */

/* Its last line that begins with "--" is the boundary; the header follows it. */
static size_t header_start(const uint8_t *at, size_t len)
{
    for (size_t i = len; i > 0; i--) {
        bool begins = i == 1 || at[i - 2] == '\n';
        if (!begins || len - (i - 1) < 2 || memcmp(at + i - 1, "--", 2) != 0)
            continue;
        const uint8_t *end = memchr(at + i - 1, '\n', len - (i - 1));
        return end != NULL ? (size_t)(end - at) + 1 : len;
    }
    return 0;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The word that a field's value begins with, folded or not. */
static enum part_encoding read_value(const uint8_t *at, size_t len)
{
    static const struct {
        const char *word;
        enum part_encoding encoding;
    } words[] = {{"base64", PART_BASE64}, {"quoted-printable", PART_QUOTED}};
    size_t from = 0, to;
    while (from < len && is_space(at[from]))
        from++;
    for (to = from; to < len && !is_space(at[to]) && at[to] != ';' && at[to] != '('; to++)
        ;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (to - from == strlen(words[i].word) &&
            strncasecmp((const char *)at + from, words[i].word, to - from) == 0)
            return words[i].encoding;
    }
    return PART_IDENTITY;
}

/* Bytes of the line at the start, and of those that are folded onto it. */
static size_t field_length(const uint8_t *at, size_t len)
{
    size_t n = 0;
    do {
        const uint8_t *end = memchr(at + n, '\n', len - n);
        n = end != NULL ? (size_t)(end - at) + 1 : len;
    } while (n < len && (at[n] == ' ' || at[n] == '\t'));
    return n;
}

enum part_encoding part_encoding(const uint8_t *before, size_t len)
{
    static const char name[] = "content-transfer-encoding";
    const size_t name_len = sizeof name - 1;
    for (size_t at = header_start(before, len), n; at < len; at += n) {
        n = field_length(before + at, len - at);
        size_t colon = name_len;
        if (n <= name_len || strncasecmp((const char *)before + at, name, name_len) != 0)
            continue;
        while (colon < n && (before[at + colon] == ' ' || before[at + colon] == '\t'))
            colon++;
        if (colon < n && before[at + colon] == ':')
            return read_value(before + at + colon + 1, n - colon - 1);
    }
    return PART_IDENTITY;
}

/* --- decoding --- */

static int digit64(uint8_t c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

static size_t from_base64(struct part_decoder *d, const uint8_t *in, size_t len, uint8_t *out)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        int digit = digit64(in[i]);
        if (in[i] == '=')
            d->bits = d->held = 0; /* 6.8: padding ends a group */
        if (digit < 0)
            continue;
        d->bits = (d->bits << 6 | (uint32_t)digit) & 0xfff;
        d->held += 6;
        if (d->held < 8)
            continue;
        d->held -= 8;
        out[n++] = (uint8_t)(d->bits >> d->held);
    }
    return n;
}

static int digit16(uint8_t c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* An escape that is whole, or none: its bytes to out. */
static size_t unescape(struct part_decoder *d, uint8_t *out)
{
    const uint8_t *e = d->escape;
    int high = digit16(e[1]), low = digit16(e[2]);
    d->n = 0;
    if (high >= 0 && low >= 0) {
        out[0] = (uint8_t)(high << 4 | low);
        return 1;
    }
    if (e[1] == '\r' && e[2] == '\n') /* a line that goes on */
        return 0;
    memcpy(out, e, 3); /* 6.7: as it stands */
    return 3;
}

static size_t from_quoted(struct part_decoder *d, const uint8_t *in, size_t len, uint8_t *out)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (d->n == 0 && in[i] != '=') {
            out[n++] = in[i];
            continue;
        }
        d->escape[d->n++] = in[i];
        if (d->n == 2 && in[i] == '\n')
            d->n = 0;
        if (d->n == 3)
            n += unescape(d, out + n);
    }
    return n;
}

size_t part_decode(struct part_decoder *d, const uint8_t *in, size_t len, uint8_t *out)
{
    if (d->encoding == PART_BASE64)
        return from_base64(d, in, len, out);
    if (d->encoding == PART_QUOTED)
        return from_quoted(d, in, len, out);
    memcpy(out, in, len);
    return len;
}

size_t part_decode_end(struct part_decoder *d, uint8_t *out)
{
    size_t n = d->n;
    memcpy(out, d->escape, n < 2 ? n : 2);
    d->n = 0;
    return n < 2 ? n : 2;
}

/* --- the name --- */

/* Nothing to see, or it changes how others look: "evil<RTL>fdp.exe" reads as "evilexe.pdf". */
static bool is_hidden(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0xad || c == 0x61c || c == 0x180e ||
           (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x2069) || c == 0xfeff || (c >= 0xe0000 && c <= 0xe007f);
}

bool part_name(const uint8_t *name, size_t len, char out[PART_NAME])
{
    size_t n = 0;
    for (size_t i = 0, used; i < len; i += used) {
        uint32_t c = utf8_get(name + i, len - i, &used);
        bool first = n == 0 && (c == '.' || c == ' ' || c == '-'); /* hidden; taken for an option */
        if (c == UTF8_BAD || is_hidden(c) || first)
            continue;
        if (n + used > PART_NAME - 1)
            break;
        memcpy(out + n, name + i, used);
        if (c < 0x80 && strchr("/\\:*?\"<>|", (int)c) != NULL)
            out[n] = '_';
        n += used;
    }
    while (n > 0 && (out[n - 1] == ' ' || out[n - 1] == '.'))
        n--;
    out[n] = '\0';
    return n > 0;
}
