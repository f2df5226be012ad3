/* A session's question about its sender: asked once, believed only in the right form, and no
 * answer is as good as a good one. */
#include "daemon/smtp/sender.h"
#include "daemon/ipc.h"
#include "daemon/messages.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int far; /* the resolver's end */
static struct sender s;

static int set_up(void **state)
{
    int pair[2];
    (void)state;
    assert_int_equal(ipc_pair(pair), SP_OK);
    s = (struct sender){.channel = pair[0]};
    far = pair[1];
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (s.channel >= 0)
        close(s.channel);
    close(far);
    return 0;
}

/* Answers before it is asked: frames wait in the socket. */
static void answer(uint16_t type, uint32_t id, const char *body, size_t len)
{
    assert_int_equal(ipc_send_fd(far, type, id, body, len, -1), SP_OK);
}

/* What was asked next: the domain; "" if nothing. */
static const char *asked(uint32_t *id)
{
    static uint8_t buf[IPC_HEADER + 512];
    static char domain[512];
    struct ipc_frame f;
    size_t len;
    domain[0] = '\0';
    if (recv(far, buf, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
        return domain;
    assert_int_equal(ipc_recv(far, buf, sizeof(buf), &f), SP_OK);
    assert_int_equal(f.type, RD_SENDER);
    const uint8_t *at = wire_get_b16(&f.body, sizeof(domain) - 1, &len);
    assert_true(wire_in_done(&f.body));
    memcpy(domain, at, len);
    domain[len] = '\0';
    *id = f.id;
    return domain;
}

static void yes_and_no(void **state)
{
    uint32_t id;
    (void)state;
    answer(RD_SENDER_REPLY, 1, "\1", 1);
    assert_true(sender_has_null_mx(&s, "null.test"));
    assert_string_equal(asked(&id), "null.test");
    assert_int_equal(id, 1);
    answer(RD_SENDER_REPLY, 2, "\0", 1);
    assert_false(sender_has_null_mx(&s, "good.test"));
    assert_string_equal(asked(&id), "good.test");
    assert_int_equal(id, 2);
}

static void asks_once_for_a_sender(void **state)
{
    uint32_t id;
    (void)state;
    answer(RD_SENDER_REPLY, 1, "\1", 1);
    for (int i = 0; i < 10; i++)
        assert_true(sender_has_null_mx(&s, "null.test"));
    assert_string_equal(asked(&id), "null.test");
    assert_string_equal(asked(&id), "");
    assert_int_equal(s.asked, 1);
}

static void asks_so_often_and_no_more(void **state)
{
    char domain[32];
    uint32_t id;
    (void)state;
    for (unsigned i = 1; i <= SENDER_QUESTIONS; i++) {
        snprintf(domain, sizeof(domain), "d%u.test", i);
        answer(RD_SENDER_REPLY, i, "\1", 1);
        assert_true(sender_has_null_mx(&s, domain));
        assert_string_equal(asked(&id), domain);
    }
    assert_false(sender_has_null_mx(&s, "one.more.test"));
    assert_string_equal(asked(&id), "");
    assert_true(sender_has_null_mx(&s, domain)); /* what it knows it still knows */
}

/* After an answer that is none, or no answer, the sender is taken and nothing more is asked. */
static void takes_whom_nobody_knows(void **state)
{
    static const struct {
        uint16_t type;
        uint32_t id;
        const char *body;
        size_t len;
    } wrong[] = {{RD_SENDER_REPLY, 2, "\1", 1},      {RD_SENDER_REPLY, 0, "\1", 1},
                 {RD_SENDER_REPLY, 1, "\1\1", 2},    {RD_SENDER_REPLY, 1, "", 0},
                 {RD_MX_REPLY, 1, "\1", 1},          {RD_SENDER, 1, "\1", 1},
                 {RD_SENDER_REPLY, 1, "12345678", 8}};
    uint32_t id;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        answer(wrong[i].type, wrong[i].id, wrong[i].body, wrong[i].len);
        assert_false(sender_has_null_mx(&s, "null.test"));
        assert_int_equal(s.channel, -1);
        assert_string_equal(asked(&id), "null.test");
        assert_false(sender_has_null_mx(&s, "null.test"));
        assert_false(sender_has_null_mx(&s, "other.test"));
        tear_down(state);
        set_up(state);
    }
    close(far);
    far = -1;
    assert_false(sender_has_null_mx(&s, "null.test"));
    assert_int_equal(s.channel, -1);
}

static void on_alarm(int sig)
{
    (void)sig;
}

/* The session is told to end, or its time is up, while it waits. */
static void a_signal_ends_the_wait(void **state)
{
    const struct itimerval soon = {.it_value.tv_usec = 20000}, never = {0};
    struct sigaction act = {.sa_handler = on_alarm};
    uint32_t id;
    (void)state;
    sigaction(SIGALRM, &act, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    assert_false(sender_has_null_mx(&s, "slow.test"));
    setitimer(ITIMER_REAL, &never, NULL);
    assert_int_equal(s.channel, -1);
    assert_string_equal(asked(&id), "slow.test");
}

static void without_a_channel(void **state)
{
    (void)state;
    struct sender none = {.channel = -1};
    assert_false(sender_has_null_mx(&none, "null.test"));
    assert_int_equal(none.asked, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(yes_and_no),
        T(asks_once_for_a_sender),
        T(asks_so_often_and_no_more),
        T(takes_whom_nobody_knows),
        T(a_signal_ends_the_wait),
        T(without_a_channel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
