/* The relay's parent as it runs (all but its cage), the test being store, keeper and resolver: a
 * delivery for each lease, no more than there are places, each buried and told of, whatever it died
 * of; an orderly end. */
#include "daemon/door/door.h"
#include "daemon/messages.h"
#include "daemon/relay/delivery.h"
#include "daemon/role.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PLACES 3

enum { STORE, KEEPER, RESOLVER, AUDIT, STOP, N_ENDS };
static int end[N_ENDS];
static pid_t role_pid;

static struct role role;

static void on_told(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    relay_role.stop(&role);
}

static void become_role(const int *fds)
{
    static struct config config = {.relay_mode = RELAY_MX,
                                   .private_addresses = CONFIG_YES,
                                   .deliveries = PLACES,
                                   .shutdown_grace = 1,
                                   .memory_lock = LOCK_MLOCK,
                                   .hostname = (char *)(uintptr_t) "mail.example.org"};
    static const int to[] = {ROLE_FD(ROLE_STORE), ROLE_FD(ROLE_KEEPER), ROLE_FD(ROLE_RESOLVER),
                             FD_AUDIT, 40};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGSEGV, SIG_DFL); /* cmocka's */
    signal(SIGSYS, SIG_DFL);
    role = (struct role){.ops = &relay_role, .config = &config};
    for (int i = 0; i < N_ENDS; i++)
        dup3(fds[i], to[i], O_CLOEXEC);
    int door[2];
    if (ipc_pair(door) != SP_OK || dup2(door[0], DOOR_AT) < 0 || dup2(door[1], DOOR_AT + 1) < 0)
        _exit(1);
    close(FD_EXTRA); /* no file of certificates: the event loop may get its number */
    role.base = event_base_new();
    enum sp_err err = relay_role.prepare(&role);
    if (err == SP_OK)
        err = relay_role.run(&role);
    struct event *told = event_new(role.base, 40, EV_READ, on_told, NULL);
    event_add(told, NULL);
    if (err == SP_OK)
        err = ipc_loop(role.base);
    _exit((int)err);
}

