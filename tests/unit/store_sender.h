#ifndef SEALPOST_TESTS_STORE_SENDER_H
#define SEALPOST_TESTS_STORE_SENDER_H
/* On top of store_tree.h: a client that uploads and sends, the keeper, the relay, deliveries. */
#include "envelope/order.h"
#include "storage/store.h"
#include "tests/unit/store_tree.h"

#define PLAIN    3000u /* bytes of the one piece, before sealing */
#define SENT     "a sent copy, ciphertext of the sender's own: sixty bytes at least"
#define FORM_CAP 65536u
#define WRAPPED  80u

static const uint8_t keeper_pk[KEY_SIZE] = {0x6b};

/* What a form says; zero means what an honest client writes. */
struct letter {
    uint8_t mark; /* of its message_id */
    const struct client *from, *to[4];
    const char *outside[6];
    const char *mail_from;
    uint32_t generation; /* of the users' boxes */
    const uint8_t *puk;  /* instead of theirs */
    bool other_device, twice, two_relays, no_self, link, bad_uuid, long_piece;
    uint64_t expiry;                /* of the link */
    const struct letter *signed_as; /* the form that the device has signed, if it was another */
    bool other_upload;              /* it was signed for another upload */
};

static inline void letter_id(const struct letter *l, uint8_t id[ID_SIZE])
{
    memset(id, l->mark, ID_SIZE);
    id[6] = l->bad_uuid ? 0x40 : 0x70;
    id[8] = 0x80;
}

static inline uint64_t piece_bytes(void)
{
    return cake_sealed_length(PLAIN);
}

static inline void put_box(struct wire_out *out, const struct box *b)
{
    uint8_t buf[BOX_MAX];
    size_t len;
    assert_int_equal(box_encode(b, buf, sizeof(buf), &len), SP_OK);
    wire_put_b32(out, buf, len);
}

static inline void put_user(struct wire_out *out, const struct letter *l, const struct client *to)
{
    uint8_t sealed[136] = {0};
    struct box b = {.kind = BOX_USER,
                    .puk_generation = l->generation != 0 ? l->generation : 1,
                    .sealed = sealed,
                    .sealed_len = sizeof(sealed)};
    memcpy(b.recipient_id, to->user_id, ID_SIZE);
    memcpy(b.recipient_pk, l->puk != NULL ? l->puk : to->chain.puk_pk, KEY_SIZE);
    put_box(out, &b);
}

static inline void put_relay(struct wire_out *out, const struct letter *l)
{
    uint8_t sealed[136] = {0}, secret[KEYS_SECRET_BOX] = {0};
    uint16_t n = 0;
    struct box b = {.kind = BOX_RELAY, .sealed = sealed, .sealed_len = sizeof(sealed)};
    memset(b.recipient_id, l->mark ^ 0xff, ID_SIZE);
    memset(b.recipient_pk, 9, KEY_SIZE);
    put_box(out, &b);
    wire_put_b16(out, secret, sizeof(secret));
    while (n < 6 && l->outside[n] != NULL)
        n++;
    wire_put_u16(out, n);
    for (uint16_t i = 0; i < n; i++) {
        const uint8_t order[SIGN_SIZE] = {(uint8_t)(i + 1)};
        wire_put_str(out, l->outside[i]);
        wire_put_bytes(out, order, sizeof(order));
    }
}

static inline void put_link(struct wire_out *out, const struct letter *l)
{
    uint8_t sealed[BOX_MAX_SEALED] = {0}, secret[KEYS_SECRET_BOX] = {0}, gate[HASH_SIZE] = {0};
    struct box b = {.kind = BOX_PASSWORD,
                    .expiry = l->expiry != 0 ? l->expiry : 4000000000u,
                    .sealed = sealed,
                    .sealed_len = (size_t)cake_sealed_length(96)};
    put_box(out, &b);
    wire_put_b16(out, secret, sizeof(secret));
    wire_put_str(out, "eve@elsewhere.example");
    wire_put_bytes(out, gate, sizeof(gate));
    wire_put_str(out, "A subject");
    wire_put_bytes(out, gate, sizeof(gate)); /* the order is the delivery's to judge */
}

