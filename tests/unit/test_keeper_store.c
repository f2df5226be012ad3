/* The keeper and a store that was taken over: it gets no secret out, bytes wrapped for one thing do
 * not open as another, nothing comes before the list of slots, and what was erased is gone. */
#include "tests/unit/keeper_store.h"

#include "storage/slots.h"

#include <time.h>

static struct tree tree;
static uint8_t keeper_pk[KEY_SIZE];

static int set_up(void **state)
{
    (void)state;
    tree_new(&tree);
    return store_begin(&tree, NULL, 0, keeper_pk) == SP_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    tree_end(&tree);
    return 0;
}

static bool in_slots_file(const uint8_t *bytes, size_t len)
{
    static uint8_t all[65536];
    ssize_t n = pread(tree.slots, all, sizeof(all), 0);
    assert_true(n >= 0 && (size_t)n < sizeof(all));
    return memmem(all, (size_t)n, bytes, len) != NULL;
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void file_box(const uint8_t *box, size_t len, struct filed *f)
{
    uint8_t buf[VT_BOX_MAX + 64];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct wire_in in;
    new_id(&f->id, VAULT_BOX);
    put_id(&out, &f->id, false);
    wire_put_b16(&out, box, len);
    assert_int_equal(store_ask(&tree, VT_WRAP, &out, &in), SP_OK);
    take_wrapped(&in, f);
}

static enum sp_err unwrap(const struct filed *f, struct wire_in *in)
{
    uint8_t buf[VT_BOX_WRAPPED_MAX + 64];
    struct wire_out out = wire_out(buf, sizeof(buf));
    put_id(&out, &f->id, false);
    wire_put_u32(&out, f->slot);
    wire_put_b16(&out, f->wrapped, f->len);
    return store_ask(&tree, VT_UNWRAP, &out, in);
}

/* --- what it is for --- */

static void test_life_of_a_secret(void **state)
{
    uint8_t secret[KEY_SIZE], key[KEY_SIZE];
    struct filed f;
    struct wire_in in;
    (void)state;
    randombytes_buf(secret, sizeof(secret));
    file_secret(&tree, keeper_pk, BOX_PASSWORD, secret, &f);
    expect_received(&tree, &f, "password");
    assert_int_equal(tree_count(&tree, "slots_in_use"), 1);
    assert_null(memmem(f.wrapped, f.len, secret, 16));
    assert_false(in_slots_file(secret, KEY_SIZE));
    assert_int_equal(pread(tree.slots, key, KEY_SIZE, (off_t)SLOTS_OFFSET(f.slot)), KEY_SIZE);
    assert_false(sodium_is_zero(key, KEY_SIZE));
    uint64_t age = 5000, before = now_ms();
    assert_int_equal(store_erase(&tree, &f, before - age, "sent"), SP_OK);
    assert_false(in_slots_file(key, KEY_SIZE));
    assert_int_equal(next_event(&tree, &in), AUDIT_SECRET_ERASED);
    assert_memory_equal(wire_get_bytes(&in, ID_SIZE), f.id.message_id, ID_SIZE);
    expect_text(&in, "password");
    assert_memory_equal(wire_get_bytes(&in, ID_SIZE), f.id.recipient_id, ID_SIZE);
    uint64_t residency = wire_get_u64(&in);
    assert_in_range(residency, age, age + (now_ms() - before));
    expect_text(&in, "sent");
    assert_true(wire_in_done(&in));
    assert_int_equal(tree_count(&tree, "slots_in_use"), 0);
    assert_int_equal(store_erase(&tree, &f, now_ms() + 99999, "sent"), SP_OK); /* again */
    assert_int_equal(next_event(&tree, &in), AUDIT_SECRET_ERASED);
    wire_get_bytes(&in, ID_SIZE);
    expect_text(&in, "password");
    wire_get_bytes(&in, ID_SIZE);
    assert_int_equal(wire_get_u64(&in), 0); /* a clock that went back */
}

static void test_life_of_a_box(void **state)
{
    uint8_t box[VT_BOX_MAX];
    struct filed f;
    struct wire_in in;
    size_t len;
    (void)state;
    randombytes_buf(box, sizeof(box));
    for (size_t n = 0; n <= sizeof(box); n += sizeof(box) / 2) {
        file_box(box, n, &f);
        assert_int_equal(f.len, n + VAULT_OVERHEAD);
        assert_int_equal(unwrap(&f, &in), SP_OK);
        const uint8_t *got = wire_get_b16(&in, VT_BOX_MAX, &len);
        assert_true(wire_in_done(&in) && len == n);
        assert_memory_equal(got, box, n);
    }
    assert_int_equal(store_erase(&tree, &f, now_ms(), "expired"), SP_OK);
    assert_int_equal(next_event(&tree, &in), AUDIT_SECRET_ERASED);
    wire_get_bytes(&in, ID_SIZE);
    expect_text(&in, "box");
    assert_int_equal(unwrap(&f, &in), SP_ERR_NOT_FOUND);
}

/* Many at once, as they come from one turn of the store's: all answered, each durable before. */
static void test_many(void **state)
{
    enum { N = 150 }; /* more than wait for one sync */
    static uint8_t sealed[N][KEYS_SECRET_BOX];
    static bool taken[N];
    uint8_t buf[256], secret[KEY_SIZE] = {1};
    struct vault_id id;
    (void)state;
    memset(taken, 0, sizeof(taken));
    for (uint32_t i = 0; i < N; i++) {
        struct wire_out out = wire_out(buf, sizeof(buf));
        new_id(&id, BOX_RELAY);
        keys_secret_seal(keeper_pk, BOX_RELAY, id.recipient_id, secret, sealed[i]);
        put_id(&out, &id, true);
        wire_put_b16(&out, sealed[i], KEYS_SECRET_BOX);
        store_send(&tree, VT_SECRET, i, &out);
    }
    for (uint32_t i = 0; i < N; i++) {
        struct wire_in in;
        uint8_t key[KEY_SIZE];
        assert_int_equal(store_reply(&tree, VT_SECRET, i, &in), SP_OK);
        uint32_t slot = wire_get_u32(&in);
        assert_true(slot < N && !taken[slot]);
        taken[slot] = true;
        assert_int_equal(pread(tree.slots, key, KEY_SIZE, (off_t)SLOTS_OFFSET(slot)), KEY_SIZE);
        assert_false(sodium_is_zero(key, KEY_SIZE));
        assert_int_equal(next_event(&tree, &in), AUDIT_SECRET_RECEIVED);
    }
    assert_int_equal(tree_count(&tree, "secrets_received"), N);
}

/* --- after a restart --- */

static void test_restart(void **state)
{
    uint8_t secret[KEY_SIZE] = {7}, box[100] = {9}, pk[KEY_SIZE];
    struct filed kept, orphan;
    struct wire_in in;
    (void)state;
    file_box(box, sizeof(box), &kept);
    file_secret(&tree, keeper_pk, BOX_RELAY, secret, &orphan);
    expect_received(&tree, &orphan, "relay");
    tree_kill(&tree);
    tree_start(&tree);
    assert_int_equal(store_begin(&tree, &kept.slot, 1, pk), SP_OK);
    assert_memory_equal(pk, keeper_pk, KEY_SIZE);
    assert_int_equal(next_event(&tree, &in), AUDIT_SLOTS_SWEPT);
    assert_int_equal(wire_get_u64(&in), 1);
    assert_int_equal(wire_get_u64(&in), 1);
    assert_int_equal(unwrap(&kept, &in), SP_OK);
    assert_int_equal(tree_count(&tree, "slots_in_use"), 1);
}

/* An empty key file asks for a new key: what was filed under slots opens as before. */
static void test_new_key(void **state)
{
    uint8_t box[100] = {9}, pk[KEY_SIZE];
    struct filed kept;
    struct wire_in in;
    (void)state;
    file_box(box, sizeof(box), &kept);
    tree_kill(&tree);
    assert_int_equal(ftruncate(tree.key, 0), 0);
    tree_start(&tree);
    assert_int_equal(store_begin(&tree, &kept.slot, 1, pk), SP_OK);
    assert_memory_not_equal(pk, keeper_pk, KEY_SIZE);
    assert_int_equal(unwrap(&kept, &in), SP_OK);
}

static void test_many_slots_named(void **state)
{
    static uint8_t buf[1 + 4 * 8192];
    uint8_t box[10] = {1}, pk[KEY_SIZE];
    struct filed one, two;
    struct wire_in in;
    (void)state;
    file_box(box, sizeof(box), &one);
    file_box(box, sizeof(box), &two);
    tree_kill(&tree);
    tree_start(&tree);
    for (uint32_t page = 0; page < 3; page++) { /* most of them are not there */
        struct wire_out out = wire_out(buf, sizeof(buf));
        wire_put_u8(&out, 1);
        for (uint32_t i = 0; i < 8192; i++)
            wire_put_u32(&out, page * 8192 + i + 1);
        store_send(&tree, VT_SLOTS, 0, &out);
    }
    assert_int_equal(store_begin(&tree, NULL, 0, pk), SP_OK);
    assert_int_equal(unwrap(&one, &in), SP_ERR_NOT_FOUND); /* slot 0 was not named */
    assert_int_equal(unwrap(&two, &in), SP_OK);
}

/* --- clients that seal what they should not --- */

static void test_not_for_us(void **state)
{
    static uint8_t sealed[60000];
    uint8_t other_pk[KEY_SIZE], other_sk[KEY_SIZE], secret[KEY_SIZE] = {3};
    struct filed f, g;
    (void)state;
    new_id(&f.id, BOX_RELAY);
    new_id(&g.id, BOX_RELAY);
    crypto_box_keypair(other_pk, other_sk);
    keys_secret_seal(other_pk, BOX_RELAY, f.id.recipient_id, secret, sealed);
    assert_int_equal(store_secret(&tree, &f, sealed, KEYS_SECRET_BOX), SP_ERR_AUTH);
    keys_secret_seal(keeper_pk, BOX_PASSWORD, f.id.recipient_id, secret, sealed);
    assert_int_equal(store_secret(&tree, &f, sealed, KEYS_SECRET_BOX), SP_ERR_AUTH);
    keys_secret_seal(keeper_pk, BOX_RELAY, g.id.recipient_id, secret, sealed);
    assert_int_equal(store_secret(&tree, &f, sealed, KEYS_SECRET_BOX), SP_ERR_AUTH);
    keys_secret_seal(keeper_pk, BOX_RELAY, f.id.recipient_id, secret, sealed);
    for (size_t i = 0; i < KEYS_SECRET_BOX; i += 7) {
        sealed[i] ^= 1;
        assert_int_equal(store_secret(&tree, &f, sealed, KEYS_SECRET_BOX), SP_ERR_AUTH);
        sealed[i] ^= 1;
    }
    assert_int_equal(store_secret(&tree, &f, sealed, KEYS_SECRET_BOX - 1), SP_ERR_AUTH);
    assert_int_equal(store_secret(&tree, &f, sealed, 0), SP_ERR_AUTH);
    assert_int_equal(store_secret(&tree, &f, sealed, sizeof(sealed)), SP_ERR_AUTH);
    assert_int_equal(tree_count(&tree, "slots_in_use"), 0);
    assert_int_equal(store_secret(&tree, &f, sealed, KEYS_SECRET_BOX), SP_OK);
}

/* --- a store that moves wrapped bytes --- */

static void test_moved(void **state)
{
    uint8_t box[64] = {5}, secret[KEY_SIZE] = {6};
    struct filed f, other, hidden, bad;
    struct wire_in in;
    (void)state;
    file_box(box, sizeof(box), &f);
    file_box(box, sizeof(box), &other);
    file_secret(&tree, keeper_pk, BOX_PASSWORD, secret, &hidden);
    assert_int_equal(unwrap(&hidden, &in), SP_ERR_AUTH); /* a secret is no box */
    hidden.id.kind = VAULT_BOX;
    assert_int_equal(unwrap(&hidden, &in), SP_ERR_AUTH);
    bad = f;
    bad.slot = other.slot;
    assert_int_equal(unwrap(&bad, &in), SP_ERR_AUTH);
    bad = f;
    bad.id = other.id;
    assert_int_equal(unwrap(&bad, &in), SP_ERR_AUTH);
    bad = f;
    bad.id.message_id[3] ^= 1;
    assert_int_equal(unwrap(&bad, &in), SP_ERR_AUTH);
    for (size_t i = 0; i < f.len; i++) {
        bad = f;
        bad.wrapped[i] ^= 0x10;
        assert_int_equal(unwrap(&bad, &in), SP_ERR_AUTH);
        bad = f;
        bad.len = i;
        assert_int_equal(unwrap(&bad, &in), SP_ERR_AUTH);
    }
    bad = f;
    bad.slot = 4711;
    assert_int_equal(unwrap(&bad, &in), SP_ERR_NOT_FOUND);
    bad.slot = UINT32_MAX;
    assert_int_equal(unwrap(&bad, &in), SP_ERR_NOT_FOUND);
    assert_int_equal(unwrap(&f, &in), SP_OK);
}

/* A slot that was erased and taken anew does not open what lay under the old key. */
static void test_slot_again(void **state)
{
    uint8_t box[64] = {5};
    struct filed old, again;
    struct wire_in in;
    (void)state;
    file_box(box, sizeof(box), &old);
    assert_int_equal(store_erase(&tree, &old, now_ms(), "expired"), SP_OK);
    file_box(box, sizeof(box), &again);
    assert_int_equal(again.slot, old.slot);
    assert_int_equal(unwrap(&old, &in), SP_ERR_AUTH);
    assert_int_equal(unwrap(&again, &in), SP_OK);
}

/* --- frames out of order, and not of their form --- */

static void expect_end(void)
{
    struct ipc_frame f;
    while (ipc_recv(tree.store, store_buf, sizeof(store_buf), &f) == SP_OK)
        ;
    assert_int_equal(tree_wait(&tree), 1); /* and the keeper with its edge */
    tree_start(&tree);
}

static void test_nothing_first(void **state)
{
    static const struct {
        uint16_t type;
        size_t len;
    } frames[] = {{VT_SECRET, 160},  {VT_WRAP, 100}, {VT_UNWRAP, 100},     {VT_LEASE, 47},
                  {VT_LEASE_END, 8}, {VT_ERASE, 47}, {VT_SLOTS_REPLY, 33}, {SK_SIGN, 100}};
    uint8_t zeros[256] = {0};
    (void)state;
    tree_kill(&tree);
    tree_start(&tree);
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        assert_int_equal(ipc_send_fd(tree.store, frames[i].type, 1, zeros, frames[i].len, -1),
                         SP_OK);
        expect_end();
    }
    assert_int_equal(store_begin(&tree, NULL, 0, keeper_pk), SP_OK);
    ipc_send_fd(tree.store, VT_SLOTS, 1, zeros, 1, -1); /* once */
    expect_end();
    ipc_send_fd(tree.store, VT_SLOTS, 1, "\1\0\0", 3, -1);
    expect_end();
    ipc_send_fd(tree.store, VT_SLOTS, 1, "\2", 1, -1);
    expect_end();
    ipc_send_fd(tree.store, VT_SLOTS, 1, "\0\xff\xff\xff\xff", 5, -1);
    expect_end();
    assert_int_equal(store_begin(&tree, NULL, 0, keeper_pk), SP_OK);
}

