/* A user's public key history (FORMAT.md section 8): verifies it link by link, and makes new links.
 * Wires come from a server that nobody trusts; whoever makes one is the user's own client. */
#include "envelope/sigchain.h"
#include "envelope/wire.h"

#include <sodium.h>
#include <string.h>

#define MAGIC          "SPSC"
#define VERSION        1u
#define LINK_LABEL     "sealpost/1 sigchain link"
#define PROOF_LABEL    "sealpost/1 device proof"
#define ADDRESS_MAX    255u
#define CHAIN_LINK_MAX (SIGCHAIN_MAX_WIRE - 4u - SIGN_SIZE)
#define SIGN_TEXT      (2u + sizeof(LINK_LABEL) - 1u + CHAIN_LINK_MAX)
#define PROOF_TEXT     (2u + sizeof(PROOF_LABEL) - 1u + 2u * ID_SIZE + HASH_SIZE)

/* One link, its fields where they stand. */
struct chain_link {
    const uint8_t *bytes;
    size_t len;
    const uint8_t *signature;
    uint8_t type;
    uint8_t user_id[ID_SIZE];
    uint32_t seq;
    uint8_t prev_hash[HASH_SIZE];
    uint64_t time_ms;
    uint8_t signer[ID_SIZE];
    struct wire_in body;
    bool replayed; /* its signatures were verified before */
};

void sigchain_init(struct sigchain *c)
{
    memset(c, 0, sizeof(*c));
}

enum sp_err sigchain_next(const uint8_t *bytes, size_t len, size_t *wire_len)
{
    struct wire_in w = wire_in(bytes, len);
    size_t n = 0;
    *wire_len = 0;
    const uint8_t *link = wire_get_b32(&w, CHAIN_LINK_MAX, &n);
    if (link == NULL || wire_get_bytes(&w, SIGN_SIZE) == NULL)
        return SP_ERR_FORMAT;
    *wire_len = 4 + n + SIGN_SIZE;
    return SP_OK;
}

const struct chain_device *sigchain_device(const struct sigchain *c, const uint8_t id[ID_SIZE])
{
    for (uint32_t i = 0; i < c->n_devices; i++) {
        if (memcmp(c->device[i].id, id, ID_SIZE) == 0)
            return &c->device[i];
    }
    return NULL;
}

const struct chain_device *sigchain_signer(const struct sigchain *c,
                                           const uint8_t sign_pk[KEY_SIZE])
{
    for (uint32_t i = 0; i < c->n_devices; i++) {
        if (memcmp(c->device[i].sign_pk, sign_pk, KEY_SIZE) == 0)
            return &c->device[i];
    }
    return NULL;
}

void sigchain_fingerprint(const struct sigchain *c, char out[SIGCHAIN_FINGERPRINT])
{
    static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"; /* RFC 4648 section 6 */
    for (size_t i = 0; i < 32; i++) {
        size_t bit = i * 5;
        unsigned pair = (unsigned)c->head[bit / 8] << 8 | c->head[bit / 8 + 1];
        *out++ = base32[pair >> (11 - bit % 8) & 31];
        if (i % 4 == 3)
            *out++ = i == 31 ? 0 : ' ';
    }
}

static enum sp_err parse(const uint8_t *wire, size_t len, struct chain_link *l)
{
    if (len > SIGCHAIN_MAX_WIRE)
        return SP_ERR_LIMIT;
    struct wire_in w = wire_in(wire, len);
    l->bytes = wire_get_b32(&w, CHAIN_LINK_MAX, &l->len);
    l->signature = wire_get_bytes(&w, SIGN_SIZE);
    if (!wire_in_done(&w))
        return SP_ERR_FORMAT;
    w = wire_in(l->bytes, l->len);
    const uint8_t *magic = wire_get_bytes(&w, 4);
    uint8_t version = wire_get_u8(&w);
    if (magic == NULL || memcmp(magic, MAGIC, 4) != 0 || version != VERSION)
        return SP_ERR_FORMAT;
    l->type = wire_get_u8(&w);
    wire_get_copy(&w, l->user_id, ID_SIZE);
    l->seq = wire_get_u32(&w);
    wire_get_copy(&w, l->prev_hash, HASH_SIZE);
    l->time_ms = wire_get_u64(&w);
    wire_get_copy(&w, l->signer, ID_SIZE);
    l->body = w;
    return w.bad ? SP_ERR_FORMAT : SP_OK;
}

