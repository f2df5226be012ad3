#ifndef SEALPOST_KEYS_H
#define SEALPOST_KEYS_H
/* Primitives and key derivation (FORMAT.md sections 1 and 3). All keys are 32 bytes. */
#include "envelope/error.h"

#include <stddef.h>
#include <stdint.h>

#define KEY_SIZE  32u
#define ID_SIZE   16u
#define HASH_SIZE 32u
#define SIGN_SIZE 64u

/* out may be msg. The first keys_sha256 of a process loads OpenSSL's: before the cage closes. */
enum sp_err keys_hmac(const uint8_t key[KEY_SIZE], const void *msg, size_t len,
                      uint8_t out[HASH_SIZE]);
enum sp_err keys_hkdf(const uint8_t seed[KEY_SIZE], const char *info, uint8_t out[KEY_SIZE]);
enum sp_err keys_sha256(const void *msg, size_t len, uint8_t out[HASH_SIZE]);

/* SP_ERR_AUTH for a public key that gives the all-zero result. */
enum sp_err keys_x25519(const uint8_t sk[KEY_SIZE], const uint8_t pk[KEY_SIZE],
                        uint8_t out[KEY_SIZE]);
enum sp_err keys_x25519_public(const uint8_t sk[KEY_SIZE], uint8_t pk[KEY_SIZE]);

/* A PUK from its seed: the email private key, its public key, the symmetric key; any may be NULL.
 */
enum sp_err keys_puk(const uint8_t seed[KEY_SIZE], uint8_t *email_sk, uint8_t *email_pk,
                     uint8_t *symmetric);

/* PUK seed for a device (section 8, end): crypto_box_seal(device_box_pk, u32 generation || seed).
 */
#define KEYS_SEED_BOX (4u + KEY_SIZE + 48u)
enum sp_err keys_seed_seal(const uint8_t device_box_pk[KEY_SIZE], uint32_t generation,
                           const uint8_t seed[KEY_SIZE], uint8_t out[KEYS_SEED_BOX]);
enum sp_err keys_seed_open(const uint8_t device_box_pk[KEY_SIZE],
                           const uint8_t device_box_sk[KEY_SIZE], const uint8_t in[KEYS_SEED_BOX],
                           uint32_t *generation, uint8_t seed[KEY_SIZE]);

/* Secrets handed to the appliance (section 7). SP_ERR_AUTH on a mismatch of kind or recipient. */
#define KEYS_SECRET_BOX (4u + 1u + 1u + ID_SIZE + KEY_SIZE + 48u)
enum sp_err keys_secret_seal(const uint8_t keeper_pk[KEY_SIZE], uint8_t kind,
                             const uint8_t recipient_id[ID_SIZE], const uint8_t secret[KEY_SIZE],
                             uint8_t out[KEYS_SECRET_BOX]);
enum sp_err keys_secret_open(const uint8_t keeper_pk[KEY_SIZE], const uint8_t keeper_sk[KEY_SIZE],
                             const uint8_t *in, size_t len, uint8_t kind,
                             const uint8_t recipient_id[ID_SIZE], uint8_t secret[KEY_SIZE]);

/* UUID version 7 (RFC 9562 section 5.7) from Unix milliseconds; random otherwise. */
void keys_uuid7(uint64_t time_ms, uint8_t id[ID_SIZE]);
#endif
