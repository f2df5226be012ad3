/* Frames between processes. The other side may have been taken over: sizes, descriptors and the
 * order of frames are checked here, before any handler sees a byte. */
#include "daemon/ipc.h"
#include "sandbox/lockmem.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <fcntl.h>
#include <unistd.h>

#define SHORT_PAYLOAD 1024 /* of frames that sessions send */
#define TURN_FRAMES   64   /* read from one peer before others have their turn */
#define QUEUE_MAX     1024 /* frames that wait for a full socket, unless said otherwise */

struct queued {
    STAILQ_ENTRY(queued) next;
    int fd;
    size_t len;
    uint8_t bytes[];
};

struct ipc_peer {
    int sock;
    const struct ipc_rules *rules;
    void *ctx;
    uint64_t permitted;
    struct event *reader, *writer;
    STAILQ_HEAD(, queued) queue;
    size_t n_queued, queue_max;
    bool ended;  /* gone() has been called, or is about to be */
    bool broken; /* a frame could not be sent: to be ended from the loop */
    bool busy;   /* inside its own handlers: freeing waits */
    bool doomed; /* to be freed when no longer busy */
};

static uint8_t receive_buffer[IPC_HEADER + IPC_MAX_PAYLOAD];
static void (*idle_hook)(void *ctx);
static void *idle_ctx;

enum sp_err ipc_pair(int fd[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) != 0)
        return SP_ERR_SYSTEM;
    return SP_OK;
}

static void put_header(uint8_t h[IPC_HEADER], uint16_t type, uint16_t flags, uint32_t id)
{
    struct wire_out out = wire_out(h, IPC_HEADER);
    wire_put_u16(&out, type);
    wire_put_u16(&out, flags);
    wire_put_u32(&out, id);
}

enum sp_err ipc_decode(const void *bytes, size_t len, struct ipc_frame *frame)
{
    *frame = (struct ipc_frame){.fd = -1};
    struct wire_in in = wire_in(bytes, len);
    frame->type = wire_get_u16(&in);
    frame->flags = wire_get_u16(&in);
    frame->id = wire_get_u32(&in);
    frame->body = in;
    return in.bad || in.left > IPC_MAX_PAYLOAD ? SP_ERR_FORMAT : SP_OK;
}

/* One sendmsg of header and body, or of a whole queued frame (header NULL). */
static ssize_t send_message(int sock, const uint8_t *header, const void *body, size_t len, int fd,
                            int flags)
{
    struct iovec iov[2];
    size_t n = 0;
    if (header != NULL)
        iov[n++] = (struct iovec){.iov_base = (void *)(uintptr_t)header, .iov_len = IPC_HEADER};
    if (len > 0)
        iov[n++] = (struct iovec){.iov_base = (void *)(uintptr_t)body, .iov_len = len};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    if (fd >= 0) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof(control.space);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    }
    ssize_t sent;
    do
        sent = sendmsg(sock, &msg, MSG_NOSIGNAL | flags);
    while (sent < 0 && errno == EINTR);
    return sent;
}

