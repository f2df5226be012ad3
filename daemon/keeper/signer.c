/* The TLS private key at work. The key comes from the supervisor, who is trusted; what is signed
 * has been checked by signable.c. */
#include "daemon/keeper/signer.h"
#include "daemon/pem.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct signer {
    EVP_PKEY *key;
    enum signable_key kind;
};

static bool classify(EVP_PKEY *key, enum signable_key *kind)
{
    char group[32] = "";
    if (EVP_PKEY_is_a(key, "ED25519")) {
        *kind = SIGNABLE_ED25519;
        return true;
    }
    if (EVP_PKEY_is_a(key, "RSA")) {
        *kind = SIGNABLE_RSA;
        return EVP_PKEY_get_bits(key) >= 2048 && EVP_PKEY_get_bits(key) <= 4096;
    }
    if (!EVP_PKEY_is_a(key, "EC") || EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) != 1)
        return false;
    *kind = strcmp(group, "secp384r1") == 0 ? SIGNABLE_P384 : SIGNABLE_P256;
    return *kind == SIGNABLE_P384 || strcmp(group, "prime256v1") == 0;
}

enum sp_err signer_load(const char *pem, size_t len, struct signer **out)
{
    *out = NULL;
    struct signer *signer = calloc(1, sizeof(*signer));
    if (signer == NULL)
        return SP_ERR_MEMORY;
    enum sp_err err = pem_private_key(pem, len, &signer->key);
    if (err == SP_OK && !classify(signer->key, &signer->kind))
        err = SP_ERR_DENIED;
    if (err == SP_OK)
        *out = signer;
    else
        signer_free(signer);
    return err;
}

void signer_free(struct signer *signer)
{
    if (signer == NULL)
        return;
    EVP_PKEY_free(signer->key);
    free(signer);
}

enum signable_key signer_key(const struct signer *signer)
{
    return signer->kind;
}

const char *signer_name(const struct signer *signer)
{
    static const char *const names[] = {
        [SIGNABLE_RSA] = "RSA",
        [SIGNABLE_P256] = "P-256",
        [SIGNABLE_P384] = "P-384",
        [SIGNABLE_ED25519] = "Ed25519",
    };
    return names[signer->kind];
}

static bool set_pss(EVP_PKEY_CTX *ctx)
{
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1;
}

enum sp_err signer_sign(const struct signer *signer, const struct signable_request *request,
                        uint8_t *sig, size_t *len)
{
    enum sp_err err = SP_ERR_CRYPTO;
    EVP_PKEY_CTX *key_ctx = NULL; /* belongs to ctx */
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    *len = SIGNER_MAX;
    if (ctx != NULL &&
        EVP_DigestSignInit_ex(ctx, &key_ctx, request->digest, NULL, NULL, signer->key, NULL) == 1 &&
        (strcmp(request->algorithm, "RSA-PSS") != 0 || set_pss(key_ctx)) &&
        EVP_DigestSign(ctx, sig, len, request->input, request->input_len) == 1)
        err = SP_OK;
    else
        *len = 0;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return err;
}
