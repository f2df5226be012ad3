/* The queue on LMDB: jobs, secrets as the keeper wrapped them, results. All jobs of a message
 * together are one of those that need its pieces. What a delivery reports is checked by its edge
 * for form, and here for whether it may say so. */
#include "storage/lmdb.h"

#include <string.h>

#define JOB_MAX                                                                                    \
    (8u + 16u + KEY_SIZE + 8u + 8u + 4u + 1u + 1u + 2u + 3u * (2u + STORE_ANSWER) + 2u + 200u)

/* --- rows --- */

static void put_text(struct wire_out *out, const char *text)
{
    wire_put_b16(out, text, strlen(text));
}

static void get_text(struct wire_in *in, char *text, size_t cap)
{
    size_t len;
    const uint8_t *at = wire_get_b16(in, cap - 1, &len);
    if (at != NULL)
        memcpy(text, at, len);
    text[len] = '\0';
}

enum sp_err job_write(struct store *s, const struct store_job *j)
{
    uint8_t buf[JOB_MAX];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct key key = key_u64_u16(j->no, j->job);
    wire_put_u64(&out, j->user);
    wire_put_bytes(&out, j->message_id, ID_SIZE);
    wire_put_u64(&out, j->queued_ms);
    wire_put_u64(&out, j->next_ms);
    wire_put_u32(&out, j->attempts);
    wire_put_u8(&out, j->crashes);
    wire_put_u8(&out, (uint8_t)j->closed);
    wire_put_u16(&out, j->secret);
    wire_put_bytes(&out, j->report_pk, KEY_SIZE);
    put_text(&out, j->destination);
    put_text(&out, j->mail_from);
    put_text(&out, j->answer);
    wire_put_u16(&out, j->n);
    for (uint16_t i = 0; i < j->n; i++)
        wire_put_u16(&out, j->recipient[i]);
    return wire_out_ok(&out) ? row_put(s, T_JOBS, &key, buf, out.len) : SP_ERR_LIMIT;
}

static enum sp_err job_decode(struct wire_in in, struct store_job *j)
{
    j->user = wire_get_u64(&in);
    wire_get_copy(&in, j->message_id, ID_SIZE);
    j->queued_ms = wire_get_u64(&in);
    j->next_ms = wire_get_u64(&in);
    j->attempts = wire_get_u32(&in);
    j->crashes = wire_get_u8(&in);
    j->closed = wire_get_u8(&in);
    j->secret = wire_get_u16(&in);
    wire_get_copy(&in, j->report_pk, KEY_SIZE);
    get_text(&in, j->destination, sizeof(j->destination));
    get_text(&in, j->mail_from, sizeof(j->mail_from));
    get_text(&in, j->answer, sizeof(j->answer));
    j->n = wire_get_u16(&in);
    if (j->n > STORE_JOB_RECIPIENTS)
        return SP_ERR_FORMAT;
    for (uint16_t i = 0; i < j->n; i++)
        j->recipient[i] = wire_get_u16(&in);
    return wire_in_done(&in) ? SP_OK : SP_ERR_FORMAT;
}

enum sp_err job_read(struct store *s, MDB_txn *txn, uint64_t no, uint16_t job,
                     struct store_job *out)
{
    struct key key = key_u64_u16(no, job);
    struct wire_in in;
    enum sp_err err = row_get(s, txn, T_JOBS, &key, &in);
    out->no = no;
    out->job = job;
    return err == SP_OK ? job_decode(in, out) : err;
}

enum sp_err store_job_get(struct store *s, uint64_t no, uint16_t job, struct store_job *out)
{
    MDB_txn *txn;
    enum sp_err err = current(s, &txn);
    return err == SP_OK ? job_read(s, txn, no, job, out) : err;
}

enum sp_err store_jobs_each(struct store *s, uint64_t no,
                            enum sp_err (*each)(void *ctx, const struct store_job *job), void *ctx)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    struct store_job job;
    struct key key = key_u64(no);
    MDB_val k = {.mv_size = key.len, .mv_data = key.bytes}, v;
    enum sp_err err = current(s, &txn);
    if (err != SP_OK)
        return err;
    if (mdb_cursor_open(txn, s->dbi[T_JOBS], &cursor) != 0)
        return SP_ERR_MEMORY;
    for (int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE); rc == 0 && err == SP_OK;
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct wire_in at = wire_in(k.mv_data, k.mv_size);
        job.no = wire_get_u64(&at);
        job.job = wire_get_u16(&at);
        if (no != 0 && job.no != no)
            break;
        err = job_decode(wire_in(v.mv_data, v.mv_size), &job);
        if (err == SP_OK)
            err = each(ctx, &job);
    }
    mdb_cursor_close(cursor);
    return err;
}

