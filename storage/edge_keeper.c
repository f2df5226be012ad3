/* The keeper's edge, as its client: secrets are wrapped there and leased to deliveries
 * (edge_erase.c has their end). The keeper is trusted more than this process and opens nothing for
 * it; the order of steps is in edge_send.c. */
#include "storage/edges.h"
#include "daemon/messages.h"
#include "storage/share.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS_PAGE 8192u /* slots in one VT_SLOTS */

/* --- the start --- */

struct page {
    struct store_role *role;
    uint8_t buf[1 + 4 * SLOTS_PAGE];
    struct wire_out out;
    enum sp_err err;
};

static void page_begin(struct page *p)
{
    p->out = wire_out(p->buf, sizeof(p->buf));
    wire_put_u8(&p->out, 1);
}

static enum sp_err page_send(struct page *p, bool more)
{
    p->buf[0] = more;
    enum sp_err err = ipc_peer_send(p->role->keeper, VT_SLOTS, 0, &p->out, -1);
    page_begin(p);
    return err;
}

static enum sp_err add_slot(void *ctx, uint64_t no, const struct store_secret *secret, bool needed)
{
    struct page *p = ctx;
    (void)no;
    (void)needed; /* those that are to be erased are in use until then */
    enum sp_err err = p->out.len == p->out.cap ? page_send(p, true) : SP_OK;
    wire_put_u32(&p->out, secret->slot);
    return err;
}

enum sp_err keeper_begin(struct store_role *r)
{
    static struct page page;
    page.role = r;
    page_begin(&page);
    enum sp_err err = store_secrets_each(r->store, add_slot, &page);
    return err == SP_OK ? page_send(&page, false) : err;
}

static enum sp_err on_slots(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    (void)peer;
    enum sp_err status = wire_get_u8(&frame->body);
    if (status != SP_OK)
        return SP_ERR_STATE;
    wire_get_copy(&frame->body, r->keeper_pk, KEY_SIZE);
    if (frame->body.bad)
        return SP_ERR_FORMAT;
    r->keeper_ready = true;
    secrets_finish(r);
    relay_dispatch(r);
    return SP_OK;
}

/* --- wrapping --- */

/* One request of a sending: a secret that a client has sealed, or a link's box. */
static enum sp_err ask_wrap(struct store_role *r, const struct sending *s, size_t i)
{
    uint8_t buf[2 * ID_SIZE + 1 + 2 + BOX_MAX];
    struct wire_out out = wire_out(buf, sizeof(buf));
    const struct store_secret *secret = &s->secret[i];
    const struct form *f = s->form;
    const struct form_link *l = secret->n > 0 ? &f->link[(secret->n - 1) / 2] : NULL;
    wire_put_bytes(&out, secret->message_id, ID_SIZE);
    if (secret->kind != 0)
        wire_put_u8(&out, secret->kind);
    wire_put_bytes(&out, secret->recipient_id, ID_SIZE);
    if (secret->kind == 0)
        wire_put_b16(&out, l->bytes, l->len);
    else
        wire_put_b16(&out, l != NULL ? l->secret : f->relay_secret, KEYS_SECRET_BOX);
    return ipc_peer_send(r->keeper, secret->kind == 0 ? VT_WRAP : VT_SECRET, s->id + (uint32_t)i,
                         &out, -1);
}

/* Nobody keeps the keeper to himself. */
static bool may_wrap(const struct store_role *r, const struct sending *s)
{
    const struct sending *other;
    size_t sendings = 0, secrets = 0;
    LIST_FOREACH(other, &r->sendings, next)
    {
        sendings += other->user == s->user;
        secrets += other->user == s->user ? other->n_secrets : 0;
    }
    return share_allows(sendings, 1, r->n_sendings, SENDINGS_MAX) &&
           share_allows(secrets, s->n_secrets, r->n_wrapping, WRAPPING_MAX);
}

enum sp_err keeper_wrap(struct store_role *r, struct sending *s)
{
    if (r->keeper == NULL || !may_wrap(r, s))
        return SP_ERR_NO_SPACE; /* soon */
    s->id = r->keeper_id + 1;
    r->keeper_id += (uint32_t)s->n_secrets;
    for (size_t i = 0; i < s->n_secrets; i++) {
        enum sp_err err = ask_wrap(r, s, i);
        if (err != SP_OK)
            return err; /* the keeper is gone, and the tree with it */
    }
    r->n_wrapping += s->n_secrets;
    LIST_INSERT_HEAD(&r->sendings, s, next);
    r->n_sendings++;
    return SP_OK;
}

