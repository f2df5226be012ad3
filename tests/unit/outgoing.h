#ifndef SEALPOST_TEST_OUTGOING_H
#define SEALPOST_TEST_OUTGOING_H
/*
 * For tests of a delivery: a mail as a client seals it, and the store, keeper and resolver that a
 * delivery talks to, played by the test itself on socket pairs. Everything is as in the tree but
 * who sits at the other end.
 */
#include "daemon/ipc.h"
#include "daemon/messages.h"
#include "envelope/cake.h"
#include "envelope/envelope.h"
#include "envelope/keys.h"
#include "envelope/manifest.h"
#include "envelope/order.h"
#include "storage/store.h"

#include <poll.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAIL_PIECES 8

/* What the sender wrote, cut; and sealed. */
struct mail {
    const char *added;
    size_t n;
    uint8_t *plain[MAIL_PIECES];
    size_t len[MAIL_PIECES];
    uint64_t splice_at[MAIL_PIECES];

    bool sealed_twice; /* each opens, but is not what the manifest's hash is of */
    uint8_t *sealed[MAIL_PIECES];
    size_t sealed_len[MAIL_PIECES];
    uint8_t message_id[ID_SIZE], recipient_id[ID_SIZE], relay_sk[KEY_SIZE];
    uint8_t sign_sk[64], digest[HASH_SIZE]; /* of the sender's device; of the relay's box */
    uint8_t letter[70000];                  /* b32 envelope, b32 box */
    size_t letter_len;
    uint8_t *whole; /* as it must arrive, less what the appliance puts in front */
    size_t whole_len;
};

/* Bytes of some text, CRLF after every 70 of them, no two lines alike. */
static inline size_t mail_lines(uint8_t *out, size_t len, const char *tag)
{
    size_t at = 0;
    for (unsigned line = 0; at + 80 < len; line++)
        at += (size_t)snprintf((char *)out + at, len - at, "%s line %08u %.40s\r\n", tag, line,
                               ".the quick brown fox jumps over the lazy dog");
    while (at + 2 < len)
        out[at++] = 'x';
    if (at + 2 == len)
        memcpy(out + at, "\r\n", 2);
    return len;
}

static inline void mail_piece(struct mail *m, const void *bytes, size_t len, uint64_t splice_at)
{
    m->plain[m->n] = malloc(len + 1);
    memcpy(m->plain[m->n], bytes, len);
    m->len[m->n] = len;
    m->splice_at[m->n++] = splice_at;
}

static inline void mail_join(struct mail *m)
{
    size_t total = strlen(m->added), at = 0, body = 0, next = 1;
    for (size_t i = 0; i < m->n; i++)
        total += m->len[i];
    m->whole = malloc(total + 1);
    memcpy(m->whole, m->added, strlen(m->added));
    at = strlen(m->added);
    for (;;) {
        size_t until = next < m->n ? (size_t)m->splice_at[next] : m->len[0];
        memcpy(m->whole + at, m->plain[0] + body, until - body);
        at += until - body;
        body = until;
        if (next == m->n)
            break;
        memcpy(m->whole + at, m->plain[next], m->len[next]);
        at += m->len[next++];
    }
    m->whole_len = at;
}

