/* Cake-AES beyond the known answers: borders of chunks, every flipped bit, every truncation, random
 * access, calls in the wrong order, and that a chunk costs no allocation. */
#include "envelope/cake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <openssl/crypto.h>
#include <sodium.h>

static const uint8_t key[CAKE_KEY] = "a key of thirty-two bytes";
static const size_t borders[] = {0,     1,     15,    16,    16383, 16384,
                                 16385, 32767, 32768, 32769, 49152, 100000};

static size_t allocations;

static void *count_malloc(size_t n, const char *file, int line)
{
    (void)file, (void)line;
    allocations++;
    return malloc(n);
}

static void *count_realloc(void *at, size_t n, const char *file, int line)
{
    (void)file, (void)line;
    allocations++;
    return realloc(at, n);
}

static void count_free(void *at, const char *file, int line)
{
    (void)file, (void)line;
    free(at);
}

static uint8_t *text(size_t len)
{
    static const uint8_t seed[randombytes_SEEDBYTES] = "text";
    uint8_t *p = malloc(len + 1);
    assert_non_null(p);
    randombytes_buf_deterministic(p, len, seed);
    return p;
}

static uint8_t *sealed_text(size_t len, size_t *sealed_len)
{
    uint8_t *plain = text(len);
    *sealed_len = (size_t)cake_sealed_length(len);
    uint8_t *out = malloc(*sealed_len);
    assert_non_null(out);
    assert_int_equal(cake_seal(key, NULL, plain, len, out), SP_OK);
    free(plain);
    return out;
}

static void assert_zero(const uint8_t *p, size_t len)
{
    assert_true(sodium_is_zero(p, len));
}

static void round_trips(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(borders) / sizeof(*borders); i++) {
        size_t n = borders[i], sealed_len, got;
        uint8_t *plain = text(n), *sealed = sealed_text(n, &sealed_len), *out = malloc(n + 1);
        assert_int_equal(cake_open(key, sealed, sealed_len, out, n, &got), SP_OK);
        assert_int_equal(got, n);
        assert_memory_equal(out, plain, n);
        if (n > 0)
            assert_int_equal(cake_open(key, sealed, sealed_len, out, n - 1, &got), SP_ERR_LIMIT);
        free(plain);
        free(sealed);
        free(out);
    }
}

/* One buffer for plaintext and ciphertext, as the sealer has it, gives the same bytes. */
static void in_place(void **state)
{
    (void)state;
    uint8_t nonce[CAKE_NONCE] = {7}, header[CAKE_HEADER], buf[CAKE_SEALED];
    size_t n = 40000, len = (size_t)cake_sealed_length(n);
    uint8_t *plain = text(n), *want = malloc(len), *at = want + CAKE_HEADER;
    struct cake *in = cake_new(), *out = cake_new();
    assert_int_equal(cake_seal(key, nonce, plain, n, want), SP_OK);
    assert_int_equal(cake_seal_begin(in, key, nonce, header), SP_OK);
    assert_memory_equal(header, want, CAKE_HEADER);
    assert_int_equal(cake_open_begin(out, key, header), SP_OK);
    for (size_t i = 0; i < 3; i++) {
        size_t part = i < 2 ? CAKE_CHUNK : n % CAKE_CHUNK;
        memcpy(buf, plain + i * CAKE_CHUNK, part);
        assert_int_equal(cake_seal_chunk(in, buf, part, i == 2, buf), SP_OK);
        assert_memory_equal(buf, at, part + CAKE_TAG);
        assert_int_equal(cake_open_chunk(out, i, buf, part + CAKE_TAG, i == 2, buf), SP_OK);
        assert_memory_equal(buf, plain + i * CAKE_CHUNK, part);
        at += CAKE_SEALED;
    }
    cake_free(in);
    cake_free(out);
    free(plain);
    free(want);
}

