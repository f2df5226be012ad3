/* Paths and parameters of MAIL and RCPT. The text is the sender's and hostile; what comes out obeys
 * the grammar of RFC 5321 4.1.2 (RFC 6531 3.3), has no controls, and means the same however it was
 * written. */
#include "daemon/smtp/address.h"
#include "envelope/utf8.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#define MAX_LABEL 63u /* RFC 1035 2.3.4 */

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool is_high(char c)
{
    return (unsigned char)c > 127;
}

/* RFC 5322 3.2.3, RFC 6532 3.2. */
static bool is_atext(char c)
{
    return is_alnum(c) || is_high(c) || (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static char upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - ('a' - 'A')) : c;
}

bool address_keyword(const char **at, const char *keyword)
{
    const size_t len = strlen(keyword);

    if (strncasecmp(*at, keyword, len) != 0)
        return false;
    *at += len;
    if (**at == ' ')
        (*at)++;
    return true;
}

/* Dot-string (RFC 5321 4.1.2): atoms with single dots between them. */
static enum sp_err read_dot_string(const char **at, char *out)
{
    const char *p = *at;
    size_t n = 0;

    for (;;) {
        if (!is_atext(*p))
            return SP_ERR_FORMAT;
        for (; is_atext(*p); p++) {
            if (n == ADDRESS_MAX_LOCAL)
                return SP_ERR_LIMIT;
            out[n++] = *p;
        }
        if (*p != '.')
            break;
        if (n == ADDRESS_MAX_LOCAL)
            return SP_ERR_LIMIT;
        out[n++] = *p++;
    }
    *at = p;
    return SP_OK;
}

/* Quoted-string (RFC 5321 4.1.2), *at on its first quote; out gets what it stands for. */
static enum sp_err read_quoted(const char **at, char *out)
{
    const char *p = *at + 1;
    size_t n = 0;

    for (; *p != '"'; p++) {
        const bool pair = *p == '\\';
        if (pair)
            p++;
        if ((unsigned char)*p < 0x20 || *p == 0x7f || (pair && is_high(*p)))
            return SP_ERR_FORMAT;
        if ((size_t)(p + 2 - *at) > ADDRESS_MAX_LOCAL)
            return SP_ERR_LIMIT;
        out[n++] = *p;
    }
    *at = p + 1;
    return SP_OK;
}

/* Domain (RFC 5321 4.1.2; 2.3.5 for U-labels); out may be NULL. */
static enum sp_err read_domain(const char **at, char *out)
{
    const char *p = *at;

    for (;; p++) {
        const char *label = p;
        bool high = false;
        for (; is_alnum(*p) || is_high(*p) || *p == '-'; p++)
            high |= is_high(*p);
        if (p == label || *label == '-' || p[-1] == '-')
            return SP_ERR_FORMAT;
        if (!high && (size_t)(p - label) > MAX_LABEL)
            return SP_ERR_LIMIT;
        if (*p != '.')
            break;
    }
    const size_t len = (size_t)(p - *at);
    if (len > ADDRESS_MAX_DOMAIN)
        return SP_ERR_LIMIT;
    for (size_t i = 0; out != NULL && i < len; i++)
        out[i] = lower((*at)[i]);
    *at = p;
    return SP_OK;
}

/* Address-literal (RFC 5321 4.1.3): IPv4 or IPv6; no other tag is registered. */
static enum sp_err read_literal(const char **at, char *out)
{
    const char *close = strchr(*at, ']');
    char text[INET6_ADDRSTRLEN];
    unsigned char ip[16];

    if (close == NULL)
        return SP_ERR_FORMAT;
    const bool six = strncasecmp(*at, "[IPv6:", 6) == 0;
    const char *from = *at + (six ? 6 : 1);
    const size_t len = (size_t)(close - from);
    if (close < from || len >= sizeof text)
        return SP_ERR_FORMAT;
    memcpy(text, from, len);
    text[len] = '\0';
    if (inet_pton(six ? AF_INET6 : AF_INET, text, ip) != 1)
        return SP_ERR_FORMAT;
    for (const char *p = *at; p <= close; p++)
        *out++ = lower(*p);
    *at = close + 1;
    return SP_OK;
}

/* A-d-l (RFC 5321 4.1.2): "@a,@b:", read and forgotten (appendix C). */
static enum sp_err skip_route(const char **at)
{
    for (;;) {
        if (**at != '@')
            return SP_ERR_FORMAT;
        (*at)++;
        const enum sp_err err = read_domain(at, NULL);
        if (err != SP_OK)
            return err;
        const char separator = **at;
        if (separator != ',' && separator != ':')
            return SP_ERR_FORMAT;
        (*at)++;
        if (separator == ':')
            return SP_OK;
    }
}

static enum sp_err read_mailbox(const char **at, unsigned allow, struct address *out)
{
    const char *start = *at;
    enum sp_err err = **at == '"' ? read_quoted(at, out->local) : read_dot_string(at, out->local);

    if (err != SP_OK)
        return err;
    if (**at == '>' && (allow & ADDRESS_POSTMASTER) != 0 && *start != '"' &&
        strcasecmp(out->local, "postmaster") == 0) {
        for (char *p = out->local; *p != '\0'; p++)
            *p = lower(*p);
        return SP_OK;
    }
    if (**at != '@')
        return SP_ERR_FORMAT;
    (*at)++;
    out->literal = **at == '[';
    return out->literal ? read_literal(at, out->domain) : read_domain(at, out->domain);
}

