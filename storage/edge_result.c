/* What a delivery says of its job: results, and a report to the sender. It may have been taken over
 * by the server it spoke to; what it says can only harm the recipients of its own lease. */
#include "storage/delivery.h"
#include "daemon/messages.h"
#include "envelope/envelope.h"

#include <stdlib.h>
#include <string.h>

#define REPORT_MAX   (256u * 1024u) /* bytes of piece 0 */
#define HOST_MAX     255u
#define ENHANCED_MAX 16u
#define TEXT_MAX     500u

/* --- a report --- */

void delivery_report_drop(struct delivery *d)
{
    store_upload_abort(d->upload);
    d->upload = NULL;
    free(d->sealed);
    d->sealed = NULL;
}

enum sp_err delivery_report_bytes(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct delivery *d = ctx;
    size_t n = frame->body.left;
    const uint8_t *bytes = wire_get_bytes(&frame->body, n);
    uint64_t there = d->upload != NULL ? store_upload_length(d->upload, 0) : 0;
    if (n == 0 || n > PART_MAX || n > REPORT_MAX - there)
        return SP_ERR_FORMAT;
    if (d->upload == NULL && store_upload_begin(d->role->store, &d->upload) != SP_OK)
        return answer(peer, SD_REPORT_BYTES_REPLY, frame->id, SP_ERR_MEMORY);
    enum sp_err err = store_upload_append(d->upload, 0, bytes, n);
    ipc_permit(peer, SD_REPORT);
    commit_soon(d->role);
    return answer(peer, SD_REPORT_BYTES_REPLY, frame->id, err);
}

/* It must be what the appliance seals for this sender, of what has come, and of nothing else. */
static enum sp_err check_report(const struct delivery *d, const uint8_t *envelope, size_t len,
                                const uint8_t *box_bytes, size_t box_len)
{
    struct store_user user;
    struct envelope e;
    struct box box;
    enum sp_err err = store_user_by_no(d->role->store, d->lease->job.user, &user);
    if (err != SP_OK)
        return err;
    if (envelope_decode(envelope, len, &e) != SP_OK ||
        box_decode(box_bytes, box_len, &box) != SP_OK)
        return SP_ERR_FORMAT;
    if (e.from_user || e.n_pieces != 1 || e.piece_length[0] != store_upload_length(d->upload, 0) ||
        box.kind != BOX_USER || memcmp(box.recipient_id, user.user_id, ID_SIZE) != 0)
        return SP_ERR_FORMAT;
    if (box.puk_generation != user.generation ||
        memcmp(box.recipient_pk, user.puk_pk, KEY_SIZE) != 0)
        return SP_ERR_STATE;
    return SP_OK;
}

enum sp_err delivery_report(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct delivery *d = ctx;
    size_t len, box_len;
    const uint8_t *envelope = wire_get_b32(&frame->body, IPC_MAX_PAYLOAD, &len);
    const uint8_t *box = wire_get_b32(&frame->body, BOX_MAX, &box_len);
    if (!wire_in_done(&frame->body) || d->upload == NULL || d->sealed != NULL)
        return SP_ERR_FORMAT;
    enum sp_err err = check_report(d, envelope, len, box, box_len);
    if (err == SP_ERR_FORMAT)
        return err;
    if (err == SP_OK && (d->sealed = malloc(len + box_len)) == NULL)
        err = SP_ERR_MEMORY;
    if (err == SP_OK) {
        memcpy(d->sealed, envelope, len);
        memcpy(d->sealed + len, box, box_len);
        d->envelope_len = len;
        d->box_len = box_len;
    } else {
        delivery_report_drop(d);
    }
    ipc_deny(peer, SD_REPORT);
    if (err == SP_OK)
        ipc_deny(peer, SD_REPORT_BYTES);
    return answer(peer, SD_REPORT_REPLY, frame->id, err);
}

/* Into the sender's mailbox, in the open group. */
static enum sp_err deliver_report(struct delivery *d)
{
    struct envelope e;
    struct box b;
    enum sp_err err = envelope_decode(d->sealed, d->envelope_len, &e);
    if (err == SP_OK)
        err = box_decode(d->sealed + d->envelope_len, d->box_len, &b);
    if (err != SP_OK)
        return err;
    struct store_box box = {
        .generation = b.puk_generation, .bytes = d->sealed + d->envelope_len, .len = d->box_len};
    struct store_message m = {.received_ms = now_ms(),
                              .pieces = 1,
                              .envelope = d->sealed,
                              .envelope_len = d->envelope_len,
                              .box = &box,
                              .boxes = 1};
    memcpy(m.message_id, e.message_id, ID_SIZE);
    memcpy(box.user_id, b.recipient_id, ID_SIZE);
    err = store_upload_deliver(d->upload, &m);
    d->upload = NULL;
    return err;
}

