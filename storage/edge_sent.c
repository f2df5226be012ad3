/* Web's edge: what a user may ask about mail that he sent, and about whom he may send to. */
#include "storage/edges.h"
#include "daemon/messages.h"

#include <string.h>

#define TEXT_FIXED  64u /* bytes of one recipient in a status beside address and text */
#define REVOKES_MAX 512u

static uint8_t reply_buf[IPC_MAX_PAYLOAD];

enum sp_err on_sent(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    static uint8_t part[PART_MAX];
    struct store_role *r = ctx;
    struct store_sent sent;
    size_t got = 0;
    const struct session *s = token_session(r, &frame->body);
    const uint8_t *id = wire_get_bytes(&frame->body, ID_SIZE);
    uint32_t offset = wire_get_u32(&frame->body);
    if (frame->body.bad)
        return SP_ERR_FORMAT;
    enum sp_err err = s != NULL ? store_sent(r->store, s->user, id, &sent) : SP_ERR_DENIED;
    if (err == SP_OK)
        err = store_sent_copy(r->store, s->user, id, offset, part, sizeof(part), &got);
    if (err != SP_OK)
        return answer(peer, SW_SENT_REPLY, frame->id, err);
    struct wire_out out = wire_out(reply_buf, sizeof(reply_buf));
    wire_put_u8(&out, SP_OK);
    wire_put_u32(&out, (uint32_t)sent.copy_len);
    wire_put_bytes(&out, part, got);
    return ipc_peer_send(peer, SW_SENT_REPLY, frame->id, &out, -1);
}

/* --- status --- */

struct table {
    struct wire_out *out;
    size_t text_max; /* of each, so that all fit into the frame */
    size_t n, fixed;
};

static enum sp_err measure(void *ctx, const struct store_recipient *r)
{
    struct table *t = ctx;
    t->n++;
    t->fixed += TEXT_FIXED + r->address.len;
    return SP_OK;
}

static enum sp_err put_status(void *ctx, const struct store_recipient *r)
{
    struct table *t = ctx;
    wire_put_b16(t->out, r->address.bytes, r->address.len);
    wire_put_u8(t->out, r->kind);
    wire_put_u8(t->out, (uint8_t)r->state);
    wire_put_u64(t->out, r->since_ms);
    wire_put_u64(t->out, r->next_ms);
    wire_put_u32(t->out, r->attempts);
    wire_put_b16(t->out, r->text.bytes, r->text.len < t->text_max ? r->text.len : t->text_max);
    wire_put_u64(t->out, r->expires_ms);
    wire_put_u32(t->out, r->visits);
    wire_put_u64(t->out, r->opened_ms);
    return SP_OK;
}

enum sp_err on_delivery_status(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    struct store_sent sent;
    struct wire_out out = wire_out(reply_buf, sizeof(reply_buf));
    struct table t = {.out = &out};
    const struct session *s = token_session(r, &frame->body);
    const uint8_t *id = wire_get_bytes(&frame->body, ID_SIZE);
    if (id == NULL)
        return SP_ERR_FORMAT;
    enum sp_err err = s != NULL ? store_sent(r->store, s->user, id, &sent) : SP_ERR_DENIED;
    if (err == SP_OK)
        err = store_recipients_each(r->store, sent.no, measure, &t);
    if (err == SP_OK && t.n > 0 && t.fixed < sizeof(reply_buf) - TEXT_FIXED)
        t.text_max = (sizeof(reply_buf) - TEXT_FIXED - t.fixed) / t.n;
    wire_put_u8(&out, SP_OK);
    wire_put_u64(&out, err == SP_OK ? sent.sent_ms : 0);
    wire_put_u16(&out, (uint16_t)t.n);
    if (err == SP_OK)
        err = store_recipients_each(r->store, sent.no, put_status, &t);
    if (err == SP_OK && !wire_out_ok(&out))
        err = SP_ERR_LIMIT;
    if (err != SP_OK)
        return answer(peer, SW_DELIVERY_STATUS_REPLY, frame->id, err);
    return ipc_peer_send(peer, SW_DELIVERY_STATUS_REPLY, frame->id, &out, -1);
}

/* --- revoking --- */

struct found {
    uint64_t user;
    size_t n;
    struct {
        uint64_t no;
        uint16_t job, secret;
    } at[REVOKES_MAX];
};

static enum sp_err collect(void *ctx, const struct store_job *job)
{
    struct found *f = ctx;
    if (job->user != f->user || f->n == REVOKES_MAX)
        return SP_OK;
    f->at[f->n].no = job->no;
    f->at[f->n].secret = job->secret;
    f->at[f->n++].job = job->job;
    return SP_OK;
}

