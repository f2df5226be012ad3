/* libs: -lcrypto -lsodium -lidn2 */
/* A delivery's edge of the store, fed by a delivery that its server took over: any frames in any
 * order. The store behind it is a model that checks what it is given: results for the lease's own
 * recipients alone, each once, and reports for its own sender that say exactly what came. */
#include "envelope/wire.c"
#include "envelope/error.c"
#include "envelope/utf8.c"
#include "envelope/keys.c"
#include "envelope/cake.c"
#include "envelope/envelope.c"
#include "envelope/box.c"
#include "daemon/domain.c"
#include "storage/address.c"
#include "storage/edge_delivery.c"
#include "storage/edge_result.c"

#define FUZZ_OPEN 5u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct store_upload {
    uint64_t length;
};

static struct store_role fuzz_role;
static struct lease fuzz_lease;
static uint64_t fuzz_permitted;
static bool fuzz_ended[FUZZ_OPEN], fuzz_gone;
static uint64_t uploads;

static void insist(bool good)
{
    if (!good)
        abort();
}

/* --- the model of what is behind the edge --- */

enum sp_err store_upload_begin(struct store *s, struct store_upload **out)
{
    (void)s;
    *out = calloc(1, sizeof(**out));
    uploads++;
    return *out != NULL ? SP_OK : SP_ERR_MEMORY;
}

enum sp_err store_upload_append(struct store_upload *u, uint16_t piece, const void *bytes,
                                size_t len)
{
    (void)bytes;
    u->length += len;
    insist(piece == 0 && len > 0 && u->length <= REPORT_MAX);
    return SP_OK;
}

uint64_t store_upload_length(const struct store_upload *u, uint16_t piece)
{
    insist(piece == 0);
    return u->length;
}

void store_upload_abort(struct store_upload *u)
{
    uploads -= u != NULL;
    free(u);
}

enum sp_err store_upload_deliver(struct store_upload *u, const struct store_message *m)
{
    struct envelope e;
    struct box b;
    insist(m->pieces == 1 && m->boxes == 1);
    insist(envelope_decode(m->envelope, m->envelope_len, &e) == SP_OK && !e.from_user);
    insist(e.n_pieces == 1 && e.piece_length[0] == u->length);
    insist(box_decode(m->box->bytes, m->box->len, &b) == SP_OK && b.kind == BOX_USER);
    insist(m->box->user_id[0] == 7 && b.puk_generation == 1 && !m->box->sent);
    store_upload_abort(u);
    return e.message_id[0] % 2 == 0 ? SP_OK : SP_ERR_STATE;
}

enum sp_err store_job_result(struct store *s, struct store_job *job, const struct store_outcome *o,
                             size_t n, uint64_t now, size_t *left)
{
    (void)s;
    (void)now;
    insist(job->no == 11 && n > 0 && n <= FUZZ_OPEN);
    for (size_t i = 0; i < n; i++) {
        insist(o[i].index >= 2 && o[i].index < 2 + FUZZ_OPEN && !fuzz_ended[o[i].index - 2]);
        insist(o[i].state == DELIVERY_SENT || o[i].state == DELIVERY_DEFERRED ||
               o[i].state == DELIVERY_FAILED);
        for (const char *c = o[i].text; *c != '\0'; c++)
            insist(*c >= 0x20 && *c < 0x7f);
        fuzz_ended[o[i].index - 2] = true;
    }
    *left = 1;
    return SP_OK;
}

enum sp_err store_user_by_no(struct store *s, uint64_t no, struct store_user *out)
{
    (void)s;
    insist(no == 5);
    *out = (struct store_user){.no = 5, .state = USER_ENROLLED, .generation = 1};
    out->user_id[0] = 7;
    out->puk_pk[0] = 9;
    return SP_OK;
}

enum sp_err store_user_names(struct store *s, uint64_t user,
                             enum sp_err (*each)(void *ctx, const char *address), void *ctx)
{
    (void)s;
    insist(user == 5);
    for (int i = 0; i < 100; i++)
        each(ctx, "ann@example.org");
    return SP_OK;
}

