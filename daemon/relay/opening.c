/* From the lease to a mail that may be sent: the envelope from the store, the shared key from the
 * keeper, one pass over all of it, signatures. The mail is its sender's, who may have written
 * anything; what is found wrong now is wrong for good, and nobody outside has heard of it. */
#include "daemon/date.h"
#include "daemon/domain.h"
#include "daemon/ipc.h"
#include "daemon/messages.h"
#include "daemon/relay/delivery.h"
#include "daemon/relay/edge.h"
#include "envelope/envelope.h"
#include "sandbox/lockmem.h"

#include <stdio.h>
#include <string.h>

/* Envelope and box of a mail whose manifest we have room for. */
#define BYTES_MAX (8u + ENVELOPE_SIZE(ENVELOPE_MAX_PIECES, SEALING_MAX_ENVELOPE + 256u) + BOX_MAX)

static uint8_t bytes[BYTES_MAX]; /* ciphertext and public keys */
static uint8_t part[IPC_HEADER + IPC_MAX_PAYLOAD];

/* --- envelope --- */

static enum sp_err fetch(const struct job *job, const uint8_t **at, size_t *len)
{
    uint32_t total = 0;
    *at = job->letter != NULL ? job->letter : bytes;
    *len = job->letter_len;
    if (job->letter != NULL)
        return SP_OK;
    do {
        uint8_t frame[IPC_HEADER + 4];
        struct wire_out body = wire_out(frame + IPC_HEADER, 4);
        struct wire_in in;
        wire_put_u32(&body, (uint32_t)*len);
        enum sp_err err =
            edge_ask(DELIVERY_STORE, SD_ENVELOPE, frame, &body, part, sizeof(part), &in);
        if (err != SP_OK)
            return err == SP_ERR_PEER ? err : SP_ERR_STATE;
        total = wire_get_u32(&in);
        if (total > sizeof(bytes))
            return SP_ERR_LIMIT;
        if (in.bad || in.left == 0 || in.left > total - *len)
            return SP_ERR_PEER;
        memcpy(bytes + *len, in.at, in.left);
        *len += in.left;
    } while (*len < total);
    return SP_OK;
}

struct letter {
    struct envelope envelope;
    struct box box;
    const uint8_t *box_bytes;
    size_t box_len;
};

static enum sp_err decode(const struct job *job, const uint8_t *at, size_t len, struct letter *l)
{
    struct wire_in in = wire_in(at, len);
    size_t envelope_len;
    const uint8_t *envelope = wire_get_b32(&in, len, &envelope_len);
    l->box_bytes = wire_get_b32(&in, BOX_MAX, &l->box_len);
    if (!wire_in_done(&in))
        return SP_ERR_FORMAT;
    enum sp_err err = envelope_decode(envelope, envelope_len, &l->envelope);
    if (err == SP_OK)
        err = box_decode(l->box_bytes, l->box_len, &l->box);
    if (err != SP_OK)
        return err;
    bool same = memcmp(l->envelope.message_id, job->message_id, ID_SIZE) == 0 &&
                memcmp(l->box.recipient_id, job->recipient_id, ID_SIZE) == 0 &&
                l->box.kind == BOX_RELAY && job->kind == BOX_RELAY;
    return same ? SP_OK : SP_ERR_FORMAT;
}

/* The keeper opens the box and checks the sender's signature: it makes the digest from these
 * fields itself. */
static enum sp_err open_box(const struct letter *l, uint8_t *locked, size_t cap,
                            uint8_t shared_key[KEY_SIZE], bool *login)
{
    const struct envelope *e = &l->envelope;
    uint8_t frame[IPC_HEADER + 1024], manifest_hash[HASH_SIZE];
    struct wire_out body = wire_out(frame + IPC_HEADER, sizeof(frame) - IPC_HEADER);
    struct wire_in in;
    enum sp_err err = envelope_manifest_hash(e, manifest_hash);
    if (err != SP_OK)
        return err;
    wire_put_u8(&body, e->suite);
    wire_put_bytes(&body, e->message_id, ID_SIZE);
    wire_put_b16(&body, e->sender_user_id, e->from_user ? ID_SIZE : 0);
    wire_put_b16(&body, e->sender_sign_pk, e->from_user ? KEY_SIZE : 0);
    wire_put_bytes(&body, e->ephemeral_pk, KEY_SIZE);
    wire_put_bytes(&body, e->bcc_commitment, HASH_SIZE);
    wire_put_bytes(&body, manifest_hash, HASH_SIZE);
    wire_put_b32(&body, l->box_bytes, l->box_len);
    err = edge_ask(DELIVERY_KEEPER, KD_OPEN, frame, &body, locked, cap, &in);
    if (err != SP_OK)
        return err;
    wire_get_copy(&in, shared_key, KEY_SIZE);
    *login = wire_get_u8(&in) != 0;
    return wire_in_done(&in) ? SP_OK : SP_ERR_PEER;
}

