/* Sending: SW_SEND. The form is a user's, by way of web: all of it is checked here against what the
 * store knows, before anything is asked of the keeper and once more before it is written.
 *
 * Order of steps, each of which may be the last before a kill -9:
 *  1. form and pieces are checked                  nothing happened; the client sends anew
 *  2. VT_SECRET: the keeper fills and syncs a slot a slot that no record names; VT_SLOTS at the
 * next start has it wiped
 *  3. one commit: mailboxes, jobs, the secret's    before: as 2. After: the mail is sent, and
 * SW_SEND record, sent copy, status; the draft ends    for that message_id answers EXISTS
 *  4. VT_LEASE, SR_JOB                             leases are in memory alone: the job is due again
 *  5. a delivery hears the other server's answer   until 6 is on disk it would be sent twice: the
 * one window that SMTP has (RFC 5321 4.5.3.2.6, RFC 1047)
 *  6. SD_RESULT: one commit of results, report and before: as 5. After: it is finished for these
 *     what comes next; the last ends the job       recipients
 *  7. no job needs the secret: VT_ERASE            at start, records without jobs are erased again
 *  8. its answer: the record goes, in a commit     as 7: the slot is named as in use until then
 */
#include "storage/edges.h"
#include "daemon/messages.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESS_ROOM  (96u * 1024u) /* of one mail's recipients: a status is one frame */
#define ADDRESS_FIXED 64u           /* of it for each, beside the address itself */

/* A sending as store_send wants it. */
struct parcel {
    struct store_outgoing o;
    struct store_box box[STORE_MAX_BOXES];
    char address[STORE_MAX_BOXES][STORE_MAX_ADDRESS];
    const char *user_address[STORE_MAX_BOXES];
};
static struct parcel parcel;

/* --- checks --- */

static enum sp_err check_device(struct store_role *r, const struct sending *s,
                                const struct session *session)
{
    struct store_user user;
    struct sigchain chain;
    const struct envelope *e = &s->form->envelope;
    enum sp_err err = store_user_by_no(r->store, s->user, &user);
    if (err == SP_OK && !may_try(r, &user, user.chain_seq))
        err = SP_ERR_LIMIT;
    if (err == SP_OK)
        err = chain_load(r, &user, &chain);
    if (err != SP_OK)
        return err;
    const struct chain_device *device = sigchain_device(&chain, session->device_id);
    if (device == NULL || device->revoked || memcmp(e->sender_user_id, s->user_id, ID_SIZE) != 0 ||
        memcmp(e->sender_sign_pk, device->sign_pk, KEY_SIZE) != 0)
        return SP_ERR_AUTH;
    return SP_OK;
}

static enum sp_err check_pieces(struct store_role *r, const struct sending *s, uint64_t *bytes)
{
    struct store_draft d;
    const struct envelope *e = &s->form->envelope;
    enum sp_err err = store_draft_get(r->store, s->user, s->draft, &d);
    *bytes = 0;
    if (err == SP_OK && d.pieces != e->n_pieces)
        err = SP_ERR_FORMAT;
    for (uint16_t i = 0; err == SP_OK && i < d.pieces; i++) {
        if (d.there[i] != d.length[i] || d.length[i] != e->piece_length[i])
            err = SP_ERR_FORMAT;
        *bytes += d.length[i];
    }
    return err;
}

static enum sp_err check_users(struct store_role *r, const struct sending *s)
{
    bool himself = false;
    for (size_t i = 0; i < s->form->n_users; i++) {
        const struct form_user *u = &s->form->user[i];
        struct store_user user;
        enum sp_err err = store_user_by_id(r->store, u->box.recipient_id, &user);
        if (err != SP_OK)
            return err;
        if (u->box.puk_generation != user.generation ||
            memcmp(u->box.recipient_pk, user.puk_pk, KEY_SIZE) != 0)
            return SP_ERR_STATE;
        parcel.box[i] = (struct store_box){.generation = user.generation,
                                           .bytes = u->bytes,
                                           .len = u->len,
                                           .sent = user.no == s->user};
        memcpy(parcel.box[i].user_id, user.user_id, ID_SIZE);
        memcpy(parcel.address[i], user.address, STORE_MAX_ADDRESS);
        parcel.user_address[i] = parcel.address[i];
        himself = himself || user.no == s->user;
    }
    return himself ? SP_OK : SP_ERR_FORMAT;
}

static enum sp_err check_from(struct store_role *r, const struct sending *s)
{
    static struct store_user users[STORE_MAX_TARGETS];
    size_t n;
    if (!own_domain(r, s->form->mail_from) ||
        store_resolve(r->store, s->form->mail_from, users, STORE_MAX_TARGETS, &n) != SP_OK)
        return SP_ERR_DENIED;
    for (size_t i = 0; i < n; i++)
        if (users[i].no == s->user)
            return SP_OK;
    return SP_ERR_DENIED;
}

