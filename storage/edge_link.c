/* Links, as web asks for them on behalf of whoever holds one, or says so. Web may have been taken
 * over: it can ask for what it is asked for, and every request that reaches this process is in the
 * audit log, with what it got. A link is judged by its row and the clock; its box opens with the
 * keeper's slot alone, so that after the slot is gone nothing here can bring it back. */
#include "storage/edges.h"
#include "daemon/messages.h"
#include "envelope/keys.h"

#include <event2/event.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define EXPIRE_BUDGET 64u
#define EXPIRE_ROUNDS 64
#define NOTE_EVERY_MS 60000u
#define REVOKES_MAX   512u

static uint8_t reply_buf[IPC_MAX_PAYLOAD];

/* --- time --- */

uint64_t link_now(struct store_role *r)
{
    uint64_t now = now_ms();
    if (r->latest_ms == 0)
        store_clock_get(r->store, &r->latest_ms);
    if (now > r->latest_ms)
        r->latest_ms = now;
    return r->latest_ms;
}

static void note_time(struct store_role *r)
{
    uint64_t now = link_now(r);
    if (now - r->noted_ms >= NOTE_EVERY_MS && store_clock_put(r->store, now) == SP_OK) {
        r->noted_ms = now;
        commit_soon(r);
    }
}

void links_schedule(struct store_role *r)
{
    uint64_t at, now = link_now(r), wait = 60000;
    if (store_link_next(r->store, &at) == SP_OK && at != UINT64_MAX)
        wait = at <= now ? 0 : at - now < wait ? at - now : wait;
    const struct timeval t = {.tv_sec = (time_t)(wait / 1000),
                              .tv_usec = (suseconds_t)(wait % 1000) * 1000};
    event_add(r->minute, &t);
}

/* --- ending --- */

void link_erase(struct store_role *r, const struct store_link *link, const char *why)
{
    uint64_t no = link->no;
    uint16_t n = link->secret;
    secret_check(r, no, n, why);
    secret_check(r, no, (uint16_t)(n + 1), why);
}

void link_ended(struct store_role *r, const uint8_t id[ID_SIZE], const char *why)
{
    struct store_link link;
    if (store_link_get(r->store, id, &link) != SP_OK)
        return;
    if (link.ended == DELIVERY_REVOKED)
        audit_emit(AUDIT_LINK_REVOKED, link.message_id, link.id);
    link_erase(r, &link, why);
}

struct ending {
    size_t n;
    struct store_link link[EXPIRE_BUDGET];
};

static void collect(void *ctx, const struct store_link *link)
{
    struct ending *e = ctx;
    if (e->n < EXPIRE_BUDGET)
        e->link[e->n++] = *link;
}

/* The jobs of what has ended meanwhile leave the schedule by themselves, when they are leased. */
void links_expire(struct store_role *r)
{
    static struct ending e;
    bool more = true;
    for (int i = 0; more && i < EXPIRE_ROUNDS; i++) {
        e.n = 0;
        if (store_expire(r->store, link_now(r), EXPIRE_BUDGET, &more, collect, &e) != SP_OK)
            more = false;
        if (group_flush(r) != SP_OK)
            return;
        for (size_t k = 0; k < e.n; k++) {
            audit_emit(AUDIT_LINK_EXPIRED, e.link[k].message_id, e.link[k].id);
            r->links_expired++;
            link_erase(r, &e.link[k], "expired");
        }
    }
    note_time(r);
}

struct found {
    const struct store_role *role;
    uint64_t user, no;
    const char *address;
    size_t n;
    uint8_t id[REVOKES_MAX][ID_SIZE];
};

static enum sp_err find(void *ctx, const struct store_link *link)
{
    struct found *f = ctx;
    if (link->user == f->user && (f->no == 0 || link->no == f->no) &&
        link->ended == DELIVERY_QUEUED && f->n < REVOKES_MAX)
        memcpy(f->id[f->n++], link->id, ID_SIZE);
    return SP_OK;
}

static bool is_for(struct store_role *r, const struct store_link *link, const char *address)
{
    struct store_recipient recipient;
    char name[STORE_MAX_ADDRESS];
    bool open;
    return address == NULL ||
           (store_recipient_get(r->store, link->no, link->index, &recipient, &open) == SP_OK &&
            store_address(recipient.address.bytes, recipient.address.len, false, name) == SP_OK &&
            strcmp(name, address) == 0);
}

