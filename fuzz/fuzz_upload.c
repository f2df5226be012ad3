/* libs: -lcrypto -lsodium -lidn2 */
/* What web may ask about sending, from a web process that was taken over and holds one user's
 * token: any frames in any order. The store behind it is a model that checks what it is given:
 * bytes at the offset where a piece ends, and mail of that user alone, to keys that are theirs. */
#include "envelope/wire.c"
#include "envelope/error.c"
#include "envelope/utf8.c"
#include "envelope/keys.c"
#include "envelope/cake.c"
#include "envelope/envelope.c"
#include "envelope/box.c"
#include "daemon/domain.c"
#include "storage/address.c"
#include "storage/form.c"
#include "storage/forms.c"
#include "storage/edge_upload.c"
#include "storage/edge_send.c"
#include "storage/edge_sent.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LENGTH (56u + 10u + 16u) /* of the draft's one piece */

static struct store_role fuzz_role;
static struct sending *wrapping;
static uint64_t there;
static uint32_t commits;

static void insist(bool good)
{
    if (!good)
        abort();
}

/* --- the model of what is behind the edge: user 5 is asking, 6 is another --- */

const struct session *token_session(struct store_role *r, struct wire_in *in)
{
    static const struct session session = {.user = 5, .user_id = {5}, .device_id = {1}};
    const uint8_t *token = wire_get_bytes(in, SESSION_TOKEN);
    (void)r;
    return token != NULL && token[0] == 'T' ? &session : NULL;
}

const struct session *sessions_find(struct sessions *t, uint64_t now,
                                    const uint8_t token[SESSION_TOKEN])
{
    struct wire_in in = wire_in(token, SESSION_TOKEN);
    (void)t, (void)now;
    return token_session(NULL, &in);
}

enum sp_err store_user_by_no(struct store *s, uint64_t no, struct store_user *out)
{
    (void)s;
    insist(no == 5 || no == 6);
    *out = (struct store_user){.no = no,
                               .state = USER_ENROLLED,
                               .chain_seq = 1,
                               .generation = 1,
                               .address = "ann@x",
                               .user_id = {(uint8_t)no},
                               .puk_pk = {9}};
    return SP_OK;
}

enum sp_err store_user_by_id(struct store *s, const uint8_t user_id[ID_SIZE],
                             struct store_user *out)
{
    static const uint8_t rest[ID_SIZE - 1] = {0};
    if ((user_id[0] != 5 && user_id[0] != 6) || memcmp(user_id + 1, rest, sizeof(rest)) != 0)
        return SP_ERR_NOT_FOUND;
    return store_user_by_no(s, user_id[0], out);
}

enum sp_err store_resolve(struct store *s, const char *address, struct store_user *out, size_t max,
                          size_t *n)
{
    insist(max > 0 && strcmp(store_address_domain(address), "x") == 0);
    *n = 1;
    return store_user_by_no(s, address[0] == 'a' ? 5 : 6, out);
}

bool own_domain(const struct store_role *r, const char *address)
{
    (void)r;
    return strcmp(store_address_domain(address), "x") == 0;
}

bool may_try(struct store_role *r, const struct store_user *user, uint32_t signatures)
{
    (void)r, (void)user, (void)signatures;
    return true;
}

enum sp_err chain_load(struct store_role *r, const struct store_user *user,
                       const struct sigchain **chain)
{
    static const struct sigchain one = {.n_devices = 1, .device = {{.id = {1}, .sign_pk = {8}}}};
    (void)r;
    insist(user->no == 5);
    *chain = &one;
    return SP_OK;
}

const struct chain_device *sigchain_device(const struct sigchain *c, const uint8_t id[ID_SIZE])
{
    return id[0] == 1 ? &c->device[0] : NULL;
}

enum sp_err store_draft_begin(struct store *s, uint64_t user, const uint8_t id[ID_SIZE],
                              const uint64_t *length, size_t pieces, uint64_t until,
                              const struct store_draft_limits *limits)
{
    (void)s, (void)id, (void)length;
    insist(user == 5 && pieces > 0 && pieces <= STORE_MAX_PIECES && until > 0 &&
           limits->drafts > 0);
    return SP_OK;
}

enum sp_err store_draft_get(struct store *s, uint64_t user, const uint8_t id[ID_SIZE],
                            struct store_draft *out)
{
    (void)s;
    insist(user == 5);
    *out = (struct store_draft){.pieces = 1, .length = {LENGTH}, .there = {there}};
    return id[0] == 'D' ? SP_OK : SP_ERR_NOT_FOUND;
}