/* --- results --- */

struct result {
    char host[HOST_MAX + 1];
    uint8_t tls;
    size_t n, count[DELIVERY_EXPIRED + 1];
    uint16_t code; /* of the last that was not taken */
    bool answered; /* there was a reply at all */
    struct store_outcome o[STORE_JOB_RECIPIENTS];
};

static bool get_printable(struct wire_in *in, size_t max, char *out)
{
    size_t len;
    const uint8_t *at = wire_get_b16(in, max, &len);
    for (size_t i = 0; i < len; i++)
        if (at[i] < 0x20 || at[i] > 0x7e)
            return false;
    if (at != NULL)
        memcpy(out, at, len);
    out[len] = '\0';
    return at != NULL;
}

/* The place of an index among the lease's open recipients; n_open: it is not there. */
static uint16_t place(const struct lease *l, uint16_t index)
{
    uint16_t i = 0;
    while (i < l->n_open && l->open[i] != index)
        i++;
    return i;
}

static bool get_outcome(struct wire_in *in, struct lease *l, struct result *res)
{
    struct store_outcome *o = &res->o[res->n];
    char enhanced[ENHANCED_MAX + 1], text[TEXT_MAX + 1];
    o->index = wire_get_u16(in);
    uint8_t state = wire_get_u8(in);
    uint16_t code = wire_get_u16(in);
    if (!get_printable(in, ENHANCED_MAX, enhanced) || !get_printable(in, TEXT_MAX, text))
        return false;
    uint16_t at = place(l, o->index);
    if (in->bad || at == l->n_open || l->reported[at] || code > 999 ||
        (state != DELIVERY_SENT && state != DELIVERY_DEFERRED && state != DELIVERY_FAILED))
        return false;
    o->state = state;
    l->reported[at] = true;
    if (l->job.closed != CLOSED_NOT)
        strncpy(o->text, closed_text(l->job.closed), sizeof(o->text) - 1);
    else
        memcpy(o->text, text, sizeof(text));
    if (state != DELIVERY_SENT)
        res->code = code;
    /* 421 is as good as no answer (RFC 5321 3.8). */
    res->answered = res->answered || (code != 0 && code != 421) || state == DELIVERY_SENT;
    res->n++;
    return true;
}

static enum sp_err get_result(struct wire_in *in, struct lease *l, struct result *res)
{
    if (!get_printable(in, HOST_MAX, res->host))
        return SP_ERR_FORMAT;
    res->tls = wire_get_u8(in);
    uint16_t n = wire_get_u16(in);
    if (in->bad || res->tls > 2 || n == 0 || n > l->n_open)
        return SP_ERR_FORMAT;
    for (uint16_t i = 0; i < n; i++)
        if (!get_outcome(in, l, res))
            return SP_ERR_FORMAT;
    return wire_in_done(in) ? SP_OK : SP_ERR_FORMAT;
}

/* What is said once it is durable. */
struct said {
    uint32_t frame;
    uint64_t lease;
    bool gone; /* the job has ended */
    bool is_link;
    uint8_t link[ID_SIZE];
    uint64_t next_s;
    uint32_t attempts; /* of the job, before */
    struct result res;
    struct store_job job;
};

static void audit_result(const struct said *s)
{
    static const char *const tls[] = {"none", "encrypted", "verified"};
    const struct store_job *j = &s->job;
    const size_t *count = s->res.count;
    if (count[DELIVERY_SENT] > 0 && s->is_link)
        audit_emit(AUDIT_LINK_SENT, j->message_id, s->link, s->res.host, tls[s->res.tls],
                   (uint64_t)j->attempts);
    else if (count[DELIVERY_SENT] > 0)
        audit_emit(AUDIT_RELAY_SENT, j->message_id, j->destination, (uint64_t)count[DELIVERY_SENT],
                   s->res.host, tls[s->res.tls], (uint64_t)j->attempts);
    if (count[DELIVERY_DEFERRED] > 0)
        audit_emit(AUDIT_RELAY_DEFERRED, j->message_id, j->destination,
                   (uint64_t)count[DELIVERY_DEFERRED], s->res.host, (uint64_t)s->res.code,
                   s->next_s);
    if (count[DELIVERY_FAILED] > 0)
        audit_emit(AUDIT_RELAY_FAILED, j->message_id, j->destination,
                   (uint64_t)count[DELIVERY_FAILED], s->res.host, (uint64_t)s->res.code);
}

/* Nothing of it is on disk: the delivery may say it again. */
static void take_back(struct lease *l, const struct said *s, bool counted)
{
    for (size_t i = 0; i < s->res.n; i++)
        l->reported[place(l, s->res.o[i].index)] = false;
    if (counted)
        l->n_reported -= s->res.n;
    l->job.attempts = s->attempts;
    l->settled = false; /* the lease's end says what comes next */
}

