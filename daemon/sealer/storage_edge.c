/* The sealer's edge to the store: where PUKs come from, and ciphertext goes. The store never sees
 * plaintext or a private key; the sealer believes it about who has which PUK, and about what is on
 * disk. */
#include "daemon/sealer/sealer.h"
#include "daemon/audit/events.h"
#include "sandbox/lockmem.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A session that asked for something this lately is likely to commit soon. */
#define SOON_US 5000u

struct session *session_find(struct sealer *s, uint32_t id)
{
    struct session *x;
    LIST_FOREACH(x, &s->sessions, next)
    if (x->id == id)
        return x;
    return NULL;
}

/* --- answers --- */

static bool has_recipient(const struct session *x, const struct recipient *r)
{
    for (size_t i = 0; i < x->n_recipients; i++)
        if (memcmp(x->recipients[i].user_id, r->user_id, ID_SIZE) == 0)
            return true;
    return false;
}

static enum sp_err add_recipient(struct session *x, struct wire_in *in)
{
    struct recipient r;
    wire_get_copy(in, r.user_id, ID_SIZE);
    r.generation = wire_get_u32(in);
    wire_get_copy(in, r.puk_pk, KEY_SIZE);
    if (in->bad || r.generation == 0)
        return SP_ERR_FORMAT;
    if (has_recipient(x, &r))
        return SP_OK;
    if (x->n_recipients == MAX_RECIPIENTS_SEALED)
        return SP_ERR_LIMIT;
    if (x->n_recipients == x->room) {
        size_t room = x->room == 0 ? 4 : x->room * 2;
        struct recipient *more = realloc(x->recipients, room * sizeof(*more));
        if (more == NULL)
            return SP_ERR_MEMORY;
        x->recipients = more;
        x->room = room;
    }
    x->recipients[x->n_recipients++] = r;
    return SP_OK;
}

/* The session that asked. It has a message when it asked for a commit, and none when it asked for a
 * PUK: an answer of the other kind is refused. */
static struct session *answered(struct sealer *s, uint32_t id, bool commit)
{
    struct session *x = session_find(s, id);
    if (x == NULL || !x->asked_store || commit != (x->sealing != NULL))
        return NULL;
    x->asked_store = false;
    return x;
}

static enum sp_err on_lookup(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    struct session *x = answered(ctx, f->id, false);
    enum sp_err status = (enum sp_err)wire_get_u8(&f->body);
    (void)peer;
    if (x == NULL)
        return SP_ERR_FORMAT;
    size_t before = x->n_recipients;
    if (status == SP_OK) {
        uint16_t n = wire_get_u16(&f->body);
        status = n > 0 ? SP_OK : SP_ERR_NOT_FOUND; /* mail for nobody could be opened by nobody */
        for (uint16_t i = 0; i < n && status == SP_OK; i++)
            status = add_recipient(x, &f->body);
    }
    if (f->body.bad || status == SP_ERR_FORMAT)
        return SP_ERR_FORMAT;
    if (status != SP_OK) {
        x->n_recipients = before;
        wire_get_bytes(&f->body, f->body.left);
    }
    session_lookup_done(x, status);
    return SP_OK;
}

static enum sp_err on_consumed(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    struct sealer *s = ctx;
    struct session *x;
    (void)peer;
    enum sp_err err = ring_consumed(&s->ring, wire_get_u64(&f->body));
    while (err == SP_OK && (x = TAILQ_FIRST(&s->waiting)) != NULL) {
        TAILQ_REMOVE(&s->waiting, x, waiting);
        x->wait_ring = false;
        if (!session_ring_has_room(x)) /* x may be gone */
            break;
    }
    return err;
}

static void report_sealed(const struct session *x)
{
    const struct sealing *m = x->sealing;
    audit_emit(AUDIT_SEALED, sealing_message_id(m), (uint64_t)x->id, (uint64_t)x->n_recipients,
               sealing_bytes(m), (uint64_t)sealing_pieces(m), x->window_bytes, x->plaintext_us);
}

static enum sp_err on_commit(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    struct sealer *s = ctx;
    struct session *x = answered(s, f->id, true);
    enum sp_err status = (enum sp_err)wire_get_u8(&f->body);
    (void)peer;
    if (x == NULL || f->body.bad)
        return SP_ERR_FORMAT;
    if (status == SP_OK) {
        report_sealed(x);
        tally_sealed(&s->tally, sealing_bytes(x->sealing), x->window_bytes, x->plaintext_us);
    }
    session_commit_done(x, status);
    return SP_OK;
}

static const struct ipc_rule rules[] = {
    {SS_LOOKUP_REPLY, false, false, 1, 3 + MAX_RECIPIENTS_SEALED * 52, on_lookup},
    {SS_CONSUMED, false, false, 8, 8, on_consumed},
    {SS_COMMIT_REPLY, false, false, 1, 1, on_commit},
};

