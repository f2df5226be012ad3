/* The manifest's plaintext (FORMAT.md 4.2), in and out. What is decoded was written by a sender
 * whom nobody trusts; what is encoded has names that came in with the mail. One set of rules for
 * both. */
#include "envelope/manifest.h"
#include "envelope/utf8.h"
#include "envelope/wire.h"

#include <sodium.h>
#include <string.h>

#define MAGIC      "SPMF"
#define VERSION    1u
#define BODY_MEDIA "message/rfc822"

/* RFC 2045 section 5.1: a token is visible ASCII less the tspecials; lower case in a manifest. */
static bool is_token(uint8_t c)
{
    return c > 0x20 && c < 0x7f && !(c >= 'A' && c <= 'Z') &&
           strchr("()<>@,;:\\\"/[]?=", c) == NULL;
}

static size_t token_length(const char *s, size_t len)
{
    size_t n = 0;
    while (n < len && is_token((uint8_t)s[n]))
        n++;
    return n;
}

bool manifest_media_type_ok(const char *s, size_t len)
{
    if (len > MANIFEST_MAX_NAME)
        return false;
    size_t type = token_length(s, len);
    if (type == 0 || type == len || s[type] != '/')
        return false;
    size_t subtype = len - type - 1;
    return subtype > 0 && token_length(s + type + 1, subtype) == subtype;
}

bool manifest_file_name_ok(const char *name, size_t len)
{
    const uint8_t *s = (const uint8_t *)name;
    if (len == 0)
        return true;
    if (len > MANIFEST_MAX_NAME || !utf8_is_text(s, len))
        return false;
    if (s[0] == '.' && (len == 1 || (len == 2 && s[1] == '.')))
        return false; /* a path, though without a separator */
    return memchr(s, '/', len) == NULL && memchr(s, '\\', len) == NULL;
}

/* The length of the line that begins here, CRLF included; 0 if it does not end so, or has a NUL, CR
 * or LF inside. */
static size_t line_length(const uint8_t *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '\r')
            return i + 1 < len && s[i + 1] == '\n' ? i + 2 : 0;
        if (s[i] == '\n' || s[i] == 0)
            return 0;
    }
    return 0;
}

/* "name:" of RFC 5322 section 2.2 at its start. */
static bool begins_field(const uint8_t *line, size_t len)
{
    size_t n = 0;
    while (n < len && line[n] > 0x20 && line[n] < 0x7f && line[n] != ':')
        n++;
    return n > 0 && n < len && line[n] == ':';
}

/* A folded line must have more than white space: some readers take such a line for the end of the
 * header (RFC 5322 section 3.2.2). */
static bool continues_field(const uint8_t *line, size_t len)
{
    if (line[0] != ' ' && line[0] != '\t')
        return false;
    for (size_t i = 0; i + 2 < len; i++) {
        if (line[i] != ' ' && line[i] != '\t')
            return true;
    }
    return false;
}

/* Anything but whole fields would let the added headers end the header, or run into the body's. */
static bool added_ok(const uint8_t *s, size_t len)
{
    for (size_t at = 0, n; at < len; at += n) {
        n = line_length(s + at, len - at);
        if (n == 0)
            return false;
        if (!begins_field(s + at, n) && (at == 0 || !continues_field(s + at, n)))
            return false;
    }
    return true;
}

static bool body_ok(const struct piece *p)
{
    return p->kind == PIECE_BODY && p->splice_at == 0 && p->name_len == 0 &&
           p->media_len == strlen(BODY_MEDIA) &&
           memcmp(p->media_type, BODY_MEDIA, p->media_len) == 0;
}

static bool attachment_ok(const struct piece *p, const struct piece *before, uint64_t body_length)
{
    return p->kind == PIECE_ATTACHMENT && p->splice_at >= before->splice_at &&
           p->splice_at <= body_length && manifest_media_type_ok(p->media_type, p->media_len) &&
           manifest_file_name_ok(p->file_name, p->name_len);
}

static enum sp_err check(const struct manifest *m)
{
    if ((m->flags & ~MANIFEST_SERVER_ACCESS) != 0 || !body_ok(&m->pieces[0]))
        return SP_ERR_FORMAT;
    for (uint32_t i = 1; i < m->n_pieces; i++) {
        if (!attachment_ok(&m->pieces[i], &m->pieces[i - 1], m->pieces[0].length))
            return SP_ERR_FORMAT;
    }
    return added_ok(m->added, m->added_len) ? SP_OK : SP_ERR_FORMAT;
}

