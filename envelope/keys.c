/* Hashes, key derivation and small sealed secrets (FORMAT.md sections 1, 3, 7 and 8). The caller is
 * trusted; public keys and sealed bytes that come in are not. */
#include "envelope/keys.h"
#include "envelope/wire.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>

#define SECRET_MAGIC   "SPSK"
#define SECRET_VERSION 1u
#define SEED_PLAIN     (KEYS_SEED_BOX - crypto_box_SEALBYTES)
#define SECRET_PLAIN   (KEYS_SECRET_BOX - crypto_box_SEALBYTES)

_Static_assert(crypto_box_SEALBYTES == 48, "libsodium's sealed box adds 48 bytes");

/* A constant once it is there: fetching it anew for each hash would cost more than the hash. */
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;
static EVP_MD *sha256_md;

static void fetch_sha256(void)
{
    sha256_md = EVP_MD_fetch(NULL, "SHA256", NULL);
}

enum sp_err keys_sha256(const void *msg, size_t len, uint8_t out[HASH_SIZE])
{
    if (pthread_once(&sha256_once, fetch_sha256) == 0 && sha256_md != NULL &&
        EVP_Digest(msg, len, out, NULL, sha256_md, NULL) == 1)
        return SP_OK;
    memset(out, 0, HASH_SIZE);
    return SP_ERR_CRYPTO;
}

enum sp_err keys_hmac(const uint8_t key[KEY_SIZE], const void *msg, size_t len,
                      uint8_t out[HASH_SIZE])
{
    if (crypto_auth_hmacsha256(out, msg, len, key) != 0)
        return SP_ERR_CRYPTO;
    return SP_OK;
}

/* RFC 5869 with an empty salt (which is HashLen zeros) and one block of output. */
enum sp_err keys_hkdf(const uint8_t seed[KEY_SIZE], const char *info, uint8_t out[KEY_SIZE])
{
    static const uint8_t salt[HASH_SIZE];
    static const uint8_t first_block = 1;
    crypto_auth_hmacsha256_state st;
    uint8_t prk[HASH_SIZE];
    enum sp_err err = keys_hmac(salt, seed, KEY_SIZE, prk);
    if (err == SP_OK) {
        crypto_auth_hmacsha256_init(&st, prk, sizeof(prk));
        crypto_auth_hmacsha256_update(&st, (const unsigned char *)info, strlen(info));
        crypto_auth_hmacsha256_update(&st, &first_block, 1);
        crypto_auth_hmacsha256_final(&st, out);
    }
    sodium_memzero(&st, sizeof(st));
    sodium_memzero(prk, sizeof(prk));
    return err;
}

enum sp_err keys_x25519(const uint8_t sk[KEY_SIZE], const uint8_t pk[KEY_SIZE],
                        uint8_t out[KEY_SIZE])
{
    if (crypto_scalarmult(out, sk, pk) == 0) /* it checks for the all-zero result */
        return SP_OK;
    sodium_memzero(out, KEY_SIZE);
    return SP_ERR_AUTH;
}

enum sp_err keys_x25519_public(const uint8_t sk[KEY_SIZE], uint8_t pk[KEY_SIZE])
{
    return crypto_scalarmult_base(pk, sk) == 0 ? SP_OK : SP_ERR_CRYPTO;
}

enum sp_err keys_puk(const uint8_t seed[KEY_SIZE], uint8_t *email_sk, uint8_t *email_pk,
                     uint8_t *symmetric)
{
    uint8_t sk[KEY_SIZE];
    enum sp_err err = keys_hkdf(seed, "sealpost/1 puk email x25519", sk);
    if (err == SP_OK && email_pk != NULL)
        err = keys_x25519_public(sk, email_pk);
    if (err == SP_OK && symmetric != NULL)
        err = keys_hkdf(seed, "sealpost/1 puk symmetric", symmetric);
    if (err == SP_OK && email_sk != NULL)
        memcpy(email_sk, sk, sizeof(sk));
    sodium_memzero(sk, sizeof(sk));
    return err;
}

enum sp_err keys_seed_seal(const uint8_t device_box_pk[KEY_SIZE], uint32_t generation,
                           const uint8_t seed[KEY_SIZE], uint8_t out[KEYS_SEED_BOX])
{
    uint8_t plain[SEED_PLAIN];
    struct wire_out w = wire_out(plain, sizeof(plain));
    wire_put_u32(&w, generation);
    wire_put_bytes(&w, seed, KEY_SIZE);
    int rc = crypto_box_seal(out, plain, sizeof(plain), device_box_pk);
    sodium_memzero(plain, sizeof(plain));
    return rc == 0 ? SP_OK : SP_ERR_AUTH; /* a public key of small order */
}

