/* Opening a message (FORMAT.md section 5) against a server that is a handful of arrays here: what
 * an honest one gives is rejoined byte for byte, and whatever bit of it is changed, nothing comes
 * out. */
#include "client/addrlist.c"
#include "client/chain.c"
#include "client/contacts.c"
#include "client/file.c"
#include "client/join.c"
#include "client/keyring.c"
#include "client/mend.c"
#include "client/message.c"
#include "client/report.c"
#include "client/secret.c"
#include "client/spool.c"
#include "client/state.c"
#include "client/trust.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define N_PIECES   3u
#define PIECE_ROOM 40000u

/* What the server holds of the one message. */
static struct {
    char id[ID_HEX + 1];
    uint8_t answer[8192]; /* b32(envelope) b32(box) */
    size_t answer_len, envelope_len;
    uint8_t piece[N_PIECES][PIECE_ROOM];
    size_t piece_len[N_PIECES];
    uint8_t chain[SIGCHAIN_MAX_WIRE];
    size_t chain_len;
    uint8_t other[SIGCHAIN_MAX_WIRE]; /* the chain of another user, asked for by id */
    size_t other_len;
    size_t cut_after;   /* of a piece's bytes, then the connection ends */
    unsigned cuts_left; /* so many times */
    unsigned requests;  /* for pieces */
} held;

static bool spoil_tags; /* of pieces, before they are hashed: a sender's own fault */

static uint8_t message_text[80000], expected[80000];
static size_t expected_len;
static struct client client;
static char home[64];

enum sp_err server_refuse(struct server *s, enum sp_err err, const char *what)
{
    (void)s;
    (void)what;
    return err;
}

enum sp_err server_message(struct server *s, const char id[ID_HEX + 1], uint8_t **out, size_t *len)
{
    (void)s;
    assert_string_equal(id, held.id);
    *out = malloc(held.answer_len + 1);
    memcpy(*out, held.answer, held.answer_len);
    *len = held.answer_len;
    return SP_OK;
}

enum sp_err server_piece(struct server *s, const char id[ID_HEX + 1], uint32_t piece, uint64_t from,
                         http_sink sink, void *ctx)
{
    (void)s;
    (void)id;
    assert_true(piece < N_PIECES);
    held.requests++;
    if (from > held.piece_len[piece])
        return SP_ERR_PEER;
    size_t n = held.piece_len[piece] - from;
    bool cut = held.cuts_left > 0 && n > held.cut_after;
    if (cut) {
        held.cuts_left--;
        n = held.cut_after;
    }
    enum sp_err err = n > 0 ? sink(ctx, held.piece[piece] + from, n) : SP_OK;
    return err == SP_OK && cut ? SP_ERR_PEER : err;
}

enum sp_err server_sigchain(struct server *s, const char *address, uint32_t after,
                            uint8_t user_id[ID_SIZE], uint8_t **wires, size_t *len)
{
    (void)s;
    (void)address;
    assert_int_equal(after, 0);
    memcpy(user_id, client.keys->user_id, ID_SIZE);
    *wires = malloc(held.chain_len);
    memcpy(*wires, held.chain, held.chain_len);
    *len = held.chain_len;
    return SP_OK;
}

/* This server has lost nothing. */
enum sp_err server_append(struct server *s, const uint8_t *wire, size_t len)
{
    (void)s;
    (void)wire;
    (void)len;
    return SP_ERR_STATE;
}

enum sp_err server_sigchain_of(struct server *s, const uint8_t user_id[ID_SIZE], uint32_t after,
                               uint8_t **wires, size_t *len)
{
    (void)s;
    (void)user_id;
    assert_int_equal(after, 0);
    if (held.other_len == 0)
        return SP_ERR_NOT_FOUND;
    *wires = malloc(held.other_len);
    memcpy(*wires, held.other, held.other_len);
    *len = held.other_len;
    return SP_OK;
}

/* Sealing */

