/* The parsers of the web role. All text comes from clients and is hostile; the caller is trusted.
 * Strict on purpose: what is not exactly of the form in docs/api.md does not exist. */
#include "daemon/web/parse.h"

#include "envelope/link.h"

#include <jansson.h>
#include <sodium.h>
#include <string.h>
#include <strings.h>

enum sp_err target_split(const char *target, size_t *path_len, const char **query)
{
    *path_len = 0;
    *query = NULL;
    size_t len = strnlen(target, PARSE_MAX_TARGET + 1);
    if (len > PARSE_MAX_TARGET)
        return SP_ERR_LIMIT;
    if (target[0] != '/')
        return SP_ERR_FORMAT; /* absolute, authority and asterisk forms are for proxies */
    for (size_t i = 0; i < len; i++)
        if (target[i] <= ' ' || target[i] > '~' || target[i] == '#')
            return SP_ERR_FORMAT;
    const char *mark = memchr(target, '?', len);
    *path_len = mark != NULL ? (size_t)(mark - target) : len;
    *query = mark != NULL ? mark + 1 : NULL;
    return SP_OK;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decimal digits alone, no leading zeros, at most max. */
static bool parse_number(const char *text, size_t len, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    *out = 0;
    if (len == 0 || len > 20 || (len > 1 && text[0] == '0'))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        unsigned digit = (unsigned)(text[i] - '0');
        if (v > (max - digit) / 10 || digit > max)
            return false;
        v = v * 10 + digit;
    }
    *out = v;
    return true;
}