enum sp_err store_draft_append(struct store *s, uint64_t user, const uint8_t id[ID_SIZE],
                               uint16_t piece, uint64_t offset, const void *bytes, size_t len)
{
    (void)s, (void)bytes;
    insist(user == 5 && piece != FORM_PIECE && len > 0 && len <= PART_MAX);
    if (id[0] != 'D' || piece != 0)
        return SP_ERR_NOT_FOUND;
    if (offset != there)
        return SP_ERR_STATE;
    if (len > LENGTH - there)
        return SP_ERR_LIMIT;
    there += len;
    return SP_OK;
}

enum sp_err store_draft_drop(struct store *s, uint64_t user, const uint8_t id[ID_SIZE])
{
    (void)s;
    insist(user == 5);
    return id[0] == 'D' ? SP_OK : SP_ERR_NOT_FOUND;
}

enum sp_err store_usage(struct store *s, uint64_t user, uint64_t now, struct store_usage *out)
{
    (void)s, (void)now;
    insist(user == 5);
    *out = (struct store_usage){.messages = 1, .bytes = 1};
    return SP_OK;
}

static void check_users_of(const struct store_outgoing *o)
{
    bool himself = false;
    for (size_t i = 0; i < o->message.boxes; i++) {
        const struct store_box *b = &o->message.box[i];
        struct box box;
        insist(box_decode(b->bytes, b->len, &box) == SP_OK && box.kind == BOX_USER);
        insist(memcmp(box.recipient_id, b->user_id, ID_SIZE) == 0);
        insist(box.puk_generation == 1 && box.recipient_pk[0] == 9);
        insist(b->sent == (b->user_id[0] == 5));
        himself = himself || b->sent;
        for (size_t k = 0; k < i; k++)
            insist(memcmp(b->user_id, o->message.box[k].user_id, ID_SIZE) != 0);
    }
    insist(himself);
}

/* The last form was what its device has signed. */
static bool verified;

enum sp_err store_send(struct store *s, const struct store_outgoing *o, uint64_t *no)
{
    struct envelope e;
    (void)s;
    insist(verified || o->secret != NULL || o->n_links > 0); /* those: when the keeper was asked */
    insist(o->user == 5 && o->draft[0] == 'D' && there == LENGTH);
    insist(envelope_decode(o->message.envelope, o->message.envelope_len, &e) == SP_OK);
    insist(e.from_user && e.sender_user_id[0] == 5 && e.sender_sign_pk[0] == 8);
    insist(e.n_pieces == 1 && e.piece_length[0] == LENGTH && o->message.pieces == 1);
    insist(o->mail_from[0] == 'a' && strcmp(store_address_domain(o->mail_from), "x") == 0);
    insist((o->secret != NULL) == (o->n_outside > 0) && o->copy.len <= SENT_MAX);
    check_users_of(o);
    for (size_t i = 0; i < o->n_outside; i++)
        insist(form_address(o->outside[i].address.bytes, o->outside[i].address.len) &&
               o->outside[i].order != NULL);
    for (size_t i = 0; i < o->n_links; i++) {
        const struct store_link_new *l = &o->link[i];
        insist(form_address(l->address.bytes, l->address.len) && l->expires_ms > 1000);
        insist(l->password->wrapped_len > 0 && l->box->wrapped_len > 0);
        insist(memcmp(l->password->recipient_id, l->box->recipient_id, ID_SIZE) == 0);
    }
    insist(o->secret == NULL || o->secret->wrapped_len > 0);
    *no = 11;
    commits++;
    return SP_OK;
}

enum sp_err store_sent(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE],
                       struct store_sent *out)
{
    insist(user == 5);
    *out = (struct store_sent){.no = 11, .recipients = 1, .copy_len = 100};
    return message_id[0] == 'M' ? SP_OK : SP_ERR_NOT_FOUND;
}

enum sp_err store_sent_copy(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE],
                            size_t offset, uint8_t *out, size_t len, size_t *got)
{
    insist(user == 5 && message_id[0] == 'M');
    *got = 0;
    if (offset > 100)
        return SP_ERR_LIMIT;
    *got = len < 100 - offset ? len : 100 - offset;
    memset(out, 1, *got);
    return SP_OK;
}