static void on_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    (void)ctx;
    (void)peer;
    role_log("the store is gone: %s", sp_err_text(why));
    _exit(1); /* the supervisor starts a fresh tree */
}

static const struct ipc_rules store_rules = {rules, 3, UINT64_MAX, on_gone};

/* --- requests --- */

enum sp_err storage_start(struct sealer *s)
{
    uint8_t buf[8];
    struct wire_out body = wire_out(buf, sizeof(buf));
    s->store = ipc_peer_new(s->role->base, ROLE_FD(ROLE_STORE), &store_rules, s);
    if (s->store == NULL)
        return SP_ERR_MEMORY;
    /* What may be under way: the ring's blocks, and for each session one question, behind the abort
     * of the message before it. No session can fill the queue for all others. */
    ipc_peer_queue_limit(s->store, RING_BLOCKS + 2 * (size_t)s->role->config->max_sessions + 64);
    wire_put_u64(&body, RING_SIZE);
    enum sp_err err = ipc_peer_send(s->store, SS_RING, 0, &body, s->ring.fd);
    close(s->ring.fd);
    return err;
}

enum sp_err storage_lookup(struct session *x, const uint8_t *address, size_t len)
{
    uint8_t buf[1024];
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_b16(&body, address, len);
    enum sp_err err = ipc_peer_send(x->sealer->store, SS_LOOKUP, x->id, &body, -1);
    x->asked_store = err == SP_OK; /* else no answer would ever release the session */
    return err;
}

enum sp_err storage_block(struct session *x, enum stream stream, uint32_t len, bool last)
{
    struct sealer *s = x->sealer;
    uint8_t buf[32], *out = ring_reserve(&s->ring, SEALING_MAX_BLOCK);
    size_t n = 0;
    if (out == NULL)
        return SP_ERR_NO_SPACE;
    uint16_t piece = sealing_piece(x->sealing, stream);
    enum sp_err err = sealing_seal(x->sealing, stream, x->slot->at + SLOT_WORK, len, last, out, &n);
    lockmem_wipe(x->slot->at + SLOT_WORK, len);
    if (err != SP_OK || n == 0)
        return err;
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_u64(&body, sealing_upload(x->sealing));
    wire_put_u16(&body, piece);
    wire_put_u64(&body, ring_commit(&s->ring, n));
    wire_put_u32(&body, (uint32_t)n);
    return ipc_peer_send(s->store, SS_BLOCK, x->id, &body, -1);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static enum sp_err put_boxes(struct session *x, struct wire_out *body)
{
    enum sp_err err = SP_OK;
    wire_put_u16(body, (uint16_t)x->n_recipients);
    for (size_t i = 0; i < x->n_recipients && err == SP_OK; i++) {
        uint8_t box[BOX_MAX];
        size_t len;
        err = sealing_box(x->sealing, &x->recipients[i], box, &len);
        wire_put_bytes(body, x->recipients[i].user_id, ID_SIZE);
        wire_put_b32(body, box, len);
    }
    return err;
}

uint64_t sealer_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* How many messages are likely to be committed any moment: the store gathers them under one sync.
 */
static uint16_t others_soon(const struct session *x)
{
    const struct session *o;
    uint64_t now = sealer_now_us();
    uint16_t n = 0;
    LIST_FOREACH(o, &x->sealer->sessions, next)
    if (o != x && now - o->active_us < SOON_US && !(o->asked_store && o->sealing != NULL))
        n++;
    return n;
}

enum sp_err storage_commit(struct session *x)
{
    static uint8_t frame[IPC_MAX_PAYLOAD], envelope[SEALING_MAX_ENVELOPE];
    struct wire_out body = wire_out(frame, sizeof(frame));
    uint64_t time_ms = now_ms();
    size_t len;
    enum sp_err err = sealing_finish(x->sealing, time_ms, envelope, &len);
    if (err != SP_OK)
        return err;
    wire_put_u64(&body, sealing_upload(x->sealing));
    wire_put_bytes(&body, sealing_message_id(x->sealing), ID_SIZE);
    wire_put_u64(&body, time_ms);
    wire_put_u16(&body, sealing_pieces(x->sealing));
    wire_put_b32(&body, envelope, len);
    err = put_boxes(x, &body);
    if (err != SP_OK)
        return err;
    err = ipc_peer_send_flags(x->sealer->store, SS_COMMIT, others_soon(x), x->id, &body, -1);
    x->asked_store = err == SP_OK;
    return err;
}

void storage_abort(struct session *x)
{
    uint8_t buf[8];
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_u64(&body, sealing_upload(x->sealing));
    ipc_peer_send(x->sealer->store, SS_ABORT, x->id, &body, -1);
}
