/* Mail that users send, on LMDB: the one group that puts it into mailboxes and into the queue, and
 * what the sender keeps of it: his sent copy (ciphertext of his own) and the status of each
 * recipient. The edge has checked the form; what could change meanwhile is checked again here. */
#include "storage/lmdb.h"

#include <string.h>

#define SENT_ROW      (8u + 8u + 8u + 8u + 4u + 2u)
#define RECIPIENT_MAX (36u + 2u * (2u + STORE_ANSWER) + 2u + SIGN_SIZE)
#define DAY_MS        UINT64_C(86400000)

/* --- rows --- */

struct sent {
    uint64_t no, sent_ms;
    uint64_t until_ms; /* 0: as long as the mail is in his mailbox */
    uint64_t copy_no;  /* under which the blocks of the sent copy stand */
    uint32_t copy_len;
    uint16_t recipients;
};

static enum sp_err sent_get(struct store *s, MDB_txn *txn, uint64_t user,
                            const uint8_t message_id[ID_SIZE], struct sent *out)
{
    struct key key = key_u64_bytes(user, message_id, ID_SIZE);
    struct wire_in in;
    enum sp_err err = row_get(s, txn, T_SENT, &key, &in);
    *out = (struct sent){0};
    if (err != SP_OK)
        return err;
    out->no = wire_get_u64(&in);
    out->sent_ms = wire_get_u64(&in);
    out->until_ms = wire_get_u64(&in);
    out->copy_no = wire_get_u64(&in);
    out->copy_len = wire_get_u32(&in);
    out->recipients = wire_get_u16(&in);
    return wire_in_done(&in) ? SP_OK : SP_ERR_FORMAT;
}

static enum sp_err sent_put(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE],
                            const struct sent *sent)
{
    uint8_t buf[SENT_ROW];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct key key = key_u64_bytes(user, message_id, ID_SIZE);
    wire_put_u64(&out, sent->no);
    wire_put_u64(&out, sent->sent_ms);
    wire_put_u64(&out, sent->until_ms);
    wire_put_u64(&out, sent->copy_no);
    wire_put_u32(&out, sent->copy_len);
    wire_put_u16(&out, sent->recipients);
    return row_put(s, T_SENT, &key, buf, out.len);
}

enum sp_err recipient_put(struct store *s, uint64_t no, const struct store_recipient *r,
                          uint16_t job)
{
    uint8_t buf[RECIPIENT_MAX];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct key key = key_u64_u16(no, r->index);
    wire_put_u8(&out, r->kind);
    wire_put_u8(&out, (uint8_t)r->state);
    wire_put_u64(&out, r->since_ms);
    wire_put_u32(&out, r->attempts);
    wire_put_u16(&out, job);
    wire_put_b16(&out, r->address.bytes, r->address.len);
    wire_put_b16(&out, r->text.bytes, r->text.len);
    wire_put_b16(&out, r->order.bytes, r->order.len);
    wire_put_u64(&out, r->expires_ms);
    wire_put_u64(&out, r->opened_ms);
    wire_put_u32(&out, r->visits);
    return wire_out_ok(&out) ? row_put(s, T_RECIPIENTS, &key, buf, out.len) : SP_ERR_LIMIT;
}

static enum sp_err recipient_decode(struct wire_in in, struct store_recipient *r, uint16_t *job)
{
    *r = (struct store_recipient){0};
    r->kind = wire_get_u8(&in);
    r->state = wire_get_u8(&in);
    r->since_ms = wire_get_u64(&in);
    r->attempts = wire_get_u32(&in);
    *job = wire_get_u16(&in);
    r->address.bytes = wire_get_b16(&in, STORE_MAX_ADDRESS, &r->address.len);
    r->text.bytes = wire_get_b16(&in, STORE_ANSWER, &r->text.len);
    r->order.bytes = wire_get_b16(&in, SIGN_SIZE, &r->order.len);
    r->expires_ms = wire_get_u64(&in);
    r->opened_ms = wire_get_u64(&in);
    r->visits = wire_get_u32(&in);
    return wire_in_done(&in) ? SP_OK : SP_ERR_FORMAT;
}

enum sp_err recipient_get(struct store *s, MDB_txn *txn, uint64_t no, uint16_t index,
                          struct store_recipient *r, uint16_t *job)
{
    struct key key = key_u64_u16(no, index);
    struct wire_in in;
    enum sp_err err = row_get(s, txn, T_RECIPIENTS, &key, &in);
    if (err == SP_OK)
        err = recipient_decode(in, r, job);
    r->index = index;
    return err;
}

/* --- a user's day --- */