/* Envelope, relay box, pieces: as a client makes them. */
static inline void mail_seal(struct mail *m)
{
    static uint8_t plain[100000], sealed_manifest[110000];
    struct piece piece[MAIL_PIECES] = {0};
    struct envelope e = {.suite = ENVELOPE_SUITE_X25519, .from_user = true};
    struct box b = {.kind = BOX_RELAY};
    uint8_t shared[KEY_SIZE], ephemeral[KEY_SIZE], hash[HASH_SIZE];
    uint8_t box_sealed[BOX_MAX_SEALED], envelope[69000], box[BOX_MAX];
    size_t n, envelope_len, box_len;
    bool ok = true;
    if (m->added == NULL)
        m->added = "";
    mail_join(m);
    for (size_t i = 0; i < m->n; i++) {
        piece[i] = (struct piece){.kind = i > 0, .length = m->len[i], .splice_at = m->splice_at[i]};
        randombytes_buf(piece[i].key, KEY_SIZE);
        piece[i].media_type = i > 0 ? "application/pdf" : "message/rfc822";
        piece[i].media_len = strlen(piece[i].media_type);
        m->sealed_len[i] = (size_t)cake_sealed_length(m->len[i]);
        m->sealed[i] = malloc(m->sealed_len[i]);
        ok = ok && cake_seal(piece[i].key, NULL, m->plain[i], m->len[i], m->sealed[i]) == SP_OK &&
             keys_sha256(m->sealed[i], m->sealed_len[i], piece[i].hash) == SP_OK &&
             (!m->sealed_twice ||
              cake_seal(piece[i].key, NULL, m->plain[i], m->len[i], m->sealed[i]) == SP_OK);
        e.piece_length[i] = m->sealed_len[i];
    }
    struct manifest manifest = {.flags = MANIFEST_SERVER_ACCESS,
                                .n_pieces = (uint32_t)m->n,
                                .pieces = piece,
                                .added = (const uint8_t *)m->added,
                                .added_len = strlen(m->added)};
    ok = ok && manifest_encode(&manifest, plain, sizeof(plain), &n) == SP_OK;
    randombytes_buf(shared, sizeof(shared));
    ok = ok && cake_seal(shared, NULL, plain, n, sealed_manifest) == SP_OK;
    e.manifest = sealed_manifest;
    e.manifest_len = (size_t)cake_sealed_length(n);
    e.n_pieces = (uint32_t)m->n;
    keys_uuid7(1700000000000, m->message_id);
    memcpy(e.message_id, m->message_id, ID_SIZE);
    randombytes_buf(e.sender_user_id, ID_SIZE);
    crypto_sign_keypair(e.sender_sign_pk, m->sign_sk);
    randombytes_buf(ephemeral, sizeof(ephemeral));
    randombytes_buf(m->relay_sk, sizeof(m->relay_sk));
    randombytes_buf(m->recipient_id, ID_SIZE);
    memcpy(b.recipient_id, m->recipient_id, ID_SIZE);
    ok = ok && keys_x25519_public(ephemeral, e.ephemeral_pk) == SP_OK &&
         keys_x25519_public(m->relay_sk, b.recipient_pk) == SP_OK &&
         envelope_manifest_hash(&e, hash) == SP_OK &&
         box_seal(&e, hash, &b, ephemeral, shared, m->sign_sk, NULL, box_sealed) == SP_OK &&
         box_digest(&e, hash, &b, m->digest) == SP_OK &&
         envelope_encode(&e, envelope, sizeof(envelope), &envelope_len) == SP_OK &&
         box_encode(&b, box, sizeof(box), &box_len) == SP_OK;
    if (!ok)
        abort();
    struct wire_out out = wire_out(m->letter, sizeof(m->letter));
    wire_put_b32(&out, envelope, envelope_len);
    wire_put_b32(&out, box, box_len);
    m->letter_len = out.len;
}

/* The plaintext that a forked process has inherited. */
static inline void mail_forget(struct mail *m)
{
    for (size_t i = 0; i < m->n; i++)
        memset(m->plain[i], 0, m->len[i]);
    memset(m->whole, 0, m->whole_len);
}

static inline void mail_free(struct mail *m)
{
    if (m->whole != NULL)
        mail_forget(m);
    for (size_t i = 0; i < m->n; i++) {
        free(m->plain[i]);
        free(m->sealed[i]);
    }
    free(m->whole);
    memset(m, 0, sizeof(*m));
}

/* --- the peers --- */

#define PEER_RCPTS 300

