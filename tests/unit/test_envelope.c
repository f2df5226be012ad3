/* Envelopes and boxes beyond the known answers: every flipped bit and every truncation is refused,
 * and nobody but the recipient opens, nobody but the sender signs. */
#include "envelope/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <sodium.h>

#define N_KINDS 3

/* A sealed message: an envelope and a box of each kind. */
struct sample {
    struct envelope envelope;
    uint8_t manifest[CAKE_HEADER + 5 + CAKE_TAG];
    uint8_t manifest_hash[HASH_SIZE];
    uint8_t ephemeral_sk[KEY_SIZE], shared_key[KEY_SIZE];
    uint8_t sign_sk[64];
    const uint8_t *signer;
    struct box box[N_KINDS];
    uint8_t secret[N_KINDS][KEY_SIZE]; /* the recipients' */
    uint8_t sealed[N_KINDS][BOX_MAX_SEALED];
};

static const uint8_t *seal_secret(const struct sample *s, size_t i)
{
    return s->box[i].kind == BOX_PASSWORD ? s->secret[i] : s->ephemeral_sk;
}

static enum sp_err seal_box(struct sample *s, size_t i)
{
    return box_seal(&s->envelope, s->manifest_hash, &s->box[i], seal_secret(s, i), s->shared_key,
                    s->signer, NULL, s->sealed[i]);
}

static enum sp_err open_box(const struct sample *s, const struct envelope *e, const struct box *b,
                            size_t i, uint8_t key[KEY_SIZE])
{
    uint8_t hash[HASH_SIZE];
    assert_int_equal(envelope_manifest_hash(e, hash), SP_OK);
    return box_open(e, hash, b, s->secret[i], key);
}

static void make_boxes(struct sample *s)
{
    for (size_t i = 0; i < N_KINDS; i++) {
        struct box *b = &s->box[i];
        b->kind = (uint8_t)(BOX_USER + i);
        randombytes_buf(b->recipient_id, ID_SIZE);
        randombytes_buf(s->secret[i], KEY_SIZE);
        b->puk_generation = b->kind == BOX_USER ? 7 : 0;
        if (b->kind == BOX_PASSWORD)
            b->expiry = 1800000000;
        else
            assert_int_equal(keys_x25519_public(s->secret[i], b->recipient_pk), SP_OK);
        assert_int_equal(seal_box(s, i), SP_OK);
    }
}

static void make(struct sample *s, bool from_user)
{
    struct envelope *e = &s->envelope;
    memset(s, 0, sizeof(*s));
    e->suite = ENVELOPE_SUITE_X25519;
    keys_uuid7(1700000000000, e->message_id);
    randombytes_buf(s->ephemeral_sk, KEY_SIZE);
    randombytes_buf(s->shared_key, KEY_SIZE);
    assert_int_equal(keys_x25519_public(s->ephemeral_sk, e->ephemeral_pk), SP_OK);
    if (from_user) {
        e->from_user = true;
        randombytes_buf(e->sender_user_id, ID_SIZE);
        crypto_sign_keypair(e->sender_sign_pk, s->sign_sk);
        s->signer = s->sign_sk;
    }
    assert_int_equal(envelope_commit_bcc(s->shared_key, "", 0, e->bcc_commitment), SP_OK);
    e->n_pieces = 2;
    e->piece_length[0] = cake_sealed_length(100);
    e->piece_length[1] = cake_sealed_length(100000);
    assert_int_equal(cake_seal(s->shared_key, NULL, (const uint8_t *)"hello", 5, s->manifest),
                     SP_OK);
    e->manifest = s->manifest;
    e->manifest_len = sizeof(s->manifest);
    assert_int_equal(envelope_manifest_hash(e, s->manifest_hash), SP_OK);
    make_boxes(s);
}

static void assert_zero(const void *p, size_t len)
{
    assert_true(sodium_is_zero(p, len));
}

static size_t encode(const struct sample *s, uint8_t *out, size_t cap)
{
    size_t len;
    assert_int_equal(envelope_encode(&s->envelope, out, cap, &len), SP_OK);
    return len;
}

