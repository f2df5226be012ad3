/* Every known answer of tests/vectors/, which an independent implementation made: sealing with the
 * given keys and nonces gives exactly those bytes, opening gives the message, and whatever is bad
 * is refused with nothing returned. */
#include "envelope/cake.h"
#include "envelope/envelope.h"
#include "envelope/keys.h"
#include "envelope/link.h"
#include "envelope/manifest.h"
#include "envelope/sigchain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <sodium.h>

struct bytes {
    uint8_t *at;
    size_t len;
};

static const char *text_of(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    assert_non_null(s);
    return s;
}

/* A field in hex; free(at). */
static struct bytes hex(const json_t *o, const char *name)
{
    const char *s = text_of(o, name);
    struct bytes b = {.len = strlen(s) / 2};
    b.at = malloc(b.len + 1);
    assert_non_null(b.at);
    assert_int_equal(sodium_hex2bin(b.at, b.len + 1, s, strlen(s), NULL, NULL, NULL), 0);
    return b;
}

static void hex_to(const json_t *o, const char *name, void *out, size_t len)
{
    struct bytes b = hex(o, name);
    assert_int_equal(b.len, len);
    memcpy(out, b.at, len);
    free(b.at);
}

static void assert_bytes(struct bytes got, struct bytes want)
{
    assert_int_equal(got.len, want.len);
    if (want.len > 0)
        assert_memory_equal(got.at, want.at, want.len);
}

static void assert_zero(const void *at, size_t len)
{
    const uint8_t *p = at;
    for (size_t i = 0; i < len; i++)
        assert_int_equal(p[i], 0);
}

static json_t *load(const char *path)
{
    json_error_t why;
    json_t *root = json_load_file(path, 0, &why);
    if (root == NULL)
        fail_msg("%s: %s", path, why.text);
    return root;
}

static struct bytes shake256(const char *seed, size_t len)
{
    struct bytes b = {.at = malloc(len + 1), .len = len};
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_non_null(b.at);
    assert_int_equal(EVP_DigestInit_ex(ctx, EVP_shake256(), NULL), 1);
    assert_int_equal(EVP_DigestUpdate(ctx, seed, strlen(seed)), 1);
    if (len > 0)
        assert_int_equal(EVP_DigestFinalXOF(ctx, b.at, len), 1);
    EVP_MD_CTX_free(ctx);
    return b;
}

/* Seals text with the known key and nonce; free(at). */
static struct bytes seal(const uint8_t *key, const uint8_t *nonce, struct bytes text)
{
    struct bytes b = {.len = (size_t)cake_sealed_length(text.len)};
    b.at = malloc(b.len);
    assert_non_null(b.at);
    assert_int_equal(cake_seal(key, nonce, text.at, text.len, b.at), SP_OK);
    return b;
}

static void assert_opens(const uint8_t *key, struct bytes sealed, struct bytes want)
{
    struct bytes got = {.at = malloc(want.len + 1)};
    assert_int_equal(cake_open(key, sealed.at, sealed.len, got.at, want.len, &got.len), SP_OK);
    assert_bytes(got, want);
    free(got.at);
}

static void check_cake(const json_t *o)
{
    uint8_t key[CAKE_KEY], nonce[CAKE_NONCE], hash[HASH_SIZE], want[HASH_SIZE];
    size_t length = (size_t)json_integer_value(json_object_get(o, "length"));
    hex_to(o, "key", key, sizeof(key));
    hex_to(o, "nonce", nonce, sizeof(nonce));
    struct bytes text = shake256(text_of(o, "plaintext_shake256_of"), length);
    struct bytes sealed = seal(key, nonce, text);
    assert_int_equal(sealed.len,
                     (size_t)json_integer_value(json_object_get(o, "ciphertext_length")));
    hex_to(o, "commitment", want, sizeof(want));
    assert_memory_equal(sealed.at + CAKE_NONCE, want, sizeof(want));
    hex_to(o, "ciphertext_sha256", want, sizeof(want));
    assert_int_equal(keys_sha256(sealed.at, sealed.len, hash), SP_OK);
    assert_memory_equal(hash, want, sizeof(want));
    if (json_is_string(json_object_get(o, "ciphertext"))) {
        struct bytes whole = hex(o, "ciphertext");
        assert_bytes(sealed, whole);
        free(whole.at);
    }
    if (json_is_string(json_object_get(o, "plaintext"))) {
        struct bytes whole = hex(o, "plaintext");
        assert_bytes(text, whole);
        free(whole.at);
    }
    assert_opens(key, sealed, text);
    free(text.at);
    free(sealed.at);
}