/* --- queueing --- */

/* Jobs go to domains in A-labels, as DNS knows them. */
void job_destination(const struct store_text *address, char out[STORE_MAX_ADDRESS])
{
    char normal[STORE_MAX_ADDRESS];
    out[0] = '\0';
    if (store_address(address->bytes, address->len, false, normal) != SP_OK)
        return; /* the edge has let none such through */
    const char *domain = store_address_domain(normal);
    memcpy(out, domain, strlen(domain) + 1);
}

enum sp_err secret_put(struct store *s, uint64_t no, const struct store_secret *secret)
{
    struct key key = key_u64_u16(no, secret->n);
    size_t len = 1 + 2 * ID_SIZE + 4 + 8 + 2 + secret->wrapped_len + 2 + secret->box_len;
    void *space;
    enum sp_err err = row_reserve(s, T_SECRETS, &key, len, &space);
    if (err != SP_OK)
        return err;
    struct wire_out out = wire_out(space, len);
    wire_put_u8(&out, secret->kind);
    wire_put_bytes(&out, secret->message_id, ID_SIZE);
    wire_put_bytes(&out, secret->recipient_id, ID_SIZE);
    wire_put_u32(&out, secret->slot);
    wire_put_u64(&out, secret->received_ms);
    wire_put_b16(&out, secret->wrapped, secret->wrapped_len);
    wire_put_b16(&out, secret->box, secret->box_len);
    return SP_OK;
}

enum sp_err jobs_add(struct store *s, uint64_t no, const struct store_outgoing *o, uint16_t first,
                     uint16_t *next)
{
    struct store_job j = {.no = no,
                          .user = o->user,
                          .queued_ms = o->message.received_ms,
                          .next_ms = o->message.received_ms};
    memcpy(j.message_id, o->message.message_id, ID_SIZE);
    memcpy(j.report_pk, o->report_pk, KEY_SIZE);
    strncpy(j.mail_from, o->mail_from, sizeof(j.mail_from) - 1);
    enum sp_err err = secret_put(s, no, o->secret);
    for (size_t i = 0; err == SP_OK && i < o->n_outside; i++) {
        char destination[STORE_MAX_ADDRESS];
        job_destination(&o->outside[i].address, destination);
        if (i > 0 && (j.n == STORE_JOB_RECIPIENTS || strcmp(destination, j.destination) != 0)) {
            err = job_write(s, &j);
            j.job++;
            j.n = 0;
        }
        memcpy(j.destination, destination, sizeof(destination));
        struct store_recipient r = {.index = (uint16_t)(first + i),
                                    .kind = o->secret->kind,
                                    .state = DELIVERY_QUEUED,
                                    .since_ms = o->message.received_ms,
                                    .address = o->outside[i].address,
                                    .order = {o->outside[i].order, SIGN_SIZE}};
        j.recipient[j.n++] = r.index;
        if (err == SP_OK)
            err = recipient_put(s, no, &r, j.job);
    }
    *next = j.job + 1;
    return err == SP_OK ? job_write(s, &j) : err;
}

/* --- results --- */

enum sp_err jobs_left(struct store *s, MDB_txn *txn, uint64_t no, uint16_t n, bool *any,
                      bool *needed)
{
    MDB_cursor *cursor;
    struct store_job job;
    struct key key = key_u64(no);
    MDB_val k = {.mv_size = key.len, .mv_data = key.bytes}, v;
    enum sp_err err = SP_OK;
    *any = *needed = false;
    if (mdb_cursor_open(txn, s->dbi[T_JOBS], &cursor) != 0)
        return SP_ERR_MEMORY;
    for (int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE); rc == 0 && err == SP_OK;
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct wire_in at = wire_in(k.mv_data, k.mv_size);
        if (wire_get_u64(&at) != no)
            break;
        err = job_decode(wire_in(v.mv_data, v.mv_size), &job);
        *any = true;
        *needed = *needed || (err == SP_OK && job.closed == CLOSED_NOT && job.secret == n);
    }
    mdb_cursor_close(cursor);
    return err;
}

/* Recipients of the job that are open; the job's row goes with the last one, and with the last row
 * the queue's hold on the pieces. */
static enum sp_err job_close(struct store *s, const struct store_job *j, size_t *left)
{
    struct store_recipient r;
    uint16_t job;
    bool any, needed;
    struct wire_in in;
    struct key key = key_u64_u16(j->no, j->job);
    *left = 0;
    for (uint16_t i = 0; i < j->n; i++)
        *left += recipient_get(s, s->write, j->no, j->recipient[i], &r, &job) == SP_OK &&
                 delivery_open(r.state);
    if (*left > 0 || row_get(s, s->write, T_JOBS, &key, &in) != SP_OK)
        return SP_OK;
    enum sp_err err = row_delete(s, T_JOBS, &key);
    if (err == SP_OK)
        err = jobs_left(s, s->write, j->no, 0, &any, &needed);
    return err == SP_OK && !any ? message_unref(s, j->no) : err;
}

