/* Enrolment and key histories over web's edge. A stranger who knows a code becomes its user; from
 * then on the user's devices alone extend the history, and nothing enters it that does not verify.
 */
#include "storage/edges.h"
#include "daemon/messages.h"

#include <sodium.h>
#include <string.h>

#define CODE_TEXT       128u
#define LINK_SIGNATURES 2u /* the link's own, and a new device's proof */

/* --- shared --- */

/* What the store keeps beside the wires. */
static void user_from_chain(struct store_user *user, const struct sigchain *chain)
{
    user->chain_seq = chain->seq;
    user->generation = chain->puk_generation;
    user->devices = 0;
    for (uint32_t i = 0; i < chain->n_devices; i++)
        user->devices += !chain->device[i].revoked;
    memcpy(user->user_id, chain->user_id, ID_SIZE);
    memcpy(user->puk_pk, chain->puk_pk, KEY_SIZE);
    memcpy(user->head, chain->head, HASH_SIZE);
}

/* One wire and nothing behind it, on top of chain. SP_ERR_STATE: it does not follow the newest
 * link; SP_ERR_FORMAT: refused, whatever is wrong with it. */
static enum sp_err apply_one(struct sigchain *chain, const uint8_t *wire, size_t len)
{
    size_t one;
    if (sigchain_next(wire, len, &one) != SP_OK || one != len)
        return SP_ERR_FORMAT;
    enum sp_err err = sigchain_apply(chain, wire, len);
    return err == SP_OK || err == SP_ERR_STATE ? err : SP_ERR_FORMAT;
}

/* --- enrolling --- */

struct enrolment {
    const uint8_t *address, *code, *wire;
    size_t address_len, code_len, wire_len;
};

/* Whoever does not have the code hears one and the same, whoever was invited, has enrolled, or is
 * nobody, and has caused nothing: no signature is verified, and nothing is written. A wrong code is
 * not counted: 120 bits are not guessed, and what voids an invitation after so many tries would let
 * a stranger void it. So the code stays known after it was used, to tell its holder. */
static enum sp_err check_code(struct store_role *r, const struct enrolment *e, const char *address,
                              struct store_user *user)
{
    uint8_t hash[HASH_SIZE];
    bool is_code = enrol_code_hash(e->code, e->code_len, hash) == SP_OK;
    bool is_there = store_user_by_address(r->store, address, user) == SP_OK; /* else all zero */
    if (sodium_memcmp(hash, user->code_hash, HASH_SIZE) != 0 || !is_code || !is_there)
        return SP_ERR_AUTH;
    if (user->state != USER_INVITED)
        return SP_ERR_EXISTS;
    return now_ms() > user->code_expiry_ms ? SP_ERR_EXPIRED : SP_OK;
}

/* The root link says whose it is: it must be this address. */
static enum sp_err check_root(const struct enrolment *e, const char *address,
                              struct sigchain *chain)
{
    char named[STORE_MAX_ADDRESS];
    sigchain_init(chain);
    if (apply_one(chain, e->wire, e->wire_len) != SP_OK ||
        store_address(chain->address, strlen(chain->address), false, named) != SP_OK ||
        strcmp(named, address) != 0)
        return SP_ERR_FORMAT;
    return SP_OK;
}

static enum sp_err enrol(struct store_role *r, const struct enrolment *e, struct store_user *user)
{
    struct sigchain chain;
    char address[STORE_MAX_ADDRESS], fingerprint[SIGCHAIN_FINGERPRINT];
    if (store_address(e->address, e->address_len, false, address) != SP_OK)
        return SP_ERR_AUTH;
    enum sp_err err = check_code(r, e, address, user);
    if (err == SP_OK && !may_try(r, user, 1))
        err = SP_ERR_LIMIT;
    if (err == SP_OK)
        err = check_root(e, address, &chain);
    if (err != SP_OK)
        return err;
    user_from_chain(user, &chain);
    err = store_chain_add(r->store, user, e->wire, e->wire_len);
    if (err == SP_OK)
        err = group_flush(r);
    if (err != SP_OK)
        return err;
    sigchain_fingerprint(&chain, fingerprint);
    audit_emit(AUDIT_USER_ENROLLED, user->user_id, user->address, chain.device[0].id, fingerprint);
    return SP_OK;
}

enum sp_err on_enroll(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    struct enrolment e;
    struct store_user user = {0};
    uint8_t buf[1 + ID_SIZE];
    e.address = wire_get_b16(&frame->body, STORE_MAX_ADDRESS, &e.address_len);
    e.code = wire_get_b16(&frame->body, CODE_TEXT, &e.code_len);
    e.wire = wire_get_b32(&frame->body, SIGCHAIN_MAX_WIRE, &e.wire_len);
    if (!wire_in_done(&frame->body))
        return SP_ERR_FORMAT;
    enum sp_err err = enrol(r, &e, &user);
    if (err != SP_OK)
        return answer(peer, SW_ENROLL_REPLY, frame->id, err);
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u8(&out, SP_OK);
    wire_put_bytes(&out, user.user_id, ID_SIZE);
    return ipc_peer_send(peer, SW_ENROLL_REPLY, frame->id, &out, -1);
}

/* --- further links --- */

static void after_link(struct store_role *r, const struct session *s, const struct sigchain *chain,
                       uint32_t generation_before)
{
    char fingerprint[SIGCHAIN_FINGERPRINT];
    uint8_t user_id[ID_SIZE], device_id[ID_SIZE];
    uint64_t user = s->user;
    memcpy(user_id, s->user_id, ID_SIZE);
    memcpy(device_id, s->device_id, ID_SIZE);
    for (uint32_t i = 0; i < chain->n_devices; i++)
        if (chain->device[i].revoked)
            sessions_revoke(r->sessions, user, chain->device[i].id); /* may be s itself */
    if (chain->puk_generation == generation_before)
        return;
    sigchain_fingerprint(chain, fingerprint);
    audit_emit(AUDIT_KEY_ROTATED, user_id, device_id, (uint64_t)chain->puk_generation, fingerprint);
}

static enum sp_err add_link(struct store_role *r, const struct session *s, const uint8_t *wire,
                            size_t len)
{
    struct store_user user;
    const struct sigchain *known;
    struct sigchain chain;
    enum sp_err err = store_user_by_no(r->store, s->user, &user);
    if (err == SP_OK && user.chain_seq >= CHAIN_MAX)
        err = SP_ERR_FORMAT;
    if (err == SP_OK && !may_try(r, &user, LINK_SIGNATURES))
        err = SP_ERR_LIMIT;
    if (err == SP_OK)
        err = chain_load(r, &user, &known);
    if (err != SP_OK)
        return err;
    chain = *known;
    uint32_t before = chain.puk_generation;
    err = apply_one(&chain, wire, len);
    if (err != SP_OK)
        return err;
    user_from_chain(&user, &chain);
    err = store_chain_add(r->store, &user, wire, len);
    if (err == SP_OK)
        err = group_flush(r);
    if (err == SP_OK)
        after_link(r, s, &chain, before);
    return err;
}

enum sp_err on_chain_add(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    size_t len;
    const struct session *s = token_session(r, &frame->body);
    const uint8_t *wire = wire_get_b32(&frame->body, SIGCHAIN_MAX_WIRE, &len);
    if (wire == NULL)
        return SP_ERR_FORMAT;
    enum sp_err err = s != NULL ? add_link(r, s, wire, len) : SP_ERR_DENIED;
    return answer(peer, SW_CHAIN_ADD_REPLY, frame->id, err);
}
