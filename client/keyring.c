/* The user's secrets in locked memory. Everything here is trusted and secret; what the sigchain
 * says of a generation decides which seed is real. */
#include "client/keyfile.h"

#include <sodium.h>
#include <string.h>

static enum sp_err derive_limits(struct keyring *k, const struct passphrase *p)
{
    k->has_passphrase = p->len > 0;
    /* Stretching buys nothing without a passphrase. */
    k->opslimit = k->has_passphrase ? crypto_pwhash_OPSLIMIT_MODERATE : crypto_pwhash_OPSLIMIT_MIN;
    k->memlimit = k->has_passphrase ? crypto_pwhash_MEMLIMIT_MODERATE : crypto_pwhash_MEMLIMIT_MIN;
    randombytes_buf(k->salt, sizeof k->salt);
    if (crypto_pwhash(k->file_key, sizeof k->file_key, p->text, p->len, k->salt, k->opslimit,
                      (size_t)k->memlimit, crypto_pwhash_ALG_ARGON2ID13) != 0)
        return SP_ERR_MEMORY;
    return SP_OK;
}

enum sp_err keyring_create(const struct passphrase *p, struct keyring **out)
{
    uint8_t pk[KEY_SIZE];
    const struct puk_seed *first;
    *out = NULL;
    struct keyring *k = secret_alloc(sizeof *k);
    if (k == NULL)
        return SP_ERR_MEMORY;
    enum sp_err err = derive_limits(k, p);
    if (err == SP_OK && crypto_sign_keypair(pk, k->sign_sk) != 0)
        err = SP_ERR_CRYPTO;
    if (err == SP_OK && crypto_box_keypair(pk, k->box_sk) != 0)
        err = SP_ERR_CRYPTO;
    randombytes_buf(k->user_id, sizeof k->user_id);
    randombytes_buf(k->device_id, sizeof k->device_id);
    if (err == SP_OK)
        err = keyring_pending(k, 1, &first);
    if (err != SP_OK) {
        keyring_free(k);
        return err;
    }
    *out = k;
    return SP_OK;
}

void keyring_free(struct keyring *k)
{
    secret_free(k);
}

const uint8_t *keyring_sign_pk(const struct keyring *k)
{
    return k->sign_sk + SIGN_SK_SIZE - KEY_SIZE;
}

enum sp_err keyring_pending(struct keyring *k, uint32_t generation, const struct puk_seed **out)
{
    *out = NULL;
    for (uint32_t i = 0; i < k->n_seeds; i++) {
        if (k->seeds[i].generation == generation && k->seeds[i].pending) {
            *out = &k->seeds[i];
            return SP_OK;
        }
    }
    if (k->n_seeds == KEYRING_MAX_SEEDS)
        return SP_ERR_LIMIT;
    struct puk_seed *s = &k->seeds[k->n_seeds++];
    s->generation = generation;
    s->pending = true;
    randombytes_buf(s->seed, sizeof s->seed);
    *out = s;
    return SP_OK;
}

static void drop(struct keyring *k, uint32_t i)
{
    k->n_seeds--;
    memmove(&k->seeds[i], &k->seeds[i + 1], (k->n_seeds - i) * sizeof k->seeds[0]);
    sodium_memzero(&k->seeds[k->n_seeds], sizeof k->seeds[0]);
}

enum sp_err keyring_settle(struct keyring *k, uint32_t generation, const uint8_t puk_pk[KEY_SIZE],
                           bool *changed)
{
    uint8_t pk[KEY_SIZE];
    for (uint32_t i = k->n_seeds; i-- > 0;) {
        struct puk_seed *s = &k->seeds[i];
        if (s->generation != generation || !s->pending)
            continue;
        enum sp_err err = keys_puk(s->seed, NULL, pk, NULL);
        if (err != SP_OK)
            return err;
        if (memcmp(pk, puk_pk, sizeof pk) == 0)
            s->pending = false;
        else
            drop(k, i);
        *changed = true;
    }
    return SP_OK;
}

bool keyring_has(const struct keyring *k, uint32_t generation)
{
    for (uint32_t i = 0; i < k->n_seeds; i++) {
        if (k->seeds[i].generation == generation)
            return true;
    }
    return false;
}

enum sp_err keyring_find(const struct keyring *k, uint32_t generation, const uint8_t pk[KEY_SIZE],
                         uint8_t email_sk[KEY_SIZE])
{
    enum sp_err result = SP_ERR_NO_KEY;
    for (uint32_t i = 0; i < k->n_seeds; i++) {
        uint8_t own_pk[KEY_SIZE];
        if (k->seeds[i].generation != generation)
            continue;
        enum sp_err err = keys_puk(k->seeds[i].seed, email_sk, own_pk, NULL);
        if (err == SP_OK && memcmp(own_pk, pk, sizeof own_pk) == 0)
            return SP_OK;
        result = err == SP_OK ? SP_ERR_AUTH : err;
    }
    sodium_memzero(email_sk, KEY_SIZE);
    return result;
}
