/* Cake-AES (FORMAT.md section 2): seals and opens a stream chunk by chunk. The caller is trusted;
 * the ciphertext that is opened is hostile until its commitment and tags have verified. */
#include "envelope/cake.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sodium.h>
#include <string.h>

#define GCM_IV 12u

enum cake_state { CAKE_IDLE, CAKE_SEALING, CAKE_OPENING };

struct cake {
    EVP_CIPHER *aes; /* fetched once: a fetch takes a lock and a search */
    EVP_CIPHER_CTX *ctx;
    enum cake_state state;
    uint64_t next; /* sealing: the number of the next chunk */
};

struct cake *cake_new(void)
{
    struct cake *cake = OPENSSL_zalloc(sizeof(*cake));
    if (cake == NULL)
        return NULL;
    cake->aes = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    cake->ctx = EVP_CIPHER_CTX_new();
    if (cake->aes == NULL || cake->ctx == NULL ||
        EVP_EncryptInit_ex2(cake->ctx, cake->aes, NULL, NULL, NULL) != 1) {
        cake_free(cake);
        return NULL;
    }
    return cake;
}

void cake_free(struct cake *cake)
{
    if (cake == NULL)
        return;
    EVP_CIPHER_CTX_free(cake->ctx); /* wipes the key schedule */
    EVP_CIPHER_free(cake->aes);
    OPENSSL_clear_free(cake, sizeof(*cake));
}

uint64_t cake_sealed_length(uint64_t n)
{
    uint64_t overhead = CAKE_HEADER + CAKE_TAG * (n / CAKE_CHUNK + 1);
    return n > UINT64_MAX - overhead ? UINT64_MAX : n + overhead;
}

enum sp_err cake_plain_length(uint64_t sealed, uint64_t *n)
{
    *n = 0;
    if (sealed < CAKE_HEADER + CAKE_TAG)
        return SP_ERR_FORMAT;
    uint64_t chunks = sealed - CAKE_HEADER;
    uint64_t last = chunks % CAKE_SEALED;
    if (last < CAKE_TAG) /* the last chunk is a short one, but has its tag */
        return SP_ERR_FORMAT;
    *n = chunks / CAKE_SEALED * CAKE_CHUNK + last - CAKE_TAG;
    return SP_OK;
}

static int set_key(struct cake *cake, const uint8_t key[CAKE_KEY], int encrypt)
{
    return EVP_CipherInit_ex2(cake->ctx, NULL, key, NULL, encrypt, NULL);
}

void cake_forget(struct cake *cake)
{
    static const uint8_t zeros[CAKE_KEY];
    (void)set_key(cake, zeros, 1); /* overwrites the schedule where it stands */
    cake->state = CAKE_IDLE;
}

/* SHA512(key || nonce) = otk || commitment: the whole key material of one stream. */
struct stream_keys {
    uint8_t otk[CAKE_KEY];
    uint8_t commitment[CAKE_COMMITMENT];
};
_Static_assert(sizeof(struct stream_keys) == crypto_hash_sha512_BYTES, "otk || commitment");

static void derive(const uint8_t key[CAKE_KEY], const uint8_t nonce[CAKE_NONCE],
                   struct stream_keys *out)
{
    uint8_t seed[CAKE_KEY + CAKE_NONCE];
    memcpy(seed, key, CAKE_KEY);
    memcpy(seed + CAKE_KEY, nonce, CAKE_NONCE);
    crypto_hash_sha512((unsigned char *)out, seed, sizeof(seed));
    sodium_memzero(seed, sizeof(seed));
}

enum sp_err cake_seal_begin(struct cake *cake, const uint8_t key[CAKE_KEY], const uint8_t *nonce,
                            uint8_t header[CAKE_HEADER])
{
    struct stream_keys keys;
    cake->state = CAKE_IDLE;
    if (nonce != NULL)
        memcpy(header, nonce, CAKE_NONCE);
    else
        randombytes_buf(header, CAKE_NONCE);
    derive(key, header, &keys);
    memcpy(header + CAKE_NONCE, keys.commitment, CAKE_COMMITMENT);
    int ok = set_key(cake, keys.otk, 1);
    sodium_memzero(&keys, sizeof(keys));
    if (ok != 1)
        return SP_ERR_CRYPTO;
    cake->state = CAKE_SEALING;
    cake->next = 0;
    return SP_OK;
}

enum sp_err cake_open_begin(struct cake *cake, const uint8_t key[CAKE_KEY],
                            const uint8_t header[CAKE_HEADER])
{
    struct stream_keys keys;
    enum sp_err err = SP_OK;
    cake->state = CAKE_IDLE;
    derive(key, header, &keys);
    if (sodium_memcmp(keys.commitment, header + CAKE_NONCE, CAKE_COMMITMENT) != 0)
        err = SP_ERR_AUTH;
    else if (set_key(cake, keys.otk, 0) != 1)
        err = SP_ERR_CRYPTO;
    else
        cake->state = CAKE_OPENING;
    sodium_memzero(&keys, sizeof(keys));
    return err;
}

