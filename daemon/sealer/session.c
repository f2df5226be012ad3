/* What an SMTP session may ask of the sealer, and when. The process at the other end parses hostile
 * bytes: every frame is checked against the state of its transaction, and the first that does not
 * fit ends the session. */
#include "daemon/sealer/sealer.h"
#include "daemon/audit/events.h"
#include "sandbox/lockmem.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Order of rules[] below: a state is the set of frames that it permits. */
enum { RCPT, RESET, DATA, ATTACH, SEAL, FINISH, ABORT, REFUSED };
#define MAY(x)        (UINT64_C(1) << (x))
#define STATE_EMPTY   (MAY(RCPT) | MAY(RESET) | MAY(REFUSED))
#define STATE_READY   (STATE_EMPTY | MAY(DATA))
#define STATE_CONTENT (MAY(ATTACH) | MAY(SEAL) | MAY(FINISH) | MAY(ABORT))
#define STATE_WAITING 0 /* we owe it an answer */

#define TRACE_MAX 4096u /* bytes of trace header in front of a message */

static void to_rest(struct session *x)
{
    ipc_permit_only(x->peer, x->n_recipients > 0 ? STATE_READY : STATE_EMPTY);
}

static enum sp_err reply(struct session *x, uint16_t type, enum sp_err status, int fd)
{
    uint8_t byte = (uint8_t)status;
    struct wire_out body = {.at = &byte, .len = 1, .cap = 1};
    return ipc_peer_send(x->peer, type, 0, &body, fd);
}

void session_forget(struct session *x)
{
    if (x->sealing != NULL) {
        storage_abort(x);
        sealing_free(x->sealing);
    }
    x->sealing = NULL;
    x->n_recipients = 0;
    if (x->wait_ring)
        TAILQ_REMOVE(&x->sealer->waiting, x, waiting);
    x->wait_ring = false;
}

/* kind: one word of tally.c; text: what the audit log says. */
static void refused(const struct session *x, const char *kind, const char *text)
{
    tally_message_refused(&x->sealer->tally, kind);
    audit_emit(AUDIT_REFUSED, (uint64_t)x->id, text);
}

/* --- recipients --- */

static enum sp_err on_rcpt(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    struct session *x = ctx;
    size_t len;
    const uint8_t *address = wire_get_b16(&f->body, 512, &len);
    if (address == NULL)
        return SP_ERR_FORMAT;
    ipc_permit_only(peer, STATE_WAITING);
    x->active_us = sealer_now_us();
    return storage_lookup(x, address, len);
}

void session_lookup_done(struct session *x, enum sp_err status)
{
    if (x->peer == NULL) {
        session_release(x);
        return;
    }
    if (status != SP_OK)
        tally_recipient_refused(&x->sealer->tally, status);
    to_rest(x);
    reply(x, SE_RCPT_REPLY, status, -1);
}

static enum sp_err on_refused(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    struct tally *tally = &((struct session *)ctx)->sealer->tally;
    (void)peer;
    switch (wire_get_u8(&f->body)) {
    case REFUSED_NOT_OURS:
        tally_recipient_refused(tally, SP_ERR_DENIED);
        return SP_OK;
    case REFUSED_BEYOND:
        tally_recipient_refused(tally, SP_ERR_LIMIT);
        return SP_OK;
    case REFUSED_SIZE:
        tally_message_refused(tally, "size");
        return SP_OK;
    default:
        return SP_ERR_FORMAT;
    }
}

static enum sp_err on_reset(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    (void)peer;
    (void)f;
    session_forget(ctx);
    to_rest(ctx);
    return SP_OK;
}

/* --- content --- */

static enum sp_err on_data(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    struct session *x = ctx;
    bool lend = x->slot == NULL;
    (void)f;
    x->active_us = sealer_now_us();
    if (lend)
        x->slot = slot_take(x->sealer);
    if (x->slot != NULL && x->sealing == NULL)
        x->sealing = sealing_new(++x->sealer->uploads);
    bool ok = x->slot != NULL && x->sealing != NULL;
    if (ok)
        ipc_permit_only(peer, STATE_CONTENT);
    else
        tally_message_refused(&x->sealer->tally, "no-slot");
    /* A slot that was taken is lent even if the message cannot be: it is bound to the process now.
     */
    return reply(x, SE_SLOT, ok ? SP_OK : SP_ERR_NO_SPACE,
                 lend && x->slot != NULL ? x->slot->fd : -1);
}

/* The names are copied once, and looked at when the manifest is made: the slot is shared. */
static enum sp_err on_attach(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    struct session *x = ctx;
    char names[SLOT_META_SIZE];
    uint64_t splice_at = wire_get_u64(&f->body);
    uint16_t media_len = wire_get_u16(&f->body), name_len = wire_get_u16(&f->body);
    (void)peer;
    if (media_len + name_len > SLOT_META_SIZE)
        return SP_ERR_LIMIT;
    memcpy(names, x->slot->at + SLOT_META, (size_t)media_len + name_len);
    lockmem_wipe(x->slot->at + SLOT_META, (size_t)media_len + name_len);
    enum sp_err err =
        sealing_attach(x->sealing, splice_at, names, media_len, names + media_len, name_len);
    lockmem_wipe(names, sizeof(names));
    return err;
}

static void wait_for_ring(struct session *x)
{
    x->wait_ring = true;
    TAILQ_INSERT_TAIL(&x->sealer->waiting, x, waiting);
}

