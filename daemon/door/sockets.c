/* Takes sockets from the door. The door may have been taken over: what comes from it is used like a
 * socket, for words to and from the outside that are not believed anyway. */
#include "daemon/door/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KIND        0xf /* of socket(2)'s type: the rest are flags */
#define PATIENCE_MS 1000

static const struct door_source *used;
static size_t n_used;

void door_use(const struct door_source *sources, size_t n)
{
    used = sources;
    n_used = n;
}

int door_channel(int family, int type)
{
    for (size_t i = 0; i < n_used; i++)
        if (used[i].family == family && used[i].type == (type & KIND))
            return used[i].channel;
    return -1;
}

static int fail(int why)
{
    errno = why;
    return -1;
}

/* The next message of a channel: one byte, one descriptor. The space is that of one; the kernel
 * closes what would not fit. */
static int take(int channel)
{
    char byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = CMSG_LEN(sizeof(int))};
    int sock;
    ssize_t n = recvmsg(channel, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n == 0)
        return fail(EAFNOSUPPORT);
    const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (n > 0 && (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS))
        return fail(EMFILE); /* there was no room for it */
    if (c == NULL)
        return -1;
    memcpy(&sock, CMSG_DATA(c), sizeof(sock));
    return sock;
}

static bool is_default(int type, int protocol)
{
    return protocol == 0 || protocol == ((type & KIND) == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP);
}

/* The door makes them non-blocking. */
static int with_flags(int sock, int type)
{
    if (sock < 0 || (type & SOCK_NONBLOCK) != 0 || fcntl(sock, F_SETFL, 0) == 0)
        return sock;
    int why = errno;
    close(sock);
    return fail(why);
}

int door_socket(int family, int type, int protocol)
{
    if (n_used == 0)
        return (int)syscall(SYS_socket, family, type, protocol);
    int channel = door_channel(family, type);
    if (channel < 0)
        return fail(EAFNOSUPPORT);
    if (!is_default(type, protocol))
        return fail(EPROTONOSUPPORT);
    return with_flags(take(channel), type);
}

/* libunbound makes its sockets itself, with the C library's socket(), and in the resolver's cage
 * that call would be the end. This one takes its place: the program's own symbols come before those
 * of libraries (the Makefile exports it). Everybody else in this program means the same by it. The
 * door refills a channel at once, so that waiting, which holds up the caller's loop, is short, or
 * in vain. */
int socket(int family, int type, int protocol)
{
    int sock = door_socket(family, type, protocol);
    for (int tries = 0; sock < 0 && errno == EAGAIN && n_used > 0 && tries < 2; tries++) {
        struct pollfd p = {.fd = door_channel(family, type), .events = POLLIN};
        if (poll(&p, 1, PATIENCE_MS) <= 0)
            return fail(EMFILE);
        sock = door_socket(family, type, protocol);
    }
    return sock;
}
