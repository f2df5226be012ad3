/* libs: -lcrypto -lsodium */
/* The sealer between four hostile sessions and a store that may be hostile too: the input is a list
 * of moves of any of them. The model checks that a slot is never lent to two living processes, that
 * ciphertext is never overwritten before it is consumed, that what is committed opens with the
 * recipient's key and is what came, and that all is freed when all is over. */
#include "daemon/sealer/ring.h"
#undef RING_SIZE
#define RING_SIZE (192u * 1024u) /* soon full */
#include "daemon/sealer/ring.c"
#include "daemon/sealer/sealer.c"
#include "daemon/sealer/sealing.c"
#define rules   session_table
#define on_gone session_on_gone
#include "daemon/sealer/session.c"
#undef rules
#undef on_gone
#include "daemon/sealer/storage_edge.c"
#include "daemon/sealer/tally.c"
#include "daemon/histogram.c"
#include "fuzz/unlocked.h"
#include "envelope/wire.c"
#include "envelope/error.c"
#include "envelope/utf8.c"
#include "envelope/keys.c"
#include "envelope/cake.c"
#include "envelope/envelope.c"
#undef MAGIC
#undef VERSION
#include "envelope/box.c"
#define check manifest_check
#include "envelope/manifest.c"
#undef check

#define CLIENTS   4
#define UPLOADS   64
#define MAX_CIPH  (400u * 1024u)
#define FAKE_SOCK 5000 /* no descriptor of ours */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool good)
{
    if (!good)
        abort();
}

/* --- ipc, without sockets --- */

struct ipc_peer {
    const struct ipc_rules *rules;
    void *ctx;
    uint64_t permitted;
    int who; /* which client; CLIENTS: the store */
    bool busy, doomed, ended;
};

struct client {
    struct ipc_peer *peer;
    bool alive; /* the process */
    uint32_t id;
    uint8_t *slot;
    uint16_t awaits; /* the answer to what it asked last; 0: none */
};

struct upload {
    uint64_t number;
    uint8_t *piece[MANIFEST_MAX_PIECES];
    size_t len[MANIFEST_MAX_PIECES];
};

static struct client clients[CLIENTS];
static struct upload uploads[UPLOADS];
static uint64_t ring_next, ring_done; /* as the store sees it */
static uint8_t user_sk[KEY_SIZE], user_pk[KEY_SIZE];
static bool store_failed;

struct ipc_peer *ipc_peer_new(struct event_base *base, int sock, const struct ipc_rules *r,
                              void *ctx)
{
    struct ipc_peer *peer = calloc(1, sizeof(*peer));
    (void)base;
    insist(peer != NULL);
    peer->rules = r;
    peer->ctx = ctx;
    peer->permitted = r->permitted;
    peer->who = sock - FAKE_SOCK;
    return peer;
}

void ipc_peer_free(struct ipc_peer *peer)
{
    if (peer == NULL)
        return;
    peer->ended = peer->doomed = true;
    if (peer->who >= 0 && peer->who < CLIENTS)
        clients[peer->who].peer = NULL;
    if (!peer->busy)
        free(peer);
}

void ipc_permit_only(struct ipc_peer *peer, uint64_t permitted)
{
    peer->permitted = permitted;
}

void ipc_peer_queue_limit(struct ipc_peer *peer, size_t frames)
{
    insist(peer->who == CLIENTS && frames > 0);
}

static void deliver(struct ipc_peer *peer, struct ipc_frame *f)
{
    enum sp_err err = SP_ERR_DENIED;
    peer->busy = true;
    for (size_t i = 0; i < peer->rules->count; i++) {
        const struct ipc_rule *r = &peer->rules->rule[i];
        if (r->type != f->type || !(peer->permitted >> i & 1))
            continue;
        err = SP_ERR_FORMAT;
        if (f->body.left >= r->min && f->body.left <= r->max && !r->fd)
            err = r->handle(peer->ctx, peer, f);
        if (err == SP_OK && !wire_in_done(&f->body))
            err = SP_ERR_FORMAT;
    }
    if (err != SP_OK && peer->who == CLIENTS)
        store_failed = true; /* the role would end here */
    else if (err != SP_OK && !peer->ended)
        peer->rules->gone(peer->ctx, peer, err);
    peer->busy = false;
    if (peer->doomed)
        free(peer);
}

/* --- what the store sees --- */

static struct upload *upload_of(uint64_t number, bool make)
{
    struct upload *u = &uploads[number % UPLOADS];
    if (make && u->number == 0)
        u->number = number;
    return u->number == number ? u : NULL;
}

