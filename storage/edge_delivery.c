/* A delivery's edge: one process that speaks to a foreign server on behalf of one job, and that the
 * server may have taken over. It reads its own lease's message, says once of each of its own
 * recipients what became of it, and may put a report for the sender beside that. Anything else ends
 * this channel alone. */
#include "storage/delivery.h"
#include "daemon/messages.h"

#include <stdlib.h>
#include <string.h>

/* A job with all that it may have fits into its frame: head, the sender's own addresses behind the
 * one that the mail is from, recipients. */
#define JOB_HEAD 2048u
#define JOB_NAME (2u + STORE_MAX_ADDRESS)
_Static_assert(JOB_HEAD + (1u + STORE_MAX_NAMES) * JOB_NAME +
                       STORE_JOB_RECIPIENTS * (2u + JOB_NAME + 2u + SIGN_SIZE) <=
                   IPC_MAX_PAYLOAD,
               "a job fits into a frame");

/* --- the job --- */

static enum sp_err put_name(void *ctx, const char *address)
{
    struct wire_out *out = ctx;
    wire_put_str(out, address);
    return SP_OK;
}

struct names {
    struct wire_out *out;
    size_t n;
};

/* More than they may have, from before there was such a limit: their mail waits. */
static enum sp_err add_name(void *ctx, const char *address)
{
    struct names *names = ctx;
    if (names->n == 1 + STORE_MAX_NAMES) {
        role_log("a user has more than %u addresses; their mail waits until aliases are removed",
                 STORE_MAX_NAMES);
        return SP_ERR_LIMIT;
    }
    names->n++;
    return put_name(names->out, address);
}

static enum sp_err put_names(struct store_role *r, const struct store_job *job,
                             struct wire_out *out)
{
    struct names names = {.out = out};
    uint8_t *count = out->at + out->len;
    wire_put_u16(out, 0);
    if (!wire_out_ok(out))
        return SP_ERR_LIMIT;
    add_name(&names, job->mail_from);
    enum sp_err err = store_user_names(r->store, job->user, add_name, &names);
    count[0] = (uint8_t)(names.n >> 8);
    count[1] = (uint8_t)names.n;
    return err;
}

static enum sp_err put_recipients(struct store_role *r, const struct lease *l, struct wire_out *out)
{
    wire_put_u16(out, l->n_open);
    for (uint16_t i = 0; i < l->n_open; i++) {
        struct store_recipient recipient;
        bool open;
        enum sp_err err = store_recipient_get(r->store, l->job.no, l->open[i], &recipient, &open);
        if (err != SP_OK)
            return err;
        wire_put_u16(out, l->open[i]);
        wire_put_b16(out, recipient.address.bytes, recipient.address.len);
        wire_put_b16(out, recipient.order.bytes, recipient.order.len);
    }
    return SP_OK;
}

static enum sp_err put_job(struct store_role *r, const struct lease *l, struct wire_out *out)
{
    const struct store_job *job = &l->job;
    struct store_user user;
    struct store_secret secret = {0};
    struct store_link link = {0};
    bool needed;
    enum sp_err err = store_user_by_no(r->store, job->user, &user);
    if (err == SP_OK && job->closed == CLOSED_NOT)
        err = store_secret_get(r->store, job->no, job->secret, &secret, &needed);
    if (err == SP_OK && secret.kind == BOX_PASSWORD)
        err = store_link_get(r->store, secret.recipient_id, &link);
    if (err != SP_OK)
        return err;
    wire_put_u8(out, SP_OK);
    wire_put_u8(out, secret.kind);
    wire_put_bytes(out, job->message_id, ID_SIZE);
    wire_put_bytes(out, secret.recipient_id, ID_SIZE);
    wire_put_u64(out, job->queued_ms);
    wire_put_u64(out, job->queued_ms + r->role->config->retry_for * 1000u);
    wire_put_u32(out, job->attempts + 1);
    wire_put_str(out, job->mail_from);
    wire_put_str(out, job->destination);
    wire_put_bytes(out, user.user_id, ID_SIZE);
    wire_put_u32(out, user.generation);
    wire_put_bytes(out, user.puk_pk, KEY_SIZE);
    wire_put_bytes(out, job->report_pk, KEY_SIZE);
    wire_put_u64(out, link.expires_ms);
    if (secret.kind == BOX_PASSWORD) {
        wire_put_b16(out, link.subject.bytes, link.subject.len);
        wire_put_bytes(out, link.digest, HASH_SIZE);
    } else {
        wire_put_str(out, closed_text(job->closed));
    }
    err = put_names(r, job, out);
    return err == SP_OK ? put_recipients(r, l, out) : err;
}