static void round_trips(void **state)
{
    (void)state;
    struct sample s;
    uint8_t buf[1024], key[KEY_SIZE];
    for (int from_user = 0; from_user < 2; from_user++) {
        make(&s, from_user);
        size_t len = encode(&s, buf, sizeof(buf));
        struct envelope e;
        assert_true(len <= ENVELOPE_SIZE(2, sizeof(s.manifest)));
        assert_int_equal(len == ENVELOPE_SIZE(2, sizeof(s.manifest)), from_user);
        assert_int_equal(envelope_decode(buf, len, &e), SP_OK);
        for (size_t i = 0; i < N_KINDS; i++) {
            uint8_t bytes[BOX_MAX];
            struct box b;
            assert_int_equal(box_encode(&s.box[i], bytes, sizeof(bytes), &len), SP_OK);
            assert_int_equal(box_decode(bytes, len, &b), SP_OK);
            assert_int_equal(open_box(&s, &e, &b, i, key), SP_OK);
            assert_memory_equal(key, s.shared_key, KEY_SIZE);
        }
    }
}

/* The pieces' ciphertext lengths are the one thing that no digest covers: what is read is measured
 * by the manifest. All else is refused in decoding or in opening. */
static bool is_piece_length(const struct sample *s, size_t at)
{
    size_t first = 60 + HASH_SIZE + 4 + (s->envelope.from_user ? ID_SIZE + KEY_SIZE : 0);
    return at >= first && at < first + 16;
}