static enum sp_err usage_get(struct store *s, MDB_txn *txn, uint64_t user, uint64_t now_ms,
                             struct store_usage *out)
{
    struct key key = key_u64(user);
    struct wire_in in;
    enum sp_err err = row_get(s, txn, T_USAGE, &key, &in);
    *out = (struct store_usage){.day_ms = now_ms};
    if (err != SP_OK)
        return err == SP_ERR_NOT_FOUND ? SP_OK : err;
    struct store_usage was = {.day_ms = wire_get_u64(&in)};
    was.messages = wire_get_u64(&in);
    was.bytes = wire_get_u64(&in);
    if (!wire_in_done(&in))
        return SP_ERR_FORMAT;
    if (now_ms >= was.day_ms && now_ms - was.day_ms < DAY_MS)
        *out = was;
    return SP_OK;
}

enum sp_err store_usage(struct store *s, uint64_t user, uint64_t now_ms, struct store_usage *out)
{
    MDB_txn *txn;
    enum sp_err err = current(s, &txn);
    return err == SP_OK ? usage_get(s, txn, user, now_ms, out) : err;
}

static enum sp_err usage_add(struct store *s, uint64_t user, uint64_t now_ms, uint64_t bytes)
{
    uint8_t buf[24];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct key key = key_u64(user);
    struct store_usage u;
    enum sp_err err = usage_get(s, s->write, user, now_ms, &u);
    if (err != SP_OK)
        return group_lose(s, MDB_CORRUPTED);
    wire_put_u64(&out, u.day_ms);
    wire_put_u64(&out, u.messages + 1);
    wire_put_u64(&out, u.bytes + bytes);
    return row_put(s, T_USAGE, &key, buf, out.len);
}

/* --- sending --- */

static enum sp_err put_users(struct store *s, uint64_t no, const struct store_outgoing *o)
{
    enum sp_err err = SP_OK;
    for (size_t i = 0; err == SP_OK && i < o->message.boxes; i++) {
        const char *address = o->user_address[i];
        struct store_recipient r = {
            .index = (uint16_t)i,
            .kind = 1,
            .state = DELIVERY_SENT,
            .since_ms = o->message.received_ms,
            .attempts = 1,
            .address = {(const uint8_t *)address, strlen(address)},
        };
        err = recipient_put(s, no, &r, 0);
    }
    return err;
}

static enum sp_err check_draft(const struct store_draft *d, const struct store_outgoing *o)
{
    if (d->pieces != o->message.pieces)
        return SP_ERR_FORMAT;
    for (uint16_t i = 0; i < d->pieces; i++)
        if (d->there[i] != d->length[i])
            return SP_ERR_STATE;
    return SP_OK;
}

/* Before anything is written: only a group that is lost as a whole may fail later. */
static enum sp_err check(struct store *s, const struct store_outgoing *o, struct store_draft *d)
{
    struct sent other;
    uint64_t rows = 4 + o->message.boxes + 2 * o->n_outside + 8 * o->n_links;
    enum sp_err err = group_take(s, rows * s->page + o->copy.len);
    if (err == SP_OK)
        err = store_draft_get(s, o->user, o->draft, d);
    if (err == SP_OK)
        err = check_draft(d, o);
    if (err != SP_OK)
        return err;
    err = sent_get(s, s->write, o->user, o->message.message_id, &other);
    if (err == SP_OK)
        return SP_ERR_EXISTS;
    return err == SP_ERR_NOT_FOUND ? SP_OK : err;
}

enum sp_err store_send(struct store *s, const struct store_outgoing *o, uint64_t *no)
{
    struct store_draft d;
    uint64_t bytes = 0, taken;
    uint16_t jobs = 0, first = (uint16_t)o->message.boxes;
    /* All jobs together need the pieces, and each link for itself. */
    uint32_t others = (o->secret != NULL || o->n_links > 0) + (uint32_t)o->n_links;
    enum sp_err err = check(s, o, &d);
    *no = d.no;
    if (err == SP_OK)
        err = message_deliver(s, d.no, d.length, &o->message, others);
    if (err != SP_OK)
        return err;
    for (uint16_t i = 0; i < d.pieces; i++)
        bytes += d.length[i];
    struct sent sent = {.no = d.no,
                        .sent_ms = o->message.received_ms,
                        .copy_no = s->next_message++,
                        .copy_len = (uint32_t)o->copy.len,
                        .recipients = (uint16_t)(first + o->n_outside + o->n_links)};
    err = draft_take(s, o->user, o->draft, &taken);
    if (err == SP_OK)
        err = blocks_append(s, sent.copy_no, 0, 0, o->copy.bytes, o->copy.len);
    if (err == SP_OK)
        err = put_users(s, d.no, o);
    if (err == SP_OK && o->secret != NULL)
        err = jobs_add(s, d.no, o, first, &jobs);
    if (err == SP_OK && o->n_links > 0)
        err = links_add(s, d.no, o, (uint16_t)(first + o->n_outside), jobs);
    if (err == SP_OK)
        err = sent_put(s, o->user, o->message.message_id, &sent);
    if (err == SP_OK)
        err = usage_add(s, o->user, o->message.received_ms, bytes);
    if (err != SP_OK && !s->spoiled)
        group_lose(s, MDB_CORRUPTED); /* never a part of it */
    return err;
}