struct told {
    uint8_t state;
    unsigned code;
    char enhanced[16], text[512], host[256];
    uint8_t tls;
    unsigned times;
};

struct peers {
    int store, keeper, resolver; /* our ends */
    struct mail *mail;
    uint8_t kind;
    const char *from, *destination, *own[4], *to[PEER_RCPTS];
    size_t n_to;
    /* What the sender has signed instead of from and to; a link's password, subject, end. */
    const char *signed_from, *signed_to;
    uint8_t report_pk[KEY_SIZE], link_password[KEY_SIZE], link_digest[HASH_SIZE];
    const char *subject;
    uint64_t expires_ms;
    bool rotated;                   /* the order has another key for reports */
    void (*forge)(struct order *o); /* changes what is signed */
    uint64_t give_up_ms;
    uint8_t puk_sk[KEY_SIZE], user_id[ID_SIZE];
    /* The keeper's: an Ed25519 key, "user:password". */
    bool dkim_fails;
    enum sp_err key_refused; /* the answer to KD_OPEN and KD_PASSWORD, if not SP_OK */
    uint8_t dkim_pk[32], dkim_sk[64];
    const char *user, *password;
    /* The resolver's answer to RD_MX, and to RD_ADDRESS of each host: "" for an address of nobody.
     */
    uint8_t mx_result, address_result;
    size_t n_mx;
    struct {
        uint16_t preference;
        const char *host;
        uint8_t address[4];
    } mx[4];
    /* What a test may spoil. */
    void (*on_piece)(struct peers *p, unsigned count);
    unsigned pieces_asked;
    unsigned full;  /* so many results find no room */
    int wrong_part; /* 1: a part is a byte too short; 2: its piece's length is another; 3: refused
                     */

    /* What came. */
    struct told told[PEER_RCPTS];
    unsigned results;
    uint8_t *report;
    size_t report_len, n_report_bytes;
    uint8_t report_letter[70000];
    size_t report_letter_len;
    bool opened;
    unsigned signatures, lookups;
};

static inline void peer_reply(int fd, uint16_t type, const struct wire_out *out)
{
    if (!wire_out_ok(out) ||
        ipc_send_fd(fd, (uint16_t)(type | 0x80), 0, out->at, out->len, -1) != SP_OK)
        fprintf(stderr, "a reply could not be sent\n");
}

static inline void peer_status(int fd, uint16_t type, enum sp_err status)
{
    uint8_t buf[1] = {(uint8_t)status};
    struct wire_out out = {.at = buf, .len = 1, .cap = 1};
    peer_reply(fd, type, &out);
}

/* As the sender's client makes it, for the i-th recipient. */
static inline void put_order(struct peers *p, struct wire_out *out, size_t i)
{
    const char *from = p->signed_from != NULL ? p->signed_from : p->from;
    const char *to = p->signed_to != NULL ? p->signed_to : p->to[i];
    const char *subject = p->subject != NULL ? p->subject : "";
    uint8_t order[SIGN_SIZE] = {0};
    struct order o = {.mail_from = {from, strlen(from)},
                      .address = {to, strlen(to)},
                      .subject = {subject, strlen(subject)},
                      .expiry = p->expires_ms / 1000};
    bool link = p->kind == BOX_PASSWORD;
    memcpy(o.digest, link ? p->link_digest : p->mail->digest, HASH_SIZE);
    memcpy(o.report_pk, p->report_pk, KEY_SIZE);
    memcpy(o.link_id, p->mail->recipient_id, ID_SIZE);
    if (p->forge != NULL)
        p->forge(&o);
    if (p->kind == 0) {
        wire_put_u16(out, 0);
        return;
    }
    if ((link ? order_mac(p->link_password, &o, order) : order_sign(p->mail->sign_sk, &o, order)) !=
        SP_OK)
        abort();
    wire_put_b16(out, order, link ? HASH_SIZE : SIGN_SIZE);
}