/* Nothing but the IV changes from chunk to chunk: little-endian 2i, or 2i + 1 for the last. */
static int set_iv(struct cake *cake, uint64_t index, bool last)
{
    uint8_t iv[GCM_IV] = {0};
    uint64_t v = index * 2 + (last ? 1 : 0);
    for (size_t i = 0; i < sizeof(v); i++)
        iv[i] = (uint8_t)(v >> (8 * i));
    return EVP_CipherInit_ex2(cake->ctx, NULL, NULL, iv, -1, NULL);
}

static bool chunk_length_ok(size_t len, bool last)
{
    return last ? len < CAKE_CHUNK : len == CAKE_CHUNK;
}

enum sp_err cake_seal_chunk(struct cake *cake, const uint8_t *in, size_t len, bool last,
                            uint8_t *out)
{
    int n = 0;
    if (cake->state != CAKE_SEALING)
        return SP_ERR_STATE;
    if (!chunk_length_ok(len, last))
        return SP_ERR_FORMAT;
    if (cake->next > UINT64_MAX / CAKE_SEALED) { /* no length could say it; no IV is ever reused */
        cake_forget(cake);
        return SP_ERR_LIMIT;
    }
    if (set_iv(cake, cake->next++, last) != 1 ||
        (len > 0 && EVP_EncryptUpdate(cake->ctx, out, &n, in, (int)len) != 1) ||
        EVP_EncryptFinal_ex(cake->ctx, out + len, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(cake->ctx, EVP_CTRL_AEAD_GET_TAG, CAKE_TAG, out + len) != 1) {
        cake_forget(cake);
        return SP_ERR_CRYPTO;
    }
    if (last)
        cake_forget(cake); /* a stream has one end, and its key no further use */
    return SP_OK;
}

enum sp_err cake_open_chunk(struct cake *cake, uint64_t index, const uint8_t *in, size_t len,
                            bool last, uint8_t *out)
{
    uint8_t tag[CAKE_TAG];
    int n = 0;
    if (cake->state != CAKE_OPENING)
        return SP_ERR_STATE;
    if (len < CAKE_TAG || !chunk_length_ok(len - CAKE_TAG, last) ||
        index > UINT64_MAX / CAKE_SEALED)
        return SP_ERR_FORMAT;
    len -= CAKE_TAG;
    memcpy(tag, in + len, CAKE_TAG);
    if (set_iv(cake, index, last) != 1 ||
        EVP_CIPHER_CTX_ctrl(cake->ctx, EVP_CTRL_AEAD_SET_TAG, CAKE_TAG, tag) != 1)
        return SP_ERR_CRYPTO;
    if ((len > 0 && EVP_DecryptUpdate(cake->ctx, out, &n, in, (int)len) != 1) ||
        EVP_DecryptFinal_ex(cake->ctx, tag, &n) != 1) {
        sodium_memzero(out, len); /* unverified plaintext is nobody's */
        return SP_ERR_AUTH;
    }
    return SP_OK;
}

enum sp_err cake_seal(const uint8_t key[CAKE_KEY], const uint8_t *nonce, const uint8_t *in,
                      size_t len, uint8_t *out)
{
    struct cake *cake = cake_new();
    if (cake == NULL)
        return SP_ERR_MEMORY;
    enum sp_err err = cake_seal_begin(cake, key, nonce, out);
    out += CAKE_HEADER;
    while (err == SP_OK && len >= CAKE_CHUNK) {
        err = cake_seal_chunk(cake, in, CAKE_CHUNK, false, out);
        in += CAKE_CHUNK;
        len -= CAKE_CHUNK;
        out += CAKE_SEALED;
    }
    if (err == SP_OK)
        err = cake_seal_chunk(cake, in, len, true, out);
    cake_free(cake);
    return err;
}

/* All the chunks of a stream whose length was found possible. */
static enum sp_err open_chunks(struct cake *cake, const uint8_t *in, size_t len, uint8_t *out)
{
    enum sp_err err = SP_OK;
    uint64_t i = 0;
    while (err == SP_OK && len >= CAKE_SEALED) {
        err = cake_open_chunk(cake, i++, in, CAKE_SEALED, false, out);
        in += CAKE_SEALED;
        len -= CAKE_SEALED;
        out += CAKE_CHUNK;
    }
    return err != SP_OK ? err : cake_open_chunk(cake, i, in, len, true, out);
}

enum sp_err cake_open(const uint8_t key[CAKE_KEY], const uint8_t *in, size_t len, uint8_t *out,
                      size_t cap, size_t *out_len)
{
    uint64_t n = 0;
    *out_len = 0;
    enum sp_err err = cake_plain_length(len, &n);
    if (err != SP_OK)
        return err;
    if (n > cap)
        return SP_ERR_LIMIT;
    struct cake *cake = cake_new();
    if (cake == NULL)
        return SP_ERR_MEMORY;
    err = cake_open_begin(cake, key, in);
    if (err == SP_OK)
        err = open_chunks(cake, in + CAKE_HEADER, len - CAKE_HEADER, out);
    cake_free(cake);
    if (err != SP_OK)
        sodium_memzero(out, (size_t)n);
    else
        *out_len = (size_t)n;
    return err;
}