/* Envelope and box of a mail in the queue. *box lives until the next call. */
static enum sp_err get_letter(struct store_role *r, uint64_t no, const uint8_t **envelope,
                              size_t *len, const uint8_t **box, size_t *box_len)
{
    static uint8_t copy[BOX_MAX];
    struct store_secret secret = {0};
    bool needed;
    enum sp_err err = store_secret_get(r->store, no, 0, &secret, &needed);
    if (err == SP_OK && secret.box_len > sizeof(copy))
        err = SP_ERR_FORMAT;
    if (err != SP_OK)
        return err;
    memcpy(copy, secret.box, secret.box_len); /* does not outlive the next read */
    *box = copy;
    *box_len = secret.box_len;
    return store_queued_envelope(r->store, no, envelope, len);
}

#define LETTER_HEADS (4u + 4u + 4u + 4u)

/* A short mail comes along with its job, and spares three questions. */
static void put_letter(struct store_role *r, uint64_t no, struct wire_out *out)
{
    const uint8_t *envelope, *box;
    size_t len, box_len, got = 0, start = out->len, room = out->cap - out->len;
    uint64_t total = 0;
    if (!wire_out_ok(out) || get_letter(r, no, &envelope, &len, &box, &box_len) != SP_OK ||
        room < LETTER_HEADS + PART_MAX || len + box_len > room - LETTER_HEADS - PART_MAX)
        return;
    wire_put_u32(out, (uint32_t)(8u + len + box_len));
    wire_put_b32(out, envelope, len);
    wire_put_b32(out, box, box_len);
    uint8_t *bytes = out->at + out->len + 4;
    if (store_queued_read(r->store, no, 0, 0, bytes, PART_MAX, &got, &total) == SP_OK &&
        got == total) {
        wire_put_u32(out, (uint32_t)got);
        out->len += got;
    } else {
        out->len = start;
    }
}

static uint8_t reply_buf[IPC_MAX_PAYLOAD];

static enum sp_err on_job(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct delivery *d = ctx;
    struct wire_out out = wire_out(reply_buf, sizeof(reply_buf));
    enum sp_err err = put_job(d->role, d->lease, &out);
    if (err == SP_OK && !wire_out_ok(&out))
        err = SP_ERR_LIMIT;
    if (err != SP_OK)
        return answer(peer, SD_JOB_REPLY, frame->id, err);
    /* A link's notification needs no more; so one who knows the password does not get the box. */
    if (d->lease->job.closed == CLOSED_NOT && d->lease->job.secret == 0) {
        put_letter(d->role, d->lease->job.no, &out);
        ipc_permit(peer, SD_ENVELOPE);
        ipc_permit(peer, SD_PIECE);
    }
    ipc_permit(peer, SD_REPORT_BYTES);
    ipc_permit(peer, SD_RESULT);
    return ipc_peer_send(peer, SD_JOB_REPLY, frame->id, &out, -1);
}

/* --- reading --- */