static void test_malformed(void **state)
{
    uint8_t buf[600];
    struct vault_id id;
    (void)state;
    new_id(&id, BOX_USER); /* of a user's box there is no secret */
    for (int i = 0; i < 6; i++) {
        struct wire_out out = wire_out(buf, sizeof(buf));
        uint16_t type = i < 2 ? VT_SECRET : i < 4 ? VT_LEASE : VT_ERASE;
        if (type == VT_LEASE)
            wire_put_u64(&out, 1);
        if (type == VT_ERASE)
            wire_put_u32(&out, 1);
        id.kind = i % 2 == 0 ? BOX_USER : 4;
        put_id(&out, &id, true);
        if (type == VT_LEASE)
            wire_put_u32(&out, 0);
        if (type == VT_ERASE)
            wire_put_u64(&out, 0);
        wire_put_b16(&out, buf, 5);
        store_send(&tree, type, 1, &out);
        expect_end();
        assert_int_equal(store_begin(&tree, NULL, 0, keeper_pk), SP_OK);
    }
    id.kind = BOX_RELAY;
    struct wire_out out = wire_out(buf, sizeof(buf));
    put_id(&out, &id, true);
    wire_put_b16(&out, buf, 20);
    wire_put_u8(&out, 0); /* one byte too many */
    store_send(&tree, VT_SECRET, 1, &out);
    expect_end();
    assert_int_equal(store_begin(&tree, NULL, 0, keeper_pk), SP_OK);
}

