/* What the TLS key may sign: the two forms to the byte, and nothing near them. */
#include "daemon/keeper/signable.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

static size_t make_tls13(uint8_t *out, size_t hash)
{
    static const char context[] = "TLS 1.3, server CertificateVerify";
    memset(out, 0x20, 64);
    memcpy(out + 64, context, sizeof(context));
    memset(out + 64 + sizeof(context), 0xab, hash);
    return 64 + sizeof(context) + hash;
}

static size_t make_tls12(uint8_t *out, uint8_t curve, uint8_t point)
{
    memset(out, 0x5a, 64);
    out[64] = 3;
    out[65] = 0;
    out[66] = curve;
    out[67] = point;
    memset(out + 68, 4, point);
    return 68u + point;
}

static bool passes(const uint8_t *in, size_t len)
{
    enum signable_form form;
    return signable_check(in, len, &form) == SP_OK;
}

/* Any other length, and any other value of a byte that is fixed, is refused. */
static void only_exactly(const uint8_t *in, size_t len, size_t from, size_t to)
{
    uint8_t copy[512] = {0};
    memcpy(copy, in, len);
    assert_true(passes(copy, len));
    for (size_t n = 0; n < sizeof(copy); n++)
        if (n != len && n != len + 16 && n + 16 != len)
            assert_false(passes(copy, n));
    for (size_t i = from; i < to; i++)
        for (unsigned v = 1; v < 256; v++) {
            copy[i] = (uint8_t)(in[i] ^ v);
            assert_false(passes(copy, len));
            copy[i] = in[i];
        }
}

static void test_tls13(void **state)
{
    uint8_t in[512];
    (void)state;
    only_exactly(in, make_tls13(in, 32), 0, 98);
    only_exactly(in, make_tls13(in, 48), 0, 98);
    assert_false(passes(in, make_tls13(in, 64)));
    assert_false(passes(in, make_tls13(in, 20)));
    size_t len = make_tls13(in, 32);
    memcpy(in + 64, "TLS 1.3, client CertificateVerify", 33);
    assert_false(passes(in, len));
}

static void test_tls12(void **state)
{
    uint8_t in[512];
    (void)state;
    only_exactly(in, make_tls12(in, 29, 32), 64, 68);
    only_exactly(in, make_tls12(in, 23, 65), 64, 69);
    only_exactly(in, make_tls12(in, 24, 97), 64, 69);
    assert_false(passes(in, make_tls12(in, 25, 133))); /* secp521r1 */
    assert_false(passes(in, make_tls12(in, 30, 56)));  /* x448 */
    assert_false(passes(in, make_tls12(in, 23, 33)));  /* compressed */
    assert_false(passes(in, make_tls12(in, 29, 65)));
}

static enum sp_err decode(const char *algorithm, const char *digest, const uint8_t *in, size_t len,
                          enum signable_key key, size_t cut, size_t extra)
{
    uint8_t buf[1024] = {0};
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct signable_request request;
    wire_put_str(&out, algorithm);
    wire_put_str(&out, digest);
    wire_put_b32(&out, in, len);
    struct wire_in body = wire_in(buf, out.len - cut + extra);
    enum sp_err err = signable_decode(&body, key, &request);
    if (err == SP_OK) {
        assert_int_equal(request.input_len, len);
        assert_memory_equal(request.input, in, len);
        assert_string_equal(request.algorithm, algorithm);
        assert_string_equal(request.digest != NULL ? request.digest : "", digest);
    }
    return err;
}

static void test_algorithms(void **state)
{
    static const struct {
        const char *algorithm, *digest;
        enum signable_key key;
        bool tls12, tls13;
    } rows[] = {
        {"ECDSA", "SHA256", SIGNABLE_P256, true, true},
        {"ECDSA", "SHA384", SIGNABLE_P256, true, false},
        {"ECDSA", "SHA384", SIGNABLE_P384, true, true},
        {"ECDSA", "SHA256", SIGNABLE_P384, true, false},
        {"ECDSA", "SHA1", SIGNABLE_P256, false, false},
        {"ECDSA", "", SIGNABLE_P256, false, false},
        {"ECDSA", "SHA256", SIGNABLE_RSA, false, false},
        {"RSA", "SHA256", SIGNABLE_RSA, true, false},
        {"RSA", "SHA512", SIGNABLE_RSA, true, false},
        {"RSA", "MD5", SIGNABLE_RSA, false, false},
        {"RSA-PSS", "SHA256", SIGNABLE_RSA, true, true},
        {"RSA-PSS", "SHA384", SIGNABLE_RSA, true, true},
        {"RSA-PSS", "SHA256", SIGNABLE_P256, false, false},
        {"ED25519", "", SIGNABLE_ED25519, true, true},
        {"ED25519", "SHA256", SIGNABLE_ED25519, false, false},
        {"RSA-P", "SHA256", SIGNABLE_RSA, false, false},
        {"", "", SIGNABLE_RSA, false, false},
    };
    uint8_t in[512];
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t len = make_tls12(in, 29, 32);
        assert_int_equal(decode(rows[i].algorithm, rows[i].digest, in, len, rows[i].key, 0, 0),
                         rows[i].tls12 ? SP_OK : SP_ERR_NO_KEY);
        len = make_tls13(in, 48);
        assert_int_equal(decode(rows[i].algorithm, rows[i].digest, in, len, rows[i].key, 0, 0),
                         rows[i].tls13 ? SP_OK : SP_ERR_NO_KEY);
    }
}

static void test_frames(void **state)
{
    uint8_t in[512];
    (void)state;
    size_t len = make_tls13(in, 32);
    assert_int_equal(decode("ECDSA", "SHA256", in, len, SIGNABLE_P256, 0, 1), SP_ERR_FORMAT);
    assert_int_equal(decode("ECDSA", "SHA256", in, len, SIGNABLE_P256, 1, 0), SP_ERR_FORMAT);
    assert_int_equal(decode("ECDSA", "SHA256", in, len - 1, SIGNABLE_P256, 0, 0), SP_ERR_DENIED);
    assert_int_equal(decode("ECDSA", "SHA256", in, 0, SIGNABLE_P256, 0, 0), SP_ERR_DENIED);
    assert_int_equal(decode("ECDSA-ECDSA-ECDSA", "SHA256", in, len, SIGNABLE_P256, 0, 0),
                     SP_ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tls13),
        cmocka_unit_test(test_tls12),
        cmocka_unit_test(test_algorithms),
        cmocka_unit_test(test_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
