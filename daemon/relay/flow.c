/* Opens a mail as it is sent. The store gives ciphertext and is believed nothing: each byte passes
 * its chunk's tag, and in the first pass its piece's hash, before anybody is told of it. */
#include "daemon/relay/flow.h"
#include "daemon/messages.h"
#include "daemon/relay/edge.h"
#include "sandbox/lockmem.h"

#include <openssl/evp.h>
#include <sodium.h>
#include <string.h>

_Static_assert(FLOW_PART <= SD_PIECE_MAX, "one request brings a part");

/* Ciphertext: no need for locked memory. */
static struct flow_reader readers[3];
static uint8_t frames[3][2][FLOW_FRAME];
static EVP_MD *sha256;

/* --- parts --- */

static enum sp_err ask(struct flow *s, struct flow_reader *r)
{
    uint8_t frame[IPC_HEADER + 16];
    struct wire_out body = wire_out(frame + IPC_HEADER, sizeof(frame) - IPC_HEADER);
    uint64_t left = r->sealed - r->asked;
    uint64_t most = r->asked == 0 ? FLOW_PART : FLOW_CHUNKS * CAKE_SEALED;
    if (left == 0)
        return SP_OK;
    uint32_t want = (uint32_t)(left < most ? left : most);
    wire_put_u16(&body, r->number);
    wire_put_u64(&body, r->asked);
    wire_put_u32(&body, want);
    r->asked += want;
    s->asked[s->n_asked++] = r;
    return edge_send(s->store, SD_PIECE, frame, &body);
}

/* The whole ciphertext has come: is it the one that the manifest means? */
static enum sp_err check_hash(struct flow_reader *r)
{
    uint8_t hash[HASH_SIZE];
    if (EVP_DigestFinal_ex(r->hash, hash, NULL) != 1)
        return SP_ERR_CRYPTO;
    return sodium_memcmp(hash, r->piece->hash, HASH_SIZE) == 0 ? SP_OK : SP_ERR_AUTH;
}

/* The oldest part that is on its way, into its reader's free place. */
static enum sp_err receive(struct flow *s)
{
    struct flow_reader *r = s->asked[0];
    unsigned to = !r->now;
    struct wire_in in;
    size_t len;
    s->asked[0] = s->asked[1];
    s->n_asked--;
    enum sp_err err = edge_receive(s->store, SD_PIECE, r->part[to].frame, FLOW_FRAME, &in);
    if (err == SP_OK && edge_status(&in) != SP_OK)
        err = SP_ERR_STATE; /* the store has no such part: nothing is wrong with the mail */
    if (err != SP_OK)
        return err;
    uint64_t total = wire_get_u64(&in);
    const uint8_t *bytes = wire_get_b32(&in, FLOW_PART, &len);
    if (!wire_in_done(&in) || total != r->sealed || len != r->asked - r->come)
        return SP_ERR_PEER;
    r->part[to].bytes = bytes;
    r->part[to].len = len;
    r->come += len;
    r->next = true;
    if (!s->check)
        return SP_OK;
    if (EVP_DigestUpdate(r->hash, bytes, len) != 1)
        return SP_ERR_CRYPTO;
    return r->come == r->sealed ? check_hash(r) : SP_OK;
}

/* part[now] is used up: the next one, and the one behind it is asked for. */
static enum sp_err turn(struct flow *s, struct flow_reader *r)
{
    enum sp_err err = SP_OK;
    while (err == SP_OK && !r->next)
        err = s->n_asked > 0 ? receive(s) : SP_ERR_AUTH;
    if (err != SP_OK)
        return err;
    r->now = !r->now;
    r->next = false;
    r->at = r->begun ? 0 : CAKE_HEADER;
    return ask(s, r);
}

/* --- chunks --- */

static void shut(struct flow *s)
{
    lockmem_wipe(s->secret->plain, s->held);
    s->held = 0;
    s->opened = NULL;
}

static size_t chunk_length(const struct flow_reader *r)
{
    uint64_t left = r->piece->length - r->chunk * CAKE_CHUNK;
    return left < CAKE_CHUNK ? (size_t)left : CAKE_CHUNK;
}

