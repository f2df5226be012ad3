/* Opening a message (FORMAT.md section 5). The server may send anything: nothing is believed before
 * the step that proves it, and nothing is written before all of it is proved. */
#include "client/message.h"
#include "client/join.h"
#include "client/report.h"
#include "client/secret.h"
#include "envelope/wire.h"
#include "sandbox/lockmem.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum sp_err step_failed(const struct message *m, enum sp_err err, const char *step)
{
    return report_fail(err, "message %s: %s", m->id, step);
}

enum sp_err message_fetch(struct client *c, const char id[ID_HEX + 1], struct message *m)
{
    uint8_t *bytes;
    size_t len;
    memset(m, 0, sizeof *m);
    m->spool.fd = -1;
    enum sp_err err = server_message(c->server, id, &bytes, &len);
    return err == SP_OK ? message_take(m, id, bytes, len) : err;
}

enum sp_err message_take(struct message *m, const char *id, uint8_t *bytes, size_t len)
{
    memset(m, 0, sizeof *m);
    m->spool.fd = -1;
    m->bytes = bytes;
    snprintf(m->id, sizeof m->id, "%s", id);
    struct wire_in in = wire_in(m->bytes, len);
    m->envelope_bytes = wire_get_b32(&in, len, &m->envelope_len);
    m->box_bytes = wire_get_b32(&in, len, &m->box_len);
    return wire_in_done(&in) ? SP_OK : step_failed(m, SP_ERR_FORMAT, "step 1, the server's answer");
}

void message_free(struct message *m)
{
    spool_close(&m->spool);
    secret_free(m->manifest_bytes);
    secret_free(m->pieces);
    free(m->bytes);
    memset(m, 0, sizeof *m);
    m->spool.fd = -1;
}

enum sp_err message_decode(struct message *m)
{
    char id[ID_HEX + 1];
    enum sp_err err = envelope_decode(m->envelope_bytes, m->envelope_len, &m->envelope);
    if (err != SP_OK)
        return step_failed(m, err, "step 1, decoding the envelope");
    err = box_decode(m->box_bytes, m->box_len, &m->box);
    if (err != SP_OK)
        return step_failed(m, err, "step 1, decoding the box");
    sodium_bin2hex(id, sizeof id, m->envelope.message_id, ID_SIZE);
    if (m->id[0] == '\0')
        memcpy(m->id, id, sizeof m->id);
    /* A server could answer with another message of the same user. */
    if (strcmp(id, m->id) != 0)
        return report_plain(
            SP_ERR_AUTH, "message %s: step 1, the envelope is another message's (%s)", m->id, id);
    return SP_OK;
}

/* The chain that has to hold the sender's signing key. What was seen of a user who left still
 * proves what they signed. */
static enum sp_err sender_chain(struct client *c, struct message *m, const struct chain **out)
{
    const uint8_t *user = m->envelope.sender_user_id;
    const struct contact *who;
    char hex[ID_HEX + 1];
    m->signer.there = true;
    m->signer.own = memcmp(user, c->keys->user_id, ID_SIZE) == 0;
    *out = c->own;
    if (m->signer.own)
        return SP_OK;
    enum sp_err err = contacts_get(&c->contacts, c->state, c->server, user, &who);
    if (err != SP_OK)
        return err;
    m->signer.gone = who->gone;
    *out = who->chain;
    if (*out == NULL)
        return report_plain(SP_ERR_NOT_FOUND,
                            "message %s: step 2, the server has no sigchain of the sender (user "
                            "id %s): the signature cannot be checked",
                            m->id, sodium_bin2hex(hex, sizeof hex, user, ID_SIZE));
    return SP_OK;
}

static enum sp_err check_sender(struct client *c, struct message *m)
{
    const struct chain *chain;
    enum sp_err err = sender_chain(c, m, &chain);
    if (err != SP_OK)
        return err;
    const struct chain_device *d = sigchain_signer(&chain->now, m->envelope.sender_sign_pk);
    if (d == NULL)
        return step_failed(m, SP_ERR_AUTH,
                           "step 2, the sender's signing key is not on their sigchain");
    m->signer.revoked = d->revoked;
    m->signer.moved = chain_moved(chain);
    memcpy(m->signer.address, chain->address, sizeof m->signer.address);
    sigchain_fingerprint(&chain->now, m->signer.fingerprint);
    return SP_OK;
}

