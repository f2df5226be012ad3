/* The sealer's edge: addresses to keys, ciphertext out of the shared ring, commits. The sealer
 * holds plaintext and parses nothing, but is taken for hostile here: what it sends must be exact,
 * and all it can reach is new mail. */
#include "storage/edges.h"
#include "daemon/messages.h"
#include "envelope/envelope.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RING_MIN   4096u
#define RING_MAX   (1024u << 20)
#define ACK_STEP   8u /* tell the sealer at the latest when this part of the ring is free */
#define LOOKUP_MAX (2u + STORE_MAX_ADDRESS)
#define COMMIT_MIN (8u + 16u + 8u + 2u + 4u + 2u)

/* --- the ring --- */

static enum sp_err on_ring(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    uint64_t size = wire_get_u64(&frame->body);
    off_t real = lseek(frame->fd, 0, SEEK_END);
    if (size < RING_MIN || size > RING_MAX || real < 0 || (uint64_t)real != size)
        return SP_ERR_FORMAT;
    void *at = mmap(NULL, size, PROT_READ, MAP_SHARED, frame->fd, 0);
    if (at == MAP_FAILED)
        return SP_ERR_MEMORY;
    r->ring = (struct ring){.bytes = at, .size = size};
    ipc_permit(peer, SS_LOOKUP);
    ipc_permit(peer, SS_BLOCK);
    ipc_permit(peer, SS_COMMIT);
    ipc_permit(peer, SS_ABORT);
    return SP_OK;
}

void ring_ack(struct store_role *r)
{
    uint8_t buf[8];
    struct wire_out out = wire_out(buf, sizeof(buf));
    if (r->sealer == NULL || r->ring.acked == r->ring.end)
        return;
    wire_put_u64(&out, r->ring.end);
    r->ring.acked = r->ring.end;
    ipc_peer_send(r->sealer, SS_CONSUMED, 0, &out, -1);
}

/* The block's bytes; NULL if its place is not one that the sealer may name. */
static const uint8_t *ring_take(struct ring *ring, uint64_t position, uint32_t n)
{
    uint64_t at = position % ring->size;
    if (n == 0 || position < ring->end || n > ring->size - at ||
        position - ring->acked > ring->size - n)
        return NULL;
    ring->end = position + n;
    return ring->bytes + at;
}

/* --- uploads --- */

static struct incoming *incoming_find(struct store_role *r, uint64_t id)
{
    struct incoming *in;
    LIST_FOREACH(in, &r->incoming[id % UPLOAD_CHAINS], next)
    if (in->id == id)
        return in;
    return NULL;
}

static struct incoming *incoming_new(struct store_role *r, uint64_t id)
{
    struct incoming *in = r->n_incoming < UPLOADS_MAX ? calloc(1, sizeof(*in)) : NULL;
    if (in == NULL || store_upload_begin(r->store, &in->upload) != SP_OK) {
        free(in);
        return NULL;
    }
    in->id = id;
    LIST_INSERT_HEAD(&r->incoming[id % UPLOAD_CHAINS], in, next);
    r->n_incoming++;
    return in;
}

/* Forgets it; the upload is the caller's. */
static struct store_upload *incoming_end(struct store_role *r, struct incoming *in)
{
    struct store_upload *upload = in->upload;
    LIST_REMOVE(in, next);
    r->n_incoming--;
    free(in);
    return upload;
}

void incoming_drop_all(struct store_role *r)
{
    for (size_t i = 0; i < UPLOAD_CHAINS; i++)
        while (!LIST_EMPTY(&r->incoming[i]))
            store_upload_abort(incoming_end(r, LIST_FIRST(&r->incoming[i])));
    sweep_soon(r);
}

/* Appends; what goes wrong, the commit will be told. What a group may take is estimated with care,
 * so near the end a new one is begun, which finds out how much there really is. */
static void append(struct store_role *r, struct store_upload *upload, uint16_t piece,
                   const uint8_t *bytes, uint32_t n)
{
    if (store_upload_status(upload) == SP_OK && !store_has_room(r->store))
        group_flush(r);
    store_upload_append(upload, piece, bytes, n);
}