static bool take_id(const char *s, size_t len, struct path_args *args)
{
    if (len != 2 * sizeof(args->id))
        return false;
    for (size_t i = 0; i < sizeof(args->id); i++) {
        int high = hex_value(s[2 * i]), low = hex_value(s[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        args->id[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool take_piece(const char *s, size_t len, struct path_args *args)
{
    uint64_t v;
    if (!parse_number(s, len, UINT16_MAX, &v))
        return false;
    args->piece = (uint16_t)v;
    return true;
}

/* Whether it is UTF-8, and of which form an address must be, is for the store to say. */
static bool take_address(const char *s, size_t len, struct path_args *args)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++, n++) {
        int c = (unsigned char)s[i];
        if (c == '%') {
            int high = i + 2 < len ? hex_value(s[i + 1]) : -1;
            int low = i + 2 < len ? hex_value(s[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = high << 4 | low;
            i += 2;
        }
        if (c < 0x20 || c == 0x7f || n == sizeof(args->address))
            return false;
        args->address[n] = (char)c;
    }
    args->address_len = (uint16_t)n;
    return n > 0;
}

static bool take_link(const char *s, size_t len, struct path_args *args)
{
    return b64u_decode(s, len, args->id, sizeof(args->id)) == SP_OK;
}

/* What mail filters make of "#". */
static const char *const marks[] = {"%23", "%2523"};
#define N_MARKS (sizeof(marks) / sizeof(marks[0]))

/* What a mail filter makes of "<link>#<secret>". The secret is not looked at. */
static bool take_exposed(const char *s, size_t len, struct path_args *args)
{
    const size_t link = B64U_LEN(sizeof(args->id));
    for (size_t i = 0; i < N_MARKS; i++)
        if (len >= link + strlen(marks[i]) && memcmp(s + link, marks[i], strlen(marks[i])) == 0)
            return take_link(s, link, args);
    return false;
}

bool query_is_marked(const char *text)
{
    for (size_t i = 0; text != NULL && i < N_MARKS; i++)
        if (strstr(text, marks[i]) != NULL)
            return true;
    return false;
}

static bool take_other(const char *s, size_t len, struct path_args *args)
{
    return !take_link(s, len, args) && !take_exposed(s, len, args);
}

static bool take_word(const char *s, size_t len, char out[PARSE_WORD + 1])
{
    if (len == 0 || len > PARSE_WORD)
        return false;
    memcpy(out, s, len); /* and the NUL is there */
    return strspn(out, "abcdefghijklmnopqrstuvwxyz0123456789.-_") == len;
}

static bool take_build(const char *s, size_t len, struct path_args *args)
{
    return take_word(s, len, args->build);
}

static bool take_asset(const char *s, size_t len, struct path_args *args)
{
    return take_word(s, len, args->asset);
}

static const struct placeholder {
    const char *name;
    bool (*take)(const char *s, size_t len, struct path_args *args);
} placeholders[] = {
    {"{id}", take_id},       {"{piece}", take_piece},     {"{address}", take_address},
    {"{link}", take_link},   {"{exposed}", take_exposed}, {"{other}", take_other},
    {"{build}", take_build}, {"{asset}", take_asset},
};

static bool segment_match(const char *want, size_t want_len, const char *got, size_t got_len,
                          struct path_args *args)
{
    for (size_t i = 0; i < sizeof(placeholders) / sizeof(placeholders[0]); i++)
        if (strlen(placeholders[i].name) == want_len &&
            memcmp(placeholders[i].name, want, want_len) == 0)
            return placeholders[i].take(got, got_len, args);
    return want_len == got_len && memcmp(want, got, got_len) == 0;
}

static size_t segment_length(const char *s, size_t len)
{
    const char *slash = memchr(s, '/', len);
    return slash != NULL ? (size_t)(slash - s) : len;
}

bool path_match(const char *pattern, const char *path, size_t len, struct path_args *args)
{
    size_t pattern_len = strlen(pattern);
    *args = (struct path_args){0};
    while (pattern_len > 0 && len > 0) {
        if (*pattern != '/' || *path != '/')
            return false;
        pattern++, pattern_len--;
        path++, len--;
        size_t want = segment_length(pattern, pattern_len);
        size_t got = segment_length(path, len);
        if (got == 0 || !segment_match(pattern, want, path, got, args))
            return false;
        pattern += want, pattern_len -= want;
        path += got, len -= got;
    }
    return pattern_len == 0 && len == 0;
}

static unsigned query_bit(const char *key, size_t len)
{
    static const struct {
        const char *name;
        enum query_key bit;
    } keys[] = {{"after", QUERY_AFTER}, {"limit", QUERY_LIMIT}, {"offset", QUERY_OFFSET}};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (strlen(keys[i].name) == len && memcmp(keys[i].name, key, len) == 0)
            return keys[i].bit;
    return 0;
}

static bool query_pair(const char *pair, size_t len, unsigned allowed, unsigned *seen,
                       struct query *out)
{
    const char *equals = memchr(pair, '=', len);
    size_t key = equals != NULL ? (size_t)(equals - pair) : 0;
    unsigned bit = query_bit(pair, key);
    uint64_t v;
    if (!(bit & allowed) || (*seen & bit) ||
        !parse_number(equals + 1, len - key - 1, UINT64_MAX, &v))
        return false;
    *seen |= bit;
    if (bit == QUERY_AFTER)
        out->after = v;
    else if (bit == QUERY_OFFSET)
        out->offset = v;
    else
        out->limit = v < PARSE_LIST_MAX ? (uint32_t)v : PARSE_LIST_MAX - 1;
    return out->limit > 0;
}

enum sp_err query_parse(const char *text, unsigned allowed, struct query *out)
{
    unsigned seen = 0;
    *out = (struct query){.limit = PARSE_LIST_DEFAULT};
    if (text == NULL || (allowed & (QUERY_ANY | QUERY_MARKED)))
        return SP_OK;
    for (size_t left = strlen(text);;) {
        const char *amp = memchr(text, '&', left);
        size_t len = amp != NULL ? (size_t)(amp - text) : left;
        if (!query_pair(text, len, allowed, &seen, out))
            return SP_ERR_FORMAT;
        if (amp == NULL)
            return SP_OK;
        text += len + 1;
        left -= len + 1;
    }
}

#define DIGITS  "0123456789"
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

static bool consists_of(const char *text, const char *allowed)
{
    return text[0] != '\0' && text[strspn(text, allowed)] == '\0';
}

bool field_is_plain(const char *name, const char *value)
{
    if (!consists_of(name, DIGITS LETTERS "!#$%&'*+-.^_`|~"))
        return false;
    if (strcasecmp(name, "Content-Length") == 0)
        return consists_of(value, DIGITS) && strlen(value) <= 18;
    return strcasecmp(name, "Host") != 0 || consists_of(value, DIGITS LETTERS "-._~:[]");
}

struct range range_parse(const char *header)
{
    struct range none = {.kind = RANGE_NONE}, r = none;
    if (header == NULL || strncasecmp(header, "bytes=", 6) != 0)
        return none;
    const char *first = header + 6;
    const char *dash = strchr(first, '-');
    if (dash == NULL)
        return none;
    size_t first_len = (size_t)(dash - first), last_len = strlen(dash + 1);
    if (first_len == 0) {
        r.kind = RANGE_SUFFIX;
        return parse_number(dash + 1, last_len, UINT64_MAX, &r.first) ? r : none;
    }
    if (!parse_number(first, first_len, UINT64_MAX, &r.first))
        return none;
    r.kind = last_len == 0 ? RANGE_FROM : RANGE_CLOSED;
    if (last_len > 0 &&
        (!parse_number(dash + 1, last_len, UINT64_MAX, &r.last) || r.last < r.first))
        return none;
    return r;
}

enum sp_err range_apply(const struct range *range, uint64_t total, uint64_t *first, uint64_t *count)
{
    *first = 0;
    *count = total;
    if (range->kind == RANGE_NONE)
        return SP_OK;
    if (range->kind == RANGE_SUFFIX) {
        *count = range->first < total ? range->first : total;
        *first = total - *count;
        return *count > 0 ? SP_OK : SP_ERR_NOT_FOUND;
    }
    *count = 0;
    if (range->first >= total)
        return SP_ERR_NOT_FOUND;
    *first = range->first;
    *count = total - *first;
    if (range->kind == RANGE_CLOSED && range->last - range->first < *count)
        *count = range->last - range->first + 1;
    return SP_OK;
}

/* libsodium 1.0.18 takes some bytes above 0x7f for letters: look before it does. */
static bool is_base64url(const char *s)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    return s[strspn(s, letters)] == '\0';
}

enum sp_err auth_parse(const char *header, const char *scheme, uint8_t token[PARSE_TOKEN])
{
    const size_t n = strlen(scheme) + 1;
    sodium_memzero(token, PARSE_TOKEN);
    if (header == NULL || strncasecmp(header, scheme, n - 1) != 0 || header[n - 1] != ' ' ||
        !is_base64url(header + n) ||
        b64u_decode(header + n, strlen(header + n), token, PARSE_TOKEN) != SP_OK) {
        sodium_memzero(token, PARSE_TOKEN);
        return SP_ERR_AUTH;
    }
    return SP_OK;
}

enum sp_err error_json(const char *text, char *out, size_t cap, size_t *len)
{
    *len = 0;
    json_t *object = json_pack("{s:s}", "error", text);
    if (object == NULL)
        return SP_ERR_FORMAT;
    size_t n = json_dumpb(object, out, cap, 0);
    json_decref(object);
    if (n == 0 || n > cap)
        return SP_ERR_LIMIT;
    *len = n;
    return SP_OK;
}