static enum sp_err check_outside(struct store_role *r, const struct form *f)
{
    size_t room = 0;
    if (f->n_links > 0)
        return SP_ERR_CONFIG;
    if (f->relay && r->role->config->relay_mode == RELAY_OFF)
        return SP_ERR_CONFIG;
    for (size_t i = 0; i < f->n_users; i++)
        room += ADDRESS_FIXED + strlen(parcel.address[i]);
    for (size_t i = 0; i < f->n_addresses; i++) {
        char address[STORE_MAX_ADDRESS];
        room += ADDRESS_FIXED + f->address[i].len;
        if (store_address(f->address[i].bytes, f->address[i].len, false, address) != SP_OK ||
            own_domain(r, address))
            return SP_ERR_FORMAT; /* ours get boxes of their own */
    }
    return room <= ADDRESS_ROOM ? SP_OK : SP_ERR_LIMIT;
}

static enum sp_err check_day(struct store_role *r, const struct sending *s, uint64_t bytes)
{
    const struct config *c = r->role->config;
    struct store_usage u;
    enum sp_err err = store_usage(r->store, s->user, now_ms(), &u);
    if (err != SP_OK)
        return err;
    return u.messages < c->send_messages && u.bytes <= c->send_bytes &&
                   bytes <= c->send_bytes - u.bytes
               ? SP_OK
               : SP_ERR_LIMIT;
}

/* What may have changed while the keeper worked; leaves the boxes in parcel. */
static enum sp_err check_again(struct store_role *r, const struct sending *s)
{
    struct store_sent sent;
    uint64_t bytes;
    enum sp_err err = check_pieces(r, s, &bytes);
    if (err == SP_OK && store_sent(r->store, s->user, s->form->envelope.message_id, &sent) == SP_OK)
        err = SP_ERR_EXISTS;
    if (err == SP_OK)
        err = check_users(r, s);
    if (err == SP_OK)
        err = check_from(r, s);
    if (err == SP_OK)
        err = check_outside(r, s->form);
    return err == SP_OK ? check_day(r, s, bytes) : err;
}

/* --- the commit --- */

/* What is said once it is durable. */
struct said {
    struct ipc_peer *peer;
    uint32_t frame;
    uint64_t user, no, users, outside, bytes;
    uint8_t message_id[ID_SIZE], user_id[ID_SIZE], draft[ID_SIZE];
    bool has_secret;
    struct store_secret secret;
};

static enum sp_err schedule(void *ctx, const struct store_job *job)
{
    struct store_role *r = ctx;
    audit_emit(AUDIT_RELAY_QUEUED, job->message_id, job->destination, (uint64_t)job->n);
    if (queue_add(r->queue, job->no, job->job, job->user, job->destination, job->next_ms,
                  now_ms()) == SP_ERR_MEMORY)
        role_log("no memory to schedule a job: it waits for the next start");
    return SP_OK;
}

static void say(struct store_role *r, void *arg, enum sp_err err)
{
    struct said *said = arg;
    uint8_t buf[1 + ID_SIZE];
    struct wire_out out = wire_out(buf, sizeof(buf));
    forms_release(r->forms, said->user, said->draft);
    if (err == SP_OK) {
        forms_drop(r->forms, said->user, said->draft);
        wire_put_u8(&out, SP_OK);
        wire_put_bytes(&out, said->message_id, ID_SIZE);
        if (said->peer == r->web)
            ipc_peer_send(said->peer, SW_SEND_REPLY, said->frame, &out, -1);
        audit_emit(AUDIT_SENT, said->message_id, said->user_id, said->users, said->outside,
                   UINT64_C(0), said->bytes);
        if (said->outside > 0)
            store_jobs_each(r->store, said->no, schedule, r);
        relay_dispatch(r);
    } else {
        if (said->peer == r->web)
            answer(said->peer, SW_SEND_REPLY, said->frame, err);
        if (said->has_secret)
            secret_forget(r, &said->secret, "not sent");
    }
    free(said);
}

static void fill(struct store_outgoing *o, const struct sending *s,
                 const struct store_secret *secret)
{
    const struct form *f = s->form;
    *o = (struct store_outgoing){.user = s->user,
                                 .copy = f->sent_copy,
                                 .mail_from = f->mail_from,
                                 .user_address = parcel.user_address,
                                 .outside = f->address,
                                 .n_outside = f->n_addresses,
                                 .secret = secret};
    memcpy(o->draft, s->draft, ID_SIZE);
    o->message = (struct store_message){.received_ms = now_ms(),
                                        .pieces = (uint16_t)f->envelope.n_pieces,
                                        .envelope = f->envelope_bytes,
                                        .envelope_len = f->envelope_len,
                                        .box = parcel.box,
                                        .boxes = f->n_users};
    memcpy(o->message.message_id, f->envelope.message_id, ID_SIZE);
}