enum sp_err store_recipients_each(struct store *s, uint64_t no,
                                  enum sp_err (*each)(void *ctx, const struct store_recipient *r),
                                  void *ctx)
{
    static const uint8_t text[STORE_ANSWER] = {0};
    enum sp_err err = SP_OK;
    insist(no == 11);
    for (uint16_t i = 0; err == SP_OK && i < 300; i++) /* more text than a frame holds */
        err = each(
            ctx, &(struct store_recipient){
                     .index = i, .kind = 2, .address = {text, 200}, .text = {text, sizeof(text)}});
    return err;
}

enum sp_err store_jobs_each(struct store *s, uint64_t no,
                            enum sp_err (*each)(void *ctx, const struct store_job *job), void *ctx)
{
    insist(no == 11);
    each(ctx, &(struct store_job){.no = 11, .user = 6});
    return each(ctx, &(struct store_job){.no = 11, .job = 1, .user = 5});
}

enum sp_err store_job_get(struct store *s, uint64_t no, uint16_t job, struct store_job *out)
{
    insist(no == 11);
    if (job > 2)
        return SP_ERR_NOT_FOUND;
    *out = (struct store_job){.no = no, .job = job, .user = job == 0 ? 6 : 5, .secret = job == 2};
    return SP_OK;
}

enum sp_err store_job_revoke(struct store *s, struct store_job *job, const char *address,
                             uint64_t now, size_t *n, size_t *left)
{
    (void)s, (void)now;
    insist(job->user == 5 && (address == NULL || strlen(address) > 2));
    *n = 1;
    *left = 0;
    return SP_OK;
}

bool store_has_room(struct store *s)
{
    return true;
}

uint64_t store_pending(const struct store *s)
{
    return 0;
}

enum sp_err store_link_get(struct store *s, const uint8_t id[ID_SIZE], struct store_link *out)
{
    (void)s, (void)out;
    return id[0] == 'L' ? SP_OK : SP_ERR_NOT_FOUND;
}

enum sp_err store_secret_get(struct store *s, uint64_t no, uint16_t n, struct store_secret *out,
                             bool *needed)
{
    (void)s, (void)n;
    insist(no == 11);
    *out = (struct store_secret){.kind = BOX_PASSWORD};
    *needed = true;
    return SP_OK;
}

/* A form whose signature begins with 'S' is what the device has signed; nothing else is sent. */
enum sp_err order_verify_form(const uint8_t sign_pk[KEY_SIZE], const uint8_t upload_id[ID_SIZE],
                              const uint8_t *form, size_t form_len,
                              const uint8_t signature[SIGN_SIZE])
{
    insist(sign_pk[0] == 8 && upload_id[0] == 'D' && signature == form + form_len);
    verified = signature[0] == 'S';
    return verified ? SP_OK : SP_ERR_AUTH;
}

/* --- the rest of the role --- */

void links_schedule(struct store_role *r)
{
    (void)r;
}

enum sp_err links_revoke(struct store_role *r, uint64_t user, uint64_t no, const char *address,
                         const char *why, size_t *n)
{
    (void)r, (void)address, (void)why;
    insist(user == 5 && no == 11);
    *n = 1;
    return SP_OK;
}

uint64_t link_now(struct store_role *r)
{
    (void)r;
    return 1000;
}

enum sp_err keeper_wrap(struct store_role *r, struct sending *s)
{
    if (wrapping != NULL)
        return SP_ERR_NO_SPACE;
    insist(verified && r == &fuzz_role && s->user == 5 && s->n_wrapped == 0);
    insist(s->n_secrets == s->form->relay + 2 * s->form->n_links && s->n_secrets > 0);
    wrapping = s;
    return SP_OK;
}

enum sp_err group_answer(struct store_role *r, const struct reply *reply)
{
    if (reply->then != NULL)
        reply->then(r, reply->arg, commits % 3 == 0 ? SP_ERR_NO_SPACE : SP_OK);
    return SP_OK;
}

enum sp_err group_flush(struct store_role *r)
{
    (void)r;
    return SP_OK;
}

void secret_forget(struct store_role *r, const struct store_secret *secret, const char *why)
{
    (void)r, (void)why;
    insist(secret->slot == 3);
}

void secret_check(struct store_role *r, uint64_t no, uint16_t n, const char *why)
{
    (void)r, (void)n, (void)why;
    insist(no == 11);
}

void secrets_settle(struct store_role *r)
{
    (void)r;
}

