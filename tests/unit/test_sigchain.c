/* Sigchains beyond the known answers: what is refused, by name of the reason, and that a refusal
 * changes nothing. */
#include "envelope/sigchain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include <sodium.h>

struct device {
    struct chain_device public;
    uint8_t sk[64];
    struct chain_signer signer;
};

static struct sigchain chain;
static struct device first, second;
static uint8_t wire[SIGCHAIN_MAX_WIRE], puk[KEY_SIZE];
static size_t len;

static void make_device(struct device *d)
{
    memset(d, 0, sizeof(*d));
    randombytes_buf(d->public.id, ID_SIZE);
    crypto_sign_keypair(d->public.sign_pk, d->sk);
    randombytes_buf(d->public.box_pk, KEY_SIZE);
    d->signer = (struct chain_signer){d->public.id, d->sk, 1700000000000};
}

static enum sp_err apply(void)
{
    struct sigchain before = chain;
    enum sp_err err = sigchain_apply(&chain, wire, len);
    if (err != SP_OK)
        assert_memory_equal(&chain, &before, sizeof(chain));
    return err;
}

static void make_root(const char *address)
{
    uint8_t user_id[ID_SIZE] = {9};
    assert_int_equal(
        sigchain_make_root(user_id, &first.signer, &first.public, puk, address, wire, &len), SP_OK);
}

static void make_add(const struct device *by, const struct device *d)
{
    uint8_t proof[SIGN_SIZE];
    assert_int_equal(sigchain_make_proof(&chain, &d->public, d->sk, proof), SP_OK);
    assert_int_equal(sigchain_make_add(&chain, &by->signer, &d->public, proof, wire, &len), SP_OK);
}

static void make_rotate(const struct device *by)
{
    randombytes_buf(puk, sizeof(puk));
    assert_int_equal(sigchain_make_rotate(&chain, &by->signer, puk, wire, &len), SP_OK);
}

static void make_revoke(const struct device *by, const struct device *d)
{
    assert_int_equal(sigchain_make_revoke(&chain, &by->signer, d->public.id, puk, wire, &len),
                     SP_OK);
}

/* Signs the link in wire again after it was changed. */
static void sign_again(const struct device *by)
{
    static const char label[] = "\0\x18sealpost/1 sigchain link";
    uint8_t text[2 + 24 + SIGCHAIN_MAX_WIRE];
    size_t n = len - 4 - SIGN_SIZE;
    memcpy(text, label, sizeof(label) - 1);
    memcpy(text + sizeof(label) - 1, wire + 4, n);
    crypto_sign_detached(wire + 4 + n, NULL, text, sizeof(label) - 1 + n, by->sk);
}

/* A chain of one root by the first device. */
static int set_up(void **state)
{
    (void)state;
    sigchain_init(&chain);
    make_device(&first);
    make_device(&second);
    randombytes_buf(puk, sizeof(puk));
    make_root("alice@example.test");
    return apply() == SP_OK ? 0 : -1;
}

static void a_whole_life(void **state)
{
    (void)state;
    assert_string_equal(chain.address, "alice@example.test");
    assert_int_equal(chain.seq, 1);
    assert_int_equal(chain.puk_generation, 1);
    make_add(&first, &second);
    assert_int_equal(apply(), SP_OK);
    make_rotate(&second);
    assert_int_equal(apply(), SP_OK);
    assert_memory_equal(chain.puk_pk, puk, KEY_SIZE);
    make_revoke(&second, &first);
    assert_int_equal(apply(), SP_OK);
    assert_int_equal(chain.seq, 4);
    assert_int_equal(chain.puk_generation, 3);
    assert_true(sigchain_device(&chain, first.public.id)->revoked);
    assert_true(sigchain_signer(&chain, first.public.sign_pk)->revoked);
    assert_false(sigchain_signer(&chain, second.public.sign_pk)->revoked);
    assert_null(sigchain_device(&chain, puk));
    assert_null(sigchain_signer(&chain, puk));
}

/* Read again without signatures, a chain comes to the same; what was changed has another head. */
static void replayed(void **state)
{
    (void)state;
    static uint8_t row[4 * SIGCHAIN_MAX_WIRE];
    struct sigchain again;
    size_t n = 0;
    sigchain_init(&chain);
    for (int i = 0; i < 4; i++) {
        i == 0   ? make_root("alice@example.test")
        : i == 1 ? make_add(&first, &second)
        : i == 2 ? make_rotate(&second)
                 : make_revoke(&second, &first);
        assert_int_equal(apply(), SP_OK);
        memcpy(row + n, wire, len);
        n += len;
    }
    sigchain_init(&again);
    assert_int_equal(sigchain_replay(&again, row, n), SP_OK);
    assert_memory_equal(&again, &chain, sizeof(chain));
    row[n - 1] ^= 1; /* the newest signature */
    sigchain_init(&again);
    assert_int_equal(sigchain_replay(&again, row, n), SP_OK);
    assert_memory_not_equal(again.head, chain.head, HASH_SIZE);
    row[n - 1 - len] ^= 1; /* one that the next link names */
    sigchain_init(&again);
    assert_int_equal(sigchain_replay(&again, row, n), SP_ERR_AUTH);
    sigchain_init(&again);
    assert_int_equal(sigchain_replay(&again, row, n - 1), SP_ERR_FORMAT);
}

