/* The keeper: holds the TLS private key and signs with it what TLS servers sign, for sessions (once
 * each) and for web; and the secrets of mail that waits to be sent (keeper.h). The supervisor is
 * trusted; all others may have been taken over. */
#include "daemon/keeper/keeper.h"
#include "daemon/keeper/signable.h"
#include "daemon/keeper/signer.h"
#include "daemon/tls.h"
#include "sandbox/lockmem.h"

#include "storage/slots.h"

#include <errno.h>
#include <event2/event.h>
#include <openssl/crypto.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define SESSIONS_SLACK 16u /* ended ones whose SP_SESSION_GONE is still under way */
#define CLIENT_MAX     64u
#define SIGN_MIN       (2u + 2u + 4u)
#define SIGN_MAX       512u

struct session {
    LIST_ENTRY(session) next;
    uint32_t id;
    struct ipc_peer *channel;
};

static struct keeper keeper;

/* One SK_SIGN. An error is the end of the peer: it asked for what no honest one asks for. */
static enum sp_err on_sign(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    uint8_t reply[1 + 2 + SIGNER_MAX], sig[SIGNER_MAX];
    struct wire_out out = wire_out(reply, sizeof(reply));
    struct signable_request request;
    size_t len = 0;
    (void)ctx;
    enum sp_err err = SP_ERR_NO_KEY;
    if (keeper.signer != NULL)
        err = signable_decode(&frame->body, signer_key(keeper.signer), &request);
    else
        (void)wire_get_bytes(&frame->body, frame->body.left);
    if (err == SP_ERR_FORMAT || err == SP_ERR_DENIED)
        return err;
    if (err == SP_OK)
        err = signer_sign(keeper.signer, &request, sig, &len);
    wire_put_u8(&out, (uint8_t)err);
    if (err == SP_OK) {
        wire_put_b16(&out, sig, len);
        keeper.signatures++;
    }
    return ipc_peer_send(peer, SK_SIGN_REPLY, frame->id, &out, -1);
}

/* --- sessions --- */

static void forget(struct session *s)
{
    LIST_REMOVE(s, next);
    keeper.n_sessions--;
    ipc_peer_free(s->channel);
    free(s);
}

/* A session has ended, or has done what it may not: its channel goes, nothing else. */
static void on_session_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct session *s = ctx;
    (void)peer;
    if (why != SP_ERR_PEER) {
        keeper.tls_refused++;
        role_log("session %u loses its channel: %s", s->id, sp_err_text(why));
    }
    forget(s);
}

static const struct ipc_rule session_rule[] = {
    {SK_SIGN, false, true, SIGN_MIN, SIGN_MAX, on_sign},
};
static const struct ipc_rules session_rules = {session_rule, 1, UINT64_MAX, on_session_gone};

static struct session *find_session(uint32_t id)
{
    struct session *s = LIST_FIRST(&keeper.sessions);
    while (s != NULL && s->id != id)
        s = LIST_NEXT(s, next);
    return s;
}

static enum sp_err on_session(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    size_t client_len;
    (void)ctx;
    (void)peer;
    uint32_t id = wire_get_u32(&frame->body);
    (void)wire_get_b16(&frame->body, CLIENT_MAX, &client_len);
    if (!wire_in_done(&frame->body) || find_session(id) != NULL)
        return SP_ERR_FORMAT;
    if (keeper.n_sessions >= keeper.role->config->max_sessions + SESSIONS_SLACK) {
        role_log("session %u gets no channel: there are too many", id);
        return SP_OK; /* the descriptor is closed, TLS fails there */
    }
    struct session *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return SP_OK;
    s->id = id;
    s->channel = ipc_peer_new(keeper.role->base, frame->fd, &session_rules, s);
    frame->fd = -1;
    if (s->channel == NULL) {
        free(s);
        return SP_OK;
    }
    LIST_INSERT_HEAD(&keeper.sessions, s, next);
    keeper.n_sessions++;
    return SP_OK;
}

static enum sp_err on_session_dead(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    (void)ctx;
    (void)peer;
    uint32_t id = wire_get_u32(&frame->body);
    struct session *s = wire_in_done(&frame->body) ? find_session(id) : NULL;
    if (s != NULL)
        forget(s);
    return SP_OK;
}

/* --- edges --- */

static const struct ipc_rule smtp_rule[] = {
    {SP_SESSION, true, false, 4 + 2, 4 + 2 + CLIENT_MAX, on_session},
    {SP_SESSION_GONE, false, false, 4, 4, on_session_dead},
};
static const struct ipc_rule web_rule[] = {
    {SK_SIGN, false, false, SIGN_MIN, SIGN_MAX, on_sign},
};

/* A role's edge: without it that role can do no TLS any more and will end, and the tree with it. */
static void on_edge_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    (void)ctx;
    if (why != SP_ERR_PEER) {
        keeper.tls_refused++;
        role_log("%s loses its edge: %s", peer == keeper.web ? "web" : "smtp", sp_err_text(why));
    }
    if (peer == keeper.web)
        keeper.web = NULL;
    else
        keeper.smtp = NULL;
    ipc_peer_free(peer);
}