static void seal_piece(struct piece *p, uint32_t i, const uint8_t *bytes, size_t len)
{
    p->length = len;
    randombytes_buf(p->key, KEY_SIZE);
    held.piece_len[i] = (size_t)cake_sealed_length(len);
    assert_true(held.piece_len[i] <= PIECE_ROOM);
    assert_int_equal(cake_seal(p->key, NULL, bytes, len, held.piece[i]), SP_OK);
    held.piece[i][held.piece_len[i] - 1] ^= spoil_tags ? 1 : 0;
    assert_int_equal(keys_sha256(held.piece[i], held.piece_len[i], p->hash), SP_OK);
}

/* A body of 20,000 bytes, with an attachment of 16,384 inside and one of 5 at its end. */
static void make_pieces(struct piece pieces[N_PIECES])
{
    static const uint8_t added[] = "X-Added: 1\r\n";
    static uint8_t body[20000];
    const uint8_t *first = message_text + 7000, *second = message_text + 7000 + 16384 + 13000;
    randombytes_buf(message_text, sizeof message_text);
    memcpy(body, message_text, 7000);
    memcpy(body + 7000, first + 16384, 13000);
    memset(pieces, 0, N_PIECES * sizeof *pieces);
    for (uint32_t i = 0; i < N_PIECES; i++) {
        pieces[i].kind = i == 0 ? PIECE_BODY : PIECE_ATTACHMENT;
        pieces[i].media_type = i == 0 ? "message/rfc822" : "image/png";
        pieces[i].media_len = strlen(pieces[i].media_type);
        pieces[i].file_name = "";
    }
    pieces[1].splice_at = 7000;
    pieces[2].splice_at = 20000;
    seal_piece(&pieces[0], 0, body, sizeof body);
    seal_piece(&pieces[1], 1, first, 16384);
    seal_piece(&pieces[2], 2, second, 5);
    expected_len = sizeof added - 1 + 20000 + 16384 + 5;
    memcpy(expected, added, sizeof added - 1);
    memcpy(expected + sizeof added - 1, message_text, 20000 + 16384 + 5);
}

static size_t seal_manifest(struct piece pieces[N_PIECES], const uint8_t shared_key[KEY_SIZE],
                            uint8_t *out)
{
    static uint8_t plain[4096];
    size_t len;
    const struct manifest m = {.time_ms = 1,
                               .n_pieces = N_PIECES,
                               .pieces = pieces,
                               .added = (const uint8_t *)"X-Added: 1\r\n",
                               .added_len = 12};
    assert_int_equal(manifest_encode(&m, plain, sizeof plain, &len), SP_OK);
    assert_int_equal(cake_seal(shared_key, NULL, plain, len, out), SP_OK);
    return (size_t)cake_sealed_length(len);
}

/* The box for the client's own PUK; signed by sign_sk if the envelope has a sender. */
static void seal_box(const struct envelope *e, const uint8_t ephemeral_sk[KEY_SIZE],
                     const uint8_t shared_key[KEY_SIZE], const uint8_t *sign_sk,
                     uint8_t out[BOX_MAX], size_t *len)
{
    uint8_t hash[HASH_SIZE], sealed[BOX_MAX_SEALED];
    struct box b = {.kind = BOX_USER, .puk_generation = 1};
    memcpy(b.recipient_id, client.keys->user_id, ID_SIZE);
    assert_int_equal(keys_puk(client.keys->seeds[0].seed, NULL, b.recipient_pk, NULL), SP_OK);
    assert_int_equal(envelope_manifest_hash(e, hash), SP_OK);
    assert_int_equal(box_seal(e, hash, &b, ephemeral_sk, shared_key, sign_sk, NULL, sealed), SP_OK);
    assert_int_equal(box_encode(&b, out, BOX_MAX, len), SP_OK);
}

