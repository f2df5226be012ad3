/* Bytes off and onto the network. The other side is anybody. */
#include "daemon/smtp/stream.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define DRAIN_READS 64
#define DRAIN_MS    50

static volatile sig_atomic_t told_to_end;

static void on_sigterm(int sig)
{
    (void)sig;
    told_to_end = 1;
}

static void on_sigalrm(int sig)
{
    (void)sig;
}

void stream_watch_signals(void)
{
    struct sigaction act = {.sa_handler = on_sigterm}; /* no SA_RESTART: a read must return */
    sigaction(SIGTERM, &act, NULL);
    act.sa_handler = on_sigalrm;
    sigaction(SIGALRM, &act, NULL);
}

/* The timer goes on after the deadline: the first signal may come just before a read begins. */
void stream_set_deadline(struct stream *s, uint64_t seconds)
{
    struct itimerval timer = {.it_interval.tv_sec = seconds > 0,
                              .it_value.tv_sec = (time_t)seconds};
    setitimer(ITIMER_REAL, &timer, NULL);
    s->deadline_ms = seconds > 0 ? stream_now_ms() + seconds * 1000 : 0;
}

uint64_t stream_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool is_late(const struct stream *s)
{
    return s->deadline_ms != 0 && stream_now_ms() >= s->deadline_ms;
}

static enum sp_err check(const struct stream *s)
{
    if (told_to_end)
        return SP_ERR_STATE;
    return is_late(s) ? SP_ERR_EXPIRED : SP_OK;
}

/* Why a call returned nothing. */
static enum sp_err why(const struct stream *s)
{
    if (errno == EINTR)
        return check(s); /* SP_OK: try again */
    return errno == EAGAIN ? SP_ERR_EXPIRED : SP_ERR_PEER;
}

static enum sp_err why_ssl(const struct stream *s, int result)
{
    switch (SSL_get_error(s->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return errno == EINTR ? check(s) : SP_ERR_EXPIRED;
    default:
        ERR_clear_error();
        return SP_ERR_PEER;
    }
}

enum sp_err stream_read(struct stream *s, void *buf, size_t cap, size_t *n)
{
    enum sp_err err = check(s);
    *n = 0;
    while (err == SP_OK) {
        errno = 0;
        ssize_t got = s->ssl != NULL ? SSL_read(s->ssl, buf, (int)cap) : recv(s->fd, buf, cap, 0);
        if (got > 0) {
            *n = (size_t)got;
            return SP_OK;
        }
        if (s->ssl != NULL)
            err = why_ssl(s, (int)got);
        else
            err = got == 0 ? SP_ERR_PEER : why(s);
    }
    return err;
}

enum sp_err stream_write(struct stream *s, const void *buf, size_t len)
{
    const char *at = buf;
    enum sp_err err = SP_OK;
    while (err == SP_OK && len > 0) {
        errno = 0;
        ssize_t put =
            s->ssl != NULL ? SSL_write(s->ssl, at, (int)len) : send(s->fd, at, len, MSG_NOSIGNAL);
        if (put > 0) {
            at += put;
            len -= (size_t)put;
        } else if (s->ssl != NULL) {
            err = why_ssl(s, (int)put);
        } else if (errno != EINTR) {
            err = why(s);
        } else if (is_late(s)) {
            err = SP_ERR_EXPIRED;
        }
    }
    return err;
}

enum sp_err stream_start_tls(struct stream *s, SSL_CTX *ctx)
{
    enum sp_err err = SP_OK;
    s->ssl = SSL_new(ctx);
    if (s->ssl == NULL || SSL_set_fd(s->ssl, s->fd) != 1)
        return SP_ERR_CRYPTO;
    int result;
    while (err == SP_OK && (errno = 0, result = SSL_accept(s->ssl)) != 1)
        err = why_ssl(s, result);
    return err == SP_OK || err == SP_ERR_STATE || err == SP_ERR_EXPIRED ? err : SP_ERR_CRYPTO;
}

bool stream_is_open(int fd)
{
    struct pollfd end = {.fd = fd};
    return poll(&end, 1, 0) == 0;
}

bool stream_talks(struct stream *s, uint64_t seconds)
{
    struct pollfd ready = {.fd = s->fd, .events = POLLIN};
    char byte;
    return poll(&ready, 1, (int)seconds * 1000) > 0 &&
           recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* What has come already, and what may come within a moment. */
static void drain(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    char drop[16384];
    shutdown(fd, SHUT_WR);
    for (int i = 0; i < DRAIN_READS && poll(&ready, 1, DRAIN_MS) > 0; i++)
        if (recv(fd, drop, sizeof(drop), MSG_DONTWAIT) <= 0)
            break;
}

void stream_close(struct stream *s, bool hasty)
{
    if (s->ssl != NULL) {
        SSL_shutdown(s->ssl);
        SSL_free(s->ssl);
    }
    if (hasty)
        drain(s->fd);
    close(s->fd);
}
