/* Envelope and box, in and out (FORMAT.md 4.3 to 4.5), and the hashes over their fields. What is
 * decoded comes from a sender or a server whom nobody trusts. */
#include "envelope/envelope.h"
#include "envelope/manifest.h"
#include "envelope/wire.h"

#include <sodium.h>
#include <string.h>

#define MAGIC   "SPEV"
#define VERSION 1u

#define MANIFEST_SEALED_MAX                                                                        \
    (CAKE_HEADER + MANIFEST_MAX + CAKE_TAG * (MANIFEST_MAX / CAKE_CHUNK + 1u))

static bool is_cake_length(uint64_t sealed)
{
    uint64_t n = 0;
    return cake_plain_length(sealed, &n) == SP_OK;
}

/* Both codecs keep to it. */
static enum sp_err check(const struct envelope *e)
{
    if (e->suite != ENVELOPE_SUITE_X25519 || e->n_pieces == 0)
        return SP_ERR_FORMAT;
    if (e->n_pieces > ENVELOPE_MAX_PIECES || e->manifest_len > MANIFEST_SEALED_MAX)
        return SP_ERR_LIMIT;
    for (uint32_t i = 0; i < e->n_pieces; i++) {
        if (!is_cake_length(e->piece_length[i]))
            return SP_ERR_FORMAT;
    }
    return is_cake_length(e->manifest_len) ? SP_OK : SP_ERR_FORMAT;
}

enum sp_err envelope_encode(const struct envelope *e, uint8_t *out, size_t cap, size_t *len)
{
    *len = 0;
    enum sp_err err = check(e);
    if (err != SP_OK)
        return err;
    struct wire_out w = wire_out(out, cap);
    wire_put_bytes(&w, MAGIC, 4);
    wire_put_u8(&w, VERSION);
    wire_put_u8(&w, e->suite);
    wire_put_u16(&w, 0); /* flags */
    wire_put_bytes(&w, e->message_id, ID_SIZE);
    wire_put_bytes(&w, e->ephemeral_pk, KEY_SIZE);
    wire_put_b16(&w, e->sender_user_id, e->from_user ? ID_SIZE : 0);
    wire_put_b16(&w, e->sender_sign_pk, e->from_user ? KEY_SIZE : 0);
    wire_put_bytes(&w, e->bcc_commitment, HASH_SIZE);
    wire_put_u32(&w, e->n_pieces);
    for (uint32_t i = 0; i < e->n_pieces; i++)
        wire_put_u64(&w, e->piece_length[i]);
    wire_put_b32(&w, e->manifest, e->manifest_len);
    if (!wire_out_ok(&w))
        return SP_ERR_LIMIT;
    *len = w.len;
    return SP_OK;
}

/* A field of exactly n bytes, or none: says whether it was there. */
static bool get_optional(struct wire_in *w, void *out, size_t n)
{
    size_t len = 0;
    const uint8_t *p = wire_get_b16(w, n, &len);
    if (p == NULL || len == 0)
        return false;
    if (len != n) {
        wire_in_fail(w);
        return false;
    }
    memcpy(out, p, n);
    return true;
}

static void get_head(struct wire_in *w, struct envelope *e)
{
    const uint8_t *magic = wire_get_bytes(w, 4);
    uint8_t version = wire_get_u8(w);
    e->suite = wire_get_u8(w);
    uint16_t flags = wire_get_u16(w);
    if (magic == NULL || memcmp(magic, MAGIC, 4) != 0 || version != VERSION || flags != 0)
        wire_in_fail(w);
    wire_get_copy(w, e->message_id, ID_SIZE);
    wire_get_copy(w, e->ephemeral_pk, KEY_SIZE);
    e->from_user = get_optional(w, e->sender_user_id, ID_SIZE);
    if (get_optional(w, e->sender_sign_pk, KEY_SIZE) != e->from_user)
        wire_in_fail(w);
    wire_get_copy(w, e->bcc_commitment, HASH_SIZE);
}

enum sp_err envelope_decode(const uint8_t *bytes, size_t len, struct envelope *e)
{
    enum sp_err err = SP_ERR_FORMAT;
    struct wire_in w = wire_in(bytes, len);
    memset(e, 0, sizeof(*e));
    get_head(&w, e);
    e->n_pieces = wire_get_u32(&w);
    if (e->n_pieces > ENVELOPE_MAX_PIECES)
        goto out;
    for (uint32_t i = 0; i < e->n_pieces; i++)
        e->piece_length[i] = wire_get_u64(&w);
    e->manifest = wire_get_b32(&w, MANIFEST_SEALED_MAX, &e->manifest_len);
    if (wire_in_done(&w))
        err = check(e);
out:
    if (err != SP_OK)
        memset(e, 0, sizeof(*e));
    return err;
}

/* Which fields a box of each kind has (FORMAT.md 4.5). */
static const struct box_form {
    bool generation; /* 1 or more; else 0 */
    bool pk;
    bool expiry;
    size_t overhead; /* bytes of `sealed` beyond the payload */
} forms[] = {
    [BOX_USER] = {true, true, false, BOX_NONCE + crypto_aead_xchacha20poly1305_ietf_ABYTES},
    [BOX_RELAY] = {false, true, false, BOX_NONCE + crypto_aead_xchacha20poly1305_ietf_ABYTES},
    [BOX_PASSWORD] = {false, false, true, CAKE_HEADER + CAKE_TAG},
};