enum sp_err store_recipient_get(struct store *s, uint64_t no, uint16_t index,
                                struct store_recipient *out, bool *open)
{
    (void)s;
    insist(no == 11 && index >= 2 && index < 2 + FUZZ_OPEN);
    *out = (struct store_recipient){.address = {(const uint8_t *)"a@b", 3}};
    *open = true;
    return SP_OK;
}

enum sp_err store_link_get(struct store *s, const uint8_t id[ID_SIZE], struct store_link *out)
{
    (void)s;
    (void)id;
    *out = (struct store_link){0};
    return SP_ERR_NOT_FOUND;
}

enum sp_err store_link_end(struct store *s, const uint8_t id[ID_SIZE], enum store_delivery state,
                           uint64_t now)
{
    (void)s;
    (void)id;
    (void)state;
    (void)now;
    return SP_ERR_NOT_FOUND;
}

enum sp_err link_of_job(struct store_role *r, const struct store_job *job, uint8_t id[ID_SIZE])
{
    (void)r;
    (void)id;
    insist(job->secret == 0);
    return SP_ERR_NOT_FOUND;
}

void link_ended(struct store_role *r, const uint8_t id[ID_SIZE], const char *why)
{
    (void)r;
    (void)id;
    (void)why;
}

enum sp_err store_secret_get(struct store *s, uint64_t no, uint16_t n, struct store_secret *out,
                             bool *needed)
{
    (void)s;
    insist(no == 11 && n == 0);
    *out = (struct store_secret){.kind = 2, .box = (const uint8_t *)"box", .box_len = 3};
    *needed = true;
    return SP_OK;
}

enum sp_err store_queued_envelope(struct store *s, uint64_t no, const uint8_t **envelope,
                                  size_t *len)
{
    (void)s;
    insist(no == 11);
    *envelope = (const uint8_t *)"envelope";
    *len = 8;
    return SP_OK;
}

enum sp_err store_queued_read(struct store *s, uint64_t no, uint16_t piece, uint64_t offset,
                              uint8_t *out, size_t len, size_t *got, uint64_t *total)
{
    (void)s;
    insist(no == 11 && len > 0 && len <= SD_PIECE_MAX);
    *total = 100;
    if (piece > 0 || offset > 100)
        return SP_ERR_LIMIT;
    *got = len < 100 - offset ? len : (size_t)(100 - offset);
    memset(out, 1, *got);
    return SP_OK;
}

enum sp_err put_sealed(struct wire_out *out, const uint8_t *envelope, size_t envelope_len,
                       const uint8_t *box, size_t box_len, size_t offset)
{
    (void)envelope;
    (void)box;
    wire_put_u32(out, (uint32_t)(envelope_len + box_len));
    return offset <= envelope_len + box_len ? SP_OK : SP_ERR_LIMIT;
}

enum sp_err job_settle(struct store_role *r, struct lease *l)
{
    (void)r;
    insist(l->n_reported == l->n_open);
    return SP_OK;
}

struct lease *lease_find(struct store_role *r, uint64_t id)
{
    (void)r;
    return id == 1 ? &fuzz_lease : NULL;
}

void lease_end_if_over(struct store_role *r, struct lease *l)
{
    (void)r;
    insist(l == &fuzz_lease && l->delivery == NULL);
    fuzz_gone = true;
}

enum sp_err group_answer(struct store_role *r, const struct reply *reply)
{
    insist(reply->then != NULL);
    reply->then(r, reply->arg, SP_OK);
    return SP_OK;
}

void secret_check(struct store_role *r, uint64_t no, uint16_t n, const char *why)
{
    (void)r;
    (void)n;
    (void)why;
    insist(no == 11);
}

const char *closed_text(enum store_closed closed)
{
    return closed == CLOSED_NOT ? "" : "dropped";
}

