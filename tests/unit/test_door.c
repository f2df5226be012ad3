/* The door's channels from both sides: few wait in each, each is what it is said to be, and whoever
 * takes them gets what socket(2) would have given. */
#include "daemon/door/door.h"
#include "daemon/door/sockets.h"

#include <dlfcn.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <unbound.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static struct event_base *base;
static struct door_filling *filling;
static int theirs[DOOR_CHANNELS];
static struct door_source sources[DOOR_CHANNELS];
static size_t n_sources;

/* A resolver's four, as it would use them. */
static int set_up(void **state)
{
    int ours[DOOR_CHANNELS], pair[2];
    (void)state;
    base = event_base_new();
    n_sources = 0;
    for (size_t i = 0; i < DOOR_CHANNELS; i++) {
        const struct door_channel *c = &door_channels[i];
        assert_int_equal(ipc_pair(pair), SP_OK);
        ours[i] = pair[0];
        theirs[i] = pair[1];
        assert_int_equal(door_bound(ours[i]), SP_OK);
        if (c->to == ROLE_RESOLVER)
            sources[n_sources++] = (struct door_source){c->family, c->type, theirs[i]};
    }
    filling = door_fill(base, ours);
    assert_non_null(filling);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    door_use(NULL, 0);
    door_fill_end(filling);
    for (size_t i = 0; i < DOOR_CHANNELS; i++)
        if (theirs[i] >= 0)
            close(theirs[i]);
    event_base_free(base);
    return 0;
}

/* As the door, which is a process without one; then as a taker again. */
static void fill(void)
{
    door_use(NULL, 0);
    for (int i = 0; i < 20; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
    door_use(sources, n_sources);
}

static int option(int fd, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, name, &value, &len), 0);
    return value;
}

/* Takes all that wait for this kind; how many. Each must be a fresh one of it. */
static unsigned drain(int family, int type)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);
    unsigned n = 0;
    int fd;
    while ((fd = door_socket(family, type | SOCK_NONBLOCK, 0)) >= 0) {
        assert_int_equal(option(fd, SO_DOMAIN), family);
        assert_int_equal(option(fd, SO_TYPE), type);
        assert_int_equal(option(fd, SO_ACCEPTCONN), 0);
        assert_int_equal(getpeername(fd, (struct sockaddr *)&peer, &len), -1);
        assert_int_equal(errno, ENOTCONN);
        assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        close(fd);
        n++;
    }
    assert_int_equal(errno, EAGAIN);
    return n;
}

/* However long nobody takes any: each is an open file of the door's user. */
static void few_wait(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        fill();
        for (size_t i = 0; i < n_sources; i++)
            assert_in_range(drain(sources[i].family, sources[i].type), 8, 24);
    }
}

static void refilled_before_it_is_empty(void **state)
{
    (void)state;
    fill();
    for (int i = 0; i < 500; i++) {
        int fd = door_socket(AF_INET, SOCK_DGRAM, 0);
        assert_true(fd >= 0);
        close(fd);
        fill();
    }
}

static void what_was_asked_for(void **state)
{
    (void)state;
    fill();
    int fd = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    close(fd);
    static const int not_had[][4] = {{AF_UNIX, SOCK_STREAM, 0, EAFNOSUPPORT},
                                     {AF_NETLINK, SOCK_RAW, 0, EAFNOSUPPORT},
                                     {AF_INET, SOCK_RAW, IPPROTO_ICMP, EAFNOSUPPORT},
                                     {AF_INET, SOCK_STREAM, IPPROTO_SCTP, EPROTONOSUPPORT},
                                     {AF_INET, SOCK_DGRAM, IPPROTO_TCP, EPROTONOSUPPORT}};
    for (size_t i = 0; i < sizeof(not_had) / sizeof(not_had[0]); i++) {
        assert_int_equal(socket(not_had[i][0], not_had[i][1], not_had[i][2]), -1);
        assert_int_equal(errno, not_had[i][3]);
    }
}

/* Without a door the call is the system's. */
static void without_a_door(void **state)
{
    (void)state;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(door_channel(AF_INET, SOCK_STREAM), -1);
}

