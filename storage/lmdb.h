#ifndef SEALPOST_STORAGE_LMDB_H
#define SEALPOST_STORAGE_LMDB_H
/*
 * Inside of the LMDB backend. Numbers in keys are big-endian, so that tables sort by age and new
 * rows go to their ends.
 *
 *     meta       name                        -> u64
 *     users      user no                     -> record (lmdb_users.c)
 *     addresses  normal address              -> user no
 *     ids        user_id[16]                 -> user no
 *     aliases    normal address              -> b16 target ...
 *     chains     user no, u32 seq            -> wire
 *     counts     user no                     -> u64 next seq, u64 messages, u64 bytes
 *     mailboxes  user no, u64 seq            -> entry, box (lmdb_mailbox.c)
 *     mail_ids   user no, message_id[16]     -> u64 seq
 *     messages   message no                  -> u32 refs, u16 pieces, u64 length ..., envelope
 *     blocks     message no, u16 piece, u64 offset -> ciphertext
 *     loose      message no                  -> nothing: its blocks belong to no message
 * and for mail going out (the rows of a message in recipients live as long as its row in sent):
 *     drafts     user no, upload_id[16]      -> u64 until_ms, u64 message no, u64 length ...
 *     sent       user no, message_id[16]     -> lmdb_sent.c
 *     recipients message no, u16 index       -> lmdb_sent.c
 *     jobs       message no, u16 job         -> lmdb_jobs.c: all of them together are one ref
 *     secrets    message no, u16 n           -> lmdb_jobs.c
 *     links      link_id[16]                 -> lmdb_links.c: each is one ref of its message
 *     usage      user no                     -> u64 day_ms, u64 messages, u64 bytes
 *     timers     u64 at_ms, u8 what, user no, id[16] -> nothing: a draft or a status ends then
 */
#include "storage/store.h"
#include "envelope/wire.h"

#include <lmdb.h>
#include <sys/queue.h>

enum table {
    T_META,
    T_USERS,
    T_ADDRESSES,
    T_IDS,
    T_ALIASES,
    T_CHAINS,
    T_COUNTS,
    T_MAILBOXES,
    T_MAIL_IDS,
    T_MESSAGES,
    T_BLOCKS,
    T_LOOSE,
    T_DRAFTS,
    T_SENT,
    T_RECIPIENTS,
    T_JOBS,
    T_SECRETS,
    T_USAGE,
    T_TIMERS,
    T_LINKS,
    TABLES
};

#define MAX_KEY 300u /* of any table; LMDB's own limit is 511 */

struct store_upload {
    LIST_ENTRY(store_upload) next;
    struct store *store;
    uint64_t no;        /* message number */
    uint64_t group;     /* the last one that holds blocks of it */
    bool written;       /* there are blocks */
    uint64_t listed;    /* the group that made its row in loose, so that blocks that were committed
                           are found after a crash; 0: none */
    enum sp_err failed; /* sticky */
    uint64_t length[STORE_MAX_PIECES];
};

struct store {
    MDB_env *env;
    MDB_dbi dbi[TABLES];
    MDB_txn *read;      /* for one call into the store, then reset */
    MDB_txn *write;     /* NULL: nothing written since the last commit */
    enum sp_err failed; /* the open group is lost */
    bool spoiled;       /* failed is set */
    int lock;           /* held exclusively while the store is open */
    int data;           /* the data file, to ask for free disk space */
    uint64_t group;     /* number of the open group */
    uint64_t pending;   /* bytes put into it */
    uint64_t room;      /* pages that this group may still take, above the reserve */
    uint64_t measured;  /* group for which room was measured last */
    bool crowded;       /* the map's end is near: only single pages are sure to be found */
    uint64_t next_user, next_message;
    uint64_t
        first_seq; /* mail that comes gets no lower number, in any mailbox; 0: never restored */
    uint64_t bytes, bytes_committed; /* of ciphertext, with and without the open group */
    bool sweep;                      /* loose rows or removed users may be there */
    unsigned page;                   /* bytes */
    uint64_t map_size;
    LIST_HEAD(, store_upload) uploads;
};

/* --- lmdb.c: groups and single rows --- */

/* Big-endian key of one, or two, numbers. */
struct key {
    uint8_t bytes[MAX_KEY];
    size_t len;
};
struct key key_u64(uint64_t n);
struct key key_u64_u64(uint64_t n, uint64_t m);
struct key key_bytes(const void *bytes, size_t len);
struct key key_u64_bytes(uint64_t n, const void *bytes, size_t len);
struct key key_u64_u16(uint64_t n, uint16_t m);

