/* Boxes, signatures and the form, made anew whenever a recipient's key has changed. The server gets
 * all of it and can open nothing. */
#include "client/form.h"
#include "client/secret.h"
#include "envelope/link.h"
#include "envelope/order.h"
#include "envelope/wire.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* One message's boxes while they are made. */
struct making {
    struct letter *l; /* its links' digests are set */
    const struct keyring *keys;
    struct envelope e;
    uint8_t manifest_hash[HASH_SIZE];
    char *bcc;
    uint8_t *digests; /* n of them */
    uint32_t n;
    struct wire_out form, list; /* list: the part of the sent copy that names the boxes */
};

static enum sp_err make_envelope(struct making *m)
{
    const struct letter *l = m->l;
    struct envelope *e = &m->e;
    e->suite = ENVELOPE_SUITE_X25519;
    memcpy(e->message_id, l->message_id, ID_SIZE);
    e->from_user = true;
    memcpy(e->sender_user_id, m->keys->user_id, ID_SIZE);
    memcpy(e->sender_sign_pk, keyring_sign_pk(m->keys), KEY_SIZE);
    e->n_pieces = l->n_pieces;
    memcpy(e->piece_length, l->piece_length, sizeof e->piece_length);
    e->manifest = l->manifest;
    e->manifest_len = l->manifest_len;
    enum sp_err err = keys_x25519_public(l->secret->ephemeral_sk, e->ephemeral_pk);
    if (err == SP_OK)
        err = envelope_commit_bcc(l->secret->commitment_key, m->bcc, strlen(m->bcc),
                                  e->bcc_commitment);
    return err == SP_OK ? envelope_manifest_hash(e, m->manifest_hash) : err;
}

static void list_box(struct wire_out *w, const struct box *b, uint32_t addresses)
{
    wire_put_u8(w, b->kind);
    wire_put_b16(w, b->recipient_id, ID_SIZE);
    wire_put_u32(w, b->puk_generation);
    if (b->kind == BOX_PASSWORD) { /* no key, but the context */
        wire_put_u16(w, 0);
        wire_put_u16(w, 8);
        wire_put_u64(w, b->expiry);
    } else {
        wire_put_b16(w, b->recipient_pk, KEY_SIZE);
        wire_put_u16(w, 0);
    }
    wire_put_u16(w, (uint16_t)addresses);
}

/* A box into the form, its digest and its line of the list. secret: what seals it. */
static enum sp_err add_box(struct making *m, struct box *b, const uint8_t *secret,
                           uint32_t addresses)
{
    uint8_t sealed[BOX_MAX_SEALED], bytes[BOX_MAX];
    size_t len = 0;
    enum sp_err err = box_digest(&m->e, m->manifest_hash, b, m->digests + m->n * HASH_SIZE);
    m->n++;
    if (err == SP_OK)
        err = box_seal(&m->e, m->manifest_hash, b, secret, m->l->secret->shared_key,
                       m->keys->sign_sk, NULL, sealed);
    if (err == SP_OK)
        err = box_encode(b, bytes, sizeof bytes, &len);
    wire_put_b32(&m->form, bytes, len);
    list_box(&m->list, b, addresses);
    return err;
}

static enum sp_err add_readers(struct making *m)
{
    enum sp_err err = SP_OK;
    for (uint32_t i = 0; err == SP_OK && i < m->l->n_readers; i++) {
        const struct reader *r = &m->l->reader[i];
        struct box b = {.kind = BOX_USER, .puk_generation = r->generation};
        memcpy(b.recipient_id, r->user_id, ID_SIZE);
        memcpy(b.recipient_pk, r->puk_pk, KEY_SIZE);
        err = add_box(m, &b, m->l->secret->ephemeral_sk, r->n);
        for (uint32_t a = 0; a < r->n; a++)
            wire_put_str(&m->list, m->l->recipient[r->of[a]].address);
    }
    return err;
}

/* What one recipient gets, as the box that was added last has it. */
static struct order order_for(const struct making *m, const char *address)
{
    const char *from = m->l->mail_from;
    struct order o = {.mail_from = {from, strlen(from)}, .address = {address, strlen(address)}};
    memcpy(o.digest, m->digests + (m->n - 1) * HASH_SIZE, HASH_SIZE);
    return o;
}

