/* Ciphertext while it comes in, and its reading, on LMDB. The bytes come from the sealer, are not
 * looked at, and belong to nobody until a message owns them. */
#include "storage/lmdb.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_KEY   18u
#define PAGE_HEADER 16u   /* of a run of overflow pages */
#define RUN_PAGES   12u   /* three sealed chunks need twelve pages and a little */
#define DROP_NOW    64u   /* blocks freed with what they belonged to; more are swept */
#define SMALL_MAX   4096u /* a row that may still grow */
#define ABORT_NOW   4096u /* blocks: more than one group holds */

static struct key block_key(uint64_t no, uint16_t piece, uint64_t offset)
{
    struct key k;
    struct wire_out out = wire_out(k.bytes, sizeof(k.bytes));
    wire_put_u64(&out, no);
    wire_put_u16(&out, piece);
    wire_put_u64(&out, offset);
    k.len = out.len;
    return k;
}

static bool block_parse(const MDB_val *k, uint64_t no, uint16_t *piece, uint64_t *offset)
{
    struct wire_in in = wire_in(k->mv_data, k->mv_size);
    bool same = wire_get_u64(&in) == no;
    *piece = wire_get_u16(&in);
    *offset = wire_get_u64(&in);
    return same && wire_in_done(&in);
}

/* --- coming in --- */

enum sp_err store_upload_begin(struct store *s, struct store_upload **out)
{
    struct store_upload *u = calloc(1, sizeof(*u));
    *out = NULL;
    if (u == NULL)
        return SP_ERR_MEMORY;
    u->store = s;
    u->no = s->next_message++;
    LIST_INSERT_HEAD(&s->uploads, u, next);
    *out = u;
    return SP_OK;
}

/* How much of len to put into one row: as many bytes as fill a run of pages exactly, and what is
 * less than a page by itself (it then shares a leaf page with others). In a crowded map only single
 * pages are sure to be found, since what is free there seldom lies side by side. */
static size_t row_bytes(const struct store *s, size_t len)
{
    size_t pages = (len + PAGE_HEADER) / s->page, most = s->crowded ? 1 : RUN_PAGES;
    if (pages > most)
        pages = most;
    return pages > 0 ? pages * s->page - PAGE_HEADER : len;
}

static enum sp_err put_blocks(struct store *s, uint64_t no, uint16_t piece, uint64_t *at,
                              const uint8_t *bytes, size_t len)
{
    enum sp_err err = SP_OK;
    while (err == SP_OK && len > 0) {
        void *space;
        size_t n = row_bytes(s, len);
        struct key key = block_key(no, piece, *at);
        err = row_reserve(s, T_BLOCKS, &key, n, &space);
        if (err == SP_OK)
            memcpy(space, bytes, n);
        *at += n;
        bytes += n;
        len -= n;
    }
    return err;
}

static enum sp_err append(struct store_upload *u, uint16_t piece, const uint8_t *bytes, size_t len)
{
    struct store *s = u->store;
    enum sp_err err = group_take(s, len);
    if (err != SP_OK)
        return err;
    u->group = s->group;
    u->written = true;
    return put_blocks(s, u->no, piece, &u->length[piece], bytes, len);
}

enum sp_err store_upload_append(struct store_upload *u, uint16_t piece, const void *bytes,
                                size_t len)
{
    if (u->failed == SP_OK)
        u->failed = piece < STORE_MAX_PIECES ? append(u, piece, bytes, len) : SP_ERR_LIMIT;
    return u->failed;
}

enum sp_err store_upload_status(const struct store_upload *u)
{
    return u->failed;
}

uint64_t store_upload_length(const struct store_upload *u, uint16_t piece)
{
    return piece < STORE_MAX_PIECES ? u->length[piece] : 0;
}

void store_upload_abort(struct store_upload *u)
{
    if (u == NULL)
        return;
    struct store *s = u->store;
    unsigned budget = ABORT_NOW;
    bool done = true;
    if (u->listed != 0)
        s->sweep = true;
    else if (u->written && !s->spoiled)
        blocks_delete(s, u->no, &budget, &done); /* an error has lost the group, and them with it */
    LIST_REMOVE(u, next);
    free(u);
}

enum sp_err uploads_list(struct store *s)
{
    struct store_upload *u;
    enum sp_err err = SP_OK;
    LIST_FOREACH(u, &s->uploads, next)
    {
        if (!u->written || u->listed != 0)
            continue;
        struct key key = key_u64(u->no);
        err = row_put(s, T_LOOSE, &key, NULL, 0);
        if (err != SP_OK)
            return err;
        u->listed = s->group;
    }
    return err;
}

