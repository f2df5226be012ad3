/* Manifests: what the format refuses, in decoding and encoding alike (FORMAT.md 4.2). */
#include "envelope/manifest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <sodium.h>

static struct piece pieces[MANIFEST_MAX_PIECES + 1];
static uint8_t buf[MANIFEST_MAX + 1];

static void set_names(struct piece *p, const char *media_type, const char *file_name)
{
    p->media_type = media_type;
    p->media_len = strlen(media_type);
    p->file_name = file_name;
    p->name_len = strlen(file_name);
}

/* A body of 1000 bytes and n - 1 attachments. */
static struct manifest sample(uint32_t n)
{
    static const char added[] = "X-Spam: no\r\nX-Folded: a\r\n\tb\r\n";
    memset(pieces, 0, sizeof(pieces));
    for (uint32_t i = 0; i < n; i++) {
        struct piece *p = &pieces[i];
        randombytes_buf(p->key, KEY_SIZE);
        p->kind = i == 0 ? PIECE_BODY : PIECE_ATTACHMENT;
        p->length = i == 0 ? 1000 : i;
        p->splice_at = i;
        set_names(p, i == 0 ? "message/rfc822" : "application/pdf", i == 0 ? "" : "a b.pdf");
    }
    return (struct manifest){.flags = MANIFEST_SERVER_ACCESS,
                             .time_ms = 1800000000000,
                             .n_pieces = n,
                             .pieces = pieces,
                             .added = (const uint8_t *)added,
                             .added_len = sizeof(added) - 1};
}

static enum sp_err encode(const struct manifest *m)
{
    size_t len = 1;
    enum sp_err err = manifest_encode(m, buf, sizeof(buf), &len);
    assert_true(err == SP_OK || len == 0);
    return err;
}

static enum sp_err decode(const uint8_t *bytes, size_t len)
{
    static struct piece out[MANIFEST_MAX_PIECES];
    struct manifest m;
    enum sp_err err = manifest_decode(bytes, len, out, &m);
    if (err != SP_OK) {
        assert_true(sodium_is_zero((const uint8_t *)&m, sizeof(m)));
        assert_true(sodium_is_zero((const uint8_t *)out, sizeof(out)));
    }
    return err;
}

static void round_trip(void **state)
{
    (void)state;
    static struct piece out[MANIFEST_MAX_PIECES];
    static const uint32_t counts[] = {1, 2, MANIFEST_MAX_PIECES};
    for (size_t i = 0; i < 3; i++) {
        struct manifest m = sample(counts[i]), got;
        size_t len;
        assert_int_equal(manifest_encode(&m, buf, sizeof(buf), &len), SP_OK);
        assert_int_equal(manifest_decode(buf, len, out, &got), SP_OK);
        assert_int_equal(got.n_pieces, counts[i]);
        assert_int_equal(got.time_ms, m.time_ms);
        assert_int_equal(got.added_len, m.added_len);
        assert_memory_equal(got.added, m.added, m.added_len);
        for (uint32_t p = 0; p < counts[i]; p++) {
            assert_memory_equal(out[p].key, pieces[p].key, KEY_SIZE);
            assert_int_equal(out[p].splice_at, pieces[p].splice_at);
            assert_int_equal(out[p].name_len, pieces[p].name_len);
        }
    }
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct manifest m = sample(3);
    size_t len, got;
    assert_int_equal(manifest_encode(&m, buf, sizeof(buf), &len), SP_OK);
    uint8_t *copy = malloc(len + 1);
    memcpy(copy, buf, len);
    copy[len] = 0;
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(decode(copy, cut), SP_ERR_FORMAT);
    assert_int_equal(decode(copy, len + 1), SP_ERR_FORMAT);
    for (size_t cap = 0; cap < len; cap++) {
        memset(buf, 0, len);
        assert_int_equal(manifest_encode(&m, buf, cap, &got), SP_ERR_LIMIT);
        assert_true(sodium_is_zero(buf, len)); /* no piece key stays behind */
    }
    free(copy);
    assert_int_equal(decode(buf, sizeof(buf)), SP_ERR_LIMIT);
}

/* The rules are one function for both ways; tests/vectors/malformed.json has the decoder's side. */
static void breaks_of_the_rules(void **state)
{
    (void)state;
    struct manifest m = sample(3);
    m.flags = 2;
    assert_int_equal(encode(&m), SP_ERR_FORMAT);
    m = sample(0);
    assert_int_equal(encode(&m), SP_ERR_FORMAT);
    m = sample(MANIFEST_MAX_PIECES + 1);
    assert_int_equal(encode(&m), SP_ERR_LIMIT);
    m = sample(3);
    pieces[0].kind = PIECE_ATTACHMENT;
    assert_int_equal(encode(&m), SP_ERR_FORMAT);
    m = sample(3);
    pieces[1].kind = PIECE_BODY;
    assert_int_equal(encode(&m), SP_ERR_FORMAT);
    m = sample(3);
    pieces[1].kind = 2;
    assert_int_equal(encode(&m), SP_ERR_FORMAT);
    m = sample(3);
    pieces[0].splice_at = 1;
    assert_int_equal(encode(&m), SP_ERR_FORMAT);
    m = sample(3);
    pieces[2].splice_at = 0;
    assert_int_equal(encode(&m), SP_ERR_FORMAT);
    m = sample(3);
    pieces[2].splice_at = 1001;
    assert_int_equal(encode(&m), SP_ERR_FORMAT);
    pieces[2].splice_at = 1000;
    pieces[1].splice_at = 1000;
    assert_int_equal(encode(&m), SP_OK);
    set_names(&pieces[0], "message/rfc822", "body.eml");
    assert_int_equal(encode(&m), SP_ERR_FORMAT);
    set_names(&pieces[0], "text/plain", "");
    assert_int_equal(encode(&m), SP_ERR_FORMAT);
}