static inline void put_head(struct wire_out *out, const struct letter *l)
{
    uint8_t buf[1024], manifest[200] = {0};
    size_t len;
    struct envelope e = {
        .suite = ENVELOPE_SUITE_X25519,
        .from_user = true,
        .n_pieces = 1,
        .piece_length = {l->long_piece ? cake_sealed_length(PLAIN + 1) : piece_bytes()},
        .manifest = manifest,
        .manifest_len = (size_t)cake_sealed_length(100)};
    letter_id(l, e.message_id);
    memset(e.ephemeral_pk, 9, KEY_SIZE);
    memcpy(e.sender_user_id, l->from->user_id, ID_SIZE);
    memcpy(e.sender_sign_pk, l->from->device.sign_pk, KEY_SIZE);
    if (l->other_device)
        e.sender_sign_pk[3] ^= 1;
    assert_int_equal(envelope_encode(&e, buf, sizeof(buf), &len), SP_OK);
    wire_put_bytes(out, "SPSB\x01", 5);
    wire_put_b32(out, buf, len);
    wire_put_b32(out, SENT, strlen(SENT));
    wire_put_str(out, l->mail_from != NULL ? l->mail_from : l->from->chain.address);
}

/* All but its signature. */
static inline size_t put_form(const struct letter *l, uint8_t buf[FORM_CAP])
{
    struct wire_out out = wire_out(buf, FORM_CAP);
    uint16_t n = l->no_self ? 0 : 1;
    while (l->to[n - (l->no_self ? 0 : 1)] != NULL)
        n++;
    put_head(&out, l);
    wire_put_u16(&out,
                 (uint16_t)(n + l->twice + (l->outside[0] != NULL) + l->two_relays + l->link));
    if (!l->no_self)
        put_user(&out, l, l->from);
    for (size_t i = 0; i < 4 && l->to[i] != NULL; i++)
        put_user(&out, l, l->to[i]);
    if (l->twice)
        put_user(&out, l, l->from);
    if (l->outside[0] != NULL)
        put_relay(&out, l);
    if (l->two_relays)
        put_relay(&out, l);
    if (l->link)
        put_link(&out, l);
    assert_true(wire_out_ok(&out));
    return out.len;
}

static inline size_t make_form(const struct letter *l, const uint8_t upload_id[ID_SIZE],
                               uint8_t buf[FORM_CAP])
{
    static uint8_t other[FORM_CAP];
    uint8_t signature[SIGN_SIZE], id[ID_SIZE];
    size_t len = put_form(l, buf), signed_len = len;
    memcpy(id, upload_id, ID_SIZE);
    id[0] ^= l->other_upload;
    if (l->signed_as != NULL)
        signed_len = put_form(l->signed_as, other);
    assert_int_equal(order_sign_form(l->from->sign_sk, id, l->signed_as != NULL ? other : buf,
                                     signed_len, signature),
                     SP_OK);
    assert_true(len + SIGN_SIZE <= FORM_CAP);
    memcpy(buf + len, signature, SIGN_SIZE);
    return len + SIGN_SIZE;
}

/* --- uploading --- */

static inline enum sp_err begin_upload(struct tree *t, const struct client *c,
                                       const uint64_t *length, uint16_t n, uint8_t id[ID_SIZE])
{
    uint8_t buf[4096];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct wire_in in;
    wire_put_bytes(&out, c->token, TOKEN);
    wire_put_u16(&out, n);
    for (uint16_t i = 0; i < n; i++)
        wire_put_u64(&out, length[i]);
    enum sp_err err = ask(t->web, SW_UPLOAD, &out, &in);
    if (err == SP_OK)
        wire_get_copy(&in, id, ID_SIZE);
    return err;
}

static inline enum sp_err put_part(struct tree *t, const struct client *c,
                                   const uint8_t id[ID_SIZE], uint16_t piece, uint64_t offset,
                                   const void *bytes, size_t len)
{
    static uint8_t buf[IPC_MAX_PAYLOAD];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct wire_in in;
    wire_put_bytes(&out, c->token, TOKEN);
    wire_put_bytes(&out, id, ID_SIZE);
    wire_put_u16(&out, piece);
    wire_put_u64(&out, offset);
    wire_put_bytes(&out, bytes, len);
    return ask(t->web, SW_UPLOAD_PUT, &out, &in);
}

/* A frame of a token, an id and no more; the answer's fields are left in *in. */
static inline enum sp_err ask_about(struct tree *t, const struct client *c, uint16_t type,
                                    const uint8_t id[ID_SIZE], struct wire_in *in)
{
    uint8_t buf[64];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_bytes(&out, c->token, TOKEN);
    wire_put_bytes(&out, id, ID_SIZE);
    return ask(t->web, type, &out, in);
}

