/* Web's edge: proofs and tokens are checked here, so that a web process that was taken over can do
 * no more than those users could who talk to it at that time. */
#include "storage/edges.h"
#include "daemon/messages.h"

#include <sodium.h>
#include <string.h>

#define CHAIN_BYTES    65536u
#define LIST_MAX       500u
#define STATUS_KEPT_MS (30u * UINT64_C(86400000)) /* of mail that its sender deletes */
#define PIECE_MAX      65536u

/* --- who asks --- */

bool may_try(struct store_role *r, const struct store_user *user, uint32_t signatures)
{
    return rations_take(&r->rations, clock_us() / 1000, user->no, signatures);
}

const struct session *token_session(struct store_role *r, struct wire_in *in)
{
    uint8_t token[SESSION_TOKEN];
    wire_get_copy(in, token, sizeof(token));
    return sessions_find(r->sessions, clock_us() / 1000, token);
}

/* --- logging in --- */

static enum sp_err on_challenge(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    uint8_t buf[1 + SESSION_TOKEN], challenge[SESSION_TOKEN];
    struct wire_out out = wire_out(buf, sizeof(buf));
    sessions_challenge(r->sessions, clock_us() / 1000, challenge);
    wire_put_u8(&out, SP_OK);
    wire_put_bytes(&out, challenge, sizeof(challenge));
    return ipc_peer_send(peer, SW_CHALLENGE_REPLY, frame->id, &out, -1);
}

/* Each link was verified before it was written, and the user's record has the hash of the newest,
 * which covers them all: read again, they need no signature. */
static enum sp_err chain_read(struct store_role *r, const struct store_user *user,
                              struct sigchain *chain)
{
    static uint8_t wires[CHAIN_BYTES];
    bool more = true;
    enum sp_err err = SP_OK;
    sigchain_init(chain);
    while (err == SP_OK && more) {
        size_t len;
        err = store_chain_get(r->store, user->no, chain->seq, wires, sizeof(wires), &len, &more);
        if (err == SP_OK)
            err = sigchain_replay(chain, wires, len);
    }
    if (err == SP_OK && memcmp(chain->head, user->head, HASH_SIZE) != 0)
        err = SP_ERR_FORMAT;
    return err;
}

/* Nor need they be read again and again, for logins that somebody makes up. */
enum sp_err chain_load(struct store_role *r, const struct store_user *user,
                       const struct sigchain **chain)
{
    struct sigchain *known = histories_of(&r->histories, user->no);
    enum sp_err err = SP_OK;
    if (memcmp(known->head, user->head, HASH_SIZE) != 0)
        err = chain_read(r, user, known);
    if (err != SP_OK)
        sigchain_init(known);
    *chain = known;
    return err;
}

struct login {
    uint8_t user_id[ID_SIZE], device_id[ID_SIZE];
    uint8_t challenge[SESSION_TOKEN], signature[SIGN_SIZE];
};

/* docs/api.md: the url is in it, so that a login cannot be carried to another server. */
static enum sp_err verify_login(const struct store_role *r, const struct login *l,
                                const struct chain_device *device)
{
    uint8_t text[CONFIG_MAX_TEXT + 256];
    struct wire_out out = wire_out(text, sizeof(text));
    wire_put_str(&out, "sealpost/1 session");
    wire_put_str(&out, r->role->config->web_url != NULL ? r->role->config->web_url : "");
    wire_put_bytes(&out, l->challenge, SESSION_TOKEN);
    wire_put_bytes(&out, l->user_id, ID_SIZE);
    wire_put_bytes(&out, l->device_id, ID_SIZE);
    if (!wire_out_ok(&out))
        return SP_ERR_LIMIT;
    return crypto_sign_verify_detached(l->signature, text, out.len, device->sign_pk) == 0
               ? SP_OK
               : SP_ERR_AUTH;
}

/* Whoever knows a user's id can try: one signature is verified for him, and nothing is counted
 * against the user before it is his own. Every failure looks the same to the caller. */
static enum sp_err login(struct store_role *r, const struct login *l, struct store_user *user)
{
    const struct sigchain *chain;
    if (sessions_redeem(r->sessions, clock_us() / 1000, l->challenge) != SP_OK ||
        store_user_by_id(r->store, l->user_id, user) != SP_OK || user->state != USER_ENROLLED ||
        chain_load(r, user, &chain) != SP_OK)
        return SP_ERR_AUTH;
    const struct chain_device *device = sigchain_device(chain, l->device_id);
    if (device == NULL || device->revoked || verify_login(r, l, device) != SP_OK)
        return SP_ERR_AUTH;
    return may_try(r, user, 1) ? SP_OK : SP_ERR_LIMIT;
}

