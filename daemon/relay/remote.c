/* A connection to somebody's mail server. Whoever answers there is hostile; what it sends goes to
 * the caller as it is, never more than asked for and never later than allowed. */
#include "daemon/relay/remote.h"
#include "daemon/door/sockets.h"
#include "daemon/relay/remote_tls.h"
#include "sandbox/lockmem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LOOK_AT_STOP_MS 500u

uint64_t remote_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void remote_step(struct remote *r, uint64_t ms)
{
    r->step_ms = remote_now_ms() + ms;
}

void remote_hold(struct remote *r, bool on)
{
    r->hold = on;
}

static uint64_t limit(const struct remote *r)
{
    bool whole = r->deadline_ms != 0 && r->deadline_ms < r->step_ms && !r->hold;
    return whole ? r->deadline_ms : r->step_ms;
}

/* Whether there is time left, and no order to end. */
static enum sp_err check(const struct remote *r)
{
    if (r->stop != NULL && *r->stop != 0 && !r->hold)
        return SP_ERR_STATE;
    return remote_now_ms() >= limit(r) ? SP_ERR_EXPIRED : SP_OK;
}

/* Until fd is ready; an error of its own shows in the call that follows. */
static enum sp_err wait_for_fd(const struct remote *r, int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    for (;;) {
        enum sp_err err = check(r);
        if (err != SP_OK)
            return err;
        uint64_t now = remote_now_ms(), until = limit(r);
        uint64_t left = until > now ? until - now : 0;
        int n = poll(&p, 1, (int)(left < LOOK_AT_STOP_MS ? left : LOOK_AT_STOP_MS));
        if (n > 0)
            return SP_OK;
        if (n < 0 && errno != EINTR)
            return SP_ERR_SYSTEM;
    }
}

static enum sp_err wait_for(const struct remote *r, short events)
{
    return wait_for_fd(r, r->fd, events);
}

/* --- connecting --- */

static void begin(struct remote *r, int fd, uint64_t whole_ms, const volatile sig_atomic_t *stop)
{
    memset(r, 0, offsetof(struct remote, in));
    r->fd = fd;
    r->deadline_ms = whole_ms > 0 ? remote_now_ms() + whole_ms : 0;
    r->stop = stop;
}

static socklen_t socket_address(struct sockaddr_storage *to, const uint8_t *address, size_t len,
                                uint16_t port)
{
    memset(to, 0, sizeof(*to));
    if (len == 4) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&in.sin_addr, address, len);
        memcpy(to, &in, sizeof(in));
        return sizeof(in);
    }
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memcpy(&in6.sin6_addr, address, len);
    memcpy(to, &in6, sizeof(in6));
    return sizeof(in6);
}

/* Commands and their answers alternate: waiting to fill a segment would only cost time. */
static void without_delay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static enum sp_err finish_connect(const struct remote *r)
{
    int why = 0;
    socklen_t len = sizeof(why);
    enum sp_err err = wait_for(r, POLLOUT);
    if (err != SP_OK)
        return err;
    if (getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &why, &len) != 0)
        return SP_ERR_SYSTEM;
    errno = why;
    return why == 0 ? SP_OK : SP_ERR_SYSTEM;
}

/* From the door. All deliveries take from one channel: another may have been faster. */
static enum sp_err take_socket(struct remote *r, int family)
{
    const int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    for (;;) {
        r->fd = door_socket(family, type, IPPROTO_TCP);
        if (r->fd >= 0)
            return SP_OK;
        if (errno != EAGAIN)
            return SP_ERR_SYSTEM;
        enum sp_err err = wait_for_fd(r, door_channel(family, type), POLLIN);
        if (err != SP_OK)
            return err;
    }
}

enum sp_err remote_connect(struct remote *r, const uint8_t *address, size_t len, uint16_t port,
                           uint64_t timeout_ms, uint64_t whole_ms,
                           const volatile sig_atomic_t *stop)
{
    struct sockaddr_storage to;
    begin(r, -1, whole_ms, stop);
    if (len != 4 && len != 16)
        return SP_ERR_FORMAT;
    socklen_t to_len = socket_address(&to, address, len, port);
    remote_step(r, timeout_ms);
    enum sp_err err = take_socket(r, to.ss_family);
    if (err == SP_OK && connect(r->fd, (struct sockaddr *)&to, to_len) != 0)
        err = errno == EINPROGRESS || errno == EINTR ? finish_connect(r) : SP_ERR_SYSTEM;
    if (err == SP_OK) {
        without_delay(r->fd);
        return SP_OK;
    }
    int why = errno;
    remote_close(r);
    errno = why;
    return err;
}

