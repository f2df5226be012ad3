/* libs: -lcrypto -lsodium */
/* The keeper between a store, a relay and four deliveries, all of them hostile: the input is a list
 * of moves of any of them, some as honest ones would do it, some with bytes of the fuzzer's. The
 * model knows each secret: none leaves but to a delivery that holds a lease for it, once; what was
 * wrapped opens as nothing else; before the slots are named there is no answer; and all is freed at
 * the end. */
#include <unistd.h>
/* An edge that breaks the protocol ends the role: the model sees the edge gone, and stops. */
#define _exit(status) ((void)(status))
#include "daemon/keeper/store_edge.c"
#undef IDS
#define on_gone deliveries_on_gone
#include "daemon/keeper/deliveries.c"
#undef on_gone
#include "daemon/keeper/leases.c"
#include "daemon/keeper/relaykeys.c"
#include "daemon/keeper/credentials.c"
#include "daemon/pem.c"
#include "daemon/keeper/dkimkey.c"
#define load vault_load
#include "daemon/keeper/vault.c"
#undef load
#define make  boxkey_make
#define check boxkey_check
#define magic boxkey_magic
#include "daemon/keeper/boxkey.c"
#undef make
#undef check
#undef magic
#include "storage/slots.c"
#undef MAGIC
#undef VERSION
#define take histogram_take
#include "daemon/histogram.c"
#undef take
#include "fuzz/unlocked.h"
#include "fuzz/untimed.h"
#include "envelope/wire.c"
#include "envelope/error.c"
#include "envelope/utf8.c"
#include "envelope/keys.c"
#include "envelope/cake.c"
#include "envelope/envelope.c"
#undef MAGIC
#undef VERSION
#include "envelope/box.c"

#include <sys/mman.h>

#define MAILS      4
#define CHANNELS   4
#define SOCK_STORE ROLE_FD(ROLE_STORE)
#define SOCK_RELAY ROLE_FD(ROLE_RELAY)
#define SOCK_FIRST 5000 /* deliveries'; no descriptors of ours */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool good)
{
    if (!good)
        abort();
}

void lockmem_free(void *at, size_t size)
{
    (void)size;
    free(at);
}

/* --- what clients made: even ones are relayed, odd ones links --- */

static struct mail {
    struct vault_id id;
    uint8_t secret[KEY_SIZE], shared[KEY_SIZE], sealed_secret[KEYS_SECRET_BOX];
    struct envelope e;
    uint8_t manifest_hash[HASH_SIZE], sealed[BOX_MAX_SEALED], box[BOX_MAX];
    size_t box_len;
    /* what the store has of it */
    bool filed;
    uint32_t slot;
    uint8_t wrapped[VT_BOX_WRAPPED_MAX];
    size_t len;
} mails[MAILS];

static struct keeper keeper;
static bool store_gone, relay_gone, store_talks;
static uint16_t asked; /* what the store's frame was */
static struct mail *about;

/* --- ipc, without sockets --- */

struct ipc_peer {
    const struct ipc_rules *rules;
    void *ctx;
    uint64_t permitted;
    int sock;
    bool busy, doomed, ended;
    int leased;   /* a delivery: which mail the model says it may have; -1 */
    bool has_had; /* ... and it has got it */
};

static struct ipc_peer *channels[CHANNELS];

struct ipc_peer *ipc_peer_new(struct event_base *base, int sock, const struct ipc_rules *r,
                              void *ctx)
{
    struct ipc_peer *peer = calloc(1, sizeof(*peer));
    (void)base;
    insist(peer != NULL);
    *peer = (struct ipc_peer){.rules = r, .ctx = ctx, .permitted = r->permitted, .sock = sock};
    peer->leased = -1;
    if (sock >= SOCK_FIRST)
        channels[sock - SOCK_FIRST] = peer;
    return peer;
}

void ipc_peer_free(struct ipc_peer *peer)
{
    if (peer == NULL)
        return;
    peer->ended = peer->doomed = true;
    if (peer->sock >= SOCK_FIRST)
        channels[peer->sock - SOCK_FIRST] = NULL;
    if (!peer->busy)
        free(peer);
}