static void media_types(void **state)
{
    (void)state;
    static const char *const good[] = {"application/pdf", "a/b", "image/svg+xml",
                                       "application/vnd.ms-excel", "x-1/y_2.z!#$&'*"};
    static const char *const bad[] = {"",         "text",          "/",        "text/",   "/plain",
                                      "Text/a",   "text/Html",     "text/a b", "text/a;", "text//a",
                                      "text/a\r", "text/\xc3\xa4", "text/\x7f"};
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
        assert_true(manifest_media_type_ok(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_false(manifest_media_type_ok(bad[i], strlen(bad[i])));
    assert_false(manifest_media_type_ok("text/a\0b", 8));
}

static void file_names(void **state)
{
    (void)state;
    static const char *const good[] = {
        "", "a", "a b.pdf", "...", ".x", "r\xc3\xa9sum\xc3\xa9", "\xf0\x9f\x93\x8e.txt", "a:b"};
    static const char *const bad[] = {".",
                                      "..",
                                      "a/b",
                                      "a\\b",
                                      "/",
                                      "a\nb",
                                      "\x01",
                                      "a\x7f",
                                      "\xc2\x85",         /* C1 */
                                      "\xc0\xaf",         /* overlong "/" */
                                      "\xe0\x80\xaf",     /* and again */
                                      "\xed\xa0\x80",     /* surrogate */
                                      "\xf4\x90\x80\x80", /* past U+10FFFF */
                                      "\xff",
                                      "\xc3",
                                      "a\x80"};
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
        assert_true(manifest_file_name_ok(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_false(manifest_file_name_ok(bad[i], strlen(bad[i])));
    assert_false(manifest_file_name_ok("a\0b", 3));
}

static void added_headers(void **state)
{
    (void)state;
    static const char *const good[] = {"", "A: b\r\n", "A:\r\n", "A: b\r\n c\r\nD:e\r\n",
                                       "A: \xc3\xa4\r\n"};
    static const char *const bad[] = {"\r\n", /* ends the header */
                                      "A: b", /* runs into what follows */
                                      "A: b\r",
                                      "A: b\n",
                                      "A: b\n\r\n",
                                      "A: b\rc\r\n",
                                      "A: b\r\n\r\n",
                                      "A: b\r\n\r\nbody\r\n",
                                      " a: b\r\n",
                                      "A\r\n",
                                      ": b\r\n",
                                      "A b: c\r\n",
                                      "A: b\r\n \r\n", /* some readers see the end here */
                                      "A: b\r\nnext\r\n",
                                      "\xc3\xa4: b\r\n"};
    struct manifest m = sample(1);
    for (size_t i = 0; i < sizeof(good) / sizeof(*good) + sizeof(bad) / sizeof(*bad); i++) {
        size_t n_good = sizeof(good) / sizeof(*good);
        const char *s = i < n_good ? good[i] : bad[i - n_good];
        m.added = (const uint8_t *)s;
        m.added_len = strlen(s);
        assert_int_equal(encode(&m), i < n_good ? SP_OK : SP_ERR_FORMAT);
    }
    m.added = (const uint8_t *)"A: b\0c\r\n";
    m.added_len = 8;
    assert_int_equal(encode(&m), SP_ERR_FORMAT);
}

static void limits(void **state)
{
    (void)state;
    static char long_name[MANIFEST_MAX_NAME + 1];
    static uint8_t added[MANIFEST_MAX_ADDED + 1];
    struct manifest m = sample(2);
    memset(long_name, 'a', sizeof(long_name));
    pieces[1].file_name = long_name;
    pieces[1].name_len = MANIFEST_MAX_NAME;
    assert_int_equal(encode(&m), SP_OK);
    pieces[1].name_len++;
    assert_int_equal(encode(&m), SP_ERR_LIMIT);
    pieces[1].name_len = 0;
    pieces[1].media_len = MANIFEST_MAX_NAME + 1;
    assert_int_equal(encode(&m), SP_ERR_LIMIT);
    m = sample(1);
    memset(added, 'a', sizeof(added));
    added[1] = ':';
    memcpy(added + MANIFEST_MAX_ADDED - 2, "\r\n", 2);
    m.added = added;
    m.added_len = MANIFEST_MAX_ADDED;
    assert_int_equal(encode(&m), SP_OK);
    m.added_len++;
    assert_int_equal(encode(&m), SP_ERR_LIMIT);
}

/* Whatever a flipped bit makes of it, a manifest that is taken encodes to the same bytes. */
static void flipped_bits(void **state)
{
    (void)state;
    static struct piece out[MANIFEST_MAX_PIECES];
    static uint8_t again[4096];
    struct manifest m = sample(3), got;
    size_t len, n;
    assert_int_equal(manifest_encode(&m, buf, sizeof(buf), &len), SP_OK);
    for (size_t bit = 0; bit < len * 8; bit++) {
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (decode(buf, len) == SP_OK) {
            assert_int_equal(manifest_decode(buf, len, out, &got), SP_OK);
            assert_int_equal(manifest_encode(&got, again, sizeof(again), &n), SP_OK);
            assert_int_equal(n, len);
            assert_memory_equal(again, buf, len);
        }
        buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(breaks_of_the_rules),
        cmocka_unit_test(media_types),
        cmocka_unit_test(file_names),
        cmocka_unit_test(added_headers),
        cmocka_unit_test(limits),
        cmocka_unit_test(flipped_bits),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
