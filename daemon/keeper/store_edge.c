/* The edge to the store: secrets that clients sealed come in, wrapped bytes go out; slots are
 * erased. The store may have been taken over: it sees no secret, and the most it can do is to erase
 * what it should have kept. */
#include "daemon/audit/events.h"
#include "daemon/keeper/keeper.h"
#include "sandbox/lockmem.h"
#include "storage/slots.h"

#include <event2/event.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define REST                                                                                       \
    IPC_MAX_PAYLOAD /* of a b16 whose length a client has chosen: answered, not punished           \
                     */

#define ERASE_EVERY_US 10000u

/* --- answers --- */

static enum sp_err answer(struct keeper *k, uint16_t type, uint32_t id, enum sp_err status)
{
    uint8_t byte = (uint8_t)status;
    struct wire_out out = {.at = &byte, .len = 1, .cap = 1};
    return ipc_peer_send(k->store, type, id, &out, -1);
}

/* A reply of this type carries a slot and wrapped bytes. */
static bool brings_slot(uint16_t type)
{
    return type == VT_SECRET_REPLY || type == VT_WRAP_REPLY;
}

static const char *kind_name(uint8_t kind)
{
    return kind == BOX_RELAY ? "relay" : kind == BOX_PASSWORD ? "password" : "box";
}

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t age_ms(uint64_t since_ms)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t now = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    return now > since_ms ? now - since_ms : 0;
}

static void audit(struct keeper *k, const struct pending *p)
{
    const struct vault_id *what = &p->what;
    if (p->audit == AUDIT_RECEIVED) {
        k->received++;
        audit_emit(AUDIT_SECRET_RECEIVED, what->message_id, kind_name(what->kind),
                   what->recipient_id);
    } else if (p->audit == AUDIT_ERASED) {
        uint64_t ms = age_ms(p->received_ms);
        k->erased++;
        if (what->kind != VAULT_BOX)
            histogram_add(what->kind == BOX_RELAY ? &k->relay_ms : &k->password_ms, ms);
        audit_emit(AUDIT_SECRET_ERASED, what->message_id, kind_name(what->kind), what->recipient_id,
                   ms, p->why);
    }
}

static enum sp_err send_pending(struct keeper *k, const struct pending *p)
{
    uint8_t buf[1 + 4 + 2 + VT_BOX_WRAPPED_MAX];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u8(&out, SP_OK);
    if (p->type == VT_SLOTS_REPLY)
        wire_put_bytes(&out, vault_public_key(k->vault), KEY_SIZE);
    if (brings_slot(p->type)) {
        wire_put_u32(&out, p->slot);
        wire_put_b16(&out, p->wrapped, p->len);
    }
    return ipc_peer_send(k->store, p->type, p->id, &out, -1);
}

enum sp_err store_edge_flush(struct keeper *k)
{
    if (k->n_pending == 0)
        return SP_OK;
    enum sp_err err = slots_sync(vault_slots(k->vault));
    k->synced_us = now_us();
    for (size_t i = 0; err == SP_OK && i < k->n_pending; i++) {
        audit(k, &k->pending[i]);
        if (k->store != NULL)
            send_pending(k, &k->pending[i]); /* its end is heard of from the loop */
    }
    k->n_pending = 0;
    return err;
}

/* While the disk works nothing else is done here, and deliveries wait for their keys. Nobody waits
 * for an erasure: those that follow each other closely share a sync. */
static bool may_wait(const struct keeper *k)
{
    if (k->n_pending == 0 || event_base_got_exit(k->role->base))
        return false;
    for (size_t i = 0; i < k->n_pending; i++)
        if (k->pending[i].audit != AUDIT_ERASED)
            return false;
    return now_us() - k->synced_us < ERASE_EVERY_US;
}

enum sp_err store_edge_turn(struct keeper *k)
{
    const struct timeval most = {.tv_usec = ERASE_EVERY_US};
    if (!may_wait(k))
        return store_edge_flush(k);
    if (!event_pending(k->sync_due, EV_TIMEOUT, NULL))
        event_add(k->sync_due, &most);
    return SP_OK;
}

/* The turn that ends with this one sees to it. */
static void on_sync_due(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
}

/* A place for one more answer. */
static enum sp_err add_pending(struct keeper *k, uint16_t type, uint32_t id, struct pending **out)
{
    enum sp_err err = k->n_pending == KEEPER_PENDING ? store_edge_flush(k) : SP_OK;
    *out = &k->pending[k->n_pending];
    **out = (struct pending){.type = type, .id = id};
    return err;
}

/* --- requests --- */