static enum sp_err add_outsider(struct making *m, const char *address)
{
    uint8_t signature[SIGN_SIZE] = {0};
    struct order o = order_for(m, address);
    memcpy(o.report_pk, m->l->reader[0].puk_pk, KEY_SIZE);
    enum sp_err err = order_sign(m->keys->sign_sk, &o, signature);
    wire_put_str(&m->form, address);
    wire_put_bytes(&m->form, signature, sizeof signature);
    wire_put_str(&m->list, address);
    return err;
}

static enum sp_err add_relay(struct making *m)
{
    const struct letter *l = m->l;
    struct box b = {.kind = BOX_RELAY};
    uint32_t outside = 0;
    for (uint32_t i = 0; i < l->n_recipients; i++)
        outside += l->recipient[i].outside ? 1 : 0;
    memcpy(b.recipient_id, l->relay_id, ID_SIZE);
    memcpy(b.recipient_pk, l->relay_pk, KEY_SIZE);
    enum sp_err err = add_box(m, &b, l->secret->ephemeral_sk, outside);
    wire_put_b16(&m->form, l->relay_secret, sizeof l->relay_secret);
    wire_put_u16(&m->form, (uint16_t)outside);
    for (uint32_t i = 0; err == SP_OK && i < l->n_recipients; i++)
        if (l->recipient[i].outside)
            err = add_outsider(m, l->recipient[i].address);
    return err;
}

/* A box of kind 3 each: whoever has the password opens it, and the appliance stores no more of the
 * password's proof than SHA256(gate) (FORMAT.md section 6). */
static enum sp_err add_link(struct making *m, uint32_t i)
{
    struct letter *l = m->l;
    struct letter_link *link = &l->link[i];
    struct box b = {.kind = BOX_PASSWORD, .expiry = l->expiry};
    uint8_t gate[HASH_SIZE], gate_hash[HASH_SIZE], mac[HASH_SIZE] = {0};
    memcpy(b.recipient_id, link->id, ID_SIZE);
    enum sp_err err = add_box(m, &b, l->secret->password[i], 1);
    memcpy(link->digest, m->digests + (m->n - 1) * HASH_SIZE, HASH_SIZE);
    if (err == SP_OK)
        err = link_gate(l->secret->password[i], gate);
    if (err == SP_OK)
        err = keys_sha256(gate, sizeof gate, gate_hash);
    sodium_memzero(gate, sizeof gate);
    struct order o = order_for(m, l->recipient[link->of].address);
    memcpy(o.link_id, link->id, ID_SIZE);
    o.expiry = b.expiry;
    o.subject = (struct order_text){l->subject, strlen(l->subject)};
    if (err == SP_OK)
        err = order_mac(l->secret->password[i], &o, mac);
    wire_put_b16(&m->form, link->secret, sizeof link->secret);
    wire_put_str(&m->form, l->recipient[link->of].address);
    wire_put_bytes(&m->form, gate_hash, sizeof gate_hash);
    wire_put_str(&m->form, l->subject);
    wire_put_bytes(&m->form, mac, sizeof mac);
    wire_put_str(&m->list, l->recipient[link->of].address);
    return err;
}

/* The sender's newest symmetric key, which stands with the first reader's generation. */
static enum sp_err sent_key(const struct keyring *keys, uint32_t generation, uint8_t key[KEY_SIZE])
{
    for (uint32_t i = 0; i < keys->n_seeds; i++) {
        if (keys->seeds[i].generation == generation && !keys->seeds[i].pending)
            return keys_puk(keys->seeds[i].seed, NULL, NULL, key);
    }
    return SP_ERR_NO_KEY;
}

/* The sent copy's plaintext, from the boxes' list. */
static enum sp_err put_sent(struct making *m, struct wire_out *w)
{
    uint8_t signature[SIGN_SIZE];
    enum sp_err err = recipients_sign(m->keys->sign_sk, m->digests, m->n, signature);
    wire_put_bytes(w, "SPST", 4);
    wire_put_u8(w, 1);
    wire_put_b32(w, m->bcc, strlen(m->bcc));
    wire_put_bytes(w, m->l->secret->commitment_key, KEY_SIZE);
    wire_put_u16(w, (uint16_t)m->n);
    wire_put_bytes(w, m->list.at, m->list.len);
    wire_put_bytes(w, signature, sizeof signature);
    return err == SP_OK && !wire_out_ok(w) ? SP_ERR_LIMIT : err;
}

