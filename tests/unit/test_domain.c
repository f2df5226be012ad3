/* Domain names: Unicode and ASCII spellings of one name are one name. */
#include "daemon/domain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

static void test_same_name(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"", ""},
        {"Example.ORG", "example.org"},
        {"XN--Bcher-Kva.example", "xn--bcher-kva.example"},
        {"b\xc3\xbc"
         "cher.example",
         "xn--bcher-kva.example"},
        {"B\xc3\x9c"
         "CHER.Example",
         "xn--bcher-kva.example"},
        {"bu\xcc\x88"
         "cher.example",
         "xn--bcher-kva.example"}, /* not composed */
        {"fa\xc3\x9f.example", "xn--fa-hia.example"},
        {"\xe4\xbe\x8b\xe3\x81\x88.\xe3\x83\x86\xe3\x82\xb9\xe3\x83\x88", "xn--r8jz45g.xn--zckzah"},
        {"a\xe3\x80\x82"
         "b\xc3\xbc.example",
         "a.xn--b-eha.example"}, /* an ideographic full stop */
        {"[192.0.2.1]", "[192.0.2.1]"},
        {"[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"},
    };
    char out[DOMAIN_MAX + 1];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(domain_to_ascii(cases[i].in, out), SP_OK);
        assert_string_equal(out, cases[i].out);
    }
}

static void test_no_name(void **state)
{
    static const char *const bad[] = {
        "\xff\xfe.example",
        "b\xc3.example",
        "\xe2\x80\x8b.example", /* nothing but a space without width */
        "a b\xc3\xbc.example",
        "b\xc3\xbc<.example",
        "-\xc3\xbc.example",
        "\xe2\x82\xac\xf0\x90\x80\x80\xcc\x80\xd7\x90"
        "a.example", /* mixed directions */
    };
    char out[DOMAIN_MAX + 1], text[2 * DOMAIN_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (domain_to_ascii(bad[i], out) != SP_ERR_FORMAT)
            fail_msg("%zu: %s", i, out);
        assert_string_equal(out, "");
    }
    memset(text, 'a', DOMAIN_MAX + 1);
    text[DOMAIN_MAX + 1] = '\0';
    assert_int_equal(domain_to_ascii(text, out), SP_ERR_LIMIT);
    assert_string_equal(out, "");
    text[DOMAIN_MAX] = '\0';
    assert_int_equal(domain_to_ascii(text, out), SP_OK);
    assert_string_equal(out, text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_name),
        cmocka_unit_test(test_no_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