/* Begins the group if none is open, or returns why it is lost. taking: refused (SP_ERR_NO_SPACE,
 * alone) when bytes do not fit above the reserve. */
enum sp_err group_open(struct store *s);
enum sp_err group_take(struct store *s, uint64_t bytes);
/* Drops the group because of an LMDB error. */
enum sp_err group_lose(struct store *s, int mdb_error);
/* A fresh snapshot of what is committed. */
enum sp_err snapshot(struct store *s, MDB_txn **txn);

/* The open group if there is one, else a fresh snapshot. */
enum sp_err current(struct store *s, MDB_txn **txn);

/* In txn, or in the open group for those that write. SP_ERR_NOT_FOUND. */
enum sp_err row_get(struct store *s, MDB_txn *txn, enum table t, const struct key *key,
                    struct wire_in *value);
enum sp_err row_put(struct store *s, enum table t, const struct key *key, const void *value,
                    size_t len);
/* Behind all others if it belongs there: fills pages to the end. */
enum sp_err row_append(struct store *s, enum table t, const struct key *key, const void *value,
                       size_t len);
/* Space to be filled before the next call. */
enum sp_err row_reserve(struct store *s, enum table t, const struct key *key, size_t len,
                        void **space);
/* SP_OK too when there was none. */
enum sp_err row_delete(struct store *s, enum table t, const struct key *key);

/* Numbers in meta; *value stays what it is where there is none. */
enum sp_err counter_get(struct store *s, MDB_txn *txn, const char *name, uint64_t *value);
enum sp_err counter_put(struct store *s, const char *name, uint64_t value);

/* --- shared by the parts --- */

enum sp_err user_get(struct store *s, MDB_txn *txn, uint64_t no, struct store_user *out);
enum sp_err user_put(struct store *s, const struct store_user *user);
/* The number of a user by id. */
enum sp_err user_no_by_id(struct store *s, MDB_txn *txn, const uint8_t user_id[ID_SIZE],
                          uint64_t *no);
/* Whether an alias names this address; its name goes to alias (or NULL). */
enum sp_err alias_naming(struct store *s, MDB_txn *txn, const char *address,
                         char alias[STORE_MAX_ADDRESS]);
struct counts {
    uint64_t next_seq, messages, bytes;
};
enum sp_err counts_get(struct store *s, MDB_txn *txn, uint64_t user, struct counts *out);
enum sp_err counts_put(struct store *s, uint64_t user, const struct counts *c);
/* A row of a mailbox, and of messages, as it stands. */
struct entry {
    uint64_t message;
    struct store_entry e;
    const uint8_t *box;
    size_t box_len;
};
struct message {
    uint32_t refs;
    uint16_t pieces;
    const uint8_t *lengths; /* u64 each */
    const uint8_t *envelope;
    size_t envelope_len;
};
#define ENTRY_SENT 1u /* flags: this user sent it */
enum sp_err entry_decode(struct wire_in in, struct entry *out);
/* One user's mail by its id: an id of somebody else's mail finds nothing. */
enum sp_err entry_find(struct store *s, MDB_txn *txn, uint64_t user,
                       const uint8_t message_id[ID_SIZE], struct entry *out);
/* row: where all of it stands. */
enum sp_err message_get(struct store *s, MDB_txn *txn, uint64_t no, struct message *m,
                        struct wire_in *row);
uint64_t message_length(const struct message *m, uint16_t piece);
/* Bytes of a piece as it stands in txn; SP_ERR_NOT_FOUND, SP_ERR_LIMIT as store_read. */
enum sp_err message_read(struct store *s, MDB_txn *txn, uint64_t no, const struct message *m,
                         uint16_t piece, uint64_t offset, uint8_t *out, size_t len, size_t *got,
                         uint64_t *total);
/* At opening: a database that came back from a backup gives out no number of a mailbox again. */
enum sp_err numbers_go_on(struct store *s);
/* Puts a message, whose blocks stand under no, into the mailboxes. others: refs beside theirs. */
enum sp_err message_deliver(struct store *s, uint64_t no, const uint64_t *length,
                            const struct store_message *m, uint32_t others);
/* One fewer needs it. */
enum sp_err message_unref(struct store *s, uint64_t no);