static enum sp_err check_limits(const struct manifest *m)
{
    if (m->n_pieces == 0)
        return SP_ERR_FORMAT;
    if (m->n_pieces > MANIFEST_MAX_PIECES || m->added_len > MANIFEST_MAX_ADDED)
        return SP_ERR_LIMIT;
    for (uint32_t i = 0; i < m->n_pieces; i++) {
        if (m->pieces[i].media_len > MANIFEST_MAX_NAME || m->pieces[i].name_len > MANIFEST_MAX_NAME)
            return SP_ERR_LIMIT;
    }
    return SP_OK;
}

static void put_piece(struct wire_out *w, const struct piece *p)
{
    wire_put_u8(w, p->kind);
    wire_put_bytes(w, p->key, KEY_SIZE);
    wire_put_bytes(w, p->hash, HASH_SIZE);
    wire_put_u64(w, p->length);
    wire_put_u64(w, p->splice_at);
    wire_put_b16(w, p->media_type, p->media_len);
    wire_put_b16(w, p->file_name, p->name_len);
}

enum sp_err manifest_encode(const struct manifest *m, uint8_t *out, size_t cap, size_t *len)
{
    *len = 0;
    enum sp_err err = check_limits(m);
    if (err == SP_OK)
        err = check(m);
    if (err != SP_OK)
        return err;
    struct wire_out w = wire_out(out, cap < MANIFEST_MAX ? cap : MANIFEST_MAX);
    wire_put_bytes(&w, MAGIC, 4);
    wire_put_u8(&w, VERSION);
    wire_put_u8(&w, m->flags);
    wire_put_u64(&w, m->time_ms);
    wire_put_u32(&w, m->n_pieces);
    for (uint32_t i = 0; i < m->n_pieces; i++)
        put_piece(&w, &m->pieces[i]);
    wire_put_b32(&w, m->added, m->added_len);
    if (!wire_out_ok(&w)) {
        sodium_memzero(out, w.len); /* piece keys */
        return SP_ERR_LIMIT;
    }
    *len = w.len;
    return SP_OK;
}

static void get_piece(struct wire_in *w, struct piece *p)
{
    p->kind = wire_get_u8(w);
    wire_get_copy(w, p->key, KEY_SIZE);
    wire_get_copy(w, p->hash, HASH_SIZE);
    p->length = wire_get_u64(w);
    p->splice_at = wire_get_u64(w);
    p->media_type = (const char *)wire_get_b16(w, MANIFEST_MAX_NAME, &p->media_len);
    p->file_name = (const char *)wire_get_b16(w, MANIFEST_MAX_NAME, &p->name_len);
}

static enum sp_err decode(struct wire_in *w, struct manifest *m)
{
    const uint8_t *magic = wire_get_bytes(w, 4);
    uint8_t version = wire_get_u8(w);
    if (magic == NULL || memcmp(magic, MAGIC, 4) != 0 || version != VERSION)
        return SP_ERR_FORMAT;
    m->flags = wire_get_u8(w);
    m->time_ms = wire_get_u64(w);
    m->n_pieces = wire_get_u32(w);
    if (m->n_pieces == 0 || m->n_pieces > MANIFEST_MAX_PIECES)
        return SP_ERR_FORMAT;
    for (uint32_t i = 0; i < m->n_pieces; i++)
        get_piece(w, &m->pieces[i]);
    m->added = wire_get_b32(w, MANIFEST_MAX_ADDED, &m->added_len);
    return wire_in_done(w) ? check(m) : SP_ERR_FORMAT;
}

enum sp_err manifest_decode(const uint8_t *bytes, size_t len, struct piece *pieces,
                            struct manifest *m)
{
    memset(m, 0, sizeof(*m));
    m->pieces = pieces;
    struct wire_in w = wire_in(bytes, len);
    enum sp_err err = len > MANIFEST_MAX ? SP_ERR_LIMIT : decode(&w, m);
    if (err != SP_OK) {
        sodium_memzero(pieces, MANIFEST_MAX_PIECES * sizeof(*pieces));
        sodium_memzero(m, sizeof(*m));
    }
    return err;
}