/* Length, and the octets above 127, of a path that obeys the grammar. */
static enum sp_err check_path(const char *path, size_t len, unsigned allow, struct address *out)
{
    if (len > ADDRESS_MAX_PATH)
        return SP_ERR_LIMIT;
    for (size_t i = 0; i < len; i++)
        out->utf8 |= is_high(path[i]);
    if (out->utf8 && (allow & ADDRESS_UTF8) == 0)
        return SP_ERR_DENIED;
    return utf8_is_text((const uint8_t *)path, len) ? SP_OK : SP_ERR_FORMAT;
}

enum sp_err address_parse(const char *text, unsigned allow, struct address *out, const char **end)
{
    const char *at = text;
    enum sp_err err = SP_ERR_FORMAT;

    memset(out, 0, sizeof *out);
    *end = text;
    if (*at++ != '<')
        goto out;
    if (*at == '>' && (allow & ADDRESS_NULL_PATH) != 0) {
        out->null = true;
    } else {
        if (*at == '@' && (err = skip_route(&at)) != SP_OK)
            goto out;
        if ((err = read_mailbox(&at, allow, out)) != SP_OK)
            goto out;
    }
    err = SP_ERR_FORMAT;
    if (*at++ != '>' || (*at != '\0' && *at != ' '))
        goto out;
    err = check_path(text, (size_t)(at - text), allow, out);
out:
    if (err != SP_OK)
        memset(out, 0, sizeof *out);
    else
        *end = at;
    return err;
}

/* True if the local part may stand without quotes. */
static bool is_dot_string(const char *local)
{
    for (;; local++) {
        if (!is_atext(*local))
            return false;
        while (is_atext(*local))
            local++;
        if (*local != '.')
            return *local == '\0';
    }
}

enum sp_err address_write(const struct address *a, char *out, size_t cap)
{
    const bool quote = !a->null && !is_dot_string(a->local);
    const size_t domain = strlen(a->domain);
    size_t need = strlen(a->local) + (quote ? 2 : 0) + (domain > 0 ? 1 + domain : 0) + 1;
    char *to = out;

    for (const char *p = a->local; quote && *p != '\0'; p++)
        need += *p == '"' || *p == '\\';
    if (need > cap) {
        if (cap > 0)
            *out = '\0';
        return SP_ERR_LIMIT;
    }
    if (quote)
        *to++ = '"';
    for (const char *p = a->local; *p != '\0'; p++) {
        if (quote && (*p == '"' || *p == '\\'))
            *to++ = '\\';
        *to++ = *p;
    }
    if (quote)
        *to++ = '"';
    if (domain > 0)
        *to++ = '@';
    memcpy(to, a->domain, domain + 1);
    return SP_OK;
}

void address_write_text(const char *plain, char out[ADDRESS_MAX_TEXT])
{
    const char *at = strrchr(plain, '@');
    struct address a = {0};
    out[0] = '\0';
    if (at == NULL || (size_t)(at - plain) > ADDRESS_MAX_LOCAL ||
        strlen(at + 1) > ADDRESS_MAX_DOMAIN)
        return;
    memcpy(a.local, plain, (size_t)(at - plain));
    memcpy(a.domain, at + 1, strlen(at + 1));
    address_write(&a, out, ADDRESS_MAX_TEXT);
}

/* esmtp-value (RFC 5321 4.1.2, RFC 6531 3.3). */
static bool is_value(char c)
{
    return is_high(c) || (c > ' ' && c != '=' && c != 0x7f);
}

enum sp_err address_param_next(const char **at, struct address_param *out)
{
    const char *p = *at;
    size_t n = 0;

    memset(out, 0, sizeof *out);
    while (*p == ' ')
        p++;
    if (*p == '\0') {
        *at = p;
        return SP_ERR_NOT_FOUND;
    }
    for (; is_alnum(*p) || (n > 0 && *p == '-'); p++) {
        if (n == ADDRESS_MAX_KEY)
            return SP_ERR_FORMAT;
        out->key[n++] = upper(*p);
    }
    if (n == 0)
        return SP_ERR_FORMAT;
    if (*p == '=') {
        out->value = ++p;
        while (is_value(*p))
            p++;
        out->value_len = (size_t)(p - out->value);
        if (out->value_len == 0 || !utf8_is_text((const uint8_t *)out->value, out->value_len))
            return SP_ERR_FORMAT;
    }
    if (*p != ' ' && *p != '\0')
        return SP_ERR_FORMAT;
    *at = p;
    return SP_OK;
}

enum sp_err address_param_number(const struct address_param *p, unsigned long long *out)
{
    unsigned long long n = 0;

    *out = 0;
    if (p->value_len == 0 || p->value_len > 20)
        return SP_ERR_FORMAT;
    for (size_t i = 0; i < p->value_len; i++) {
        const char c = p->value[i];
        if (c < '0' || c > '9')
            return SP_ERR_FORMAT;
        if (__builtin_mul_overflow(n, 10ull, &n) ||
            __builtin_add_overflow(n, (unsigned long long)(c - '0'), &n))
            return SP_ERR_LIMIT;
    }
    *out = n;
    return SP_OK;
}

bool address_param_is(const struct address_param *p, const char *word)
{
    return p->value != NULL && strlen(word) == p->value_len &&
           strncasecmp(p->value, word, p->value_len) == 0;
}
