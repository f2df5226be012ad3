/* One message as the sealer makes it, opened again the way a client does (FORMAT.md section 5): the
 * bytes come back, at every border; what a session must not do is refused. */
#include "daemon/sealer/sealing.h"
#include "sandbox/lockmem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PIECE (256u * 1024u)

/* What the store would have got. */
struct stored {
    uint8_t *bytes[256];
    size_t len[256];
    uint8_t envelope[SEALING_MAX_ENVELOPE];
    size_t envelope_len;
};

static struct stored stored;
static uint8_t message[MAX_PIECE];
static uint8_t puk_sk[2][KEY_SIZE];
static struct recipient recipients[2];

static int start(void **state)
{
    enum lockmem_kind kind;
    (void)state;
    assert_int_equal(lockmem_init(LOCKMEM_NONE, &kind), SP_OK);
    assert_int_equal(lockheap_init(1u << 20, 0), SP_OK);
    assert_int_equal(sealing_init(NULL), SP_OK);
    randombytes_buf(message, sizeof(message));
    for (int i = 0; i < 2; i++) {
        randombytes_buf(puk_sk[i], KEY_SIZE);
        randombytes_buf(recipients[i].user_id, ID_SIZE);
        recipients[i].generation = 7u + (uint32_t)i;
        assert_int_equal(keys_x25519_public(puk_sk[i], recipients[i].puk_pk), SP_OK);
    }
    return 0;
}

static int clear(void **state)
{
    (void)state;
    for (int i = 0; i < 256; i++)
        free(stored.bytes[i]);
    memset(&stored, 0, sizeof(stored));
    return 0;
}

/* Seals one block, and keeps it where the store would. */
static enum sp_err seal(struct sealing *s, enum stream stream, const uint8_t *plain, size_t len,
                        bool last)
{
    static uint8_t out[SEALING_MAX_BLOCK];
    uint16_t piece = sealing_piece(s, stream);
    size_t n;
    enum sp_err err = sealing_seal(s, stream, plain, len, last, out, &n);
    if (err != SP_OK)
        return err;
    assert_true(n <= sizeof(out));
    stored.bytes[piece] = realloc(stored.bytes[piece], stored.len[piece] + n + 1);
    memcpy(stored.bytes[piece] + stored.len[piece], out, n);
    stored.len[piece] += n;
    return SP_OK;
}

/* As a session does: whole chunks, up to three at once, then the rest. */
static void seal_all(struct sealing *s, enum stream stream, const uint8_t *plain, size_t len)
{
    while (len >= SEALING_MAX_PLAIN) {
        assert_int_equal(seal(s, stream, plain, SEALING_MAX_PLAIN, false), SP_OK);
        plain += SEALING_MAX_PLAIN;
        len -= SEALING_MAX_PLAIN;
    }
    assert_int_equal(seal(s, stream, plain, len, true), SP_OK);
}

static void finish(struct sealing *s)
{
    assert_int_equal(sealing_finish(s, 1234567, stored.envelope, &stored.envelope_len), SP_OK);
}

/* --- a client --- */

static struct manifest opened;
static struct piece pieces[MANIFEST_MAX_PIECES];
static uint8_t manifest_plain[SEALING_MAX_ENVELOPE];
static struct envelope envelope;

static void open_message(struct sealing *s, int who)
{
    uint8_t bytes[BOX_MAX], hash[HASH_SIZE], shared[KEY_SIZE];
    size_t len;
    struct box box;
    assert_int_equal(envelope_decode(stored.envelope, stored.envelope_len, &envelope), SP_OK);
    assert_int_equal(envelope_manifest_hash(&envelope, hash), SP_OK);
    assert_int_equal(sealing_box(s, &recipients[who], bytes, &len), SP_OK);
    assert_int_equal(box_decode(bytes, len, &box), SP_OK);
    assert_memory_equal(box.recipient_id, recipients[who].user_id, ID_SIZE);
    assert_int_equal(box.puk_generation, recipients[who].generation);
    assert_int_equal(box_open(&envelope, hash, &box, puk_sk[1 - who], shared), SP_ERR_AUTH);
    assert_int_equal(box_open(&envelope, hash, &box, puk_sk[who], shared), SP_OK);
    assert_int_equal(cake_open(shared, envelope.manifest, envelope.manifest_len, manifest_plain,
                               sizeof(manifest_plain), &len),
                     SP_OK);
    assert_int_equal(manifest_decode(manifest_plain, len, pieces, &opened), SP_OK);
    assert_int_equal(opened.flags, MANIFEST_SERVER_ACCESS);
    assert_int_equal(opened.time_ms, 1234567);
    assert_int_equal(opened.n_pieces, sealing_pieces(s));
    assert_int_equal(envelope.n_pieces, opened.n_pieces);
    assert_memory_equal(envelope.message_id, sealing_message_id(s), ID_SIZE);
    assert_false(envelope.from_user);
}