/* Fills `held`. sender: signs as this device of this user, or nobody. */
static void make_message(const uint8_t *sender_id, const uint8_t *sender_pk, const uint8_t *sign_sk)
{
    static uint8_t manifest[4096], bytes[8192];
    uint8_t shared_key[KEY_SIZE], ephemeral_sk[KEY_SIZE], box[BOX_MAX];
    struct piece pieces[N_PIECES];
    struct envelope e = {.suite = ENVELOPE_SUITE_X25519, .n_pieces = N_PIECES};
    size_t len, box_len;
    held.cuts_left = held.requests = 0;
    make_pieces(pieces);
    randombytes_buf(shared_key, sizeof shared_key);
    randombytes_buf(ephemeral_sk, sizeof ephemeral_sk);
    keys_uuid7(1000, e.message_id);
    assert_int_equal(keys_x25519_public(ephemeral_sk, e.ephemeral_pk), SP_OK);
    e.from_user = sender_id != NULL;
    if (e.from_user) {
        memcpy(e.sender_user_id, sender_id, ID_SIZE);
        memcpy(e.sender_sign_pk, sender_pk, KEY_SIZE);
    }
    for (uint32_t i = 0; i < N_PIECES; i++)
        e.piece_length[i] = held.piece_len[i];
    e.manifest = manifest;
    e.manifest_len = seal_manifest(pieces, shared_key, manifest);
    assert_int_equal(envelope_encode(&e, bytes, sizeof bytes, &len), SP_OK);
    seal_box(&e, ephemeral_sk, shared_key, sign_sk, box, &box_len);
    struct wire_out w = wire_out(held.answer, sizeof held.answer);
    wire_put_b32(&w, bytes, len);
    wire_put_b32(&w, box, box_len);
    assert_true(wire_out_ok(&w));
    held.answer_len = w.len;
    held.envelope_len = len;
    sodium_bin2hex(held.id, sizeof held.id, e.message_id, ID_SIZE);
}

/* The client */

static void make_chain(void)
{
    uint8_t puk_pk[KEY_SIZE];
    struct chain_device d = {.revoked = false};
    const struct chain_signer by = {
        .device_id = client.keys->device_id, .sign_sk = client.keys->sign_sk, .time_ms = 1};
    memcpy(d.id, client.keys->device_id, ID_SIZE);
    memcpy(d.sign_pk, keyring_sign_pk(client.keys), KEY_SIZE);
    assert_int_equal(keys_x25519_public(client.keys->box_sk, d.box_pk), SP_OK);
    assert_int_equal(keys_puk(client.keys->seeds[0].seed, NULL, puk_pk, NULL), SP_OK);
    assert_int_equal(sigchain_make_root(client.keys->user_id, &by, &d, puk_pk, "a@example.org",
                                        held.chain, &held.chain_len),
                     SP_OK);
    assert_int_equal(chain_load(client.state, "a@example.org", &client.own), SP_OK);
    assert_int_equal(chain_update(client.own, client.state, NULL), SP_OK);
}

static int setup(void **state)
{
    struct passphrase p = {.len = 0};
    (void)state;
    memset(&held, 0, sizeof held);
    memset(&client, 0, sizeof client);
    snprintf(home, sizeof home, "/tmp/sealpost-test.XXXXXX");
    assert_non_null(mkdtemp(home));
    setenv("SEALPOST_HOME", home, 1);
    assert_int_equal(state_open(false, &client.state), SP_OK);
    assert_int_equal(keyring_create(&p, &client.keys), SP_OK);
    make_chain();
    return 0;
}

static enum sp_err forget(void *ctx, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "chains/%s", name);
    return state_remove(ctx, path);
}

static int teardown(void **state)
{
    char path[PATH_MAX];
    (void)state;
    state_each(client.state, "chains", forget, client.state);
    chain_free(client.own);
    contacts_free(&client.contacts);
    keyring_free(client.keys);
    state_remove(client.state, "lock");
    state_close(client.state);
    snprintf(path, sizeof path, "%s/chains", home);
    rmdir(path);
    return rmdir(home);
}

/* Reads the held message to a file; *out_len: what came out. */
static enum sp_err read_held(uint8_t *out, size_t cap, size_t *out_len)
{
    struct message m;
    int fd;
    assert_int_equal(state_spool(client.state, &fd), SP_OK);
    enum sp_err err = message_read(&client, held.id, &m);
    if (err == SP_OK)
        err = message_write(&m, fd, "test");
    message_free(&m);
    ssize_t n = pread(fd, out, cap, 0);
    assert_true(n >= 0);
    *out_len = (size_t)n;
    close(fd);
    return err;
}

