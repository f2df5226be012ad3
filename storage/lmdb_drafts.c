/* Drafts on LMDB: what clients upload of mail that they are about to send, and the timers by which
 * drafts and statuses end. The bytes are ciphertext, not looked at; offsets, lengths and limits are
 * checked here. How much of a piece is there is what its blocks say, so that a draft's row is
 * written once, and a group that is lost takes nothing along that was acknowledged as durable. */
#include "storage/lmdb.h"

#include <string.h>

#define ROW_MAX (8u + 8u + STORE_MAX_PIECES * 8u)

/* --- rows --- */

struct draft {
    uint64_t until_ms, no;
    uint16_t pieces;
    uint64_t length[STORE_MAX_PIECES];
};

static enum sp_err draft_decode(struct wire_in in, struct draft *d)
{
    *d = (struct draft){0};
    d->until_ms = wire_get_u64(&in);
    d->no = wire_get_u64(&in);
    size_t n = in.left / 8;
    if (n == 0 || n > STORE_MAX_PIECES)
        return SP_ERR_FORMAT;
    for (d->pieces = 0; d->pieces < n; d->pieces++)
        d->length[d->pieces] = wire_get_u64(&in);
    return wire_in_done(&in) ? SP_OK : SP_ERR_FORMAT;
}

static enum sp_err draft_get(struct store *s, MDB_txn *txn, uint64_t user,
                             const uint8_t id[ID_SIZE], struct draft *d)
{
    struct key key = key_u64_bytes(user, id, ID_SIZE);
    struct wire_in in;
    enum sp_err err = row_get(s, txn, T_DRAFTS, &key, &in);
    return err == SP_OK ? draft_decode(in, d) : err;
}

static struct key timer_key(uint64_t at_ms, enum timer what, uint64_t user,
                            const uint8_t id[ID_SIZE])
{
    struct key k;
    struct wire_out out = wire_out(k.bytes, sizeof(k.bytes));
    wire_put_u64(&out, at_ms);
    wire_put_u8(&out, (uint8_t)what);
    wire_put_u64(&out, user);
    wire_put_bytes(&out, id, ID_SIZE);
    k.len = out.len;
    return k;
}

enum sp_err timer_put(struct store *s, uint64_t at_ms, enum timer what, uint64_t user,
                      const uint8_t id[ID_SIZE])
{
    struct key key = timer_key(at_ms, what, user, id);
    return row_put(s, T_TIMERS, &key, NULL, 0);
}

enum sp_err timer_delete(struct store *s, uint64_t at_ms, enum timer what, uint64_t user,
                         const uint8_t id[ID_SIZE])
{
    struct key key = timer_key(at_ms, what, user, id);
    return row_delete(s, T_TIMERS, &key);
}

/* --- beginning --- */

static uint64_t total(const uint64_t *length, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum = length[i] > UINT64_MAX - sum ? UINT64_MAX : sum + length[i];
    return sum;
}

/* The drafts of one user, and what they declare. */
static enum sp_err count(struct store *s, uint64_t user, size_t *n, uint64_t *bytes)
{
    MDB_cursor *cursor;
    struct draft d;
    struct key key = key_u64(user);
    MDB_val k = {.mv_size = key.len, .mv_data = key.bytes}, v;
    enum sp_err err = SP_OK;
    *n = 0;
    *bytes = 0;
    int rc = mdb_cursor_open(s->write, s->dbi[T_DRAFTS], &cursor);
    if (rc != 0)
        return group_lose(s, rc);
    for (rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE); rc == 0 && err == SP_OK;
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct wire_in at = wire_in(k.mv_data, k.mv_size);
        if (wire_get_u64(&at) != user)
            break;
        err = draft_decode(wire_in(v.mv_data, v.mv_size), &d);
        (*n)++;
        *bytes += total(d.length, d.pieces);
    }
    mdb_cursor_close(cursor);
    return err;
}

static enum sp_err within(struct store *s, uint64_t user, uint64_t declared,
                          const struct store_draft_limits *limits)
{
    size_t n;
    uint64_t bytes;
    enum sp_err err = count(s, user, &n, &bytes);
    if (err != SP_OK)
        return err;
    return n < limits->drafts && bytes <= limits->bytes && declared <= limits->bytes - bytes
               ? SP_OK
               : SP_ERR_LIMIT;
}

enum sp_err store_draft_begin(struct store *s, uint64_t user, const uint8_t id[ID_SIZE],
                              const uint64_t *length, size_t pieces, uint64_t until_ms,
                              const struct store_draft_limits *limits)
{
    uint8_t buf[ROW_MAX];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct key key = key_u64_bytes(user, id, ID_SIZE);
    if (pieces == 0 || pieces > STORE_MAX_PIECES)
        return SP_ERR_FORMAT;
    for (size_t i = 0; i < pieces; i++)
        if (length[i] == 0)
            return SP_ERR_FORMAT;
    enum sp_err err = group_take(s, sizeof(buf));
    if (err == SP_OK)
        err = within(s, user, total(length, pieces), limits);
    if (err != SP_OK)
        return err;
    wire_put_u64(&out, until_ms);
    wire_put_u64(&out, s->next_message++);
    for (size_t i = 0; i < pieces; i++)
        wire_put_u64(&out, length[i]);
    err = row_put(s, T_DRAFTS, &key, buf, out.len);
    return err == SP_OK ? timer_put(s, until_ms, TIMER_DRAFT, user, id) : err;
}

/* --- growing --- */