static void nonces_are_fresh(void **state)
{
    (void)state;
    uint8_t a[CAKE_HEADER], b[CAKE_HEADER];
    struct cake *c = cake_new();
    assert_int_equal(cake_seal_begin(c, key, NULL, a), SP_OK);
    assert_int_equal(cake_seal_begin(c, key, NULL, b), SP_OK);
    assert_memory_not_equal(a, b, CAKE_NONCE);
    cake_free(c);
}

static void lengths(void **state)
{
    (void)state;
    uint64_t n, possible = 0;
    for (uint64_t sealed = 0; sealed < 4 * CAKE_SEALED; sealed++) {
        if (cake_plain_length(sealed, &n) == SP_OK) {
            assert_int_equal(cake_sealed_length(n), sealed);
            assert_int_equal(n, possible++);
        } else {
            assert_int_equal(n, 0);
        }
    }
    assert_int_equal(cake_sealed_length(UINT64_MAX), UINT64_MAX);
    assert_int_equal(cake_sealed_length(UINT64_MAX - 100), UINT64_MAX);
}

static void every_flipped_bit_is_refused(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 40, 200};
    uint8_t out[256];
    for (size_t s = 0; s < 4; s++) {
        size_t len, got;
        uint8_t *sealed = sealed_text(sizes[s], &len);
        for (size_t bit = 0; bit < len * 8; bit++) {
            sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
            memset(out, 0, sizeof(out));
            assert_int_equal(cake_open(key, sealed, len, out, sizeof(out), &got), SP_ERR_AUTH);
            assert_int_equal(got, 0);
            assert_zero(out, sizeof(out));
            sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        assert_int_equal(cake_open(key, sealed, len, out, sizeof(out), &got), SP_OK);
        free(sealed);
    }
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    size_t n = CAKE_CHUNK + 100, len, got = 1;
    uint8_t *sealed = sealed_text(n, &len), *out = calloc(1, n);
    for (size_t cut = 0; cut < len; cut++) {
        assert_int_not_equal(cake_open(key, sealed, cut, out, n, &got), SP_OK);
        assert_int_equal(got, 0);
    }
    assert_zero(out, n);
    free(sealed);
    free(out);
}

static void wrong_key(void **state)
{
    (void)state;
    uint8_t other[CAKE_KEY], out[16];
    size_t len, got;
    uint8_t *sealed = sealed_text(10, &len);
    memcpy(other, key, sizeof(other));
    other[31] ^= 1;
    assert_int_equal(cake_open(other, sealed, len, out, sizeof(out), &got), SP_ERR_AUTH);
    free(sealed);
}

/* Any order works; but a chunk opens in its own place alone, and only the last one as the last. */
static void random_access(void **state)
{
    (void)state;
    size_t n = 4 * CAKE_CHUNK + 10, len;
    uint8_t *plain = text(n), *sealed = sealed_text(n, &len), out[CAKE_CHUNK];
    struct cake *c = cake_new();
    assert_int_equal(cake_open_begin(c, key, sealed), SP_OK);
    for (size_t want = 5; want-- > 0;) {
        const uint8_t *at = sealed + CAKE_HEADER + want * CAKE_SEALED;
        size_t part = want == 4 ? 10 + CAKE_TAG : CAKE_SEALED;
        for (uint64_t index = 0; index < 6; index++) {
            memset(out, 0, sizeof(out));
            enum sp_err err = cake_open_chunk(c, index, at, part, want == 4, out);
            assert_int_equal(err, index == want ? SP_OK : SP_ERR_AUTH);
            if (index != want)
                assert_zero(out, sizeof(out));
            else
                assert_memory_equal(out, plain + want * CAKE_CHUNK, part - CAKE_TAG);
        }
    }
    /* A full chunk cannot pose as the last, nor the last as a full one. */
    const uint8_t *first = sealed + CAKE_HEADER;
    assert_int_equal(cake_open_chunk(c, 0, first, CAKE_SEALED, true, out), SP_ERR_FORMAT);
    assert_int_equal(cake_open_chunk(c, 0, first, CAKE_SEALED - 1, true, out), SP_ERR_AUTH);
    assert_int_equal(cake_open_chunk(c, 4, first + 4 * CAKE_SEALED, 26, false, out), SP_ERR_FORMAT);
    assert_int_equal(cake_open_chunk(c, UINT64_MAX, first, CAKE_SEALED, false, out), SP_ERR_FORMAT);
    /* 2 * (index + 2^63) would be the same nonce again in 64 bits. */
    assert_int_equal(cake_open_chunk(c, 1ull << 63, first, CAKE_SEALED, false, out), SP_ERR_FORMAT);
    cake_free(c);
    free(plain);
    free(sealed);
}

