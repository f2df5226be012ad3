/* The channels of deliveries, announced by relay. Both may have been taken over: a channel gets
 * what the store has leased to that one delivery, once each, and ends at the first frame that no
 * honest one sends. */
#include "daemon/keeper/keeper.h"
#include "envelope/envelope.h"
#include "sandbox/lockmem.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bits of delivery_rule. */
enum { MAY_OPEN = 1u << 0, MAY_PASSWORD = 1u << 1, MAY_DKIM = 1u << 2, MAY_AUTH = 1u << 3 };

#define HASHES   (2u * HASH_SIZE)
#define OPEN_MIN (1u + ID_SIZE + 2u + 2u + 3u * KEY_SIZE + 4u)
#define OPEN_MAX (OPEN_MIN + ID_SIZE + KEY_SIZE + BOX_MAX)

/* --- life --- */

static void forget(struct delivery *d)
{
    struct keeper *k = d->keeper;
    LIST_REMOVE(d, next);
    k->n_deliveries--;
    if (d->lease != NULL)
        leases_drop(k, d->lease);
    if (d->sock >= 0)
        close(d->sock);
    ipc_peer_free(d->channel);
    free(d);
}

void delivery_drop(struct delivery *d)
{
    forget(d);
}

static void refuse(struct delivery *d, const char *why)
{
    d->keeper->refused++;
    role_log("delivery %u loses its channel: %s", d->id, why);
    forget(d);
}

static void on_channel_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct delivery *d = ctx;
    (void)peer;
    if (why == SP_ERR_PEER)
        forget(d);
    else
        refuse(d, sp_err_text(why));
}

static struct delivery *find_delivery(struct keeper *k, uint32_t id)
{
    struct delivery *d = LIST_FIRST(&k->deliveries);
    while (d != NULL && d->id != id)
        d = LIST_NEXT(d, next);
    return d;
}

/* --- what a delivery asks --- */

/* Answers in locked memory; what cannot be sent at once is little, and bounded by the table. */
static enum sp_err reply(struct delivery *d, uint16_t type, uint32_t id, struct wire_out *out)
{
    enum sp_err err = ipc_peer_send(d->channel, type, id, out, -1);
    lockmem_wipe(out->at, out->len);
    return err;
}

static struct wire_out begin(struct delivery *d, enum sp_err status)
{
    struct keeper_locked *locked = d->keeper->locked;
    struct wire_out out = wire_out(locked->reply, sizeof(locked->reply));
    wire_put_u8(&out, (uint8_t)status);
    return out;
}

/* The secret is out: the next steps may come, and the lease holds nothing any more. */
static void opened(struct delivery *d, struct wire_out *out)
{
    struct keeper *k = d->keeper;
    bool smarthost = k->role->config->relay_mode == RELAY_SMARTHOST;
    wire_put_u8(out, smarthost && k->user_len > 0);
    k->opened++;
    lockmem_wipe(d->lease->wrapped, sizeof(d->lease->wrapped));
    d->lease->len = 0;
    if (k->role->config->dkim_selector.count > 0)
        ipc_permit(d->channel, KD_DKIM);
    if (smarthost)
        ipc_permit(d->channel, KD_AUTH);
}

/* What the digest is made of, but the box. Mail to the outside comes from users alone. */
static enum sp_err get_envelope(struct wire_in *body, struct envelope *e,
                                uint8_t manifest_hash[HASH_SIZE])
{
    size_t user_len, sign_len;
    *e = (struct envelope){.from_user = true};
    e->suite = wire_get_u8(body);
    wire_get_copy(body, e->message_id, ID_SIZE);
    const uint8_t *user = wire_get_b16(body, ID_SIZE, &user_len);
    const uint8_t *sign = wire_get_b16(body, KEY_SIZE, &sign_len);
    wire_get_copy(body, e->ephemeral_pk, KEY_SIZE);
    wire_get_copy(body, e->bcc_commitment, HASH_SIZE);
    wire_get_copy(body, manifest_hash, HASH_SIZE);
    if (body->bad || e->suite != ENVELOPE_SUITE_X25519 || user_len != ID_SIZE ||
        sign_len != KEY_SIZE)
        return SP_ERR_FORMAT;
    memcpy(e->sender_user_id, user, ID_SIZE);
    memcpy(e->sender_sign_pk, sign, KEY_SIZE);
    return SP_OK;
}