static void flipped_bits_of_an_envelope(void **state)
{
    (void)state;
    struct sample s;
    struct envelope e;
    uint8_t buf[1024], key[KEY_SIZE];
    for (int from_user = 0; from_user < 2; from_user++) {
        make(&s, from_user);
        size_t len = encode(&s, buf, sizeof(buf));
        for (size_t bit = 0; bit < len * 8; bit++) {
            buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (envelope_decode(buf, len, &e) != SP_OK) {
                assert_zero(&e, sizeof(e));
            } else if (!is_piece_length(&s, bit / 8)) {
                for (size_t i = 0; i < N_KINDS; i++) {
                    assert_int_equal(open_box(&s, &e, &s.box[i], i, key), SP_ERR_AUTH);
                    assert_zero(key, sizeof(key));
                }
            }
            buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

static void flipped_bits_of_a_box(void **state)
{
    (void)state;
    struct sample s;
    struct box b;
    uint8_t buf[BOX_MAX], key[KEY_SIZE];
    for (size_t n = 0; n < 2 * N_KINDS; n++) {
        size_t len, i = n / 2;
        make(&s, n % 2 == 0);
        assert_int_equal(box_encode(&s.box[i], buf, sizeof(buf), &len), SP_OK);
        for (size_t bit = 0; bit < len * 8; bit++) {
            buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (box_decode(buf, len, &b) != SP_OK) {
                assert_zero(&b, sizeof(b));
            } else {
                assert_int_equal(open_box(&s, &s.envelope, &b, i, key), SP_ERR_AUTH);
                assert_zero(key, sizeof(key));
            }
            buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

static void every_truncation_and_a_byte_more(void **state)
{
    (void)state;
    struct sample s;
    struct envelope e;
    struct box b;
    uint8_t buf[1024] = {0};
    make(&s, true);
    size_t len = encode(&s, buf, sizeof(buf));
    for (size_t cut = 0; cut <= len + 1; cut++) {
        assert_int_equal(envelope_decode(buf, cut, &e), cut == len ? SP_OK : SP_ERR_FORMAT);
        if (cut != len)
            assert_zero(&e, sizeof(e));
    }
    for (size_t cap = 0; cap < len; cap++) {
        size_t got = 1;
        assert_int_equal(envelope_encode(&s.envelope, buf, cap, &got), SP_ERR_LIMIT);
        assert_int_equal(got, 0);
    }
    for (size_t i = 0; i < N_KINDS; i++) {
        assert_int_equal(box_encode(&s.box[i], buf, BOX_MAX, &len), SP_OK);
        for (size_t cut = 0; cut <= len + 1; cut++)
            assert_int_equal(box_decode(buf, cut, &b), cut == len ? SP_OK : SP_ERR_FORMAT);
        size_t got;
        assert_int_equal(box_encode(&s.box[i], buf, len - 1, &got), SP_ERR_LIMIT);
    }
}

static void envelope_limits(void **state)
{
    (void)state;
    struct sample s;
    struct envelope e;
    static uint8_t buf[8192];
    size_t len;
    make(&s, false);
    s.envelope.n_pieces = ENVELOPE_MAX_PIECES;
    for (size_t i = 0; i < ENVELOPE_MAX_PIECES; i++)
        s.envelope.piece_length[i] = cake_sealed_length(i);
    assert_int_equal(envelope_encode(&s.envelope, buf, sizeof(buf), &len), SP_OK);
    assert_int_equal(envelope_decode(buf, len, &e), SP_OK);
    s.envelope.n_pieces++;
    assert_int_equal(envelope_encode(&s.envelope, buf, sizeof(buf), &len), SP_ERR_LIMIT);
    s.envelope.n_pieces = 0;
    assert_int_equal(envelope_encode(&s.envelope, buf, sizeof(buf), &len), SP_ERR_FORMAT);
    s.envelope.n_pieces = 1;
    s.envelope.piece_length[0] = CAKE_HEADER + CAKE_SEALED; /* no last chunk */
    assert_int_equal(envelope_encode(&s.envelope, buf, sizeof(buf), &len), SP_ERR_FORMAT);
    s.envelope.piece_length[0] = 72;
    s.envelope.manifest_len = 71;
    assert_int_equal(envelope_encode(&s.envelope, buf, sizeof(buf), &len), SP_ERR_FORMAT);
    s.envelope.manifest_len = 2 << 20;
    assert_int_equal(envelope_encode(&s.envelope, buf, sizeof(buf), &len), SP_ERR_LIMIT);
    s.envelope.manifest_len = sizeof(s.manifest);
    s.envelope.suite = 2; /* reserved */
    assert_int_equal(envelope_encode(&s.envelope, buf, sizeof(buf), &len), SP_ERR_FORMAT);
}

static void boxes_that_break_their_kind(void **state)
{
    (void)state;
    struct sample s;
    uint8_t buf[BOX_MAX];
    size_t len;
    static const struct {
        uint8_t kind;
        uint32_t generation;
    } bad[] = {{0, 0}, {4, 0}, {255, 1}, {BOX_USER, 0}, {BOX_RELAY, 1}, {BOX_PASSWORD, 1}};
    make(&s, false);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct box b = s.box[0];
        b.kind = bad[i].kind;
        b.puk_generation = bad[i].generation;
        assert_int_equal(box_encode(&b, buf, sizeof(buf), &len), SP_ERR_FORMAT);
        assert_int_equal(len, 0);
        assert_int_equal(box_seal(&s.envelope, s.manifest_hash, &b, s.ephemeral_sk, s.shared_key,
                                  NULL, NULL, buf),
                         SP_ERR_FORMAT);
        assert_null(b.sealed);
    }
    s.box[0].sealed_len--;
    assert_int_equal(box_encode(&s.box[0], buf, sizeof(buf), &len), SP_ERR_FORMAT);
}

static void nobody_else_opens(void **state)
{
    (void)state;
    struct sample s, other;
    uint8_t key[KEY_SIZE];
    make(&s, true);
    make(&other, true);
    for (size_t i = 0; i < N_KINDS; i++) {
        assert_int_equal(open_box(&other, &s.envelope, &s.box[i], i, key), SP_ERR_AUTH);
        assert_int_equal(open_box(&s, &other.envelope, &s.box[i], i, key), SP_ERR_AUTH);
        assert_int_equal(box_open(&s.envelope, other.manifest_hash, &s.box[i], s.secret[i], key),
                         SP_ERR_AUTH);
        assert_zero(key, sizeof(key));
    }
}

/* A point of small order would make the shared secret a constant. */
static void small_order_keys(void **state)
{
    (void)state;
    struct sample s;
    uint8_t key[KEY_SIZE];
    make(&s, false);
    memset(s.box[0].recipient_pk, 0, KEY_SIZE);
    assert_int_equal(seal_box(&s, 0), SP_ERR_AUTH);
    assert_null(s.box[0].sealed);
    make(&s, false);
    memset(s.envelope.ephemeral_pk, 0, KEY_SIZE);
    s.envelope.ephemeral_pk[0] = 1;
    assert_int_equal(open_box(&s, &s.envelope, &s.box[0], 0, key), SP_ERR_AUTH);
}

static void who_signs(void **state)
{
    (void)state;
    struct sample s, other;
    make(&s, true);
    make(&other, true);
    s.signer = NULL; /* a user's mail without a signature */
    assert_int_equal(seal_box(&s, 0), SP_ERR_STATE);
    s.signer = other.sign_sk; /* signed by another than it says */
    assert_int_equal(seal_box(&s, 0), SP_ERR_AUTH);
    make(&s, false);
    s.signer = other.sign_sk; /* the appliance signs nothing */
    assert_int_equal(seal_box(&s, 0), SP_ERR_STATE);
}

/* A recipient can make the key K, and so seal what he likes; the sender's signature he cannot. */
static void forged_payload(void **state)
{
    (void)state;
    struct sample s;
    uint8_t digest[HASH_SIZE], k[KEY_SIZE], payload[KEY_SIZE + SIGN_SIZE], key[KEY_SIZE];
    size_t got;
    make(&s, true);
    assert_int_equal(box_digest(&s.envelope, s.manifest_hash, &s.box[2], digest), SP_OK);
    assert_int_equal(keys_hmac(s.secret[2], digest, HASH_SIZE, k), SP_OK);
    assert_int_equal(
        cake_open(k, s.box[2].sealed, s.box[2].sealed_len, payload, sizeof(payload), &got), SP_OK);
    payload[KEY_SIZE] ^= 1;
    assert_int_equal(cake_seal(k, NULL, payload, sizeof(payload), s.sealed[2]), SP_OK);
    assert_int_equal(open_box(&s, &s.envelope, &s.box[2], 2, key), SP_ERR_AUTH);
    assert_zero(key, sizeof(key));
    /* Nor can he leave it out. */
    assert_int_equal(cake_seal(k, NULL, payload, KEY_SIZE, s.sealed[2]), SP_OK);
    s.box[2].sealed_len = (size_t)cake_sealed_length(KEY_SIZE);
    assert_int_equal(open_box(&s, &s.envelope, &s.box[2], 2, key), SP_ERR_FORMAT);
}

static void recipient_lists(void **state)
{
    (void)state;
    uint8_t pk[KEY_SIZE], sk[64], signature[SIGN_SIZE], digests[3 * HASH_SIZE];
    crypto_sign_keypair(pk, sk);
    randombytes_buf(digests, sizeof(digests));
    for (uint32_t n = 0; n <= 3; n++) {
        assert_int_equal(recipients_sign(sk, digests, n, signature), SP_OK);
        for (uint32_t m = 0; m <= 3; m++)
            assert_int_equal(recipients_verify(pk, digests, m, signature),
                             m == n ? SP_OK : SP_ERR_AUTH);
    }
    digests[95] ^= 1;
    assert_int_equal(recipients_verify(pk, digests, 3, signature), SP_ERR_AUTH);
    assert_int_equal(recipients_sign(sk, digests, RECIPIENTS_MAX + 1, signature), SP_ERR_LIMIT);
    assert_int_equal(recipients_verify(pk, digests, UINT32_MAX, signature), SP_ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(flipped_bits_of_an_envelope),
        cmocka_unit_test(flipped_bits_of_a_box),
        cmocka_unit_test(every_truncation_and_a_byte_more),
        cmocka_unit_test(envelope_limits),
        cmocka_unit_test(boxes_that_break_their_kind),
        cmocka_unit_test(nobody_else_opens),
        cmocka_unit_test(small_order_keys),
        cmocka_unit_test(who_signs),
        cmocka_unit_test(forged_payload),
        cmocka_unit_test(recipient_lists),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