static void check_piece(uint32_t i, const uint8_t *plain, size_t len)
{
    static uint8_t out[MAX_PIECE];
    uint8_t hash[HASH_SIZE];
    size_t n;
    assert_int_equal(envelope.piece_length[i], stored.len[i]);
    assert_int_equal(keys_sha256(stored.bytes[i], stored.len[i], hash), SP_OK);
    assert_memory_equal(hash, pieces[i].hash, HASH_SIZE);
    assert_int_equal(cake_open(pieces[i].key, stored.bytes[i], stored.len[i], out, sizeof(out), &n),
                     SP_OK);
    assert_int_equal(n, len);
    assert_int_equal(pieces[i].length, len);
    assert_memory_equal(out, plain, len);
}

/* --- round trips --- */

static void body_at_every_border(void **state)
{
    static const size_t at[] = {0, CAKE_CHUNK, 2 * CAKE_CHUNK, 3 * CAKE_CHUNK, 6 * CAKE_CHUNK};
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++)
        for (int off = at[i] > 0 ? -1 : 0; off <= 1; off++) {
            size_t len = (size_t)((ptrdiff_t)at[i] + off);
            struct sealing *s = sealing_new(5);
            assert_non_null(s);
            assert_int_equal(sealing_upload(s), 5);
            seal_all(s, STREAM_BODY, message, len);
            finish(s);
            for (int who = 0; who < 2; who++) {
                open_message(s, who);
                check_piece(0, message, len);
            }
            assert_int_equal(sealing_bytes(s), len);
            sealing_free(s);
            clear(state);
        }
}

/* A body of a multiple of 48 KiB whose last block is empty, as SE_FINISH with 0 bytes. */
static void empty_last_block(void **state)
{
    struct sealing *s = sealing_new(1);
    (void)state;
    assert_int_equal(seal(s, STREAM_BODY, message, SEALING_MAX_PLAIN, false), SP_OK);
    assert_int_equal(seal(s, STREAM_BODY, message, 0, false), SP_OK); /* nothing at all */
    assert_int_equal(seal(s, STREAM_BODY, message, 0, true), SP_OK);
    finish(s);
    open_message(s, 0);
    check_piece(0, message, SEALING_MAX_PLAIN);
    sealing_free(s);
}

static void attachment_inside_a_body(void **state)
{
    struct sealing *s = sealing_new(1);
    (void)state;
    assert_int_equal(seal(s, STREAM_BODY, message, CAKE_CHUNK, false), SP_OK);
    assert_int_equal(sealing_attach(s, 16500, "application/pdf", 15, "a b.pdf", 7), SP_OK);
    assert_int_equal(sealing_piece(s, STREAM_ATTACHMENT), 1);
    seal_all(s, STREAM_ATTACHMENT, message + 9, 100000);
    assert_int_equal(sealing_attach(s, 16500, "image/png", 9, "", 0), SP_OK);
    seal_all(s, STREAM_ATTACHMENT, message + 77, 0);
    seal_all(s, STREAM_BODY, message + CAKE_CHUNK, 2000);
    finish(s);
    open_message(s, 1);
    check_piece(0, message, CAKE_CHUNK + 2000);
    check_piece(1, message + 9, 100000);
    check_piece(2, message, 0);
    assert_int_equal(pieces[1].splice_at, 16500);
    assert_int_equal(pieces[1].name_len, 7);
    assert_memory_equal(pieces[1].file_name, "a b.pdf", 7);
    assert_memory_equal(pieces[1].media_type, "application/pdf", 15);
    assert_int_equal(pieces[2].name_len, 0);
    assert_memory_not_equal(pieces[0].key, pieces[1].key, KEY_SIZE);
    assert_memory_not_equal(pieces[1].key, pieces[2].key, KEY_SIZE);
    sealing_free(s);
}