/* --- what the sender keeps --- */

enum sp_err store_sent(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE],
                       struct store_sent *out)
{
    MDB_txn *txn;
    struct sent sent;
    enum sp_err err = current(s, &txn);
    if (err == SP_OK)
        err = sent_get(s, txn, user, message_id, &sent);
    *out = (struct store_sent){0};
    if (err == SP_OK)
        *out = (struct store_sent){sent.no, sent.sent_ms, sent.recipients, sent.copy_len};
    return err;
}

enum sp_err store_sent_copy(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE],
                            size_t offset, uint8_t *out, size_t len, size_t *got)
{
    MDB_txn *txn;
    struct sent sent;
    *got = 0;
    enum sp_err err = current(s, &txn);
    if (err == SP_OK)
        err = sent_get(s, txn, user, message_id, &sent);
    if (err != SP_OK)
        return err;
    if (sent.copy_len == 0)
        return SP_ERR_NOT_FOUND;
    if (offset > sent.copy_len)
        return SP_ERR_LIMIT;
    *got = len < sent.copy_len - offset ? len : sent.copy_len - offset;
    return blocks_read(s, txn, sent.copy_no, 0, offset, out, *got);
}

enum sp_err store_recipient_get(struct store *s, uint64_t no, uint16_t index,
                                struct store_recipient *out, bool *open)
{
    MDB_txn *txn;
    uint16_t job;
    enum sp_err err = current(s, &txn);
    *open = false;
    if (err == SP_OK)
        err = recipient_get(s, txn, no, index, out, &job);
    if (err == SP_OK)
        *open = delivery_open(out->state);
    return err;
}

enum sp_err store_recipients_each(struct store *s, uint64_t no,
                                  enum sp_err (*each)(void *ctx, const struct store_recipient *r),
                                  void *ctx)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    struct key key = key_u64(no);
    MDB_val k = {.mv_size = key.len, .mv_data = key.bytes}, v;
    enum sp_err err = current(s, &txn);
    if (err != SP_OK)
        return err;
    if (mdb_cursor_open(txn, s->dbi[T_RECIPIENTS], &cursor) != 0)
        return SP_ERR_MEMORY;
    for (int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE); rc == 0 && err == SP_OK;
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct store_recipient r;
        struct store_job job;
        uint16_t number;
        struct wire_in at = wire_in(k.mv_data, k.mv_size);
        if (wire_get_u64(&at) != no)
            break;
        err = recipient_decode(wire_in(v.mv_data, v.mv_size), &r, &number);
        r.index = wire_get_u16(&at);
        if (err == SP_OK && delivery_open(r.state) && job_read(s, txn, no, number, &job) == SP_OK)
            r.next_ms = job.next_ms;
        if (err == SP_OK)
            err = each(ctx, &r);
    }
    mdb_cursor_close(cursor);
    return err;
}

/* --- ending --- */

static enum sp_err forget(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE],
                          const struct sent *sent)
{
    struct key key = key_u64_bytes(user, message_id, ID_SIZE);
    enum sp_err err = row_delete(s, T_SENT, &key);
    for (uint16_t i = 0; err == SP_OK && i < sent->recipients; i++) {
        struct key row = key_u64_u16(sent->no, i);
        err = row_delete(s, T_RECIPIENTS, &row);
    }
    return err;
}

enum sp_err sent_detach(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE],
                        uint64_t until_ms)
{
    struct sent sent;
    enum sp_err err = sent_get(s, s->write, user, message_id, &sent);
    if (err != SP_OK)
        return group_lose(s, MDB_CORRUPTED);
    if (sent.copy_len > 0)
        err = blocks_drop(s, sent.copy_no);
    if (err == SP_OK && until_ms == 0)
        return forget(s, user, message_id, &sent);
    sent.copy_len = 0;
    sent.until_ms = until_ms;
    if (err == SP_OK)
        err = sent_put(s, user, message_id, &sent);
    return err == SP_OK ? timer_put(s, until_ms, TIMER_STATUS, user, message_id) : err;
}

enum sp_err sent_expire(struct store *s, uint64_t now_ms, uint64_t user,
                        const uint8_t message_id[ID_SIZE])
{
    struct sent sent;
    bool any, needed;
    enum sp_err err = sent_get(s, s->write, user, message_id, &sent);
    if (err == SP_OK)
        err = jobs_left(s, s->write, sent.no, 0, &any, &needed);
    if (err != SP_OK)
        return err;
    if (!any)
        return forget(s, user, message_id, &sent);
    return timer_put(s, now_ms + DAY_MS, TIMER_STATUS, user, message_id); /* still under way */
}