static void wrong_order(void **state)
{
    (void)state;
    uint8_t header[CAKE_HEADER], buf[CAKE_SEALED] = {0};
    struct cake *c = cake_new();
    assert_int_equal(cake_seal_chunk(c, buf, 0, true, buf), SP_ERR_STATE);
    assert_int_equal(cake_open_chunk(c, 0, buf, 16, true, buf), SP_ERR_STATE);
    assert_int_equal(cake_seal_begin(c, key, NULL, header), SP_OK);
    assert_int_equal(cake_open_chunk(c, 0, buf, 16, true, buf), SP_ERR_STATE);
    assert_int_equal(cake_seal_chunk(c, buf, 5, false, buf), SP_ERR_FORMAT);
    assert_int_equal(cake_seal_chunk(c, buf, CAKE_CHUNK, true, buf), SP_ERR_FORMAT);
    assert_int_equal(cake_seal_chunk(c, buf, CAKE_CHUNK + 1, false, buf), SP_ERR_FORMAT);
    assert_int_equal(cake_seal_chunk(c, buf, CAKE_CHUNK, false, buf), SP_OK);
    assert_int_equal(cake_seal_chunk(c, buf, 5, true, buf), SP_OK);
    assert_int_equal(cake_seal_chunk(c, buf, 5, true, buf), SP_ERR_STATE);
    assert_int_equal(cake_open_begin(c, key, header), SP_OK);
    assert_int_equal(cake_seal_chunk(c, buf, 5, true, buf), SP_ERR_STATE);
    assert_int_equal(cake_open_chunk(c, 0, buf, 15, true, buf), SP_ERR_FORMAT);
    cake_forget(c);
    assert_int_equal(cake_open_chunk(c, 0, buf, 16, true, buf), SP_ERR_STATE);
    header[CAKE_NONCE] ^= 1; /* a refused commitment leaves nothing to open with */
    assert_int_equal(cake_open_begin(c, key, header), SP_ERR_AUTH);
    assert_int_equal(cake_open_chunk(c, 0, buf, 16, true, buf), SP_ERR_STATE);
    cake_free(c);
    cake_free(NULL);
}

static void no_allocation_per_chunk(void **state)
{
    (void)state;
    static uint8_t buf[CAKE_SEALED];
    uint8_t header[CAKE_HEADER];
    struct cake *c = cake_new();
    size_t before = allocations;
    assert_true(before > 0); /* the hook is in place */
    assert_int_equal(cake_seal_begin(c, key, NULL, header), SP_OK);
    for (size_t i = 0; i < 50; i++)
        assert_int_equal(cake_seal_chunk(c, buf, CAKE_CHUNK, false, buf), SP_OK);
    assert_int_equal(cake_seal_chunk(c, buf, 3, true, buf), SP_OK);
    assert_int_equal(cake_open_begin(c, key, header), SP_OK);
    assert_int_equal(cake_open_chunk(c, 50, buf, 3 + CAKE_TAG, true, buf), SP_OK);
    assert_int_equal(allocations, before);
    cake_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(in_place),
        cmocka_unit_test(nonces_are_fresh),
        cmocka_unit_test(lengths),
        cmocka_unit_test(every_flipped_bit_is_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(wrong_key),
        cmocka_unit_test(random_access),
        cmocka_unit_test(wrong_order),
        cmocka_unit_test(no_allocation_per_chunk),
    };
    if (CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free) != 1 || sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