/* Uploads the piece and the form. */
static inline void upload(struct tree *t, const struct letter *l, uint8_t id[ID_SIZE])
{
    static uint8_t form[FORM_CAP], piece[2 * PLAIN];
    uint64_t length = piece_bytes();
    memset(piece, l->mark, sizeof(piece));
    assert_int_equal(begin_upload(t, l->from, &length, 1, id), SP_OK);
    assert_int_equal(put_part(t, l->from, id, 0, 0, piece, 1000), SP_OK);
    assert_int_equal(put_part(t, l->from, id, 0, 1000, piece, (size_t)length - 1000), SP_OK);
    size_t len = make_form(l, id, form);
    assert_int_equal(put_part(t, l->from, id, FORM_PIECE, 0, form, 100), SP_OK);
    assert_int_equal(put_part(t, l->from, id, FORM_PIECE, 100, form + 100, len - 100), SP_OK);
}

/* --- the keeper --- */

/* Reads VT_SLOTS; the slots that are named. */
static inline size_t keeper_hears(struct tree *t, uint32_t *slot, size_t max)
{
    struct ipc_frame f = next(t->keeper);
    size_t n = 0;
    assert_int_equal(f.type, VT_SLOTS);
    assert_int_equal(wire_get_u8(&f.body), 0);
    while (f.body.left > 0 && n < max)
        slot[n++] = wire_get_u32(&f.body);
    assert_true(wire_in_done(&f.body));
    return n;
}

static inline void keeper_says(struct tree *t, uint16_t type, uint32_t id, const void *bytes,
                               size_t len)
{
    uint8_t buf[512] = {SP_OK};
    if (len > 0)
        memcpy(buf + 1, bytes, len);
    assert_int_equal(ipc_send_fd(t->keeper, type, id, buf, len + 1, -1), SP_OK);
}

static inline void keeper_ready(struct tree *t)
{
    struct wire_out none = wire_out(NULL, 0);
    struct wire_in in;
    keeper_says(t, VT_SLOTS_REPLY, 0, keeper_pk, KEY_SIZE);
    while (ask(t->web, SW_KEEPER_KEY, &none, &in) != SP_OK)
        usleep(1000); /* the keeper's word is on its way */
}

/* Answers a VT_SECRET, which must come next, with this slot. */
static inline void keeper_wraps(struct tree *t, const struct letter *l, uint32_t slot)
{
    uint8_t buf[256], id[ID_SIZE], wrapped[WRAPPED];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct ipc_frame f = next(t->keeper);
    letter_id(l, id);
    memset(wrapped, (int)slot, sizeof(wrapped));
    assert_int_equal(f.type, VT_SECRET);
    assert_memory_equal(wire_get_bytes(&f.body, ID_SIZE), id, ID_SIZE);
    assert_int_equal(wire_get_u8(&f.body), BOX_RELAY);
    wire_put_u32(&out, slot);
    wire_put_b16(&out, wrapped, sizeof(wrapped));
    keeper_says(t, VT_SECRET_REPLY, f.id, buf, out.len);
}

/* A VT_ERASE must come next; its id. */
static inline uint32_t keeper_erases(struct tree *t, uint32_t slot)
{
    struct ipc_frame f = next(t->keeper);
    while (f.type == VT_LEASE_END)
        f = next(t->keeper);
    assert_int_equal(f.type, VT_ERASE);
    assert_int_equal(wire_get_u32(&f.body), slot);
    return f.id;
}

/* --- sending --- */

static inline void send_frame(struct tree *t, const struct client *c, const uint8_t id[ID_SIZE])
{
    uint8_t buf[64];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_bytes(&out, c->token, TOKEN);
    wire_put_bytes(&out, id, ID_SIZE);
    assert_int_equal(ipc_send_fd(t->web, SW_SEND, 7, buf, out.len, -1), SP_OK);
}

static inline enum sp_err send_status(struct tree *t)
{
    struct ipc_frame f = next(t->web);
    assert_int_equal(f.type, SW_SEND_REPLY);
    return wire_get_u8(&f.body);
}

/* Uploads and sends to users alone. */
static inline enum sp_err send_letter(struct tree *t, const struct letter *l)
{
    uint8_t id[ID_SIZE];
    upload(t, l, id);
    send_frame(t, l->from, id);
    return send_status(t);
}

