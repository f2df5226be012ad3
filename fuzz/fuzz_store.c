/* libs: -lcrypto -lsodium -lidn2 */
/* The sealer's edge of the store, fed by a sealer that was taken over: any frames in any order. The
 * store behind it is a model that checks what it is given: bytes of the ring alone, and messages
 * whose envelope says exactly what came. */
#include "envelope/wire.c"
#include "envelope/error.c"
#include "envelope/utf8.c"
#include "envelope/keys.c"
#include "envelope/cake.c"
#include "envelope/envelope.c"
#include "envelope/box.c"
#include "daemon/domain.c"
#include "storage/address.c"
#include "storage/edge_sealer.c"

#include <stdlib.h>

#define FUZZ_RING 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct store_upload {
    uint64_t length[STORE_MAX_PIECES];
};

static struct store_role fuzz_role;
static uint64_t fuzz_permitted;

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
    return *out != NULL ? SP_OK : SP_ERR_MEMORY;
}

enum sp_err store_upload_append(struct store_upload *u, uint16_t piece, const void *bytes,
                                size_t len)
{
    const uint8_t *at = bytes;
    insist(piece < STORE_MAX_PIECES && len > 0 && len <= FUZZ_RING);
    insist(at >= fuzz_role.ring.bytes && at + len <= fuzz_role.ring.bytes + FUZZ_RING);
    u->length[piece] += len;
    return SP_OK;
}

enum sp_err store_upload_status(const struct store_upload *u)
{
    (void)u;
    return SP_OK;
}

uint64_t store_upload_length(const struct store_upload *u, uint16_t piece)
{
    return u->length[piece];
}

enum sp_err store_upload_deliver(struct store_upload *u, const struct store_message *m)
{
    struct envelope e;
    insist(envelope_decode(m->envelope, m->envelope_len, &e) == SP_OK);
    insist(m->pieces > 0 && m->pieces == e.n_pieces && m->boxes <= STORE_MAX_BOXES);
    for (uint16_t i = 0; i < m->pieces; i++)
        insist(u->length[i] == e.piece_length[i]);
    for (size_t i = 0; i < m->boxes; i++) {
        struct box b;
        insist(box_decode(m->box[i].bytes, m->box[i].len, &b) == SP_OK);
        insist(memcmp(b.recipient_id, m->box[i].user_id, ID_SIZE) == 0);
    }
    free(u);
    return SP_OK;
}

void store_upload_abort(struct store_upload *u)
{
    free(u);
}

bool store_has_room(struct store *s)
{
    (void)s;
    return true;
}

uint64_t store_pending(const struct store *s)
{
    (void)s;
    return 0;
}

enum sp_err store_resolve(struct store *s, const char *address, struct store_user *out, size_t max,
                          size_t *n)
{
    (void)s;
    insist(strlen(address) < STORE_MAX_ADDRESS && max > 0);
    for (const char *c = address; *c != '\0'; c++)
        insist(!(*c >= 'A' && *c <= 'Z') && (uint8_t)*c >= 0x20);
    *out = (struct store_user){.state = USER_ENROLLED, .generation = 1};
    *n = 1;
    return SP_OK;
}

enum sp_err group_flush(struct store_role *r)
{
    ring_ack(r);
    return SP_OK;
}

enum sp_err group_answer(struct store_role *r, const struct reply *reply)
{
    (void)r;
    insist(reply->type == SS_COMMIT_REPLY);
    return SP_OK;
}

enum sp_err answer(struct ipc_peer *peer, uint16_t type, uint32_t id, enum sp_err status)
{
    (void)peer;
    (void)type;
    (void)id;
    insist(status != SP_OK);
    return SP_OK;
}

void sweep_soon(struct store_role *r)
{
    (void)r;
}

bool own_domain(const struct store_role *r, const char *address)
{
    (void)r;
    return strcmp(store_address_domain(address), "x") == 0;
}

void edge_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    (void)ctx;
    (void)peer;
    (void)why;
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

static void permit(uint16_t type, bool on)
{
    for (size_t i = 0; i < sealer_rules.count; i++)
        if (sealer_rules.rule[i].type == type)
            fuzz_permitted = on ? fuzz_permitted | 1u << i : fuzz_permitted & ~(1u << i);
}

void ipc_permit(struct ipc_peer *peer, uint16_t type)
{
    (void)peer;
    permit(type, true);
}

/* --- frames, as ipc.c would hand them on --- */

static enum sp_err dispatch(struct wire_in *in)
{
    uint8_t i = wire_get_u8(in) % 8;
    size_t len;
    const uint8_t *body = wire_get_b16(in, UINT16_MAX, &len);
    if (i >= sealer_rules.count || body == NULL || !(fuzz_permitted >> i & 1))
        return SP_ERR_DENIED;
    const struct ipc_rule *rule = &sealer_rules.rule[i];
    if (len < rule->min || len > rule->max)
        return SP_ERR_FORMAT;
    struct ipc_frame frame = {.type = rule->type, .body = wire_in(body, len), .fd = -1};
    if (rule->fd) {
        frame.fd = memfd_create("ring", MFD_CLOEXEC);
        insist(frame.fd >= 0 && ftruncate(frame.fd, FUZZ_RING) == 0);
    }
    if (rule->once)
        permit(rule->type, false);
    enum sp_err err = rule->handle(&fuzz_role, fuzz_role.sealer, &frame);
    if (frame.fd >= 0)
        close(frame.fd);
    return err == SP_OK && !wire_in_done(&frame.body) ? SP_ERR_FORMAT : err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char domain[] = "x";
    static struct config config = {.domain = {.count = 1, .item = {domain}}};
    static struct role role = {.config = &config};
    struct wire_in in = wire_in(data, size);
    memset(&fuzz_role, 0, sizeof(fuzz_role));
    fuzz_role.role = &role;
    fuzz_role.sealer = (struct ipc_peer *)&fuzz_role; /* never looked into */
    fuzz_permitted = sealer_rules.permitted;
    while (in.left > 0 && dispatch(&in) == SP_OK)
        ;
    incoming_drop_all(&fuzz_role);
    if (fuzz_role.ring.bytes != NULL)
        munmap((void *)(uintptr_t)fuzz_role.ring.bytes, FUZZ_RING);
    return 0;
}