static void unknown_and_revoked_signers(void **state)
{
    (void)state;
    make_rotate(&second);
    assert_int_equal(apply(), SP_ERR_DENIED);
    make_add(&first, &second);
    assert_int_equal(apply(), SP_OK);
    make_revoke(&first, &second);
    assert_int_equal(apply(), SP_OK);
    make_rotate(&second);
    assert_int_equal(apply(), SP_ERR_DENIED);
    make_revoke(&first, &second); /* twice */
    assert_int_equal(apply(), SP_ERR_NOT_FOUND);
    make_add(&first, &second); /* no way back for its id and key */
    assert_int_equal(apply(), SP_ERR_EXISTS);
}

static void signed_by_another_key(void **state)
{
    (void)state;
    struct device liar = first;
    memcpy(liar.sk, second.sk, sizeof(liar.sk));
    liar.signer.sign_sk = liar.sk;
    liar.signer.device_id = liar.public.id;
    make_rotate(&liar);
    assert_int_equal(apply(), SP_ERR_AUTH);
    struct sigchain empty;
    make_root("a@b");
    sigchain_init(&empty);
    wire[len - 1] ^= 1;
    assert_int_equal(sigchain_apply(&empty, wire, len), SP_ERR_AUTH);
    assert_int_equal(empty.seq + empty.n_devices, 0);
}

static void places_in_the_chain(void **state)
{
    (void)state;
    struct sigchain other = chain;
    make_root("alice@example.test"); /* a second root */
    assert_int_equal(apply(), SP_ERR_STATE);
    make_rotate(&first);
    assert_int_equal(apply(), SP_OK);
    assert_int_equal(apply(), SP_ERR_STATE); /* replayed */
    chain = other;
    other.head[0] ^= 1;
    assert_int_equal(sigchain_make_rotate(&other, &first.signer, puk, wire, &len), SP_OK);
    assert_int_equal(apply(), SP_ERR_AUTH);
    other = chain;
    other.seq++;
    assert_int_equal(sigchain_make_rotate(&other, &first.signer, puk, wire, &len), SP_OK);
    assert_int_equal(apply(), SP_ERR_STATE);
    other = chain;
    other.user_id[0] ^= 1;
    assert_int_equal(sigchain_make_rotate(&other, &first.signer, puk, wire, &len), SP_OK);
    assert_int_equal(apply(), SP_ERR_AUTH);
    for (uint32_t generation = 0; generation < 4; generation++) {
        other = chain;
        other.puk_generation = generation - 1;
        assert_int_equal(sigchain_make_rotate(&other, &first.signer, puk, wire, &len), SP_OK);
        if (generation != 2)
            assert_int_equal(apply(), SP_ERR_STATE);
    }
}

static void no_link_before_the_root(void **state)
{
    (void)state;
    struct sigchain empty;
    sigchain_init(&empty);
    assert_int_equal(sigchain_make_rotate(&empty, &first.signer, puk, wire, &len), SP_OK);
    assert_int_equal(sigchain_apply(&empty, wire, len), SP_ERR_DENIED);
}

static void proofs_of_new_devices(void **state)
{
    (void)state;
    uint8_t proof[SIGN_SIZE];
    /* Made by another key, for another device, on another head. */
    assert_int_equal(sigchain_make_proof(&chain, &second.public, first.sk, proof), SP_OK);
    assert_int_equal(sigchain_make_add(&chain, &first.signer, &second.public, proof, wire, &len),
                     SP_OK);
    assert_int_equal(apply(), SP_ERR_AUTH);
    assert_int_equal(sigchain_make_proof(&chain, &first.public, second.sk, proof), SP_OK);
    assert_int_equal(sigchain_make_add(&chain, &first.signer, &second.public, proof, wire, &len),
                     SP_OK);
    assert_int_equal(apply(), SP_ERR_AUTH);
    struct sigchain other = chain;
    other.head[5] ^= 1;
    assert_int_equal(sigchain_make_proof(&other, &second.public, second.sk, proof), SP_OK);
    assert_int_equal(sigchain_make_add(&chain, &first.signer, &second.public, proof, wire, &len),
                     SP_OK);
    assert_int_equal(apply(), SP_ERR_AUTH);
}

