/* Turns the plaintext of one message into ciphertext, chunk by chunk. The bytes and names come from
 * a session that may have been taken over: it can spoil its own message, and nothing else. */
#include "daemon/sealer/sealing.h"
#include "sandbox/lockmem.h"

#include <openssl/evp.h>
#include <sodium.h>
#include <string.h>

#define MAX_NAMES (8u * 1024u) /* all media types and file names, as the cutter bounds them */

struct open_piece {
    struct cake *cake;
    EVP_MD_CTX *hash; /* over the ciphertext */
    uint16_t index;   /* into pieces */
    bool begun, open;
};

struct sealing {
    uint64_t upload;
    uint8_t message_id[ID_SIZE], shared_key[KEY_SIZE], ephemeral_sk[KEY_SIZE];
    uint8_t manifest_hash[HASH_SIZE];
    struct open_piece stream[2];
    struct envelope envelope;
    struct piece *pieces;
    uint16_t n_pieces, room;
    size_t names_len;
    char names[MAX_NAMES];
};

static EVP_MD *sha256;
/* Work space for one manifest at a time, locked: a manifest holds every key of its message. */
static uint8_t *manifest_plain;

enum sp_err sealing_init(uint8_t *locked)
{
    void *space = locked;
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (sha256 == NULL || sodium_init() < 0)
        return SP_ERR_CRYPTO;
    enum sp_err err = locked != NULL ? SP_OK : lockmem_alloc(SEALING_MAX_ENVELOPE, &space);
    manifest_plain = space;
    return err;
}

static enum sp_err add_piece(struct sealing *s, uint8_t kind, enum stream stream)
{
    if (s->n_pieces == s->room) {
        uint16_t room = s->room == 0 ? 2 : (uint16_t)(s->room * 2);
        struct piece *more = lockheap_realloc(s->pieces, room * sizeof(*more));
        if (more == NULL)
            return SP_ERR_MEMORY;
        s->pieces = more;
        s->room = room;
    }
    struct piece *p = &s->pieces[s->n_pieces];
    *p = (struct piece){.kind = kind};
    randombytes_buf(p->key, sizeof(p->key));
    struct open_piece *o = &s->stream[stream];
    if (o->cake == NULL)
        o->cake = cake_new();
    if (o->hash == NULL)
        o->hash = EVP_MD_CTX_new();
    o->index = s->n_pieces++;
    o->begun = false;
    o->open = true;
    return o->cake != NULL && o->hash != NULL ? SP_OK : SP_ERR_MEMORY;
}

struct sealing *sealing_new(uint64_t upload)
{
    struct sealing *s = lockheap_malloc(sizeof(*s));
    if (s == NULL)
        return NULL;
    memset(s, 0, sizeof(*s));
    s->upload = upload;
    randombytes_buf(s->shared_key, sizeof(s->shared_key));
    randombytes_buf(s->ephemeral_sk, sizeof(s->ephemeral_sk));
    if (add_piece(s, PIECE_BODY, STREAM_BODY) == SP_OK)
        return s;
    sealing_free(s);
    return NULL;
}

void sealing_free(struct sealing *s)
{
    if (s == NULL)
        return;
    for (int i = 0; i < 2; i++) {
        cake_free(s->stream[i].cake);
        EVP_MD_CTX_free(s->stream[i].hash);
    }
    lockheap_free(s->pieces); /* wiped, like all of this heap */
    lockheap_free(s);
}

uint64_t sealing_upload(const struct sealing *s)
{
    return s->upload;
}

uint16_t sealing_piece(const struct sealing *s, enum stream stream)
{
    return s->stream[stream].index;
}

/* Keeps a copy, which the pieces point to until the manifest is made. */
static char *keep_name(struct sealing *s, const char *name, size_t len)
{
    char *at = s->names + s->names_len;
    memcpy(at, name, len);
    s->names_len += len;
    return at;
}

enum sp_err sealing_attach(struct sealing *s, uint64_t splice_at, const char *media_type,
                           size_t media_len, const char *file_name, size_t name_len)
{
    if (s->stream[STREAM_ATTACHMENT].open || s->n_pieces >= MANIFEST_MAX_PIECES)
        return SP_ERR_STATE;
    if (media_len > MANIFEST_MAX_NAME || name_len > MANIFEST_MAX_NAME ||
        media_len + name_len > MAX_NAMES - s->names_len)
        return SP_ERR_LIMIT;
    enum sp_err err = add_piece(s, PIECE_ATTACHMENT, STREAM_ATTACHMENT);
    if (err != SP_OK)
        return err;
    struct piece *p = &s->pieces[s->n_pieces - 1];
    p->splice_at = splice_at;
    p->media_type = keep_name(s, media_type, media_len);
    p->media_len = media_len;
    p->file_name = keep_name(s, file_name, name_len);
    p->name_len = name_len;
    return SP_OK;
}

static enum sp_err begin_piece(struct open_piece *o, struct piece *p, uint8_t *out, size_t *out_len)
{
    enum sp_err err = cake_seal_begin(o->cake, p->key, NULL, out);
    if (err != SP_OK)
        return err;
    o->begun = true;
    *out_len = CAKE_HEADER;
    return EVP_DigestInit_ex2(o->hash, sha256, NULL) == 1 ? SP_OK : SP_ERR_CRYPTO;
}