/* Uploads and sends to the outside; audit events of the sending are read. */
static inline void send_outside(struct tree *t, const struct letter *l, uint32_t slot,
                                unsigned jobs)
{
    uint8_t id[ID_SIZE];
    upload(t, l, id);
    send_frame(t, l->from, id);
    keeper_wraps(t, l, slot);
    assert_int_equal(send_status(t), SP_OK);
    expect_event(t, AUDIT_SENT);
    while (jobs-- > 0)
        expect_event(t, AUDIT_RELAY_QUEUED);
}

/* --- relay and deliveries --- */

struct lent {
    uint64_t lease;
    int channel;
    uint8_t kind;
    uint32_t attempt;
    uint8_t message_id[ID_SIZE], puk_pk[KEY_SIZE], report_pk[KEY_SIZE];
    char destination[256], why[256];
    bool brought; /* the mail came along */
    uint16_t n_own, n, index[100];
    uint8_t order[100]; /* first byte of each */
};

static inline void want(struct tree *t, uint32_t n)
{
    uint8_t buf[4];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u32(&out, n);
    t->wanted = n;
    assert_int_equal(ipc_send_fd(t->relay, SR_WANT, 0, buf, 4, -1), SP_OK);
}

/* The next lease, as keeper and relay hear of it. */
static inline uint64_t take_lease(struct tree *t)
{
    struct ipc_frame f = next(t->keeper);
    while (f.type == VT_LEASE_END)
        f = next(t->keeper);
    assert_int_equal(f.type, VT_LEASE);
    uint64_t lease = wire_get_u64(&f.body);
    f = next(t->relay);
    assert_int_equal(f.type, SR_JOB);
    assert_int_equal(wire_get_u64(&f.body), lease);
    t->wanted--;
    return lease;
}

static inline int open_channel(struct tree *t, uint64_t lease)
{
    uint8_t buf[12];
    int pair[2];
    struct wire_out out = wire_out(buf, sizeof(buf));
    assert_int_equal(ipc_pair(pair), SP_OK);
    wire_put_u32(&out, (uint32_t)lease);
    wire_put_u64(&out, lease);
    assert_int_equal(ipc_send_fd(t->relay, RP_DELIVERY, 0, buf, out.len, pair[1]), SP_OK);
    close(pair[1]);
    return pair[0];
}

static inline void get_string(struct wire_in *in, char out[256])
{
    size_t len;
    const uint8_t *at = wire_get_b16(in, 255, &len);
    assert_non_null(at);
    memcpy(out, at, len);
    out[len] = '\0';
}

/* What comes along with a job is what would be answered if it were asked for. */
static inline void expect_same(int channel, const uint8_t *bytes, size_t len, size_t skip,
                               uint16_t type, const struct wire_out *question)
{
    struct wire_in in;
    assert_int_equal(ask(channel, type, question, &in), SP_OK);
    assert_non_null(wire_get_bytes(&in, skip));
    assert_int_equal(in.left, len);
    assert_memory_equal(in.at, bytes, len);
}

static inline bool check_brought(int channel, struct wire_in *in)
{
    static uint8_t letter[IPC_MAX_PAYLOAD], piece[IPC_MAX_PAYLOAD];
    uint8_t buf[16];
    size_t letter_len, piece_len;
    const uint8_t *at = wire_get_b32(in, in->left, &letter_len);
    memcpy(letter, at, letter_len);
    at = wire_get_b32(in, in->left, &piece_len);
    memcpy(piece, at, piece_len);
    bool done = wire_in_done(in);
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u32(&out, 0);
    expect_same(channel, letter, letter_len, 4, SD_ENVELOPE, &out);
    out = wire_out(buf, sizeof(buf));
    wire_put_u16(&out, 0);
    wire_put_u64(&out, 0);
    wire_put_u32(&out, PART_MAX);
    expect_same(channel, piece, piece_len, 8 + 4, SD_PIECE, &out);
    return done;
}

