#ifndef SEALPOST_STORE_H
#define SEALPOST_STORE_H
/*
 * What the store keeps, and the only thing other code knows of storage: users, addresses, public
 * key histories, and sealed mail. It sees ciphertext and public keys alone.
 *
 * Writes gather in one group until store_commit makes them durable together: nothing may be
 * acknowledged before that returned SP_OK. When a write fails in a way that cannot be taken back
 * alone (a full map, the disk), the whole group is dropped: every further write, and then
 * store_commit, returns that error, and after it a new group begins. Reads see what was committed.
 *
 * Pointers that reads hand out are good until the next call into the store. One thread.
 * Addresses are C strings, as store_address() leaves them.
 */
#include "envelope/error.h"
#include "envelope/keys.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_MAX_PIECES  256u
#define STORE_MAX_BOXES   1024u
#define STORE_MAX_ADDRESS 256u /* bytes, with NUL */
#define STORE_MAX_TARGETS 256u /* users that one address may reach */
#define STORE_CODE_TRIES  10u

struct store;

/* Opens (or makes) the store under the directory dir; SP_ERR_STATE: another process has it open;
 * SP_ERR_CONFIG: it was made by a newer version. Opens no file later. Remains of uploads that were
 * under way are swept by store_sweep. */
enum sp_err store_open(const char *dir, uint64_t map_size, struct store **out);
/* Drops what was not committed. NULL is ignored. */
void store_close(struct store *s);

/* Makes the group durable. SP_OK with nothing written is free. */
enum sp_err store_commit(struct store *s);
/* Bytes that wait for store_commit (roughly what it will write); UINT64_MAX when the group is lost.
 */
uint64_t store_pending(const struct store *s);
/* Whether a message may be taken in at all: the reserve for deleting is untouched. */
bool store_has_room(struct store *s);
/* Frees up to budget blocks of mail that nobody owns any more, in the open group. *more: some are
 * left. */
enum sp_err store_sweep(struct store *s, unsigned budget, bool *more);

struct store_totals {
    uint64_t users, messages, bytes; /* bytes of ciphertext */
    uint64_t map_used, map_size;
};
enum sp_err store_totals(struct store *s, struct store_totals *out);

/* --- Addresses (storage/address.c) --- */

/* Normal form: all ASCII letters lower-cased (local parts are compared without case: our decision,
 * RFC 5321 2.4 leaves it to the receiver), the domain in ASCII (daemon/domain.h). SP_ERR_FORMAT: no
 * local@domain, or a control in it; SP_ERR_LIMIT. bare: allow "postmaster" without a domain (RFC
 * 5321 4.5.1). */
enum sp_err store_address(const void *text, size_t len, bool bare, char out[STORE_MAX_ADDRESS]);
/* The address without its "+tag"; false if it has none. */
bool store_address_base(const char *address, char out[STORE_MAX_ADDRESS]);
/* The part behind the last '@'. */
const char *store_address_domain(const char *address);

/* --- Users --- */

enum store_user_state { USER_INVITED = 1, USER_ENROLLED, USER_REMOVED };

struct store_user {
    uint64_t no; /* internal, never used again */
    enum store_user_state state;
    uint8_t user_id[ID_SIZE]; /* this and the rest below: once enrolled */
    uint32_t chain_seq, generation, devices;
    uint8_t puk_pk[KEY_SIZE];
    uint8_t head[HASH_SIZE];
    uint8_t code_hash[HASH_SIZE]; /* until enrolled */
    uint64_t code_expiry_ms;
    uint8_t code_tries;
    char address[STORE_MAX_ADDRESS];
};

struct store_mailbox {
    uint64_t messages, bytes;
};

/* Invites: a new user, or a new code for one who has not enrolled (the old code is void). Needs a
 * commit. SP_ERR_EXISTS: enrolled already, or an alias. */
enum sp_err store_user_add(struct store *s, const char *address, const uint8_t code_hash[HASH_SIZE],
                           uint64_t expiry_ms);
enum sp_err store_user_by_address(struct store *s, const char *address, struct store_user *out);
enum sp_err store_user_by_id(struct store *s, const uint8_t user_id[ID_SIZE],
                             struct store_user *out);
enum sp_err store_user_by_no(struct store *s, uint64_t no, struct store_user *out);
/* Counts a wrong code; *tries: how many there were. Needs a commit. */
enum sp_err store_user_wrong_code(struct store *s, uint64_t no, uint8_t *tries);
/* Appends a verified wire to the user's chain; the fields of user beside no, state and address
 * become what they are in *user; the first wire enrols (SP_ERR_EXISTS: the user_id is taken).
 * SP_ERR_STATE: chain_seq does not follow. Needs a commit. */
enum sp_err store_chain_add(struct store *s, const struct store_user *user, const uint8_t *wire,
                            size_t len);
/* Wires above after_seq, oldest first, back to back, as many as fit into cap. *more: some did not
 * fit. */