void uploads_lose(struct store *s, enum sp_err why)
{
    struct store_upload *u;
    s->sweep = true; /* rows that this group was to take out of loose are there again */
    LIST_FOREACH(u, &s->uploads, next)
    {
        if (!u->written || u->group != s->group)
            continue;
        if (u->failed == SP_OK)
            u->failed = why;
        if (u->listed == s->group)
            u->listed = 0;
    }
    LIST_FOREACH(u, &s->uploads, next)
    if (u->listed == s->group)
        u->listed = 0;
}

/* --- going --- */

enum sp_err blocks_delete(struct store *s, uint64_t no, unsigned *budget, bool *done)
{
    MDB_cursor *cursor;
    struct key first = key_u64(no);
    MDB_val k = {.mv_size = first.len, .mv_data = first.bytes}, v;
    *done = false;
    enum sp_err err = group_open(s);
    if (err != SP_OK)
        return err;
    int rc = mdb_cursor_open(s->write, s->dbi[T_BLOCKS], &cursor);
    if (rc != 0)
        return group_lose(s, rc);
    for (rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE); rc == 0;
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        uint16_t piece;
        uint64_t offset;
        if (!block_parse(&k, no, &piece, &offset)) {
            rc = MDB_NOTFOUND;
            break;
        }
        if (*budget == 0)
            break;
        rc = mdb_cursor_del(cursor, 0);
        if (rc != 0)
            break;
        (*budget)--;
        s->pending += s->page / 8;
    }
    mdb_cursor_close(cursor);
    *done = rc == MDB_NOTFOUND;
    return rc == 0 || rc == MDB_NOTFOUND ? SP_OK : group_lose(s, rc);
}

static bool under_way(const struct store *s, uint64_t no)
{
    const struct store_upload *u;
    LIST_FOREACH(u, &s->uploads, next)
    if (u->no == no)
        return true;
    return false;
}

/* The first row of loose from *no on that is no upload under way. */
static enum sp_err next_loose(struct store *s, uint64_t *no)
{
    MDB_cursor *cursor;
    struct key from = key_u64(*no);
    MDB_val k = {.mv_size = from.len, .mv_data = from.bytes}, v;
    int rc = mdb_cursor_open(s->write, s->dbi[T_LOOSE], &cursor);
    if (rc != 0)
        return group_lose(s, rc);
    for (rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE); rc == 0;
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct wire_in in = wire_in(k.mv_data, k.mv_size);
        *no = wire_get_u64(&in);
        if (!under_way(s, *no))
            break;
    }
    mdb_cursor_close(cursor);
    return rc == 0 ? SP_OK : SP_ERR_NOT_FOUND;
}

static enum sp_err sweep_loose(struct store *s, unsigned *budget, bool *done)
{
    uint64_t no = 0;
    enum sp_err err = group_open(s);
    *done = false;
    while (err == SP_OK && *budget > 0) {
        bool gone;
        err = next_loose(s, &no);
        if (err == SP_ERR_NOT_FOUND) {
            *done = true;
            return SP_OK;
        }
        if (err == SP_OK)
            err = blocks_delete(s, no, budget, &gone);
        if (err == SP_OK && gone) {
            struct key key = key_u64(no);
            err = row_delete(s, T_LOOSE, &key);
        }
    }
    return err;
}

/* The first user who was removed and still has rows. */
static enum sp_err next_removed(struct store *s, uint64_t *no)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    int rc = mdb_cursor_open(s->write, s->dbi[T_USERS], &cursor);
    if (rc != 0)
        return group_lose(s, rc);
    while ((rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0)
        if (v.mv_size > 0 && *(const uint8_t *)v.mv_data == USER_REMOVED)
            break;
    if (rc == 0) {
        struct wire_in in = wire_in(k.mv_data, k.mv_size);
        *no = wire_get_u64(&in);
    }
    mdb_cursor_close(cursor);
    return rc == 0 ? SP_OK : SP_ERR_NOT_FOUND;
}

static enum sp_err sweep_removed(struct store *s, unsigned budget, bool *done)
{
    uint64_t no = 0;
    bool drained;
    *done = false;
    enum sp_err err = next_removed(s, &no);
    if (err == SP_ERR_NOT_FOUND) {
        *done = true;
        return SP_OK;
    }
    if (err == SP_OK)
        err = mailbox_drain(s, no, budget, &drained);
    while (err == SP_OK)
        err = draft_drop_any(s, no);
    if (err == SP_ERR_NOT_FOUND)
        err = SP_OK;
    if (err == SP_OK && drained) {
        struct key key = key_u64(no);
        err = row_delete(s, T_COUNTS, &key);
        if (err == SP_OK)
            err = row_delete(s, T_USAGE, &key);
        if (err == SP_OK)
            err = row_delete(s, T_USERS, &key);
    }
    return err;
}