static void get_id(struct wire_in *body, struct vault_id *id, bool with_kind)
{
    wire_get_copy(body, id->message_id, ID_SIZE);
    id->kind = with_kind ? wire_get_u8(body) : VAULT_BOX;
    wire_get_copy(body, id->recipient_id, ID_SIZE);
}

static bool is_secret(uint8_t kind)
{
    return kind == BOX_RELAY || kind == BOX_PASSWORD;
}

/* What the disk still holds and no record names was taken shortly before a crash: nobody was told.
 */
static enum sp_err wipe_orphans(struct keeper *k)
{
    uint32_t n;
    struct slots *slots = vault_slots(k->vault);
    enum sp_err err = slots_erase_unnamed(slots, &n);
    if (err == SP_OK)
        err = slots_sync(slots);
    if (err == SP_OK && n > 0)
        audit_emit(AUDIT_SLOTS_SWEPT, (uint64_t)n, (uint64_t)slots_in_use(slots));
    return err;
}

static void permit_requests(struct keeper *k);

static enum sp_err on_slots(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct keeper *k = ctx;
    struct pending *reply;
    (void)peer;
    uint8_t more = wire_get_u8(&frame->body);
    enum sp_err err = more > 1 ? SP_ERR_FORMAT : SP_OK;
    while (err == SP_OK && frame->body.left > 0 && !frame->body.bad)
        err = slots_name(vault_slots(k->vault), wire_get_u32(&frame->body));
    if (err == SP_OK && frame->body.bad)
        err = SP_ERR_FORMAT;
    if (err != SP_OK || more)
        return err;
    err = wipe_orphans(k);
    if (err == SP_OK)
        err = add_pending(k, VT_SLOTS_REPLY, frame->id, &reply);
    if (err != SP_OK)
        return err;
    k->n_pending++;
    k->ready = true;
    permit_requests(k);
    return SP_OK;
}

static enum sp_err on_secret(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct keeper *k = ctx;
    struct pending *reply;
    size_t len;
    (void)peer;
    enum sp_err err = add_pending(k, VT_SECRET_REPLY, frame->id, &reply);
    if (err != SP_OK)
        return err;
    get_id(&frame->body, &reply->what, true);
    const uint8_t *sealed = wire_get_b16(&frame->body, REST, &len);
    if (!wire_in_done(&frame->body) || !is_secret(reply->what.kind))
        return SP_ERR_FORMAT;
    reply->audit = AUDIT_RECEIVED;
    reply->len = VAULT_SECRET;
    err = vault_take(k->vault, &reply->what, sealed, len, &reply->slot, reply->wrapped);
    if (err == SP_OK) {
        k->n_pending++;
        return SP_OK;
    }
    if (err == SP_ERR_AUTH)
        k->refused++;
    return err == SP_ERR_SYSTEM ? err : answer(k, VT_SECRET_REPLY, frame->id, err);
}

static enum sp_err on_wrap(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct keeper *k = ctx;
    struct pending *reply;
    size_t len;
    (void)peer;
    enum sp_err err = add_pending(k, VT_WRAP_REPLY, frame->id, &reply);
    if (err != SP_OK)
        return err;
    get_id(&frame->body, &reply->what, false);
    const uint8_t *box = wire_get_b16(&frame->body, REST, &len);
    if (!wire_in_done(&frame->body))
        return SP_ERR_FORMAT;
    reply->len = len + VAULT_OVERHEAD;
    err = len > VT_BOX_MAX
              ? SP_ERR_LIMIT
              : vault_wrap_box(k->vault, &reply->what, box, len, &reply->slot, reply->wrapped);
    if (err == SP_OK) {
        k->n_pending++;
        return SP_OK;
    }
    return err == SP_ERR_SYSTEM ? err : answer(k, VT_WRAP_REPLY, frame->id, err);
}

static enum sp_err on_unwrap(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct keeper *k = ctx;
    struct vault_id id;
    uint8_t buf[1 + 2 + VT_BOX_WRAPPED_MAX], box[VT_BOX_WRAPPED_MAX];
    size_t len;
    get_id(&frame->body, &id, false);
    uint32_t slot = wire_get_u32(&frame->body);
    const uint8_t *wrapped = wire_get_b16(&frame->body, VT_BOX_WRAPPED_MAX, &len);
    if (!wire_in_done(&frame->body))
        return SP_ERR_FORMAT;
    enum sp_err err = vault_unwrap_box(k->vault, &id, slot, wrapped, len, box);
    if (err != SP_OK)
        return answer(k, VT_UNWRAP_REPLY, frame->id, err);
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u8(&out, SP_OK);
    wire_put_b16(&out, box, len - VAULT_OVERHEAD);
    return ipc_peer_send(peer, VT_UNWRAP_REPLY, frame->id, &out, -1);
}

