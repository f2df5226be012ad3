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
#include "envelope/order.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define EXPIRY_SLACK_MS (5u * 60u * 1000u) /* clocks differ */
#define ADDRESS_ROOM    (96u * 1024u)      /* of one mail's recipients: a status is one frame */
#define ADDRESS_FIXED   64u                /* of it for each, beside the address itself */

/* A sending as store_send wants it. */
struct parcel {
    struct store_outgoing o;
    struct store_box box[STORE_MAX_BOXES];
    char address[STORE_MAX_BOXES][STORE_MAX_ADDRESS];
    const char *user_address[STORE_MAX_BOXES];
    struct store_link_new link[STORE_LINKS];
    uint8_t report_pk[KEY_SIZE]; /* the sender's own */
};
static struct parcel parcel;

/* --- checks --- */

/* The session is one of this device's, the mail is in its name, and it has signed every byte: web,
 * through which all of it came, can change nothing. */
static enum sp_err check_device(struct store_role *r, const struct sending *s,
                                const struct session *session)
{
    struct store_user user;
    const struct sigchain *chain;
    const struct envelope *e = &s->form->envelope;
    enum sp_err err = store_user_by_no(r->store, s->user, &user);
    if (err == SP_OK && !may_try(r, &user, 1))
        err = SP_ERR_LIMIT;
    if (err == SP_OK)
        err = chain_load(r, &user, &chain);
    if (err != SP_OK)
        return err;
    const struct chain_device *device = sigchain_device(chain, session->device_id);
    if (device == NULL || device->revoked || memcmp(e->sender_user_id, s->user_id, ID_SIZE) != 0 ||
        memcmp(e->sender_sign_pk, device->sign_pk, KEY_SIZE) != 0)
        return SP_ERR_AUTH;
    return order_verify_form(device->sign_pk, s->draft, s->form->signed_bytes, s->form->signed_len,
                             s->form->signature);
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
        if (user.no != s->user)
            continue;
        himself = true;
        memcpy(parcel.report_pk, u->box.recipient_pk, KEY_SIZE);
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
    if ((f->relay || f->n_links > 0) && r->role->config->relay_mode == RELAY_OFF)
        return SP_ERR_CONFIG;
    for (size_t i = 0; i < f->n_users; i++)
        room += ADDRESS_FIXED + strlen(parcel.address[i]);
    for (size_t i = 0; i < f->n_outside; i++) {
        char address[STORE_MAX_ADDRESS];
        room += ADDRESS_FIXED + f->outside[i].address.len;
        if (store_address(f->outside[i].address.bytes, f->outside[i].address.len, false, address) !=
                SP_OK ||
            own_domain(r, address))
            return SP_ERR_FORMAT; /* ours get boxes of their own */
    }
    for (size_t i = 0; i < f->n_links; i++)
        room += ADDRESS_FIXED + f->link[i].address.len;
    return room <= ADDRESS_ROOM ? SP_OK : SP_ERR_LIMIT;
}

/* A link ends within what the operator allows, and its id is nobody's. Leaves it in parcel. */
static enum sp_err check_link(struct store_role *r, const struct form *f, size_t i,
                              const uint8_t manifest_hash[HASH_SIZE])
{
    const struct form_link *from = &f->link[i];
    struct store_link_new *to = &parcel.link[i];
    struct store_link taken;
    char address[STORE_MAX_ADDRESS];
    uint64_t now = link_now(r), longest = r->role->config->web_max_expiry * 1000u;
    *to = (struct store_link_new){.address = from->address,
                                  .subject = from->subject,
                                  .order = from->order,
                                  .gate_hash = from->gate_hash};
    if (from->box.expiry > UINT64_MAX / 1000u)
        return SP_ERR_FORMAT;
    to->expires_ms = from->box.expiry * 1000u;
    if (to->expires_ms <= now || to->expires_ms - now > longest + EXPIRY_SLACK_MS)
        return SP_ERR_FORMAT; /* EXPIRED would be the session */
    if (store_address(from->address.bytes, from->address.len, false, address) != SP_OK)
        return SP_ERR_FORMAT;
    for (size_t k = 0; k < i; k++)
        if (memcmp(f->link[k].box.recipient_id, from->box.recipient_id, ID_SIZE) == 0)
            return SP_ERR_FORMAT;
    if (store_link_get(r->store, from->box.recipient_id, &taken) == SP_OK)
        return SP_ERR_EXISTS;
    return box_digest(&f->envelope, manifest_hash, &from->box, to->digest);
}

