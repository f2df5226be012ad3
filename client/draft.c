/* Sealing a message piece by piece. The message is the user's own and secret; the disk is trusted
 * with ciphertext alone. */
#include "client/draft.h"
#include "client/secret.h"
#include "client/state.h"
#include "envelope/cutter.h"

#include <openssl/evp.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* A piece that is open: the body, or the attachment of the moment. */
struct stream {
    struct cake *cake;
    EVP_MD_CTX *hash; /* over the ciphertext */
    int fd;
    struct piece *piece;
    size_t fill; /* plaintext bytes in chunk */
    uint8_t chunk[CAKE_SEALED];
};

/* All of it in locked memory. */
struct draft {
    struct stream body, attachment;
    uint32_t n;
    struct piece pieces[MANIFEST_MAX_PIECES];
    size_t names_len;
    char names[CUTTER_MAX_NAMES];
    struct cutter *cutter;
};

static enum sp_err write_out(struct stream *s, const uint8_t *bytes, size_t len)
{
    if (EVP_DigestUpdate(s->hash, bytes, len) != 1)
        return SP_ERR_CRYPTO;
    return file_write(s->fd, bytes, len);
}

static enum sp_err begin(struct stream *s, struct piece *p, uint8_t kind)
{
    uint8_t header[CAKE_HEADER];
    s->piece = p;
    s->fill = 0;
    p->kind = kind;
    randombytes_buf(p->key, sizeof p->key);
    if (EVP_DigestInit_ex(s->hash, EVP_sha256(), NULL) != 1)
        return SP_ERR_CRYPTO;
    enum sp_err err = cake_seal_begin(s->cake, p->key, NULL, header);
    return err == SP_OK ? write_out(s, header, sizeof header) : err;
}

/* Seals the chunk where it stands. */
static enum sp_err seal(struct stream *s, bool last)
{
    enum sp_err err = cake_seal_chunk(s->cake, s->chunk, s->fill, last, s->chunk);
    if (err == SP_OK)
        err = write_out(s, s->chunk, s->fill + CAKE_TAG);
    s->piece->length += s->fill;
    s->fill = 0;
    return err;
}

static enum sp_err add(struct stream *s, const uint8_t *bytes, size_t len)
{
    enum sp_err err = SP_OK;
    while (err == SP_OK && len > 0) {
        size_t n = len < CAKE_CHUNK - s->fill ? len : CAKE_CHUNK - s->fill;
        memcpy(s->chunk + s->fill, bytes, n);
        s->fill += n;
        bytes += n;
        len -= n;
        if (s->fill == CAKE_CHUNK)
            err = seal(s, false);
    }
    return err;
}

static enum sp_err end(struct stream *s)
{
    enum sp_err err = seal(s, true);
    if (err == SP_OK && EVP_DigestFinal_ex(s->hash, s->piece->hash, NULL) != 1)
        err = SP_ERR_CRYPTO;
    return err;
}

/* The cutter's four ends */

static enum sp_err on_body(void *ctx, const uint8_t *bytes, size_t len)
{
    struct draft *d = ctx;
    return add(&d->body, bytes, len);
}

/* Names are kept until the manifest is made; the cutter bounds them all together. */
static const char *keep_name(struct draft *d, const char *name, size_t len)
{
    char *at = d->names + d->names_len;
    memcpy(at, name, len);
    d->names_len += len;
    return at;
}

static enum sp_err on_attachment(void *ctx, uint64_t splice_at, const char *media_type,
                                 size_t media_len, const char *file_name, size_t name_len)
{
    struct draft *d = ctx;
    if (d->n == MANIFEST_MAX_PIECES || media_len > sizeof d->names - d->names_len ||
        name_len > sizeof d->names - d->names_len - media_len)
        return SP_ERR_LIMIT;
    struct piece *p = &d->pieces[d->n++];
    p->splice_at = splice_at;
    p->media_type = keep_name(d, media_type, media_len);
    p->media_len = media_len;
    p->file_name = keep_name(d, file_name, name_len);
    p->name_len = name_len;
    return begin(&d->attachment, p, PIECE_ATTACHMENT);
}