/* Too many, or of a secret that cannot be: the delivery that comes for it is sent away. */
static enum sp_err on_lease(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct keeper *k = ctx;
    struct vault_id id;
    size_t len;
    (void)peer;
    uint64_t no = wire_get_u64(&frame->body);
    get_id(&frame->body, &id, true);
    uint32_t slot = wire_get_u32(&frame->body);
    const uint8_t *wrapped = wire_get_b16(&frame->body, VAULT_SECRET, &len);
    if (!wire_in_done(&frame->body) || (id.kind != 0 && !is_secret(id.kind)) ||
        leases_find(k, no) != NULL)
        return SP_ERR_FORMAT;
    struct lease *lease = leases_new(k, no);
    if (lease == NULL) {
        k->refused++;
        role_log("lease %llu is refused: there are too many", (unsigned long long)no);
        return SP_OK;
    }
    lease->id = id;
    lease->slot = slot;
    lease->len = len;
    memcpy(lease->wrapped, wrapped, len);
    return SP_OK;
}

static enum sp_err on_lease_end(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct keeper *k = ctx;
    (void)peer;
    uint64_t no = wire_get_u64(&frame->body);
    struct lease *lease = frame->body.bad ? NULL : leases_find(k, no);
    if (lease != NULL && lease->holder != NULL)
        delivery_drop(lease->holder);
    else if (lease != NULL)
        leases_drop(k, lease);
    return SP_OK;
}

static enum sp_err on_erase(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct keeper *k = ctx;
    struct pending *reply;
    size_t len;
    (void)peer;
    enum sp_err err = add_pending(k, VT_ERASE_REPLY, frame->id, &reply);
    if (err != SP_OK)
        return err;
    uint32_t slot = wire_get_u32(&frame->body);
    get_id(&frame->body, &reply->what, true);
    reply->received_ms = wire_get_u64(&frame->body);
    const uint8_t *why = wire_get_b16(&frame->body, sizeof(reply->why) - 1, &len);
    if (!wire_in_done(&frame->body) || (reply->what.kind != 0 && !is_secret(reply->what.kind)))
        return SP_ERR_FORMAT;
    memcpy(reply->why, why, len);
    reply->audit = AUDIT_ERASED;
    err = slots_erase(vault_slots(k->vault), slot);
    if (err == SP_OK)
        k->n_pending++;
    return err;
}

/* --- the edge --- */

#define IDS (2u * ID_SIZE)

static const struct ipc_rule rules[] = {
    {VT_SLOTS, false, false, 1, IPC_MAX_PAYLOAD, on_slots},
    {VT_SECRET, false, false, IDS + 3, REST, on_secret},
    {VT_WRAP, false, false, IDS + 2, REST, on_wrap},
    {VT_UNWRAP, false, false, IDS + 6, IDS + 6 + VT_BOX_WRAPPED_MAX, on_unwrap},
    {VT_LEASE, false, false, IDS + 15, IDS + 15 + VT_SECRET_WRAPPED_MAX, on_lease},
    {VT_LEASE_END, false, false, 8, 8, on_lease_end},
    {VT_ERASE, false, false, IDS + 15, IDS + 15 + 64, on_erase},
};
#define ALL ((UINT64_C(1) << sizeof(rules) / sizeof(rules[0])) - 1)

/* Without it nothing would be erased any more: a fresh tree is better. What was asked for before is
 * done. Of a store that has ended the supervisor hears itself. */
static void on_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct keeper *k = ctx;
    if (why != SP_ERR_PEER) {
        role_log("the store's edge ends, and the keeper: %s", sp_err_text(why));
        store_edge_flush(k);
        _exit(1);
    }
    ipc_peer_free(peer);
    k->store = NULL;
}

/* Nothing but the list of slots comes first, and it comes once. */
static const struct ipc_rules store_rules = {rules, sizeof(rules) / sizeof(rules[0]), 1, on_gone};

static void permit_requests(struct keeper *k)
{
    ipc_permit_only(k->store, ALL & ~UINT64_C(1));
}

enum sp_err store_edge_open(struct keeper *k)
{
    k->sync_due = evtimer_new(k->role->base, on_sync_due, k);
    k->store = ipc_peer_new(k->role->base, ROLE_FD(ROLE_STORE), &store_rules, k);
    return k->store != NULL && k->sync_due != NULL ? SP_OK : SP_ERR_MEMORY;
}