enum sp_err links_revoke(struct store_role *r, uint64_t user, uint64_t no, const char *address,
                         size_t *n)
{
    static struct found f;
    struct store_link link;
    size_t ended = 0;
    f = (struct found){.user = user, .no = no};
    *n = 0;
    enum sp_err err = store_links_each(r->store, find, &f);
    for (size_t i = 0; err == SP_OK && i < f.n; i++) {
        err = store_link_get(r->store, f.id[i], &link);
        if (err != SP_OK || !is_for(r, &link, address))
            continue;
        err = store_link_end(r->store, f.id[i], DELIVERY_REVOKED, link_now(r));
        memcpy(f.id[ended++], f.id[i], ID_SIZE);
    }
    if (err == SP_OK)
        err = group_flush(r);
    for (size_t i = 0; err == SP_OK && i < ended; i++)
        link_ended(r, f.id[i], "revoked");
    *n = err == SP_OK ? ended : 0;
    return err;
}

/* --- requests --- */

/* The fields that they all begin with. */
struct asked {
    uint8_t id[ID_SIZE], gate[HASH_SIZE];
    char client[LINK_CLIENT];
};

static bool get_asked(struct wire_in *in, bool gate, struct asked *a)
{
    size_t len;
    *a = (struct asked){0};
    wire_get_copy(in, a->id, ID_SIZE);
    if (gate)
        wire_get_copy(in, a->gate, HASH_SIZE);
    const uint8_t *client = wire_get_b16(in, LINK_CLIENT - 1, &len);
    if (client == NULL)
        return false;
    for (size_t i = 0; i < len; i++)
        a->client[i] = client[i] > 0x20 && client[i] < 0x7f ? (char)client[i] : '?';
    return true;
}

/* SP_ERR_NOT_FOUND: unknown, revoked or expired, alike. */
static enum sp_err find_live(struct store_role *r, const uint8_t id[ID_SIZE],
                             struct store_link *link)
{
    enum sp_err err = store_link_get(r->store, id, link);
    if (err == SP_OK && (link->ended != DELIVERY_QUEUED || link_now(r) >= link->expires_ms))
        err = SP_ERR_NOT_FOUND;
    return err;
}

/* The gate is forgotten at once. */
static enum sp_err find_held(struct store_role *r, struct asked *a, struct store_link *link)
{
    uint8_t hash[HASH_SIZE];
    enum sp_err err = find_live(r, a->id, link);
    if (err == SP_OK)
        err = keys_sha256(a->gate, HASH_SIZE, hash);
    sodium_memzero(a->gate, HASH_SIZE);
    if (err == SP_OK && sodium_memcmp(hash, link->gate_hash, HASH_SIZE) != 0)
        err = SP_ERR_AUTH;
    return err;
}

static const char *got(enum sp_err err)
{
    return err == SP_OK              ? "ok"
           : err == SP_ERR_NOT_FOUND ? "gone"
           : err == SP_ERR_AUTH      ? "wrong gate"
                                     : "failed";
}

enum sp_err on_link_page(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    struct store_link link;
    struct asked a;
    if (!get_asked(&frame->body, false, &a))
        return SP_ERR_FORMAT;
    enum sp_err err = find_live(r, a.id, &link);
    audit_emit(AUDIT_LINK_PAGE, a.id, a.client, got(err));
    return answer(peer, SW_LINK_PAGE_REPLY, frame->id, err);
}

enum sp_err on_link_exposed(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    struct store_link link;
    struct asked a;
    if (!get_asked(&frame->body, false, &a))
        return SP_ERR_FORMAT;
    enum sp_err err = find_live(r, a.id, &link);
    audit_emit(AUDIT_LINK_EXPOSED, a.id, a.client, got(err));
    return answer(peer, SW_LINK_EXPOSED_REPLY, frame->id, err);
}

static enum sp_err refuse(struct ipc_peer *peer, uint16_t type, uint32_t id, const struct asked *a,
                          const char *what, enum sp_err err)
{
    audit_emit(AUDIT_LINK_OPENED, a->id, a->client, what, got(err));
    return answer(peer, type, id, err);
}

enum sp_err on_link_envelope(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    struct store_link link;
    struct store_secret secret;
    struct asked a;
    bool needed;
    if (!get_asked(&frame->body, true, &a))
        return SP_ERR_FORMAT;
    uint32_t offset = wire_get_u32(&frame->body);
    enum sp_err err = find_held(r, &a, &link);
    if (err == SP_OK)
        err = store_secret_get(r->store, link.no, (uint16_t)(link.secret + 1), &secret, &needed);
    struct opening *o = err == SP_OK ? calloc(1, sizeof(*o)) : NULL;
    if (o != NULL) {
        *o = (struct opening){.peer = peer, .frame = frame->id, .offset = offset};
        memcpy(o->link, a.id, ID_SIZE);
        memcpy(o->client, a.client, LINK_CLIENT);
        err = keeper_unwrap(r, o, &secret);
    } else if (err == SP_OK) {
        err = SP_ERR_MEMORY;
    }
    if (err == SP_OK)
        return SP_OK;
    free(o);
    return refuse(peer, SW_LINK_ENVELOPE_REPLY, frame->id, &a, "envelope", err);
}