static inline void ask_job(struct lent *d)
{
    struct wire_in in;
    struct wire_out none = wire_out(NULL, 0);
    char text[256];
    assert_int_equal(ask(d->channel, SD_JOB, &none, &in), SP_OK);
    d->kind = wire_get_u8(&in);
    wire_get_copy(&in, d->message_id, ID_SIZE);
    wire_get_bytes(&in, ID_SIZE + 8 + 8);
    d->attempt = wire_get_u32(&in);
    get_string(&in, text);
    get_string(&in, d->destination);
    wire_get_bytes(&in, ID_SIZE + 4);
    wire_get_copy(&in, d->puk_pk, KEY_SIZE);
    wire_get_copy(&in, d->report_pk, KEY_SIZE);
    wire_get_bytes(&in, 8);
    get_string(&in, d->why);
    d->n_own = wire_get_u16(&in);
    for (uint16_t n = d->n_own; n > 0; n--)
        get_string(&in, text);
    d->n = wire_get_u16(&in);
    for (uint16_t i = 0; i < d->n; i++) {
        d->index[i] = wire_get_u16(&in);
        get_string(&in, text);
        size_t len;
        const uint8_t *order = wire_get_b16(&in, SIGN_SIZE, &len);
        d->order[i] = len > 0 ? order[0] : 0;
    }
    d->brought = in.left > 0;
    assert_true(d->brought ? check_brought(d->channel, &in) : wire_in_done(&in));
}

/* Takes a lease and asks for its job. */
static inline void deliver(struct tree *t, struct lent *d)
{
    memset(d, 0, sizeof(*d));
    d->lease = take_lease(t);
    d->channel = open_channel(t, d->lease);
    ask_job(d);
}

static inline void put_result(struct wire_out *out, const struct lent *d, uint8_t state,
                              uint16_t code)
{
    wire_put_str(out, code != 0 ? "mx.elsewhere.example" : "");
    wire_put_u8(out, 1);
    wire_put_u16(out, d->n);
    for (uint16_t i = 0; i < d->n; i++) {
        wire_put_u16(out, d->index[i]);
        wire_put_u8(out, state);
        wire_put_u16(out, code);
        wire_put_str(out, "2.0.0");
        wire_put_str(out, "an answer");
    }
}

/* One outcome for all. */
static inline enum sp_err result(struct lent *d, uint8_t state, uint16_t code)
{
    uint8_t buf[8192];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct wire_in in;
    put_result(&out, d, state, code);
    return ask(d->channel, SD_RESULT, &out, &in);
}

/* The delivery's process ends. */
static inline void finish(struct tree *t, struct lent *d, uint32_t signal_number)
{
    uint8_t buf[16];
    struct wire_out out = wire_out(buf, sizeof(buf));
    close(d->channel);
    wire_put_u64(&out, d->lease);
    wire_put_u32(&out, signal_number);
    wire_put_u32(&out, t->wanted);
    assert_int_equal(ipc_send_fd(t->relay, SR_ENDED, 0, buf, 16, -1), SP_OK);
}

/* --- looking --- */

/* What status says under this name. */
static inline uint64_t number(struct tree *t, const char *name)
{
    assert_int_equal(ipc_send_fd(t->control, CT_STATUS, 0, NULL, 0, -1), SP_OK);
    struct ipc_frame f = next(t->control);
    while (f.body.left > 0) {
        char key[256], value[256];
        get_string(&f.body, key);
        get_string(&f.body, value);
        if (strcmp(key, name) == 0)
            return strtoull(value, NULL, 10);
    }
    fail_msg("no %s in the status", name);
    return 0;
}

/* States of all recipients, one digit each, in text. */
static inline enum sp_err states(struct tree *t, const struct letter *l, char text[32])
{
    struct wire_in in;
    uint8_t id[ID_SIZE];
    char address[256];
    letter_id(l, id);
    enum sp_err err = ask_about(t, l->from, SW_DELIVERY_STATUS, id, &in);
    text[0] = '\0';
    if (err != SP_OK)
        return err;
    wire_get_u64(&in);
    uint16_t n = wire_get_u16(&in);
    for (uint16_t i = 0; i < n && i < 31; i++) {
        get_string(&in, address);
        wire_get_u8(&in);
        text[i] = (char)('0' + wire_get_u8(&in));
        text[i + 1] = '\0';
        wire_get_bytes(&in, 8 + 8 + 4);
        wire_get_bytes(&in, wire_get_u16(&in));
        wire_get_bytes(&in, 8 + 4 + 8);
    }
    assert_true(wire_in_done(&in));
    return SP_OK;
}

/* kill -9, and a new process on what is on disk. */
static inline void crash(struct tree *t, struct client *c)
{
    end(t, SIGKILL);
    start(t);
    if (c != NULL)
        assert_int_equal(login(t, c, URL, NULL), SP_OK);
}

#endif