/* Step 3 before any secret is touched: the box has to be ours. */
static enum sp_err check_box(struct client *c, struct message *m, uint8_t email_sk[KEY_SIZE])
{
    const struct box *b = &m->box;
    if (b->kind != BOX_USER || memcmp(b->recipient_id, c->keys->user_id, ID_SIZE) != 0)
        return report_plain(SP_ERR_AUTH, "message %s: step 3, the box is not for this user", m->id);
    enum sp_err err = keyring_find(c->keys, b->puk_generation, b->recipient_pk, email_sk);
    if (err == SP_ERR_NO_KEY)
        return report_plain(
            err, "message %s: step 3, the box: this device has no key of generation %" PRIu32,
            m->id, b->puk_generation);
    return err == SP_OK ? err : step_failed(m, err, "step 3, the box's recipient key");
}

static enum sp_err open_manifest(struct message *m, const uint8_t shared_key[KEY_SIZE])
{
    size_t len = 0, cap = m->envelope.manifest_len;
    uint64_t plain = 0;
    enum sp_err err = cake_plain_length(cap, &plain);
    if (err == SP_OK && plain > MANIFEST_MAX)
        err = SP_ERR_LIMIT;
    if (err != SP_OK)
        return step_failed(m, err, "step 4, the manifest's length");
    m->manifest_bytes = secret_alloc(cap);
    m->pieces = secret_alloc(MANIFEST_MAX_PIECES * sizeof *m->pieces);
    if (m->manifest_bytes == NULL || m->pieces == NULL)
        return step_failed(m, SP_ERR_MEMORY, "step 4, the manifest");
    err = cake_open(shared_key, m->envelope.manifest, cap, m->manifest_bytes, cap, &len);
    if (err != SP_OK)
        return step_failed(m, err, "step 4, opening the manifest");
    err = manifest_decode(m->manifest_bytes, len, m->pieces, &m->manifest);
    return err == SP_OK ? err : step_failed(m, err, "step 4, decoding the manifest");
}

/* The envelope's lengths are not under any tag: the manifest's are. */
static enum sp_err compare_lengths(struct message *m)
{
    if (m->manifest.n_pieces != m->envelope.n_pieces)
        return step_failed(m, SP_ERR_AUTH, "step 4, the envelope's number of pieces");
    for (uint32_t i = 0; i < m->manifest.n_pieces; i++) {
        uint64_t plain = 0;
        if (cake_plain_length(m->envelope.piece_length[i], &plain) != SP_OK ||
            plain != m->manifest.pieces[i].length)
            return report_fail(SP_ERR_AUTH,
                               "message %s: step 4, the envelope's length of piece %" PRIu32, m->id,
                               i);
    }
    return SP_OK;
}

enum sp_err message_manifest(struct message *m, const uint8_t shared_key[KEY_SIZE])
{
    enum sp_err err = open_manifest(m, shared_key);
    return err == SP_OK ? compare_lengths(m) : err;
}

enum sp_err message_open(struct client *c, struct message *m)
{
    uint8_t manifest_hash[HASH_SIZE];
    uint8_t *secrets = NULL; /* email_sk || shared_key */
    enum sp_err err = message_decode(m);
    if (err == SP_OK && m->envelope.from_user)
        err = check_sender(c, m);
    if (err != SP_OK)
        return err;
    secrets = secret_alloc(2 * KEY_SIZE);
    if (secrets == NULL)
        return step_failed(m, SP_ERR_MEMORY, "step 3, the box");
    err = check_box(c, m, secrets);
    if (err != SP_OK)
        goto out;
    err = envelope_manifest_hash(&m->envelope, manifest_hash);
    if (err == SP_OK)
        err = box_open(&m->envelope, manifest_hash, &m->box, secrets, secrets + KEY_SIZE);
    if (err != SP_OK) {
        step_failed(m, err, "step 3, opening the box (with the envelope's digest)");
        goto out;
    }
    err = message_manifest(m, secrets + KEY_SIZE);
out:
    secret_free(secrets);
    return err;
}

/* Every chunk of a piece is opened once for nothing, so that a bad one is found before output
 * begins. */
