/* The DKIM-Signature field: what the keeper is asked to sign, and the field with its signature. All
 * that goes into it was checked to be what RFC 6376 3.5 allows there. */
#include "daemon/relay/dkim.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define WIDTH         74u /* columns, as far as it can be had */
#define SIGNATURE_MAX 1024u
#define BASE64(n)     (4u * (((n) + 2u) / 3u) + 1u)

struct text {
    char *at;
    size_t len, cap, column;
    bool full;
};

static void put(struct text *t, const char *bytes, size_t n)
{
    t->full |= n > t->cap - t->len;
    if (t->full)
        return;
    memcpy(t->at + t->len, bytes, n);
    t->len += n;
    t->column += n;
}

static void fold(struct text *t)
{
    put(t, "\r\n\t", 3);
    t->column = 8;
}

/* A tag that stays in one piece: "d=example.org;". */
static void put_tag(struct text *t, const char *name, const char *value)
{
    if (t->column + 1 + strlen(name) + 1 + strlen(value) + 1 > WIDTH)
        fold(t);
    else
        put(t, " ", 1);
    put(t, name, strlen(name));
    put(t, "=", 1);
    put(t, value, strlen(value));
    put(t, ";", 1);
}

/* One name of h=; folding white space may stand around its colon. */
static void put_name(struct text *t, const char *name, size_t n, bool last)
{
    if (t->column + n + 1 > WIDTH)
        fold(t);
    put(t, name, n);
    put(t, last ? ";" : ":", 1);
}

/* h=: from the last field up, which is the order in which a verifier takes those of one name (RFC
 * 6376 5.4.2). And From once more than there are: none can be added. */
static void put_names(struct text *t, const struct dkim *k)
{
    put(t, " h=", 3);
    for (size_t i = k->count; i-- > 0;) {
        const char *field = k->fields + k->kept[i].at;
        put_name(t, field, (size_t)((const char *)memchr(field, ':', k->kept[i].len) - field),
                 false);
    }
    put_name(t, "from", 4, true);
}

/* Labels of letters, digits and inner hyphens; underscores do no harm. */
static bool is_dns_name(const char *name)
{
    size_t label = 0, all = strlen(name);
    for (const char *at = name; *at != '\0'; at++) {
        bool ok = (*at >= '0' && *at <= '9') || (*at >= 'A' && *at <= 'Z') ||
                  (*at >= 'a' && *at <= 'z') || *at == '_' || (*at == '-' && label > 0);
        if (*at == '.' ? label == 0 : !ok)
            return false;
        label = *at == '.' ? 0 : label + 1;
    }
    return label > 0 && all <= 253;
}

static enum sp_err check(const struct dkim *k, const struct dkim_key *key)
{
    if (!k->ended || k->unsigned_body)
        return SP_ERR_STATE;
    if (k->facts.malformed || k->facts.from != 1 || !is_dns_name(key->selector) ||
        !is_dns_name(key->domain))
        return SP_ERR_FORMAT;
    return k->facts.too_large ? SP_ERR_LIMIT : SP_OK;
}

/* All of the field up to "b=". */
static enum sp_err put_field(struct text *t, const struct dkim *k, const struct dkim_key *key)
{
    char number[24], hash[BASE64(DKIM_HASH)];
    const char *algorithm = key->algorithm == DKIM_RSA_SHA256       ? "rsa-sha256"
                            : key->algorithm == DKIM_ED25519_SHA256 ? "ed25519-sha256"
                                                                    : NULL;
    if (algorithm == NULL)
        return SP_ERR_FORMAT;
    snprintf(number, sizeof(number), "%" PRIu64, key->time_s);
    EVP_EncodeBlock((unsigned char *)hash, k->body_hash, DKIM_HASH);
    put(t, "DKIM-Signature:", 15);
    put_tag(t, "v", "1");
    put_tag(t, "a", algorithm);
    put_tag(t, "c", "relaxed/relaxed");
    put_tag(t, "d", key->domain);
    put_tag(t, "s", key->selector);
    put_tag(t, "t", number);
    put_names(t, k);
    put_tag(t, "bh", hash);
    fold(t);
    put(t, "b=", 2);
    return t->full ? SP_ERR_LIMIT : SP_OK;
}

enum sp_err dkim_hash(const struct dkim *k, const struct dkim_key *key, uint8_t hash[DKIM_HASH])
{
    char field[DKIM_MAX];
    struct text t = {.at = field, .cap = sizeof(field)};
    EVP_MD_CTX *sha = NULL;
    memset(hash, 0, DKIM_HASH);
    enum sp_err err = check(k, key);
    if (err == SP_OK)
        err = put_field(&t, k, key);
    if (err == SP_OK && (sha = EVP_MD_CTX_new()) == NULL)
        err = SP_ERR_MEMORY;
    if (err != SP_OK)
        return err;
    bool ok = EVP_DigestInit_ex(sha, EVP_sha256(), NULL) == 1;
    for (size_t i = k->count; ok && i-- > 0;)
        ok = EVP_DigestUpdate(sha, k->fields + k->kept[i].at, k->kept[i].len) == 1 &&
             EVP_DigestUpdate(sha, "\r\n", 2) == 1;
    size_t len = canon_field(field, t.len, field);
    ok = ok && EVP_DigestUpdate(sha, field, len) == 1 && EVP_DigestFinal_ex(sha, hash, NULL) == 1;
    EVP_MD_CTX_free(sha);
    return ok ? SP_OK : SP_ERR_CRYPTO;
}

enum sp_err dkim_field(const struct dkim *k, const struct dkim_key *key, const uint8_t *signature,
                       size_t signature_len, char *out, size_t cap, size_t *out_len)
{
    char coded[BASE64(SIGNATURE_MAX)];
    struct text t = {.at = out, .cap = cap};
    *out_len = 0;
    if (signature_len == 0 || signature_len > SIGNATURE_MAX)
        return SP_ERR_LIMIT;
    enum sp_err err = check(k, key);
    if (err == SP_OK)
        err = put_field(&t, k, key);
    if (err != SP_OK)
        return err;
    size_t left = (size_t)EVP_EncodeBlock((unsigned char *)coded, signature, (int)signature_len);
    for (const char *at = coded; left > 0;) {
        if (t.column >= WIDTH)
            fold(&t);
        size_t n = left < WIDTH - t.column ? left : WIDTH - t.column;
        put(&t, at, n);
        at += n;
        left -= n;
    }
    put(&t, "\r\n", 2);
    if (t.full)
        return SP_ERR_LIMIT;
    *out_len = t.len;
    return SP_OK;
}
