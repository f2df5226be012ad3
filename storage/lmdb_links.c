/* Links on LMDB: who may open what until when. A link's box stands among the secrets, wrapped; here
 * is only what lets a request be judged. */
#include "storage/lmdb.h"

#include <string.h>

#define LINK_MAX_ROW                                                                               \
    (8u + 8u + 2u + 2u + 8u + 8u + 1u + ID_SIZE + 2u * HASH_SIZE + 2u + 1024u + 2u +               \
     STORE_MAX_ADDRESS)

/* --- rows --- */

static enum sp_err link_write(struct store *s, const struct store_link *l)
{
    uint8_t buf[LINK_MAX_ROW];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct key key = key_bytes(l->id, ID_SIZE);
    wire_put_u64(&out, l->no);
    wire_put_u64(&out, l->user);
    wire_put_u16(&out, l->index);
    wire_put_u16(&out, l->secret);
    wire_put_u64(&out, l->created_ms);
    wire_put_u64(&out, l->expires_ms);
    wire_put_u8(&out, (uint8_t)l->ended);
    wire_put_bytes(&out, l->message_id, ID_SIZE);
    wire_put_bytes(&out, l->gate_hash, HASH_SIZE);
    wire_put_bytes(&out, l->digest, HASH_SIZE);
    wire_put_b16(&out, l->subject.bytes, l->subject.len);
    wire_put_str(&out, l->from);
    return wire_out_ok(&out) ? row_put(s, T_LINKS, &key, buf, out.len) : SP_ERR_LIMIT;
}

static enum sp_err link_decode(struct wire_in in, struct store_link *l)
{
    l->no = wire_get_u64(&in);
    l->user = wire_get_u64(&in);
    l->index = wire_get_u16(&in);
    l->secret = wire_get_u16(&in);
    l->created_ms = wire_get_u64(&in);
    l->expires_ms = wire_get_u64(&in);
    l->ended = wire_get_u8(&in);
    wire_get_copy(&in, l->message_id, ID_SIZE);
    wire_get_copy(&in, l->gate_hash, HASH_SIZE);
    wire_get_copy(&in, l->digest, HASH_SIZE);
    l->subject.bytes = wire_get_b16(&in, UINT16_MAX, &l->subject.len);
    if (in.left > 0) { /* rows of before have none */
        size_t len;
        const uint8_t *from = wire_get_b16(&in, sizeof(l->from) - 1, &len);
        if (from != NULL)
            memcpy(l->from, from, len);
    }
    return wire_in_done(&in) ? SP_OK : SP_ERR_FORMAT;
}

enum sp_err link_read(struct store *s, MDB_txn *txn, const uint8_t id[ID_SIZE],
                      struct store_link *out)
{
    struct key key = key_bytes(id, ID_SIZE);
    struct wire_in in;
    *out = (struct store_link){0};
    memcpy(out->id, id, ID_SIZE);
    enum sp_err err = row_get(s, txn, T_LINKS, &key, &in);
    return err == SP_OK ? link_decode(in, out) : err;
}

enum sp_err store_link_get(struct store *s, const uint8_t id[ID_SIZE], struct store_link *out)
{
    MDB_txn *txn;
    enum sp_err err = current(s, &txn);
    return err == SP_OK ? link_read(s, txn, id, out) : err;
}

/* The first link behind *id, or the very first. */
static enum sp_err next_link(struct store *s, bool first, uint8_t id[ID_SIZE],
                             struct store_link *out)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    struct key from = key_bytes(id, ID_SIZE);
    MDB_val k = {.mv_size = from.len, .mv_data = from.bytes}, v;
    enum sp_err err = current(s, &txn);
    if (err != SP_OK)
        return err;
    if (mdb_cursor_open(txn, s->dbi[T_LINKS], &cursor) != 0)
        return SP_ERR_MEMORY;
    int rc = mdb_cursor_get(cursor, &k, &v, first ? MDB_FIRST : MDB_SET_RANGE);
    if (rc == 0 && !first && k.mv_size == ID_SIZE && memcmp(k.mv_data, id, ID_SIZE) == 0)
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    *out = (struct store_link){0};
    err = rc == 0 ? link_decode(wire_in(v.mv_data, v.mv_size), out) : SP_ERR_NOT_FOUND;
    struct wire_in at = rc == 0 ? wire_in(k.mv_data, k.mv_size) : wire_in(NULL, 0);
    wire_get_copy(&at, id, ID_SIZE);
    memcpy(out->id, id, ID_SIZE);
    mdb_cursor_close(cursor);
    return err;
}