static void check_bad_cake(const json_t *o)
{
    uint8_t key[CAKE_KEY];
    size_t len = 1;
    hex_to(o, "key", key, sizeof(key));
    struct bytes sealed = hex(o, "ciphertext");
    uint8_t *out = calloc(1, sealed.len + 1);
    if (cake_open(key, sealed.at, sealed.len, out, sealed.len, &len) == SP_OK)
        fail_msg("cake opened: %s", text_of(o, "why"));
    assert_int_equal(len, 0);
    assert_zero(out, sealed.len);
    free(out);
    free(sealed.at);
}

static void cake_vectors(void **state)
{
    (void)state;
    json_t *root = load("tests/vectors/cake.json");
    json_t *cases = json_object_get(root, "cases"), *bad = json_object_get(root, "bad"), *o;
    size_t i;
    assert_true(json_array_size(cases) >= 12 && json_array_size(bad) >= 12);
    json_array_foreach(cases, i, o) check_cake(o);
    json_array_foreach(bad, i, o) check_bad_cake(o);
    json_decref(root);
}

static void key_vectors(void **state)
{
    (void)state;
    uint8_t seed[KEY_SIZE], want[3][KEY_SIZE], got[3][KEY_SIZE];
    json_t *root = load("tests/vectors/keys.json");
    hex_to(root, "puk_seed", seed, sizeof(seed));
    hex_to(root, "puk_email_x25519_sk", want[0], KEY_SIZE);
    hex_to(root, "puk_email_x25519_pk", want[1], KEY_SIZE);
    hex_to(root, "puk_symmetric", want[2], KEY_SIZE);
    assert_int_equal(keys_puk(seed, got[0], got[1], got[2]), SP_OK);
    assert_memory_equal(got, want, sizeof(want));
    json_decref(root);
}

/* One message of messages.json, as far as it is decoded. */
struct message {
    const json_t *o;
    struct bytes envelope_bytes, manifest_bytes;
    struct envelope envelope;
    struct manifest manifest;
    struct piece pieces[MANIFEST_MAX_PIECES];
    uint8_t manifest_hash[HASH_SIZE], ephemeral_sk[KEY_SIZE], shared_key[KEY_SIZE];
    uint8_t sign_pk[KEY_SIZE], sign_sk[64];
    const uint8_t *signer; /* sign_sk, or NULL */
};

static void check_codecs(struct message *m)
{
    struct bytes again = {.at = malloc(MANIFEST_MAX)};
    assert_int_equal(envelope_decode(m->envelope_bytes.at, m->envelope_bytes.len, &m->envelope),
                     SP_OK);
    assert_int_equal(envelope_encode(&m->envelope, again.at, MANIFEST_MAX, &again.len), SP_OK);
    assert_bytes(again, m->envelope_bytes);
    assert_int_equal(
        manifest_decode(m->manifest_bytes.at, m->manifest_bytes.len, m->pieces, &m->manifest),
        SP_OK);
    assert_int_equal(manifest_encode(&m->manifest, again.at, MANIFEST_MAX, &again.len), SP_OK);
    assert_bytes(again, m->manifest_bytes);
    assert_int_equal(m->manifest.flags, json_integer_value(json_object_get(m->o, "flags")));
    assert_int_equal(m->manifest.n_pieces, m->envelope.n_pieces);
    free(again.at);
}