static void must_be_right(void)
{
    static uint8_t out[sizeof expected];
    size_t len;
    assert_int_equal(read_held(out, sizeof out, &len), SP_OK);
    assert_int_equal(len, expected_len);
    assert_memory_equal(out, expected, len);
}

static void must_fail(void)
{
    uint8_t out[16];
    size_t len;
    assert_int_not_equal(read_held(out, sizeof out, &len), SP_OK);
    assert_int_equal(len, 0);
}

/* Errors are said on stderr; hundreds of them are of no use here. */
static int hush(void)
{
    int kept = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(null, STDERR_FILENO);
    close(null);
    return kept;
}

static void unhush(int kept)
{
    dup2(kept, STDERR_FILENO);
    close(kept);
}

static void sealed_by_the_appliance(void **state)
{
    (void)state;
    make_message(NULL, NULL, NULL);
    must_be_right();
}

static void every_bit_of_envelope_and_box_counts(void **state)
{
    (void)state;
    make_message(NULL, NULL, NULL);
    int kept = hush();
    for (size_t i = 0; i < held.answer_len; i++) {
        uint8_t bit = (uint8_t)(1u << randombytes_uniform(8));
        held.answer[i] ^= bit;
        must_fail();
        held.answer[i] ^= bit;
    }
    size_t whole = held.answer_len;
    for (held.answer_len = 0; held.answer_len < whole; held.answer_len++)
        must_fail();
    unhush(kept);
    must_be_right();
}

static void changed_pieces_give_nothing(void **state)
{
    (void)state;
    make_message(NULL, NULL, NULL);
    int kept = hush();
    for (int round = 0; round < 100; round++) {
        uint32_t i = randombytes_uniform(N_PIECES);
        size_t at = randombytes_uniform((uint32_t)held.piece_len[i]);
        held.piece[i][at] ^= 0x10;
        must_fail();
        held.piece[i][at] ^= 0x10;
    }
    held.piece_len[2]++; /* longer than the envelope says */
    must_fail();
    held.piece_len[2]--;
    unhush(kept);
    must_be_right();
}

/* Even when the last tag of the last piece is what is wrong, and its hash right, nothing comes out.
 */
static void bad_tags_are_found_before_output(void **state)
{
    (void)state;
    spoil_tags = true;
    make_message(NULL, NULL, NULL);
    spoil_tags = false;
    must_fail();
}

static void downloads_resume_three_times_at_most(void **state)
{
    (void)state;
    make_message(NULL, NULL, NULL);
    held.cut_after = 9000;
    held.cuts_left = 2;
    must_be_right();
    assert_int_equal(held.requests, N_PIECES + 2);
    held.requests = 0;
    held.cut_after = 100;
    held.cuts_left = 1000;
    must_fail();
    assert_int_equal(held.requests, 3);
}

static void sent_by_a_user(void **state)
{
    uint8_t stranger[ID_SIZE] = {1}, pk[KEY_SIZE], sk[SIGN_SK_SIZE];
    const struct keyring *k = client.keys;
    (void)state;
    make_message(k->user_id, keyring_sign_pk(k), k->sign_sk);
    must_be_right();
    /* a sender nobody here knows; a key that is not on the chain; another's signature */
    crypto_sign_keypair(pk, sk);
    make_message(stranger, pk, sk);
    must_fail();
    make_message(k->user_id, pk, sk);
    must_fail();
    memcpy(sk + KEY_SIZE, keyring_sign_pk(k), KEY_SIZE); /* box_seal compares this half alone */
    make_message(k->user_id, keyring_sign_pk(k), sk);
    must_fail();
}