static enum sp_err put_opened(struct store_role *r, const struct opening *o,
                              const struct store_link *link, const uint8_t *box, size_t len,
                              struct wire_out *out)
{
    const uint8_t *envelope;
    size_t envelope_len;
    struct store_user sender;
    uint64_t expires = link->expires_ms, no = link->no;
    enum sp_err err = store_user_by_no(r->store, link->user, &sender);
    if (err == SP_OK)
        err = store_queued_envelope(r->store, no, &envelope, &envelope_len);
    wire_put_u8(out, SP_OK);
    wire_put_u64(out, expires);
    wire_put_str(out, err == SP_OK ? sender.address : "");
    return err == SP_OK ? put_sealed(out, envelope, envelope_len, box, len, o->offset) : err;
}

/* Its slot is free, or another's: the record came back with an older database. The box is gone for
 * good, and the rest of the link goes after it. */
static void link_lost(struct store_role *r, const uint8_t id[ID_SIZE])
{
    struct store_link link;
    enum sp_err err = store_link_end(r->store, id, DELIVERY_EXPIRED, link_now(r));
    if (err == SP_OK)
        err = group_flush(r);
    if (err == SP_OK)
        err = store_link_get(r->store, id, &link);
    if (err != SP_OK)
        return;
    audit_emit(AUDIT_LINK_EXPIRED, link.message_id, link.id);
    r->links_expired++;
    link_erase(r, &link, "expired");
}

void link_go_on(struct store_role *r, struct opening *o, enum sp_err status, const uint8_t *box,
                size_t len)
{
    struct store_link link;
    struct wire_out out = wire_out(reply_buf, sizeof(reply_buf));
    /* It may have ended while the keeper worked. */
    enum sp_err err = find_live(r, o->link, &link);
    bool lost = err == SP_OK && (status == SP_ERR_NOT_FOUND || status == SP_ERR_AUTH);
    if (err == SP_OK && box == NULL)
        err = SP_ERR_NOT_FOUND;
    if (err == SP_OK)
        err = put_opened(r, o, &link, box, len, &out);
    if (o->offset == 0) {
        audit_emit(AUDIT_LINK_OPENED, o->link, o->client, "envelope", got(err));
        if (err == SP_OK && store_link_visit(r->store, &link, now_ms()) == SP_OK)
            commit_soon(r);
        r->links_opened += err == SP_OK;
    }
    if (o->peer == r->web && err == SP_OK)
        ipc_peer_send(o->peer, SW_LINK_ENVELOPE_REPLY, o->frame, &out, -1);
    else if (o->peer == r->web)
        answer(o->peer, SW_LINK_ENVELOPE_REPLY, o->frame, err);
    if (lost)
        link_lost(r, o->link);
    free(o);
}

enum sp_err on_link_piece(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    static uint8_t bytes[PART_MAX];
    struct store_role *r = ctx;
    struct store_link link;
    struct asked a;
    size_t n_got = 0;
    uint64_t total = 0;
    char what[16];
    if (!get_asked(&frame->body, true, &a))
        return SP_ERR_FORMAT;
    uint16_t piece = wire_get_u16(&frame->body);
    uint64_t offset = wire_get_u64(&frame->body);
    uint32_t n = wire_get_u32(&frame->body);
    uint8_t first = wire_get_u8(&frame->body);
    if (frame->body.bad || n == 0 || n > PART_MAX || first > 1)
        return SP_ERR_FORMAT;
    enum sp_err err = find_held(r, &a, &link);
    if (err == SP_OK)
        err = store_queued_read(r->store, link.no, piece, offset, bytes, n, &n_got, &total);
    snprintf(what, sizeof(what), "piece %u", piece);
    if (err != SP_OK)
        return refuse(peer, SW_LINK_PIECE_REPLY, frame->id, &a, what, err);
    if (first)
        audit_emit(AUDIT_LINK_OPENED, a.id, a.client, what, got(err));
    struct wire_out out = wire_out(reply_buf, sizeof(reply_buf));
    wire_put_u8(&out, SP_OK);
    wire_put_u64(&out, total);
    wire_put_b32(&out, bytes, n_got);
    return ipc_peer_send(peer, SW_LINK_PIECE_REPLY, frame->id, &out, -1);
}