/* The envelope's own hashes and keys, and the manifest's ciphertext. */
static void check_envelope(struct message *m)
{
    uint8_t key[KEY_SIZE], out[HASH_SIZE], nonce[CAKE_NONCE];
    const char *bcc = text_of(m->o, "bcc_header");
    hex_to(m->o, "commitment_key", key, sizeof(key));
    assert_int_equal(envelope_commit_bcc(key, bcc, strlen(bcc), out), SP_OK);
    assert_memory_equal(out, m->envelope.bcc_commitment, sizeof(out));
    assert_int_equal(keys_x25519_public(m->ephemeral_sk, out), SP_OK);
    assert_memory_equal(out, m->envelope.ephemeral_pk, sizeof(out));
    hex_to(m->o, "manifest_nonce", nonce, sizeof(nonce));
    struct bytes sealed = seal(m->shared_key, nonce, m->manifest_bytes);
    struct bytes there = {(uint8_t *)(uintptr_t)m->envelope.manifest, m->envelope.manifest_len};
    assert_bytes(sealed, there);
    assert_opens(m->shared_key, there, m->manifest_bytes);
    assert_int_equal(envelope_manifest_hash(&m->envelope, m->manifest_hash), SP_OK);
    assert_int_equal(m->envelope.from_user, m->signer != NULL);
    if (m->signer != NULL)
        assert_memory_equal(m->envelope.sender_sign_pk, m->sign_pk, KEY_SIZE);
    free(sealed.at);
}

/* Digest, opening and sealing again of one box. */
static void check_box(const struct message *m, const json_t *o, uint8_t digest[HASH_SIZE])
{
    uint8_t secret[KEY_SIZE], nonce[BOX_NONCE], want[HASH_SIZE], key[KEY_SIZE];
    uint8_t sealed[BOX_MAX_SEALED], again[BOX_MAX];
    struct bytes bytes = hex(o, "box"), out = {.at = again};
    struct box b;
    assert_int_equal(box_decode(bytes.at, bytes.len, &b), SP_OK);
    assert_int_equal(b.kind, json_integer_value(json_object_get(o, "kind")));
    hex_to(o, "digest", want, sizeof(want));
    assert_int_equal(box_digest(&m->envelope, m->manifest_hash, &b, digest), SP_OK);
    assert_memory_equal(digest, want, sizeof(want));
    hex_to(o, "recipient_secret", secret, sizeof(secret));
    assert_int_equal(box_open(&m->envelope, m->manifest_hash, &b, secret, key), SP_OK);
    assert_memory_equal(key, m->shared_key, sizeof(key));
    hex_to(o, "nonce", nonce, sizeof(nonce));
    assert_int_equal(box_seal(&m->envelope, m->manifest_hash, &b,
                              b.kind == BOX_PASSWORD ? secret : m->ephemeral_sk, m->shared_key,
                              m->signer, nonce, sealed),
                     SP_OK);
    assert_int_equal(box_encode(&b, again, sizeof(again), &out.len), SP_OK);
    assert_bytes(out, bytes);
    free(bytes.at);
}

static void check_boxes(const struct message *m)
{
    uint8_t digests[16][HASH_SIZE], signature[SIGN_SIZE], want[SIGN_SIZE];
    json_t *boxes = json_object_get(m->o, "boxes"), *o;
    uint32_t n = (uint32_t)json_array_size(boxes);
    size_t i;
    assert_in_range(n, 1, 16);
    json_array_foreach(boxes, i, o) check_box(m, o, digests[i]);
    if (m->signer == NULL)
        return;
    hex_to(m->o, "recipient_list_signature", want, sizeof(want));
    assert_int_equal(recipients_sign(m->signer, digests[0], n, signature), SP_OK);
    assert_memory_equal(signature, want, sizeof(want));
    assert_int_equal(recipients_verify(m->sign_pk, digests[0], n, want), SP_OK);
    assert_int_equal(recipients_verify(m->sign_pk, digests[0], n - 1, want), SP_ERR_AUTH);
}

/* Rejoins the message from the pieces' plaintexts (4.2). */
static struct bytes rejoin(const struct message *m, const struct bytes *texts)
{
    struct bytes out = {.at = malloc(1 << 20)};
    uint64_t at = 0;
    memcpy(out.at, m->manifest.added, m->manifest.added_len);
    out.len = m->manifest.added_len;
    for (uint32_t i = 1; i <= m->manifest.n_pieces; i++) {
        bool end = i == m->manifest.n_pieces;
        uint64_t to = end ? m->pieces[0].length : m->pieces[i].splice_at;
        memcpy(out.at + out.len, texts[0].at + at, to - at);
        out.len += to - at;
        at = to;
        if (!end) {
            memcpy(out.at + out.len, texts[i].at, texts[i].len);
            out.len += texts[i].len;
        }
    }
    return out;
}