static void devices_are_unique_and_few(void **state)
{
    (void)state;
    struct device d = second;
    memcpy(d.public.id, first.public.id, ID_SIZE);
    make_add(&first, &d);
    assert_int_equal(apply(), SP_ERR_EXISTS);
    d = second;
    memcpy(d.public.sign_pk, first.public.sign_pk, KEY_SIZE);
    make_add(&first, &d);
    assert_int_equal(apply(), SP_ERR_EXISTS);
    while (chain.n_devices < SIGCHAIN_MAX_DEVICES) {
        make_device(&d);
        make_add(&first, &d);
        assert_int_equal(apply(), SP_OK);
    }
    make_add(&first, &second);
    assert_int_equal(apply(), SP_ERR_LIMIT);
}

/* Every bit and every length, on top of the chain that the wire was made for. */
static void damaged_wires(void **state)
{
    (void)state;
    make_add(&first, &second);
    for (size_t bit = 0; bit < len * 8; bit++) {
        wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(apply(), SP_OK);
        wire[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    size_t whole = len;
    for (len = 0; len < whole; len++)
        assert_int_equal(apply(), SP_ERR_FORMAT);
    len = whole + 1;
    assert_int_equal(apply(), SP_ERR_FORMAT);
    len = SIGCHAIN_MAX_WIRE + 1;
    assert_int_equal(sigchain_apply(&chain, wire, len), SP_ERR_LIMIT);
    len = whole;
    assert_int_equal(apply(), SP_OK);
}

/* A device of the user's own may be taken over: good signatures over bad links. */
static void malformed_but_signed(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
    } changes[] = {{4, 'X'}, {8, 2}, {9, 0}, {9, 5}, {9, 255}, {9, CHAIN_REVOKE_DEVICE}};
    for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
        make_rotate(&first);
        wire[changes[i].at] = changes[i].value;
        sign_again(&first);
        assert_int_not_equal(apply(), SP_OK);
    }
    make_rotate(&first); /* a byte more in the body */
    len++;
    wire[3]++;
    sign_again(&first);
    assert_int_equal(apply(), SP_ERR_FORMAT);
    make_rotate(&first); /* and the check itself: signing again is what it takes */
    sign_again(&first);
    assert_int_equal(apply(), SP_OK);
}

static void addresses(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "a b", "a\nb", "a\x7f"};
    char longest[257];
    struct sigchain empty;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        make_root(bad[i]);
        sigchain_init(&empty);
        assert_int_equal(sigchain_apply(&empty, wire, len), SP_ERR_FORMAT);
    }
    make_root("a@b");
    wire[len - SIGN_SIZE - 2] = 0; /* a NUL would show a shorter address */
    sign_again(&first);
    assert_int_equal(sigchain_apply(&empty, wire, len), SP_ERR_FORMAT);
    memset(longest, 'a', sizeof(longest));
    longest[255] = 0;
    make_root(longest);
    assert_int_equal(sigchain_apply(&empty, wire, len), SP_OK);
    assert_string_equal(empty.address, longest);
    longest[255] = 'a';
    longest[256] = 0;
    assert_int_equal(
        sigchain_make_root(puk, &first.signer, &first.public, puk, longest, wire, &len),
        SP_ERR_LIMIT);
}

static void walking_a_row_of_wires(void **state)
{
    (void)state;
    uint8_t row[3 * SIGCHAIN_MAX_WIRE];
    size_t total = 0, n, at = 0, links = 0;
    for (size_t i = 0; i < 3; i++) {
        make_rotate(&first);
        assert_int_equal(apply(), SP_OK);
        memcpy(row + total, wire, len);
        total += len;
    }
    while (at < total && sigchain_next(row + at, total - at, &n) == SP_OK) {
        at += n;
        links++;
    }
    assert_int_equal(links, 3);
    assert_int_equal(at, total);
    for (size_t cut = 0; cut < len; cut++) {
        assert_int_equal(sigchain_next(wire, cut, &n), SP_ERR_FORMAT);
        assert_int_equal(n, 0);
    }
    memset(row, 0xff, sizeof(row));
    assert_int_equal(sigchain_next(row, sizeof(row), &n), SP_ERR_FORMAT);
}

#define T(f) cmocka_unit_test_setup(f, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_whole_life),
        T(replayed),
        T(unknown_and_revoked_signers),
        T(signed_by_another_key),
        T(places_in_the_chain),
        T(no_link_before_the_root),
        T(proofs_of_new_devices),
        T(devices_are_unique_and_few),
        T(damaged_wires),
        T(malformed_but_signed),
        T(addresses),
        T(walking_a_row_of_wires),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