/* VT_SECRET_REPLY and VT_WRAP_REPLY. */
static enum sp_err on_wrapped(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    struct sending *s;
    size_t len;
    (void)peer;
    LIST_FOREACH(s, &r->sendings, next)
    if (frame->id - s->id < s->n_secrets)
        break;
    if (s == NULL)
        return SP_ERR_FORMAT;
    struct store_secret *secret = &s->secret[frame->id - s->id];
    bool box = frame->type == VT_WRAP_REPLY;
    enum sp_err status = wire_get_u8(&frame->body);
    if (secret->wrapped_len > 0 || box != (secret->kind == 0))
        return SP_ERR_FORMAT;
    if (status == SP_OK) {
        secret->slot = wire_get_u32(&frame->body);
        const uint8_t *wrapped = wire_get_b16(&frame->body, STORE_WRAPPED_MAX, &len);
        if (!wire_in_done(&frame->body) || len == 0)
            return SP_ERR_FORMAT;
        memcpy(secret->wrapped, wrapped, len);
        secret->wrapped_len = len;
    } else {
        s->failed = status;
    }
    r->n_wrapping--;
    if (++s->n_wrapped < s->n_secrets)
        return SP_OK;
    LIST_REMOVE(s, next);
    r->n_sendings--;
    send_go_on(r, s);
    return SP_OK;
}

/* --- unwrapping --- */

enum sp_err keeper_unwrap(struct store_role *r, struct opening *o,
                          const struct store_secret *secret)
{
    uint8_t buf[2 * ID_SIZE + 4 + 2 + STORE_WRAPPED_MAX];
    struct wire_out out = wire_out(buf, sizeof(buf));
    if (r->keeper == NULL || r->n_openings == OPENINGS_MAX)
        return SP_ERR_NO_SPACE;
    o->id = ++r->keeper_id;
    wire_put_bytes(&out, secret->message_id, ID_SIZE);
    wire_put_bytes(&out, secret->recipient_id, ID_SIZE);
    wire_put_u32(&out, secret->slot);
    wire_put_b16(&out, secret->wrapped, secret->wrapped_len);
    enum sp_err err = ipc_peer_send(r->keeper, VT_UNWRAP, o->id, &out, -1);
    if (err != SP_OK)
        return err;
    LIST_INSERT_HEAD(&r->openings, o, next);
    r->n_openings++;
    return SP_OK;
}

static enum sp_err on_unwrapped(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    struct opening *o;
    const uint8_t *box = NULL;
    size_t len = 0;
    (void)peer;
    LIST_FOREACH(o, &r->openings, next)
    if (o->id == frame->id)
        break;
    if (o == NULL)
        return SP_ERR_FORMAT;
    enum sp_err status = wire_get_u8(&frame->body);
    if (status == SP_OK)
        box = wire_get_b16(&frame->body, BOX_MAX, &len);
    if (!wire_in_done(&frame->body))
        return SP_ERR_FORMAT;
    LIST_REMOVE(o, next);
    r->n_openings--;
    link_go_on(r, o, status, box, len);
    return SP_OK;
}

/* --- leases --- */

enum sp_err keeper_lease(struct store_role *r, const struct lease *lease)
{
    uint8_t buf[8 + 2 * ID_SIZE + 1 + 4 + 2 + STORE_WRAPPED_MAX];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct store_secret secret = {0};
    bool needed;
    enum sp_err err = r->keeper != NULL ? SP_OK : SP_ERR_PEER;
    if (err == SP_OK && lease->job.closed == CLOSED_NOT)
        err = store_secret_get(r->store, lease->job.no, lease->job.secret, &secret, &needed);
    if (err != SP_OK)
        return err;
    wire_put_u64(&out, lease->id);
    wire_put_bytes(&out, lease->job.message_id, ID_SIZE);
    wire_put_u8(&out, secret.kind);
    wire_put_bytes(&out, secret.recipient_id, ID_SIZE);
    wire_put_u32(&out, secret.slot);
    wire_put_b16(&out, secret.wrapped, secret.wrapped_len);
    return ipc_peer_send(r->keeper, VT_LEASE, 0, &out, -1);
}

void keeper_lease_end(struct store_role *r, uint64_t lease)
{
    uint8_t buf[8];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u64(&out, lease);
    if (r->keeper != NULL)
        ipc_peer_send(r->keeper, VT_LEASE_END, 0, &out, -1);
}

#define WRAPPED (1u + 4u + 2u + STORE_WRAPPED_MAX)
static const struct ipc_rule rules[] = {
    {VT_SLOTS_REPLY, false, true, 1, 1 + KEY_SIZE, on_slots},
    {VT_SECRET_REPLY, false, false, 1, WRAPPED, on_wrapped},
    {VT_WRAP_REPLY, false, false, 1, WRAPPED, on_wrapped},
    {VT_UNWRAP_REPLY, false, false, 1, 1 + 2 + BOX_MAX, on_unwrapped},
    {VT_ERASE_REPLY, false, false, 1, 1, on_secret_erased},
};
const struct ipc_rules keeper_rules = {rules, sizeof(rules) / sizeof(rules[0]), UINT64_MAX,
                                       edge_gone};
