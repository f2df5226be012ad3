#ifndef SEALPOST_KEEPER_VAULT_H
#define SEALPOST_KEEPER_VAULT_H
/*
 * Secrets that await their use, at rest: each is wrapped under the key of a slot of its own
 * (storage/slots.h) and kept, as wrapped bytes, by the store. Without the slot they are noise.
 *     wrapped = nonce[24] || XChaCha20-Poly1305-IETF(slot key, nonce, bytes)
 * with the associated data
 *     b16(purpose) || u8 kind || message_id[16] || recipient_id[16] || u32 slot
 * so that wrapped bytes open only for what they were wrapped for. There are two purposes: a secret
 * (a relay key or a password, 32 bytes), and the box of a link; one never opens as the other.
 * In the clear a secret is in locked memory alone, and only from vault_secret to vault_forget.
 */
#include "envelope/envelope.h"
#include "envelope/error.h"
#include "envelope/keys.h"

#include <stddef.h>
#include <stdint.h>

struct slots;
struct vault;

/* What something wrapped belongs to. */
struct vault_id {
    uint8_t kind; /* BOX_RELAY, BOX_PASSWORD; VAULT_BOX for the box of a link */
    uint8_t message_id[ID_SIZE];
    uint8_t recipient_id[ID_SIZE]; /* of a box: link_id */
};
#define VAULT_BOX 0u

#define VAULT_OVERHEAD 40u
#define VAULT_SECRET   (KEY_SIZE + VAULT_OVERHEAD) /* bytes of a wrapped secret */

/* Both descriptors stay the caller's. What is wrong with a file is logged. */
enum sp_err vault_open(int key_fd, int slots_fd, struct vault **out);
void vault_close(struct vault *v);
const uint8_t *vault_public_key(const struct vault *v);
struct slots *vault_slots(struct vault *v);

/* Opens what a client sealed for this appliance and wraps it. SP_ERR_AUTH: it is not for this key,
 * or names another kind or recipient; SP_ERR_NO_SPACE. Durable after slots_sync. */
enum sp_err vault_take(struct vault *v, const struct vault_id *id, const uint8_t *sealed,
                       size_t sealed_len, uint32_t *slot, uint8_t wrapped[VAULT_SECRET]);
/* The secret, until vault_forget. SP_ERR_NOT_FOUND: the slot was erased; SP_ERR_AUTH: this was not
 * wrapped in this slot for this id. */
enum sp_err vault_secret(struct vault *v, const struct vault_id *id, uint32_t slot,
                         const uint8_t *wrapped, size_t len, const uint8_t **secret);
void vault_forget(struct vault *v);

/* Boxes of links; out holds len + VAULT_OVERHEAD bytes, or len - VAULT_OVERHEAD. Errors likewise.
 */
enum sp_err vault_wrap_box(struct vault *v, const struct vault_id *id, const uint8_t *box,
                           size_t len, uint32_t *slot, uint8_t *out);
enum sp_err vault_unwrap_box(struct vault *v, const struct vault_id *id, uint32_t slot,
                             const uint8_t *wrapped, size_t len, uint8_t *out);

#endif
