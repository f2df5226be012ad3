/* Links, base64url, and the small keys: strictness, and secrets that only their keeper opens. */
#include "envelope/keys.h"
#include "envelope/link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <sodium.h>

static void base64url(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "Zg==", "Zh", "Z", "", "Zg=", "Z g", "Z+", "Z/", "Zm9v", "Z\n"};
    uint8_t in[50], out[50];
    char text[B64U_LEN(50) + 1];
    for (size_t n = 0; n <= sizeof(in); n++) {
        randombytes_buf(in, n);
        b64u_encode(in, n, text);
        assert_int_equal(strlen(text), B64U_LEN(n));
        assert_int_equal(b64u_decode(text, strlen(text), out, n), SP_OK);
        assert_memory_equal(out, in, n);
    }
    assert_int_equal(b64u_decode("Zg", 2, out, 1), SP_OK);
    assert_int_equal(out[0], 'f');
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        out[0] = 1;
        assert_int_equal(b64u_decode(bad[i], strlen(bad[i]), out, 1), SP_ERR_FORMAT);
        assert_int_equal(out[0], 0);
    }
    assert_int_equal(b64u_decode("Z\0", 2, out, 1), SP_ERR_FORMAT);
}

/* All 256 characters, in every place of a group: exactly the 64 of RFC 4648 section 5 are digits.
 */
static void base64url_alphabet(void **state)
{
    (void)state;
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t out[3];
    for (unsigned c = 0; c < 256; c++) {
        bool digit = memchr(digits, (int)c, 64) != NULL;
        for (size_t at = 0; at < 4; at++) {
            char text[4] = {'A', 'A', 'A', 'A'};
            text[at] = (char)c;
            assert_int_equal(b64u_decode(text, 4, out, 3), digit ? SP_OK : SP_ERR_FORMAT);
        }
    }
}

static struct link sample(char text[LINK_TEXT_MAX])
{
    struct link l;
    randombytes_buf(&l, sizeof(l));
    assert_int_equal(link_format("https://mail.example.test", &l, text, LINK_TEXT_MAX), SP_OK);
    return l;
}

static void links_round_trip(void **state)
{
    (void)state;
    static const char *const bases[] = {"https://a", "http://127.0.0.1:8443",
                                        "https://a.test/m/sub", "https://[::1]:1/m"};
    char text[LINK_TEXT_MAX], base[LINK_TEXT_MAX];
    struct link l = sample(text), got;
    for (size_t i = 0; i < sizeof(bases) / sizeof(*bases); i++) {
        assert_int_equal(link_format(bases[i], &l, text, sizeof(text)), SP_OK);
        assert_int_equal(link_parse(text, &got, base, sizeof(base)), SP_OK);
        assert_string_equal(base, bases[i]);
        assert_memory_equal(&got, &l, sizeof(l));
    }
}

static void refuse(const char *text)
{
    struct link l;
    char base[64];
    memset(&l, 1, sizeof(l));
    assert_int_equal(link_parse(text, &l, base, sizeof(base)), SP_ERR_FORMAT);
    assert_true(sodium_is_zero((const uint8_t *)&l, sizeof(l)));
    assert_int_equal(base[0], 0);
}

static void bad_links(void **state)
{
    (void)state;
    static const char *const bases[] = {"",           "https://",    "ftp://a",     "https:///a",
                                        "https://a/", "https://a b", "https://a?b", "https://a#b",
                                        "//a",        "HTTPS://a",   "https://u@a", "https://a\n"};
    char text[LINK_TEXT_MAX], copy[LINK_TEXT_MAX + 64];
    struct link l = sample(text);
    const char *tail = strstr(text, "/m/");
    size_t len = strlen(text);
    for (size_t i = 0; i < sizeof(bases) / sizeof(*bases); i++) {
        assert_int_equal(link_format(bases[i], &l, copy, sizeof(copy)), SP_ERR_FORMAT);
        assert_int_equal(copy[0], 0);
        snprintf(copy, sizeof(copy), "%s%s", bases[i], tail);
        refuse(copy);
    }
    for (size_t cut = 0; cut < len; cut++) {
        memcpy(copy, text, cut);
        copy[cut] = 0;
        refuse(copy);
    }
    snprintf(copy, sizeof(copy), "%sA", text);
    refuse(copy);
    for (size_t i = (size_t)(tail - text); i < len; i++) { /* no other character anywhere */
        memcpy(copy, text, len + 1);
        copy[i] = '!';
        refuse(copy);
    }
}

static void link_limits(void **state)
{
    (void)state;
    char text[LINK_TEXT_MAX], base[8], lengthy[LINK_TEXT_MAX + 200];
    struct link l = sample(text), got;
    assert_int_equal(link_parse(text, &got, base, sizeof(base)), SP_ERR_LIMIT);
    assert_true(sodium_is_zero((const uint8_t *)&got, sizeof(got)));
    for (size_t cap = 0; cap <= strlen("https://a/m/") + 22 + 1 + 87; cap++)
        assert_int_equal(link_format("https://a", &l, text, cap), SP_ERR_LIMIT);
    memset(lengthy, 'a', sizeof(lengthy));
    lengthy[sizeof(lengthy) - 1] = 0;
    assert_int_equal(link_parse(lengthy, &got, text, sizeof(text)), SP_ERR_LIMIT);
}

