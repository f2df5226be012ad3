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
 * Pointers that reads hand out are good until the next call into the store; so what is called
 * during a walk does not call the store, unless the walk says that it may. One thread. Addresses
 * are C strings, as store_address() leaves them.
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
#define STORE_MAX_NAMES   350u /* addresses of one user: all of them fit into a delivery's job */

struct store;

/* Opens (or makes) the store under the directory dir; SP_ERR_STATE: another process has it open;
 * SP_ERR_CONFIG: its layout is that of another version. Opens no file later. Remains of uploads
 * that were under way are swept by store_sweep. */
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
    uint64_t drafts, jobs, secrets, links;
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
    uint8_t code_hash[HASH_SIZE]; /* of the last invitation; all zero: from before it was kept */
    uint64_t code_expiry_ms;
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
 * many users reached; or, with *bad n, one of them has STORE_MAX_NAMES addresses. Needs a commit.
 */
enum sp_err store_alias_add(struct store *s, const char *alias, const char *const *targets,
                            size_t n, size_t *bad);
/* SP_ERR_DENIED: another alias leads to it. Needs a commit. */
enum sp_err store_alias_remove(struct store *s, const char *alias, char other[STORE_MAX_ADDRESS]);
enum sp_err store_aliases_each(struct store *s,
                               enum sp_err (*each)(void *ctx, const char *alias,
                                                   const char *targets /* with ", " between */),
                               void *ctx);
/* Every address of this user's own: his, and each alias that reaches him, as C strings; each ends
 * the walk with another result than SP_OK. */
enum sp_err store_user_names(struct store *s, uint64_t user,
                             enum sp_err (*each)(void *ctx, const char *address), void *ctx);
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
    bool sent; /* the sender's own */
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

/* --- Drafts: uploads of clients, kept across restarts until they are sent or their time is over
 * ---
 */

struct store_draft {
    uint64_t no; /* of the message that it becomes */
    uint16_t pieces;
    uint64_t length[STORE_MAX_PIECES]; /* as the client declared it: no piece grows beyond */
    uint64_t there[STORE_MAX_PIECES];
};

struct store_draft_limits {
    size_t drafts;  /* of one user, open at a time */
    uint64_t bytes; /* declared in all of them */
};

/* SP_ERR_LIMIT: over the limits; SP_ERR_FORMAT: no piece, too many, or one without bytes. */
enum sp_err store_draft_begin(struct store *s, uint64_t user, const uint8_t id[ID_SIZE],
                              const uint64_t *length, size_t pieces, uint64_t until_ms,
                              const struct store_draft_limits *limits);
/* As the open group has it. SP_ERR_NOT_FOUND. */
enum sp_err store_draft_get(struct store *s, uint64_t user, const uint8_t id[ID_SIZE],
                            struct store_draft *out);
/* Appends to a piece. SP_ERR_STATE: offset is not what is there; SP_ERR_LIMIT: over the declared
 * length; SP_ERR_NOT_FOUND: no such draft or piece. Durable with the group. */
enum sp_err store_draft_append(struct store *s, uint64_t user, const uint8_t id[ID_SIZE],
                               uint16_t piece, uint64_t offset, const void *bytes, size_t len);
enum sp_err store_draft_drop(struct store *s, uint64_t user, const uint8_t id[ID_SIZE]);

/* --- Mail going out --- */

#define STORE_JOB_RECIPIENTS                                                                       \
    100u                       /* of one job at most: what every server takes (RFC 5321 4.5.3.1) */
#define STORE_ANSWER      512u /* text of an answer, with NUL */
#define STORE_WRAPPED_MAX 768u
#define STORE_LINKS       100u /* of one mail */

/* What became of one recipient. */
enum store_delivery {
    DELIVERY_QUEUED,
    DELIVERY_SENT, /* to a user: in the mailbox; outside: the other server has answered for it */
    DELIVERY_DEFERRED,
    DELIVERY_FAILED,
    DELIVERY_REVOKED,
    DELIVERY_EXPIRED
};

/* What the keeper wrapped of one box: opens with the key in that slot alone. n numbers those of a
 * message: 0 the key of its relay box, 2k + 1 the password of its k-th link, 2k + 2 that link's
 * box, which is kept as a secret too, so that it is gone when its slot is. */
struct store_secret {
    uint16_t n;
    uint8_t kind; /* of its box; 0: the box itself */
    uint8_t message_id[ID_SIZE], recipient_id[ID_SIZE];
    uint32_t slot;
    uint64_t received_ms;
    uint8_t wrapped[STORE_WRAPPED_MAX];
    size_t wrapped_len;
    const uint8_t *box;
    size_t box_len;
};

struct store_text {
    const uint8_t *bytes;
    size_t len;
};

/* One recipient outside of a mail that is being sent. */
struct store_outsider {
    struct store_text address;
    const uint8_t *order; /* SIGN_SIZE bytes: envelope/order.h */
};