static void forget_upload(struct upload *u)
{
    for (size_t i = 0; u != NULL && i < MANIFEST_MAX_PIECES; i++)
        free(u->piece[i]);
    if (u != NULL)
        memset(u, 0, sizeof(*u));
}

static void see_block(struct wire_in *in)
{
    struct upload *u = upload_of(wire_get_u64(in), true);
    uint16_t piece = wire_get_u16(in);
    uint64_t position = wire_get_u64(in);
    uint32_t len = wire_get_u32(in);
    insist(wire_in_done(in) && piece < MANIFEST_MAX_PIECES && len > 0);
    insist(position >= ring_next && position + len - ring_done <= RING_SIZE);
    insist(position % RING_SIZE + len <= RING_SIZE);
    ring_next = position + len;
    if (u == NULL)
        return; /* more uploads than the model has place for */
    u->piece[piece] = realloc(u->piece[piece], u->len[piece] + len);
    memcpy(u->piece[piece] + u->len[piece], sealer.ring.base + position % RING_SIZE, len);
    u->len[piece] += len;
}

static void open_pieces(const struct upload *u, const struct envelope *e, const uint8_t *plain,
                        size_t n)
{
    static struct piece pieces[MANIFEST_MAX_PIECES];
    static uint8_t out[MAX_CIPH];
    struct manifest m;
    insist(manifest_decode(plain, n, pieces, &m) == SP_OK && m.n_pieces == e->n_pieces);
    for (uint32_t i = 0; i < m.n_pieces; i++) {
        uint8_t hash[HASH_SIZE];
        size_t len;
        insist(u->len[i] == e->piece_length[i]);
        insist(keys_sha256(u->piece[i], u->len[i], hash) == SP_OK);
        insist(memcmp(hash, pieces[i].hash, HASH_SIZE) == 0);
        if (u->len[i] <= MAX_CIPH)
            insist(cake_open(pieces[i].key, u->piece[i], u->len[i], out, sizeof(out), &len) ==
                       SP_OK &&
                   len == pieces[i].length);
    }
}

static void see_boxes(struct wire_in *in, const struct envelope *e, uint8_t shared[KEY_SIZE])
{
    uint8_t hash[HASH_SIZE], id[ID_SIZE];
    struct box b;
    size_t len;
    uint16_t n = wire_get_u16(in);
    insist(n > 0 && n <= MAX_RECIPIENTS_SEALED && envelope_manifest_hash(e, hash) == SP_OK);
    for (uint16_t i = 0; i < n; i++) {
        wire_get_copy(in, id, ID_SIZE);
        const uint8_t *bytes = wire_get_b32(in, BOX_MAX, &len);
        insist(bytes != NULL && box_decode(bytes, len, &b) == SP_OK && b.kind == BOX_USER);
        insist(memcmp(b.recipient_id, id, ID_SIZE) == 0);
        insist(box_open(e, hash, &b, user_sk, shared) == SP_OK);
    }
    insist(wire_in_done(in));
}

static void see_commit(struct wire_in *in)
{
    static uint8_t plain[SEALING_MAX_ENVELOPE];
    struct upload *u = upload_of(wire_get_u64(in), false);
    uint8_t shared[KEY_SIZE];
    struct envelope e;
    size_t len;
    wire_get_bytes(in, ID_SIZE + 8);
    uint16_t pieces = wire_get_u16(in);
    const uint8_t *envelope = wire_get_b32(in, SEALING_MAX_ENVELOPE, &len);
    insist(envelope != NULL && envelope_decode(envelope, len, &e) == SP_OK);
    insist(e.n_pieces == pieces);
    see_boxes(in, &e, shared);
    insist(cake_open(shared, e.manifest, e.manifest_len, plain, sizeof(plain), &len) == SP_OK);
    if (u != NULL)
        open_pieces(u, &e, plain, len);
    forget_upload(u);
}

static void store_sees(uint16_t type, struct wire_in *in)
{
    if (type == SS_BLOCK)
        see_block(in);
    else if (type == SS_COMMIT)
        see_commit(in);
    else if (type == SS_ABORT)
        forget_upload(upload_of(wire_get_u64(in), false));
    else
        insist(type == SS_LOOKUP || type == SS_RING);
}

static void client_sees(struct client *c, uint16_t type, struct wire_in *in, int fd)
{
    struct slot *slot = session_find(&sealer, c->id)->slot;
    insist(in->left >= 1 && type == c->awaits);
    c->awaits = 0;
    insist(fd < 0 || (type == SE_SLOT && c->slot == NULL && fd == slot->fd));
    if (fd < 0)
        return;
    c->slot = slot->at;
    for (size_t i = 0; i < SLOT_SIZE; i++)
        insist(c->slot[i] == 0); /* nothing of another's mail */
    for (int i = 0; i < CLIENTS; i++)
        insist(&clients[i] == c || !clients[i].alive || clients[i].slot != c->slot);
}