enum sp_err ipc_send_frame(int sock, uint16_t type, uint32_t id, uint8_t *frame, size_t len)
{
    ssize_t sent;
    if (len > IPC_MAX_PAYLOAD)
        return SP_ERR_LIMIT;
    put_header(frame, type, 0, id);
    do
        sent = send(sock, frame, IPC_HEADER + len, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? SP_ERR_PEER : SP_OK;
}

/* A short frame without a descriptor takes send(2): sessions have no sendmsg(2), and so no way to
 * pass descriptors on. */
static enum sp_err send_short(int sock, uint16_t type, uint32_t id, const void *body, size_t len)
{
    uint8_t frame[IPC_HEADER + SHORT_PAYLOAD];
    if (len > 0)
        memcpy(frame + IPC_HEADER, body, len);
    return ipc_send_frame(sock, type, id, frame, len);
}

enum sp_err ipc_send_fd(int sock, uint16_t type, uint32_t id, const void *body, size_t len, int fd)
{
    uint8_t header[IPC_HEADER];
    if (len > IPC_MAX_PAYLOAD)
        return SP_ERR_LIMIT;
    if (fd < 0 && len <= SHORT_PAYLOAD)
        return send_short(sock, type, id, body, len);
    put_header(header, type, 0, id);
    return send_message(sock, header, body, len, fd, 0) < 0 ? SP_ERR_PEER : SP_OK;
}

/* Takes the one descriptor a frame may bring; closes any surplus. */
static enum sp_err take_descriptors(struct msghdr *msg, int *fd)
{
    enum sp_err err = msg->msg_flags & MSG_CTRUNC ? SP_ERR_FORMAT : SP_OK;
    *fd = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int got;
            memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (*fd >= 0 || err != SP_OK) {
                close(got);
                err = SP_ERR_FORMAT;
            } else {
                *fd = got;
            }
        }
    }
    if (err != SP_OK && *fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    return err;
}

/* SP_ERR_STATE: nothing is there yet (non-blocking). */
static enum sp_err receive(int sock, void *buf, size_t cap, int flags, struct ipc_frame *frame)
{
    struct iovec iov = {.iov_base = buf, .iov_len = cap};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(4 * sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control.space)};
    ssize_t n;
    int fd;
    *frame = (struct ipc_frame){.fd = -1};
    do
        n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | flags);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? SP_ERR_STATE : SP_ERR_PEER;
    enum sp_err err = take_descriptors(&msg, &fd); /* an empty frame may bring some, too */
    if (n == 0)
        err = SP_ERR_PEER;
    if (err == SP_OK)
        err = msg.msg_flags & MSG_TRUNC ? SP_ERR_FORMAT : ipc_decode(buf, (size_t)n, frame);
    if (err != SP_OK && fd >= 0)
        close(fd);
    else
        frame->fd = fd;
    return err;
}

enum sp_err ipc_recv(int sock, void *buf, size_t cap, struct ipc_frame *frame)
{
    return receive(sock, buf, cap, 0, frame);
}

/* --- peers --- */

/* Frames carry keys, tokens and codes too: a copy that had to wait is wiped. */
static void drop_first(struct ipc_peer *peer)
{
    struct queued *q = STAILQ_FIRST(&peer->queue);
    STAILQ_REMOVE_HEAD(&peer->queue, next);
    peer->n_queued--;
    if (q->fd >= 0)
        close(q->fd);
    lockmem_wipe(q->bytes, q->len);
    free(q);
}

static void release(struct ipc_peer *peer)
{
    while (!STAILQ_EMPTY(&peer->queue))
        drop_first(peer);
    if (peer->reader != NULL)
        event_free(peer->reader);
    if (peer->writer != NULL)
        event_free(peer->writer);
    close(peer->sock);
    free(peer);
}

void ipc_peer_free(struct ipc_peer *peer)
{
    if (peer == NULL)
        return;
    peer->ended = true;
    peer->doomed = true;
    if (!peer->busy)
        release(peer);
}

static void end_peer(struct ipc_peer *peer, enum sp_err why)
{
    if (peer->ended)
        return;
    peer->ended = true;
    event_del(peer->reader);
    event_del(peer->writer);
    if (peer->rules->gone != NULL)
        peer->rules->gone(peer->ctx, peer, peer->broken ? SP_ERR_LIMIT : why);
    else
        peer->doomed = true;
}

static const struct ipc_rule *find_rule(const struct ipc_peer *peer, uint16_t type, size_t *index)
{
    for (size_t i = 0; i < peer->rules->count; i++)
        if (peer->rules->rule[i].type == type) {
            *index = i;
            return &peer->rules->rule[i];
        }
    return NULL;
}