/* Whether a short mail comes along with its job, as from the store, or is asked for, as a long one.
 */
static bool peer_brings;

static inline void bring_mail(const struct peers *p, struct wire_out *out)
{
    const struct mail *m = p->mail;
    size_t len = m->sealed_len[0] + (p->wrong_part == 2) - (p->wrong_part == 1);
    if (!peer_brings || p->kind != BOX_RELAY || p->wrong_part == 3 || p->on_piece != NULL ||
        m->n == 0 || m->letter_len + len + 8 > out->cap - out->len)
        return;
    wire_put_b32(out, m->letter, m->letter_len);
    wire_put_u32(out, (uint32_t)len);
    wire_put_bytes(out, m->sealed[0], m->sealed_len[0] - (p->wrong_part == 1));
    if (p->wrong_part == 2)
        wire_put_u8(out, 0);
}

static inline void store_job(struct peers *p, struct wire_out *out)
{
    uint8_t puk[KEY_SIZE];
    uint16_t own = 0;
    if (keys_x25519_public(p->puk_sk, puk) != SP_OK)
        abort();
    wire_put_u8(out, SP_OK);
    wire_put_u8(out, p->kind);
    wire_put_bytes(out, p->mail->message_id, ID_SIZE);
    wire_put_bytes(out, p->mail->recipient_id, ID_SIZE);
    wire_put_u64(out, 1700000000000);
    wire_put_u64(out, p->give_up_ms);
    wire_put_u32(out, 1);
    wire_put_str(out, p->from);
    wire_put_str(out, p->destination);
    wire_put_bytes(out, p->user_id, ID_SIZE);
    wire_put_u32(out, 3);
    wire_put_bytes(out, puk, KEY_SIZE);
    memcpy(p->report_pk, puk, KEY_SIZE);
    p->report_pk[0] ^= p->rotated;
    wire_put_bytes(out, p->report_pk, KEY_SIZE);
    wire_put_u64(out, p->expires_ms);
    wire_put_str(out, p->subject != NULL ? p->subject : "");
    if (p->kind == BOX_PASSWORD)
        wire_put_bytes(out, p->link_digest, HASH_SIZE);
    while (own < 4 && p->own[own] != NULL)
        own++;
    wire_put_u16(out, own);
    for (uint16_t i = 0; i < own; i++)
        wire_put_str(out, p->own[i]);
    wire_put_u16(out, (uint16_t)p->n_to);
    for (uint16_t i = 0; i < p->n_to; i++) {
        wire_put_u16(out, (uint16_t)(7 + i));
        wire_put_str(out, p->to[i]);
        put_order(p, out, i);
    }
    bring_mail(p, out);
}

static inline void store_piece(struct peers *p, struct wire_in *in, struct wire_out *out)
{
    uint16_t piece = wire_get_u16(in);
    uint64_t offset = wire_get_u64(in);
    uint32_t bytes = wire_get_u32(in);
    if (p->on_piece != NULL)
        p->on_piece(p, p->pieces_asked);
    p->pieces_asked++;
    if (p->wrong_part == 3 || piece >= p->mail->n || offset + bytes > p->mail->sealed_len[piece]) {
        wire_put_u8(out, SP_ERR_LIMIT);
        return;
    }
    wire_put_u8(out, SP_OK);
    wire_put_u64(out, p->mail->sealed_len[piece] + (p->wrong_part == 2));
    wire_put_b32(out, p->mail->sealed[piece] + offset, bytes - (p->wrong_part == 1));
}