/* The keeper has opened the box for these very fields. */
static bool is_ordered(const struct job *job, const struct letter *l)
{
    uint8_t manifest_hash[HASH_SIZE], digest[HASH_SIZE];
    return l->envelope.from_user && envelope_manifest_hash(&l->envelope, manifest_hash) == SP_OK &&
           box_digest(&l->envelope, manifest_hash, &l->box, digest) == SP_OK &&
           orders_relay(job, l->envelope.sender_sign_pk, digest);
}

static bool lengths_agree(const struct envelope *e, const struct manifest *m)
{
    bool same = e->n_pieces == m->n_pieces;
    for (size_t i = 0; same && i < m->n_pieces; i++)
        same = cake_sealed_length(m->pieces[i].length) == e->piece_length[i];
    return same;
}

/* The shared key opens nothing but the manifest: with it, it is gone. */
static enum sp_err open_manifest(struct delivery *d, const struct letter *l)
{
    struct vault *v = d->vault;
    struct manifest m = {0};
    uint8_t *locked = v->remote.in, *shared_key = v->flow.plain;
    size_t len = 0;
    enum sp_err err = open_box(l, locked, sizeof(v->remote.in), shared_key, &d->login);
    if (err == SP_OK)
        err = cake_open(shared_key, l->envelope.manifest, l->envelope.manifest_len, v->in.manifest,
                        sizeof(v->in.manifest), &len);
    lockmem_wipe(locked, 256);
    lockmem_wipe(shared_key, KEY_SIZE);
    if (err == SP_OK)
        err = manifest_decode(v->in.manifest, len, v->flow.piece, &m);
    if (err == SP_OK && !lengths_agree(&l->envelope, &m))
        err = SP_ERR_FORMAT;
    v->flow.n = m.n_pieces;
    if (err != SP_OK) /* nobody else knows how much of it there is */
        lockmem_wipe(&v->flow, sizeof(v->flow));
    if (err == SP_OK)
        err = flow_init(&d->flow, DELIVERY_STORE, &v->flow);
    if (err == SP_OK && d->job.piece != NULL)
        err = flow_bring(&d->flow, d->job.piece, d->job.piece_len);
    if (err == SP_OK)
        err = flow_add(&d->flow, m.added, m.added_len);
    lockmem_wipe(v->in.manifest, len < sizeof(v->in.manifest) ? len : sizeof(v->in.manifest));
    return err;
}

/* What will be no better another time. NOT_FOUND: the keeper has the key no more. */
static bool is_final(enum sp_err err)
{
    return err == SP_ERR_FORMAT || err == SP_ERR_AUTH || err == SP_ERR_LIMIT ||
           err == SP_ERR_NOT_FOUND;
}

enum sp_err opening_open(struct delivery *d, struct dialog_verdict *why)
{
    struct letter letter = {0};
    const uint8_t *at;
    size_t len;
    enum sp_err err = fetch(&d->job, &at, &len);
    if (err == SP_OK)
        err = decode(&d->job, at, len, &letter);
    if (err == SP_OK)
        err = open_manifest(d, &letter);
    d->opened = err == SP_OK && is_ordered(&d->job, &letter);
    if (err == SP_OK && !d->opened)
        orders_refused(why);
    if (!is_final(err))
        return err;
    if (err == SP_ERR_LIMIT)
        delivery_verdict(why, DIALOG_FAILED, 0, "5.3.4",
                         "The message has too many names or header fields besides its body");
    else
        delivery_verdict(why, DIALOG_FAILED, 0, "5.6.0", "The message cannot be opened: %s",
                         sp_err_text(err));
    return SP_OK;
}

/* --- first pass --- */

static enum sp_err read_all(struct delivery *d)
{
    struct vault *v = d->vault;
    uint8_t *buf = v->remote.in;
    size_t n = 1, most = 0;
    facts_init(&v->facts);
    enum sp_err err = dkim_begin(&v->in.dkim);
    if (d->config->dkim_selector.count == 0)
        dkim_skip_body(&v->in.dkim);
    if (err == SP_OK)
        err = flow_begin(&d->flow, NULL, 0, true);
    while (err == SP_OK && n > 0) {
        err = flow_read(&d->flow, buf, REMOTE_IN, &n);
        most = n > most ? n : most;
        facts_push(&v->facts, buf, n);
        if (err == SP_OK)
            err = dkim_push(&v->in.dkim, buf, n);
    }
    lockmem_wipe(buf, err == SP_OK ? most : REMOTE_IN);
    facts_end(&v->facts);
    return err == SP_OK ? dkim_end(&v->in.dkim) : err;
}