/* The reader's current chunk into plain. */
static enum sp_err open_chunk(struct flow *s, struct flow_reader *r)
{
    enum sp_err err = SP_OK;
    size_t len = chunk_length(r);
    shut(s);
    if (!r->local && r->at == r->part[r->now].len)
        err = turn(s, r);
    if (err != SP_OK)
        return err;
    const uint8_t *part = r->part[r->now].bytes;
    if (!r->begun)
        err = cake_open_begin(r->cake, r->piece->key, part);
    r->begun = true;
    if (err == SP_OK && r->part[r->now].len - r->at < len + CAKE_TAG)
        err = SP_ERR_AUTH;
    if (err == SP_OK)
        err = cake_open_chunk(r->cake, r->chunk, part + r->at, len + CAKE_TAG, len < CAKE_CHUNK,
                              s->secret->plain);
    if (err != SP_OK)
        return err;
    s->opened = r;
    s->held = len;
    s->most = len > s->most ? len : s->most;
    return SP_OK;
}

static void next_chunk(struct flow *s, struct flow_reader *r, size_t len)
{
    shut(s);
    r->at += len + CAKE_TAG;
    r->chunk++;
    r->used = 0;
}

/* Up to cap bytes; *n = 0 when the last chunk, which may be empty, has been opened and used. */
static enum sp_err read_piece(struct flow *s, struct flow_reader *r, uint8_t *buf, size_t cap,
                              size_t *n)
{
    enum sp_err err = SP_OK;
    *n = 0;
    while (err == SP_OK && *n == 0 && r->chunk <= r->piece->length / CAKE_CHUNK) {
        size_t len = chunk_length(r);
        if (s->opened != r)
            err = open_chunk(s, r);
        if (err != SP_OK)
            break;
        size_t take = len - r->used < cap ? len - r->used : cap;
        if (take > 0)
            memcpy(buf, s->secret->plain + r->used, take);
        r->used += take;
        r->done += take;
        *n = take;
        if (r->used == len)
            next_chunk(s, r, len);
    }
    return err;
}

/* Most mails have one piece, and need one reader. */
static enum sp_err equip(struct flow_reader *r)
{
    if (r->cake == NULL)
        r->cake = cake_new();
    if (r->hash == NULL)
        r->hash = EVP_MD_CTX_new();
    return r->cake != NULL && r->hash != NULL ? SP_OK : SP_ERR_MEMORY;
}

static enum sp_err check_local(struct flow_reader *r)
{
    if (EVP_DigestInit_ex2(r->hash, sha256, NULL) != 1 ||
        EVP_DigestUpdate(r->hash, r->part[0].bytes, r->part[0].len) != 1)
        return SP_ERR_CRYPTO;
    return check_hash(r);
}

static enum sp_err start_reader(struct flow *s, struct flow_reader *r, uint16_t number,
                                const struct piece *piece)
{
    enum sp_err err = equip(r);
    if (err != SP_OK)
        return err;
    r->number = number;
    r->piece = piece;
    r->sealed = cake_sealed_length(piece->length);
    r->asked = r->come = r->chunk = r->done = 0;
    r->used = 0;
    r->begun = r->next = false;
    r->now = 0;
    r->at = r->local ? CAKE_HEADER : 0;
    if (r->local)
        return s->check && r != s->added ? check_local(r) : SP_OK;
    r->part[0].len = 0;
    if (s->check && EVP_DigestInit_ex2(r->hash, sha256, NULL) != 1)
        return SP_ERR_CRYPTO;
    return ask(s, r);
}

/* --- the whole --- */

enum sp_err flow_init(struct flow *s, int store, struct flow_secret *secret)
{
    *s = (struct flow){.store = store, .secret = secret};
    s->body = &readers[0];
    s->attachment = &readers[1];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 2; j++)
            readers[i].part[j].frame = frames[i][j];
    if (sha256 == NULL && (sha256 = EVP_MD_fetch(NULL, "SHA256", NULL)) == NULL)
        return SP_ERR_CRYPTO;
    return SP_OK;
}

