/* Who counts as one client, and for how long one who crashes sessions is held off. */
#include "daemon/smtp/guests.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <cmocka.h>

static struct guest at(const char *text)
{
    struct sockaddr_storage from = {0};
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&from;
    struct sockaddr_in *four = (struct sockaddr_in *)&from;
    from.ss_family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET;
    void *to = from.ss_family == AF_INET6 ? (void *)&six->sin6_addr : (void *)&four->sin_addr;
    assert_int_equal(inet_pton(from.ss_family, text, to), 1);
    return guest_of(&from);
}

static void test_ipv6_client_is_its_network(void **state)
{
    (void)state;
    struct guest a = at("2001:db8:1:2::1"), b = at("2001:db8:1:2:ffff:ffff:ffff:ffff"),
                 c = at("2001:db8:1:3::1"), longest = at("1111:2222:3333:4444:5555:6666:7777:8888");
    assert_string_equal(a.name, "IPv6:2001:db8:1:2::1");
    assert_string_equal(a.key, b.key);
    assert_string_not_equal(a.key, c.key);
    assert_string_equal(longest.name, "IPv6:1111:2222:3333:4444:5555:6666:7777:8888");
    assert_string_equal(longest.key, "IPv6:1111:2222:3333:4444::/64");
}

static void test_ipv4_client_is_its_address(void **state)
{
    (void)state;
    assert_string_equal(at("192.0.2.1").name, "192.0.2.1");
    assert_string_equal(at("192.0.2.1").key, "192.0.2.1");
    struct sockaddr_storage other = {.ss_family = AF_UNIX};
    assert_string_equal(guest_of(&other).key, "unknown");
}

static void test_hold_doubles_and_is_forgotten(void **state)
{
    static struct guests g = {.hold_ms = 1000};
    (void)state;
    assert_false(guests_held(&g, "a", 5));
    guests_crashed(&g, "a", 5);
    assert_true(guests_held(&g, "a", 1004));
    assert_false(guests_held(&g, "a", 1005));
    assert_false(guests_held(&g, "b", 6));
    guests_crashed(&g, "a", 2000);
    assert_true(guests_held(&g, "a", 3999));
    for (int i = 0; i < 100; i++)
        guests_crashed(&g, "a", 2000);
    assert_true(guests_held(&g, "a", 2000 + 63999));
    assert_false(guests_held(&g, "a", 2000 + 64000));
    guests_crashed(&g, "a", 1000000); /* long after: the first again */
    assert_false(guests_held(&g, "a", 1001000));
    assert_int_equal(g.crashes, 103);
}

static void test_table_keeps_those_held_longest(void **state)
{
    static struct guests g = {.hold_ms = 1000};
    char key[GUEST_TEXT];
    (void)state;
    for (unsigned i = 0; i < 2 * GUESTS_HELD; i++) {
        snprintf(key, sizeof(key), "192.0.2.%u", i);
        guests_crashed(&g, key, 10 + i);
    }
    assert_false(guests_held(&g, "192.0.2.0", 600));
    snprintf(key, sizeof(key), "192.0.2.%u", 2 * GUESTS_HELD - 1);
    assert_true(guests_held(&g, key, 600));
}

static void test_no_hold(void **state)
{
    static struct guests g;
    (void)state;
    guests_crashed(&g, "a", 5);
    assert_false(guests_held(&g, "a", 5));
    assert_true(guests_is_crash(SIGSYS) && guests_is_crash(SIGSEGV));
    assert_false(guests_is_crash(SIGKILL) || guests_is_crash(SIGTERM));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ipv6_client_is_its_network),
        cmocka_unit_test(test_ipv4_client_is_its_address),
        cmocka_unit_test(test_hold_doubles_and_is_forgotten),
        cmocka_unit_test(test_table_keeps_those_held_longest),
        cmocka_unit_test(test_no_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
