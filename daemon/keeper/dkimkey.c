/* DKIM keys at work. The file is the operator's; the hash comes from a delivery, which may have
 * been taken over and may then sign what it likes, once a key. */
#include "daemon/keeper/dkimkey.h"
#include "daemon/pem.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RSA_MIN 2048
#define RSA_MAX 4096
#define RSA_NEW 2048u
#define DER_MAX 640u /* bytes of a public key: RSA of 4096 bits takes 550 */

struct dkimkey {
    EVP_PKEY *key;
    enum dkimkey_algorithm algorithm;
};

static enum sp_err classify(struct dkimkey *key)
{
    int bits = EVP_PKEY_get_bits(key->key);
    key->algorithm = DKIMKEY_ED25519_SHA256;
    if (EVP_PKEY_is_a(key->key, "ED25519"))
        return SP_OK;
    key->algorithm = DKIMKEY_RSA_SHA256;
    return EVP_PKEY_is_a(key->key, "RSA") && bits >= RSA_MIN && bits <= RSA_MAX ? SP_OK
                                                                                : SP_ERR_DENIED;
}

enum sp_err dkimkey_load(const char *pem, size_t len, struct dkimkey **out)
{
    *out = NULL;
    struct dkimkey *key = calloc(1, sizeof(*key));
    if (key == NULL)
        return SP_ERR_MEMORY;
    enum sp_err err = pem_private_key(pem, len, &key->key);
    if (err == SP_OK)
        err = classify(key);
    if (err == SP_OK)
        *out = key;
    else
        dkimkey_free(key);
    return err;
}

void dkimkey_free(struct dkimkey *key)
{
    if (key == NULL)
        return;
    EVP_PKEY_free(key->key);
    free(key);
}

enum dkimkey_algorithm dkimkey_algorithm(const struct dkimkey *key)
{
    return key->algorithm;
}

static bool sign_rsa(EVP_PKEY *key, const uint8_t *hash, uint8_t *signature, size_t *len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    bool good = ctx != NULL && EVP_PKEY_sign_init(ctx) == 1 &&
                EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
                EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) == 1 &&
                EVP_PKEY_sign(ctx, signature, len, hash, HASH_SIZE) == 1;
    EVP_PKEY_CTX_free(ctx);
    return good;
}

static bool sign_ed25519(EVP_PKEY *key, const uint8_t *hash, uint8_t *signature, size_t *len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx != NULL && EVP_DigestSignInit_ex(ctx, NULL, NULL, NULL, NULL, key, NULL) == 1 &&
                EVP_DigestSign(ctx, signature, len, hash, HASH_SIZE) == 1;
    EVP_MD_CTX_free(ctx);
    return good;
}

enum sp_err dkimkey_sign(const struct dkimkey *key, const uint8_t hash[HASH_SIZE],
                         uint8_t signature[DKIMKEY_SIGNATURE], size_t *len)
{
    *len = DKIMKEY_SIGNATURE;
    bool good = key->algorithm == DKIMKEY_RSA_SHA256 ? sign_rsa(key->key, hash, signature, len)
                                                     : sign_ed25519(key->key, hash, signature, len);
    ERR_clear_error();
    if (!good)
        *len = 0;
    return good ? SP_OK : SP_ERR_CRYPTO;
}

/* RFC 6376 3.6.1: RSA as SubjectPublicKeyInfo (as everybody does it); RFC 8463 3: Ed25519 as its 32
 * bytes. */
static size_t put_public(const struct dkimkey *key, uint8_t der[DER_MAX])
{
    size_t len = DER_MAX;
    if (key->algorithm == DKIMKEY_ED25519_SHA256)
        return EVP_PKEY_get_raw_public_key(key->key, der, &len) == 1 ? len : 0;
    int n = i2d_PUBKEY(key->key, NULL);
    if (n <= 0 || (size_t)n > DER_MAX)
        return 0;
    n = i2d_PUBKEY(key->key, &der);
    return n > 0 ? (size_t)n : 0;
}

enum sp_err dkimkey_record(const struct dkimkey *key, char out[DKIMKEY_RECORD])
{
    uint8_t der[DER_MAX], text[(DER_MAX + 2) / 3 * 4 + 1];
    size_t len = put_public(key, der);
    if (len == 0)
        return SP_ERR_CRYPTO;
    EVP_EncodeBlock(text, der, (int)len);
    int n = snprintf(out, DKIMKEY_RECORD, "v=DKIM1; k=%s; p=%s",
                     key->algorithm == DKIMKEY_RSA_SHA256 ? "rsa" : "ed25519", (const char *)text);
    return n > 0 && (size_t)n < DKIMKEY_RECORD ? SP_OK : SP_ERR_LIMIT;
}

enum sp_err dkimkey_make(enum dkimkey_algorithm algorithm, int fd)
{
    EVP_PKEY *key = algorithm == DKIMKEY_RSA_SHA256
                        ? EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)RSA_NEW)
                        : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    BIO *bio = BIO_new_fd(fd, BIO_NOCLOSE);
    enum sp_err err = key != NULL && bio != NULL ? SP_OK : SP_ERR_CRYPTO;
    if (err == SP_OK && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        err = SP_ERR_SYSTEM;
    BIO_free(bio);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return err;
}