static enum sp_err try_piece(const struct message *m, struct spool_reader *r, uint32_t i)
{
    const struct piece *p = &m->manifest.pieces[i];
    const uint8_t *at;
    size_t got = 1;
    uint64_t total = 0;
    enum sp_err err = spool_reader_start(r, &m->spool, i, p->key);
    while (err == SP_OK && got > 0) {
        err = spool_reader_next(r, CAKE_CHUNK, &at, &got);
        total += got;
    }
    return err == SP_OK && total != p->length ? SP_ERR_AUTH : err;
}

static enum sp_err check_piece(const struct message *m, struct spool_reader *r, uint32_t i)
{
    uint8_t hash[HASH_SIZE];
    enum sp_err err = spool_hash(&m->spool, i, hash);
    if (err == SP_OK && sodium_memcmp(hash, m->manifest.pieces[i].hash, sizeof hash) != 0)
        return report_fail(SP_ERR_AUTH, "message %s: step 5, the hash of piece %" PRIu32, m->id, i);
    if (err == SP_OK)
        err = try_piece(m, r, i);
    if (err != SP_OK)
        report_fail(err, "message %s: step 5, opening piece %" PRIu32, m->id, i);
    return err;
}

enum sp_err message_pieces(struct message *m, struct state *s, const struct spool_source *from)
{
    struct spool_reader *r;
    enum sp_err err = spool_reader_new(&r);
    if (err != SP_OK)
        return step_failed(m, err, "step 5, the pieces");
    err = spool_open(&m->spool, s, &m->envelope);
    for (uint32_t i = 0; err == SP_OK && i < m->manifest.n_pieces; i++) {
        err = spool_fetch(&m->spool, from, i);
        if (err == SP_OK)
            err = check_piece(m, r, i);
    }
    spool_reader_free(r);
    return err;
}

/* The two ends of the rejoining: body and current attachment are read. */
struct joining {
    const struct message *m;
    struct spool_reader *body, *attachment;
    uint32_t piece; /* that `attachment` stands in; 0: none yet */
    enum sp_err (*write)(void *ctx, const uint8_t *bytes, size_t len);
    void *ctx;
};

static enum sp_err on_read(void *ctx, uint32_t piece, size_t max, const uint8_t **at, size_t *got)
{
    struct joining *j = ctx;
    if (piece == 0)
        return spool_reader_next(j->body, max, at, got);
    if (piece != j->piece) {
        const struct message *m = j->m;
        enum sp_err err =
            spool_reader_start(j->attachment, &m->spool, piece, m->manifest.pieces[piece].key);
        if (err != SP_OK)
            return err;
        j->piece = piece;
    }
    return spool_reader_next(j->attachment, max, at, got);
}

static enum sp_err on_write(void *ctx, const uint8_t *bytes, size_t len)
{
    struct joining *j = ctx;
    return j->write(j->ctx, bytes, len);
}

enum sp_err message_join(const struct message *m,
                         enum sp_err (*write)(void *ctx, const uint8_t *bytes, size_t len),
                         void *ctx)
{
    struct joining j = {.m = m, .write = write, .ctx = ctx};
    const struct join_ends ends = {.read = on_read, .write = on_write, .ctx = &j};
    enum sp_err err = spool_reader_new(&j.body);
    if (err == SP_OK)
        err = spool_reader_new(&j.attachment);
    if (err == SP_OK)
        err = spool_reader_start(j.body, &m->spool, 0, m->manifest.pieces[0].key);
    if (err == SP_OK)
        err = join_message(&m->manifest, &ends);
    spool_reader_free(j.body);
    spool_reader_free(j.attachment);
    return err;
}

static enum sp_err to_file(void *ctx, const uint8_t *bytes, size_t len)
{
    const int *fd = ctx;
    return file_write(*fd, bytes, len);
}

enum sp_err message_write(const struct message *m, int fd, const char *name)
{
    enum sp_err err = message_join(m, to_file, &fd);
    return err == SP_OK ? err : report_fail(err, "message %s: writing %s", m->id, name);
}

bool message_stops(enum sp_err err)
{
    return err == SP_ERR_SYSTEM || err == SP_ERR_MEMORY || err == SP_ERR_PEER ||
           err == SP_ERR_DENIED || err == SP_ERR_CRYPTO;
}

enum sp_err message_read(struct client *c, const char id[ID_HEX + 1], struct message *m)
{
    const struct spool_source from = spool_mailbox(c->server, id);
    enum sp_err err = message_fetch(c, id, m);
    if (err == SP_OK)
        err = message_open(c, m);
    return err == SP_OK ? message_pieces(m, c->state, &from) : err;
}