static bool may_say(struct store *s, const struct store_job *j, const struct store_outcome *o,
                    size_t i)
{
    struct store_recipient r;
    uint16_t job;
    for (size_t k = 0; k < i; k++)
        if (o[k].index == o[i].index)
            return false;
    return recipient_get(s, s->write, j->no, o[i].index, &r, &job) == SP_OK && job == j->job &&
           r.kind != 1 && delivery_open(r.state);
}

static enum sp_err set_state(struct store *s, const struct store_job *j, uint16_t index,
                             enum store_delivery state, const char *text, uint64_t now_ms,
                             bool attempt)
{
    struct store_recipient r;
    uint16_t job;
    enum sp_err err = recipient_get(s, s->write, j->no, index, &r, &job);
    if (err != SP_OK)
        return err;
    r.state = state;
    r.since_ms = now_ms;
    r.attempts = j->attempts + attempt;
    r.text = (struct store_text){(const uint8_t *)text, strlen(text)};
    return recipient_put(s, j->no, &r, job);
}

enum sp_err store_job_result(struct store *s, struct store_job *job, const struct store_outcome *o,
                             size_t n, uint64_t now_ms, size_t *left)
{
    *left = 0;
    /* Out of the reserve, if it must be: what was sent must not be sent again for want of room. */
    enum sp_err err = group_open(s);
    for (size_t i = 0; err == SP_OK && i < n; i++)
        if (!may_say(s, job, o, i))
            err = SP_ERR_STATE;
    if (err != SP_OK)
        return err;
    for (size_t i = 0; err == SP_OK && i < n; i++)
        err = set_state(s, job, o[i].index, o[i].state, o[i].text, now_ms, true);
    return err == SP_OK ? job_close(s, job, left) : err;
}

enum sp_err store_job_put(struct store *s, const struct store_job *job)
{
    struct store_job now;
    enum sp_err err = group_open(s);
    if (err == SP_OK)
        err = job_read(s, s->write, job->no, job->job, &now);
    if (err != SP_OK)
        return err;
    now.attempts = job->attempts;
    now.crashes = job->crashes;
    now.closed = job->closed;
    now.next_ms = job->next_ms;
    memcpy(now.answer, job->answer, sizeof(now.answer));
    return job_write(s, &now);
}

static bool is_for(const struct store_recipient *r, const char *address)
{
    char name[STORE_MAX_ADDRESS];
    return address == NULL ||
           (store_address(r->address.bytes, r->address.len, false, name) == SP_OK &&
            strcmp(name, address) == 0);
}

enum sp_err job_end(struct store *s, struct store_job *job, const char *address,
                    enum store_delivery state, uint64_t now_ms, size_t *n, size_t *left)
{
    *n = *left = 0;
    enum sp_err err = group_open(s);
    for (uint16_t i = 0; err == SP_OK && i < job->n; i++) {
        struct store_recipient r;
        uint16_t number;
        err = recipient_get(s, s->write, job->no, job->recipient[i], &r, &number);
        if (err == SP_ERR_NOT_FOUND) { /* the sender is gone, and his statuses with him */
            err = SP_OK;
            continue;
        }
        if (err != SP_OK || !delivery_open(r.state) || !is_for(&r, address))
            continue;
        err = set_state(s, job, job->recipient[i], state, "", now_ms, false);
        (*n)++;
    }
    return err == SP_OK ? job_close(s, job, left) : err;
}

enum sp_err store_job_revoke(struct store *s, struct store_job *job, const char *address,
                             uint64_t now_ms, size_t *n, size_t *left)
{
    return job_end(s, job, address, DELIVERY_REVOKED, now_ms, n, left);
}

/* --- secrets --- */

static enum sp_err secret_decode(struct wire_in in, struct store_secret *out)
{
    *out = (struct store_secret){.kind = wire_get_u8(&in)};
    wire_get_copy(&in, out->message_id, ID_SIZE);
    wire_get_copy(&in, out->recipient_id, ID_SIZE);
    out->slot = wire_get_u32(&in);
    out->received_ms = wire_get_u64(&in);
    const uint8_t *wrapped = wire_get_b16(&in, STORE_WRAPPED_MAX, &out->wrapped_len);
    out->box = wire_get_b16(&in, UINT16_MAX, &out->box_len);
    if (!wire_in_done(&in))
        return SP_ERR_FORMAT;
    memcpy(out->wrapped, wrapped, out->wrapped_len);
    return SP_OK;
}

