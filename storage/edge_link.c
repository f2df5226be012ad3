/* Links, as web asks for them on behalf of whoever holds one, or says so. Web may have been taken
 * over: it can ask for what it is asked for, and every request that reaches this process is in the
 * audit log, with what it got. A link is judged by its row and the clock; its box opens with the
 * keeper's slot alone, so that after the slot is gone nothing here can bring it back. */
#include "storage/edges.h"
#include "daemon/messages.h"
#include "envelope/keys.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t reply_buf[IPC_MAX_PAYLOAD];

/* --- requests --- */

#define AGENT_FULL 256u /* characters that are written down of a browser's name for itself */
#define AGENT_CUT  48u

/* The fields that they all begin with. */
struct asked {
    uint8_t id[ID_SIZE], gate[HASH_SIZE];
    char client[LINK_CLIENT], agent[AGENT_FULL + 1];
};

/* What is no plain character becomes \xNN, the backslash too, so that nothing passes for another.
 */
static void get_agent(const struct store_role *r, struct wire_in *in, struct asked *a)
{
    static const size_t room[] = {
        [AGENT_TRUNCATED] = AGENT_CUT, [AGENT_WHOLE] = AGENT_FULL, [AGENT_NONE] = 0};
    size_t len, n = 0, max = room[r->role->config->audit_agent];
    const uint8_t *text = wire_get_b16(in, LINK_AGENT, &len);
    for (size_t i = 0; text != NULL && i < len; i++) {
        bool plain = text[i] >= 0x20 && text[i] < 0x7f && text[i] != '\\';
        size_t takes = plain ? 1 : 4;
        if (n + takes > max)
            break;
        if (plain)
            a->agent[n] = (char)text[i];
        else
            snprintf(a->agent + n, sizeof(a->agent) - n, "\\x%02x", text[i]);
        n += takes;
    }
    a->agent[n] = '\0';
}

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

/* A crash may have come between a user's removal and the end of all his links. */
static bool has_sender(struct store_role *r, const struct store_link *link)
{
    struct store_user sender;
    return store_user_by_no(r->store, link->user, &sender) == SP_OK &&
           sender.state == USER_ENROLLED;
}

/* SP_ERR_NOT_FOUND: unknown, revoked or expired, alike. One whose time is over, but that is there,
 * ends soon: the clock was set forward, or the timer is about to come. */