/* It stands where the chain ends. */
static enum sp_err check_place(const struct sigchain *c, const struct chain_link *l)
{
    if (c->seq == UINT32_MAX || l->seq != c->seq + 1)
        return SP_ERR_STATE;
    if (memcmp(l->prev_hash, c->head, HASH_SIZE) != 0)
        return SP_ERR_AUTH;
    if (c->seq != 0 && memcmp(l->user_id, c->user_id, ID_SIZE) != 0)
        return SP_ERR_AUTH;
    return SP_OK;
}

static size_t put_signed(const uint8_t *link, size_t len, uint8_t text[SIGN_TEXT])
{
    struct wire_out w = wire_out(text, SIGN_TEXT);
    wire_put_str(&w, LINK_LABEL);
    wire_put_bytes(&w, link, len);
    return w.len;
}

static enum sp_err check_signature(const struct sigchain *c, const struct chain_link *l)
{
    uint8_t text[SIGN_TEXT];
    const struct chain_device *signer = sigchain_device(c, l->signer);
    if (signer == NULL || signer->revoked)
        return SP_ERR_DENIED;
    if (l->replayed)
        return SP_OK;
    size_t len = put_signed(l->bytes, l->len, text);
    return crypto_sign_verify_detached(l->signature, text, len, signer->sign_pk) == 0 ? SP_OK
                                                                                      : SP_ERR_AUTH;
}

/* "u32 puk_generation puk_pk[32]": a generation rises by exactly 1. */
static enum sp_err take_puk(struct sigchain *c, struct wire_in *body)
{
    uint32_t generation = wire_get_u32(body);
    const uint8_t *pk = wire_get_bytes(body, KEY_SIZE);
    if (pk == NULL)
        return SP_ERR_FORMAT;
    if (c->puk_generation == UINT32_MAX || generation != c->puk_generation + 1)
        return SP_ERR_STATE;
    c->puk_generation = generation;
    memcpy(c->puk_pk, pk, KEY_SIZE);
    return SP_OK;
}

/* "device_sign_pk[32] device_box_pk[32]". A key or id that came before would leave in doubt who
 * signed. */
static enum sp_err take_device(struct sigchain *c, const uint8_t *id, struct wire_in *body)
{
    const uint8_t *sign_pk = wire_get_bytes(body, KEY_SIZE);
    const uint8_t *box_pk = wire_get_bytes(body, KEY_SIZE);
    if (id == NULL || box_pk == NULL)
        return SP_ERR_FORMAT;
    if (sigchain_device(c, id) != NULL || sigchain_signer(c, sign_pk) != NULL)
        return SP_ERR_EXISTS;
    if (c->n_devices == SIGCHAIN_MAX_DEVICES)
        return SP_ERR_LIMIT;
    struct chain_device *d = &c->device[c->n_devices++];
    memcpy(d->id, id, ID_SIZE);
    memcpy(d->sign_pk, sign_pk, KEY_SIZE);
    memcpy(d->box_pk, box_pk, KEY_SIZE);
    d->revoked = false;
    return SP_OK;
}

/* It will be shown and compared as a C string. */
static enum sp_err take_address(struct sigchain *c, struct wire_in *body)
{
    size_t len = 0;
    const uint8_t *address = wire_get_b16(body, ADDRESS_MAX, &len);
    if (len == 0)
        return SP_ERR_FORMAT;
    for (size_t i = 0; i < len; i++) {
        if (address[i] <= 0x20 || address[i] == 0x7f)
            return SP_ERR_FORMAT;
    }
    memcpy(c->address, address, len);
    c->address[len] = 0;
    return SP_OK;
}

static size_t put_proof(const struct sigchain *c, const uint8_t device_id[ID_SIZE],
                        uint8_t text[PROOF_TEXT])
{
    struct wire_out w = wire_out(text, PROOF_TEXT);
    wire_put_str(&w, PROOF_LABEL);
    wire_put_bytes(&w, c->user_id, ID_SIZE);
    wire_put_bytes(&w, device_id, ID_SIZE);
    wire_put_bytes(&w, c->head, HASH_SIZE);
    return w.len;
}

