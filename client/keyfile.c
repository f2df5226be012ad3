/* The key file's bytes. Whoever can write the file may have written it: sizes and Argon2id's costs
 * are bounded before anything is done with them. */
#include "client/keyfile.h"
#include "client/report.h"
#include "envelope/wire.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define KEYFILE_HEAD    (4u + 1u + 1u + 8u + 8u + KEYFILE_SALT + NONCE)
#define NONCE           crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG             crypto_aead_xchacha20poly1305_ietf_ABYTES
#define SECRETS_FIXED   (4u + 1u + ID_SIZE + ID_SIZE + SIGN_SK_SIZE + KEY_SIZE + 4u)
#define SECRETS_EACH    (4u + 1u + KEY_SIZE)
#define SECRETS_MAX     (SECRETS_FIXED + KEYRING_MAX_SEEDS * SECRETS_EACH)
#define KEYFILE_MAX     (KEYFILE_HEAD + SECRETS_MAX + TAG)
#define FLAG_PASSPHRASE 1u
#define KEYFILE_MAX_OPS 16u
#define KEYFILE_MAX_MEM (1024u * 1024u * 1024u)

static void put_secrets(const struct keyring *k, struct wire_out *w)
{
    wire_put_bytes(w, "SPKR", 4);
    wire_put_u8(w, 1);
    wire_put_bytes(w, k->user_id, ID_SIZE);
    wire_put_bytes(w, k->device_id, ID_SIZE);
    wire_put_bytes(w, k->sign_sk, SIGN_SK_SIZE);
    wire_put_bytes(w, k->box_sk, KEY_SIZE);
    wire_put_u32(w, k->n_seeds);
    for (uint32_t i = 0; i < k->n_seeds; i++) {
        wire_put_u32(w, k->seeds[i].generation);
        wire_put_u8(w, k->seeds[i].pending);
        wire_put_bytes(w, k->seeds[i].seed, KEY_SIZE);
    }
}

static enum sp_err get_secrets(struct keyring *k, const uint8_t *bytes, size_t len)
{
    struct wire_in in = wire_in(bytes, len);
    const uint8_t *magic = wire_get_bytes(&in, 4);
    if (magic == NULL || memcmp(magic, "SPKR", 4) != 0 || wire_get_u8(&in) != 1)
        return SP_ERR_FORMAT;
    wire_get_copy(&in, k->user_id, ID_SIZE);
    wire_get_copy(&in, k->device_id, ID_SIZE);
    wire_get_copy(&in, k->sign_sk, SIGN_SK_SIZE);
    wire_get_copy(&in, k->box_sk, KEY_SIZE);
    k->n_seeds = wire_get_u32(&in);
    if (k->n_seeds > KEYRING_MAX_SEEDS)
        return SP_ERR_FORMAT;
    for (uint32_t i = 0; i < k->n_seeds; i++) {
        k->seeds[i].generation = wire_get_u32(&in);
        k->seeds[i].pending = wire_get_u8(&in) != 0;
        wire_get_copy(&in, k->seeds[i].seed, KEY_SIZE);
    }
    return wire_in_done(&in) ? SP_OK : SP_ERR_FORMAT;
}

enum sp_err keyfile_seal(const struct keyring *k, uint8_t **out, size_t *len)
{
    *out = NULL;
    *len = 0;
    uint8_t nonce[NONCE];
    unsigned long long sealed_len;
    randombytes_buf(nonce, sizeof nonce);
    uint8_t *plain = secret_alloc(SECRETS_MAX);
    uint8_t *bytes = malloc(KEYFILE_MAX);
    if (plain == NULL || bytes == NULL) {
        secret_free(plain);
        free(bytes);
        return SP_ERR_MEMORY;
    }
    struct wire_out head = wire_out(bytes, KEYFILE_HEAD);
    wire_put_bytes(&head, "SPKF", 4);
    wire_put_u8(&head, 1);
    wire_put_u8(&head, k->has_passphrase ? FLAG_PASSPHRASE : 0);
    wire_put_u64(&head, k->opslimit);
    wire_put_u64(&head, k->memlimit);
    wire_put_bytes(&head, k->salt, sizeof k->salt);
    wire_put_bytes(&head, nonce, sizeof nonce);
    struct wire_out body = wire_out(plain, SECRETS_MAX);
    put_secrets(k, &body);
    crypto_aead_xchacha20poly1305_ietf_encrypt(bytes + KEYFILE_HEAD, &sealed_len, plain, body.len,
                                               bytes, KEYFILE_HEAD, NULL, nonce, k->file_key);
    secret_free(plain);
    *out = bytes;
    *len = KEYFILE_HEAD + (size_t)sealed_len;
    return SP_OK;
}

