/* Frames between processes: what the table does not allow ends the peer and harms nobody else; a
 * full socket queues, in order, to a limit; whoever is freed inside its own handler stays whole. */
#include "daemon/ipc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FRAME_PLAIN = 1, FRAME_ONCE, FRAME_FD, FRAME_LATER, FRAME_FREE, FRAME_LAZY, FRAME_REFUSED };

struct side {
    struct event_base *base;
    struct ipc_peer *peer;
    int other; /* the test's end */
    unsigned handled, gone, idle;
    enum sp_err why;
    uint32_t last_id;
    uint16_t last_flags;
    int kept;     /* a descriptor */
    bool leave;   /* gone() does not free */
    bool pausing; /* FRAME_PLAIN pauses its peer */
};

static enum sp_err on_plain(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    struct side *s = ctx;
    s->handled++;
    s->last_id = f->id;
    s->last_flags = f->flags;
    if (s->pausing)
        ipc_peer_pause(peer, true);
    wire_get_bytes(&f->body, f->body.left);
    return SP_OK;
}

static enum sp_err on_fd(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    struct side *s = ctx;
    (void)peer;
    s->handled++;
    s->kept = f->fd;
    f->fd = -1;
    return SP_OK;
}

static enum sp_err on_free(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    struct side *s = ctx;
    s->handled++;
    s->peer = NULL;
    ipc_peer_free(peer);
    ipc_permit_only(peer, 0); /* still whole until the handler is over */
    return f->id == 0 ? SP_OK : SP_ERR_FORMAT;
}

static enum sp_err on_lazy(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    (void)peer;
    (void)f;
    ((struct side *)ctx)->handled++;
    return SP_OK; /* and leaves the body where it is */
}

static enum sp_err on_refused(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    (void)peer;
    (void)f;
    ((struct side *)ctx)->handled++;
    return SP_ERR_AUTH;
}

static void on_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct side *s = ctx;
    s->gone++;
    s->why = why;
    if (s->leave)
        return;
    s->peer = NULL;
    ipc_peer_free(peer);
}

static const struct ipc_rule table[] = {
    {FRAME_PLAIN, false, false, 0, IPC_MAX_PAYLOAD, on_plain},
    {FRAME_ONCE, false, true, 0, 8, on_plain},
    {FRAME_FD, true, false, 0, 8, on_fd},
    {FRAME_LATER, false, false, 2, 4, on_plain},
    {FRAME_FREE, false, false, 0, 0, on_free},
    {FRAME_LAZY, false, false, 0, 8, on_lazy},
    {FRAME_REFUSED, false, false, 0, 8, on_refused},
};
#define BIT(type) (UINT64_C(1) << ((type)-1))
static const struct ipc_rules rules = {table, sizeof(table) / sizeof(table[0]), ~BIT(FRAME_LATER),
                                       on_gone};

static int descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static int at_start;

static int setup(void **state)
{
    int pair[2];
    struct side *s = calloc(1, sizeof(*s));
    at_start = descriptors();
    assert_int_equal(ipc_pair(pair), SP_OK);
    s->base = event_base_new();
    s->other = pair[1];
    s->kept = -1;
    s->peer = ipc_peer_new(s->base, pair[0], &rules, s);
    assert_non_null(s->peer);
    *state = s;
    return 0;
}

/* Nothing may be left open, whatever the peer did. */
static int teardown(void **state)
{
    struct side *s = *state;
    ipc_peer_free(s->peer);
    if (s->kept >= 0)
        close(s->kept);
    if (s->other >= 0)
        close(s->other);
    event_base_free(s->base);
    free(s);
    ipc_on_idle(NULL, NULL);
    assert_int_equal(descriptors(), at_start);
    return 0;
}

static void turn(struct side *s)
{
    event_base_loop(s->base, EVLOOP_NONBLOCK);
}

static void put(struct side *s, uint16_t type, size_t len, int fd)
{
    static const uint8_t body[IPC_MAX_PAYLOAD];
    assert_int_equal(ipc_send_fd(s->other, type, 9, body, len, fd), SP_OK);
    turn(s);
}

static void ended(struct side *s, enum sp_err why, unsigned handled)
{
    assert_int_equal(s->gone, 1);
    assert_int_equal(s->why, why);
    assert_int_equal(s->handled, handled);
    turn(s);
    assert_int_equal(s->gone, 1);
}

/* Sends raw bytes with n descriptors. */
static void raw(struct side *s, const void *bytes, size_t len, int n)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(16 * sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n > 0) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
        for (int i = 0; i < n; i++)
            memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &(int){2}, sizeof(int));
    }
    assert_int_equal(sendmsg(s->other, &msg, MSG_NOSIGNAL), (ssize_t)len);
    turn(s);
}