/* Nobody writes in another's name; and what no server could read in one way alone is not sent. */
static bool may_be_sent(struct delivery *d, struct dialog_verdict *why)
{
    const struct dkim_facts *f = &d->mail;
    char from[FROM_MAX], sender[FROM_MAX];
    if (f->bare || f->nul || f->malformed) {
        delivery_verdict(why, DIALOG_FAILED, 554, "5.6.0", "The message is malformed: %s",
                         f->malformed ? "its header has a line that is no field"
                         : f->nul     ? "it holds a NUL octet"
                                      : "its lines do not end with CRLF");
        return false;
    }
    if (d->vault->facts.received >= FACTS_RECEIVED) {
        delivery_verdict(why, DIALOG_FAILED, 554, "5.4.6", "The message was received too often");
        return false;
    }
    if (dkim_from(&d->vault->in.dkim, from) != SP_OK) {
        delivery_verdict(why, DIALOG_FAILED, 550, "5.7.1",
                         "The message needs one From field with one address");
        return false;
    }
    if (!job_owns(&d->job, from)) {
        delivery_verdict(why, DIALOG_FAILED, 550, "5.7.1",
                         "The address in From is not one of the sender's own");
        return false;
    }
    enum sp_err err = dkim_sender(&d->vault->in.dkim, sender);
    if (err != SP_ERR_NOT_FOUND && (err != SP_OK || !job_owns(&d->job, sender))) {
        delivery_verdict(why, DIALOG_FAILED, 550, "5.7.1",
                         "The address in Sender is not one of the sender's own");
        return false;
    }
    if (domain_to_ascii(strrchr(from, '@') + 1, d->from_domain) != SP_OK)
        d->from_domain[0] = '\0'; /* no signature can name it */
    return true;
}

/* --- fields in front --- */

/* From a client to us: neither its address nor its name goes out. */
static void add_received(struct delivery *d)
{
    char id[2 * ID_SIZE + 1], date[DATE_MAX];
    for (size_t i = 0; i < ID_SIZE; i++)
        snprintf(id + 2 * i, 3, "%02x", d->job.message_id[i]);
    date_mail(d->job.queued_ms / 1000, date, sizeof(date));
    d->front_len = (size_t)snprintf(d->front, sizeof(d->front),
                                    "Received: by %s with HTTPS\r\n\tid %s;\r\n\t%s\r\n",
                                    d->config->hostname, id, date);
}

/* Asks for a signature over either hash; *algorithm says which one it is of. */
static enum sp_err sign(uint8_t key, const uint8_t hashes[2 * DKIM_HASH], uint8_t *algorithm,
                        uint8_t *signature, size_t cap, size_t *len)
{
    uint8_t frame[IPC_HEADER + 1 + 2 * DKIM_HASH], reply[IPC_HEADER + 1024];
    struct wire_out body = wire_out(frame + IPC_HEADER, sizeof(frame) - IPC_HEADER);
    struct wire_in in;
    wire_put_u8(&body, key);
    wire_put_bytes(&body, hashes, 2 * DKIM_HASH);
    enum sp_err err = edge_ask(DELIVERY_KEEPER, KD_DKIM, frame, &body, reply, sizeof(reply), &in);
    if (err != SP_OK)
        return err;
    *algorithm = wire_get_u8(&in);
    const uint8_t *made = wire_get_b16(&in, cap, len);
    if (!wire_in_done(&in) || (*algorithm != DKIM_RSA_SHA256 && *algorithm != DKIM_ED25519_SHA256))
        return SP_ERR_PEER;
    memcpy(signature, made, *len);
    return SP_OK;
}

static enum sp_err add_signature(struct delivery *d, uint8_t number)
{
    const struct dkim *k = &d->vault->in.dkim;
    struct dkim_key key = {.algorithm = DKIM_RSA_SHA256,
                           .selector = d->config->dkim_selector.item[number],
                           .domain = d->from_domain,
                           .time_s = date_now_ms() / 1000};
    uint8_t hashes[2 * DKIM_HASH], signature[1024], algorithm = 0;
    size_t len = 0, n = 0;
    enum sp_err err = dkim_hash(k, &key, hashes);
    key.algorithm = DKIM_ED25519_SHA256;
    if (err == SP_OK)
        err = dkim_hash(k, &key, hashes + DKIM_HASH);
    if (err == SP_ERR_LIMIT || err == SP_ERR_FORMAT)
        return SP_OK; /* goes unsigned: too many fields, or a domain that no field can name */
    if (err == SP_OK)
        err = sign(number, hashes, &algorithm, signature, sizeof(signature), &len);
    key.algorithm = (enum dkim_algorithm)algorithm;
    if (err == SP_OK)
        err = dkim_field(k, &key, signature, len, d->front + d->front_len,
                         sizeof(d->front) - d->front_len, &n);
    d->front_len += n;
    return err;
}

enum sp_err opening_inspect(struct delivery *d, struct dialog_verdict *why)
{
    struct dkim *k = &d->vault->in.dkim;
    enum sp_err err = read_all(d);
    d->mail = k->facts;
    if (is_final(err)) {
        d->opened = false;
        delivery_verdict(why, DIALOG_FAILED, 0, "5.6.0", "The message is damaged: %s",
                         sp_err_text(err));
        err = SP_OK;
    } else if (err == SP_OK && may_be_sent(d, why)) {
        add_received(d);
        for (size_t i = 0; err == SP_OK && i < d->config->dkim_selector.count; i++)
            err = add_signature(d, (uint8_t)i);
    }
    dkim_free(k);
    return err;
}
