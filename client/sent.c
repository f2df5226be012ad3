/* Opening a sent copy (client/form.h). The server kept it: it is worth what its key and the
 * signature in it say. */
#include "client/form.h"
#include "client/secret.h"
#include "envelope/wire.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define SENT_MAX (1024u * 1024u)

static enum sp_err open_copy(const uint8_t *bytes, size_t len, const struct keyring *keys,
                             uint8_t *plain, size_t cap, size_t *plain_len)
{
    struct wire_in in = wire_in(bytes, len);
    uint32_t generation = wire_get_u32(&in);
    enum sp_err err = SP_ERR_NO_KEY;
    uint8_t *key = secret_alloc(KEY_SIZE);
    if (key == NULL)
        return SP_ERR_MEMORY;
    /* A seed that lost its race for a generation may still be there beside the right one. */
    for (uint32_t i = 0; i < keys->n_seeds && err != SP_OK; i++) {
        if (keys->seeds[i].generation != generation)
            continue;
        err = keys_puk(keys->seeds[i].seed, NULL, NULL, key);
        if (err == SP_OK)
            err = cake_open(key, in.at, in.left, plain, cap, plain_len);
    }
    secret_free(key);
    return err;
}

/* The fields that a digest needs: the same rules as a box has (4.5). */
static void get_box(struct wire_in *in, struct box *b)
{
    size_t id, pk, context;
    b->kind = wire_get_u8(in);
    const uint8_t *at = wire_get_b16(in, ID_SIZE, &id);
    if (id == ID_SIZE)
        memcpy(b->recipient_id, at, ID_SIZE);
    b->puk_generation = wire_get_u32(in);
    at = wire_get_b16(in, KEY_SIZE, &pk);
    if (pk == KEY_SIZE)
        memcpy(b->recipient_pk, at, KEY_SIZE);
    at = wire_get_b16(in, 8, &context);
    bool link = b->kind == BOX_PASSWORD;
    if (b->kind < BOX_USER || b->kind > BOX_PASSWORD || id != ID_SIZE ||
        pk != (link ? 0 : KEY_SIZE) || context != (link ? 8u : 0))
        wire_in_fail(in);
    else if (link) {
        struct wire_in expiry = wire_in(at, context);
        b->expiry = wire_get_u64(&expiry);
    }
}

static enum sp_err get_addresses(struct wire_in *in, struct sent_box *b)
{
    b->n = wire_get_u16(in);
    if (in->left / 2 < b->n)
        return SP_ERR_FORMAT;
    b->address = calloc(b->n + 1, sizeof *b->address);
    if (b->address == NULL)
        return SP_ERR_MEMORY;
    for (uint32_t i = 0; i < b->n; i++) {
        size_t len;
        const uint8_t *at = wire_get_b16(in, ADDRLIST_MAX, &len);
        if (at != NULL)
            memcpy(b->address[i], at, len);
    }
    return in->bad ? SP_ERR_FORMAT : SP_OK;
}

static enum sp_err get_boxes(struct wire_in *in, struct sent *out)
{
    uint32_t n = wire_get_u16(in);
    enum sp_err err = SP_OK;
    if (in->left / 8 < n)
        return SP_ERR_FORMAT;
    out->box = calloc(n + 1, sizeof *out->box);
    if (out->box == NULL)
        return SP_ERR_MEMORY;
    for (uint32_t i = 0; i < n && err == SP_OK; i++) {
        get_box(in, &out->box[i].box);
        out->n++;
        err = get_addresses(in, &out->box[i]);
    }
    return err;
}

static enum sp_err check_list(const struct sent *s, const struct envelope *e,
                              const uint8_t signature[SIGN_SIZE])
{
    uint8_t manifest_hash[HASH_SIZE];
    uint8_t *digests = calloc(s->n + 1, HASH_SIZE);
    enum sp_err err = digests != NULL ? envelope_manifest_hash(e, manifest_hash) : SP_ERR_MEMORY;
    for (uint32_t i = 0; i < s->n && err == SP_OK; i++)
        err = box_digest(e, manifest_hash, &s->box[i].box, digests + i * HASH_SIZE);
    if (err == SP_OK)
        err = recipients_verify(e->sender_sign_pk, digests, s->n, signature);
    free(digests);
    return err;
}

static enum sp_err decode(const uint8_t *plain, size_t len, const struct envelope *e,
                          struct sent *out)
{
    struct wire_in in = wire_in(plain, len);
    uint8_t commitment[HASH_SIZE];
    size_t bcc_len;
    const uint8_t *magic = wire_get_bytes(&in, 4);
    uint8_t version = wire_get_u8(&in);
    const uint8_t *bcc = wire_get_b32(&in, len, &bcc_len);
    const uint8_t *key = wire_get_bytes(&in, KEY_SIZE);
    if (magic == NULL || bcc == NULL || key == NULL || memcmp(magic, "SPST", 4) != 0 ||
        version != 1)
        return SP_ERR_FORMAT;
    out->bcc = strndup((const char *)bcc, bcc_len);
    if (out->bcc == NULL)
        return SP_ERR_MEMORY;
    enum sp_err err = get_boxes(&in, out);
    const uint8_t *signature = wire_get_bytes(&in, SIGN_SIZE);
    if (err == SP_OK && !wire_in_done(&in))
        err = SP_ERR_FORMAT;
    if (err == SP_OK)
        err = envelope_commit_bcc(key, (const char *)bcc, bcc_len, commitment);
    if (err == SP_OK && sodium_memcmp(commitment, e->bcc_commitment, HASH_SIZE) != 0)
        err = SP_ERR_AUTH;
    return err == SP_OK ? check_list(out, e, signature) : err;
}

enum sp_err sent_open(const uint8_t *bytes, size_t len, const struct keyring *keys,
                      const struct envelope *e, struct sent *out)
{
    size_t plain_len = 0;
    memset(out, 0, sizeof *out);
    if (len > SENT_MAX || len < 4)
        return SP_ERR_FORMAT;
    uint8_t *plain = secret_alloc(len);
    enum sp_err err = plain != NULL ? SP_OK : SP_ERR_MEMORY;
    if (err == SP_OK)
        err = open_copy(bytes, len, keys, plain, len, &plain_len);
    if (err == SP_OK)
        err = decode(plain, plain_len, e, out);
    secret_free(plain);
    return err;
}

void sent_free(struct sent *s)
{
    for (uint32_t i = 0; i < s->n; i++)
        free(s->box[i].address);
    free(s->box);
    free(s->bcc);
    memset(s, 0, sizeof *s);
}
