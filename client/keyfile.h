#ifndef SEALPOST_CLIENT_KEYFILE_H
#define SEALPOST_CLIENT_KEYFILE_H
/*
 * The user's secrets, and the one file that holds them:
 *
 *   "SPKF" u8 version=1 u8 flags (1: there is a passphrase) u64 opslimit u64 memlimit salt[16]
 * nonce[24]
 *   || XChaCha20-Poly1305-IETF(key, nonce, secrets, associated data: all bytes before)
 *   key     = Argon2id(passphrase, salt, opslimit, memlimit)
 *   secrets = "SPKR" u8 version=1 user_id[16] device_id[16] sign_sk[64] box_sk[32]
 *             u32 n, then n times: u32 generation u8 pending seed[32]
 */
#include "client/secret.h"
#include "client/state.h"
#include "envelope/keys.h"

#include <stdbool.h>
#include <stdint.h>

#define KEYRING_MAX_SEEDS 512u
#define SIGN_SK_SIZE      64u /* libsodium's form: seed || public key */
#define KEYFILE_SALT      16u
#define KEYFILE_NAME      "keys"

struct puk_seed {
    uint32_t generation;
    bool pending; /* made here, not yet seen on the chain */
    uint8_t seed[KEY_SIZE];
};

struct keyring {
    uint8_t user_id[ID_SIZE];
    uint8_t device_id[ID_SIZE];
    uint8_t sign_sk[SIGN_SK_SIZE];
    uint8_t box_sk[KEY_SIZE];
    uint32_t n_seeds;
    struct puk_seed seeds[KEYRING_MAX_SEEDS];

    /* How the file is sealed, so that it can be written again without asking for the passphrase. */
    bool has_passphrase;
    uint64_t opslimit;
    uint64_t memlimit;
    uint8_t salt[KEYFILE_SALT];
    uint8_t file_key[KEY_SIZE];
};

/* A keyring in locked memory with fresh ids, device keys and the pending seed of generation 1,
 * under the passphrase. Nothing is written. */
enum sp_err keyring_create(const struct passphrase *p, struct keyring **out);
/* Wipes; NULL is fine. */
void keyring_free(struct keyring *k);

const uint8_t *keyring_sign_pk(const struct keyring *k);

/* Adds a pending seed for this generation, or finds the one that is there. SP_ERR_LIMIT. */
enum sp_err keyring_pending(struct keyring *k, uint32_t generation, const struct puk_seed **out);
/* Settles pending seeds of this generation against the chain's puk_pk: the one that fits is ours,
 * another is dropped. *changed: the file should be written. */
enum sp_err keyring_settle(struct keyring *k, uint32_t generation, const uint8_t puk_pk[KEY_SIZE],
                           bool *changed);
bool keyring_has(const struct keyring *k, uint32_t generation);
/* The email private key whose public key is pk. SP_ERR_NO_KEY: no seed of the generation;
 * SP_ERR_AUTH: there is one, but it is not pk's. */
enum sp_err keyring_find(const struct keyring *k, uint32_t generation, const uint8_t pk[KEY_SIZE],
                         uint8_t email_sk[KEY_SIZE]);

/* The file as bytes, encrypted: *out is the caller's to free(). */
enum sp_err keyfile_seal(const struct keyring *k, uint8_t **out, size_t *len);
/* Whether the file needs a passphrase. SP_ERR_FORMAT. */
enum sp_err keyfile_protected(const uint8_t *bytes, size_t len, bool *protected);
/* SP_ERR_AUTH: wrong passphrase, or the file was changed. */
enum sp_err keyfile_open(const uint8_t *bytes, size_t len, const struct passphrase *p,
                         struct keyring **out);

/* Writing and reading it in the state directory, asking for the passphrase if there is one; what is
 * wrong has been reported. */
enum sp_err keyfile_save(struct state *s, const struct keyring *k);
enum sp_err keyfile_load(struct state *s, struct keyring **out);

#endif