static enum sp_err on_login(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    struct login l;
    struct store_user user;
    uint8_t buf[1 + SESSION_TOKEN + 4];
    wire_get_copy(&frame->body, l.user_id, ID_SIZE);
    wire_get_copy(&frame->body, l.device_id, ID_SIZE);
    wire_get_copy(&frame->body, l.challenge, SESSION_TOKEN);
    wire_get_copy(&frame->body, l.signature, SIGN_SIZE);
    enum sp_err err = login(r, &l, &user);
    if (err != SP_OK)
        return answer(peer, SW_LOGIN_REPLY, frame->id, err);
    struct session who = {.user = user.no};
    memcpy(who.user_id, l.user_id, ID_SIZE);
    memcpy(who.device_id, l.device_id, ID_SIZE);
    const struct session *s = sessions_open(r->sessions, clock_us() / 1000, &who);
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u8(&out, SP_OK);
    wire_put_bytes(&out, s->token, SESSION_TOKEN);
    wire_put_u32(&out, SESSION_SECONDS);
    err = ipc_peer_send(peer, SW_LOGIN_REPLY, frame->id, &out, -1);
    sodium_memzero(buf, sizeof(buf));
    return err;
}

static enum sp_err on_logout(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    const uint8_t *token = wire_get_bytes(&frame->body, SESSION_TOKEN);
    if (token == NULL)
        return SP_ERR_FORMAT;
    sessions_close(r->sessions, token);
    return answer(peer, SW_LOGOUT_REPLY, frame->id, SP_OK);
}

/* --- reading --- */

static uint8_t reply_buf[IPC_MAX_PAYLOAD];

enum { BY_ADDRESS, BY_USER_ID };

/* Whose chain is asked for; one who has none is not there. */
static enum sp_err find_user(struct store_role *r, uint8_t by, const uint8_t *which, size_t len,
                             struct store_user *user)
{
    char address[STORE_MAX_ADDRESS];
    enum sp_err err = SP_ERR_NOT_FOUND;
    if (by == BY_USER_ID)
        err = len == ID_SIZE ? store_user_by_id(r->store, which, user) : SP_ERR_NOT_FOUND;
    else if (store_address(which, len, false, address) == SP_OK)
        err = store_user_by_address(r->store, address, user);
    return err == SP_OK && user->state == USER_ENROLLED ? SP_OK : SP_ERR_NOT_FOUND;
}

static enum sp_err on_chain_get(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    struct store_user user;
    size_t len, n = 0;
    bool more = false;
    const struct session *s = token_session(r, &frame->body);
    uint8_t by = wire_get_u8(&frame->body);
    const uint8_t *which = wire_get_b16(&frame->body, STORE_MAX_ADDRESS, &len);
    uint32_t after = wire_get_u32(&frame->body);
    if (frame->body.bad || by > BY_USER_ID)
        return SP_ERR_FORMAT;
    enum sp_err err = s != NULL ? find_user(r, by, which, len, &user) : SP_ERR_DENIED;
    struct wire_out out = wire_out(reply_buf, 1 + ID_SIZE + 1);
    if (err == SP_OK)
        err =
            store_chain_get(r->store, user.no, after, reply_buf + out.cap, CHAIN_BYTES, &n, &more);
    if (err != SP_OK)
        return answer(peer, SW_CHAIN_GET_REPLY, frame->id, err);
    wire_put_u8(&out, SP_OK);
    wire_put_bytes(&out, user.user_id, ID_SIZE);
    wire_put_u8(&out, more);
    out.len += n;
    out.cap = out.len;
    return ipc_peer_send(peer, SW_CHAIN_GET_REPLY, frame->id, &out, -1);
}