static void check_pieces(const struct message *m)
{
    struct bytes texts[16];
    json_t *pieces = json_object_get(m->o, "pieces"), *o;
    size_t i;
    assert_int_equal(json_array_size(pieces), m->manifest.n_pieces);
    json_array_foreach(pieces, i, o)
    {
        uint8_t key[KEY_SIZE], nonce[CAKE_NONCE], hash[HASH_SIZE];
        hex_to(o, "key", key, sizeof(key));
        hex_to(o, "nonce", nonce, sizeof(nonce));
        assert_memory_equal(m->pieces[i].key, key, sizeof(key));
        struct bytes want = hex(o, "ciphertext");
        texts[i] = hex(o, "plaintext");
        struct bytes sealed = seal(key, nonce, texts[i]);
        assert_bytes(sealed, want);
        assert_opens(key, want, texts[i]);
        assert_int_equal(m->pieces[i].length, texts[i].len);
        assert_int_equal(m->envelope.piece_length[i], want.len);
        assert_int_equal(keys_sha256(want.at, want.len, hash), SP_OK);
        assert_memory_equal(m->pieces[i].hash, hash, sizeof(hash));
        free(want.at);
        free(sealed.at);
    }
    struct bytes whole = hex(m->o, "message"), joined = rejoin(m, texts);
    assert_bytes(joined, whole);
    for (i = 0; i < m->manifest.n_pieces; i++)
        free(texts[i].at);
    free(whole.at);
    free(joined.at);
}

static void check_link(const struct message *m)
{
    uint8_t gate[HASH_SIZE], want[HASH_SIZE];
    char base[LINK_TEXT_MAX], again[LINK_TEXT_MAX];
    struct link l;
    const char *text = text_of(m->o, "link");
    assert_int_equal(link_parse(text, &l, base, sizeof(base)), SP_OK);
    assert_int_equal(link_format(base, &l, again, sizeof(again)), SP_OK);
    assert_string_equal(again, text);
    assert_int_equal(link_gate(l.password, gate), SP_OK);
    hex_to(m->o, "gate", want, sizeof(want));
    assert_memory_equal(gate, want, sizeof(want));
    assert_int_equal(keys_sha256(gate, sizeof(gate), gate), SP_OK);
    hex_to(m->o, "gate_sha256", want, sizeof(want));
    assert_memory_equal(gate, want, sizeof(want));
    const json_t *box = json_array_get(json_object_get(m->o, "boxes"), 2);
    hex_to(box, "digest", want, sizeof(want));
    assert_memory_equal(l.digest, want, sizeof(want));
    hex_to(box, "recipient_secret", want, sizeof(want));
    assert_memory_equal(l.password, want, sizeof(want));
}

static void check_message(const json_t *o)
{
    uint8_t seed[32];
    struct message *m = calloc(1, sizeof(*m));
    m->o = o;
    m->envelope_bytes = hex(o, "envelope");
    m->manifest_bytes = hex(o, "manifest");
    hex_to(o, "ephemeral_sk", m->ephemeral_sk, KEY_SIZE);
    hex_to(o, "shared_key", m->shared_key, KEY_SIZE);
    if (json_is_string(json_object_get(o, "sender_sign_seed"))) {
        hex_to(o, "sender_sign_seed", seed, sizeof(seed));
        crypto_sign_seed_keypair(m->sign_pk, m->sign_sk, seed);
        m->signer = m->sign_sk;
    }
    check_codecs(m);
    check_envelope(m);
    check_boxes(m);
    check_pieces(m);
    check_link(m);
    free(m->envelope_bytes.at);
    free(m->manifest_bytes.at);
    free(m);
}