void relay_wake(struct store_role *r)
{
    (void)r;
}

enum sp_err queue_add(struct queue *q, uint64_t no, uint16_t job, uint64_t user,
                      const char *destination, uint64_t next_ms, uint64_t now)
{
    (void)q, (void)job, (void)user, (void)next_ms, (void)now;
    insist(no == 11 && destination != NULL);
    return SP_OK;
}

enum sp_err queue_remove(struct queue *q, uint64_t no, uint16_t job)
{
    (void)q, (void)no, (void)job;
    return SP_OK;
}

bool queue_leased(const struct queue *q, uint64_t no, uint16_t job)
{
    (void)q, (void)no, (void)job;
    return false;
}

enum sp_err answer(struct ipc_peer *peer, uint16_t type, uint32_t id, enum sp_err status)
{
    (void)peer, (void)id;
    insist(type >= SW_CHALLENGE_REPLY && status < SP_ERR_COUNT);
    return SP_OK;
}

void sweep_soon(struct store_role *r)
{
    (void)r;
}

void commit_soon(struct store_role *r)
{
    (void)r;
}

uint64_t now_ms(void)
{
    return 1000;
}

uint64_t clock_us(void)
{
    return 1000;
}

void audit_emit(enum audit_event event, ...)
{
    insist(event == AUDIT_SENT || event == AUDIT_RELAY_QUEUED || event == AUDIT_LINK_CREATED);
}

void role_log(const char *format, ...)
{
    (void)format;
}

enum sp_err ipc_peer_send(struct ipc_peer *peer, uint16_t type, uint32_t id,
                          const struct wire_out *body, int fd)
{
    (void)peer, (void)type, (void)id;
    insist(wire_out_ok(body) && body->len <= IPC_MAX_PAYLOAD && fd == -1);
    return SP_OK;
}

/* --- frames, as ipc.c would hand them on --- */

static enum sp_err (*const handlers[])(void *, struct ipc_peer *, struct ipc_frame *) = {
    on_upload, on_upload_state,    on_upload_put, on_upload_drop, on_send,
    on_sent,   on_delivery_status, on_revoke,     on_resolve,     on_keeper_key,
};
#define HANDLERS (sizeof(handlers) / sizeof(handlers[0]))

/* The keeper's answers to what waits for it: all the same, or the last one another. */
static void wrapped(enum sp_err status, bool last)
{
    struct sending *s = wrapping;
    wrapping = NULL;
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->n_secrets; i++) {
        bool good = (status == SP_OK) != (last && i + 1 == s->n_secrets);
        s->secret[i].slot = 3;
        s->secret[i].wrapped_len = good ? 80 : 0;
        if (!good)
            s->failed = SP_ERR_AUTH;
        s->n_wrapped++;
    }
    send_go_on(&fuzz_role, s);
}

static enum sp_err dispatch(struct wire_in *in)
{
    uint8_t i = wire_get_u8(in) % 16;
    size_t len;
    const uint8_t *body = wire_get_b16(in, UINT16_MAX, &len);
    if (body == NULL)
        return SP_ERR_FORMAT;
    if (i >= HANDLERS) {
        wrapped(i % 2 == 0 ? SP_OK : SP_ERR_AUTH, i >= 14);
        return SP_OK;
    }
    struct ipc_frame frame = {.body = wire_in(body, len), .fd = -1};
    enum sp_err err = handlers[i](&fuzz_role, fuzz_role.web, &frame);
    return err == SP_OK && !wire_in_done(&frame.body) ? SP_ERR_FORMAT : err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char url[] = "https://x";
    static struct config config = {.send_recipients = 5,
                                   .send_messages = 10,
                                   .send_bytes = 1000000,
                                   .web_url = url,
                                   .web_max_expiry = 1000};
    static struct role role = {.config = &config};
    struct wire_in in = wire_in(data, size);
    memset(&fuzz_role, 0, sizeof(fuzz_role));
    fuzz_role.role = &role;
    fuzz_role.keeper_ready = true;
    fuzz_role.web = (struct ipc_peer *)&fuzz_role; /* never looked into */
    fuzz_role.forms = forms_new();
    there = 0;
    commits = 0;
    while (in.left > 0 && dispatch(&in) == SP_OK)
        ;
    wrapped(SP_ERR_NO_SPACE, false);
    forms_free(fuzz_role.forms);
    return 0;
}