/* --- its files --- */

static void refuse_files(void)
{
    tree_start(&tree);
    assert_int_equal(tree_wait(&tree), SP_ERR_FORMAT);
}

static void test_damaged_files(void **state)
{
    uint8_t key[100], byte = 0;
    (void)state;
    tree_kill(&tree);
    assert_int_equal(pread(tree.key, key, sizeof(key), 0), 72);
    for (off_t i = 0; i < 72; i += 5) {
        byte = key[i] ^ 0x40; /* not one of the bits that X25519 passes over */
        assert_int_equal(pwrite(tree.key, &byte, 1, i), 1);
        refuse_files();
        assert_int_equal(pwrite(tree.key, key + i, 1, i), 1);
    }
    assert_int_equal(ftruncate(tree.key, 71), 0);
    refuse_files();
    assert_int_equal(ftruncate(tree.key, 73), 0);
    refuse_files();
    assert_int_equal(ftruncate(tree.key, 72), 0);
    assert_int_equal(pwrite(tree.key, key, 72, 0), 72);
    assert_int_equal(pwrite(tree.slots, "X", 1, 0), 1);
    refuse_files();
    assert_int_equal(pwrite(tree.slots, "S", 1, 0), 1);
    tree_start(&tree);
    uint8_t pk[KEY_SIZE];
    assert_int_equal(store_begin(&tree, NULL, 0, pk), SP_OK);
    assert_memory_equal(pk, keeper_pk, KEY_SIZE);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(int argc, char **argv)
{
    tree_main(argc, argv);
    const struct CMUnitTest tests[] = {
        T(test_life_of_a_secret), T(test_life_of_a_box), T(test_many),
        T(test_restart),          T(test_new_key),       T(test_many_slots_named),
        T(test_not_for_us),       T(test_moved),         T(test_slot_again),
        T(test_nothing_first),    T(test_malformed),     T(test_damaged_files),
    };
    if (sodium_init() < 0)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