int ipc_peer_socket(const struct ipc_peer *peer)
{
    (void)peer;
    return -1; /* poll(2) passes it over: nothing is there to be read */
}

void ipc_permit_only(struct ipc_peer *peer, uint64_t permitted)
{
    peer->permitted = permitted;
}

void ipc_permit(struct ipc_peer *peer, uint16_t type)
{
    for (size_t i = 0; i < peer->rules->count; i++)
        if (peer->rules->rule[i].type == type)
            peer->permitted |= UINT64_C(1) << i;
}

/* No secret, whole or half, and no shared key. */
static void insist_nothing_leaks(const uint8_t *bytes, size_t len)
{
    for (int i = 0; i < MAILS; i++) {
        insist(memmem(bytes, len, mails[i].secret, KEY_SIZE / 2) == NULL);
        insist(memmem(bytes, len, mails[i].secret + KEY_SIZE / 2, KEY_SIZE / 2) == NULL);
        insist(memmem(bytes, len, mails[i].shared, KEY_SIZE / 2) == NULL);
    }
}

static void see_store_reply(uint16_t type, struct wire_in in)
{
    insist_nothing_leaks(in.at, in.left);
    insist(store_talks || type == VT_SLOTS_REPLY);
    uint8_t status = wire_get_u8(&in);
    if (type == VT_SLOTS_REPLY)
        insist(status == SP_OK && in.left == KEY_SIZE);
    if (type != VT_SECRET_REPLY || status != SP_OK || about == NULL)
        return;
    about->slot = wire_get_u32(&in);
    const uint8_t *wrapped = wire_get_b16(&in, VAULT_SECRET, &about->len);
    insist(wire_in_done(&in) && about->len == VAULT_SECRET);
    memcpy(about->wrapped, wrapped, about->len);
    about->filed = true;
    about = NULL;
}

static void see_delivery_reply(struct ipc_peer *peer, uint16_t type, struct wire_in in)
{
    uint8_t status = wire_get_u8(&in);
    if (status != SP_OK) {
        insist(in.left == 0);
        return;
    }
    if (type == KD_DKIM_REPLY) {
        insist(peer->has_had);
        insist_nothing_leaks(in.at, in.left);
        return;
    }
    insist(type == KD_OPEN_REPLY || type == KD_PASSWORD_REPLY);
    insist(peer->leased >= 0 && !peer->has_had && in.left == KEY_SIZE + 1);
    const struct mail *m = &mails[peer->leased];
    insist((type == KD_OPEN_REPLY) == (m->id.kind == BOX_RELAY));
    insist(memcmp(in.at, type == KD_OPEN_REPLY ? m->shared : m->secret, KEY_SIZE) == 0);
    peer->has_had = true;
}

enum sp_err ipc_peer_send(struct ipc_peer *peer, uint16_t type, uint32_t id,
                          const struct wire_out *body, int fd)
{
    (void)id;
    insist(wire_out_ok(body) && fd == -1 && peer != keeper.relay);
    struct wire_in in = wire_in(body->at, body->len);
    if (peer == keeper.store)
        see_store_reply(type, in);
    else
        see_delivery_reply(peer, type, in);
    return SP_OK;
}

static void deliver(struct ipc_peer *peer, uint16_t type, const struct wire_out *body, int fd)
{
    struct ipc_frame f = {.type = type, .body = wire_in(body->at, body->len), .fd = fd};
    enum sp_err err = SP_ERR_DENIED;
    if (peer == NULL || !wire_out_ok(body))
        return;
    peer->busy = true;
    for (size_t i = 0; i < peer->rules->count; i++) {
        const struct ipc_rule *r = &peer->rules->rule[i];
        if (r->type != type || !(peer->permitted >> i & 1))
            continue;
        err = SP_ERR_FORMAT;
        if (r->once)
            peer->permitted &= ~(UINT64_C(1) << i);
        if (f.body.left >= r->min && f.body.left <= r->max && r->fd == (fd >= 0))
            err = r->handle(peer->ctx, peer, &f);
        if (err == SP_OK && !wire_in_done(&f.body))
            err = SP_ERR_FORMAT;
    }
    store_gone = store_gone || (err != SP_OK && peer == keeper.store);
    relay_gone = relay_gone || (err != SP_OK && peer == keeper.relay);
    if (err != SP_OK && !peer->ended)
        peer->rules->gone(peer->ctx, peer, err);
    peer->busy = false;
    if (peer->doomed)
        free(peer);
}