enum sp_err store_draft_get(struct store *s, uint64_t user, const uint8_t id[ID_SIZE],
                            struct store_draft *out)
{
    MDB_txn *txn;
    struct draft d;
    *out = (struct store_draft){0};
    enum sp_err err = current(s, &txn);
    if (err == SP_OK)
        err = draft_get(s, txn, user, id, &d);
    out->no = err == SP_OK ? d.no : 0;
    for (uint16_t i = 0; err == SP_OK && i < d.pieces; i++) {
        out->length[i] = d.length[i];
        err = blocks_end(s, txn, d.no, i, &out->there[i]);
        out->pieces = (uint16_t)(i + 1);
    }
    return err;
}

enum sp_err store_draft_append(struct store *s, uint64_t user, const uint8_t id[ID_SIZE],
                               uint16_t piece, uint64_t offset, const void *bytes, size_t len)
{
    struct draft d;
    uint64_t end;
    enum sp_err err = group_open(s);
    if (err == SP_OK)
        err = draft_get(s, s->write, user, id, &d);
    if (err == SP_OK && piece >= d.pieces)
        err = SP_ERR_NOT_FOUND;
    if (err == SP_OK)
        err = blocks_end(s, s->write, d.no, piece, &end);
    if (err != SP_OK)
        return err;
    if (offset != end)
        return SP_ERR_STATE;
    if (len > d.length[piece] - end)
        return SP_ERR_LIMIT;
    err = group_take(s, len + s->page);
    return err == SP_OK ? blocks_append(s, d.no, piece, end, bytes, len) : err;
}

/* --- ending --- */

enum sp_err draft_take(struct store *s, uint64_t user, const uint8_t id[ID_SIZE], uint64_t *no)
{
    struct draft d;
    struct key key = key_u64_bytes(user, id, ID_SIZE);
    *no = 0;
    enum sp_err err = group_open(s);
    if (err == SP_OK)
        err = draft_get(s, s->write, user, id, &d);
    if (err != SP_OK)
        return err;
    *no = d.no;
    err = row_delete(s, T_DRAFTS, &key);
    return err == SP_OK ? timer_delete(s, d.until_ms, TIMER_DRAFT, user, id) : err;
}

enum sp_err store_draft_drop(struct store *s, uint64_t user, const uint8_t id[ID_SIZE])
{
    uint64_t no;
    enum sp_err err = draft_take(s, user, id, &no);
    return err == SP_OK ? blocks_drop(s, no) : err;
}

enum sp_err draft_drop_any(struct store *s, uint64_t user)
{
    MDB_cursor *cursor;
    uint8_t id[ID_SIZE];
    struct key key = key_u64(user);
    MDB_val k = {.mv_size = key.len, .mv_data = key.bytes}, v;
    int rc = mdb_cursor_open(s->write, s->dbi[T_DRAFTS], &cursor);
    if (rc != 0)
        return group_lose(s, rc);
    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    struct wire_in at = rc == 0 ? wire_in(k.mv_data, k.mv_size) : wire_in(NULL, 0);
    bool his = wire_get_u64(&at) == user && !at.bad;
    wire_get_copy(&at, id, ID_SIZE);
    mdb_cursor_close(cursor);
    return his ? store_draft_drop(s, user, id) : SP_ERR_NOT_FOUND;
}

/* The first timer, if its time has come. */
static enum sp_err next_timer(struct store *s, uint64_t now_ms, uint64_t *at_ms, enum timer *what,
                              uint64_t *user, uint8_t id[ID_SIZE])
{
    MDB_cursor *cursor;
    MDB_val k, v;
    int rc = mdb_cursor_open(s->write, s->dbi[T_TIMERS], &cursor);
    *at_ms = *user = 0;
    *what = 0;
    if (rc != 0)
        return group_lose(s, rc);
    rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
    struct wire_in in = rc == 0 ? wire_in(k.mv_data, k.mv_size) : wire_in(NULL, 0);
    *at_ms = wire_get_u64(&in);
    *what = wire_get_u8(&in);
    *user = wire_get_u64(&in);
    wire_get_copy(&in, id, ID_SIZE);
    mdb_cursor_close(cursor);
    if (rc != 0 || *at_ms > now_ms)
        return SP_ERR_NOT_FOUND;
    return wire_in_done(&in) ? SP_OK : group_lose(s, MDB_CORRUPTED);
}

static enum sp_err expire_link(struct store *s, uint64_t now_ms, const uint8_t id[ID_SIZE],
                               void (*link)(void *ctx, const struct store_link *link), void *ctx)
{
    struct store_link ended;
    enum sp_err err = store_link_end(s, id, DELIVERY_EXPIRED, now_ms);
    if (err == SP_OK)
        err = link_read(s, s->write, id, &ended);
    if (err == SP_OK && link != NULL)
        link(ctx, &ended);
    return err == SP_ERR_NOT_FOUND ? SP_OK : err;
}

enum sp_err store_expire(struct store *s, uint64_t now_ms, unsigned budget, bool *more,
                         void (*link)(void *ctx, const struct store_link *link), void *ctx)
{
    uint64_t at_ms, user;
    enum timer what;
    uint8_t id[ID_SIZE];
    *more = false;
    enum sp_err err = group_open(s);
    for (; err == SP_OK && budget > 0; budget--) {
        err = next_timer(s, now_ms, &at_ms, &what, &user, id);
        if (err == SP_OK)
            err = timer_delete(s, at_ms, what, user, id);
        if (err == SP_OK && what == TIMER_DRAFT)
            err = store_draft_drop(s, user, id);
        else if (err == SP_OK && what == TIMER_LINK)
            err = expire_link(s, now_ms, id, link, ctx);
        else if (err == SP_OK)
            err = sent_expire(s, now_ms, user, id);
    }
    *more = err == SP_OK;
    return err == SP_ERR_NOT_FOUND ? SP_OK : err;
}
