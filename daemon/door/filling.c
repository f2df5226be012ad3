/* Keeps channels full of fresh sockets. Those who take them may have been taken over: all that they
 * can do to this process is take, or not. It reads nothing. */
#include "daemon/door/door.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A message that waits takes some 800 bytes of this (the kernel doubles it): about 16 of them. */
#define SEND_BUFFER 6144
#define TURN        16 /* made for one channel before others have their turn */

struct filled {
    const struct door_channel *kind;
    int end; /* -1: closed */
    struct event *room, *later;
};

struct door_filling {
    struct filled channel[DOOR_CHANNELS];
};

static uint64_t made;

uint64_t door_made(void)
{
    return made;
}

enum sp_err door_bound(int end)
{
    const int most = SEND_BUFFER;
    return setsockopt(end, SOL_SOCKET, SO_SNDBUF, &most, sizeof(most)) == 0 ? SP_OK : SP_ERR_SYSTEM;
}

static void finish(struct filled *f)
{
    if (f->room != NULL)
        event_free(f->room);
    if (f->later != NULL)
        event_free(f->later);
    if (f->end >= 0)
        close(f->end);
    f->room = f->later = NULL;
    f->end = -1;
}

/* The socket stays ours. */
static bool hand_on(int end, int sock)
{
    char byte = 0;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control.space)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &sock, sizeof(sock));
    return sendmsg(end, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

/* One more; 0, or the errno that it failed with. */
static int put_one(const struct filled *f)
{
    int sock = socket(f->kind->family, f->kind->type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return errno;
    int why = hand_on(f->end, sock) ? 0 : errno;
    close(sock);
    made += why == 0;
    return why;
}

/* What the machine lacks for the moment, it may have again. */
static bool will_pass(int why)
{
    static const int passing[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, ETOOMANYREFS};
    for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
        if (passing[i] == why)
            return true;
    return false;
}

static void on_room(evutil_socket_t end, short what, void *arg)
{
    static const struct timeval soon = {.tv_usec = 100 * 1000};
    struct filled *f = arg;
    int why = 0;
    (void)end;
    (void)what;
    for (int i = 0; i < TURN && why == 0; i++)
        why = put_one(f);
    if (why == 0 || why == EAGAIN || why == EINTR)
        return;
    if (will_pass(why)) {
        event_del(f->room);
        event_add(f->later, &soon);
    } else {
        finish(f); /* whoever took from it has ended, or there is no such network here */
    }
}

static void on_later(evutil_socket_t end, short what, void *arg)
{
    struct filled *f = arg;
    (void)end;
    (void)what;
    event_add(f->room, NULL);
}

struct door_filling *door_fill(struct event_base *base, const int ends[DOOR_CHANNELS])
{
    struct door_filling *filling = calloc(1, sizeof(*filling));
    bool ok = filling != NULL;
    for (size_t i = 0; i < DOOR_CHANNELS; i++) {
        if (filling == NULL) {
            close(ends[i]);
            continue;
        }
        struct filled *f = &filling->channel[i];
        *f = (struct filled){.kind = &door_channels[i], .end = ends[i]};
        f->room = event_new(base, ends[i], EV_WRITE | EV_PERSIST, on_room, f);
        f->later = evtimer_new(base, on_later, f);
        ok = ok && f->room != NULL && f->later != NULL && event_add(f->room, NULL) == 0;
    }
    if (ok)
        return filling;
    door_fill_end(filling);
    return NULL;
}

void door_fill_end(struct door_filling *filling)
{
    for (size_t i = 0; filling != NULL && i < DOOR_CHANNELS; i++)
        finish(&filling->channel[i]);
    free(filling);
}