static inline void store_result(struct peers *p, struct wire_in *in)
{
    char host[256] = "";
    size_t len;
    const uint8_t *h = wire_get_b16(in, 255, &len);
    if (h != NULL)
        memcpy(host, h, len);
    uint8_t tls = wire_get_u8(in);
    uint16_t n = wire_get_u16(in);
    p->results++;
    for (uint16_t i = 0; i < n && !in->bad; i++) {
        size_t at = (size_t)wire_get_u16(in) - 7;
        struct told *t = &p->told[at < PEER_RCPTS ? at : 0];
        t->state = wire_get_u8(in);
        t->code = wire_get_u16(in);
        const uint8_t *enhanced = wire_get_b16(in, 15, &len);
        if (enhanced != NULL)
            memcpy(t->enhanced, enhanced, len);
        const uint8_t *text = wire_get_b16(in, 500, &len);
        if (text != NULL)
            memcpy(t->text, text, len);
        memcpy(t->host, host, sizeof(host));
        t->tls = tls;
        t->times++;
    }
    if (!wire_in_done(in))
        fprintf(stderr, "a malformed result\n");
}

static inline void peer_store(struct peers *p, struct ipc_frame *f)
{
    static uint8_t buf[IPC_MAX_PAYLOAD];
    struct wire_out out = wire_out(buf, sizeof(buf));
    uint32_t offset;
    switch (f->type) {
    case SD_JOB:
        store_job(p, &out);
        break;
    case SD_ENVELOPE: /* in two parts, if it is not short */
        offset = wire_get_u32(&f->body);
        wire_put_u8(&out, SP_OK);
        wire_put_u32(&out, (uint32_t)p->mail->letter_len);
        size_t left = p->mail->letter_len - offset;
        wire_put_bytes(&out, p->mail->letter + offset, offset == 0 && left > 300 ? 300 : left);
        break;
    case SD_PIECE:
        store_piece(p, &f->body, &out);
        break;
    case SD_REPORT_BYTES:
        p->report = realloc(p->report, p->report_len + f->body.left);
        memcpy(p->report + p->report_len, f->body.at, f->body.left);
        p->report_len += f->body.left;
        wire_put_u8(&out, SP_OK);
        break;
    case SD_REPORT:
        p->report_letter_len = f->body.left;
        memcpy(p->report_letter, f->body.at, f->body.left);
        wire_put_u8(&out, SP_OK);
        break;
    case SD_RESULT:
        if (p->full > 0) {
            p->full--;
            wire_put_u8(&out, SP_ERR_NO_SPACE);
            break;
        }
        store_result(p, &f->body);
        wire_put_u8(&out, SP_OK);
        break;
    default:
        fprintf(stderr, "the store got %x\n", f->type);
        return;
    }
    peer_reply(p->store, f->type, &out);
}

/* Opens the box with what the delivery sent, as the keeper does. */
static inline enum sp_err keeper_open(struct peers *p, struct wire_in *in, uint8_t shared[KEY_SIZE])
{
    struct envelope e = {.from_user = true};
    struct box b;
    uint8_t hash[HASH_SIZE];
    size_t n;
    e.suite = wire_get_u8(in);
    wire_get_copy(in, e.message_id, ID_SIZE);
    const uint8_t *user = wire_get_b16(in, ID_SIZE, &n);
    const uint8_t *sign = wire_get_b16(in, KEY_SIZE, &n);
    wire_get_copy(in, e.ephemeral_pk, KEY_SIZE);
    wire_get_copy(in, e.bcc_commitment, HASH_SIZE);
    wire_get_copy(in, hash, HASH_SIZE);
    const uint8_t *box = wire_get_b32(in, BOX_MAX, &n);
    if (!wire_in_done(in) || box_decode(box, n, &b) != SP_OK)
        return SP_ERR_FORMAT;
    memcpy(e.sender_user_id, user, ID_SIZE);
    memcpy(e.sender_sign_pk, sign, KEY_SIZE);
    return box_open(&e, hash, &b, p->mail->relay_sk, shared);
}