/* Seals it into out: u32 generation and Cake. */
static enum sp_err make_sent(struct making *m, uint8_t **out, size_t *len)
{
    const size_t cap = 4 + 1 + 4 + strlen(m->bcc) + KEY_SIZE + 2 + m->list.len + SIGN_SIZE;
    uint32_t generation = m->l->reader[0].generation;
    uint8_t *key = secret_alloc(KEY_SIZE), *plain = secret_alloc(cap);
    *len = 4 + (size_t)cake_sealed_length(cap);
    *out = malloc(*len);
    struct wire_out w = wire_out(plain, cap), head = wire_out(*out, 4);
    enum sp_err err = key != NULL && plain != NULL && *out != NULL ? SP_OK : SP_ERR_MEMORY;
    if (err == SP_OK)
        err = put_sent(m, &w);
    if (err == SP_OK)
        err = sent_key(m->keys, generation, key);
    if (err == SP_OK) {
        wire_put_u32(&head, generation);
        err = cake_seal(key, NULL, plain, w.len, *out + 4);
    }
    secret_free(key);
    secret_free(plain);
    return err;
}

/* All boxes first, for the list; then the form in its order, with room for its signature. */
static enum sp_err put_form(struct making *m, struct wire_out *w)
{
    const struct letter *l = m->l;
    size_t cap = ENVELOPE_SIZE(l->n_pieces, l->manifest_len), len = 0, sent_len = 0;
    uint8_t *envelope = malloc(cap), *sent = NULL;
    enum sp_err err = envelope != NULL ? SP_OK : SP_ERR_MEMORY;
    if (err == SP_OK)
        err = envelope_encode(&m->e, envelope, cap, &len);
    if (err == SP_OK)
        err = add_readers(m);
    if (err == SP_OK && l->relay)
        err = add_relay(m);
    for (uint32_t i = 0; err == SP_OK && i < l->n_links; i++)
        err = add_link(m, i);
    if (err == SP_OK && (!wire_out_ok(&m->form) || !wire_out_ok(&m->list)))
        err = SP_ERR_LIMIT;
    if (err == SP_OK)
        err = make_sent(m, &sent, &sent_len);
    if (err == SP_OK) {
        wire_put_bytes(w, "SPSB", 4);
        wire_put_u8(w, 1);
        wire_put_b32(w, envelope, len);
        wire_put_b32(w, sent, sent_len);
        wire_put_str(w, l->mail_from);
        wire_put_u16(w, (uint16_t)m->n);
        wire_put_bytes(w, m->form.at, m->form.len);
        wire_put_bytes(w, (const uint8_t[SIGN_SIZE]){0}, SIGN_SIZE);
        err = wire_out_ok(w) ? SP_OK : SP_ERR_LIMIT;
    }
    free(envelope);
    free(sent);
    return err;
}

enum sp_err form_sign(struct letter *l, const struct keyring *keys)
{
    if (!l->has_upload || l->form_len < SIGN_SIZE)
        return SP_ERR_STATE;
    size_t len = l->form_len - SIGN_SIZE;
    return order_sign_form(keys->sign_sk, l->upload, l->form, len, l->form + len);
}

enum sp_err form_make(struct letter *l, const struct keyring *keys)
{
    struct making m = {.l = l, .keys = keys, .bcc = letter_bcc(l)};
    uint8_t *boxes = malloc(LETTER_FORM_MAX), *list = malloc(LETTER_FORM_MAX);
    uint8_t *form = malloc(LETTER_FORM_MAX);
    struct wire_out w = wire_out(form, LETTER_FORM_MAX);
    m.digests = calloc((size_t)l->n_readers + l->n_links + 1, HASH_SIZE);
    m.form = wire_out(boxes, LETTER_FORM_MAX);
    m.list = wire_out(list, LETTER_FORM_MAX);
    enum sp_err err = SP_ERR_MEMORY;
    if (m.bcc != NULL && m.digests != NULL && boxes != NULL && list != NULL && form != NULL)
        err = make_envelope(&m);
    if (err == SP_OK)
        err = put_form(&m, &w);
    if (err == SP_OK) {
        uint8_t *fit = realloc(form, w.len);
        free(l->form);
        l->form = fit != NULL ? fit : form;
        l->form_len = w.len;
        form = NULL;
    }
    free(form);
    free(boxes);
    free(list);
    free(m.digests);
    free(m.bcc);
    return err;
}