enum sp_err store_chain_get(struct store *s, uint64_t no, uint32_t after_seq, uint8_t *out,
                            size_t cap, size_t *len, bool *more);
/* Removes the user at once and the mail behind his back (store_sweep). SP_ERR_DENIED: an alias
 * leads to him, which is in alias (may be NULL). Needs a commit. */
enum sp_err store_user_remove(struct store *s, const char *address, char alias[STORE_MAX_ADDRESS]);
/* In the order in which they were added; each ends the walk with another result than SP_OK. */
enum sp_err store_users_each(struct store *s,
                             enum sp_err (*each)(void *ctx, const struct store_user *user,
                                                 const struct store_mailbox *box),
                             void *ctx);

/* --- Aliases --- */

/* Targets are addresses of users or of other aliases, and must be there; so no loop can come about.
 * SP_ERR_EXISTS: taken; SP_ERR_NOT_FOUND: *bad is the target that is not there; SP_ERR_LIMIT: too
 * many users reached. Needs a commit. */
enum sp_err store_alias_add(struct store *s, const char *alias, const char *const *targets,
                            size_t n, size_t *bad);
/* SP_ERR_DENIED: another alias leads to it. Needs a commit. */
enum sp_err store_alias_remove(struct store *s, const char *alias, char other[STORE_MAX_ADDRESS]);
enum sp_err store_aliases_each(struct store *s,
                               enum sp_err (*each)(void *ctx, const char *alias,
                                                   const char *targets /* with ", " between */),
                               void *ctx);
/* Every user that mail for this address reaches, each once. An unknown address falls back to the
 * one without "+tag"; "postmaster" that nobody has, to the first user that was added (RFC
 * 5321 4.5.1 demands that somebody gets it). SP_ERR_NOT_FOUND, SP_ERR_LIMIT. */
enum sp_err store_resolve(struct store *s, const char *address, struct store_user *out, size_t max,
                          size_t *n);

/* --- Mail coming in --- */

struct store_upload;

struct store_box {
    uint8_t user_id[ID_SIZE];
    uint32_t generation;
    const uint8_t *bytes;
    size_t len;
};

struct store_message {
    uint8_t message_id[ID_SIZE];
    uint64_t received_ms;
    uint16_t pieces;
    const uint8_t *envelope;
    size_t envelope_len;
    const struct store_box *box;
    size_t boxes;
};

enum sp_err store_upload_begin(struct store *s, struct store_upload **out);
/* Appends to a piece. SP_ERR_NO_SPACE and others are final for this upload. */
enum sp_err store_upload_append(struct store_upload *u, uint16_t piece, const void *bytes,
                                size_t len);
/* SP_OK, or the first thing that went wrong with it, losing a group included. */
enum sp_err store_upload_status(const struct store_upload *u);
/* Bytes of a piece so far. */
uint64_t store_upload_length(const struct store_upload *u, uint16_t piece);
/* Puts the message into the mailboxes; kept once for all. Ends the upload in any case. Users that
 * were removed meanwhile are passed over; SP_ERR_NOT_FOUND: none is left. SP_ERR_STATE: a box is
 * for another PUK than the user's newest. SP_ERR_EXISTS: a mailbox has that message_id. Durable,
 * and visible, after store_commit. */
enum sp_err store_upload_deliver(struct store_upload *u, const struct store_message *m);
/* Drops it. NULL is ignored. */
void store_upload_abort(struct store_upload *u);

/* --- Mail going out --- */

/* What became of one recipient. */
enum store_delivery {
    DELIVERY_QUEUED,
    DELIVERY_SENT, /* to a user: in the mailbox; outside: the other server has answered for it */
    DELIVERY_DEFERRED,
    DELIVERY_FAILED,
    DELIVERY_REVOKED,
    DELIVERY_EXPIRED
};

/* --- Mailboxes --- */

struct store_entry {
    uint64_t seq;
    uint8_t message_id[ID_SIZE];
    uint64_t received_ms;
    uint64_t bytes; /* ciphertext of all pieces, the envelope and the box */
    uint16_t pieces;
    uint32_t generation;
};

enum sp_err store_list(struct store *s, uint64_t user, uint64_t after, struct store_entry *out,
                       size_t max, size_t *n);
/* Envelope and box where they stand. */
enum sp_err store_fetch(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE],
                        const uint8_t **envelope, size_t *envelope_len, const uint8_t **box,
                        size_t *box_len);
/* Up to len bytes of a piece from offset; *total: its length. SP_ERR_LIMIT: offset beyond the end.
 */
enum sp_err store_read(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE],
                       uint16_t piece, uint64_t offset, uint8_t *out, size_t len, size_t *got,
                       uint64_t *total);
/* Out of this mailbox; the pieces go with the last one. Needs a commit. */
enum sp_err store_delete(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE]);

#endif