/* A link's box is needed as long as the link lives, all others by jobs. */
static enum sp_err is_needed(struct store *s, MDB_txn *txn, uint64_t no,
                             const struct store_secret *secret, bool *needed)
{
    struct store_link link;
    bool any;
    *needed = false;
    if (secret->kind != 0)
        return jobs_left(s, txn, no, secret->n, &any, needed);
    enum sp_err err = link_read(s, txn, secret->recipient_id, &link);
    *needed = err == SP_OK && link.ended == DELIVERY_QUEUED;
    return err == SP_ERR_NOT_FOUND ? SP_OK : err;
}

enum sp_err store_secret_get(struct store *s, uint64_t no, uint16_t n, struct store_secret *out,
                             bool *needed)
{
    MDB_txn *txn;
    struct wire_in in;
    struct key key = key_u64_u16(no, n);
    *needed = false;
    enum sp_err err = current(s, &txn);
    if (err == SP_OK)
        err = row_get(s, txn, T_SECRETS, &key, &in);
    if (err == SP_OK)
        err = secret_decode(in, out);
    out->n = n;
    return err == SP_OK ? is_needed(s, txn, no, out, needed) : err;
}

enum sp_err store_secrets_each(struct store *s,
                               enum sp_err (*each)(void *ctx, uint64_t no,
                                                   const struct store_secret *secret, bool needed),
                               void *ctx)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val k, v;
    struct store_secret secret;
    enum sp_err err = current(s, &txn);
    if (err != SP_OK)
        return err;
    if (mdb_cursor_open(txn, s->dbi[T_SECRETS], &cursor) != 0)
        return SP_ERR_MEMORY;
    while (err == SP_OK && mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
        struct wire_in at = wire_in(k.mv_data, k.mv_size);
        uint64_t no = wire_get_u64(&at);
        bool needed = false;
        err = secret_decode(wire_in(v.mv_data, v.mv_size), &secret);
        secret.n = wire_get_u16(&at);
        if (err == SP_OK)
            err = is_needed(s, txn, no, &secret, &needed);
        if (err == SP_OK)
            err = each(ctx, no, &secret, needed);
    }
    mdb_cursor_close(cursor);
    return err;
}

/* Their boxes are the secrets without a kind. */
enum sp_err store_message_links(struct store *s, uint64_t no, uint8_t (*id)[ID_SIZE], size_t max,
                                size_t *n)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    struct store_secret secret;
    struct key key = key_u64(no);
    MDB_val k = {.mv_size = key.len, .mv_data = key.bytes}, v;
    *n = 0;
    enum sp_err err = current(s, &txn);
    if (err != SP_OK)
        return err;
    if (mdb_cursor_open(txn, s->dbi[T_SECRETS], &cursor) != 0)
        return SP_ERR_MEMORY;
    for (int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
         rc == 0 && err == SP_OK && *n < max; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct wire_in at = wire_in(k.mv_data, k.mv_size);
        if (wire_get_u64(&at) != no)
            break;
        err = secret_decode(wire_in(v.mv_data, v.mv_size), &secret);
        if (err == SP_OK && secret.kind == 0)
            memcpy(id[(*n)++], secret.recipient_id, ID_SIZE);
    }
    mdb_cursor_close(cursor);
    return err;
}

enum sp_err store_secret_delete(struct store *s, uint64_t no, uint16_t n)
{
    struct key key = key_u64_u16(no, n);
    return row_delete(s, T_SECRETS, &key);
}

/* --- for a delivery --- */

enum sp_err store_queued_envelope(struct store *s, uint64_t no, const uint8_t **envelope,
                                  size_t *len)
{
    MDB_txn *txn;
    struct message m = {0};
    struct wire_in row;
    enum sp_err err = snapshot(s, &txn);
    if (err == SP_OK)
        err = message_get(s, txn, no, &m, &row);
    *envelope = m.envelope;
    *len = m.envelope_len;
    return err;
}

enum sp_err store_queued_read(struct store *s, uint64_t no, uint16_t piece, uint64_t offset,
                              uint8_t *out, size_t len, size_t *got, uint64_t *total)
{
    MDB_txn *txn;
    struct message m;
    struct wire_in row;
    *got = 0;
    *total = 0;
    enum sp_err err = snapshot(s, &txn);
    if (err == SP_OK)
        err = message_get(s, txn, no, &m, &row);
    return err != SP_OK ? err : message_read(s, txn, no, &m, piece, offset, out, len, got, total);
}