static enum sp_err find_live(struct store_role *r, const uint8_t id[ID_SIZE],
                             struct store_link *link)
{
    enum sp_err err = store_link_get(r->store, id, link);
    if (err != SP_OK || link->ended != DELIVERY_QUEUED)
        return err == SP_OK ? SP_ERR_NOT_FOUND : err;
    if (link_now(r) < link->expires_ms)
        return has_sender(r, link) ? SP_OK : SP_ERR_NOT_FOUND;
    links_schedule(r);
    return SP_ERR_NOT_FOUND;
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

/* --- writing them down --- */

static uint64_t uptime_ms(void)
{
    return clock_us() / 1000 + 1;
}

void links_tell_left_out(struct store_role *r)
{
    uint64_t n = visits_left_out(&r->visits, uptime_ms());
    if (n > 0)
        audit_emit(AUDIT_LINK_LEFT_OUT, n);
}

/* Requests for ids that are no link's are written down up to a rate: anybody can invent them, and
 * would fill the log. What is asked of a link that is there is always written down. */
static bool may_log(struct store_role *r, const uint8_t id[ID_SIZE])
{
    struct store_link link;
    links_tell_left_out(r);
    return store_link_get(r->store, id, &link) != SP_ERR_NOT_FOUND ||
           visits_may_log(&r->visits, uptime_ms());
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
    get_agent(r, &frame->body, &a);
    enum sp_err err = find_live(r, a.id, &link);
    if (may_log(r, a.id))
        audit_emit(AUDIT_LINK_PAGE, a.id, a.client, a.agent, got(err));
    return answer(peer, SW_LINK_PAGE_REPLY, frame->id, err);
}

enum sp_err on_link_exposed(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    struct store_link link;
    struct asked a;
    if (!get_asked(&frame->body, false, &a))
        return SP_ERR_FORMAT;
    get_agent(r, &frame->body, &a);
    enum sp_err err = find_live(r, a.id, &link);
    if (may_log(r, a.id))
        audit_emit(AUDIT_LINK_EXPOSED, a.id, a.client, a.agent, got(err));
    return answer(peer, SW_LINK_EXPOSED_REPLY, frame->id, err);
}

static enum sp_err refuse(struct store_role *r, struct ipc_peer *peer, uint16_t type, uint32_t id,
                          const struct asked *a, const char *what, enum sp_err err)
{
    if (may_log(r, a->id))
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
    return refuse(r, peer, SW_LINK_ENVELOPE_REPLY, frame->id, &a, "envelope", err);
}

/* The address that the mail was sent from, as long as it is the sender's: the page holds From
 * against it. Else the one by which the appliance knows him. */
static void put_sender(struct store_role *r, const struct store_link *link,
                       const struct store_user *sender, struct wire_out *out)
{
    static struct store_user users[STORE_MAX_TARGETS];
    char from[STORE_MAX_ADDRESS];
    size_t n;
    bool his = store_address(link->from, strlen(link->from), false, from) == SP_OK &&
               own_domain(r, from) &&
               store_resolve(r->store, from, users, STORE_MAX_TARGETS, &n) == SP_OK;
    for (size_t i = 0; his && i <= n; i++) {
        if (i == n)
            his = false;
        else if (users[i].no == link->user)
            break;
    }
    wire_put_str(out, his ? from : sender->address);
}

static enum sp_err put_opened(struct store_role *r, struct opening *o,
                              const struct store_link *link, const uint8_t *box, size_t len,
                              struct wire_out *out)
{
    const uint8_t *envelope;
    size_t envelope_len = 0;
    struct store_user sender;
    enum sp_err err = store_user_by_no(r->store, link->user, &sender);
    wire_put_u8(out, SP_OK);
    wire_put_u64(out, link->expires_ms);
    if (err == SP_OK)
        put_sender(r, link, &sender, out);
    if (err == SP_OK)
        err = store_queued_envelope(r->store, link->no, &envelope, &envelope_len);
    if (err == SP_OK)
        err = put_sealed(out, envelope, envelope_len, box, len, o->offset);
    size_t total = 4 + envelope_len + 4 + len;
    if (err == SP_OK && total - o->offset > PART_MAX)
        o->next_offset = o->offset + PART_MAX;
    return err;
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
    if (o->offset == 0 ||
        !visits_go_on(&r->visits, uptime_ms(), o->link, VISIT_ENVELOPE, o->offset)) {
        audit_emit(AUDIT_LINK_OPENED, o->link, o->client, "envelope", got(err));
        if (err == SP_OK && store_link_visit(r->store, &link, now_ms()) == SP_OK)
            commit_soon(r);
        r->links_opened += err == SP_OK;
    }
    if (err == SP_OK && o->next_offset > 0)
        visits_stop(&r->visits, uptime_ms(), o->link, VISIT_ENVELOPE, o->next_offset);
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
    if (frame->body.bad || n > PART_MAX || first > 1 || (n == 0 && !first))
        return SP_ERR_FORMAT;
    enum sp_err err = find_held(r, &a, &link);
    if (err == SP_OK)
        err = store_queued_read(r->store, link.no, piece, offset, bytes, n, &n_got, &total);
    snprintf(what, sizeof(what), "piece %u", piece);
    if (err != SP_OK)
        return refuse(r, peer, SW_LINK_PIECE_REPLY, frame->id, &a, what, err);
    if (first || !visits_go_on(&r->visits, uptime_ms(), a.id, piece, offset))
        audit_emit(AUDIT_LINK_OPENED, a.id, a.client, what, got(err));
    if (n == 0 || offset + n_got < total)
        visits_stop(&r->visits, uptime_ms(), a.id, piece, n == 0 ? VISIT_ANYWHERE : offset + n_got);
    struct wire_out out = wire_out(reply_buf, sizeof(reply_buf));
    wire_put_u8(&out, SP_OK);
    wire_put_u64(&out, total);
    wire_put_b32(&out, bytes, n_got);
    return ipc_peer_send(peer, SW_LINK_PIECE_REPLY, frame->id, &out, -1);
}
