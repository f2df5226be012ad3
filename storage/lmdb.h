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
 *     mailboxes  user no, u64 seq            -> entry, box (lmdb_mail.c)
 *     mail_ids   user no, message_id[16]     -> u64 seq
 *     messages   message no                  -> u32 refs, u16 pieces, u64 length ..., envelope
 *     blocks     message no, u16 piece, u64 offset -> ciphertext
 *     loose      message no                  -> nothing: its blocks belong to no message
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

/* Begins the group if none is open, or returns why it is lost. taking: refused (SP_ERR_NO_SPACE,
 * alone) when bytes do not fit above the reserve. */
enum sp_err group_open(struct store *s);
enum sp_err group_take(struct store *s, uint64_t bytes);
/* Drops the group because of an LMDB error. */
enum sp_err group_lose(struct store *s, int mdb_error);
/* A fresh snapshot of what is committed. */
enum sp_err snapshot(struct store *s, MDB_txn **txn);

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
/* Deletes up to budget mails of a mailbox; *done: it is empty. */
enum sp_err mailbox_drain(struct store *s, uint64_t user, unsigned budget, bool *done);
/* Deletes up to *budget blocks of a message number, and takes them off it; *done: none is left. */
enum sp_err blocks_delete(struct store *s, uint64_t no, unsigned *budget, bool *done);
/* Copies bytes of a piece from a snapshot. */
enum sp_err blocks_read(struct store *s, MDB_txn *txn, uint64_t no, uint16_t piece, uint64_t offset,
                        uint8_t *out, size_t len);
/* Before a commit: every upload under way that has blocks in it becomes a row in loose, so that
 * they are found after a crash. */
enum sp_err uploads_list(struct store *s);
/* The group is lost: uploads that had blocks in it have failed. */
void uploads_lose(struct store *s, enum sp_err why);

#endif