static enum sp_err on_block(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    (void)peer;
    uint64_t id = wire_get_u64(&frame->body);
    uint16_t piece = wire_get_u16(&frame->body);
    uint64_t position = wire_get_u64(&frame->body);
    uint32_t n = wire_get_u32(&frame->body);
    const uint8_t *bytes = ring_take(&r->ring, position, n);
    if (bytes == NULL || piece >= STORE_MAX_PIECES)
        return SP_ERR_FORMAT;
    struct incoming *in = incoming_find(r, id);
    if (in == NULL)
        in = incoming_new(r, id);
    if (in == NULL)
        return SP_ERR_LIMIT;
    append(r, in->upload, piece, bytes, n);
    if (r->ring.end - r->ring.acked > r->ring.size / ACK_STEP)
        ring_ack(r);
    if (store_pending(r->store) >= GROUP_BYTES)
        group_flush(r); /* memory does not grow with the size of a message */
    return SP_OK;
}

static enum sp_err on_abort(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    (void)peer;
    struct incoming *in = incoming_find(r, wire_get_u64(&frame->body));
    if (in == NULL)
        return SP_OK; /* no block had come yet */
    store_upload_abort(incoming_end(r, in));
    sweep_soon(r);
    return SP_OK;
}

/* --- looking up --- */

static enum sp_err resolve(struct store_role *r, const char *address, struct store_user *users,
                           size_t *n)
{
    char name[STORE_MAX_ADDRESS];
    *n = 0;
    if (!store_has_room(r->store))
        group_flush(r); /* a new group measures anew */
    if (!store_has_room(r->store))
        return SP_ERR_NO_SPACE; /* 452, before the data */
    if (strchr(address, '@') == NULL) {
        /* A bare postmaster is that of the first domain of ours. */
        char full[2 * STORE_MAX_ADDRESS];
        const struct config_list *own = &r->role->config->domain;
        int len = snprintf(full, sizeof(full), "%s@%s", address, own->count ? own->item[0] : "");
        enum sp_err err = store_address(full, (size_t)len, false, name);
        return err != SP_OK ? err : store_resolve(r->store, name, users, STORE_MAX_TARGETS, n);
    }
    if (!own_domain(r, address))
        return SP_ERR_NOT_FOUND;
    return store_resolve(r->store, address, users, STORE_MAX_TARGETS, n);
}

/* One without a key makes the sender try again later: nobody's copy may be lost in silence. */
static enum sp_err all_have_keys(const struct store_user *users, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (users[i].state != USER_ENROLLED)
            return SP_ERR_NO_KEY;
    return n > 0 ? SP_OK : SP_ERR_NOT_FOUND;
}

static enum sp_err on_lookup(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    static struct store_user users[STORE_MAX_TARGETS];
    static uint8_t buf[3 + STORE_MAX_TARGETS * (ID_SIZE + 4 + KEY_SIZE)];
    struct store_role *r = ctx;
    char address[STORE_MAX_ADDRESS];
    size_t len, n = 0;
    const uint8_t *text = wire_get_b16(&frame->body, STORE_MAX_ADDRESS, &len);
    if (text == NULL)
        return SP_ERR_FORMAT;
    enum sp_err err = store_address(text, len, true, address);
    err = err == SP_OK ? resolve(r, address, users, &n) : SP_ERR_NOT_FOUND;
    if (err == SP_OK)
        err = all_have_keys(users, n);
    if (err != SP_OK)
        return answer(peer, SS_LOOKUP_REPLY, frame->id, err);
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u8(&out, SP_OK);
    wire_put_u16(&out, (uint16_t)n);
    for (size_t i = 0; i < n; i++) {
        wire_put_bytes(&out, users[i].user_id, ID_SIZE);
        wire_put_u32(&out, users[i].generation);
        wire_put_bytes(&out, users[i].puk_pk, KEY_SIZE);
    }
    return ipc_peer_send(peer, SS_LOOKUP_REPLY, frame->id, &out, -1);
}

