/* Wrapping and unwrapping (vault.h). The store asks, and may have been taken over: it gets secrets
 * out in no way, and what it holds opens only as what it was. Clients wrote what is sealed. */
#include "daemon/keeper/vault.h"
#include "daemon/keeper/boxkey.h"
#include "daemon/role.h"
#include "envelope/wire.h"
#include "sandbox/lockmem.h"
#include "storage/slots.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define NONCE          crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define PURPOSE_SECRET "sealpost/1 slot secret"
#define PURPOSE_BOX    "sealpost/1 slot box"
#define AD_MAX         (2u + sizeof(PURPOSE_SECRET) + 1u + 2u * ID_SIZE + 4u)

_Static_assert(VAULT_OVERHEAD == NONCE + crypto_aead_xchacha20poly1305_ietf_ABYTES, "wrapped");

struct locked {
    struct boxkey key;
    uint8_t slot_key[KEY_SIZE];
    uint8_t secret[KEY_SIZE];
};

struct vault {
    struct slots *slots;
    struct locked *locked;
};

static enum sp_err load(struct vault *v, int key_fd, int slots_fd)
{
    void *at;
    errno = 0;
    enum sp_err err = lockmem_alloc(sizeof(*v->locked), &at);
    if (err != SP_OK)
        return err;
    v->locked = at;
    err = boxkey_load(key_fd, &v->locked->key);
    if (err != SP_OK) {
        role_log("keeper.key: %s%s; put back a copy of it, or, if there is none, move it aside "
                 "and put an empty file there for a new key: clients then send nothing to "
                 "recipients outside until their users have accepted it",
                 err == SP_ERR_FORMAT ? "is damaged" : "cannot be used: ",
                 err == SP_ERR_FORMAT ? "" : strerror(errno));
        return err;
    }
    err = slots_open(slots_fd, &v->slots);
    if (err != SP_OK)
        role_log("slots: %s%s; move it aside to go on without it: mail that waits to be sent, and "
                 "links, can then be opened by nobody any more",
                 err == SP_ERR_FORMAT ? "is not a whole slots file" : "cannot be used: ",
                 err == SP_ERR_FORMAT ? "" : strerror(errno));
    return err;
}

enum sp_err vault_open(int key_fd, int slots_fd, struct vault **out)
{
    *out = NULL;
    struct vault *v = calloc(1, sizeof(*v));
    if (v == NULL)
        return SP_ERR_MEMORY;
    enum sp_err err = load(v, key_fd, slots_fd);
    if (err == SP_OK)
        *out = v;
    else
        vault_close(v);
    return err;
}

void vault_close(struct vault *v)
{
    if (v == NULL)
        return;
    slots_close(v->slots);
    lockmem_free(v->locked, sizeof(*v->locked));
    free(v);
}

const uint8_t *vault_public_key(const struct vault *v)
{
    return boxkey_public(&v->locked->key);
}

struct slots *vault_slots(struct vault *v)
{
    return v->slots;
}

static size_t put_ad(uint8_t ad[AD_MAX], const char *purpose, const struct vault_id *id,
                     uint32_t slot)
{
    struct wire_out out = wire_out(ad, AD_MAX);
    wire_put_str(&out, purpose);
    wire_put_u8(&out, id->kind);
    wire_put_bytes(&out, id->message_id, ID_SIZE);
    wire_put_bytes(&out, id->recipient_id, ID_SIZE);
    wire_put_u32(&out, slot);
    return out.len;
}

/* Under a slot of its own, which is taken for it. */
static enum sp_err wrap(struct vault *v, const char *purpose, const struct vault_id *id,
                        const uint8_t *bytes, size_t len, uint32_t *slot, uint8_t *out)
{
    uint8_t ad[AD_MAX];
    enum sp_err err = slots_take(v->slots, v->locked->slot_key, slot);
    if (err == SP_OK) {
        size_t ad_len = put_ad(ad, purpose, id, *slot);
        randombytes_buf(out, NONCE);
        crypto_aead_xchacha20poly1305_ietf_encrypt(out + NONCE, NULL, bytes, len, ad, ad_len, NULL,
                                                   out, v->locked->slot_key);
    }
    lockmem_wipe(v->locked->slot_key, KEY_SIZE);
    return err;
}

static enum sp_err unwrap(struct vault *v, const char *purpose, const struct vault_id *id,
                          uint32_t slot, const uint8_t *wrapped, size_t len, uint8_t *out)
{
    uint8_t ad[AD_MAX];
    if (len < VAULT_OVERHEAD)
        return SP_ERR_AUTH;
    enum sp_err err = slots_read(v->slots, slot, v->locked->slot_key);
    size_t ad_len = put_ad(ad, purpose, id, slot);
    if (err == SP_OK &&
        crypto_aead_xchacha20poly1305_ietf_decrypt(out, NULL, NULL, wrapped + NONCE, len - NONCE,
                                                   ad, ad_len, wrapped, v->locked->slot_key) != 0)
        err = SP_ERR_AUTH;
    lockmem_wipe(v->locked->slot_key, KEY_SIZE);
    return err;
}

enum sp_err vault_take(struct vault *v, const struct vault_id *id, const uint8_t *sealed,
                       size_t sealed_len, uint32_t *slot, uint8_t wrapped[VAULT_SECRET])
{
    const struct boxkey *key = &v->locked->key;
    *slot = 0;
    enum sp_err err = keys_secret_open(boxkey_public(key), boxkey_private(key), sealed, sealed_len,
                                       id->kind, id->recipient_id, v->locked->secret);
    if (err == SP_OK)
        err = wrap(v, PURPOSE_SECRET, id, v->locked->secret, KEY_SIZE, slot, wrapped);
    else
        err = SP_ERR_AUTH; /* which way it is not ours is nobody's business */
    vault_forget(v);
    return err;
}

enum sp_err vault_secret(struct vault *v, const struct vault_id *id, uint32_t slot,
                         const uint8_t *wrapped, size_t len, const uint8_t **secret)
{
    *secret = NULL;
    if (len != VAULT_SECRET)
        return SP_ERR_AUTH;
    enum sp_err err = unwrap(v, PURPOSE_SECRET, id, slot, wrapped, len, v->locked->secret);
    if (err == SP_OK)
        *secret = v->locked->secret;
    else
        vault_forget(v);
    return err;
}

void vault_forget(struct vault *v)
{
    lockmem_wipe(v->locked->secret, KEY_SIZE);
}

enum sp_err vault_wrap_box(struct vault *v, const struct vault_id *id, const uint8_t *box,
                           size_t len, uint32_t *slot, uint8_t *out)
{
    return wrap(v, PURPOSE_BOX, id, box, len, slot, out);
}

enum sp_err vault_unwrap_box(struct vault *v, const struct vault_id *id, uint32_t slot,
                             const uint8_t *wrapped, size_t len, uint8_t *out)
{
    return unwrap(v, PURPOSE_BOX, id, slot, wrapped, len, out);
}