static inline void peer_keeper(struct peers *p, struct ipc_frame *f)
{
    uint8_t buf[1024], shared[KEY_SIZE], signature[64];
    struct wire_out out = wire_out(buf, sizeof(buf));
    enum sp_err err;
    if (f->type == KD_OPEN) {
        err = p->key_refused != SP_OK ? p->key_refused : keeper_open(p, &f->body, shared);
        p->opened = err == SP_OK;
        wire_put_u8(&out, (uint8_t)err);
        if (err == SP_OK) {
            wire_put_bytes(&out, shared, KEY_SIZE);
            wire_put_u8(&out, p->user != NULL);
        }
    } else if (f->type == KD_PASSWORD) {
        wire_put_u8(&out, (uint8_t)p->key_refused);
        if (p->key_refused == SP_OK) {
            wire_put_bytes(&out, p->link_password, KEY_SIZE);
            wire_put_u8(&out, p->user != NULL);
        }
    } else if (f->type == KD_DKIM) {
        p->signatures++;
        crypto_sign_detached(signature, NULL, f->body.at + 33, 32, p->dkim_sk);
        wire_put_u8(&out, p->dkim_fails ? SP_ERR_NO_KEY : SP_OK);
        if (!p->dkim_fails) {
            wire_put_u8(&out, 2);
            wire_put_b16(&out, signature, 64);
        }
    } else if (f->type == KD_AUTH) {
        wire_put_u8(&out, p->user != NULL ? SP_OK : SP_ERR_NOT_FOUND);
        if (p->user != NULL) {
            wire_put_str(&out, p->user);
            wire_put_str(&out, p->password);
        }
    } else {
        fprintf(stderr, "the keeper got %x\n", f->type);
        return;
    }
    peer_reply(p->keeper, f->type, &out);
}

static inline void peer_resolver(struct peers *p, struct ipc_frame *f)
{
    uint8_t buf[2048];
    char name[256] = "";
    size_t len;
    struct wire_out out = wire_out(buf, sizeof(buf));
    const uint8_t *asked = wire_get_b16(&f->body, 255, &len);
    if (asked != NULL)
        memcpy(name, asked, len);
    p->lookups++;
    if (f->type == RD_MX) {
        wire_put_u8(&out, p->mx_result);
        wire_put_u8(&out, 0);
        wire_put_u16(&out, (uint16_t)p->n_mx);
        for (size_t i = 0; i < p->n_mx; i++) {
            wire_put_u16(&out, p->mx[i].preference);
            wire_put_str(&out, p->mx[i].host);
        }
    } else {
        const uint8_t *found = NULL;
        for (size_t i = 0; i < 4; i++)
            if (p->mx[i].host != NULL && strcmp(p->mx[i].host, name) == 0)
                found = p->mx[i].address;
        wire_put_u8(&out, found != NULL ? 0 : p->address_result);
        wire_put_u8(&out, 0);
        wire_put_u16(&out, found != NULL);
        if (found != NULL)
            wire_put_b16(&out, found, 4);
    }
    peer_reply(p->resolver, f->type, &out);
}

/* Serves until all three channels are closed. */
static inline void peers_serve(struct peers *p)
{
    static uint8_t buf[IPC_HEADER + IPC_MAX_PAYLOAD];
    struct pollfd fds[3] = {{.fd = p->store, .events = POLLIN},
                            {.fd = p->keeper, .events = POLLIN},
                            {.fd = p->resolver, .events = POLLIN}};
    void (*const serve[])(struct peers *, struct ipc_frame *) = {peer_store, peer_keeper,
                                                                 peer_resolver};
    int open = 3;
    while (open > 0 && poll(fds, 3, -1) > 0)
        for (int i = 0; i < 3; i++) {
            struct ipc_frame f;
            if (fds[i].fd < 0 || fds[i].revents == 0)
                continue;
            if (ipc_recv(fds[i].fd, buf, sizeof(buf), &f) == SP_OK) {
                serve[i](p, &f);
            } else {
                close(fds[i].fd);
                fds[i].fd = -1;
                open--;
            }
        }
}

#endif
