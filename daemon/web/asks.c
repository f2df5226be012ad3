/* The edge to the store: questions out, replies in, at most WEB_MAX_ASKS under way. The store is
 * more trusted than this role, yet a reply that does not fit its question ends the edge. */
#include "daemon/web/web.h"

#include <sodium.h>

#define WIPED 4096u /* bytes of a question */

static struct ask *find_ask(struct web *web, uint32_t id)
{
    struct ask *ask = &web->asks[id % WEB_MAX_ASKS];
    return id != 0 && ask->id == id ? ask : NULL;
}

/* The id tells the slot, and its higher bits the turn, so that no late reply meets a new question.
 */
static struct ask *take_ask(struct web *web)
{
    if (web->n_asks == WEB_MAX_ASKS)
        return NULL;
    struct ask *ask;
    do {
        web->last_ask = web->last_ask == UINT32_MAX ? 1 : web->last_ask + 1;
        ask = &web->asks[web->last_ask % WEB_MAX_ASKS];
    } while (ask->id != 0);
    *ask = (struct ask){.id = web->last_ask};
    web->n_asks++;
    return ask;
}

static void free_ask(struct web *web, struct ask *ask)
{
    *ask = (struct ask){0};
    web->n_asks--;
}

/* A stream has gone on while new requests were turned away: it is the first to get what is free. */
static void resume_waiting(struct web *web)
{
    struct exchange *x = TAILQ_FIRST(&web->waiting);
    if (x == NULL || web->n_asks == WEB_MAX_ASKS)
        return;
    TAILQ_REMOVE(&web->waiting, x, next);
    x->waiting = false;
    if (x->route->ask == SW_UPLOAD_PUT)
        put_next(x);
    else
        stream_next(x);
}

static enum sp_err on_reply(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct web *web = ctx;
    struct ask *ask = find_ask(web, frame->id);
    (void)peer;
    if (ask == NULL || ask->reply_type != frame->type)
        return SP_ERR_FORMAT;
    struct exchange *x = ask->exchange;
    if (x != NULL)
        x->ask = NULL;
    free_ask(web, ask);
    resume_waiting(web);
    uint8_t status = wire_get_u8(&frame->body);
    if (status >= SP_ERR_COUNT || (status != SP_OK && frame->body.left > 0))
        return SP_ERR_FORMAT;
    if (x == NULL) { /* its client is gone */
        wire_get_bytes(&frame->body, frame->body.left);
        return SP_OK;
    }
    if (status == SP_OK)
        return x->route->finish(x, &frame->body);
    exchange_fail(x, (enum sp_err)status);
    return SP_OK;
}

static void on_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct web *web = ctx;
    ipc_peer_free(peer);
    web->store = NULL;
    if (!web->stopping)
        role_log("the store's edge ended: %s", sp_err_text(why));
    event_base_loopbreak(web->role->base);
}

#define REPLY(type, min, max)                                                                      \
    {                                                                                              \
        type, false, false, min, max, on_reply                                                     \
    }

static const struct ipc_rule rules[] = {
    REPLY(SW_CHALLENGE_REPLY, 1, 33),
    REPLY(SW_LOGIN_REPLY, 1, 37),
    REPLY(SW_ENROLL_REPLY, 1, 17),
    REPLY(SW_CHAIN_GET_REPLY, 1, IPC_MAX_PAYLOAD),
    REPLY(SW_CHAIN_ADD_REPLY, 1, 1),
    REPLY(SW_LIST_REPLY, 1, 3 + PARSE_LIST_MAX * 47),
    REPLY(SW_MESSAGE_REPLY, 1, 5 + WEB_BLOCK),
    REPLY(SW_PIECE_REPLY, 1, 13 + WEB_BLOCK),
    REPLY(SW_DELETE_REPLY, 1, 1),
    REPLY(SW_LOGOUT_REPLY, 1, 1),
    REPLY(SW_LINK_PAGE_REPLY, 1, 1),
    REPLY(SW_LINK_ENVELOPE_REPLY, 1, 1 + 8 + 2 + PARSE_MAX_ADDRESS + 4 + WEB_BLOCK),
    REPLY(SW_LINK_PIECE_REPLY, 1, 13 + WEB_BLOCK),
    REPLY(SW_LINK_EXPOSED_REPLY, 1, 1),
    REPLY(SW_KEEPER_KEY_REPLY, 1, 33),
    REPLY(SW_RESOLVE_REPLY, 1, 4 + 16 * UINT16_MAX),
    REPLY(SW_UPLOAD_REPLY, 1, 17),
    REPLY(SW_UPLOAD_STATE_REPLY, 1, 11 + 8 * UINT16_MAX),
    REPLY(SW_UPLOAD_PUT_REPLY, 1, 1),
    REPLY(SW_UPLOAD_DROP_REPLY, 1, 1),
    REPLY(SW_SEND_REPLY, 1, 17),
    REPLY(SW_SENT_REPLY, 1, 5 + WEB_BLOCK),
    REPLY(SW_DELIVERY_STATUS_REPLY, 1, IPC_MAX_PAYLOAD),
    REPLY(SW_REVOKE_REPLY, 1, 3),
};
static const struct ipc_rules store_rules = {rules, sizeof(rules) / sizeof(rules[0]), UINT64_MAX,
                                             on_gone};

enum sp_err asks_init(struct web *web)
{
    web->store = ipc_peer_new(web->role->base, ROLE_FD(ROLE_STORE), &store_rules, web);
    return web->store != NULL ? SP_OK : SP_ERR_MEMORY;
}

struct wire_out ask_frame(const struct exchange *x)
{
    static uint8_t buf[ASK_MAX]; /* one question is made at a time */
    struct wire_out frame = wire_out(buf, sizeof(buf));
    if (x->route->needs == NEEDS_TOKEN)
        wire_put_bytes(&frame, x->token, sizeof(x->token));
    return frame;
}

/* Tokens and codes stand at the front. */
void ask_wipe(struct wire_out *frame)
{
    sodium_memzero(frame->at, frame->len < WIPED ? frame->len : WIPED);
    frame->len = 0;
}

enum sp_err ask_send(struct exchange *x, const struct wire_out *frame)
{
    struct web *web = x->web;
    struct ask *ask = take_ask(web);
    if (ask == NULL)
        return SP_ERR_NO_SPACE;
    ask->reply_type = (uint16_t)(x->route->ask | 0x80);
    enum sp_err err = web->store != NULL
                          ? ipc_peer_send(web->store, x->route->ask, ask->id, frame, -1)
                          : SP_ERR_PEER;
    if (err != SP_OK) {
        free_ask(web, ask);
        return err;
    }
    ask->exchange = x;
    x->ask = ask;
    return SP_OK;
}

void ask_or_wait(struct exchange *x, struct wire_out *frame)
{
    enum sp_err err = ask_send(x, frame);
    ask_wipe(frame);
    if (err == SP_ERR_NO_SPACE) {
        TAILQ_INSERT_TAIL(&x->web->waiting, x, next);
        x->waiting = true;
    } else if (err != SP_OK) {
        exchange_fail(x, err);
    }
}