/* The root is signed by the device that it brings, so that one is taken first. */
static enum sp_err apply_root(struct sigchain *c, struct chain_link *l)
{
    if (c->seq != 0)
        return SP_ERR_STATE;
    memcpy(c->user_id, l->user_id, ID_SIZE);
    enum sp_err err = take_device(c, l->signer, &l->body);
    if (err == SP_OK)
        err = take_puk(c, &l->body);
    if (err == SP_OK)
        err = take_address(c, &l->body);
    return err == SP_OK ? check_signature(c, l) : err;
}

static enum sp_err apply_add(struct sigchain *c, struct chain_link *l)
{
    uint8_t text[PROOF_TEXT];
    enum sp_err err = check_signature(c, l);
    if (err == SP_OK)
        err = take_device(c, wire_get_bytes(&l->body, ID_SIZE), &l->body);
    if (err != SP_OK)
        return err;
    const uint8_t *proof = wire_get_bytes(&l->body, SIGN_SIZE);
    if (proof == NULL)
        return SP_ERR_FORMAT;
    if (l->replayed)
        return SP_OK;
    const struct chain_device *d = &c->device[c->n_devices - 1];
    size_t len = put_proof(c, d->id, text);
    return crypto_sign_verify_detached(proof, text, len, d->sign_pk) == 0 ? SP_OK : SP_ERR_AUTH;
}

static enum sp_err apply_revoke(struct sigchain *c, struct chain_link *l)
{
    enum sp_err err = check_signature(c, l);
    if (err != SP_OK)
        return err;
    const uint8_t *id = wire_get_bytes(&l->body, ID_SIZE);
    if (id == NULL)
        return SP_ERR_FORMAT;
    const struct chain_device *d = sigchain_device(c, id);
    if (d == NULL || d->revoked)
        return SP_ERR_NOT_FOUND;
    c->device[d - c->device].revoked = true;
    return take_puk(c, &l->body);
}

static enum sp_err apply_rotate(struct sigchain *c, struct chain_link *l)
{
    enum sp_err err = check_signature(c, l);
    return err == SP_OK ? take_puk(c, &l->body) : err;
}

static enum sp_err (*const appliers[])(struct sigchain *, struct chain_link *) = {
    [CHAIN_ROOT] = apply_root,
    [CHAIN_ADD_DEVICE] = apply_add,
    [CHAIN_REVOKE_DEVICE] = apply_revoke,
    [CHAIN_ROTATE] = apply_rotate,
};

/* On an error *c is not good for anything any more. */
static enum sp_err take(struct sigchain *c, struct chain_link *l, const uint8_t *wire, size_t len)
{
    enum sp_err err = parse(wire, len, l);
    if (err == SP_OK && (l->type < CHAIN_ROOT || l->type > CHAIN_ROTATE))
        err = SP_ERR_FORMAT;
    if (err == SP_OK)
        err = check_place(c, l);
    if (err == SP_OK)
        err = appliers[l->type](c, l);
    if (err == SP_OK && !wire_in_done(&l->body))
        err = SP_ERR_FORMAT;
    if (err == SP_OK)
        err = keys_sha256(wire, len, c->head);
    c->seq = l->seq;
    c->time_ms = l->time_ms;
    return err;
}

enum sp_err sigchain_apply(struct sigchain *c, const uint8_t *wire, size_t len)
{
    struct chain_link l = {.replayed = false};
    struct sigchain next = *c; /* replaces *c when all of it holds */
    enum sp_err err = take(&next, &l, wire, len);
    if (err == SP_OK)
        *c = next;
    return err;
}

enum sp_err sigchain_replay(struct sigchain *c, const uint8_t *wires, size_t len)
{
    enum sp_err err = SP_OK;
    for (size_t one; err == SP_OK && len > 0; wires += one, len -= one) {
        struct chain_link l = {.replayed = true};
        err = sigchain_next(wires, len, &one);
        if (err == SP_OK)
            err = take(c, &l, wires, one);
    }
    return err;
}

