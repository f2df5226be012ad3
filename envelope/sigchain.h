#ifndef SEALPOST_SIGCHAIN_H
#define SEALPOST_SIGCHAIN_H
/*
 * A user's public key history (FORMAT.md section 8). A struct sigchain is the state after the links
 * that were accepted so far; applying one more either succeeds or leaves the state as it was.
 */
#include "envelope/error.h"
#include "envelope/keys.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIGCHAIN_MAX_DEVICES 64u
#define SIGCHAIN_MAX_WIRE    2048u
#define SIGCHAIN_FINGERPRINT 40u /* "ABCD EFGH ..." with NUL */

enum sigchain_type { CHAIN_ROOT = 1, CHAIN_ADD_DEVICE, CHAIN_REVOKE_DEVICE, CHAIN_ROTATE };

struct chain_device {
    uint8_t id[ID_SIZE];
    uint8_t sign_pk[KEY_SIZE];
    uint8_t box_pk[KEY_SIZE];
    bool revoked;
};

struct sigchain {
    uint8_t user_id[ID_SIZE];
    uint32_t seq;            /* of the newest link; 0: none yet */
    uint8_t head[HASH_SIZE]; /* SHA-256 of the newest wire */
    uint64_t time_ms;
    uint32_t puk_generation;
    uint8_t puk_pk[KEY_SIZE]; /* newest */
    char address[256];        /* NUL-terminated, from the root */
    uint32_t n_devices;
    struct chain_device device[SIGCHAIN_MAX_DEVICES];
};

void sigchain_init(struct sigchain *c);
/* Bytes of the first wire in a row of them, to walk it; SP_ERR_FORMAT. */
enum sp_err sigchain_next(const uint8_t *bytes, size_t len, size_t *wire_len);
/* Verifies one wire on top of c and takes it in. SP_ERR_AUTH: signature, prev_hash; SP_ERR_STATE:
 * seq or generation; SP_ERR_DENIED: signer unknown or revoked; SP_ERR_EXISTS: the new device's id
 * or key is on the chain already; SP_ERR_NOT_FOUND: no such device to revoke; SP_ERR_FORMAT;
 * SP_ERR_LIMIT. */
enum sp_err sigchain_apply(struct sigchain *c, const uint8_t *wire, size_t len);
/* The same for a row of wires (sigchain_next) without their signatures: for who has verified each
 * of them once, has kept the newest one's hash, and holds c->head against it afterwards: it covers
 * all of them. On an error *c is good for nothing any more. */
enum sp_err sigchain_replay(struct sigchain *c, const uint8_t *wires, size_t len);
/* A device by id or by signing key (revoked ones too); NULL: not on the chain. */
const struct chain_device *sigchain_device(const struct sigchain *c, const uint8_t id[ID_SIZE]);
const struct chain_device *sigchain_signer(const struct sigchain *c,
                                           const uint8_t sign_pk[KEY_SIZE]);
void sigchain_fingerprint(const struct sigchain *c, char out[SIGCHAIN_FINGERPRINT]);

/* Makes the next wire; the caller applies it to its own state as a check. out: SIGCHAIN_MAX_WIRE.
 */
struct chain_signer {
    const uint8_t *device_id; /* 16 */
    const uint8_t *sign_sk;   /* 64, libsodium's form */
    uint64_t time_ms;
};
enum sp_err sigchain_make_root(const uint8_t user_id[ID_SIZE], const struct chain_signer *by,
                               const struct chain_device *device, const uint8_t puk_pk[KEY_SIZE],
                               const char *address, uint8_t *out, size_t *len);
enum sp_err sigchain_make_add(const struct sigchain *c, const struct chain_signer *by,
                              const struct chain_device *device, const uint8_t proof[SIGN_SIZE],
                              uint8_t *out, size_t *len);
enum sp_err sigchain_make_proof(const struct sigchain *c, const struct chain_device *device,
                                const uint8_t new_sign_sk[64], uint8_t proof[SIGN_SIZE]);
enum sp_err sigchain_make_revoke(const struct sigchain *c, const struct chain_signer *by,
                                 const uint8_t device_id[ID_SIZE], const uint8_t puk_pk[KEY_SIZE],
                                 uint8_t *out, size_t *len);
enum sp_err sigchain_make_rotate(const struct sigchain *c, const struct chain_signer *by,
                                 const uint8_t puk_pk[KEY_SIZE], uint8_t *out, size_t *len);
#endif
