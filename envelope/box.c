/* What a box holds for its one recipient (FORMAT.md 4.5), and the sender's signatures (4.5, 4.6).
 * The caller is trusted, and so are its secrets; envelope and box are what a stranger wrote. */
#include "envelope/envelope.h"
#include "envelope/wire.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define SIGN_LABEL  "sealpost/1 recipient signature"
#define SIGN_TEXT   (2u + sizeof(SIGN_LABEL) - 1u + HASH_SIZE)
#define PAYLOAD_MAX (KEY_SIZE + SIGN_SIZE)

_Static_assert(BOX_NONCE == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES && BOX_NONCE == CAKE_NONCE,
               "both ways of sealing begin with a nonce of 24 bytes");

static size_t payload_length(const struct envelope *e)
{
    return e->from_user ? PAYLOAD_MAX : KEY_SIZE;
}

/* The bytes under a recipient's signature: the label keeps them apart from all else that is signed.
 */
static size_t put_signed(const uint8_t digest[HASH_SIZE], uint8_t out[SIGN_TEXT])
{
    struct wire_out w = wire_out(out, SIGN_TEXT);
    wire_put_str(&w, SIGN_LABEL);
    wire_put_bytes(&w, digest, HASH_SIZE);
    return w.len;
}

/* K = HMAC(X25519(secret, peer), digest), or HMAC(password, digest). */
static enum sp_err derive_key(const struct box *b, const uint8_t secret[KEY_SIZE],
                              const uint8_t peer_pk[KEY_SIZE], const uint8_t digest[HASH_SIZE],
                              uint8_t key[KEY_SIZE])
{
    uint8_t shared[KEY_SIZE];
    if (b->kind == BOX_PASSWORD)
        return keys_hmac(secret, digest, HASH_SIZE, key);
    enum sp_err err = keys_x25519(secret, peer_pk, shared);
    if (err == SP_OK)
        err = keys_hmac(shared, digest, HASH_SIZE, key);
    sodium_memzero(shared, sizeof(shared));
    return err;
}

static enum sp_err seal_payload(const struct box *b, const uint8_t key[KEY_SIZE],
                                const uint8_t *nonce, const uint8_t *payload, size_t len,
                                uint8_t *out, size_t *out_len)
{
    if (b->kind == BOX_PASSWORD) {
        *out_len = (size_t)cake_sealed_length(len);
        return cake_seal(key, nonce, payload, len, out);
    }
    if (nonce != NULL)
        memcpy(out, nonce, BOX_NONCE);
    else
        randombytes_buf(out, BOX_NONCE);
    if (crypto_aead_xchacha20poly1305_ietf_encrypt(out + BOX_NONCE, NULL, payload, len, NULL, 0,
                                                   NULL, out, key) != 0)
        return SP_ERR_CRYPTO;
    *out_len = BOX_NONCE + len + crypto_aead_xchacha20poly1305_ietf_ABYTES;
    return SP_OK;
}

/* Exactly len bytes of payload, or an error. */
static enum sp_err open_payload(const struct box *b, const uint8_t key[KEY_SIZE], uint8_t *payload,
                                size_t len)
{
    size_t got = 0;
    if (b->kind == BOX_PASSWORD) {
        if (b->sealed_len != cake_sealed_length(len))
            return SP_ERR_FORMAT;
        return cake_open(key, b->sealed, b->sealed_len, payload, len, &got);
    }
    if (b->sealed_len != BOX_NONCE + len + crypto_aead_xchacha20poly1305_ietf_ABYTES)
        return SP_ERR_FORMAT;
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(payload, NULL, NULL, b->sealed + BOX_NONCE,
                                                   b->sealed_len - BOX_NONCE, NULL, 0, b->sealed,
                                                   key) != 0)
        return SP_ERR_AUTH;
    return SP_OK;
}

/* A sender signs, the appliance does not; and a sender signs with the key that the envelope names.
 */
static enum sp_err check_signer(const struct envelope *e, const uint8_t *sign_sk)
{
    uint8_t pk[KEY_SIZE];
    if (e->from_user != (sign_sk != NULL))
        return SP_ERR_STATE;
    if (sign_sk == NULL)
        return SP_OK;
    crypto_sign_ed25519_sk_to_pk(pk, sign_sk);
    return memcmp(pk, e->sender_sign_pk, KEY_SIZE) == 0 ? SP_OK : SP_ERR_AUTH;
}