enum sp_err answer(struct ipc_peer *peer, uint16_t type, uint32_t id, enum sp_err status)
{
    (void)peer;
    (void)id;
    insist(type >= SD_JOB_REPLY && status < SP_ERR_COUNT);
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
    return 1000000;
}

void audit_emit(enum audit_event event, ...)
{
    insist(event == AUDIT_RELAY_SENT || event == AUDIT_RELAY_DEFERRED ||
           event == AUDIT_RELAY_FAILED);
}

void role_log(const char *format, ...)
{
    (void)format;
}

/* --- frames, as ipc.c would hand them on --- */

static void permit(uint16_t type, bool on)
{
    for (size_t i = 0; i < delivery_rules.count; i++)
        if (delivery_rules.rule[i].type == type)
            fuzz_permitted = on ? fuzz_permitted | 1u << i : fuzz_permitted & ~(1u << i);
}

void ipc_permit(struct ipc_peer *peer, uint16_t type)
{
    (void)peer;
    permit(type, true);
}

void ipc_deny(struct ipc_peer *peer, uint16_t type)
{
    (void)peer;
    permit(type, false);
}

enum sp_err ipc_peer_send(struct ipc_peer *peer, uint16_t type, uint32_t id,
                          const struct wire_out *body, int fd)
{
    (void)peer;
    (void)type;
    (void)id;
    insist(wire_out_ok(body) && body->len <= IPC_MAX_PAYLOAD && fd == -1);
    return SP_OK;
}

struct ipc_peer *ipc_peer_new(struct event_base *base, int sock, const struct ipc_rules *with,
                              void *ctx)
{
    (void)base;
    (void)sock;
    insist(with == &delivery_rules);
    return ctx; /* never looked into */
}

void ipc_peer_free(struct ipc_peer *peer)
{
    (void)peer;
}

static enum sp_err dispatch(struct wire_in *in, struct delivery *d)
{
    uint8_t i = wire_get_u8(in) % 8;
    size_t len;
    const uint8_t *body = wire_get_b16(in, UINT16_MAX, &len);
    if (i >= delivery_rules.count || body == NULL || !(fuzz_permitted >> i & 1))
        return SP_ERR_DENIED;
    const struct ipc_rule *rule = &delivery_rules.rule[i];
    if (len < rule->min || len > rule->max)
        return SP_ERR_FORMAT;
    struct ipc_frame frame = {.type = rule->type, .body = wire_in(body, len), .fd = -1};
    if (rule->once)
        permit(rule->type, false);
    enum sp_err err = rule->handle(d, d->peer, &frame);
    return err == SP_OK && !wire_in_done(&frame.body) ? SP_ERR_FORMAT : err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config config = {.retry_for = 3600};
    static struct role role = {.config = &config};
    uint8_t hello[12] = {0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1};
    struct wire_in in = wire_in(data, size);
    memset(&fuzz_role, 0, sizeof(fuzz_role));
    memset(fuzz_ended, 0, sizeof(fuzz_ended));
    fuzz_gone = false;
    fuzz_role.role = &role;
    fuzz_lease = (struct lease){.id = 1, .n_open = FUZZ_OPEN, .job = {.no = 11, .user = 5}};
    fuzz_lease.job.closed = wire_get_u8(&in) % 2 == 0 ? CLOSED_NOT : CLOSED_DROPPED;
    for (uint16_t i = 0; i < FUZZ_OPEN; i++)
        fuzz_lease.open[i] = (uint16_t)(2 + i);
    struct ipc_frame frame = {.type = RP_DELIVERY, .body = wire_in(hello, sizeof(hello)), .fd = 9};
    insist(on_delivery(&fuzz_role, NULL, &frame) == SP_OK && fuzz_lease.delivery != NULL);
    struct delivery *d = fuzz_lease.delivery;
    fuzz_permitted = delivery_rules.permitted;
    while (in.left > 0 && dispatch(&in, d) == SP_OK)
        ;
    delivery_rules.gone(d, d->peer, SP_ERR_PEER);
    insist(fuzz_gone && uploads == 0 && fuzz_role.n_deliveries == 0);
    return 0;
}