static enum sp_err check_links(struct store_role *r, const struct form *f)
{
    uint8_t manifest_hash[HASH_SIZE];
    if (f->n_links == 0)
        return SP_OK;
    if (r->role->config->web_url == NULL)
        return SP_ERR_CONFIG;
    if (f->n_links > STORE_LINKS)
        return SP_ERR_LIMIT;
    enum sp_err err = envelope_manifest_hash(&f->envelope, manifest_hash);
    for (size_t i = 0; err == SP_OK && i < f->n_links; i++)
        err = check_link(r, f, i, manifest_hash);
    return err;
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
    if (err == SP_OK)
        err = check_links(r, s->form);
    return err == SP_OK ? check_day(r, s, bytes) : err;
}

/* --- the commit --- */

/* What is said once it is durable. */
struct said {
    struct ipc_peer *peer;
    uint32_t frame;
    uint64_t user, no, users, outside, links, bytes;
    uint8_t message_id[ID_SIZE], user_id[ID_SIZE], draft[ID_SIZE];
    struct store_secret *secret; /* the slots to be forgotten, should it not come to pass */
    size_t n_secrets;
};

static void forget_all(struct store_role *r, const struct store_secret *secret, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (secret[i].wrapped_len > 0)
            secret_forget(r, &secret[i], "not sent");
}

static enum sp_err say_link(void *ctx, const struct store_secret *secret,
                            const struct store_job *job)
{
    struct store_role *r = ctx;
    struct store_link link;
    if (store_link_get(r->store, secret->recipient_id, &link) == SP_OK)
        audit_emit(AUDIT_LINK_CREATED, link.message_id, link.id, job->destination,
                   link.expires_ms / 1000);
    return SP_OK;
}

static void schedule(struct store_role *r, const struct store_job *job)
{
    struct store_secret secret;
    bool needed;
    if (job->secret == 0)
        audit_emit(AUDIT_RELAY_QUEUED, job->message_id, job->destination, (uint64_t)job->n);
    else if (store_secret_get(r->store, job->no, job->secret, &secret, &needed) == SP_OK)
        say_link(r, &secret, job);
    if (queue_add(r->queue, job->no, job->job, job->user, job->destination, job->next_ms,
                  now_ms()) == SP_ERR_MEMORY)
        role_log("no memory to schedule a job: it waits for the next start");
}

/* The jobs of a message that was committed just now: their numbers run from 0. Not as a walk: a
 * link's audit event takes another read of the store. */
static void schedule_all(struct store_role *r, uint64_t no)
{
    struct store_job job;
    for (uint16_t i = 0; store_job_get(r->store, no, i, &job) == SP_OK; i++)
        schedule(r, &job);
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
                   said->links, said->bytes);
        if (said->outside + said->links > 0)
            schedule_all(r, said->no);
        if (said->links > 0)
            links_schedule(r);
        relay_wake(r);
    } else {
        if (said->peer == r->web)
            answer(said->peer, SW_SEND_REPLY, said->frame, err);
        forget_all(r, said->secret, said->n_secrets);
    }
    free(said->secret);
    free(said);
}

static void fill(struct store_outgoing *o, const struct sending *s)
{
    const struct form *f = s->form;
    size_t first = f->relay ? 1 : 0; /* of the links' secrets */
    for (size_t i = 0; i < f->n_links; i++) {
        parcel.link[i].password = &s->secret[first + 2 * i];
        parcel.link[i].box = &s->secret[first + 2 * i + 1];
    }
    *o = (struct store_outgoing){.user = s->user,
                                 .copy = f->sent_copy,
                                 .mail_from = f->mail_from_text,
                                 .user_address = parcel.user_address,
                                 .outside = f->outside,
                                 .n_outside = f->n_outside,
                                 .secret = f->relay ? s->secret : NULL,
                                 .link = parcel.link,
                                 .n_links = f->n_links};
    memcpy(o->draft, s->draft, ID_SIZE);
    memcpy(o->report_pk, parcel.report_pk, KEY_SIZE);
    o->message = (struct store_message){.received_ms = now_ms(),
                                        .pieces = (uint16_t)f->envelope.n_pieces,
                                        .envelope = f->envelope_bytes,
                                        .envelope_len = f->envelope_len,
                                        .box = parcel.box,
                                        .boxes = f->n_users};
    memcpy(o->message.message_id, f->envelope.message_id, ID_SIZE);
}