enum sp_err box_seal(const struct envelope *e, const uint8_t manifest_hash[HASH_SIZE],
                     struct box *b, const uint8_t secret[KEY_SIZE],
                     const uint8_t shared_key[KEY_SIZE], const uint8_t *sign_sk,
                     const uint8_t *nonce, uint8_t *out_sealed)
{
    uint8_t digest[HASH_SIZE];
    uint8_t key[KEY_SIZE];
    uint8_t payload[PAYLOAD_MAX];
    uint8_t text[SIGN_TEXT];
    b->sealed = NULL;
    b->sealed_len = 0;
    enum sp_err err = check_signer(e, sign_sk);
    if (err == SP_OK)
        err = box_digest(e, manifest_hash, b, digest);
    if (err == SP_OK)
        err = derive_key(b, secret, b->recipient_pk, digest, key);
    if (err != SP_OK)
        goto out;
    memcpy(payload, shared_key, KEY_SIZE);
    if (sign_sk != NULL &&
        crypto_sign_detached(payload + KEY_SIZE, NULL, text, put_signed(digest, text), sign_sk)) {
        err = SP_ERR_CRYPTO;
        goto out;
    }
    size_t len = 0;
    err = seal_payload(b, key, nonce, payload, payload_length(e), out_sealed, &len);
    if (err == SP_OK) {
        b->sealed = out_sealed;
        b->sealed_len = len;
    }
out:
    sodium_memzero(key, sizeof(key));
    sodium_memzero(payload, sizeof(payload));
    return err;
}

enum sp_err box_open(const struct envelope *e, const uint8_t manifest_hash[HASH_SIZE],
                     const struct box *b, const uint8_t secret[KEY_SIZE],
                     uint8_t shared_key[KEY_SIZE])
{
    uint8_t digest[HASH_SIZE];
    uint8_t key[KEY_SIZE];
    uint8_t payload[PAYLOAD_MAX];
    uint8_t text[SIGN_TEXT];
    memset(shared_key, 0, KEY_SIZE);
    enum sp_err err = box_digest(e, manifest_hash, b, digest);
    if (err == SP_OK)
        err = derive_key(b, secret, e->ephemeral_pk, digest, key);
    if (err == SP_OK)
        err = open_payload(b, key, payload, payload_length(e));
    if (err == SP_OK && e->from_user &&
        crypto_sign_verify_detached(payload + KEY_SIZE, text, put_signed(digest, text),
                                    e->sender_sign_pk) != 0)
        err = SP_ERR_AUTH;
    if (err == SP_OK)
        memcpy(shared_key, payload, KEY_SIZE);
    sodium_memzero(key, sizeof(key));
    sodium_memzero(payload, sizeof(payload));
    return err;
}

/* Ed25519 signs a text in one piece, so the list is laid out whole. free() by the caller. */
static enum sp_err put_list(const uint8_t *digests, uint32_t n, uint8_t **text, size_t *len)
{
    static const char label[] = "sealpost/1 recipient list";
    *text = NULL;
    *len = 0;
    if (n > RECIPIENTS_MAX)
        return SP_ERR_LIMIT;
    size_t cap = 2 + sizeof(label) - 1 + 4 + (size_t)n * HASH_SIZE;
    *text = malloc(cap);
    if (*text == NULL)
        return SP_ERR_MEMORY;
    struct wire_out w = wire_out(*text, cap);
    wire_put_str(&w, label);
    wire_put_u32(&w, n);
    wire_put_bytes(&w, digests, (size_t)n * HASH_SIZE);
    *len = w.len;
    return SP_OK;
}

enum sp_err recipients_sign(const uint8_t sign_sk[64], const uint8_t *digests, uint32_t n,
                            uint8_t signature[SIGN_SIZE])
{
    uint8_t *text;
    size_t len;
    memset(signature, 0, SIGN_SIZE);
    enum sp_err err = put_list(digests, n, &text, &len);
    if (err == SP_OK && crypto_sign_detached(signature, NULL, text, len, sign_sk) != 0)
        err = SP_ERR_CRYPTO;
    free(text);
    return err;
}

enum sp_err recipients_verify(const uint8_t sign_pk[KEY_SIZE], const uint8_t *digests, uint32_t n,
                              const uint8_t signature[SIGN_SIZE])
{
    uint8_t *text;
    size_t len;
    enum sp_err err = put_list(digests, n, &text, &len);
    if (err == SP_OK && crypto_sign_verify_detached(signature, text, len, sign_pk) != 0)
        err = SP_ERR_AUTH;
    free(text);
    return err;
}