static enum sp_err on_list(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    static struct store_entry entries[LIST_MAX];
    struct store_role *r = ctx;
    size_t n = 0;
    const struct session *s = token_session(r, &frame->body);
    uint64_t after = wire_get_u64(&frame->body);
    uint16_t limit = wire_get_u16(&frame->body);
    if (limit == 0 || limit > LIST_MAX)
        return SP_ERR_FORMAT;
    enum sp_err err =
        s != NULL ? store_list(r->store, s->user, after, entries, limit, &n) : SP_ERR_DENIED;
    if (err != SP_OK)
        return answer(peer, SW_LIST_REPLY, frame->id, err);
    struct wire_out out = wire_out(reply_buf, sizeof(reply_buf));
    wire_put_u8(&out, SP_OK);
    wire_put_u16(&out, (uint16_t)n);
    for (size_t i = 0; i < n; i++) {
        wire_put_u64(&out, entries[i].seq);
        wire_put_bytes(&out, entries[i].message_id, ID_SIZE);
        wire_put_u64(&out, entries[i].received_ms);
        wire_put_u64(&out, entries[i].bytes);
        wire_put_u16(&out, entries[i].pieces);
        wire_put_u32(&out, entries[i].generation);
        wire_put_u8(&out, entries[i].sent ? 1 : 0);
    }
    return ipc_peer_send(peer, SW_LIST_REPLY, frame->id, &out, -1);
}

/* What of b32(envelope) b32(box) lies in the part from offset on. */
static void put_part(struct wire_out *out, const uint8_t *const bytes[4], const size_t len[4],
                     size_t offset)
{
    size_t room = PART_MAX;
    for (int i = 0; i < 4; i++) {
        size_t skip = offset < len[i] ? offset : len[i];
        size_t n = len[i] - skip < room ? len[i] - skip : room;
        wire_put_bytes(out, bytes[i] + skip, n);
        offset -= skip;
        room -= n;
    }
}

static void put_length(uint8_t out[4], size_t len)
{
    struct wire_out w = wire_out(out, 4);
    wire_put_u32(&w, (uint32_t)len);
}

enum sp_err put_sealed(struct wire_out *out, const uint8_t *envelope, size_t envelope_len,
                       const uint8_t *box, size_t box_len, size_t offset)
{
    uint8_t first[4], second[4];
    size_t total = 4 + envelope_len + 4 + box_len;
    if (offset > total)
        return SP_ERR_LIMIT;
    put_length(first, envelope_len);
    put_length(second, box_len);
    wire_put_u32(out, (uint32_t)total);
    put_part(out, (const uint8_t *const[]){first, envelope, second, box},
             (const size_t[]){4, envelope_len, 4, box_len}, offset);
    return SP_OK;
}

static enum sp_err on_message(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    const uint8_t *envelope, *box;
    size_t envelope_len, box_len;
    const struct session *s = token_session(r, &frame->body);
    const uint8_t *id = wire_get_bytes(&frame->body, ID_SIZE);
    uint32_t offset = wire_get_u32(&frame->body);
    if (frame->body.bad)
        return SP_ERR_FORMAT;
    enum sp_err err =
        s != NULL ? store_fetch(r->store, s->user, id, &envelope, &envelope_len, &box, &box_len)
                  : SP_ERR_DENIED;
    struct wire_out out = wire_out(reply_buf, sizeof(reply_buf));
    wire_put_u8(&out, SP_OK);
    if (err == SP_OK)
        err = put_sealed(&out, envelope, envelope_len, box, box_len, offset);
    if (err != SP_OK)
        return answer(peer, SW_MESSAGE_REPLY, frame->id, err);
    if (offset == 0)
        audit_emit(AUDIT_FETCHED, id, s->user_id);
    return ipc_peer_send(peer, SW_MESSAGE_REPLY, frame->id, &out, -1);
}

static enum sp_err on_piece(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    static uint8_t bytes[PIECE_MAX];
    struct store_role *r = ctx;
    size_t got = 0;
    uint64_t total = 0;
    const struct session *s = token_session(r, &frame->body);
    const uint8_t *id = wire_get_bytes(&frame->body, ID_SIZE);
    uint16_t piece = wire_get_u16(&frame->body);
    uint64_t offset = wire_get_u64(&frame->body);
    uint32_t n = wire_get_u32(&frame->body);
    if (id == NULL || n == 0 || n > PIECE_MAX)
        return SP_ERR_FORMAT;
    enum sp_err err = s != NULL
                          ? store_read(r->store, s->user, id, piece, offset, bytes, n, &got, &total)
                          : SP_ERR_DENIED;
    if (err != SP_OK)
        return answer(peer, SW_PIECE_REPLY, frame->id, err);
    struct wire_out out = wire_out(reply_buf, sizeof(reply_buf));
    wire_put_u8(&out, SP_OK);
    wire_put_u64(&out, total);
    wire_put_b32(&out, bytes, got);
    return ipc_peer_send(peer, SW_PIECE_REPLY, frame->id, &out, -1);
}