enum sp_err revoke_open(struct store_role *r, uint64_t user, uint64_t no, const char *address,
                        size_t *n)
{
    static struct found f;
    struct store_job job;
    size_t links = 0;
    f.user = user;
    f.n = 0;
    *n = 0;
    enum sp_err err = store_jobs_each(r->store, no, collect, &f);
    for (size_t i = 0; err == SP_OK && i < f.n; i++) {
        size_t some, left;
        if (queue_leased(r->queue, f.at[i].no, f.at[i].job))
            continue; /* it may have been sent by now */
        err = store_job_get(r->store, f.at[i].no, f.at[i].job, &job);
        if (err == SP_OK)
            err = store_job_revoke(r->store, &job, address, now_ms(), &some, &left);
        if (err == SP_OK && job.secret == 0) /* links count themselves */
            *n += some;
    }
    if (err == SP_OK)
        err = group_flush(r);
    if (err == SP_OK)
        err = links_revoke(r, user, no, address, "revoked", &links);
    *n += links;
    for (size_t i = 0; err == SP_OK && i < f.n; i++) {
        if (store_job_get(r->store, f.at[i].no, f.at[i].job, &job) == SP_ERR_NOT_FOUND)
            queue_remove(r->queue, f.at[i].no, f.at[i].job);
        secret_check(r, f.at[i].no, f.at[i].secret, "revoked");
    }
    sweep_soon(r);
    return err;
}

enum sp_err on_revoke(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    struct store_sent sent;
    uint8_t buf[3];
    char address[STORE_MAX_ADDRESS];
    size_t len, n = 0;
    const struct session *s = token_session(r, &frame->body);
    const uint8_t *id = wire_get_bytes(&frame->body, ID_SIZE);
    const uint8_t *text = wire_get_b16(&frame->body, STORE_MAX_ADDRESS, &len);
    if (frame->body.bad)
        return SP_ERR_FORMAT;
    enum sp_err err = s != NULL ? store_sent(r->store, s->user, id, &sent) : SP_ERR_DENIED;
    if (err == SP_OK && len > 0 && store_address(text, len, false, address) != SP_OK)
        err = SP_ERR_NOT_FOUND;
    if (err == SP_OK)
        err = revoke_open(r, s->user, sent.no, len > 0 ? address : NULL, &n);
    if (err != SP_OK)
        return answer(peer, SW_REVOKE_REPLY, frame->id, err);
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u8(&out, SP_OK);
    wire_put_u16(&out, (uint16_t)n);
    return ipc_peer_send(peer, SW_REVOKE_REPLY, frame->id, &out, -1);
}

/* --- whom one may send to --- */

/* Somebody without a key yet cannot be sent to: the answer is that he is not there yet. */
static enum sp_err resolve(struct store_role *r, const char *address, struct store_user *users,
                           size_t *n)
{
    enum sp_err err = store_resolve(r->store, address, users, STORE_MAX_TARGETS, n);
    for (size_t i = 0; err == SP_OK && i < *n; i++)
        if (users[i].state != USER_ENROLLED)
            err = SP_ERR_NO_KEY;
    return err;
}

enum sp_err on_resolve(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    static struct store_user users[STORE_MAX_TARGETS];
    struct store_role *r = ctx;
    char address[STORE_MAX_ADDRESS];
    size_t len, n = 0;
    const struct session *s = token_session(r, &frame->body);
    const uint8_t *text = wire_get_b16(&frame->body, STORE_MAX_ADDRESS, &len);
    if (frame->body.bad)
        return SP_ERR_FORMAT;
    enum sp_err err = s != NULL ? store_address(text, len, false, address) : SP_ERR_DENIED;
    bool ours = err == SP_OK && own_domain(r, address);
    if (ours)
        err = resolve(r, address, users, &n);
    if (err != SP_OK)
        return answer(peer, SW_RESOLVE_REPLY, frame->id, err);
    struct wire_out out = wire_out(reply_buf, sizeof(reply_buf));
    wire_put_u8(&out, SP_OK);
    wire_put_u8(&out, ours);
    wire_put_u16(&out, (uint16_t)n);
    for (size_t i = 0; i < n; i++)
        wire_put_bytes(&out, users[i].user_id, ID_SIZE);
    return ipc_peer_send(peer, SW_RESOLVE_REPLY, frame->id, &out, -1);
}

enum sp_err on_keeper_key(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    uint8_t buf[1 + KEY_SIZE];
    struct wire_out out = wire_out(buf, sizeof(buf));
    if (!r->keeper_ready)
        return answer(peer, SW_KEEPER_KEY_REPLY, frame->id, SP_ERR_NO_SPACE);
    wire_put_u8(&out, SP_OK);
    wire_put_bytes(&out, r->keeper_pk, KEY_SIZE);
    return ipc_peer_send(peer, SW_KEEPER_KEY_REPLY, frame->id, &out, -1);
}