/* The head's fields into k; *nonce leads into bytes. */
static enum sp_err get_head(const uint8_t *bytes, size_t len, struct keyring *k,
                            const uint8_t **nonce)
{
    struct wire_in in = wire_in(bytes, len);
    const uint8_t *magic = wire_get_bytes(&in, 4);
    uint8_t version = wire_get_u8(&in);
    uint8_t flags = wire_get_u8(&in);
    k->opslimit = wire_get_u64(&in);
    k->memlimit = wire_get_u64(&in);
    wire_get_copy(&in, k->salt, sizeof k->salt);
    *nonce = wire_get_bytes(&in, NONCE);
    if (magic == NULL || *nonce == NULL || in.left < TAG || in.left > SECRETS_MAX + TAG)
        return SP_ERR_FORMAT;
    if (memcmp(magic, "SPKF", 4) != 0 || version != 1 || flags > FLAG_PASSPHRASE)
        return SP_ERR_FORMAT;
    if (k->opslimit < crypto_pwhash_OPSLIMIT_MIN || k->opslimit > KEYFILE_MAX_OPS ||
        k->memlimit < crypto_pwhash_MEMLIMIT_MIN || k->memlimit > KEYFILE_MAX_MEM)
        return SP_ERR_LIMIT;
    k->has_passphrase = (flags & FLAG_PASSPHRASE) != 0;
    return SP_OK;
}

enum sp_err keyfile_protected(const uint8_t *bytes, size_t len, bool *protected)
{
    const uint8_t *nonce;
    *protected = true;
    struct keyring *k = secret_alloc(sizeof *k);
    if (k == NULL)
        return SP_ERR_MEMORY;
    enum sp_err err = get_head(bytes, len, k, &nonce);
    *protected = k->has_passphrase;
    keyring_free(k);
    return err;
}

static enum sp_err open_secrets(struct keyring *k, const uint8_t *bytes, size_t len,
                                const uint8_t *nonce)
{
    unsigned long long plain_len = 0;
    uint8_t *plain = secret_alloc(SECRETS_MAX);
    if (plain == NULL)
        return SP_ERR_MEMORY;
    enum sp_err err = SP_ERR_AUTH;
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(plain, &plain_len, NULL, bytes + KEYFILE_HEAD,
                                                   len - KEYFILE_HEAD, bytes, KEYFILE_HEAD, nonce,
                                                   k->file_key) == 0)
        err = get_secrets(k, plain, (size_t)plain_len);
    secret_free(plain);
    return err;
}

enum sp_err keyfile_open(const uint8_t *bytes, size_t len, const struct passphrase *p,
                         struct keyring **out)
{
    const uint8_t *nonce;
    *out = NULL;
    struct keyring *k = secret_alloc(sizeof *k);
    if (k == NULL)
        return SP_ERR_MEMORY;
    enum sp_err err = get_head(bytes, len, k, &nonce);
    if (err == SP_OK &&
        crypto_pwhash(k->file_key, sizeof k->file_key, p->text, p->len, k->salt, k->opslimit,
                      (size_t)k->memlimit, crypto_pwhash_ALG_ARGON2ID13) != 0)
        err = SP_ERR_MEMORY;
    if (err == SP_OK)
        err = open_secrets(k, bytes, len, nonce);
    if (err != SP_OK) {
        keyring_free(k);
        return err;
    }
    *out = k;
    return SP_OK;
}

enum sp_err keyfile_save(struct state *s, const struct keyring *k)
{
    uint8_t *bytes;
    size_t len;
    enum sp_err err = keyfile_seal(k, &bytes, &len);
    if (err != SP_OK)
        return report_fail(err, "key file");
    err = state_write(s, KEYFILE_NAME, bytes, len);
    free(bytes);
    return err;
}

enum sp_err keyfile_load(struct state *s, struct keyring **out)
{
    uint8_t *bytes = NULL;
    size_t len;
    bool protected;
    struct passphrase *p = NULL;
    *out = NULL;
    enum sp_err err = state_read(s, KEYFILE_NAME, KEYFILE_MAX, &bytes, &len);
    if (err == SP_ERR_NOT_FOUND)
        return report_plain(err, "%s/%s is missing: restore it from a backup", state_path(s),
                            KEYFILE_NAME);
    if (err != SP_OK)
        return err;
    err = keyfile_protected(bytes, len, &protected);
    if (err != SP_OK) {
        report_fail(err, "key file %s/%s", state_path(s), KEYFILE_NAME);
        goto out;
    }
    if (protected)
        err = secret_passphrase(false, &p);
    else if ((p = secret_alloc(sizeof *p)) == NULL)
        err = report_fail(SP_ERR_MEMORY, "key file");
    if (err != SP_OK)
        goto out;
    err = keyfile_open(bytes, len, p, out);
    if (err == SP_ERR_AUTH)
        report_plain(err, "key file: wrong passphrase (or %s/%s was changed)", state_path(s),
                     KEYFILE_NAME);
    else if (err != SP_OK)
        report_fail(err, "key file %s/%s", state_path(s), KEYFILE_NAME);
out:
    secret_free(p);
    free(bytes);
    return err;
}