/* The door is gone, or has no such network. */
static void the_end_of_a_channel(void **state)
{
    (void)state;
    door_use(sources, n_sources);
    door_fill_end(filling);
    filling = NULL;
    assert_int_equal(door_socket(AF_INET, SOCK_STREAM, 0), -1);
    assert_int_equal(errno, EAFNOSUPPORT);
    assert_int_equal(socket(AF_INET6, SOCK_DGRAM, 0), -1);
    assert_int_equal(errno, EAFNOSUPPORT);
}

/* A door that was taken over: bytes without a socket, more than one of them. */
static void what_is_no_socket(void **state)
{
    (void)state;
    int pair[2];
    assert_int_equal(ipc_pair(pair), SP_OK);
    const struct door_source source = {AF_INET, SOCK_STREAM, pair[1]};
    door_use(&source, 1);
    assert_int_equal(send(pair[0], "0123456789", 10, 0), 10);
    assert_int_equal(door_socket(AF_INET, SOCK_STREAM, 0), -1);
    assert_int_equal(errno, EMFILE);
    int before = dup(0);
    close(before);
    const int two[] = {0, 0};
    char byte = 0;
    struct iovec iov = {&byte, 1};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(two))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control.space)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(two));
    memcpy(CMSG_DATA(c), two, sizeof(two));
    assert_int_equal(sendmsg(pair[0], &msg, 0), 1);
    int got = door_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), after = dup(0);
    assert_int_equal(got, before); /* the first; of the second nothing is left */
    assert_int_equal(after, before + 1);
    close(got);
    close(after);
    close(pair[0]);
    close(pair[1]);
}

/* Who has taken a channel's last socket and closes it ends that channel, and no other. */
static void a_taker_that_ends(void **state)
{
    (void)state;
    fill();
    close(theirs[0]);
    theirs[0] = -1;
    fill();
    assert_in_range(drain(AF_INET, SOCK_DGRAM), 8, 24);
}

/* A kernel without IPv6 (here: a socket() that knows one kind) has no such channel, and others. */
static void a_kind_that_is_not_there(void **state)
{
    const struct door_source none = {AF_UNIX, SOCK_STREAM, -1};
    (void)state;
    door_use(&none, 1);
    event_base_loop(base, EVLOOP_NONBLOCK);
    door_use(sources, n_sources);
    for (size_t i = 0; i < n_sources; i++) {
        assert_int_equal(door_socket(sources[i].family, sources[i].type, 0), -1);
        assert_int_equal(errno, EAFNOSUPPORT);
    }
}

/* What the machine lacks for a moment is tried again, and the channel stays. */
static void no_descriptor_for_a_moment(void **state)
{
    struct rlimit before, none;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    event_base_loop(base, EVLOOP_NONBLOCK);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    door_use(sources, n_sources);
    assert_int_equal(door_socket(AF_INET, SOCK_STREAM, 0), -1);
    assert_int_equal(errno, EAGAIN);
    usleep(150 * 1000);
    fill();
    for (size_t i = 0; i < n_sources; i++)
        assert_in_range(drain(sources[i].family, sources[i].type), 8, 24);
}

/* libunbound's calls must come here; should its library be linked so that they do not, the
 * resolver would die of its first question. */
static void libraries_call_ours(void **state)
{
    int (*theirs_too)(int, int, int);
    (void)state;
    void *found = dlsym(RTLD_DEFAULT, "socket");
    memcpy(&theirs_too, &found, sizeof(found));
    Dl_info info, unbound;
    assert_true(dladdr(found, &info) != 0);
    assert_true(dladdr((void *)(uintptr_t)&what_was_asked_for, &unbound) != 0);
    assert_ptr_equal(info.dli_fbase, unbound.dli_fbase);
    assert_non_null(ub_version());
    door_use(sources, n_sources);
    assert_int_equal(theirs_too(AF_UNIX, SOCK_STREAM, 0), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(few_wait, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refilled_before_it_is_empty, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_asked_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_door, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_of_a_channel, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_no_socket, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_taker_that_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_kind_that_is_not_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_descriptor_for_a_moment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(libraries_call_ours, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