static enum sp_err dispatch(struct ipc_peer *peer, struct ipc_frame *frame)
{
    size_t i = 0;
    const struct ipc_rule *rule = find_rule(peer, frame->type, &i);
    if (rule == NULL || !(peer->permitted >> i & 1))
        return SP_ERR_DENIED;
    if (frame->body.left < rule->min || frame->body.left > rule->max ||
        rule->fd != (frame->fd >= 0))
        return SP_ERR_FORMAT;
    if (rule->once)
        peer->permitted &= ~(UINT64_C(1) << i);
    enum sp_err err = rule->handle(peer->ctx, peer, frame);
    if (err == SP_OK && !wire_in_done(&frame->body))
        err = SP_ERR_FORMAT;
    return err;
}

static void on_readable(evutil_socket_t sock, short what, void *arg)
{
    struct ipc_peer *peer = arg;
    enum sp_err err = SP_OK;
    (void)what;
    peer->busy = true;
    for (int i = 0; i < TURN_FRAMES && err == SP_OK && !peer->ended; i++) {
        struct ipc_frame frame;
        err = receive(sock, receive_buffer, sizeof(receive_buffer), MSG_DONTWAIT, &frame);
        if (err == SP_ERR_STATE) {
            err = SP_OK; /* all that was there has been read */
            break;
        }
        size_t len = frame.body.left;
        if (err == SP_OK)
            err = dispatch(peer, &frame);
        lockmem_wipe(receive_buffer + IPC_HEADER, len); /* a token, a gate, a code */
        if (frame.fd >= 0)
            close(frame.fd);
        if (!event_pending(peer->reader, EV_READ, NULL))
            break; /* paused by its handler */
    }
    if (err != SP_OK)
        end_peer(peer, err);
    peer->busy = false;
    if (peer->doomed)
        release(peer);
}

static void end_from_loop(struct ipc_peer *peer, enum sp_err why)
{
    peer->busy = true;
    end_peer(peer, why);
    peer->busy = false;
    if (peer->doomed)
        release(peer);
}

static void on_writable(evutil_socket_t sock, short what, void *arg)
{
    struct ipc_peer *peer = arg;
    (void)what;
    if (peer->broken) {
        end_from_loop(peer, SP_ERR_LIMIT);
        return;
    }
    while (!STAILQ_EMPTY(&peer->queue)) {
        struct queued *q = STAILQ_FIRST(&peer->queue);
        if (send_message(sock, NULL, q->bytes, q->len, q->fd, MSG_DONTWAIT) < 0) {
            if (errno != EAGAIN)
                end_from_loop(peer, SP_ERR_PEER);
            return;
        }
        drop_first(peer);
    }
    event_del(peer->writer);
}

struct ipc_peer *ipc_peer_new(struct event_base *base, int sock, const struct ipc_rules *rules,
                              void *ctx)
{
    struct ipc_peer *peer = calloc(1, sizeof(*peer));
    if (peer == NULL) {
        close(sock);
        return NULL;
    }
    *peer = (struct ipc_peer){.sock = sock,
                              .rules = rules,
                              .ctx = ctx,
                              .permitted = rules->permitted,
                              .queue_max = QUEUE_MAX};
    STAILQ_INIT(&peer->queue);
    peer->reader = event_new(base, sock, EV_READ | EV_PERSIST, on_readable, peer);
    peer->writer = event_new(base, sock, EV_WRITE | EV_PERSIST, on_writable, peer);
    if (peer->reader == NULL || peer->writer == NULL || evutil_make_socket_nonblocking(sock) != 0 ||
        event_add(peer->reader, NULL) != 0) {
        release(peer);
        return NULL;
    }
    return peer;
}