static void seeds_for_devices(void **state)
{
    (void)state;
    uint8_t pk[KEY_SIZE], sk[KEY_SIZE], seed[KEY_SIZE], got[KEY_SIZE], box[KEYS_SEED_BOX];
    uint32_t generation;
    crypto_box_keypair(pk, sk);
    randombytes_buf(seed, sizeof(seed));
    assert_int_equal(keys_seed_seal(pk, 3, seed, box), SP_OK);
    assert_int_equal(keys_seed_open(pk, sk, box, &generation, got), SP_OK);
    assert_int_equal(generation, 3);
    assert_memory_equal(got, seed, sizeof(seed));
    for (size_t bit = 0; bit < sizeof(box) * 8; bit++) {
        box[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(keys_seed_open(pk, sk, box, &generation, got), SP_ERR_AUTH);
        assert_int_equal(generation, 0);
        assert_true(sodium_is_zero(got, sizeof(got)));
        box[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(keys_seed_seal(pk, 0, seed, box), SP_OK);
    assert_int_equal(keys_seed_open(pk, sk, box, &generation, got), SP_ERR_FORMAT);
}

/* A secret filed under a box that it does not name is refused, whoever sealed it. */
static void secrets_for_the_keeper(void **state)
{
    (void)state;
    uint8_t pk[KEY_SIZE], sk[KEY_SIZE], secret[KEY_SIZE], got[KEY_SIZE], id[ID_SIZE] = {1};
    uint8_t box[KEYS_SECRET_BOX + 1] = {0}, plain[6 + ID_SIZE + KEY_SIZE] = "SPSK\2\3";
    crypto_box_keypair(pk, sk);
    randombytes_buf(secret, sizeof(secret));
    assert_int_equal(keys_secret_seal(pk, 3, id, secret, box), SP_OK);
    assert_int_equal(keys_secret_open(pk, sk, box, KEYS_SECRET_BOX, 3, id, got), SP_OK);
    assert_memory_equal(got, secret, sizeof(secret));
    assert_int_equal(keys_secret_open(pk, sk, box, KEYS_SECRET_BOX, 2, id, got), SP_ERR_AUTH);
    assert_true(sodium_is_zero(got, sizeof(got)));
    id[15] ^= 1;
    assert_int_equal(keys_secret_open(pk, sk, box, KEYS_SECRET_BOX, 3, id, got), SP_ERR_AUTH);
    for (size_t len = 0; len <= sizeof(box); len++) {
        if (len != KEYS_SECRET_BOX)
            assert_int_equal(keys_secret_open(pk, sk, box, len, 3, id, got), SP_ERR_FORMAT);
    }
    memcpy(plain + 6, id, ID_SIZE);
    assert_int_equal(crypto_box_seal(box, plain, sizeof(plain), pk), 0); /* another version */
    assert_int_equal(keys_secret_open(pk, sk, box, KEYS_SECRET_BOX, 3, id, got), SP_ERR_FORMAT);
}

static void message_ids(void **state)
{
    (void)state;
    static const uint8_t time[6] = {0x01, 0x7f, 0x22, 0xe2, 0x79, 0xb0}; /* RFC 9562 A.6 */
    uint8_t a[ID_SIZE], b[ID_SIZE];
    keys_uuid7(0x017f22e279b0, a);
    keys_uuid7(0x017f22e279b0, b);
    assert_memory_equal(a, time, 6);
    assert_int_equal(a[6] >> 4, 7);
    assert_int_equal(a[8] >> 6, 2);
    assert_memory_not_equal(a, b, ID_SIZE);
}

/* RFC 5869 has no case with our sizes; RFC 4231 case 2's key is shorter than ours and padded. */
static void hashes(void **state)
{
    (void)state;
    static const uint8_t want[HASH_SIZE] = {0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e,
                                            0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75, 0xc7,
                                            0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83,
                                            0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43};
    static const char msg[] = "what do ya want for nothing?";
    uint8_t key[KEY_SIZE] = "Jefe", out[HASH_SIZE], sum[HASH_SIZE];
    assert_int_equal(keys_hmac(key, msg, sizeof(msg) - 1, out), SP_OK);
    assert_memory_equal(out, want, sizeof(want));
    crypto_hash_sha256(sum, out, sizeof(out));
    assert_int_equal(keys_sha256(out, sizeof(out), out), SP_OK); /* in place */
    assert_memory_equal(out, sum, sizeof(sum));
    memset(key, 0, sizeof(key));
    assert_int_equal(keys_x25519(sum, key, out), SP_ERR_AUTH); /* the all-zero result */
    assert_true(sodium_is_zero(out, sizeof(out)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64url),
        cmocka_unit_test(base64url_alphabet),
        cmocka_unit_test(links_round_trip),
        cmocka_unit_test(bad_links),
        cmocka_unit_test(link_limits),
        cmocka_unit_test(seeds_for_devices),
        cmocka_unit_test(secrets_for_the_keeper),
        cmocka_unit_test(message_ids),
        cmocka_unit_test(hashes),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