enum sp_err flow_add(struct flow *s, const uint8_t *added, size_t len)
{
    struct piece *piece = &s->secret->added;
    struct flow_reader *r = &readers[2];
    if (len == 0)
        return SP_OK;
    if (len > FLOW_ADDED)
        return SP_ERR_LIMIT;
    randombytes_buf(piece->key, sizeof(piece->key));
    piece->length = len;
    r->local = true;
    r->part[0].bytes = r->part[0].frame;
    r->part[0].len = (size_t)cake_sealed_length(len);
    s->added = r;
    return cake_seal(piece->key, NULL, added, len, r->part[0].frame);
}

enum sp_err flow_bring(struct flow *s, const uint8_t *bytes, size_t len)
{
    struct flow_reader *r = s->body;
    if (s->secret->n == 0 || len != cake_sealed_length(s->secret->piece[0].length))
        return SP_ERR_PEER;
    r->local = true;
    r->part[0].bytes = bytes;
    r->part[0].len = len;
    return SP_OK;
}

enum sp_err flow_begin(struct flow *s, const char *front, size_t front_len, bool check)
{
    enum sp_err err = flow_end(s);
    s->front = front;
    s->front_len = front_len;
    s->front_at = 0;
    s->check = check;
    s->failed = SP_OK;
    s->next = 1;
    s->in_attachment = s->ended = false;
    if (err == SP_OK && s->added != NULL)
        err = start_reader(s, s->added, 0, &s->secret->added);
    s->ended = s->secret->n == 0; /* all there is was added */
    if (err == SP_OK && !s->ended)
        err = start_reader(s, s->body, 0, &s->secret->piece[0]);
    return err;
}

/* Up to the next splice, or the attachment that stands there. */
static enum sp_err read_spliced(struct flow *s, uint8_t *buf, size_t cap, size_t *n)
{
    const struct flow_secret *secret = s->secret;
    enum sp_err err = SP_OK;
    *n = 0;
    while (err == SP_OK && *n == 0 && !s->ended) {
        const struct piece *next = s->next < secret->n ? &secret->piece[s->next] : NULL;
        uint64_t room = next != NULL ? next->splice_at - s->body->done : UINT64_MAX;
        if (s->in_attachment) {
            err = read_piece(s, s->attachment, buf, cap, n);
            s->in_attachment = *n > 0;
            s->next += *n == 0;
        } else if (room == 0) {
            err = start_reader(s, s->attachment, (uint16_t)s->next, next);
            s->in_attachment = true;
        } else {
            err = read_piece(s, s->body, buf, room < cap ? (size_t)room : cap, n);
            s->ended = *n == 0;
        }
    }
    return err;
}

enum sp_err flow_read(void *flow, uint8_t *buf, size_t cap, size_t *n)
{
    struct flow *s = flow;
    enum sp_err err = SP_OK;
    *n = 0;
    if (s->front_at < s->front_len) {
        *n = s->front_len - s->front_at < cap ? s->front_len - s->front_at : cap;
        memcpy(buf, s->front + s->front_at, *n);
        s->front_at += *n;
        return SP_OK;
    }
    if (s->added != NULL)
        err = read_piece(s, s->added, buf, cap, n);
    if (err == SP_OK && *n == 0)
        err = read_spliced(s, buf, cap, n);
    return s->failed = err;
}

enum sp_err flow_settle(struct flow *s)
{
    enum sp_err err = SP_OK;
    while (err == SP_OK && s->n_asked > 0)
        err = receive(s);
    return err;
}

enum sp_err flow_end(struct flow *s)
{
    s->check = false;
    enum sp_err err = flow_settle(s);
    shut(s);
    return err;
}

uint64_t flow_size(const struct flow *s)
{
    uint64_t size = s->added != NULL ? s->secret->added.length : 0;
    for (size_t i = 0; i < s->secret->n; i++)
        size += s->secret->piece[i].length;
    return size;
}

void flow_free(struct flow *s)
{
    for (int i = 0; i < 3; i++) {
        cake_free(readers[i].cake);
        EVP_MD_CTX_free(readers[i].hash);
        readers[i].cake = NULL;
        readers[i].hash = NULL;
        readers[i].local = false;
    }
    if (s->secret != NULL) {
        shut(s);
        lockmem_wipe(s->secret->piece, s->secret->n * sizeof(s->secret->piece[0]));
        lockmem_wipe(&s->secret->added, sizeof(s->secret->added));
        s->secret->n = 0;
    }
    s->secret = NULL;
    s->added = NULL;
    s->n_asked = 0;
}
