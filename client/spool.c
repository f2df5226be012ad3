/* Pieces on their way through the client's disk, as ciphertext. The server is not trusted: what it
 * sends is bounded by the length that the envelope states, and worth nothing until its hash fits.
 */
#include "client/spool.h"
#include "client/report.h"
#include "client/secret.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TRIES       3u
#define SPOOL_MAX   (UINT64_C(1) << 46) /* bytes of a message: far from any overflow */
#define HASH_BUFFER 65536u

enum sp_err spool_open(struct spool *sp, struct state *s, const struct envelope *e)
{
    uint64_t total = 0;
    sp->fd = -1;
    sp->n = e->n_pieces;
    for (uint32_t i = 0; i < e->n_pieces; i++) {
        if (e->piece_length[i] > SPOOL_MAX - total)
            return report_fail(SP_ERR_LIMIT, "the message's length");
        sp->base[i] = total;
        sp->len[i] = e->piece_length[i];
        total += e->piece_length[i];
    }
    return state_spool(s, &sp->fd);
}

void spool_close(struct spool *sp)
{
    if (sp->fd >= 0)
        close(sp->fd);
    sp->fd = -1;
}

struct download {
    const struct spool *sp;
    uint32_t piece;
    uint64_t have;
};

static enum sp_err on_bytes(void *ctx, const uint8_t *bytes, size_t len)
{
    struct download *d = ctx;
    uint64_t want = d->sp->len[d->piece];
    if (len > want - d->have)
        return SP_ERR_LIMIT;
    enum sp_err err = file_pwrite(d->sp->fd, bytes, len, d->sp->base[d->piece] + d->have);
    d->have += len;
    report_progress("fetching", d->have, want);
    return err;
}

static enum sp_err mailbox_piece(const struct spool_source *from, uint32_t i, uint64_t at,
                                 http_sink sink, void *ctx)
{
    return server_piece(from->ctx, from->id, i, at, sink, ctx);
}

static enum sp_err mailbox_refuse(const struct spool_source *from, enum sp_err err,
                                  const char *what)
{
    return server_refuse(from->ctx, err, what);
}

struct spool_source spool_mailbox(struct server *server, const char id[ID_HEX + 1])
{
    return (struct spool_source){
        .piece = mailbox_piece, .refuse = mailbox_refuse, .ctx = server, .id = id};
}

enum sp_err spool_fetch(struct spool *sp, const struct spool_source *from, uint32_t i)
{
    const char *id = from->id;
    struct download d = {.sp = sp, .piece = i};
    const struct timespec pause = {.tv_nsec = 300 * 1000 * 1000};
    enum sp_err err = SP_OK;
    for (unsigned try = 0; try < TRIES && d.have < sp->len[i]; try++) {
        if (try > 0)
            nanosleep(&pause, NULL);
        err = from->piece(from, i, d.have, on_bytes, &d);
        if (err != SP_OK && err != SP_ERR_PEER)
            break;
    }
    report_progress_end();
    if (d.have == sp->len[i] && err != SP_ERR_LIMIT)
        return SP_OK;
    if (err == SP_ERR_LIMIT)
        return report_plain(err,
                            "message %s: step 5, piece %" PRIu32 ": the server sends more than "
                            "the %" PRIu64 " bytes that the envelope states",
                            id, i, sp->len[i]);
    if (err == SP_ERR_SYSTEM)
        return report_fail(err, "message %s: step 5, piece %" PRIu32 ": temporary file", id, i);
    if (err == SP_OK || err == SP_ERR_PEER)
        return report_plain(SP_ERR_PEER,
                            "message %s: step 5, piece %" PRIu32 ": cut short at %" PRIu64
                            " of %" PRIu64 " bytes, three times",
                            id, i, d.have, sp->len[i]);
    return from->refuse(from, err, "step 5, a piece");
}