/* --- the table --- */

static void accepts(void **state)
{
    struct side *s = *state;
    put(s, FRAME_PLAIN, 0, -1);
    put(s, FRAME_PLAIN, IPC_MAX_PAYLOAD, -1);
    put(s, FRAME_FD, 0, 2);
    assert_int_equal(s->handled, 3);
    assert_int_equal(s->gone, 0);
    assert_int_equal(s->last_id, 9);
    assert_true(fcntl(s->kept, F_GETFD) & FD_CLOEXEC);
}

static void denies_unknown(void **state)
{
    put(*state, 77, 0, -1);
    ended(*state, SP_ERR_DENIED, 0);
}

static void denies_not_now(void **state)
{
    put(*state, FRAME_LATER, 2, -1);
    ended(*state, SP_ERR_DENIED, 0);
}

static void permits_later(void **state)
{
    struct side *s = *state;
    ipc_permit(s->peer, FRAME_LATER);
    put(s, FRAME_LATER, 2, -1);
    put(s, FRAME_LATER, 4, -1);
    assert_int_equal(s->handled, 2);
    ipc_deny(s->peer, FRAME_LATER);
    put(s, FRAME_LATER, 2, -1);
    ended(s, SP_ERR_DENIED, 2);
}

static void permits_only(void **state)
{
    struct side *s = *state;
    ipc_permit_only(s->peer, BIT(FRAME_LATER));
    put(s, FRAME_LATER, 2, -1);
    put(s, FRAME_PLAIN, 0, -1);
    ended(s, SP_ERR_DENIED, 1);
}

static void once(void **state)
{
    struct side *s = *state;
    put(s, FRAME_ONCE, 0, -1);
    ipc_permit(s->peer, FRAME_ONCE);
    put(s, FRAME_ONCE, 0, -1);
    assert_int_equal(s->handled, 2);
    put(s, FRAME_ONCE, 0, -1);
    ended(s, SP_ERR_DENIED, 2);
}

static void too_short(void **state)
{
    struct side *s = *state;
    ipc_permit(s->peer, FRAME_LATER);
    put(s, FRAME_LATER, 1, -1);
    ended(s, SP_ERR_FORMAT, 0);
}

static void too_long(void **state)
{
    struct side *s = *state;
    ipc_permit(s->peer, FRAME_LATER);
    put(s, FRAME_LATER, 5, -1);
    ended(s, SP_ERR_FORMAT, 0);
}

static void left_over(void **state)
{
    struct side *s = *state;
    put(s, FRAME_LAZY, 0, -1);
    assert_int_equal(s->gone, 0);
    put(s, FRAME_LAZY, 1, -1);
    ended(s, SP_ERR_FORMAT, 2);
}

static void refused_by_handler(void **state)
{
    put(*state, FRAME_REFUSED, 0, -1);
    ended(*state, SP_ERR_AUTH, 1);
}

/* What follows a bad frame is not looked at, though it is there already. */
static void nothing_after_a_bad_frame(void **state)
{
    struct side *s = *state;
    assert_int_equal(ipc_send_fd(s->other, 77, 0, NULL, 0, -1), SP_OK);
    put(s, FRAME_PLAIN, 0, -1);
    ended(s, SP_ERR_DENIED, 0);
}

/* --- descriptors --- */

static void fd_missing(void **state)
{
    put(*state, FRAME_FD, 0, -1);
    ended(*state, SP_ERR_FORMAT, 0);
}

static void fd_unexpected(void **state)
{
    put(*state, FRAME_PLAIN, 0, 2);
    ended(*state, SP_ERR_FORMAT, 0);
}

static void fd_with_denied(void **state)
{
    put(*state, 77, 0, 2);
    ended(*state, SP_ERR_DENIED, 0);
}

static void fd_surplus(void **state)
{
    static const uint8_t frame[IPC_HEADER] = {0, FRAME_FD};
    raw(*state, frame, sizeof(frame), 2);
    ended(*state, SP_ERR_FORMAT, 0);
}

static void fd_far_too_many(void **state)
{
    static const uint8_t frame[IPC_HEADER] = {0, FRAME_FD};
    raw(*state, frame, sizeof(frame), 16);
    ended(*state, SP_ERR_FORMAT, 0);
}

/* An empty datagram reads like the end of file, but can bring descriptors. */
static void fd_with_nothing(void **state)
{
    raw(*state, "", 0, 1);
    ended(*state, SP_ERR_PEER, 0);
}