/* --- moves --- */

static uint8_t frame[IPC_MAX_PAYLOAD];

static struct wire_out begin_frame(void)
{
    return wire_out(frame, sizeof(frame));
}

static void put_mail_id(struct wire_out *out, const struct vault_id *id, bool with_kind)
{
    wire_put_bytes(out, id->message_id, ID_SIZE);
    if (with_kind)
        wire_put_u8(out, id->kind);
    wire_put_bytes(out, id->recipient_id, ID_SIZE);
}

static struct mail *some_mail(struct wire_in *in)
{
    return &mails[wire_get_u8(in) % MAILS];
}

static void turn_ends(void)
{
    deliveries_settle(&keeper);
    insist(store_edge_flush(&keeper) == SP_OK);
}

static void name_slots(struct wire_in *in)
{
    struct wire_out out = begin_frame();
    uint8_t which = wire_get_u8(in);
    wire_put_u8(&out, which >> 7);
    for (int i = 0; i < MAILS; i++)
        if (which >> i & 1)
            wire_put_u32(&out, mails[i].slot);
    deliver(keeper.store, VT_SLOTS, &out, -1);
    store_talks = store_talks || keeper.ready;
}

static void file_secret(struct wire_in *in)
{
    struct mail *m = some_mail(in), *as = some_mail(in);
    struct wire_out out = begin_frame();
    turn_ends(); /* so that the next answer is about this one */
    put_mail_id(&out, &as->id, true);
    wire_put_b16(&out, m->sealed_secret, KEYS_SECRET_BOX);
    about = m == as ? m : NULL;
    deliver(keeper.store, VT_SECRET, &out, -1);
    size_t before = keeper.n_pending;
    turn_ends();
    insist(m == as || before == 0); /* another mail's is never taken */
    about = NULL;
}

/* Leases out what one mail has, under the name of the same or another; the model notes it if it is
 * right. */
static uint64_t lease_of[256];
static void lease_out(struct wire_in *in)
{
    struct mail *m = some_mail(in), *as = some_mail(in);
    uint8_t no = wire_get_u8(in), flip = wire_get_u8(in);
    struct wire_out out = begin_frame();
    wire_put_u64(&out, no);
    put_mail_id(&out, &as->id, true);
    wire_put_u32(&out, m->slot);
    size_t at = out.len + 2;
    wire_put_b16(&out, m->wrapped, m->filed ? m->len : 0);
    if (flip > 0 && at + flip < out.len)
        out.at[at + flip] ^= flip;
    bool right = m == as && (flip == 0 || at + flip >= out.len);
    if (leases_find(&keeper, no) == NULL)
        lease_of[no] = right ? (uint64_t)(m - mails) + 1 : 0;
    deliver(keeper.store, VT_LEASE, &out, -1);
}

static void announce(struct wire_in *in)
{
    uint8_t channel = wire_get_u8(in) % CHANNELS, no = wire_get_u8(in), id = wire_get_u8(in) % 8;
    struct wire_out out = begin_frame();
    if (channels[channel] != NULL)
        return; /* the number of a socket is its own */
    for (struct delivery *d = LIST_FIRST(&keeper.deliveries); d != NULL; d = LIST_NEXT(d, next))
        if (d->sock == SOCK_FIRST + channel)
            return;
    wire_put_u32(&out, id);
    wire_put_u64(&out, no);
    deliver(keeper.relay, RP_DELIVERY, &out, SOCK_FIRST + channel);
    turn_ends();
    if (channels[channel] != NULL)
        channels[channel]->leased = (int)lease_of[no] - 1;
}