static enum sp_err seal_chunks(struct open_piece *o, const uint8_t *plain, size_t len, bool last,
                               uint8_t *out, size_t *out_len)
{
    enum sp_err err = SP_OK;
    bool done = false;
    while (err == SP_OK && !done && (last || len > 0)) {
        size_t n = len < CAKE_CHUNK ? len : CAKE_CHUNK;
        done = last && n < CAKE_CHUNK; /* a multiple of a chunk ends in an empty one */
        err = cake_seal_chunk(o->cake, plain, n, done, out + *out_len);
        *out_len += n + CAKE_TAG;
        plain += n;
        len -= n;
    }
    return err;
}

enum sp_err sealing_seal(struct sealing *s, enum stream stream, const uint8_t *plain, size_t len,
                         bool last, uint8_t *out, size_t *out_len)
{
    struct open_piece *o = &s->stream[stream];
    struct piece *p = &s->pieces[o->index];
    enum sp_err err = SP_OK;
    *out_len = 0;
    if (!o->open)
        return SP_ERR_STATE;
    if (len > SEALING_MAX_PLAIN || (!last && len % CAKE_CHUNK != 0))
        return SP_ERR_FORMAT;
    if (!o->begun)
        err = begin_piece(o, p, out, out_len);
    if (err == SP_OK)
        err = seal_chunks(o, plain, len, last, out, out_len);
    if (err == SP_OK && EVP_DigestUpdate(o->hash, out, *out_len) != 1)
        err = SP_ERR_CRYPTO;
    p->length += len;
    if (err == SP_OK && last) {
        o->open = false;
        if (EVP_DigestFinal_ex(o->hash, p->hash, NULL) != 1)
            err = SP_ERR_CRYPTO;
    }
    return err;
}

static const char body_type[] = "message/rfc822";

/* Nothing but this moment needs the key of the BCC commitment: mail from outside has no BCC list.
 */
static enum sp_err commit_to_no_bcc(uint8_t out[HASH_SIZE])
{
    uint8_t key[KEY_SIZE];
    randombytes_buf(key, sizeof(key));
    enum sp_err err = envelope_commit_bcc(key, "", 0, out);
    lockmem_wipe(key, sizeof(key));
    return err;
}

enum sp_err sealing_finish(struct sealing *s, uint64_t time_ms, uint8_t *envelope, size_t *len)
{
    static uint8_t sealed[SEALING_MAX_ENVELOPE];
    struct envelope *e = &s->envelope;
    size_t n = 0;
    *len = 0;
    if (s->stream[STREAM_BODY].open || s->stream[STREAM_ATTACHMENT].open)
        return SP_ERR_STATE;
    s->pieces[0].media_type = body_type;
    s->pieces[0].media_len = sizeof(body_type) - 1;
    struct manifest m = {.flags = MANIFEST_SERVER_ACCESS,
                         .time_ms = time_ms,
                         .n_pieces = s->n_pieces,
                         .pieces = s->pieces};
    enum sp_err err =
        manifest_encode(&m, manifest_plain, SEALING_MAX_ENVELOPE - CAKE_HEADER - 64, &n);
    if (err == SP_OK)
        err = cake_seal(s->shared_key, NULL, manifest_plain, n, sealed);
    lockmem_wipe(manifest_plain, err == SP_OK ? n : SEALING_MAX_ENVELOPE);
    *e = (struct envelope){.suite = ENVELOPE_SUITE_X25519,
                           .n_pieces = s->n_pieces,
                           .manifest = sealed,
                           .manifest_len = cake_sealed_length(n)};
    keys_uuid7(time_ms, s->message_id);
    memcpy(e->message_id, s->message_id, ID_SIZE);
    for (uint16_t i = 0; i < s->n_pieces; i++)
        e->piece_length[i] = cake_sealed_length(s->pieces[i].length);
    if (err == SP_OK)
        err = keys_x25519_public(s->ephemeral_sk, e->ephemeral_pk);
    if (err == SP_OK)
        err = commit_to_no_bcc(e->bcc_commitment);
    if (err == SP_OK)
        err = envelope_manifest_hash(e, s->manifest_hash);
    return err == SP_OK ? envelope_encode(e, envelope, SEALING_MAX_ENVELOPE, len) : err;
}

enum sp_err sealing_box(struct sealing *s, const struct recipient *r, uint8_t *out, size_t *len)
{
    uint8_t sealed[BOX_MAX_SEALED];
    struct box b = {.kind = BOX_USER, .puk_generation = r->generation};
    *len = 0;
    memcpy(b.recipient_id, r->user_id, ID_SIZE);
    memcpy(b.recipient_pk, r->puk_pk, KEY_SIZE);
    enum sp_err err = box_seal(&s->envelope, s->manifest_hash, &b, s->ephemeral_sk, s->shared_key,
                               NULL, NULL, sealed);
    return err == SP_OK ? box_encode(&b, out, BOX_MAX, len) : err;
}

const uint8_t *sealing_message_id(const struct sealing *s)
{
    return s->message_id;
}

uint16_t sealing_pieces(const struct sealing *s)
{
    return s->n_pieces;
}

uint64_t sealing_bytes(const struct sealing *s)
{
    uint64_t total = 0;
    for (uint16_t i = 0; i < s->n_pieces; i++)
        total += s->pieces[i].length;
    return total;
}