static void as_many_as_there_may_be(void **state)
{
    struct sealing *s = sealing_new(1);
    char name[32];
    (void)state;
    for (int i = 0; i < 255; i++) {
        int n = snprintf(name, sizeof(name), "%020d", i);
        assert_int_equal(sealing_attach(s, (uint64_t)i, "image/png", 9, name, (size_t)n), SP_OK);
        assert_int_equal(sealing_piece(s, STREAM_ATTACHMENT), i + 1);
        seal_all(s, STREAM_ATTACHMENT, message + i, (size_t)i * 7);
    }
    assert_int_equal(sealing_attach(s, 255, "image/png", 9, "", 0), SP_ERR_STATE);
    seal_all(s, STREAM_BODY, message, 255);
    finish(s);
    open_message(s, 0);
    assert_int_equal(opened.n_pieces, 256);
    for (uint32_t i = 0; i < 255; i++)
        check_piece(i + 1, message + i, (size_t)i * 7);
    check_piece(0, message, 255);
    sealing_free(s);
}

/* Names fill their room to the last byte, and the frame that commits still holds all of it. */
static void as_long_as_names_may_be(void **state)
{
    struct sealing *s = sealing_new(1);
    char name[1025];
    (void)state;
    memset(name, 'n', sizeof(name));
    assert_int_equal(sealing_attach(s, 0, "a/b", 3, name, 1025), SP_ERR_LIMIT);
    assert_int_equal(sealing_attach(s, 0, name, 1025, "", 0), SP_ERR_LIMIT);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(sealing_attach(s, 0, "a/b", 3, name, 1024), SP_OK);
        seal_all(s, STREAM_ATTACHMENT, message, 3);
    }
    assert_int_equal(sealing_attach(s, 0, "a/b", 3, name, 8 * 1024 - 7 * 1027 - 3 + 1),
                     SP_ERR_LIMIT);
    assert_int_equal(sealing_attach(s, 0, "a/b", 3, name, 8 * 1024 - 7 * 1027 - 3), SP_OK);
    seal_all(s, STREAM_ATTACHMENT, message, 3);
    assert_int_equal(sealing_attach(s, 0, "", 0, "", 1), SP_ERR_LIMIT);
    seal_all(s, STREAM_BODY, message, 1);
    finish(s);
    open_message(s, 0);
    assert_int_equal(pieces[7].name_len, 1024);
    sealing_free(s);
}

/* --- what a session must not do --- */

static void order(void **state)
{
    struct sealing *s = sealing_new(1);
    size_t len;
    (void)state;
    assert_int_equal(seal(s, STREAM_ATTACHMENT, message, 5, true), SP_ERR_STATE);
    assert_int_equal(sealing_finish(s, 1, stored.envelope, &len), SP_ERR_STATE); /* body open */
    assert_int_equal(sealing_attach(s, 0, "a/b", 3, "", 0), SP_OK);
    assert_int_equal(sealing_attach(s, 0, "a/b", 3, "", 0), SP_ERR_STATE);
    assert_int_equal(seal(s, STREAM_BODY, message, 5, true), SP_OK);
    assert_int_equal(sealing_finish(s, 1, stored.envelope, &len), SP_ERR_STATE); /* attachment */
    assert_int_equal(len, 0);
    assert_int_equal(seal(s, STREAM_BODY, message, 5, true), SP_ERR_STATE);
    assert_int_equal(seal(s, STREAM_ATTACHMENT, message, 5, true), SP_OK);
    assert_int_equal(seal(s, STREAM_ATTACHMENT, message, 5, true), SP_ERR_STATE);
    finish(s);
    sealing_free(s);
}

static void sizes(void **state)
{
    struct sealing *s = sealing_new(1);
    (void)state;
    assert_int_equal(seal(s, STREAM_BODY, message, 5, false), SP_ERR_FORMAT);
    assert_int_equal(seal(s, STREAM_BODY, message, CAKE_CHUNK - 1, false), SP_ERR_FORMAT);
    assert_int_equal(seal(s, STREAM_BODY, message, SEALING_MAX_PLAIN + 1, true), SP_ERR_FORMAT);
    assert_int_equal(seal(s, STREAM_BODY, message, SEALING_MAX_PLAIN + CAKE_CHUNK, false),
                     SP_ERR_FORMAT);
    sealing_free(s);
}