/* His own copy is deleted: the sent copy goes now, the status at until_ms (0: now). */
enum sp_err sent_detach(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE],
                        uint64_t until_ms);
/* A timer of a status has come. */
enum sp_err sent_expire(struct store *s, uint64_t now_ms, uint64_t user,
                        const uint8_t message_id[ID_SIZE]);
enum timer { TIMER_DRAFT = 1, TIMER_STATUS, TIMER_LINK }; /* links: user 0 */
enum sp_err timer_put(struct store *s, uint64_t at_ms, enum timer what, uint64_t user,
                      const uint8_t id[ID_SIZE]);
enum sp_err timer_delete(struct store *s, uint64_t at_ms, enum timer what, uint64_t user,
                         const uint8_t id[ID_SIZE]);
/* A draft's message number; its rows but the blocks are deleted. */
enum sp_err draft_take(struct store *s, uint64_t user, const uint8_t id[ID_SIZE], uint64_t *no);
/* Any one draft of a user is dropped; SP_ERR_NOT_FOUND: there is none. */
enum sp_err draft_drop_any(struct store *s, uint64_t user);
/* Queues jobs for the recipients from index first on. */
enum sp_err jobs_add(struct store *s, uint64_t no, const struct store_outgoing *o, uint16_t first,
                     uint16_t *next);
/* Whether the message has jobs, and such as are not closed and need its secret n. */
enum sp_err jobs_left(struct store *s, MDB_txn *txn, uint64_t no, uint16_t n, bool *any,
                      bool *needed);
/* The secret's row, and the link's. first: index of the first link among the recipients. */
enum sp_err secret_put(struct store *s, uint64_t no, const struct store_secret *secret);
enum sp_err links_add(struct store *s, uint64_t no, const struct store_outgoing *o, uint16_t first,
                      uint16_t job);
enum sp_err link_read(struct store *s, MDB_txn *txn, const uint8_t id[ID_SIZE],
                      struct store_link *out);
/* Closes a job whose recipients this state ends; *left: open ones that remain. */
enum sp_err job_end(struct store *s, struct store_job *job, const char *address,
                    enum store_delivery state, uint64_t now_ms, size_t *n, size_t *left);
enum sp_err job_write(struct store *s, const struct store_job *job);
/* The domain of an address, in A-labels. */
void job_destination(const struct store_text *address, char out[STORE_MAX_ADDRESS]);
/* The number after the last job of jobs_add goes to *next. */
enum sp_err job_read(struct store *s, MDB_txn *txn, uint64_t no, uint16_t job,
                     struct store_job *out);
enum sp_err recipient_put(struct store *s, uint64_t no, const struct store_recipient *r,
                          uint16_t job);
/* job: the one that it belongs to (kind 2 alone). */
enum sp_err recipient_get(struct store *s, MDB_txn *txn, uint64_t no, uint16_t index,
                          struct store_recipient *r, uint16_t *job);
static inline bool delivery_open(enum store_delivery state)
{
    return state == DELIVERY_QUEUED || state == DELIVERY_DEFERRED;
}

/* Deletes up to budget mails of a mailbox; *done: it is empty. */
enum sp_err mailbox_drain(struct store *s, uint64_t user, unsigned budget, bool *done);
/* Deletes up to *budget blocks of a message number, and takes them off it; *done: none is left. */
enum sp_err blocks_delete(struct store *s, uint64_t no, unsigned *budget, bool *done);
/* Deletes a few at once, the rest is swept. */
enum sp_err blocks_drop(struct store *s, uint64_t no);
/* Appends at the end of a piece, which must be at; in an open group that has taken the room. Small
 * rows grow, so that many small appends do not become as many rows. */
enum sp_err blocks_append(struct store *s, uint64_t no, uint16_t piece, uint64_t at,
                          const uint8_t *bytes, size_t len);
/* Where a piece ends. */
enum sp_err blocks_end(struct store *s, MDB_txn *txn, uint64_t no, uint16_t piece, uint64_t *end);
/* Copies bytes of a piece from a snapshot. */
enum sp_err blocks_read(struct store *s, MDB_txn *txn, uint64_t no, uint16_t piece, uint64_t offset,
                        uint8_t *out, size_t len);
/* Before a commit: every upload under way that has blocks in it becomes a row in loose, so that
 * they are found after a crash. */
enum sp_err uploads_list(struct store *s);
/* The group is lost: uploads that had blocks in it have failed. */
void uploads_lose(struct store *s, enum sp_err why);

#endif