void remote_adopt(struct remote *r, int fd, uint64_t whole_ms, const volatile sig_atomic_t *stop)
{
    begin(r, fd, whole_ms, stop);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

void remote_close(struct remote *r)
{
    remote_tls_end(r);
    if (r->fd >= 0)
        close(r->fd);
    lockmem_wipe(r->in, r->most);
    lockmem_wipe(r, offsetof(struct remote, in));
    r->fd = -1;
}

/* --- reading and writing --- */

/* One attempt in the clear: what a call returned. */
static enum remote_try clear_result(struct remote *r, ssize_t n)
{
    if (n > 0)
        return TRY_DONE;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return TRY_AGAIN;
    r->end = n == 0 ? REMOTE_CLOSED : REMOTE_CUT;
    return TRY_OVER;
}

static enum remote_try read_clear(struct remote *r, short *events)
{
    ssize_t n = recv(r->fd, r->in, sizeof(r->in), 0);
    *events = POLLIN;
    enum remote_try tried = clear_result(r, n);
    if (tried == TRY_DONE)
        r->len = (size_t)n;
    return tried;
}

static enum remote_try try_read(struct remote *r, short *events)
{
    r->at = r->len = 0;
    enum remote_try tried = r->ssl != NULL ? remote_tls_read(r, events) : read_clear(r, events);
    r->most = r->len > r->most ? r->len : r->most;
    return tried;
}

static enum remote_try try_write(struct remote *r, const uint8_t *at, size_t len, size_t *put,
                                 short *events)
{
    if (r->ssl != NULL)
        return remote_tls_write(r, at, len, put, events);
    ssize_t n = send(r->fd, at, len, MSG_NOSIGNAL);
    *events = POLLOUT;
    enum remote_try tried = clear_result(r, n);
    *put = tried == TRY_DONE ? (size_t)n : 0;
    return tried;
}

static bool is_usable(const struct remote *r)
{
    return r->fd >= 0 && r->end != REMOTE_BROKEN;
}

/* After a write failed there may still be words of farewell to be read. */
enum sp_err remote_fill(struct remote *r)
{
    short events = POLLIN;
    if (r->at < r->len)
        return SP_ERR_STATE;
    if (!is_usable(r))
        return SP_ERR_PEER;
    for (;;) {
        enum sp_err err = check(r);
        if (err != SP_OK)
            return err;
        enum remote_try tried = try_read(r, &events);
        if (tried != TRY_AGAIN)
            return tried == TRY_DONE ? SP_OK : SP_ERR_PEER;
        if ((err = wait_for(r, events)) != SP_OK)
            return err;
    }
}

enum sp_err remote_early(struct remote *r, bool *came)
{
    short events;
    *came = r->at < r->len;
    if (*came)
        return SP_OK;
    if (!is_usable(r))
        return SP_ERR_PEER;
    enum remote_try tried = try_read(r, &events);
    *came = tried == TRY_DONE;
    return tried == TRY_OVER ? SP_ERR_PEER : SP_OK;
}

enum sp_err remote_write(struct remote *r, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    while (len > 0) {
        size_t put = 0;
        short events = POLLOUT;
        enum sp_err err = check(r);
        if (err != SP_OK)
            return err;
        if (r->fd < 0 || r->end != REMOTE_OPEN)
            return SP_ERR_PEER;
        enum remote_try tried = try_write(r, at, len, &put, &events);
        if (tried == TRY_OVER)
            return SP_ERR_PEER;
        if (tried == TRY_AGAIN && (err = wait_for(r, events)) != SP_OK)
            return err;
        at += put;
        len -= put;
    }
    return SP_OK;
}

enum sp_err remote_start_tls(struct remote *r, SSL_CTX *ctx, const char *name, bool must_verify)
{
    if (r->at < r->len)
        return SP_ERR_FORMAT;
    enum sp_err err = is_usable(r) ? remote_tls_begin(r, ctx, name, must_verify) : SP_ERR_PEER;
    while (err == SP_OK) {
        short events = POLLIN;
        err = check(r);
        if (err != SP_OK)
            break;
        enum remote_try tried = remote_tls_handshake(r, &events);
        if (tried == TRY_DONE)
            return SP_OK;
        err = tried == TRY_AGAIN ? wait_for(r, events) : remote_tls_why(r);
    }
    if (r->end == REMOTE_OPEN)
        r->end = REMOTE_BROKEN;
    return err;
}