/* The digest is made anew from what came: a box of another message, or for another recipient,
 * cannot be opened with this lease. */
static enum sp_err on_open(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct delivery *d = ctx;
    const struct lease *lease = d->lease;
    struct envelope e;
    struct box box;
    uint8_t manifest_hash[HASH_SIZE], *shared_key = d->keeper->locked->reply + 1;
    const uint8_t *secret;
    size_t len;
    (void)peer;
    enum sp_err err = get_envelope(&frame->body, &e, manifest_hash);
    const uint8_t *bytes = wire_get_b32(&frame->body, BOX_MAX, &len);
    if (err != SP_OK || !wire_in_done(&frame->body) || box_decode(bytes, len, &box) != SP_OK)
        return SP_ERR_FORMAT;
    if (box.kind != lease->id.kind || memcmp(e.message_id, lease->id.message_id, ID_SIZE) != 0 ||
        memcmp(box.recipient_id, lease->id.recipient_id, ID_SIZE) != 0)
        return SP_ERR_DENIED;
    err = vault_secret(d->keeper->vault, &lease->id, lease->slot, lease->wrapped, lease->len,
                       &secret);
    if (err == SP_OK)
        err = box_open(&e, manifest_hash, &box, secret, shared_key);
    vault_forget(d->keeper->vault);
    struct wire_out out = begin(d, err);
    if (err == SP_OK) {
        out.len += KEY_SIZE;
        opened(d, &out);
    } else {
        d->keeper->refused++;
    }
    return reply(d, KD_OPEN_REPLY, frame->id, &out);
}

static enum sp_err on_password(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct delivery *d = ctx;
    const struct lease *lease = d->lease;
    const uint8_t *secret;
    (void)peer;
    enum sp_err err = vault_secret(d->keeper->vault, &lease->id, lease->slot, lease->wrapped,
                                   lease->len, &secret);
    struct wire_out out = begin(d, err);
    if (err == SP_OK) {
        wire_put_bytes(&out, secret, KEY_SIZE);
        opened(d, &out);
    } else {
        d->keeper->refused++;
    }
    vault_forget(d->keeper->vault);
    return reply(d, KD_PASSWORD_REPLY, frame->id, &out);
}

/* The hash cannot be checked here: what a delivery signs is its own mail, as the store gave it, or
 * it was taken over. Once a key. */
static enum sp_err on_dkim(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct delivery *d = ctx;
    const struct keeper *k = d->keeper;
    uint8_t hash[HASH_SIZE], signature[DKIMKEY_SIGNATURE];
    size_t len = 0;
    (void)peer;
    uint8_t i = wire_get_u8(&frame->body);
    const uint8_t *hashes = wire_get_bytes(&frame->body, HASHES);
    if (hashes == NULL || i >= k->role->config->dkim_selector.count)
        return SP_ERR_FORMAT;
    if (d->signed_with >> i & 1)
        return SP_ERR_DENIED;
    d->signed_with |= 1u << i;
    const struct dkimkey *key = k->dkim[i];
    enum sp_err err = key != NULL ? SP_OK : SP_ERR_NO_KEY;
    if (err == SP_OK) {
        bool rsa = dkimkey_algorithm(key) == DKIMKEY_RSA_SHA256;
        memcpy(hash, rsa ? hashes : hashes + HASH_SIZE, HASH_SIZE);
        err = dkimkey_sign(key, hash, signature, &len);
    }
    struct wire_out out = begin(d, err);
    if (err == SP_OK) {
        wire_put_u8(&out, (uint8_t)dkimkey_algorithm(key));
        wire_put_b16(&out, signature, len);
    }
    return reply(d, KD_DKIM_REPLY, frame->id, &out);
}

static enum sp_err on_auth(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct delivery *d = ctx;
    const struct keeper *k = d->keeper;
    (void)peer;
    struct wire_out out = begin(d, k->user_len > 0 ? SP_OK : SP_ERR_NOT_FOUND);
    if (k->user_len > 0) {
        wire_put_b16(&out, k->locked->user, k->user_len);
        wire_put_b16(&out, k->locked->password, k->password_len);
    }
    return reply(d, KD_AUTH_REPLY, frame->id, &out);
}