static enum sp_err enqueue(struct ipc_peer *peer, const uint8_t *header,
                           const struct wire_out *body, int fd)
{
    size_t len = body != NULL ? body->len : 0;
    struct queued *q =
        peer->n_queued < peer->queue_max ? malloc(sizeof(*q) + IPC_HEADER + len) : NULL;
    if (q == NULL)
        return SP_ERR_PEER;
    q->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (fd >= 0 && q->fd < 0) {
        free(q);
        return SP_ERR_SYSTEM;
    }
    q->len = IPC_HEADER + len;
    memcpy(q->bytes, header, IPC_HEADER);
    if (len > 0)
        memcpy(q->bytes + IPC_HEADER, body->at, len);
    STAILQ_INSERT_TAIL(&peer->queue, q, next);
    peer->n_queued++;
    return event_add(peer->writer, NULL) == 0 ? SP_OK : SP_ERR_SYSTEM;
}

/* A frame was lost: what follows it would be out of order. The loop ends the peer, and gone() hears
 * of it there, not inside the caller. */
static enum sp_err break_peer(struct ipc_peer *peer)
{
    peer->broken = true;
    event_active(peer->writer, EV_WRITE, 0);
    return SP_ERR_PEER;
}

bool ipc_peer_flushed(const struct ipc_peer *peer)
{
    return peer->n_queued == 0;
}

void ipc_peer_queue_limit(struct ipc_peer *peer, size_t frames)
{
    peer->queue_max = frames;
}

int ipc_peer_socket(const struct ipc_peer *peer)
{
    return peer->sock;
}

enum sp_err ipc_peer_send(struct ipc_peer *peer, uint16_t type, uint32_t id,
                          const struct wire_out *body, int fd)
{
    return ipc_peer_send_flags(peer, type, 0, id, body, fd);
}

enum sp_err ipc_peer_send_flags(struct ipc_peer *peer, uint16_t type, uint16_t flags, uint32_t id,
                                const struct wire_out *body, int fd)
{
    uint8_t header[IPC_HEADER];
    if (peer->ended || peer->broken)
        return SP_ERR_PEER;
    if (body != NULL && (!wire_out_ok(body) || body->len > IPC_MAX_PAYLOAD))
        return SP_ERR_LIMIT;
    put_header(header, type, flags, id);
    if (peer->n_queued == 0) {
        const void *bytes = body != NULL ? body->at : NULL;
        size_t len = body != NULL ? body->len : 0;
        if (send_message(peer->sock, header, bytes, len, fd, MSG_DONTWAIT) >= 0)
            return SP_OK;
        if (errno == EPIPE || errno == ECONNRESET)
            return SP_ERR_PEER; /* what it sent before it went is read first, and then its end */
        if (errno != EAGAIN)
            return break_peer(peer);
    }
    return enqueue(peer, header, body, fd) == SP_OK ? SP_OK : break_peer(peer);
}

void ipc_permit(struct ipc_peer *peer, uint16_t type)
{
    size_t i = 0;
    if (find_rule(peer, type, &i) == NULL)
        abort();
    peer->permitted |= UINT64_C(1) << i;
}

void ipc_deny(struct ipc_peer *peer, uint16_t type)
{
    size_t i = 0;
    if (find_rule(peer, type, &i) == NULL)
        abort();
    peer->permitted &= ~(UINT64_C(1) << i);
}

void ipc_permit_only(struct ipc_peer *peer, uint64_t rules)
{
    peer->permitted = rules;
}

void ipc_peer_pause(struct ipc_peer *peer, bool pause)
{
    if (peer->ended)
        return;
    if (pause)
        event_del(peer->reader);
    else
        event_add(peer->reader, NULL);
}

void ipc_on_idle(void (*idle)(void *ctx), void *ctx)
{
    idle_hook = idle;
    idle_ctx = ctx;
}

enum sp_err ipc_loop(struct event_base *base)
{
    while (!event_base_got_exit(base) && !event_base_got_break(base)) {
        int n = event_base_loop(base, EVLOOP_ONCE);
        if (n < 0)
            return SP_ERR_SYSTEM;
        if (idle_hook != NULL)
            idle_hook(idle_ctx);
        if (n > 0)
            break; /* no event is left */
    }
    return SP_OK;
}