enum sp_err store_sweep(struct store *s, unsigned budget, bool *more)
{
    bool no_loose = false, no_removed = false;
    *more = s->sweep;
    if (!s->sweep)
        return SP_OK;
    enum sp_err err = sweep_loose(s, &budget, &no_loose);
    if (err == SP_OK && budget > 0)
        err = sweep_removed(s, budget, &no_removed);
    if (err == SP_OK)
        *more = s->sweep = !(no_loose && no_removed);
    return err;
}

enum sp_err blocks_drop(struct store *s, uint64_t no)
{
    struct key key = key_u64(no);
    unsigned budget = DROP_NOW;
    bool done;
    enum sp_err err = blocks_delete(s, no, &budget, &done);
    if (err != SP_OK || done)
        return err;
    s->sweep = true;
    return row_put(s, T_LOOSE, &key, NULL, 0);
}

/* --- reading --- */

/* Puts the cursor on the block that holds this offset. */
static int seek_block(MDB_cursor *cursor, uint64_t no, uint16_t piece, uint64_t offset, MDB_val *k,
                      MDB_val *v)
{
    uint16_t p;
    uint64_t at;
    struct key key = block_key(no, piece, offset);
    *k = (MDB_val){.mv_size = key.len, .mv_data = key.bytes};
    int rc = mdb_cursor_get(cursor, k, v, MDB_SET_RANGE);
    if (rc == 0 && block_parse(k, no, &p, &at) && p == piece && at == offset)
        return 0;
    return mdb_cursor_get(cursor, k, v, rc == 0 ? MDB_PREV : MDB_LAST);
}

enum sp_err blocks_read(struct store *s, MDB_txn *txn, uint64_t no, uint16_t piece, uint64_t offset,
                        uint8_t *out, size_t len)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    enum sp_err err = SP_OK;
    if (mdb_cursor_open(txn, s->dbi[T_BLOCKS], &cursor) != 0)
        return SP_ERR_MEMORY;
    int rc = seek_block(cursor, no, piece, offset, &k, &v);
    while (len > 0 && err == SP_OK) {
        uint16_t p;
        uint64_t at;
        if (rc != 0 || !block_parse(&k, no, &p, &at) || p != piece || offset < at ||
            offset - at >= v.mv_size) {
            err = SP_ERR_SYSTEM; /* a gap in what was acknowledged */
            break;
        }
        size_t skip = (size_t)(offset - at), n = v.mv_size - skip;
        if (n > len)
            n = len;
        memcpy(out, (const uint8_t *)v.mv_data + skip, n);
        out += n;
        offset += n;
        len -= n;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return err;
}

/* --- growing --- */

/* The last block of a piece, in the open group or a snapshot; SP_ERR_NOT_FOUND. */
static enum sp_err last_block(struct store *s, MDB_txn *txn, uint64_t no, uint16_t piece,
                              uint64_t *at, MDB_val *v)
{
    MDB_cursor *cursor;
    MDB_val k;
    uint16_t p = 0;
    if (mdb_cursor_open(txn, s->dbi[T_BLOCKS], &cursor) != 0)
        return SP_ERR_MEMORY;
    int rc = seek_block(cursor, no, piece, UINT64_MAX, &k, v);
    bool found = rc == 0 && block_parse(&k, no, &p, at) && p == piece;
    mdb_cursor_close(cursor);
    return found ? SP_OK : SP_ERR_NOT_FOUND;
}

enum sp_err blocks_end(struct store *s, MDB_txn *txn, uint64_t no, uint16_t piece, uint64_t *end)
{
    uint64_t at = 0;
    MDB_val v = {0};
    enum sp_err err = last_block(s, txn, no, piece, &at, &v);
    *end = err == SP_OK ? at + v.mv_size : 0;
    return err == SP_ERR_NOT_FOUND ? SP_OK : err;
}

enum sp_err blocks_append(struct store *s, uint64_t no, uint16_t piece, uint64_t at,
                          const uint8_t *bytes, size_t len)
{
    uint8_t row[SMALL_MAX];
    uint64_t begin;
    MDB_val v;
    enum sp_err err = last_block(s, s->write, no, piece, &begin, &v);
    if (err == SP_OK && v.mv_size < sizeof(row)) {
        size_t old = v.mv_size, n = sizeof(row) - old < len ? sizeof(row) - old : len;
        struct key key = block_key(no, piece, begin);
        memcpy(row, v.mv_data, old);
        memcpy(row + old, bytes, n);
        err = row_put(s, T_BLOCKS, &key, row, old + n);
        at += n;
        bytes += n;
        len -= n;
    }
    if (err != SP_OK && err != SP_ERR_NOT_FOUND)
        return err;
    return put_blocks(s, no, piece, &at, bytes, len);
}