static enum sp_err on_bytes(void *ctx, const uint8_t *bytes, size_t len)
{
    struct draft *d = ctx;
    return add(&d->attachment, bytes, len);
}

static enum sp_err on_attachment_end(void *ctx)
{
    struct draft *d = ctx;
    return end(&d->attachment);
}

static const struct cutter_sink sink = {.body = on_body,
                                        .attachment = on_attachment,
                                        .bytes = on_bytes,
                                        .attachment_end = on_attachment_end};

static enum sp_err open_stream(struct stream *s, int fd)
{
    s->fd = fd;
    s->cake = cake_new();
    s->hash = EVP_MD_CTX_new();
    return s->cake != NULL && s->hash != NULL ? SP_OK : SP_ERR_MEMORY;
}

struct draft *draft_new(int body_fd, int parts_fd)
{
    static const char body_type[] = "message/rfc822";
    struct draft *d = secret_alloc(sizeof *d);
    if (d == NULL)
        return NULL;
    d->cutter = secret_alloc((cutter_size() + 15u) & ~(size_t)15u);
    enum sp_err err = d->cutter != NULL ? SP_OK : SP_ERR_MEMORY;
    if (err == SP_OK)
        err = open_stream(&d->body, body_fd);
    if (err == SP_OK)
        err = open_stream(&d->attachment, parts_fd);
    if (err == SP_OK) {
        cutter_init(d->cutter, &sink, d);
        d->pieces[d->n].media_type = body_type;
        d->pieces[d->n].media_len = sizeof body_type - 1;
        d->pieces[d->n].file_name = "";
        err = begin(&d->body, &d->pieces[d->n++], PIECE_BODY);
    }
    if (err == SP_OK)
        return d;
    draft_free(d);
    return NULL;
}

void draft_free(struct draft *d)
{
    if (d == NULL)
        return;
    cake_free(d->body.cake);
    cake_free(d->attachment.cake);
    EVP_MD_CTX_free(d->body.hash);
    EVP_MD_CTX_free(d->attachment.hash);
    secret_free(d->cutter);
    secret_free(d);
}

enum sp_err draft_push(struct draft *d, const uint8_t *bytes, size_t len)
{
    return cutter_push(d->cutter, bytes, len);
}

enum sp_err draft_finish(struct draft *d)
{
    enum sp_err err = cutter_finish(d->cutter);
    return err == SP_OK ? end(&d->body) : err;
}

enum sp_err draft_manifest(struct draft *d, uint64_t time_ms, bool server_access,
                           const uint8_t shared_key[KEY_SIZE], uint8_t **out, size_t *len)
{
    size_t cap = 64u + d->n * 128u + d->names_len, n = 0;
    const struct manifest m = {.flags = server_access ? MANIFEST_SERVER_ACCESS : 0,
                               .time_ms = time_ms,
                               .n_pieces = d->n,
                               .pieces = d->pieces};
    *len = 0;
    uint8_t *plain = secret_alloc(cap);
    *out = malloc((size_t)cake_sealed_length(cap));
    enum sp_err err = plain != NULL && *out != NULL ? SP_OK : SP_ERR_MEMORY;
    if (err == SP_OK)
        err = manifest_encode(&m, plain, cap, &n);
    if (err == SP_OK)
        err = cake_seal(shared_key, NULL, plain, n, *out);
    secret_free(plain);
    if (err != SP_OK) {
        free(*out);
        *out = NULL;
        return err;
    }
    *len = (size_t)cake_sealed_length(n);
    return SP_OK;
}

uint32_t draft_lengths(const struct draft *d, uint64_t length[ENVELOPE_MAX_PIECES])
{
    for (uint32_t i = 0; i < d->n; i++)
        length[i] = cake_sealed_length(d->pieces[i].length);
    return d->n;
}
