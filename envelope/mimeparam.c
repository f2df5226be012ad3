/* Structured MIME header fields. The field comes from a hostile sender; its reader gets parts of it
 * that obey the grammar, or is told that it does not. */
#include "envelope/mimeparam.h"

#include <string.h>
#include <strings.h>

bool mimeparam_is(const uint8_t *bytes, size_t len, const char *word)
{
    return strlen(word) == len && strncasecmp((const char *)bytes, word, len) == 0;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* token (RFC 2045 5.1). */
static bool is_token(uint8_t c)
{
    return c > ' ' && c < 0x7f && strchr("()<>@,;:\\\"/[]?=", c) == NULL;
}

static void advance(struct mimeparam_in *in, size_t n)
{
    in->at += n;
    in->left -= n;
}

enum sp_err mimeparam_open(struct mimeparam_in *in, uint8_t *body, size_t len)
{
    size_t to = 0;

    *in = (struct mimeparam_in){body, 0};
    for (size_t i = 0; i < len; i++) {
        if (body[i] == '\r' && i + 1 < len && body[i + 1] == '\n') {
            i++;
            continue;
        }
        if ((body[i] < ' ' && body[i] != '\t') || body[i] == 0x7f)
            return SP_ERR_FORMAT;
        body[to++] = body[i];
    }
    in->left = to;
    return SP_OK;
}

/* A comment (RFC 5322 3.2.2), which may hold others; *in on its "(". */
static enum sp_err skip_comment(struct mimeparam_in *in)
{
    size_t depth = 0;

    do {
        if (in->left == 0)
            return SP_ERR_FORMAT;
        if (*in->at == '\\') {
            if (in->left < 2)
                return SP_ERR_FORMAT;
            advance(in, 1);
        } else if (*in->at == '(') {
            depth++;
        } else if (*in->at == ')') {
            depth--;
        }
        advance(in, 1);
    } while (depth > 0);
    return SP_OK;
}

static enum sp_err skip_blanks(struct mimeparam_in *in)
{
    while (in->left > 0 && (is_blank(*in->at) || *in->at == '(')) {
        if (*in->at != '(')
            advance(in, 1);
        else if (skip_comment(in) != SP_OK)
            return SP_ERR_FORMAT;
    }
    return SP_OK;
}

static enum sp_err read_token(struct mimeparam_in *in, uint8_t **token, size_t *len)
{
    *token = in->at;
    *len = 0;
    while (*len < in->left && is_token((*token)[*len]))
        (*len)++;
    advance(in, *len);
    return *len > 0 ? SP_OK : SP_ERR_FORMAT;
}

/* What follows a type is its parameters, or nothing. */
static enum sp_err expect_params(struct mimeparam_in *in)
{
    if (skip_blanks(in) != SP_OK)
        return SP_ERR_FORMAT;
    return in->left == 0 || *in->at == ';' ? SP_OK : SP_ERR_FORMAT;
}

enum sp_err mimeparam_media_type(struct mimeparam_in *in, char *out, size_t cap, size_t *len)
{
    uint8_t *type = NULL;
    uint8_t *subtype = NULL;
    size_t type_len = 0;
    size_t subtype_len = 0;

    *len = 0;
    if (skip_blanks(in) != SP_OK || read_token(in, &type, &type_len) != SP_OK)
        return SP_ERR_FORMAT;
    if (in->left == 0 || *in->at != '/')
        return SP_ERR_FORMAT;
    advance(in, 1);
    if (read_token(in, &subtype, &subtype_len) != SP_OK || expect_params(in) != SP_OK)
        return SP_ERR_FORMAT;
    const size_t total = type_len + 1 + subtype_len;
    if (total > cap)
        return SP_ERR_LIMIT;
    for (size_t i = 0; i < total; i++) /* the slash stands between them */
        out[i] = (char)(type[i] >= 'A' && type[i] <= 'Z' ? type[i] + ('a' - 'A') : type[i]);
    *len = total;
    return SP_OK;
}

enum sp_err mimeparam_token(struct mimeparam_in *in, uint8_t **token, size_t *len)
{
    *token = NULL;
    *len = 0;
    if (skip_blanks(in) != SP_OK || read_token(in, token, len) != SP_OK)
        return SP_ERR_FORMAT;
    return expect_params(in);
}

/* quoted-string (RFC 5322 3.2.4), *in on its first quote. */
static enum sp_err read_quoted(struct mimeparam_in *in, struct mimeparam *out)
{
    uint8_t *to = in->at;

    out->value = to;
    for (advance(in, 1); in->left > 0; advance(in, 1)) {
        if (*in->at == '"') {
            out->value_len = (size_t)(to - out->value);
            advance(in, 1);
            return SP_OK;
        }
        if (*in->at == '\\')
            advance(in, 1);
        if (in->left == 0)
            break;
        *to++ = *in->at;
    }
    return SP_ERR_FORMAT;
}

/* Without quotes more than a token is let through, since much of the world's mail has "=" and the
 * like in a bare boundary or file name. */
static enum sp_err read_bare(struct mimeparam_in *in, struct mimeparam *out)
{
    out->value = in->at;
    while (in->left > 0 && !is_blank(*in->at) && *in->at != ';') {
        if (*in->at == '"' || *in->at == '\\')
            return SP_ERR_FORMAT;
        out->loose |= *in->at == '(' || *in->at == ')';
        advance(in, 1);
    }
    out->value_len = (size_t)(in->at - out->value);
    return out->value_len > 0 ? SP_OK : SP_ERR_FORMAT;
}

enum sp_err mimeparam_next(struct mimeparam_in *in, struct mimeparam *out)
{
    enum sp_err err = SP_OK;

    *out = (struct mimeparam){0};
    do { /* empty parameters ("; ;", or a ";" at the end) are passed over */
        if (expect_params(in) != SP_OK)
            return SP_ERR_FORMAT;
        if (in->left == 0)
            return SP_ERR_NOT_FOUND;
        advance(in, 1);
        if (skip_blanks(in) != SP_OK)
            return SP_ERR_FORMAT;
    } while (in->left == 0 || *in->at == ';');
    if (read_token(in, &out->name, &out->name_len) != SP_OK || skip_blanks(in) != SP_OK)
        return SP_ERR_FORMAT;
    if (in->left == 0 || *in->at != '=')
        return SP_ERR_FORMAT;
    advance(in, 1);
    if (skip_blanks(in) != SP_OK || in->left == 0)
        return SP_ERR_FORMAT;
    err = *in->at == '"' ? read_quoted(in, out) : read_bare(in, out);
    return err == SP_OK ? expect_params(in) : err;
}
