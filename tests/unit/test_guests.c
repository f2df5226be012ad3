/* Who counts as one client, how fast it may connect, and for how long one who crashes sessions, or
 * does lesser things again and again, is held off. */
#include "daemon/forked.h"
#include "daemon/smtp/guests.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static struct guests g;

static int forget(void **state)
{
    (void)state;
    guests_end(&g);
    return 0;
}

static void begin(uint64_t hold_ms, uint64_t per_minute)
{
    assert_int_equal(guests_init(&g, hold_ms, per_minute), SP_OK);
}

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
    (void)state;
    begin(1000, 0);
    assert_false(guests_held(&g, "a", 5));
    guests_crashed(&g, "a", 5);
    assert_true(guests_held(&g, "a", 1004));
    assert_false(guests_held(&g, "a", 1005));
    assert_false(guests_held(&g, "b", 6));
    assert_int_equal(guests_connected(&g, "a", 900), GUESTS_HELD);
    assert_int_equal(guests_connected(&g, "b", 900), GUESTS_WELCOME);
    guests_crashed(&g, "a", 2000);
    assert_true(guests_held(&g, "a", 3999));
    for (int i = 0; i < 100; i++)
        guests_crashed(&g, "a", 2000);
    assert_true(guests_held(&g, "a", 2000 + 63999));
    assert_false(guests_held(&g, "a", 2000 + 64000));
    guests_crashed(&g, "a", 1000000); /* long after: the first again */
    assert_false(guests_held(&g, "a", 1001000));
    assert_int_equal(g.crashes, 103);
    guests_crashed(&g, NULL, 1002000); /* of one that is not held off */
    assert_int_equal(g.crashes, 104);
}

static void test_lesser_offences_add_up_and_decay(void **state)
{
    (void)state;
    begin(1000, 0);
    for (unsigned i = 0; i < 3; i++)
        guests_offended(&g, "a", 25, 10 + i);
    assert_false(guests_held(&g, "a", 20));
    guests_offended(&g, "a", 25, 20);
    assert_false(guests_held(&g, "a", 20)); /* a little was forgiven since */
    guests_offended(&g, "a", 1, 20);
    assert_true(guests_held(&g, "a", 20));
    uint64_t now = 20; /* as much as is forgiven meanwhile: never held */
    for (unsigned i = 0; i < 1000; i++) {
        now += 60000 * 5 / GUESTS_DECAY;
        guests_offended(&g, "b", 5, now);
        assert_false(guests_held(&g, "b", now));
    }
}

static void test_connections_a_minute(void **state)
{
    (void)state;
    begin(1000, 6);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(guests_connected(&g, "a", 100), GUESTS_WELCOME);
    assert_int_equal(guests_connected(&g, "a", 100), GUESTS_TOO_FAST);
    assert_int_equal(guests_connected(&g, "b", 100), GUESTS_WELCOME);
    assert_int_equal(guests_connected(&g, "a", 10099), GUESTS_TOO_FAST);
    assert_int_equal(guests_connected(&g, "a", 10100), GUESTS_WELCOME); /* one every ten seconds */
    assert_int_equal(guests_connected(&g, "a", 10101), GUESTS_TOO_FAST);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(guests_connected(&g, "a", 1000000), GUESTS_WELCOME);
    assert_int_equal(guests_connected(&g, "a", 1000000), GUESTS_TOO_FAST);
}

static void test_no_limit(void **state)
{
    (void)state;
    begin(1000, 0);
    for (unsigned i = 0; i < 100000; i++)
        assert_int_equal(guests_connected(&g, "a", 100), GUESTS_WELCOME);
}

/* However many clients come by, who is held off stays so. */
static void test_a_flood_drives_out_nobody_who_is_held(void **state)
{
    char key[GUEST_TEXT];
    (void)state;
    begin(60000, 100);
    guests_crashed(&g, "bad", 10);
    for (unsigned i = 0; i < 100000; i++) {
        snprintf(key, sizeof(key), "IPv6:2001:db8:0:%x::/64", i);
        assert_int_equal(guests_connected(&g, key, 20 + i / 100), GUESTS_WELCOME);
    }
    assert_true(guests_held(&g, "bad", 2000));
}

/* A process of a session must not learn of other clients, nor pay for the table. */
static void test_a_fork_has_no_table(void **state)
{
    (void)state;
    begin(1000, 0);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        _exit(guests_held(&g, "a", 5));
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void test_no_hold(void **state)
{
    (void)state;
    begin(0, 0);
    guests_crashed(&g, "a", 5);
    assert_false(guests_held(&g, "a", 5));
    assert_true(forked_is_crash(SIGSYS) && forked_is_crash(SIGSEGV));
    assert_false(forked_is_crash(SIGKILL) || forked_is_crash(SIGTERM));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ipv6_client_is_its_network),
        cmocka_unit_test(test_ipv4_client_is_its_address),
        cmocka_unit_test_teardown(test_hold_doubles_and_is_forgotten, forget),
        cmocka_unit_test_teardown(test_lesser_offences_add_up_and_decay, forget),
        cmocka_unit_test_teardown(test_connections_a_minute, forget),
        cmocka_unit_test_teardown(test_no_limit, forget),
        cmocka_unit_test_teardown(test_a_flood_drives_out_nobody_who_is_held, forget),
        cmocka_unit_test_teardown(test_a_fork_has_no_table, forget),
        cmocka_unit_test_teardown(test_no_hold, forget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