static void ask_open(struct wire_in *in)
{
    struct ipc_peer *peer = channels[wire_get_u8(in) % CHANNELS];
    const struct mail *m = some_mail(in);
    uint16_t flip = wire_get_u16(in);
    struct wire_out out = begin_frame();
    wire_put_u8(&out, m->e.suite);
    wire_put_bytes(&out, m->e.message_id, ID_SIZE);
    wire_put_b16(&out, m->e.sender_user_id, ID_SIZE);
    wire_put_b16(&out, m->e.sender_sign_pk, KEY_SIZE);
    wire_put_bytes(&out, m->e.ephemeral_pk, KEY_SIZE);
    wire_put_bytes(&out, m->e.bcc_commitment, HASH_SIZE);
    wire_put_bytes(&out, m->manifest_hash, HASH_SIZE);
    wire_put_b32(&out, m->box, m->box_len);
    if (flip > 0 && (flip & 0x1ff) < out.len)
        out.at[flip & 0x1ff] ^= (uint8_t)(flip >> 9);
    deliver(peer, KD_OPEN, &out, -1);
}

static void ask_short(struct wire_in *in)
{
    static const uint16_t types[] = {KD_PASSWORD, KD_DKIM, KD_AUTH};
    struct ipc_peer *peer = channels[wire_get_u8(in) % CHANNELS];
    uint16_t type = types[wire_get_u8(in) % 3];
    struct wire_out out = begin_frame();
    if (type == KD_DKIM) {
        wire_put_u8(&out, wire_get_u8(in) % 4);
        wire_put_bytes(&out, mails, 2 * HASH_SIZE);
    }
    deliver(peer, type, &out, -1);
}

static void erase(struct wire_in *in)
{
    struct mail *m = some_mail(in);
    struct wire_out out = begin_frame();
    wire_put_u32(&out, m->slot);
    put_mail_id(&out, &m->id, true);
    wire_put_u64(&out, 0);
    wire_put_str(&out, "sent");
    deliver(keeper.store, VT_ERASE, &out, -1);
}

/* Wrapped secrets as if they were boxes. */
static void unwrap_secret(struct wire_in *in)
{
    struct mail *m = some_mail(in);
    struct wire_out out = begin_frame();
    put_mail_id(&out, &m->id, false);
    wire_put_u32(&out, m->slot);
    wire_put_b16(&out, m->wrapped, m->len);
    deliver(keeper.store, VT_UNWRAP, &out, -1);
}

static void raw(struct wire_in *in)
{
    uint8_t who = wire_get_u8(in) % (CHANNELS + 2);
    uint16_t type = wire_get_u16(in);
    size_t len;
    const uint8_t *bytes = wire_get_b16(in, 4096, &len);
    struct wire_out out = begin_frame();
    struct ipc_peer *peer = who == CHANNELS       ? keeper.store
                            : who == CHANNELS + 1 ? keeper.relay
                                                  : channels[who];
    if (bytes == NULL || peer == NULL)
        return;
    wire_put_bytes(&out, bytes, len);
    asked = peer->rules->rule[type % peer->rules->count].type;
    bool lease = asked == VT_LEASE && who == CHANNELS;
    deliver(peer, type >> 15 ? type : asked, &out, -1);
    store_talks = store_talks || keeper.ready;
    static const uint8_t zeros[7];
    if (lease && len >= 8 && memcmp(bytes, zeros, 7) == 0)
        lease_of[bytes[7]] = 0; /* of the fuzzer's making: it opens nothing */
}

static void move(struct wire_in *in)
{
    static void (*const moves[])(struct wire_in * in) = {name_slots, file_secret, lease_out,
                                                         announce,   ask_open,    ask_short,
                                                         erase,      raw,         unwrap_secret};
    uint8_t which = wire_get_u8(in) % (sizeof(moves) / sizeof(moves[0]) + 1);
    if (which < sizeof(moves) / sizeof(moves[0]))
        moves[which](in);
    else
        turn_ends();
}

/* --- a tree --- */