static enum sp_err hash_range(const struct spool *sp, uint32_t i, EVP_MD_CTX *md, uint8_t *buffer)
{
    for (uint64_t at = 0; at < sp->len[i];) {
        uint64_t left = sp->len[i] - at;
        size_t n = left < HASH_BUFFER ? (size_t)left : HASH_BUFFER;
        enum sp_err err = file_pread(sp->fd, buffer, n, sp->base[i] + at);
        if (err != SP_OK)
            return err;
        if (EVP_DigestUpdate(md, buffer, n) != 1)
            return SP_ERR_CRYPTO;
        at += n;
    }
    return SP_OK;
}

enum sp_err spool_hash(const struct spool *sp, uint32_t i, uint8_t out[HASH_SIZE])
{
    enum sp_err err = SP_ERR_CRYPTO;
    uint8_t *buffer = malloc(HASH_BUFFER);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    if (buffer != NULL && md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1)
        err = hash_range(sp, i, md, buffer);
    if (err == SP_OK && EVP_DigestFinal_ex(md, out, NULL) != 1)
        err = SP_ERR_CRYPTO;
    EVP_MD_CTX_free(md);
    free(buffer);
    return err;
}

struct spool_reader {
    struct cake *cake;
    uint8_t *chunk; /* CAKE_SEALED bytes of locked memory */
    const struct spool *sp;
    uint64_t at;  /* of the next chunk, in the spool file */
    uint64_t end; /* of the piece */
    uint64_t index;
    size_t pos, len; /* what is left of the open chunk */
};

enum sp_err spool_reader_new(struct spool_reader **out)
{
    *out = NULL;
    struct spool_reader *r = calloc(1, sizeof *r);
    if (r == NULL)
        return SP_ERR_MEMORY;
    r->cake = cake_new();
    r->chunk = secret_alloc(CAKE_SEALED);
    if (r->cake == NULL || r->chunk == NULL) {
        spool_reader_free(r);
        return SP_ERR_MEMORY;
    }
    *out = r;
    return SP_OK;
}

void spool_reader_free(struct spool_reader *r)
{
    if (r == NULL)
        return;
    cake_free(r->cake);
    secret_free(r->chunk);
    free(r);
}

enum sp_err spool_reader_start(struct spool_reader *r, const struct spool *sp, uint32_t i,
                               const uint8_t key[KEY_SIZE])
{
    uint8_t header[CAKE_HEADER];
    r->sp = sp;
    r->at = sp->base[i] + CAKE_HEADER;
    r->end = sp->base[i] + sp->len[i];
    r->index = 0;
    r->pos = r->len = 0;
    if (sp->len[i] < CAKE_HEADER + CAKE_TAG)
        return SP_ERR_FORMAT;
    enum sp_err err = file_pread(sp->fd, header, sizeof header, sp->base[i]);
    return err == SP_OK ? cake_open_begin(r->cake, key, header) : err;
}

/* A full chunk that ends the file would be a stream without a last chunk: its length class decides.
 */
static enum sp_err open_chunk(struct spool_reader *r)
{
    uint64_t left = r->end - r->at;
    bool last = left < CAKE_SEALED;
    size_t n = last ? (size_t)left : CAKE_SEALED;
    if (n < CAKE_TAG)
        return SP_ERR_FORMAT;
    enum sp_err err = file_pread(r->sp->fd, r->chunk, n, r->at);
    if (err == SP_OK)
        err = cake_open_chunk(r->cake, r->index, r->chunk, n, last, r->chunk);
    if (err != SP_OK)
        return err;
    r->index++;
    r->at = last ? r->end + 1 : r->at + n; /* beyond the end: the last chunk has been seen */
    r->pos = 0;
    r->len = n - CAKE_TAG;
    return SP_OK;
}

enum sp_err spool_reader_next(struct spool_reader *r, size_t max, const uint8_t **at, size_t *got)
{
    *at = NULL;
    *got = 0;
    if (r->pos == r->len && r->at <= r->end) {
        enum sp_err err = open_chunk(r);
        if (err != SP_OK)
            return err;
    }
    size_t n = r->len - r->pos;
    *got = n < max ? n : max;
    *at = r->chunk + r->pos;
    r->pos += *got;
    return SP_OK;
}