enum sp_err ipc_peer_send_flags(struct ipc_peer *peer, uint16_t type, uint16_t flags, uint32_t id,
                                const struct wire_out *body, int fd)
{
    struct wire_in in = wire_in(body->at, body->len);
    (void)flags;
    (void)id;
    insist(!peer->ended && wire_out_ok(body) && body->len <= IPC_MAX_PAYLOAD);
    if (peer->who == CLIENTS)
        store_sees(type, &in);
    else
        client_sees(&clients[peer->who], type, &in, fd);
    return SP_OK;
}

enum sp_err ipc_peer_send(struct ipc_peer *peer, uint16_t type, uint32_t id,
                          const struct wire_out *body, int fd)
{
    return ipc_peer_send_flags(peer, type, 0, id, body, fd);
}

/* --- moves --- */

static struct wire_in input; /* what is left of it; zeros at its end */

static void send_as(struct client *c, uint16_t type, const struct wire_out *body)
{
    static const uint16_t answers[9] = {SE_RCPT_REPLY, 0, SE_SLOT, 0, SE_SEALED, SE_DONE};
    struct ipc_frame f = {.type = type, .fd = -1, .body = wire_in(body->at, body->len)};
    if (c->peer == NULL)
        return;
    c->awaits = answers[type - SE_RCPT];
    deliver(c->peer, &f);
}

/* A frame that says what it should, with numbers from the input. */
static void well_formed(struct client *c, uint8_t which)
{
    uint8_t buf[64], n = wire_get_u8(&input);
    struct wire_out out = wire_out(buf, sizeof(buf));
    uint16_t type = (uint16_t)(SE_RCPT + which % 7);
    if (type == SE_RCPT) {
        wire_put_str(&out, "u@example.org");
    } else if (type == SE_ATTACH) {
        if (c->slot != NULL)
            memcpy(c->slot + SLOT_META, "a/bname", 7);
        wire_put_u64(&out, n);
        wire_put_u16(&out, 3);
        wire_put_u16(&out, n % 5);
    } else if (type == SE_SEAL) {
        wire_put_u8(&out, n & 1);
        wire_put_u8(&out, n >> 1 & n & 1);
        wire_put_u32(&out, (n >> 2 & 3) * CAKE_CHUNK + (n & 2 ? n : 0));
    } else if (type == SE_FINISH) {
        wire_put_u32(&out, n * 17u);
        wire_put_u32(&out, n);
        wire_put_u64(&out, n);
    } else if (type == SE_ABORT) {
        wire_put_str(&out, "bare-cr");
    }
    send_as(c, type, &out);
}

static void raw_frame(struct client *c)
{
    uint8_t buf[256];
    struct wire_out out = wire_out(buf, sizeof(buf));
    uint16_t type = (uint16_t)(SE_RCPT + wire_get_u8(&input) % 9);
    uint8_t len = wire_get_u8(&input);
    for (uint8_t i = 0; i < len; i++)
        wire_put_u8(&out, wire_get_u8(&input));
    send_as(c, type, &out);
}

static void scribble(struct client *c)
{
    if (c->slot == NULL || !c->alive)
        return;
    memset(c->slot + SLOT_WORK, wire_get_u8(&input), SLOT_WORK_SIZE);
    for (int i = 0; i < 16; i++)
        c->slot[SLOT_META + i] = wire_get_u8(&input);
}

static void joins(struct client *c)
{
    static uint32_t next;
    if (c->peer != NULL || c->alive)
        return;
    c->id = ++next;
    c->awaits = 0;
    insist(session_start(&sealer, c->id, FAKE_SOCK + (int)(c - clients)) == SP_OK);
    c->peer = session_find(&sealer, c->id)->peer;
    c->alive = true;
}

static void channel_ends(struct client *c)
{
    struct ipc_peer *peer = c->peer;
    if (peer != NULL)
        peer->rules->gone(peer->ctx, peer, SP_ERR_PEER);
}

static void process_dies(struct client *c)
{
    struct session *x = session_find(&sealer, c->id);
    if (c->peer != NULL)
        channel_ends(c); /* else the model would lose it; the other order is below */
    c->alive = false;
    c->slot = NULL;
    if (x == NULL || (x = session_find(&sealer, c->id)) == NULL)
        return;
    x->process_gone = true;
    session_release(x);
}