/* One link of a mail that is being sent. */
struct store_link_new {
    struct store_text address, subject; /* who gets it; subject of the notification, may be empty */
    const uint8_t *order;               /* HASH_SIZE bytes: envelope/order.h */
    const uint8_t *gate_hash;           /* HASH_SIZE bytes: SHA-256 of the gate (FORMAT.md 6) */
    uint8_t digest[HASH_SIZE];          /* recipient-associated digest of its box */
    uint64_t expires_ms;
    const struct store_secret *password, *box; /* both have the link's id as recipient_id */
};

/* One mail of a user. Its pieces are those of the draft, which ends with it. */
struct store_outgoing {
    uint64_t user;
    uint8_t draft[ID_SIZE];
    struct store_message message;         /* the sender's own box has sent set; received_ms: now */
    struct store_text copy;               /* the sent copy */
    const char *mail_from;                /* as it stands in the form: orders cover it */
    const char *const *user_address;      /* of each box, for the status */
    const struct store_outsider *outside; /* sorted by domain */
    size_t n_outside;
    uint8_t report_pk[KEY_SIZE];       /* the sender's PUK, as orders have it */
    const struct store_secret *secret; /* of the relay box; NULL: there is none */
    const struct store_link_new *link;
    size_t n_links;
};

/* How much one user sent in the day that began with the first of it. */
struct store_usage {
    uint64_t day_ms;
    uint64_t messages, bytes;
};
enum sp_err store_usage(struct store *s, uint64_t user, uint64_t now_ms, struct store_usage *out);

/* Delivers to the users, queues jobs (one per destination domain and STORE_JOB_RECIPIENTS), keeps
 * the secret, the sent copy and the status, and counts the user's day, all in one group. As
 * store_upload_deliver, and: SP_ERR_EXISTS, the user has sent a message with that id;
 * SP_ERR_STATE, too, for a draft that is not complete. *no names the message to store_jobs_each. */
enum sp_err store_send(struct store *s, const struct store_outgoing *o, uint64_t *no);

struct store_sent {
    uint64_t no, sent_ms;
    uint16_t recipients;
    size_t copy_len; /* 0: he has deleted his own copy */
};
enum sp_err store_sent(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE],
                       struct store_sent *out);
/* Up to len bytes of the sent copy from offset. */
enum sp_err store_sent_copy(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE],
                            size_t offset, uint8_t *out, size_t len, size_t *got);

struct store_recipient {
    uint16_t index;
    uint8_t kind; /* of its box */
    enum store_delivery state;
    uint64_t since_ms, next_ms; /* next_ms 0: nothing more comes */
    uint32_t attempts;
    struct store_text address, text; /* good until the next call into the store */
    struct store_text order;         /* the same; empty: a user's */
    uint64_t expires_ms, opened_ms;  /* links; 0: never */
    uint32_t visits;
};
/* In the order in which they were given: users, then outside. */
enum sp_err store_recipients_each(struct store *s, uint64_t no,
                                  enum sp_err (*each)(void *ctx, const struct store_recipient *r),
                                  void *ctx);

/* --- The queue: jobs, one message for one destination each --- */

/* Why a job's mail is not opened any more; what is open of it then fails with a report. */
enum store_closed { CLOSED_NOT, CLOSED_DROPPED, CLOSED_CRASHES, CLOSED_LOST, CLOSED_LATE };

struct store_job {
    uint64_t no; /* message */
    uint16_t job;
    uint64_t user;
    uint8_t message_id[ID_SIZE];
    uint64_t queued_ms, next_ms;
    uint32_t attempts;
    uint8_t crashes;
    enum store_closed closed;
    uint16_t secret; /* the n of what its delivery needs */
    uint8_t report_pk[KEY_SIZE];
    char destination[STORE_MAX_ADDRESS], mail_from[STORE_MAX_ADDRESS], answer[STORE_ANSWER];
    uint16_t n, recipient[STORE_JOB_RECIPIENTS]; /* indexes, ended ones among them */
};

/* What a delivery reports of one recipient. */
struct store_outcome {
    uint16_t index;
    enum store_delivery state; /* SENT, DEFERRED, FAILED */
    char text[STORE_ANSWER];
};

/* Reads of the queue see the open group. no 0: all jobs, by age. */
enum sp_err store_jobs_each(struct store *s, uint64_t no,
                            enum sp_err (*each)(void *ctx, const struct store_job *job), void *ctx);
enum sp_err store_job_get(struct store *s, uint64_t no, uint16_t job, struct store_job *out);
/* One recipient of a message; *open: it is neither sent nor given up. */
enum sp_err store_recipient_get(struct store *s, uint64_t no, uint16_t index,
                                struct store_recipient *out, bool *open);