/* The link's fields before its body. w writes to the place behind the wire's length. */
static struct wire_out begin_link(const struct sigchain *c, const struct chain_signer *by,
                                  enum sigchain_type type, uint8_t *out)
{
    struct wire_out w = wire_out(out + 4, CHAIN_LINK_MAX);
    wire_put_bytes(&w, MAGIC, 4);
    wire_put_u8(&w, VERSION);
    wire_put_u8(&w, (uint8_t)type);
    wire_put_bytes(&w, c->user_id, ID_SIZE);
    wire_put_u32(&w, c->seq + 1);
    wire_put_bytes(&w, c->head, HASH_SIZE);
    wire_put_u64(&w, by->time_ms);
    wire_put_bytes(&w, by->device_id, ID_SIZE);
    return w;
}

/* Puts the length in front, and the signature behind. */
static enum sp_err end_link(const struct wire_out *link, const struct chain_signer *by,
                            uint8_t *out, size_t *len)
{
    uint8_t text[SIGN_TEXT];
    *len = 0;
    if (!wire_out_ok(link))
        return SP_ERR_LIMIT;
    struct wire_out length = wire_out(out, 4);
    wire_put_u32(&length, (uint32_t)link->len);
    size_t n = put_signed(out + 4, link->len, text);
    if (crypto_sign_detached(out + 4 + link->len, NULL, text, n, by->sign_sk) != 0)
        return SP_ERR_CRYPTO;
    *len = 4 + link->len + SIGN_SIZE;
    return SP_OK;
}

enum sp_err sigchain_make_root(const uint8_t user_id[ID_SIZE], const struct chain_signer *by,
                               const struct chain_device *device, const uint8_t puk_pk[KEY_SIZE],
                               const char *address, uint8_t *out, size_t *len)
{
    struct sigchain empty;
    *len = 0;
    if (strlen(address) > ADDRESS_MAX)
        return SP_ERR_LIMIT;
    sigchain_init(&empty);
    memcpy(empty.user_id, user_id, ID_SIZE);
    struct wire_out w = begin_link(&empty, by, CHAIN_ROOT, out);
    wire_put_bytes(&w, device->sign_pk, KEY_SIZE);
    wire_put_bytes(&w, device->box_pk, KEY_SIZE);
    wire_put_u32(&w, 1);
    wire_put_bytes(&w, puk_pk, KEY_SIZE);
    wire_put_str(&w, address);
    return end_link(&w, by, out, len);
}

enum sp_err sigchain_make_add(const struct sigchain *c, const struct chain_signer *by,
                              const struct chain_device *device, const uint8_t proof[SIGN_SIZE],
                              uint8_t *out, size_t *len)
{
    struct wire_out w = begin_link(c, by, CHAIN_ADD_DEVICE, out);
    wire_put_bytes(&w, device->id, ID_SIZE);
    wire_put_bytes(&w, device->sign_pk, KEY_SIZE);
    wire_put_bytes(&w, device->box_pk, KEY_SIZE);
    wire_put_bytes(&w, proof, SIGN_SIZE);
    return end_link(&w, by, out, len);
}

enum sp_err sigchain_make_proof(const struct sigchain *c, const struct chain_device *device,
                                const uint8_t new_sign_sk[64], uint8_t proof[SIGN_SIZE])
{
    uint8_t text[PROOF_TEXT];
    size_t n = put_proof(c, device->id, text);
    return crypto_sign_detached(proof, NULL, text, n, new_sign_sk) == 0 ? SP_OK : SP_ERR_CRYPTO;
}

enum sp_err sigchain_make_revoke(const struct sigchain *c, const struct chain_signer *by,
                                 const uint8_t device_id[ID_SIZE], const uint8_t puk_pk[KEY_SIZE],
                                 uint8_t *out, size_t *len)
{
    struct wire_out w = begin_link(c, by, CHAIN_REVOKE_DEVICE, out);
    wire_put_bytes(&w, device_id, ID_SIZE);
    wire_put_u32(&w, c->puk_generation + 1);
    wire_put_bytes(&w, puk_pk, KEY_SIZE);
    return end_link(&w, by, out, len);
}

enum sp_err sigchain_make_rotate(const struct sigchain *c, const struct chain_signer *by,
                                 const uint8_t puk_pk[KEY_SIZE], uint8_t *out, size_t *len)
{
    struct wire_out w = begin_link(c, by, CHAIN_ROTATE, out);
    wire_put_u32(&w, c->puk_generation + 1);
    wire_put_bytes(&w, puk_pk, KEY_SIZE);
    return end_link(&w, by, out, len);
}