/* --- form --- */

static void truncated_header(void **state)
{
    static const uint8_t frame[IPC_HEADER] = {0, FRAME_PLAIN};
    raw(*state, frame, IPC_HEADER - 1, 1);
    ended(*state, SP_ERR_FORMAT, 0);
}

static void over_long(void **state)
{
    uint8_t *frame = calloc(1, IPC_HEADER + IPC_MAX_PAYLOAD + 1);
    frame[1] = FRAME_PLAIN;
    raw(*state, frame, IPC_HEADER + IPC_MAX_PAYLOAD + 1, 1);
    free(frame);
    ended(*state, SP_ERR_FORMAT, 0);
}

static void one_frame_blocking(void **state)
{
    struct side *s = *state;
    uint8_t buf[IPC_HEADER + 4], big[8] = {0};
    struct ipc_frame f;
    struct wire_out body = {.at = big, .len = 4, .cap = 8};
    assert_int_equal(ipc_peer_send_flags(s->peer, 5, 3, 11, &body, 2), SP_OK);
    assert_int_equal(ipc_recv(s->other, buf, sizeof(buf), &f), SP_OK);
    assert_int_equal(f.type, 5);
    assert_int_equal(f.flags, 3);
    assert_int_equal(f.id, 11);
    assert_int_equal(f.body.left, 4);
    assert_true(f.fd >= 0);
    close(f.fd);
    body.len = 5;
    assert_int_equal(ipc_peer_send(s->peer, 5, 0, &body, 2), SP_OK);
    assert_int_equal(ipc_recv(s->other, buf, sizeof(buf), &f), SP_ERR_FORMAT); /* too long */
    assert_int_equal(f.fd, -1);
    ipc_peer_free(s->peer);
    s->peer = NULL;
    assert_int_equal(ipc_recv(s->other, buf, sizeof(buf), &f), SP_ERR_PEER);
    assert_int_equal(ipc_send_fd(s->other, 1, 0, NULL, 0, -1), SP_ERR_PEER);
    assert_int_equal(ipc_send_fd(s->other, 1, 0, NULL, IPC_MAX_PAYLOAD + 1, -1), SP_ERR_LIMIT);
}

static void refuses_to_send_too_much(void **state)
{
    struct side *s = *state;
    struct wire_out body = {.full = true};
    assert_int_equal(ipc_peer_send(s->peer, 1, 0, &body, -1), SP_ERR_LIMIT);
    assert_int_equal(s->gone, 0);
}

/* --- a full socket --- */

static size_t fill(struct side *s, size_t n)
{
    uint8_t bytes[4096] = {0};
    size_t i;
    for (i = 0; i < n; i++) {
        struct wire_out body = {.at = bytes, .len = sizeof(bytes), .cap = sizeof(bytes)};
        if (ipc_peer_send(s->peer, 1, (uint32_t)i, &body, i % 3 == 0 ? 2 : -1) != SP_OK)
            break;
    }
    return i;
}

static void queues_and_drains(void **state)
{
    struct side *s = *state;
    uint8_t buf[IPC_HEADER + 4096];
    struct ipc_frame f;
    assert_int_equal(fill(s, 900), 900);
    for (uint32_t i = 0; i < 900; i++) {
        turn(s);
        assert_int_equal(ipc_recv(s->other, buf, sizeof(buf), &f), SP_OK);
        assert_int_equal(f.id, i);
        assert_int_equal(f.body.left, 4096);
        assert_int_equal(f.fd >= 0, i % 3 == 0);
        if (f.fd >= 0)
            close(f.fd);
    }
    turn(s);
    assert_int_equal(fill(s, 1), 1); /* straight out again */
    assert_int_equal(s->gone, 0);
}

static void overflows(void **state)
{
    struct side *s = *state;
    size_t n = fill(s, 5000);
    assert_true(n >= 1024 && n < 2048);
    assert_int_equal(s->gone, 0); /* never inside the sender */
    assert_int_equal(fill(s, 1), 0);
    turn(s);
    ended(s, SP_ERR_LIMIT, 0);
}

static void dies_with_a_queue(void **state)
{
    struct side *s = *state;
    fill(s, 900);
    close(s->other);
    s->other = -1;
    turn(s);
    assert_int_equal(s->gone, 1);
    turn(s);
    assert_int_equal(s->gone, 1);
}

static void freed_with_a_queue(void **state)
{
    struct side *s = *state;
    fill(s, 900);
    ipc_peer_free(s->peer);
    s->peer = NULL;
    turn(s);
    assert_int_equal(s->gone, 0);
}