enum sp_err keys_seed_open(const uint8_t device_box_pk[KEY_SIZE],
                           const uint8_t device_box_sk[KEY_SIZE], const uint8_t in[KEYS_SEED_BOX],
                           uint32_t *generation, uint8_t seed[KEY_SIZE])
{
    uint8_t plain[SEED_PLAIN];
    *generation = 0;
    memset(seed, 0, KEY_SIZE);
    if (crypto_box_seal_open(plain, in, KEYS_SEED_BOX, device_box_pk, device_box_sk) != 0)
        return SP_ERR_AUTH;
    struct wire_in w = wire_in(plain, sizeof(plain));
    uint32_t got = wire_get_u32(&w);
    enum sp_err err = got == 0 ? SP_ERR_FORMAT : SP_OK; /* generations count from 1 */
    if (err == SP_OK) {
        *generation = got;
        wire_get_copy(&w, seed, KEY_SIZE);
    }
    sodium_memzero(plain, sizeof(plain));
    return err;
}

enum sp_err keys_secret_seal(const uint8_t keeper_pk[KEY_SIZE], uint8_t kind,
                             const uint8_t recipient_id[ID_SIZE], const uint8_t secret[KEY_SIZE],
                             uint8_t out[KEYS_SECRET_BOX])
{
    uint8_t plain[SECRET_PLAIN];
    struct wire_out w = wire_out(plain, sizeof(plain));
    wire_put_bytes(&w, SECRET_MAGIC, 4);
    wire_put_u8(&w, SECRET_VERSION);
    wire_put_u8(&w, kind);
    wire_put_bytes(&w, recipient_id, ID_SIZE);
    wire_put_bytes(&w, secret, KEY_SIZE);
    int rc = crypto_box_seal(out, plain, sizeof(plain), keeper_pk);
    sodium_memzero(plain, sizeof(plain));
    return rc == 0 ? SP_OK : SP_ERR_AUTH;
}

/* The opened plaintext must name the box that it is filed under. */
static enum sp_err take_secret(const uint8_t plain[SECRET_PLAIN], uint8_t kind,
                               const uint8_t recipient_id[ID_SIZE], uint8_t secret[KEY_SIZE])
{
    struct wire_in w = wire_in(plain, SECRET_PLAIN);
    const uint8_t *magic = wire_get_bytes(&w, 4);
    uint8_t version = wire_get_u8(&w);
    if (memcmp(magic, SECRET_MAGIC, 4) != 0 || version != SECRET_VERSION)
        return SP_ERR_FORMAT;
    uint8_t got_kind = wire_get_u8(&w);
    const uint8_t *got_id = wire_get_bytes(&w, ID_SIZE);
    if (got_kind != kind || memcmp(got_id, recipient_id, ID_SIZE) != 0)
        return SP_ERR_AUTH;
    wire_get_copy(&w, secret, KEY_SIZE);
    return SP_OK;
}

enum sp_err keys_secret_open(const uint8_t keeper_pk[KEY_SIZE], const uint8_t keeper_sk[KEY_SIZE],
                             const uint8_t *in, size_t len, uint8_t kind,
                             const uint8_t recipient_id[ID_SIZE], uint8_t secret[KEY_SIZE])
{
    uint8_t plain[SECRET_PLAIN];
    memset(secret, 0, KEY_SIZE);
    if (len != KEYS_SECRET_BOX)
        return SP_ERR_FORMAT;
    if (crypto_box_seal_open(plain, in, len, keeper_pk, keeper_sk) != 0)
        return SP_ERR_AUTH;
    enum sp_err err = take_secret(plain, kind, recipient_id, secret);
    sodium_memzero(plain, sizeof(plain));
    return err;
}

void keys_uuid7(uint64_t time_ms, uint8_t id[ID_SIZE])
{
    randombytes_buf(id, ID_SIZE);
    for (size_t i = 0; i < 6; i++)
        id[i] = (uint8_t)(time_ms >> (8 * (5 - i)));
    id[6] = (uint8_t)(0x70 | (id[6] & 0x0f)); /* version */
    id[8] = (uint8_t)(0x80 | (id[8] & 0x3f)); /* variant */
}