/* --- deleting --- */

/* Who deletes what he sent takes its links back as well: their ends are durable before his copy
 * goes, so that a crash between leaves a mail without links, never a link without its mail. */
static enum sp_err end_links(struct store_role *r, const struct session *s,
                             const uint8_t message_id[ID_SIZE])
{
    struct store_sent sent;
    size_t n;
    enum sp_err err = store_sent(r->store, s->user, message_id, &sent);
    if (err != SP_OK)
        return err == SP_ERR_NOT_FOUND ? SP_OK : err; /* somebody sent it to him */
    return links_revoke(r, s->user, sent.no, NULL, "deleted", &n);
}

static enum sp_err on_delete(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    struct reply reply = {.peer = peer, .type = SW_DELETE_REPLY, .id = frame->id, .deleted = true};
    const struct session *s = token_session(r, &frame->body);
    wire_get_copy(&frame->body, reply.message_id, ID_SIZE);
    if (frame->body.bad)
        return SP_ERR_FORMAT;
    enum sp_err err = s != NULL ? end_links(r, s, reply.message_id) : SP_ERR_DENIED;
    if (err == SP_OK)
        err = store_delete(r->store, s->user, reply.message_id, now_ms() + STATUS_KEPT_MS);
    if (err != SP_OK)
        return answer(peer, SW_DELETE_REPLY, frame->id, err);
    memcpy(reply.user_id, s->user_id, ID_SIZE);
    sweep_soon(r);
    return group_answer(r, &reply);
}

#define TOKEN SESSION_TOKEN
static const struct ipc_rule rules[] = {
    {SW_CHALLENGE, false, false, 0, 0, on_challenge},
    {SW_LOGIN, false, false, 128, 128, on_login},
    {SW_ENROLL, false, false, 8, 1024 + SIGCHAIN_MAX_WIRE, on_enroll},
    {SW_CHAIN_GET, false, false, TOKEN + 7, TOKEN + 7 + STORE_MAX_ADDRESS, on_chain_get},
    {SW_CHAIN_ADD, false, false, TOKEN + 4, TOKEN + 4 + SIGCHAIN_MAX_WIRE, on_chain_add},
    {SW_LIST, false, false, TOKEN + 10, TOKEN + 10, on_list},
    {SW_MESSAGE, false, false, TOKEN + 20, TOKEN + 20, on_message},
    {SW_PIECE, false, false, TOKEN + 30, TOKEN + 30, on_piece},
    {SW_DELETE, false, false, TOKEN + 16, TOKEN + 16, on_delete},
    {SW_LOGOUT, false, false, TOKEN, TOKEN, on_logout},
    {SW_KEEPER_KEY, false, false, 0, 0, on_keeper_key},
    {SW_RESOLVE, false, false, TOKEN + 2, TOKEN + 2 + STORE_MAX_ADDRESS, on_resolve},
    {SW_UPLOAD, false, false, TOKEN + 10, TOKEN + 2 + 8 * STORE_MAX_PIECES, on_upload},
    {SW_UPLOAD_STATE, false, false, TOKEN + 16, TOKEN + 16, on_upload_state},
    {SW_UPLOAD_PUT, false, false, TOKEN + 27, TOKEN + 26 + PART_MAX, on_upload_put},
    {SW_UPLOAD_DROP, false, false, TOKEN + 16, TOKEN + 16, on_upload_drop},
    {SW_SEND, false, false, TOKEN + 16, TOKEN + 16, on_send},
    {SW_SENT, false, false, TOKEN + 20, TOKEN + 20, on_sent},
    {SW_DELIVERY_STATUS, false, false, TOKEN + 16, TOKEN + 16, on_delivery_status},
    {SW_REVOKE, false, false, TOKEN + 18, TOKEN + 18 + STORE_MAX_ADDRESS, on_revoke},
    {SW_LINK_PAGE, false, false, 20, 20 + LINK_CLIENT + LINK_AGENT, on_link_page},
    {SW_LINK_ENVELOPE, false, false, 54, 54 + LINK_CLIENT, on_link_envelope},
    {SW_LINK_PIECE, false, false, 65, 65 + LINK_CLIENT, on_link_piece},
    {SW_LINK_EXPOSED, false, false, 20, 20 + LINK_CLIENT + LINK_AGENT, on_link_exposed},
};
const struct ipc_rules web_rules = {rules, sizeof(rules) / sizeof(rules[0]), UINT64_MAX, edge_gone};