static void message_vectors(void **state)
{
    (void)state;
    json_t *root = load("tests/vectors/messages.json"), *o;
    json_t *messages = json_object_get(root, "messages");
    size_t i;
    assert_true(json_array_size(messages) >= 3);
    json_array_foreach(messages, i, o) check_message(o);
    json_decref(root);
}

static enum sp_err refuse_envelope(struct bytes b)
{
    struct envelope e;
    enum sp_err err = envelope_decode(b.at, b.len, &e);
    assert_zero(&e, sizeof(e));
    return err;
}

static enum sp_err refuse_box(struct bytes b)
{
    struct box x;
    enum sp_err err = box_decode(b.at, b.len, &x);
    assert_zero(&x, sizeof(x));
    return err;
}

static enum sp_err refuse_manifest(struct bytes b)
{
    static struct piece pieces[MANIFEST_MAX_PIECES];
    struct manifest m;
    enum sp_err err = manifest_decode(b.at, b.len, pieces, &m);
    assert_zero(&m, sizeof(m));
    assert_zero(pieces, sizeof(pieces));
    return err;
}

static void malformed_vectors(void **state)
{
    (void)state;
    static const struct {
        const char *object;
        enum sp_err (*decode)(struct bytes);
    } decoders[] = {
        {"envelope", refuse_envelope}, {"box", refuse_box}, {"manifest", refuse_manifest}};
    json_t *root = load("tests/vectors/malformed.json"), *o;
    json_t *cases = json_object_get(root, "cases");
    size_t i, tried = 0;
    json_array_foreach(cases, i, o)
    {
        struct bytes b = hex(o, "bytes");
        for (size_t d = 0; d < 3; d++) {
            if (strcmp(decoders[d].object, text_of(o, "object")) != 0)
                continue;
            tried++;
            if (decoders[d].decode(b) == SP_OK)
                fail_msg("taken: %s, %s", text_of(o, "object"), text_of(o, "why"));
        }
        free(b.at);
    }
    assert_true(tried >= 27 && tried == json_array_size(cases));
    json_decref(root);
}

/* The newest PUK of the chain is the one that its seed gives. */
static void check_puk(const struct sigchain *c, const json_t *seeds)
{
    uint8_t seed[KEY_SIZE], pk[KEY_SIZE];
    const char *s = json_string_value(json_array_get(seeds, c->puk_generation - 1));
    assert_non_null(s);
    assert_int_equal(sodium_hex2bin(seed, sizeof(seed), s, 64, NULL, NULL, NULL), 0);
    assert_int_equal(keys_puk(seed, NULL, pk, NULL), SP_OK);
    assert_memory_equal(pk, c->puk_pk, sizeof(pk));
}

static void sigchain_vectors(void **state)
{
    (void)state;
    static struct sigchain c, before;
    json_t *root = load("tests/vectors/sigchain.json"), *o;
    json_t *good = json_object_get(root, "good"), *bad = json_object_get(root, "bad");
    char fingerprint[SIGCHAIN_FINGERPRINT];
    size_t i, n;
    assert_true(json_array_size(good) >= 4 && json_array_size(bad) >= 6);
    sigchain_init(&c);
    json_array_foreach(good, i, o)
    {
        struct bytes wire = hex(o, "wire");
        assert_int_equal(sigchain_next(wire.at, wire.len, &n), SP_OK);
        assert_int_equal(n, wire.len);
        assert_int_equal(sigchain_apply(&c, wire.at, wire.len), SP_OK);
        sigchain_fingerprint(&c, fingerprint);
        assert_string_equal(fingerprint, text_of(o, "fingerprint"));
        check_puk(&c, json_object_get(root, "puk_seeds"));
        free(wire.at);
    }
    before = c;
    json_array_foreach(bad, i, o)
    {
        struct bytes wire = hex(o, "wire");
        if (sigchain_apply(&c, wire.at, wire.len) == SP_OK)
            fail_msg("taken: %s", text_of(o, "why"));
        assert_memory_equal(&c, &before, sizeof(c));
        free(wire.at);
    }
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cake_vectors),     cmocka_unit_test(key_vectors),
        cmocka_unit_test(message_vectors),  cmocka_unit_test(malformed_vectors),
        cmocka_unit_test(sigchain_vectors),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