/* The secrets are said's after success. */
static enum sp_err commit(struct store_role *r, struct sending *s)
{
    enum sp_err err = check_again(r, s);
    struct said *said = err == SP_OK ? calloc(1, sizeof(*said)) : NULL;
    if (said == NULL)
        return err != SP_OK ? err : SP_ERR_MEMORY;
    *said = (struct said){.peer = s->peer,
                          .frame = s->frame,
                          .user = s->user,
                          .users = s->form->n_users,
                          .outside = s->form->n_outside,
                          .links = s->form->n_links,
                          .n_secrets = s->n_secrets};
    memcpy(said->message_id, s->form->envelope.message_id, ID_SIZE);
    memcpy(said->user_id, s->user_id, ID_SIZE);
    memcpy(said->draft, s->draft, ID_SIZE);
    for (uint32_t i = 0; i < s->form->envelope.n_pieces; i++)
        said->bytes += s->form->envelope.piece_length[i];
    secrets_settle(r); /* in the group of the new record, at the latest */
    fill(&parcel.o, s);
    err = store_send(r->store, &parcel.o, &said->no);
    if (err != SP_OK) {
        free(said);
        return err;
    }
    for (size_t i = 0; i < s->n_secrets; i++)
        s->secret[i].box = NULL; /* it goes with the form */
    said->secret = s->secret;
    s->secret = NULL;
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
    if (s->secret != NULL && err != SP_OK)
        forget_all(r, s->secret, s->n_secrets);
    free(s->secret);
    form_free(s->form);
    sodium_memzero(s, sizeof(*s));
    free(s);
}

void send_go_on(struct store_role *r, struct sending *s)
{
    enum sp_err err =
        s->failed == SP_OK || s->failed == SP_ERR_NO_SPACE ? s->failed : SP_ERR_NO_KEY;
    /* Revoking a device ends its sessions. */
    if (err == SP_OK && sessions_find(r->sessions, clock_us() / 1000, s->token) == NULL)
        err = SP_ERR_EXPIRED;
    if (err == SP_OK)
        err = commit(r, s);
    end(r, s, err);
}

static void secret_init(struct store_secret *secret, const struct form *f, uint16_t n, uint8_t kind,
                        const uint8_t *recipient_id, const uint8_t *box, size_t len)
{
    *secret = (struct store_secret){
        .n = n, .kind = kind, .received_ms = now_ms(), .box = box, .box_len = len};
    memcpy(secret->message_id, f->envelope.message_id, ID_SIZE);
    memcpy(secret->recipient_id, recipient_id, ID_SIZE);
}

/* What the keeper is to wrap, in the order of the requests. */
static enum sp_err list_secrets(struct sending *s)
{
    const struct form *f = s->form;
    size_t at = 0;
    s->n_secrets = (f->relay ? 1 : 0) + 2 * f->n_links;
    s->secret = calloc(s->n_secrets + 1, sizeof(*s->secret));
    if (s->secret == NULL)
        return SP_ERR_MEMORY;
    if (f->relay)
        secret_init(&s->secret[at++], f, 0, BOX_RELAY, f->relay_box.recipient_id, f->relay_bytes,
                    f->relay_len);
    for (size_t i = 0; i < f->n_links; i++) {
        const struct form_link *l = &f->link[i];
        secret_init(&s->secret[at++], f, (uint16_t)(2 * i + 1), BOX_PASSWORD, l->box.recipient_id,
                    NULL, 0);
        secret_init(&s->secret[at++], f, (uint16_t)(2 * i + 2), 0, l->box.recipient_id, NULL, 0);
    }
    return SP_OK;
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
    if (err == SP_OK)
        err = list_secrets(s);
    if (err == SP_OK && s->n_secrets == 0)
        return commit(r, s);
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
    enum sp_err err = session == NULL    ? SP_ERR_EXPIRED
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