static void process_first(struct client *c)
{
    struct session *x = session_find(&sealer, c->id);
    if (x == NULL || c->peer == NULL)
        return;
    x->process_gone = true;
    session_release(x);
    channel_ends(c);
    c->alive = false;
    c->slot = NULL;
}

static void store_says(uint16_t type, uint32_t id, const struct wire_out *body)
{
    struct ipc_frame f = {.type = type, .id = id, .fd = -1, .body = wire_in(body->at, body->len)};
    deliver(sealer.store, &f);
}

/* The answer that is awaited, or any other. */
static void store_answers(struct client *c)
{
    uint8_t buf[600], how = wire_get_u8(&input), user[ID_SIZE] = {0};
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct session *x = session_find(&sealer, c->id);
    bool commit = x != NULL && x->sealing != NULL;
    if ((x == NULL || !x->asked_store) && how < 250)
        return; /* mostly a store that is what it should be */
    commit ^= how == 249;
    wire_put_u8(&out, how % 3 == 2 ? how : SP_OK);
    if (!commit && how % 3 != 2) {
        wire_put_u16(&out, how % 8);
        for (int i = 0; i < how % 8; i++) {
            user[0] = (uint8_t)(how + i);
            wire_put_bytes(&out, user, ID_SIZE);
            wire_put_u32(&out, 1);
            wire_put_bytes(&out, user_pk, KEY_SIZE);
        }
    }
    store_says(commit ? SS_COMMIT_REPLY : SS_LOOKUP_REPLY, c->id, &out);
}

static void store_consumes(struct client *c)
{
    (void)c;
    uint8_t buf[8], how = wire_get_u8(&input);
    struct wire_out out = wire_out(buf, sizeof(buf));
    uint64_t to =
        how == 255 ? sealer.ring.head + 1 : ring_done + (ring_next - ring_done) * how / 254;
    ring_done = how == 255 ? ring_done : to;
    wire_put_u64(&out, to);
    store_says(SS_CONSUMED, 0, &out);
}

static void move(void)
{
    static void (*const moves[])(struct client *) = {
        joins,         raw_frame,      scribble,      channel_ends,  process_dies,
        process_first, store_consumes, store_answers, store_answers,
    };
    uint8_t what = wire_get_u8(&input), which = what >> 2 & 15;
    struct client *c = &clients[what & 3];
    if (which < sizeof(moves) / sizeof(moves[0]))
        moves[which](c);
    else
        well_formed(c, (uint8_t)(which - sizeof(moves) / sizeof(moves[0])));
}

/* --- */

static void prepare_world(void)
{
    static struct config config = {.max_sessions = 3, .max_message = 1u << 20};
    static struct role role = {.config = &config};
    LIST_INIT(&sealer.sessions);
    TAILQ_INIT(&sealer.waiting);
    SLIST_INIT(&sealer.free_slots);
    sealer.role = &role;
    sealer.max_slots = 2;
    insist(sealing_init(NULL) == SP_OK && ring_create(&sealer.ring) == SP_OK);
    randombytes_buf(user_sk, sizeof(user_sk));
    insist(keys_x25519_public(user_sk, user_pk) == SP_OK);
    sealer.store = ipc_peer_new(NULL, FAKE_SOCK + CLIENTS, &store_rules, &sealer);
}

static void all_is_over(void)
{
    struct session *x, *next;
    struct slot *slot;
    size_t n = 0;
    for (int i = 0; i < CLIENTS; i++)
        process_dies(&clients[i]);
    for (x = LIST_FIRST(&sealer.sessions); x != NULL; x = next) {
        next = LIST_NEXT(x, next);
        insist(x->asked_store && x->peer == NULL && x->process_gone && !x->wait_ring);
        x->asked_store = false; /* what an answer would bring about */
        session_release(x);
    }
    SLIST_FOREACH(slot, &sealer.free_slots, next)
    n++;
    insist(n == sealer.n_slots && n <= 2 && sealer.n_sessions == 0);
    insist(LIST_EMPTY(&sealer.sessions) && TAILQ_EMPTY(&sealer.waiting));
    for (size_t i = 0; i < UPLOADS; i++)
        forget_upload(&uploads[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (sealer.role == NULL)
        prepare_world();
    sealer.ring.head = sealer.ring.tail = sealer.ring.n = sealer.ring.first = 0;
    ring_next = ring_done = 0;
    sealer.uploads = 0;
    memset(clients, 0, sizeof(clients));
    store_failed = false;
    input = wire_in(data, size);
    while (input.left > 0 && !store_failed)
        move();
    all_is_over();
    return 0;
}