/* Seals what the frame named; called again when the ring had no room. The session counts the size
 * too, but one that was taken over would not. */
static enum sp_err seal_pending(struct session *x)
{
    if (sealing_bytes(x->sealing) + x->pending.len >
        x->sealer->role->config->max_message + TRACE_MAX)
        return SP_ERR_LIMIT;
    enum sp_err err =
        storage_block(x, (enum stream)x->pending.stream, x->pending.len, x->pending.last);
    if (err == SP_ERR_NO_SPACE) {
        wait_for_ring(x);
        return SP_OK;
    }
    if (err != SP_OK)
        return err;
    if (x->pending.finish)
        return storage_commit(x);
    ipc_permit_only(x->peer, STATE_CONTENT);
    return reply(x, SE_SEALED, SP_OK, -1);
}

bool session_ring_has_room(struct session *x)
{
    if (seal_pending(x) == SP_OK)
        return !x->wait_ring;
    /* Its names or order were impossible: the session ends, like on any bad frame. */
    session_forget(x);
    ipc_peer_free(x->peer);
    x->peer = NULL;
    session_release(x);
    return true;
}

static enum sp_err on_seal(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    struct session *x = ctx;
    x->pending.finish = false;
    x->pending.stream = wire_get_u8(&f->body);
    x->pending.last = wire_get_u8(&f->body) != 0;
    x->pending.len = wire_get_u32(&f->body);
    if (x->pending.stream > STREAM_ATTACHMENT || x->pending.len > SLOT_WORK_SIZE)
        return SP_ERR_FORMAT;
    if (x->pending.stream == STREAM_BODY && x->pending.last)
        return SP_ERR_FORMAT; /* the body ends with SE_FINISH */
    ipc_permit_only(peer, STATE_WAITING);
    return seal_pending(x);
}

static enum sp_err on_finish(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    struct session *x = ctx;
    x->pending.finish = x->pending.last = true;
    x->pending.stream = STREAM_BODY;
    x->pending.len = wire_get_u32(&f->body);
    x->window_bytes = wire_get_u32(&f->body);
    x->plaintext_us = wire_get_u64(&f->body);
    if (x->pending.len > SLOT_WORK_SIZE)
        return SP_ERR_FORMAT;
    ipc_permit_only(peer, STATE_WAITING);
    return seal_pending(x);
}

void session_commit_done(struct session *x, enum sp_err status)
{
    uint8_t buf[1 + ID_SIZE];
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_u8(&body, (uint8_t)status);
    if (status == SP_OK)
        wire_put_bytes(&body, sealing_message_id(x->sealing), ID_SIZE);
    else
        refused(x, status == SP_ERR_NO_SPACE ? "no-space" : "store", sp_err_text(status));
    sealing_free(x->sealing); /* the store has it, or has dropped it */
    x->sealing = NULL;
    x->n_recipients = 0;
    if (x->peer == NULL) {
        session_release(x);
        return;
    }
    to_rest(x);
    ipc_peer_send(x->peer, SE_DONE, 0, &body, -1);
}

static enum sp_err on_abort(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    struct session *x = ctx;
    char why[33] = "";
    size_t len;
    const uint8_t *word = wire_get_b16(&f->body, sizeof(why) - 1, &len);
    (void)peer;
    if (word == NULL)
        return SP_ERR_FORMAT;
    memcpy(why, word, len);
    for (size_t i = 0; i < len; i++)
        if ((why[i] < 'a' || why[i] > 'z') && why[i] != '-')
            return SP_ERR_FORMAT;
    refused(x, why, why);
    session_forget(x);
    to_rest(x);
    return SP_OK;
}

/* --- life --- */

static const struct ipc_rule rules[] = {
    [RCPT] = {SE_RCPT, false, false, 3, 600, on_rcpt},
    [RESET] = {SE_RESET, false, false, 0, 0, on_reset},
    [DATA] = {SE_DATA, false, false, 0, 0, on_data},
    [ATTACH] = {SE_ATTACH, false, false, 12, 12, on_attach},
    [SEAL] = {SE_SEAL, false, false, 6, 6, on_seal},
    [FINISH] = {SE_FINISH, false, false, 16, 16, on_finish},
    [ABORT] = {SE_ABORT, false, false, 2, 64, on_abort},
    [REFUSED] = {SE_REFUSED, false, false, 1, 1, on_refused},
};

static void on_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct session *x = ctx;
    if (why != SP_ERR_PEER)
        refused(x, "forged-frame", "forged-frame");
    x->peer = NULL;
    ipc_peer_free(peer);
    if (!x->asked_store)
        session_forget(x);
    session_release(x);
}

static const struct ipc_rules session_rules = {rules, sizeof(rules) / sizeof(rules[0]), STATE_EMPTY,
                                               on_gone};

enum sp_err session_start(struct sealer *s, uint32_t id, int sock)
{
    struct session *x = session_find(s, id) == NULL ? calloc(1, sizeof(*x)) : NULL;
    if (x == NULL) {
        close(sock);
        return session_find(s, id) == NULL ? SP_ERR_MEMORY : SP_ERR_EXISTS;
    }
    x->sealer = s;
    x->id = id;
    x->peer = ipc_peer_new(s->role->base, sock, &session_rules, x);
    if (x->peer == NULL) {
        free(x);
        return SP_ERR_MEMORY;
    }
    LIST_INSERT_HEAD(&s->sessions, x, next);
    s->n_sessions++;
    return SP_OK;
}