enum sp_err store_links_each(struct store *s,
                             enum sp_err (*each)(void *ctx, const struct store_link *link),
                             void *ctx)
{
    struct store_link link;
    uint8_t id[ID_SIZE] = {0};
    enum sp_err err = next_link(s, true, id, &link);
    while (err == SP_OK) {
        err = each(ctx, &link);
        if (err == SP_OK)
            err = next_link(s, false, id, &link);
    }
    return err == SP_ERR_NOT_FOUND ? SP_OK : err;
}

/* --- creating --- */

/* Link, its two secrets, the job that sends its notification, its recipient, its timer. */
static enum sp_err link_add(struct store *s, uint64_t no, const struct store_outgoing *o,
                            const struct store_link_new *new, uint16_t index, uint16_t job)
{
    struct store_job j = {.no = no,
                          .job = job,
                          .user = o->user,
                          .queued_ms = o->message.received_ms,
                          .next_ms = o->message.received_ms,
                          .secret = new->password->n,
                          .n = 1,
                          .recipient = {index}};
    struct store_recipient r = {.index = index,
                                .kind = new->password->kind,
                                .state = DELIVERY_QUEUED,
                                .since_ms = o->message.received_ms,
                                .address = new->address,
                                .order = {new->order, HASH_SIZE},
                                .expires_ms = new->expires_ms};
    struct store_link l = {.no = no,
                           .user = o->user,
                           .index = index,
                           .secret = new->password->n,
                           .created_ms = o->message.received_ms,
                           .expires_ms = new->expires_ms,
                           .subject = new->subject};
    memcpy(j.message_id, o->message.message_id, ID_SIZE);
    strncpy(j.mail_from, o->mail_from, sizeof(j.mail_from) - 1);
    strncpy(l.from, o->mail_from, sizeof(l.from) - 1);
    job_destination(&new->address, j.destination);
    memcpy(l.id, new->box->recipient_id, ID_SIZE);
    memcpy(l.message_id, o->message.message_id, ID_SIZE);
    memcpy(l.gate_hash, new->gate_hash, HASH_SIZE);
    memcpy(l.digest, new->digest, HASH_SIZE);
    enum sp_err err = secret_put(s, no, new->password);
    if (err == SP_OK)
        err = secret_put(s, no, new->box);
    if (err == SP_OK)
        err = job_write(s, &j);
    if (err == SP_OK)
        err = recipient_put(s, no, &r, job);
    if (err == SP_OK)
        err = link_write(s, &l);
    return err == SP_OK ? timer_put(s, l.expires_ms, TIMER_LINK, 0, l.id) : err;
}

enum sp_err links_add(struct store *s, uint64_t no, const struct store_outgoing *o, uint16_t first,
                      uint16_t job)
{
    enum sp_err err = SP_OK;
    for (size_t i = 0; err == SP_OK && i < o->n_links; i++)
        err = link_add(s, no, o, &o->link[i], (uint16_t)(first + i), (uint16_t)(job + i));
    return err;
}

/* --- a link's life --- */

/* Its recipient's row, which may be gone: a sender may forget what he sent. */
static enum sp_err note(struct store *s, const struct store_link *l,
                        void (*change)(struct store_recipient *r, uint64_t now_ms,
                                       enum store_delivery state),
                        uint64_t now_ms, enum store_delivery state)
{
    struct store_recipient r;
    uint16_t job;
    enum sp_err err = recipient_get(s, s->write, l->no, l->index, &r, &job);
    if (err != SP_OK)
        return err == SP_ERR_NOT_FOUND ? SP_OK : err;
    change(&r, now_ms, state);
    return recipient_put(s, l->no, &r, job);
}