/* --- committing --- */

/* A box must be its user's, so that a fetch can never hand out what somebody else is to open. */
static enum sp_err parse_box(struct wire_in *in, struct store_box *out)
{
    struct box box;
    wire_get_copy(in, out->user_id, ID_SIZE);
    out->bytes = wire_get_b32(in, BOX_MAX, &out->len);
    if (out->bytes == NULL)
        return SP_ERR_FORMAT;
    enum sp_err err = box_decode(out->bytes, out->len, &box);
    if (err == SP_OK &&
        (box.kind != BOX_USER || memcmp(box.recipient_id, out->user_id, ID_SIZE) != 0))
        err = SP_ERR_FORMAT;
    out->generation = err == SP_OK ? box.puk_generation : 0;
    out->sent = false;
    return err;
}

static enum sp_err parse_commit(struct wire_in *in, struct store_message *m, struct store_box *box)
{
    wire_get_copy(in, m->message_id, ID_SIZE);
    m->received_ms = wire_get_u64(in);
    m->pieces = wire_get_u16(in);
    m->envelope = wire_get_b32(in, IPC_MAX_PAYLOAD, &m->envelope_len);
    m->boxes = wire_get_u16(in);
    m->box = box;
    if (in->bad || m->boxes > STORE_MAX_BOXES)
        return SP_ERR_FORMAT;
    for (size_t i = 0; i < m->boxes; i++) {
        enum sp_err err = parse_box(in, &box[i]);
        if (err != SP_OK)
            return err;
    }
    return wire_in_done(in) ? SP_OK : SP_ERR_FORMAT;
}

/* The envelope must speak of this message, and of exactly the bytes that came: never half of it. */
static enum sp_err check_envelope(const struct store_message *m, const struct store_upload *upload)
{
    struct envelope e;
    enum sp_err err = envelope_decode(m->envelope, m->envelope_len, &e);
    if (err != SP_OK)
        return err;
    if (memcmp(e.message_id, m->message_id, ID_SIZE) != 0 || e.n_pieces != m->pieces)
        return SP_ERR_FORMAT;
    for (uint16_t i = 0; i < m->pieces; i++)
        if (e.piece_length[i] != store_upload_length(upload, i))
            return SP_ERR_FORMAT;
    return SP_OK;
}

static enum sp_err on_commit(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    static struct store_box box[STORE_MAX_BOXES];
    struct store_role *r = ctx;
    struct store_message m = {0};
    struct incoming *in = incoming_find(r, wire_get_u64(&frame->body));
    enum sp_err err = parse_commit(&frame->body, &m, box);
    if (err != SP_OK || in == NULL)
        return SP_ERR_FORMAT;
    struct store_upload *upload = incoming_end(r, in);
    err = store_upload_status(upload);
    if (err == SP_OK)
        err = check_envelope(&m, upload);
    if (err == SP_OK)
        err = store_upload_deliver(upload, &m);
    else
        store_upload_abort(upload);
    if (err != SP_OK) {
        sweep_soon(r);
        return answer(peer, SS_COMMIT_REPLY, frame->id, err);
    }
    r->more_soon = frame->flags;
    return group_answer(r, &(struct reply){.peer = peer, .type = SS_COMMIT_REPLY, .id = frame->id});
}

static const struct ipc_rule rules[] = {
    {SS_RING, true, true, 8, 8, on_ring},
    {SS_LOOKUP, false, false, 3, LOOKUP_MAX, on_lookup},
    {SS_BLOCK, false, false, 22, 22, on_block},
    {SS_COMMIT, false, false, COMMIT_MIN, IPC_MAX_PAYLOAD, on_commit},
    {SS_ABORT, false, false, 8, 8, on_abort},
};
/* Before its ring is there, the sealer may say nothing else. */
const struct ipc_rules sealer_rules = {rules, sizeof(rules) / sizeof(rules[0]), 1, edge_gone};