/* NULL: no such kind, or a generation that it does not have. */
static const struct box_form *form_of(const struct box *b)
{
    if (b->kind < BOX_USER || b->kind > BOX_PASSWORD)
        return NULL;
    const struct box_form *form = &forms[b->kind];
    return (b->puk_generation != 0) == form->generation ? form : NULL;
}

static bool sealed_length_ok(const struct box_form *form, size_t len)
{
    return len == form->overhead + KEY_SIZE || len == form->overhead + KEY_SIZE + SIGN_SIZE;
}

/* The fields from recipient_id to context, which the box and its digest have alike. */
static void put_recipient(struct wire_out *w, const struct box *b, const struct box_form *form)
{
    wire_put_b16(w, b->recipient_id, ID_SIZE);
    wire_put_u32(w, b->puk_generation);
    wire_put_b16(w, b->recipient_pk, form->pk ? KEY_SIZE : 0);
    wire_put_u16(w, form->expiry ? 8 : 0);
    if (form->expiry)
        wire_put_u64(w, b->expiry);
}

enum sp_err box_encode(const struct box *b, uint8_t *out, size_t cap, size_t *len)
{
    *len = 0;
    const struct box_form *form = form_of(b);
    if (form == NULL || !sealed_length_ok(form, b->sealed_len))
        return SP_ERR_FORMAT;
    struct wire_out w = wire_out(out, cap);
    wire_put_u8(&w, b->kind);
    put_recipient(&w, b, form);
    wire_put_b16(&w, b->sealed, b->sealed_len);
    if (!wire_out_ok(&w))
        return SP_ERR_LIMIT;
    *len = w.len;
    return SP_OK;
}

static enum sp_err decode_box(struct wire_in *w, struct box *b)
{
    size_t id_len = 0;
    size_t context_len = 0;
    b->kind = wire_get_u8(w);
    const uint8_t *id = wire_get_b16(w, ID_SIZE, &id_len);
    b->puk_generation = wire_get_u32(w);
    bool has_pk = get_optional(w, b->recipient_pk, KEY_SIZE);
    const uint8_t *context = wire_get_b16(w, 8, &context_len);
    b->sealed = wire_get_b16(w, BOX_MAX_SEALED, &b->sealed_len);
    const struct box_form *form = form_of(b);
    if (!wire_in_done(w) || form == NULL || id_len != ID_SIZE || has_pk != form->pk ||
        context_len != (form->expiry ? 8u : 0u) || !sealed_length_ok(form, b->sealed_len))
        return SP_ERR_FORMAT;
    memcpy(b->recipient_id, id, ID_SIZE);
    struct wire_in expiry = wire_in(context, context_len);
    b->expiry = form->expiry ? wire_get_u64(&expiry) : 0;
    return SP_OK;
}

enum sp_err box_decode(const uint8_t *bytes, size_t len, struct box *b)
{
    struct wire_in w = wire_in(bytes, len);
    memset(b, 0, sizeof(*b));
    enum sp_err err = decode_box(&w, b);
    if (err != SP_OK)
        memset(b, 0, sizeof(*b));
    return err;
}

enum sp_err envelope_commit_bcc(const uint8_t commitment_key[KEY_SIZE], const char *bcc_header,
                                size_t len, uint8_t out[HASH_SIZE])
{
    return keys_hmac(commitment_key, bcc_header, len, out);
}

enum sp_err envelope_manifest_hash(const struct envelope *e, uint8_t out[HASH_SIZE])
{
    return keys_sha256(e->manifest, e->manifest_len, out);
}

enum sp_err box_digest(const struct envelope *e, const uint8_t manifest_hash[HASH_SIZE],
                       const struct box *b, uint8_t out[HASH_SIZE])
{
    uint8_t buf[512];
    memset(out, 0, HASH_SIZE);
    const struct box_form *form = form_of(b);
    if (form == NULL)
        return SP_ERR_FORMAT;
    struct wire_out w = wire_out(buf, sizeof(buf));
    wire_put_str(&w, "sealpost/1 recipient-associated digest");
    wire_put_u8(&w, e->suite);
    wire_put_u8(&w, b->kind);
    wire_put_bytes(&w, e->message_id, ID_SIZE);
    wire_put_b16(&w, e->sender_user_id, e->from_user ? ID_SIZE : 0);
    wire_put_b16(&w, e->sender_sign_pk, e->from_user ? KEY_SIZE : 0);
    wire_put_bytes(&w, e->ephemeral_pk, KEY_SIZE);
    put_recipient(&w, b, form);
    wire_put_bytes(&w, manifest_hash, HASH_SIZE);
    wire_put_bytes(&w, e->bcc_commitment, HASH_SIZE);
    return wire_out_ok(&w) ? keys_sha256(buf, w.len, out) : SP_ERR_LIMIT;
}