/* What became of recipients of a job; those that have ended already, or were never its own, are
 * SP_ERR_STATE and nothing is written. The job ends with its last open one (*left 0). */
enum sp_err store_job_result(struct store *s, struct store_job *job, const struct store_outcome *o,
                             size_t n, uint64_t now_ms, size_t *left);
/* Writes attempts, crashes, closed, next_ms and answer as they are in *job. */
enum sp_err store_job_put(struct store *s, const struct store_job *job);
/* Takes back what is open of a job, for one address (normal form) or all (NULL). *n: so many. */
enum sp_err store_job_revoke(struct store *s, struct store_job *job, const char *address,
                             uint64_t now_ms, size_t *n, size_t *left);

/* --- Links --- */

struct store_link {
    uint8_t id[ID_SIZE], message_id[ID_SIZE];
    uint64_t no, user;
    uint16_t index;  /* among the message's recipients */
    uint16_t secret; /* n of its password; its box's is the next */
    uint64_t created_ms, expires_ms;
    enum store_delivery ended; /* DELIVERY_QUEUED: it is live; REVOKED or EXPIRED: its box is being
                                  erased */
    uint8_t gate_hash[HASH_SIZE], digest[HASH_SIZE];
    struct store_text subject;    /* good until the next call into the store */
    char from[STORE_MAX_ADDRESS]; /* that its mail was sent from; empty: it is not known */
};

/* SP_ERR_NOT_FOUND. As the open group has it; the caller compares with the clock. */
enum sp_err store_link_get(struct store *s, const uint8_t id[ID_SIZE], struct store_link *out);
/* By id; each may read the store itself. */
enum sp_err store_links_each(struct store *s,
                             enum sp_err (*each)(void *ctx, const struct store_link *link),
                             void *ctx);
/* Counts a proof of holding the link. Needs a commit that nobody has to wait for. */
enum sp_err store_link_visit(struct store *s, const struct store_link *link, uint64_t now_ms);
/* Ends it (state: REVOKED or EXPIRED) and its notification, if that is still to be sent. What is
 * left is to erase its slots. Needs a commit. SP_OK too when it had ended. */
enum sp_err store_link_end(struct store *s, const uint8_t id[ID_SIZE], enum store_delivery state,
                           uint64_t now_ms);
/* Its box is erased: nothing is left of it but the status. Needs a commit. */
enum sp_err store_link_delete(struct store *s, const uint8_t id[ID_SIZE]);
/* When the time of the next link, draft or status is over; UINT64_MAX: none. */
enum sp_err store_timer_next(struct store *s, uint64_t *at_ms);
/* Ids of a message's links whose boxes are not erased, up to max of them. */
enum sp_err store_message_links(struct store *s, uint64_t no, uint8_t (*id)[ID_SIZE], size_t max,
                                size_t *n);
/* The latest time that was noted: a clock that is set back brings no link back. */
enum sp_err store_clock_get(struct store *s, uint64_t *ms);
enum sp_err store_clock_put(struct store *s, uint64_t ms);

/* A secret of a message. *needed: a job that is not closed may still ask for it; of a link's box:
 * the link is live. wrapped and box: as in a read. */
enum sp_err store_secret_get(struct store *s, uint64_t no, uint16_t n, struct store_secret *out,
                             bool *needed);
enum sp_err store_secrets_each(struct store *s,
                               enum sp_err (*each)(void *ctx, uint64_t no,
                                                   const struct store_secret *secret, bool needed),
                               void *ctx);
/* Once its slot is erased. SP_OK too when there was none. */
enum sp_err store_secret_delete(struct store *s, uint64_t no, uint16_t n);

/* For a delivery: the envelope, and bytes of a piece, of a message in the queue. */
enum sp_err store_queued_envelope(struct store *s, uint64_t no, const uint8_t **envelope,
                                  size_t *len);
enum sp_err store_queued_read(struct store *s, uint64_t no, uint16_t piece, uint64_t offset,
                              uint8_t *out, size_t len, size_t *got, uint64_t *total);

/* Ends drafts, statuses and links whose time is over, up to budget of them, in the open group; link
 * (may be NULL) is called for each link. */
enum sp_err store_expire(struct store *s, uint64_t now_ms, unsigned budget, bool *more,
                         void (*link)(void *ctx, const struct store_link *link), void *ctx);

/* --- Mailboxes --- */

struct store_entry {
    uint64_t seq;
    uint8_t message_id[ID_SIZE];
    uint64_t received_ms;
    uint64_t bytes; /* ciphertext of all pieces, the envelope and the box */
    uint16_t pieces;
    uint32_t generation;
    bool sent; /* this user sent it */
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
/* Out of this mailbox; the pieces go with the last one, or when the queue needs them no more. The
 * status of mail that he sent stays until status_until_ms. Needs a commit. */
enum sp_err store_delete(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE],
                         uint64_t status_until_ms);

#endif