static enum sp_err commit(struct store_role *r, const struct sending *s,
                          const struct store_secret *secret)
{
    enum sp_err err = check_again(r, s);
    struct said *said = err == SP_OK ? calloc(1, sizeof(*said)) : NULL;
    if (said == NULL)
        return err != SP_OK ? err : SP_ERR_MEMORY;
    *said = (struct said){.peer = s->peer,
                          .frame = s->frame,
                          .user = s->user,
                          .users = s->form->n_users,
                          .outside = s->form->n_addresses,
                          .has_secret = secret != NULL};
    memcpy(said->message_id, s->form->envelope.message_id, ID_SIZE);
    memcpy(said->user_id, s->user_id, ID_SIZE);
    memcpy(said->draft, s->draft, ID_SIZE);
    if (secret != NULL)
        said->secret = *secret;
    for (uint32_t i = 0; i < s->form->envelope.n_pieces; i++)
        said->bytes += s->form->envelope.piece_length[i];
    secrets_settle(r); /* in the group of the new record, at the latest */
    fill(&parcel.o, s, secret);
    err = store_send(r->store, &parcel.o, &said->no);
    if (err != SP_OK) {
        free(said);
        return err;
    }
    return group_answer(r, &(struct reply){.then = say, .arg = said});
}

/* --- frames --- */

static void end(struct store_role *r, struct sending *s, enum sp_err err)
{
    if (err != SP_OK) { /* else say() does the rest */
        forms_release(r->forms, s->user, s->draft);
        if (s->peer == r->web)
            answer(s->peer, SW_SEND_REPLY, s->frame, err);
    }
    form_free(s->form);
    sodium_memzero(s, sizeof(*s));
    free(s);
}

void send_go_on(struct store_role *r, struct sending *s, enum sp_err status, uint32_t slot,
                const uint8_t *wrapped, size_t len)
{
    struct store_secret secret = {.kind = BOX_RELAY,
                                  .slot = slot,
                                  .received_ms = now_ms(),
                                  .box = s->form->relay_bytes,
                                  .box_len = s->form->relay_len};
    if (status != SP_OK) {
        end(r, s, status == SP_ERR_NO_SPACE ? status : SP_ERR_NO_KEY);
        return;
    }
    memcpy(secret.message_id, s->form->envelope.message_id, ID_SIZE);
    memcpy(secret.recipient_id, s->form->relay_box.recipient_id, ID_SIZE);
    memcpy(secret.wrapped, wrapped, len);
    secret.wrapped_len = len;
    /* Revoking a device ends its sessions. */
    enum sp_err err = SP_ERR_DENIED;
    if (sessions_find(r->sessions, clock_us() / 1000, s->token) != NULL)
        err = commit(r, s, &secret);
    if (err != SP_OK)
        secret_forget(r, &secret, "not sent");
    end(r, s, err);
}

/* Decodes and checks; then the keeper's turn, or at once the commit. The sending is the keeper
 * edge's after SP_OK with *waits. */
static enum sp_err begin(struct store_role *r, struct sending *s, const struct session *session,
                         bool *waits)
{
    const uint8_t *bytes;
    size_t len;
    *waits = false;
    enum sp_err err = forms_hold(r->forms, s->user, s->draft, &bytes, &len);
    if (err != SP_OK)
        return err;
    err = form_decode(bytes, len, r->role->config->send_recipients, &s->form);
    if (err == SP_OK)
        err = check_device(r, s, session);
    if (err == SP_OK)
        err = check_again(r, s);
    if (err == SP_OK && !s->form->relay)
        return commit(r, s, NULL);
    if (err == SP_OK)
        err = keeper_wrap(r, s);
    *waits = err == SP_OK;
    return err;
}

enum sp_err on_send(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    struct store_draft d;
    bool waits;
    const uint8_t *token = frame->body.at;
    const struct session *session = token_session(r, &frame->body);
    const uint8_t *id = wire_get_bytes(&frame->body, ID_SIZE);
    if (id == NULL)
        return SP_ERR_FORMAT;
    enum sp_err err = session == NULL    ? SP_ERR_DENIED
                      : !r->keeper_ready ? SP_ERR_NO_SPACE /* soon */
                                         : store_draft_get(r->store, session->user, id, &d);
    /* A form that is not there, or is being sent right now. */
    if (err == SP_OK && forms_length(r->forms, session->user, id) == 0)
        err = SP_ERR_FORMAT;
    struct sending *s = err == SP_OK ? calloc(1, sizeof(*s)) : NULL;
    if (s == NULL)
        return answer(peer, SW_SEND_REPLY, frame->id, err != SP_OK ? err : SP_ERR_MEMORY);
    *s = (struct sending){.peer = peer, .frame = frame->id, .user = session->user};
    memcpy(s->token, token, SESSION_TOKEN);
    memcpy(s->draft, id, ID_SIZE);
    memcpy(s->user_id, session->user_id, ID_SIZE);
    err = begin(r, s, session, &waits);
    if (err == SP_ERR_STATE && s->form == NULL) { /* held: its first SW_SEND is under way */
        free(s);
        return answer(peer, SW_SEND_REPLY, frame->id, SP_ERR_EXISTS);
    }
    if (!waits)
        end(r, s, err);
    return SP_OK;
}
