/* Which addresses mail for the outside may go to: none that is this host's, its network's, or
 * nobody's, in whatever form it is written. */
#include "daemon/relay/outside.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <arpa/inet.h>

static const char * not(const char *text)
{
    uint8_t bytes[16];
    if (inet_pton(AF_INET, text, bytes) == 1)
        return outside_not(bytes, 4);
    assert_int_equal(inet_pton(AF_INET6, text, bytes), 1);
    return outside_not(bytes, 16);
}

static void refused(void **state)
{
    static const char *const cases[][2] = {
        {"0.0.0.0", "unspecified"},
        {"0.255.255.255", "unspecified"},
        {"10.0.0.0", "private"},
        {"10.255.255.255", "private"},
        {"100.64.0.0", "shared"},
        {"100.127.255.255", "shared"},
        {"127.0.0.1", "loopback"},
        {"127.255.255.255", "loopback"},
        {"169.254.0.1", "link-local"},
        {"169.254.169.254", "link-local"}, /* where clouds keep their secrets */
        {"172.16.0.0", "private"},
        {"172.31.255.255", "private"},
        {"192.0.0.1", "reserved"},
        {"192.0.0.171", "reserved"},
        {"192.0.2.1", "documentation"},
        {"192.168.0.0", "private"},
        {"192.168.255.255", "private"},
        {"198.18.0.1", "benchmarking"},
        {"198.19.255.255", "benchmarking"},
        {"198.51.100.7", "documentation"},
        {"203.0.113.7", "documentation"},
        {"192.88.99.1", "reserved"},
        {"224.0.0.1", "multicast"},
        {"239.255.255.255", "multicast"},
        {"240.0.0.1", "reserved"},
        {"255.255.255.255", "reserved"},
        {"::", "unspecified"},
        {"::1", "loopback"},
        {"::2", "reserved"},
        {"::127.0.0.1", "reserved"}, /* "compatible", RFC 4291 2.5.5.1 */
        {"::8.8.8.8", "reserved"},
        {"::ffff:127.0.0.1", "loopback"},
        {"::ffff:10.1.2.3", "private"},
        {"::ffff:0.0.0.0", "unspecified"},
        {"::ffff:169.254.169.254", "link-local"},
        {"64:ff9b::127.0.0.1", "loopback"},
        {"64:ff9b::192.168.1.1", "private"},
        {"64:ff9b:1::8.8.8.8", "reserved"}, /* a network's own NAT64, RFC 8215 */
        {"2002:7f00:1::1", "loopback"},
        {"2002:c0a8:101::1", "private"},
        {"2002:a9fe:a9fe::1", "link-local"},
        {"100::1", "reserved"},
        {"2001::1", "reserved"},
        {"2001:0:4136:e378:8000:63bf:80ff:fffe", "reserved"}, /* Teredo of 127.0.0.1 */
        {"2001:1ff:ffff::1", "reserved"},
        {"2001:db8::1", "documentation"},
        {"3fff:fff::1", "documentation"},
        {"4000::1", "reserved"},
        {"5f00::1", "reserved"},
        {"1fff:ffff::1", "reserved"},
        {"fc00::1", "private"},
        {"fdff:ffff::1", "private"},
        {"fe80::1", "link-local"},
        {"febf::1", "link-local"},
        {"fec0::1", "private"},
        {"ff02::1", "multicast"},
        {"ffff::", "multicast"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *what = not(cases[i][0]);
        if (what == NULL || strcmp(what, cases[i][1]) != 0)
            fail_msg("%s: %s", cases[i][0], what != NULL ? what : "taken");
    }
}

/* Among them the neighbours of what is refused. */
static void taken(void **state)
{
    static const char *const cases[] = {
        "1.0.0.0",         "8.8.8.8",         "9.255.255.255",    "11.0.0.0",
        "100.63.255.255",  "100.128.0.0",     "126.255.255.255",  "128.0.0.0",
        "169.253.1.1",     "169.255.1.1",     "172.15.255.255",   "172.32.0.0",
        "192.0.1.1",       "192.0.3.1",       "192.167.255.255",  "192.169.0.0",
        "198.17.255.255",  "198.20.0.0",      "198.51.99.1",      "203.0.114.1",
        "223.255.255.255", "2000::1",         "2001:200::1",      "2001:4860:4860::8888",
        "2a00:1450::1",    "2606:4700::1111", "3ffe::1",          "3fff:1000::1",
        "2002:808:808::1", "::ffff:8.8.8.8",  "64:ff9b::8.8.8.8", "2001:db7:ffff::1",
        "2001:db9::1",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (not(cases[i]) != NULL)
            fail_msg("%s: %s", cases[i], not(cases[i]));
}

static void no_address(void **state)
{
    static const uint8_t bytes[16] = {8, 8, 8, 8};
    (void)state;
    assert_non_null(outside_not(bytes, 0));
    assert_non_null(outside_not(bytes, 5));
}

static void name_servers(void **state)
{
    (void)state;
    assert_true(outside_is_inside("127.0.0.1:53"));
    assert_true(outside_is_inside("10.1.2.3:5353"));
    assert_true(outside_is_inside("[::1]:53"));
    assert_true(outside_is_inside("[fd00::1]:53"));
    assert_false(outside_is_inside("9.9.9.9:53"));
    assert_false(outside_is_inside("[2620:fe::fe]:53"));
    assert_false(outside_is_inside(NULL));
    assert_false(outside_is_inside(""));
    assert_false(outside_is_inside(":53"));
    assert_false(outside_is_inside("[]:53"));
    assert_false(outside_is_inside("[::1:53"));
    assert_false(outside_is_inside("localhost:53"));
    assert_false(outside_is_inside("127.0.0.1127.0.0.1127.0.0.1127.0.0.1127.0.0.1:53"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused),
        cmocka_unit_test(taken),
        cmocka_unit_test(no_address),
        cmocka_unit_test(name_servers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