static const struct ipc_rule delivery_rule[] = {
    {KD_OPEN, false, true, OPEN_MIN, OPEN_MAX, on_open},
    {KD_PASSWORD, false, true, 0, 0, on_password},
    {KD_DKIM, false, false, 1 + HASHES, 1 + HASHES, on_dkim},
    {KD_AUTH, false, true, 0, 0, on_auth},
};
static const struct ipc_rules delivery_rules = {delivery_rule, 4, 0, on_channel_gone};

/* --- binding a channel to its lease --- */

static uint64_t first_step(uint8_t kind)
{
    return kind == BOX_RELAY ? MAY_OPEN : kind == BOX_PASSWORD ? MAY_PASSWORD : 0;
}

/* False: it is refused, and gone. */
static bool bind_lease(struct delivery *d, struct lease *lease)
{
    if (lease->holder != NULL) {
        refuse(d, "its lease has another holder");
        return false;
    }
    int sock = d->sock;
    d->sock = -1;
    d->channel = ipc_peer_new(d->keeper->role->base, sock, &delivery_rules, d);
    if (d->channel == NULL) {
        refuse(d, "out of memory");
        return false;
    }
    d->lease = lease;
    lease->holder = d;
    ipc_permit_only(d->channel, first_step(lease->id.kind));
    return true;
}

/* The store announces a lease before relay hears of it, but the two come to us on sockets of their
 * own: what the store has said by now is read before a lease is taken for unknown. */
static bool store_has_more(const struct keeper *k)
{
    struct pollfd p = {.events = POLLIN};
    if (k->store == NULL)
        return false;
    p.fd = ipc_peer_socket(k->store);
    return poll(&p, 1, 0) > 0 && (p.revents & POLLIN) != 0;
}

void deliveries_settle(struct keeper *k)
{
    struct delivery *d, *next;
    bool wait = store_has_more(k);
    for (d = LIST_FIRST(&k->deliveries); d != NULL; d = next) {
        next = LIST_NEXT(d, next);
        if (d->lease != NULL)
            continue;
        struct lease *lease = leases_find(k, d->lease_no);
        if (lease != NULL)
            bind_lease(d, lease);
        else if (!wait)
            refuse(d, "its lease was not announced");
    }
}

static enum sp_err on_delivery(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct keeper *k = ctx;
    (void)peer;
    uint32_t id = wire_get_u32(&frame->body);
    uint64_t lease = wire_get_u64(&frame->body);
    if (!wire_in_done(&frame->body) || find_delivery(k, id) != NULL)
        return SP_ERR_FORMAT;
    /* The ends of as many may not have been read yet. */
    struct delivery *d = k->n_deliveries < 2 * k->max_leases ? calloc(1, sizeof(*d)) : NULL;
    if (d == NULL) {
        k->refused++;
        role_log("delivery %u gets no channel: there are too many", id);
        return SP_OK; /* the descriptor is closed, it gets nothing */
    }
    d->keeper = k;
    d->id = id;
    d->lease_no = lease;
    d->sock = frame->fd;
    frame->fd = -1;
    LIST_INSERT_HEAD(&k->deliveries, d, next);
    k->n_deliveries++;
    return SP_OK; /* the rest when the turn is over */
}

static const struct ipc_rule relay_rule[] = {
    {RP_DELIVERY, true, false, 12, 12, on_delivery},
};

/* Nothing would be sent any more: a fresh tree is better. */
static void on_relay_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct keeper *k = ctx;
    if (why != SP_ERR_PEER) {
        role_log("relay's edge ends, and the keeper: %s", sp_err_text(why));
        store_edge_flush(k);
        _exit(1);
    }
    ipc_peer_free(peer);
    k->relay = NULL;
}

static const struct ipc_rules relay_rules = {relay_rule, 1, UINT64_MAX, on_relay_gone};

enum sp_err deliveries_open(struct keeper *k)
{
    k->relay = ipc_peer_new(k->role->base, ROLE_FD(ROLE_RELAY), &relay_rules, k);
    return k->relay != NULL ? SP_OK : SP_ERR_MEMORY;
}