static enum sp_err on_envelope(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct delivery *d = ctx;
    const uint8_t *envelope, *box;
    size_t len = 0, box_len = 0;
    uint32_t offset = wire_get_u32(&frame->body);
    enum sp_err err = get_letter(d->role, d->lease->job.no, &envelope, &len, &box, &box_len);
    struct wire_out out = wire_out(reply_buf, sizeof(reply_buf));
    wire_put_u8(&out, SP_OK);
    if (err == SP_OK)
        err = put_sealed(&out, envelope, len, box, box_len, offset);
    if (err != SP_OK)
        return answer(peer, SD_ENVELOPE_REPLY, frame->id, err);
    return ipc_peer_send(peer, SD_ENVELOPE_REPLY, frame->id, &out, -1);
}

#define PIECE_HEAD (1u + 8u + 4u) /* of the reply, in front of the bytes */
_Static_assert(PIECE_HEAD + SD_PIECE_MAX <= sizeof(reply_buf), "a part fits");

static enum sp_err on_piece(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct delivery *d = ctx;
    size_t got = 0;
    uint64_t total = 0;
    uint16_t piece = wire_get_u16(&frame->body);
    uint64_t offset = wire_get_u64(&frame->body);
    uint32_t n = wire_get_u32(&frame->body);
    if (n == 0 || n > SD_PIECE_MAX)
        return SP_ERR_FORMAT;
    /* Straight to where they stand in the reply. */
    enum sp_err err = store_queued_read(d->role->store, d->lease->job.no, piece, offset,
                                        reply_buf + PIECE_HEAD, n, &got, &total);
    if (err != SP_OK)
        return answer(peer, SD_PIECE_REPLY, frame->id, err);
    struct wire_out out = wire_out(reply_buf, sizeof(reply_buf));
    wire_put_u8(&out, SP_OK);
    wire_put_u64(&out, total);
    wire_put_u32(&out, (uint32_t)got);
    out.len += got;
    return ipc_peer_send(peer, SD_PIECE_REPLY, frame->id, &out, -1);
}

/* --- the channel --- */

static void on_channel_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct delivery *d = ctx;
    struct store_role *r = d->role;
    struct lease *l = d->lease;
    if (why != SP_ERR_PEER)
        role_log("a delivery loses its channel: %s", sp_err_text(why));
    delivery_report_drop(d);
    sweep_soon(r);
    LIST_REMOVE(d, next);
    r->n_deliveries--;
    l->delivery = NULL;
    ipc_peer_free(peer);
    free(d);
    lease_end_if_over(r, l);
}

#define OUTCOME_MIN 9u
static const struct ipc_rule rules[] = {
    {SD_JOB, false, true, 0, 0, on_job},
    {SD_ENVELOPE, false, false, 4, 4, on_envelope},
    {SD_PIECE, false, false, 14, 14, on_piece},
    {SD_REPORT_BYTES, false, false, 1, PART_MAX, delivery_report_bytes},
    {SD_REPORT, false, false, 8, IPC_MAX_PAYLOAD, delivery_report},
    {SD_RESULT, false, false, 5 + OUTCOME_MIN, IPC_MAX_PAYLOAD, delivery_result},
};
/* First of all it asks for its job, once. */
const struct ipc_rules delivery_rules = {rules, sizeof(rules) / sizeof(rules[0]), 1,
                                         on_channel_gone};

enum sp_err on_delivery(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    (void)peer;
    uint32_t id = wire_get_u32(&frame->body);
    struct lease *l = lease_find(r, wire_get_u64(&frame->body));
    if (l == NULL || frame->body.bad || l->delivery != NULL || l->ended)
        return SP_ERR_FORMAT;
    struct delivery *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return SP_OK; /* the caller closes the channel, and the delivery ends */
    *d = (struct delivery){.id = id, .role = r, .lease = l};
    d->peer = ipc_peer_new(r->role->base, frame->fd, &delivery_rules, d);
    frame->fd = -1;
    if (d->peer == NULL) {
        free(d);
        return SP_OK;
    }
    l->delivery = d;
    LIST_INSERT_HEAD(&r->deliveries, d, next);
    r->n_deliveries++;
    return SP_OK;
}