/* The manifest is made by its own rules: what they refuse is not sealed. */
static void forged_pieces(void **state)
{
    static const struct {
        uint64_t first, second;
        const char *type, *name;
    } cases[] = {
        {11, 11, "a/b", ""},     {5, 4, "a/b", ""},   {0, UINT64_MAX, "a/b", ""},
        {0, 0, "A/b", ""},       {0, 0, "ab", ""},    {0, 0, "", ""},
        {0, 0, "a/b", "../etc"}, {0, 0, "a/b", ".."}, {0, 0, "a/b", "x\xff"},
        {0, 0, "a/b", "x\r\ny"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sealing *s = sealing_new(1);
        size_t len;
        assert_int_equal(sealing_attach(s, cases[i].first, "a/b", 3, "", 0), SP_OK);
        seal_all(s, STREAM_ATTACHMENT, message, 3);
        assert_int_equal(sealing_attach(s, cases[i].second, cases[i].type, strlen(cases[i].type),
                                        cases[i].name, strlen(cases[i].name)),
                         SP_OK);
        seal_all(s, STREAM_ATTACHMENT, message, 3);
        seal_all(s, STREAM_BODY, message, 10);
        assert_int_equal(sealing_finish(s, 1, stored.envelope, &len), SP_ERR_FORMAT);
        assert_int_equal(len, 0);
        sealing_free(s);
        clear(state);
    }
}

static void two_messages_share_nothing(void **state)
{
    struct sealing *a = sealing_new(1), *b = sealing_new(2);
    uint8_t first[SEALING_MAX_ENVELOPE];
    struct envelope e;
    (void)state;
    seal_all(a, STREAM_BODY, message, 100);
    finish(a);
    size_t len = stored.envelope_len;
    memcpy(first, stored.envelope, len);
    clear(NULL);
    seal_all(b, STREAM_BODY, message, 100);
    finish(b);
    assert_int_equal(envelope_decode(first, len, &e), SP_OK);
    assert_int_equal(envelope_decode(stored.envelope, stored.envelope_len, &envelope), SP_OK);
    assert_memory_not_equal(e.message_id, envelope.message_id, ID_SIZE);
    assert_memory_not_equal(e.ephemeral_pk, envelope.ephemeral_pk, KEY_SIZE);
    assert_memory_not_equal(e.bcc_commitment, envelope.bcc_commitment, HASH_SIZE);
    sealing_free(a);
    sealing_free(b);
}

static void refuses_a_weak_puk(void **state)
{
    struct recipient weak = {.generation = 1}; /* a point of small order */
    struct sealing *s = sealing_new(1);
    uint8_t out[BOX_MAX];
    size_t len;
    (void)state;
    seal_all(s, STREAM_BODY, message, 100);
    finish(s);
    assert_int_equal(sealing_box(s, &weak, out, &len), SP_ERR_AUTH);
    assert_int_equal(len, 0);
    sealing_free(s);
}

static void runs_out_of_locked_memory(void **state)
{
    struct sealing *all[512];
    size_t n = 0;
    (void)state;
    while (n < 512 && (all[n] = sealing_new(n)) != NULL)
        n++;
    assert_true(n > 10 && n < 512);
    while (n > 0)
        sealing_free(all[--n]);
    struct sealing *s = sealing_new(1);
    assert_non_null(s);
    sealing_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(body_at_every_border, clear),
        cmocka_unit_test_teardown(empty_last_block, clear),
        cmocka_unit_test_teardown(attachment_inside_a_body, clear),
        cmocka_unit_test_teardown(as_many_as_there_may_be, clear),
        cmocka_unit_test_teardown(as_long_as_names_may_be, clear),
        cmocka_unit_test_teardown(order, clear),
        cmocka_unit_test_teardown(sizes, clear),
        cmocka_unit_test_teardown(forged_pieces, clear),
        cmocka_unit_test_teardown(two_messages_share_nothing, clear),
        cmocka_unit_test_teardown(refuses_a_weak_puk, clear),
        cmocka_unit_test_teardown(runs_out_of_locked_memory, clear),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