static int start_role(void **state)
{
    int pair[N_ENDS][2], theirs[N_ENDS];
    (void)state;
    int null = open("/dev/null", O_RDWR); /* what is not handed over must not look like a file */
    for (int fd = 3; fd < 41; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            dup2(null, fd);
    for (int i = 0; i < N_ENDS; i++) {
        assert_int_equal(ipc_pair(pair[i]), SP_OK);
        end[i] = pair[i][0];
        theirs[i] = pair[i][1];
    }
    role_pid = fork();
    if (role_pid == 0) {
        for (int i = 0; i < N_ENDS; i++)
            close(end[i]);
        become_role(theirs);
    }
    for (int i = 0; i < N_ENDS; i++)
        close(theirs[i]);
    return 0;
}

static int end_role(void **state)
{
    (void)state;
    kill(role_pid, SIGKILL);
    waitpid(role_pid, NULL, 0);
    for (int i = 0; i < N_ENDS; i++)
        close(end[i]);
    return 0;
}

/* The next frame on one edge; a descriptor is the caller's. */
static struct ipc_frame next(int which)
{
    static uint8_t buf[N_ENDS][1024];
    struct ipc_frame f = {0};
    struct pollfd p = {.fd = end[which], .events = POLLIN};
    assert_int_equal(poll(&p, 1, 20000), 1);
    assert_int_equal(ipc_recv(end[which], buf[which], sizeof(buf[which]), &f), SP_OK);
    return f;
}

static void expect_want(uint32_t n)
{
    struct ipc_frame f = next(STORE);
    assert_int_equal(f.type, SR_WANT);
    assert_int_equal(wire_get_u32(&f.body), n);
}

static void give(uint64_t lease)
{
    uint8_t body[8];
    struct wire_out out = wire_out(body, 8);
    wire_put_u64(&out, lease);
    assert_int_equal(ipc_send_fd(end[STORE], SR_JOB, 0, body, 8, -1), SP_OK);
}

/* The delivery's three channels as the peers get them. */
static void expect_delivery(uint64_t lease, int channel[3])
{
    uint32_t number = 0;
    for (int i = STORE; i <= RESOLVER; i++) {
        struct ipc_frame f = next(i);
        assert_int_equal(f.type, RP_DELIVERY);
        uint32_t got = wire_get_u32(&f.body);
        assert_true(i == STORE || got == number);
        number = got;
        assert_int_equal(wire_get_u64(&f.body), lease);
        assert_true(f.fd >= 0);
        channel[i] = f.fd;
    }
}

static void expect_ended(uint64_t lease, uint32_t sig, uint32_t want)
{
    struct ipc_frame f = next(STORE);
    assert_int_equal(f.type, SR_ENDED);
    assert_int_equal(wire_get_u64(&f.body), lease);
    assert_int_equal(wire_get_u32(&f.body), sig);
    assert_int_equal(wire_get_u32(&f.body), want);
}

/* It asks for its job first of all; then it is at our mercy. */
static void expect_question(int fd)
{
    uint8_t buf[64];
    struct ipc_frame f;
    assert_int_equal(ipc_recv(fd, buf, sizeof(buf), &f), SP_OK);
    assert_int_equal(f.type, SD_JOB);
}

static void shut(int channel[3])
{
    for (int i = 0; i < 3; i++)
        close(channel[i]);
}

/* The role's child that was forked last. */
static pid_t newest_child(void)
{
    char path[64];
    int pid = 0, one;
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", role_pid, role_pid);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    while (fscanf(f, "%d", &one) == 1)
        pid = one > pid ? one : pid;
    fclose(f);
    assert_true(pid > 0);
    return pid;
}

static void test_a_lease(void **state)
{
    int channel[3];
    (void)state;
    expect_want(PLACES);
    give(77);
    expect_delivery(77, channel);
    expect_question(channel[STORE]);
    shut(channel);
    expect_ended(77, 0, PLACES);
}

/* Those that come too many, since SR_WANT was on its way, wait; more than that is nonsense. */
static void test_places(void **state)
{
    int channel[PLACES + 1][3];
    (void)state;
    expect_want(PLACES);
    for (uint64_t i = 0; i < PLACES; i++) {
        give(i + 1);
        expect_delivery(i + 1, channel[i]);
        expect_question(channel[i][STORE]);
    }
    give(100);
    shut(channel[1]);
    expect_ended(2, 0, 0);
    expect_delivery(100, channel[PLACES]);
    expect_question(channel[PLACES][STORE]);
    shut(channel[0]);
    expect_ended(1, 0, 1);
    for (uint64_t i = 0; i < 1 + PLACES + 1; i++)
        give(200 + i); /* one is begun, as many as there are places may wait */
    int status;
    assert_int_equal(waitpid(role_pid, &status, 0), role_pid);
    assert_int_equal(WEXITSTATUS(status), 1);
}

/* One audit event: its number, the fields undecoded. */
static uint16_t event(struct wire_in *fields)
{
    struct ipc_frame f = next(AUDIT);
    assert_int_equal(f.type, 0x0800);
    uint16_t number = wire_get_u16(&f.body);
    *fields = f.body;
    return number;
}

static void test_crash(void **state)
{
    static const int signals[] = {SIGSEGV, SIGSYS};
    int channel[3];
    (void)state;
    expect_want(PLACES);
    for (uint64_t i = 0; i < 2; i++) {
        give(5 + i);
        expect_delivery(5 + i, channel);
        expect_question(channel[STORE]);
        kill(newest_child(), signals[i]);
        expect_ended(5 + i, (uint32_t)signals[i], PLACES);
        shut(channel);
    }
    struct wire_in fields;
    uint16_t crashed = event(&fields);
    assert_int_equal(wire_get_u64(&fields), 5);
    assert_int_equal(wire_get_u64(&fields), SIGSEGV);
    assert_int_not_equal(event(&fields), crashed);
    size_t len;
    const uint8_t *who = wire_get_b16(&fields, 100, &len);
    assert_true(len == 8 && memcmp(who, "delivery", 8) == 0);
    assert_int_equal(wire_get_u64(&fields), 6);
}

/* Nothing of one delivery's is open in the next: three channels of its own, two of the door's. */
static void test_descriptors(void **state)
{
    int channel[2][3];
    char path[64], to[64];
    (void)state;
    expect_want(PLACES);
    for (uint64_t i = 0; i < 2; i++) {
        give(1 + i);
        expect_delivery(1 + i, channel[i]);
        expect_question(channel[i][STORE]);
    }
    pid_t child = newest_child();
    for (int fd = 3; fd < 300; fd++) {
        snprintf(path, sizeof(path), "/proc/%d/fd/%d", child, fd);
        ssize_t n = readlink(path, to, sizeof(to));
        assert_true(fd < 8 ? n > 0 && memcmp(to, "socket:", 7) == 0 : n < 0);
    }
    shut(channel[0]);
    shut(channel[1]);
}

/* One that breaks off by itself and one that does not: after the grace it is killed. */
static void test_stop(void **state)
{
    int channel[2][3], status;
    (void)state;
    expect_want(PLACES);
    for (uint64_t i = 0; i < 2; i++) {
        give(1 + i);
        expect_delivery(1 + i, channel[i]);
        expect_question(channel[i][STORE]);
    }
    assert_int_equal(ipc_send_fd(end[STOP], 1, 0, NULL, 0, -1), SP_OK);
    shut(channel[0]); /* the other one waits for our answer */
    for (int n = 0; n < 2; n++) {
        struct ipc_frame f = next(STORE);
        assert_int_equal(f.type, SR_ENDED);
        wire_get_u64(&f.body);
        assert_int_equal(wire_get_u32(&f.body), SIGTERM); /* no attempt of the job's */
        assert_int_equal(wire_get_u32(&f.body), 0);
    }
    shut(channel[1]);
    assert_int_equal(waitpid(role_pid, &status, 0), role_pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start_role, end_role)
        TEST(test_a_lease),     TEST(test_places), TEST(test_crash),
        TEST(test_descriptors), TEST(test_stop),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