/* --- ends --- */

static void end_of_file(void **state)
{
    struct side *s = *state;
    put(s, FRAME_PLAIN, 0, -1);
    close(s->other);
    s->other = -1;
    turn(s);
    ended(s, SP_ERR_PEER, 1);
}

/* What was sent before the end is still read, though an answer to it fails. */
static void last_words(void **state)
{
    struct side *s = *state;
    assert_int_equal(ipc_send_fd(s->other, FRAME_PLAIN, 0, NULL, 0, -1), SP_OK);
    close(s->other);
    s->other = -1;
    assert_int_equal(ipc_peer_send(s->peer, 1, 0, NULL, -1), SP_ERR_PEER);
    turn(s);
    ended(s, SP_ERR_PEER, 1);
}

static void gone_may_keep_it(void **state)
{
    struct side *s = *state;
    s->leave = true;
    put(s, 77, 0, -1);
    assert_int_equal(s->gone, 1);
    assert_int_equal(ipc_peer_send(s->peer, 1, 0, NULL, -1), SP_ERR_PEER);
    ipc_peer_pause(s->peer, false); /* does not wake the dead */
    put(s, FRAME_PLAIN, 0, -1);
    ended(s, SP_ERR_DENIED, 0);
}

static void freed_in_its_handler(void **state)
{
    struct side *s = *state;
    assert_int_equal(ipc_send_fd(s->other, FRAME_FREE, 0, NULL, 0, -1), SP_OK);
    put(s, FRAME_PLAIN, 0, -1);
    assert_int_equal(s->handled, 1);
    assert_int_equal(s->gone, 0);
    assert_int_equal(ipc_send_fd(s->other, FRAME_PLAIN, 0, NULL, 0, -1), SP_ERR_PEER);
}

static void freed_and_failed(void **state)
{
    struct side *s = *state;
    put(s, FRAME_FREE, 0, -1); /* its id makes the handler fail as well */
    assert_int_equal(s->handled, 1);
    assert_int_equal(s->gone, 0);
}

/* --- turns --- */

static void pauses(void **state)
{
    struct side *s = *state;
    s->pausing = true;
    for (int i = 0; i < 3; i++)
        assert_int_equal(ipc_send_fd(s->other, FRAME_PLAIN, 0, NULL, 0, -1), SP_OK);
    turn(s);
    turn(s);
    assert_int_equal(s->handled, 1); /* not even what was there already */
    ipc_peer_pause(s->peer, false);
    turn(s);
    assert_int_equal(s->handled, 2);
    s->pausing = false;
    ipc_peer_pause(s->peer, false);
    turn(s);
    assert_int_equal(s->handled, 3);
}

static void on_idle(void *ctx)
{
    struct side *s = ctx;
    s->idle++;
    assert_int_equal(s->handled, 5); /* all that was ready came first */
    event_base_loopexit(s->base, NULL);
}

static void idle_after_a_turn(void **state)
{
    struct side *s = *state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(ipc_send_fd(s->other, FRAME_PLAIN, 0, NULL, 0, -1), SP_OK);
    ipc_on_idle(on_idle, s);
    assert_int_equal(ipc_loop(s->base), SP_OK);
    assert_true(s->idle >= 1);
}

static void others_have_their_turn(void **state)
{
    struct side *s = *state;
    for (int i = 0; i < 70; i++)
        assert_int_equal(ipc_send_fd(s->other, FRAME_PLAIN, 0, NULL, 0, -1), SP_OK);
    event_base_loop(s->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    assert_int_equal(s->handled, 64);
    turn(s);
    assert_int_equal(s->handled, 70);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(accepts),
        T(denies_unknown),
        T(denies_not_now),
        T(permits_later),
        T(permits_only),
        T(once),
        T(too_short),
        T(too_long),
        T(left_over),
        T(refused_by_handler),
        T(nothing_after_a_bad_frame),
        T(fd_missing),
        T(fd_unexpected),
        T(fd_with_denied),
        T(fd_surplus),
        T(fd_far_too_many),
        T(fd_with_nothing),
        T(truncated_header),
        T(over_long),
        T(one_frame_blocking),
        T(refuses_to_send_too_much),
        T(queues_and_drains),
        T(overflows),
        T(dies_with_a_queue),
        T(freed_with_a_queue),
        T(end_of_file),
        T(last_words),
        T(gone_may_keep_it),
        T(freed_in_its_handler),
        T(freed_and_failed),
        T(pauses),
        T(idle_after_a_turn),
        T(others_have_their_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