static void say(struct store_role *r, void *arg, enum sp_err err)
{
    struct said *s = arg;
    struct lease *l = lease_find(r, s->lease);
    if (l != NULL)
        l->pending = false;
    if (l != NULL && l->delivery != NULL)
        answer(l->delivery->peer, SD_RESULT_REPLY, s->frame, err);
    if (err == SP_OK) {
        audit_result(s);
        const char *why = s->res.count[DELIVERY_SENT] > 0 ? "sent" : "failed";
        if (s->gone)
            secret_check(r, s->job.no, s->job.secret, why);
        if (s->gone && s->is_link && s->res.count[DELIVERY_FAILED] > 0)
            link_ended(r, s->link, why);
    } else if (l != NULL) {
        take_back(l, s, true);
    }
    free(s);
}

/* The report stands in the sender's mailbox, or what has failed is not final: the next attempt
 * fails again, and reports for the sender's newer key, or when there is room. */
static void settle_report(struct delivery *d, struct result *res)
{
    bool failed = false;
    for (size_t i = 0; i < res->n; i++)
        failed = failed || res->o[i].state == DELIVERY_FAILED;
    if (failed && d->sealed != NULL && deliver_report(d) != SP_OK)
        for (size_t i = 0; i < res->n; i++)
            if (res->o[i].state == DELIVERY_FAILED)
                res->o[i].state = DELIVERY_DEFERRED;
    delivery_report_drop(d);
    ipc_deny(d->peer, SD_REPORT);
    ipc_permit(d->peer, SD_REPORT_BYTES);
}

/* Nobody will ever hold a link whose notification failed for good. */
static enum sp_err end_link(struct store_role *r, struct said *s, const struct store_job *job)
{
    enum sp_err err = link_of_job(r, job, s->link);
    if (err != SP_OK)
        return err == SP_ERR_NOT_FOUND ? SP_OK : err;
    s->is_link = true;
    if (s->res.count[DELIVERY_FAILED] == 0)
        return SP_OK;
    err = store_link_end(r->store, s->link, DELIVERY_EXPIRED, now_ms());
    return err == SP_ERR_NOT_FOUND ? SP_OK : err;
}

static enum sp_err record(struct delivery *d, struct said *s)
{
    struct store_role *r = d->role;
    struct lease *l = d->lease;
    struct result *res = &s->res;
    size_t left;
    settle_report(d, res);
    for (size_t i = 0; i < res->n; i++)
        res->count[res->o[i].state]++;
    enum sp_err err = store_job_result(r->store, &l->job, res->o, res->n, now_ms(), &left);
    l->pending = true;
    if (err != SP_OK)
        return err;
    l->n_reported += res->n;
    if (res->answered)
        l->seen = QUEUE_ANSWERED;
    else if (l->seen == QUEUE_UNSEEN && res->count[DELIVERY_DEFERRED] > 0)
        l->seen = QUEUE_DOWN;
    if (res->o[res->n - 1].state != DELIVERY_SENT)
        memcpy(l->job.answer, res->o[res->n - 1].text, sizeof(l->job.answer));
    s->gone = left == 0;
    if (l->job.secret > 0)
        err = end_link(r, s, &l->job);
    if (err != SP_OK)
        return err;
    s->job = l->job;
    s->job.attempts++;
    if (left > 0 && l->n_reported == l->n_open) {
        err = job_settle(r, l);
        s->next_s = l->job.next_ms > now_ms() ? (l->job.next_ms - now_ms()) / 1000 : 0;
    }
    l->settled = err == SP_OK && l->n_reported == l->n_open;
    return err;
}

/* Where results follow each other closely, the next one may share this one's sync; where servers
 * are slow nobody waits. */
static void expect_more(struct store_role *r)
{
    uint64_t now = clock_us();
    if (now - r->last_result_us < GATHER_US && r->n_leases > r->n_replies + 1)
        r->more_soon = 1;
    r->last_result_us = now;
}

enum sp_err delivery_result(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct delivery *d = ctx;
    struct said *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return SP_ERR_MEMORY;
    s->frame = frame->id;
    s->lease = d->lease->id;
    s->attempts = d->lease->job.attempts;
    size_t reported = d->lease->n_reported;
    enum sp_err err = get_result(&frame->body, d->lease, &s->res);
    if (err != SP_OK) {
        free(s);
        return err;
    }
    err = record(d, s);
    if (err != SP_OK) {
        take_back(d->lease, s, d->lease->n_reported > reported);
        free(s);
        return answer(peer, SD_RESULT_REPLY, frame->id, err);
    }
    sweep_soon(d->role);
    expect_more(d->role);
    return group_answer(d->role, &(struct reply){.then = say, .arg = s});
}