static void make_mail(struct mail *m, uint8_t kind)
{
    uint8_t sign_pk[KEY_SIZE], sign_sk[64], ephemeral_sk[KEY_SIZE];
    struct box b = {.kind = kind, .expiry = kind == BOX_PASSWORD ? 2000000000 : 0};
    *m = (struct mail){.id.kind = kind};
    crypto_sign_keypair(sign_pk, sign_sk);
    randombytes_buf(m->id.message_id, ID_SIZE);
    randombytes_buf(m->id.recipient_id, ID_SIZE);
    randombytes_buf(m->secret, KEY_SIZE);
    randombytes_buf(m->shared, KEY_SIZE);
    randombytes_buf(ephemeral_sk, KEY_SIZE);
    m->e = (struct envelope){.suite = ENVELOPE_SUITE_X25519, .from_user = true};
    memcpy(m->e.message_id, m->id.message_id, ID_SIZE);
    memcpy(m->e.sender_sign_pk, sign_pk, KEY_SIZE);
    keys_x25519_public(ephemeral_sk, m->e.ephemeral_pk);
    memcpy(b.recipient_id, m->id.recipient_id, ID_SIZE);
    if (kind == BOX_RELAY)
        keys_x25519_public(m->secret, b.recipient_pk);
    insist(box_seal(&m->e, m->manifest_hash, &b, kind == BOX_RELAY ? ephemeral_sk : m->secret,
                    m->shared, sign_sk, NULL, m->sealed) == SP_OK);
    insist(box_encode(&b, m->box, sizeof(m->box), &m->box_len) == SP_OK);
}

static void start(void)
{
    static char one[] = "one", two[] = "two";
    static struct config config = {.deliveries = 2, .dkim_selector = {2, {one, two}}};
    static struct role role = {.config = &config};
    static const char pem[] = "-----BEGIN PRIVATE KEY-----\n"
                              "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
                              "-----END PRIVATE KEY-----\n";
    static int key_fd = -1, slots_fd = -1;
    static struct dkimkey *key;
    if (key_fd < 0) {
        insist(sodium_init() >= 0);
        key_fd = memfd_create("key", MFD_CLOEXEC);
        slots_fd = memfd_create("slots", MFD_CLOEXEC);
        insist(dkimkey_load(pem, sizeof(pem) - 1, &key) == SP_OK);
        for (int i = 0; i < MAILS; i++)
            make_mail(&mails[i], i % 2 == 0 ? BOX_RELAY : BOX_PASSWORD);
    }
    insist(ftruncate(slots_fd, 0) == 0);
    keeper = (struct keeper){.role = &role, .dkim = {key}};
    keeper.locked = calloc(1, sizeof(*keeper.locked));
    insist(keeper.locked != NULL && vault_open(key_fd, slots_fd, &keeper.vault) == SP_OK);
    insist(leases_init(&keeper) == SP_OK && store_edge_open(&keeper) == SP_OK);
    insist(deliveries_open(&keeper) == SP_OK);
    for (int i = 0; i < MAILS; i++) {
        mails[i].filed = false;
        mails[i].len = 0;
        keys_secret_seal(vault_public_key(keeper.vault), mails[i].id.kind, mails[i].id.recipient_id,
                         mails[i].secret, mails[i].sealed_secret);
    }
    store_gone = relay_gone = store_talks = false;
    memset(lease_of, 0, sizeof(lease_of));
}

static void stop(void)
{
    while (!LIST_EMPTY(&keeper.deliveries))
        delivery_drop(LIST_FIRST(&keeper.deliveries));
    for (size_t i = 0; i < keeper.max_leases; i++)
        if (keeper.leases[i].used)
            leases_drop(&keeper, &keeper.leases[i]);
    insist(keeper.n_leases == 0 && keeper.n_deliveries == 0);
    for (int i = 0; i < CHANNELS; i++)
        insist(channels[i] == NULL);
    ipc_peer_free(keeper.store);
    ipc_peer_free(keeper.relay);
    vault_close(keeper.vault);
    free(keeper.leases);
    free(keeper.locked);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_in in = wire_in(data, size);
    start();
    while (in.left > 0 && !store_gone && !relay_gone)
        move(&in);
    stop();
    return 0;
}