static const struct ipc_rules smtp_rules = {smtp_rule, 2, UINT64_MAX, on_edge_gone};
static const struct ipc_rules web_rules = {web_rule, 1, UINT64_MAX, on_edge_gone};

/* --- the role --- */

/* Memory is locked, and all of it had, before system calls are filtered. */
static enum sp_err prepare(struct role *role)
{
    enum lockmem_kind got;
    void *at;
    keeper.role = role;
    LIST_INIT(&keeper.sessions);
    LIST_INIT(&keeper.deliveries);
    enum sp_err err = lockmem_init(lockmem_wanted(role->config), &got);
    if (err == SP_OK)
        err = lockmem_alloc(sizeof(*keeper.locked), &at);
    if (err == SP_OK) {
        keeper.locked = at;
        err = lockheap_init(TLS_HEAP_KEEPER, 0);
    }
    if (err == SP_OK)
        err = tls_use_lockheap();
    if (err == SP_OK && OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
        err = SP_ERR_CRYPTO;
    if (err == SP_OK && sodium_init() < 0)
        err = SP_ERR_CRYPTO;
    if (err == SP_OK)
        err = vault_open(KEEPER_FD_KEY, KEEPER_FD_SLOTS, &keeper.vault);
    if (err == SP_OK)
        err = leases_init(&keeper);
    return err;
}

/* All that was read in this turn has been handled. */
static void on_idle(void *ctx)
{
    struct keeper *k = ctx;
    deliveries_settle(k);
    if (store_edge_turn(k) == SP_OK)
        return;
    role_log("the slots file cannot be written: %s", strerror(errno));
    event_base_loopbreak(k->role->base);
}

static enum sp_err run(struct role *role)
{
    keeper.smtp = ipc_peer_new(role->base, ROLE_FD(ROLE_SMTP), &smtp_rules, NULL);
    keeper.web = ipc_peer_new(role->base, ROLE_FD(ROLE_WEB), &web_rules, NULL);
    if (keeper.smtp == NULL || keeper.web == NULL)
        return SP_ERR_MEMORY;
    ipc_on_idle(on_idle, &keeper);
    return store_edge_open(&keeper);
}

/* CT_KEY, at start and on reload. A broken new key leaves the old one in use. The first is the last
 * of what is given at the start: a delivery that came before the password would do without. */
static enum sp_err take_key(struct ipc_frame *frame)
{
    struct signer *signer = NULL;
    size_t len = frame->body.left;
    const uint8_t *pem = wire_get_bytes(&frame->body, len);
    enum sp_err err = signer_load((const char *)pem, len, &signer);
    /* The only copy outside OpenSSL's heap: the buffer that frames are received into. */
    lockmem_wipe((void *)(uintptr_t)pem, len);
    if (err != SP_OK) {
        role_log("the TLS key cannot be used: %s (RSA 2048 to 4096, P-256, P-384 and Ed25519 can, "
                 "without a passphrase)",
                 sp_err_text(err));
        return keeper.signer != NULL ? SP_OK : err;
    }
    bool first = keeper.signer == NULL;
    signer_free(keeper.signer);
    keeper.signer = signer;
    return first ? deliveries_open(&keeper) : SP_OK;
}

static enum sp_err control(struct role *role, struct ipc_frame *frame)
{
    (void)role;
    switch (frame->type) {
    case CT_KEY:
        return take_key(frame);
    case CT_DKIM:
        return relaykeys_take_dkim(&keeper, frame);
    case CT_AUTH:
        return relaykeys_take_auth(&keeper, frame);
    default:
        return SP_ERR_DENIED;
    }
}

static void status(struct role *role, struct wire_out *pairs)
{
    (void)role;
    wire_put_str(pairs, "tls_key");
    wire_put_str(pairs, keeper.signer != NULL ? signer_name(keeper.signer) : "none");
    role_status_number(pairs, "tls_signatures", keeper.signatures);
    role_status_number(pairs, "tls_refused", keeper.tls_refused);
    role_status_number(pairs, "session_channels", keeper.n_sessions);
    role_status_number(pairs, "slots_in_use", slots_in_use(vault_slots(keeper.vault)));
    role_status_number(pairs, "leases", keeper.n_leases);
    role_status_number(pairs, "secrets_received", keeper.received);
    role_status_number(pairs, "secrets_opened", keeper.opened);
    role_status_number(pairs, "secrets_erased", keeper.erased);
    role_status_number(pairs, "secrets_refused", keeper.refused);
    role_status_histogram(pairs, "residency_ms_password", &keeper.password_ms);
    role_status_histogram(pairs, "residency_ms_relay", &keeper.relay_ms);
    role_status_number(pairs, "locked_heap_bytes_most", lockheap_used());
}

const struct role_ops keeper_role = {
    .id = ROLE_KEEPER,
    .name = "keeper",
    .prepare = prepare,
    .run = run,
    .status = status,
    .control = control,
};