static void add_visit(struct store_recipient *r, uint64_t now_ms, enum store_delivery state)
{
    (void)state;
    r->visits++;
    if (r->opened_ms == 0)
        r->opened_ms = now_ms;
}

static void set_ended(struct store_recipient *r, uint64_t now_ms, enum store_delivery state)
{
    if (r->state != DELIVERY_FAILED) { /* that one was never out there */
        r->state = state;
        r->since_ms = now_ms;
    }
}

enum sp_err store_link_visit(struct store *s, const struct store_link *link, uint64_t now_ms)
{
    enum sp_err err = group_take(s, 2 * s->page);
    return err == SP_OK ? note(s, link, add_visit, now_ms, DELIVERY_SENT) : err;
}

/* The job of its notification, if that is still to be sent. */
static enum sp_err end_job(struct store *s, const struct store_link *l, enum store_delivery state,
                           uint64_t now_ms)
{
    struct store_recipient r;
    struct store_job job;
    uint16_t number;
    size_t n, left;
    enum sp_err err = recipient_get(s, s->write, l->no, l->index, &r, &number);
    if (err == SP_OK && !delivery_open(r.state))
        return SP_OK;
    if (err == SP_OK)
        err = job_read(s, s->write, l->no, number, &job);
    if (err == SP_OK)
        err = job_end(s, &job, NULL, state, now_ms, &n, &left);
    return err == SP_ERR_NOT_FOUND ? SP_OK : err;
}

enum sp_err store_link_end(struct store *s, const uint8_t id[ID_SIZE], enum store_delivery state,
                           uint64_t now_ms)
{
    struct store_link l;
    enum sp_err err = group_open(s);
    if (err == SP_OK)
        err = link_read(s, s->write, id, &l);
    if (err != SP_OK || l.ended != DELIVERY_QUEUED)
        return err;
    l.ended = state;
    err = link_write(s, &l);
    if (err == SP_OK)
        err = end_job(s, &l, state, now_ms);
    if (err == SP_OK)
        err = note(s, &l, set_ended, now_ms, state);
    return err == SP_OK ? timer_delete(s, l.expires_ms, TIMER_LINK, 0, id) : err;
}

enum sp_err store_link_delete(struct store *s, const uint8_t id[ID_SIZE])
{
    struct store_link l;
    struct key key = key_bytes(id, ID_SIZE);
    enum sp_err err = group_open(s);
    if (err == SP_OK)
        err = link_read(s, s->write, id, &l);
    if (err != SP_OK)
        return err == SP_ERR_NOT_FOUND ? SP_OK : err;
    uint64_t no = l.no;
    err = row_delete(s, T_LINKS, &key);
    return err == SP_OK ? message_unref(s, no) : err;
}

/* --- time --- */

enum sp_err store_timer_next(struct store *s, uint64_t *at_ms)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val k, v;
    *at_ms = UINT64_MAX;
    enum sp_err err = current(s, &txn);
    if (err != SP_OK)
        return err;
    if (mdb_cursor_open(txn, s->dbi[T_TIMERS], &cursor) != 0)
        return SP_ERR_MEMORY;
    if (mdb_cursor_get(cursor, &k, &v, MDB_FIRST) == 0) {
        struct wire_in in = wire_in(k.mv_data, k.mv_size);
        *at_ms = wire_get_u64(&in);
    }
    mdb_cursor_close(cursor);
    return SP_OK;
}

enum sp_err store_clock_get(struct store *s, uint64_t *ms)
{
    MDB_txn *txn;
    *ms = 0;
    enum sp_err err = current(s, &txn);
    return err == SP_OK ? counter_get(s, txn, "clock", ms) : err;
}

enum sp_err store_clock_put(struct store *s, uint64_t ms)
{
    enum sp_err err = group_open(s);
    return err == SP_OK ? counter_put(s, "clock", ms) : err;
}