/* A second user, whose chain the server shows by id. */
static void make_other(uint8_t user_id[ID_SIZE], uint8_t pk[KEY_SIZE], uint8_t sk[SIGN_SK_SIZE])
{
    struct chain_device d = {.revoked = false};
    const struct chain_signer by = {.device_id = d.id, .sign_sk = sk, .time_ms = 1};
    randombytes_buf(user_id, ID_SIZE);
    randombytes_buf(d.id, ID_SIZE);
    crypto_sign_keypair(pk, sk);
    memcpy(d.sign_pk, pk, KEY_SIZE);
    assert_int_equal(
        sigchain_make_root(user_id, &by, &d, pk, "other@example.org", held.other, &held.other_len),
        SP_OK);
}

static void sent_by_somebody_new(void **state)
{
    uint8_t user_id[ID_SIZE], pk[KEY_SIZE], sk[SIGN_SK_SIZE];
    struct message m;
    char words[TRUST_WORDS], said[TRUST_WORDS];
    (void)state;
    make_other(user_id, pk, sk);
    make_message(user_id, pk, sk);
    must_be_right();
    assert_int_equal(message_read(&client, held.id, &m), SP_OK);
    assert_true(m.signer.there && trust_end_to_end(&m));
    assert_false(m.signer.own || m.signer.revoked || m.signer.gone || m.signer.moved);
    assert_string_equal(m.signer.address, "other@example.org");
    trust_words(&m, words);
    snprintf(said, sizeof(said), "end-to-end, from other@example.org, %s", m.signer.fingerprint);
    assert_string_equal(words, said);
    message_free(&m);
    contacts_free(&client.contacts);
    /* the user leaves: what was seen still proves who signed */
    held.other_len = 0;
    must_be_right();
    contacts_free(&client.contacts);
}

/* One header against a signer; true: nothing to warn of. */
static bool from_fits(const char *header)
{
    struct head h = {.len = strlen(header)};
    h.text = malloc(h.len + 1);
    memcpy(h.text, header, h.len);
    bool good = from_is_signer(&h, "bob@example.org");
    free(h.text);
    return good;
}

static void the_from_field_must_be_the_signers(void **state)
{
    (void)state;
    assert_true(from_fits("To: a@x\r\nFrom: bob@example.org\r\n"));
    assert_true(from_fits("FROM :\r\n \"Al\" <Bob@Example.ORG>\r\nTo: a@x\r\n"));
    assert_false(from_fits("From: alice@example.org\r\n"));
    assert_false(from_fits("From: \"bob@example.org\" <alice@example.org>\r\n"));
    assert_false(from_fits("From: bob@example.org, alice@example.org\r\n"));
    assert_false(from_fits("From: bob@example.org\r\nFrom: alice@example.org\r\n"));
    assert_false(from_fits("From: alice@example.org (bob@example.org)\r\n"));
    assert_false(from_fits("From: bob@example.org <alice@example.org>\r\n"));
    assert_false(from_fits("X-From: bob@example.org\r\n"));
    assert_false(from_fits("To: x\r\n From: bob@example.org\r\n"));
    assert_false(from_fits("From: [bob@example.org\r\n"));
    assert_false(from_fits(""));
}

static void keys_that_are_missing(void **state)
{
    (void)state;
    make_message(NULL, NULL, NULL);
    client.keys->seeds[0].generation = 2;
    must_fail();
    client.keys->seeds[0].generation = 1;
    client.keys->seeds[0].seed[0] ^= 1;
    must_fail();
    client.keys->seeds[0].seed[0] ^= 1;
    client.keys->user_id[0] ^= 1;
    must_fail();
    client.keys->user_id[0] ^= 1;
    must_be_right();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sealed_by_the_appliance, setup, teardown),
        cmocka_unit_test_setup_teardown(every_bit_of_envelope_and_box_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(changed_pieces_give_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_tags_are_found_before_output, setup, teardown),
        cmocka_unit_test_setup_teardown(downloads_resume_three_times_at_most, setup, teardown),
        cmocka_unit_test_setup_teardown(sent_by_a_user, setup, teardown),
        cmocka_unit_test_setup_teardown(sent_by_somebody_new, setup, teardown),
        cmocka_unit_test(the_from_field_must_be_the_signers),
        cmocka_unit_test_setup_teardown(keys_that_are_missing, setup, teardown),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
