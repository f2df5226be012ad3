#ifndef SEALPOST_ENVELOPE_H
#define SEALPOST_ENVELOPE_H
/* Envelope, box, digest, payload and signatures (FORMAT.md 4.3 to 4.6). Decoded structs lead into
 * the decoded bytes; nothing is allocated. */
#include "envelope/cake.h"
#include "envelope/error.h"
#include "envelope/keys.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENVELOPE_SUITE_X25519 1u
#define ENVELOPE_MAX_PIECES   256u

struct envelope {
    uint8_t suite;
    uint8_t message_id[ID_SIZE];
    uint8_t ephemeral_pk[KEY_SIZE];
    bool from_user; /* the two fields below are there; else the appliance sealed it */
    uint8_t sender_user_id[ID_SIZE];
    uint8_t sender_sign_pk[KEY_SIZE];
    uint8_t bcc_commitment[HASH_SIZE];
    uint32_t n_pieces;
    /* Ciphertext bytes: each a length that Cake has. No digest covers them: they size a download,
     * and the manifest's hash and length decide. */
    uint64_t piece_length[ENVELOPE_MAX_PIECES];
    const uint8_t *manifest; /* ciphertext */
    size_t manifest_len;
};

enum box_kind { BOX_USER = 1, BOX_RELAY = 2, BOX_PASSWORD = 3 };

struct box {
    uint8_t kind;
    uint8_t recipient_id[ID_SIZE];
    uint32_t puk_generation;
    uint8_t recipient_pk[KEY_SIZE]; /* kinds 1 and 2 */
    uint64_t expiry;                /* kind 3: Unix seconds */
    const uint8_t *sealed;
    size_t sealed_len;
};

#define BOX_MAX_SEALED 256u /* bytes of `sealed`, whatever the kind */
#define BOX_MAX        512u /* bytes of a whole encoded box */
#define BOX_NONCE      24u
#define RECIPIENTS_MAX 65536u /* in one recipient list */

/* Bytes of an encoded envelope with n pieces and a manifest ciphertext of m bytes, sender or not:
 * at most this. */
#define ENVELOPE_SIZE(n, m) (148u + 8u * (size_t)(n) + (size_t)(m))

enum sp_err envelope_encode(const struct envelope *e, uint8_t *out, size_t cap, size_t *len);
enum sp_err envelope_decode(const uint8_t *bytes, size_t len, struct envelope *e);
enum sp_err box_encode(const struct box *b, uint8_t *out, size_t cap, size_t *len);
enum sp_err box_decode(const uint8_t *bytes, size_t len, struct box *b);

/* bcc_commitment (4.3). */
enum sp_err envelope_commit_bcc(const uint8_t commitment_key[KEY_SIZE], const char *bcc_header,
                                size_t len, uint8_t out[HASH_SIZE]);

/* SHA256(manifest_ciphertext), which every digest of a message needs: computed once. */
enum sp_err envelope_manifest_hash(const struct envelope *e, uint8_t out[HASH_SIZE]);
/* Recipient-associated digest (4.5) from the fields but `sealed`. */
enum sp_err box_digest(const struct envelope *e, const uint8_t manifest_hash[HASH_SIZE],
                       const struct box *b, uint8_t out[HASH_SIZE]);

/* Seals the payload for b, whose other fields are set: out_sealed holds BOX_MAX_SEALED bytes and
 * becomes b->sealed. secret: kinds 1 and 2 ephemeral_sk, kind 3 the password. sign_sk: the sender's
 * Ed25519 secret key (64 bytes, libsodium's form), or NULL when the appliance seals; SP_ERR_STATE
 * or SP_ERR_AUTH if that is not what the envelope says. nonce NULL: random. SP_ERR_AUTH, too, for a
 * recipient_pk of small order. */
enum sp_err box_seal(const struct envelope *e, const uint8_t manifest_hash[HASH_SIZE],
                     struct box *b, const uint8_t secret[KEY_SIZE],
                     const uint8_t shared_key[KEY_SIZE], const uint8_t *sign_sk,
                     const uint8_t *nonce, uint8_t *out_sealed);
/* Opens it and verifies the signature if the envelope has a sender. secret: kinds 1 and 2 the
 * recipient's private key, kind 3 the password. shared_key is wiped on failure. Whether
 * sender_sign_pk is on the sender's sigchain is the caller's to check, first. */
enum sp_err box_open(const struct envelope *e, const uint8_t manifest_hash[HASH_SIZE],
                     const struct box *b, const uint8_t secret[KEY_SIZE],
                     uint8_t shared_key[KEY_SIZE]);

/* Recipient list (4.6): n digests of HASH_SIZE bytes one after the other. */
enum sp_err recipients_sign(const uint8_t sign_sk[64], const uint8_t *digests, uint32_t n,
                            uint8_t signature[SIGN_SIZE]);
enum sp_err recipients_verify(const uint8_t sign_pk[KEY_SIZE], const uint8_t *digests, uint32_t n,
                              const uint8_t signature[SIGN_SIZE]);
#endif
