/*
 * Fetches over HTTPS, many at once on one epoll loop: a fetch is one GET of each path, over a
 * connection of its own or over one that is kept. Every handshake is a full one. The server's
 * certificate is not verified: it is a bench's own, on loopback.
 */
#include "bench/load.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 64
#define IDLE_LIMIT_MS  60000
#define BLOCK          (64 * 1024)

struct request {
    char text[1024];
    size_t len;
};

struct fetch {
    int fd; /* -1: not in use */
    SSL *ssl;
    bool greeted, body; /* TLS is there; the answer's header is */
    uint32_t waits;     /* for EPOLLIN or EPOLLOUT */
    unsigned at;        /* which of the paths */
    size_t sent;
    char head[4096];
    size_t head_len;
    uint64_t left; /* bytes of the body */
    double started;
};

struct crew {
    const struct load_options *options;
    struct load_result *result;
    struct request requests[LOAD_MAX_PATHS];
    struct fetch *fetches;
    SSL_CTX *ctx;
    int epoll;
    unsigned started, open;
    double began;
    uint64_t bytes; /* of bodies */
    char block[BLOCK];
};

static void fetch_end(struct crew *crew, struct fetch *f, unsigned failure)
{
    if (failure != 0) {
        crew->result->failures[failure]++;
    } else {
        (void)SSL_shutdown(f->ssl);
    }
    ERR_clear_error();
    SSL_free(f->ssl);
    (void)close(f->fd);
    f->fd = -1;
    crew->open--;
}

static bool may_start(const struct crew *crew)
{
    const struct load_options *o = crew->options;
    return crew->started < o->count &&
           (o->seconds == 0 || load_now() - crew->began < (double)o->seconds);
}

static void begin_fetch(struct crew *crew, struct fetch *f)
{
    crew->started++;
    f->started = load_now();
    f->at = 0;
    f->sent = f->head_len = 0;
    f->body = false;
}

static void connect_one(struct crew *crew, struct fetch *f)
{
    const struct sockaddr *server = (const struct sockaddr *)&crew->options->server;
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = f};
    *f = (struct fetch){.waits = EPOLLOUT, .ssl = SSL_new(crew->ctx)};
    begin_fetch(crew, f);
    crew->open++;
    f->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (f->ssl == NULL || f->fd < 0 || SSL_set_fd(f->ssl, f->fd) != 1 ||
        (connect(f->fd, server, sizeof crew->options->server) != 0 && errno != EINPROGRESS) ||
        epoll_ctl(crew->epoll, EPOLL_CTL_ADD, f->fd, &event) != 0) {
        fetch_end(crew, f, LOAD_NO_CONNECT);
        return;
    }
    SSL_set_connect_state(f->ssl);
}

/* What is to be waited for after a call that came to nothing; 0: the connection is lost. */
static uint32_t wanted(const struct fetch *f, int returned)
{
    int error = SSL_get_error(f->ssl, returned);
    return error == SSL_ERROR_WANT_READ ? EPOLLIN : error == SSL_ERROR_WANT_WRITE ? EPOLLOUT : 0;
}

/* The next request of this fetch, or the next fetch. False: the connection has done its part. */
static bool next_request(struct crew *crew, struct fetch *f)
{
    f->sent = f->head_len = 0;
    f->body = false;
    if (++f->at < crew->options->n_paths) {
        return true;
    }
    double us = (load_now() - f->started) * 1e6;
    crew->result->latency_us[crew->result->messages++] = us < UINT32_MAX ? (uint32_t)us : 0;
    if (!crew->options->keep || !may_start(crew)) {
        return false;
    }
    begin_fetch(crew, f);
    return true;
}

/* Takes what was read; false, with failure set, where it is not the answer that was hoped for. */
static bool take(struct crew *crew, struct fetch *f, const char *bytes, size_t n, unsigned *failure)
{
    if (!f->body) {
        size_t room = sizeof f->head - 1 - f->head_len, had = f->head_len;
        memcpy(f->head + f->head_len, bytes, n < room ? n : room);
        f->head_len += n < room ? n : room;
        f->head[f->head_len] = '\0';
        char *end = strstr(f->head, "\r\n\r\n");
        if (end == NULL) {
            *failure = LOAD_CLOSED;
            return n < room;
        }
        unsigned long code = strtoul(f->head + strlen("HTTP/1.1 "), NULL, 10);
        end[2] = '\0';
        const char *length = strcasestr(f->head, "\r\ncontent-length:");
        if (code != 200 || length == NULL) {
            *failure = code >= 100 && code < LOAD_CODES ? (unsigned)code : LOAD_CLOSED;
            return false;
        }
        f->left = strtoull(length + strlen("\r\ncontent-length:"), NULL, 10);
        f->body = true;
        size_t used = (size_t)(end + 4 - f->head) - had;
        bytes += used;
        n -= used;
    }
    *failure = LOAD_CLOSED;
    if (n > f->left) {
        return false;
    }
    f->left -= n;
    crew->bytes += n;
    (void)bytes;
    return true;
}

/* Goes on until the connection has to wait (what for is the result), has ended (0), or its fetches
 * are done (0). */
static uint32_t proceed(struct crew *crew, struct fetch *f, unsigned *failure)
{
    *failure = LOAD_CLOSED;
    if (!f->greeted) {
        int r = SSL_do_handshake(f->ssl);
        if (r != 1) {
            return wanted(f, r);
        }
        f->greeted = true;
    }
    for (;;) {
        const struct request *request = &crew->requests[f->at];
        if (f->sent < request->len) {
            int w = SSL_write(f->ssl, request->text + f->sent, (int)(request->len - f->sent));
            if (w <= 0) {
                return wanted(f, w);
            }
            f->sent += (size_t)w;
            continue;
        }
        int r = SSL_read(f->ssl, crew->block, BLOCK);
        if (r <= 0) {
            return wanted(f, r);
        }
        if (!take(crew, f, crew->block, (size_t)r, failure)) {
            return 0;
        }
        if (f->body && f->left == 0 && !next_request(crew, f)) {
            *failure = 0;
            return 0;
        }
    }
}

static void on_event(struct crew *crew, struct fetch *f)
{
    unsigned failure;
    ERR_clear_error();
    uint32_t waits = proceed(crew, f, &failure);
    struct epoll_event event = {.events = waits, .data.ptr = f};
    if (waits == 0) {
        fetch_end(crew, f, failure);
    } else if (waits != f->waits) {
        f->waits = waits;
        (void)epoll_ctl(crew->epoll, EPOLL_CTL_MOD, f->fd, &event);
    }
}

static enum sp_err loop(struct crew *crew)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    for (;;) {
        for (unsigned i = 0; i < crew->options->connections && may_start(crew); i++) {
            if (crew->fetches[i].fd < 0) {
                connect_one(crew, &crew->fetches[i]);
            }
        }
        if (crew->open == 0 && !may_start(crew)) {
            return SP_OK;
        }
        int n = epoll_wait(crew->epoll, events, EVENTS_AT_ONCE, IDLE_LIMIT_MS);
        if (n < 0 && errno != EINTR) {
            return SP_ERR_SYSTEM;
        }
        if (n == 0) {
            crew->result->failures[LOAD_TIMEOUT] += crew->open;
            return SP_OK;
        }
        for (int i = 0; i < n; i++) {
            on_event(crew, events[i].data.ptr);
        }
    }
}

static bool prepare(struct crew *crew)
{
    static const unsigned char alpn[] = "\x08http/1.1";
    const struct load_options *o = crew->options;
    crew->epoll = epoll_create1(EPOLL_CLOEXEC);
    crew->ctx = SSL_CTX_new(TLS_client_method());
    crew->fetches = calloc(o->connections, sizeof *crew->fetches);
    crew->result->latency_us = calloc(o->count, sizeof *crew->result->latency_us);
    if (crew->epoll < 0 || crew->ctx == NULL || crew->fetches == NULL ||
        crew->result->latency_us == NULL ||
        SSL_CTX_set_alpn_protos(crew->ctx, alpn, sizeof alpn - 1) != 0) {
        return false;
    }
    SSL_CTX_set_mode(crew->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_CTX_set_session_cache_mode(crew->ctx, SSL_SESS_CACHE_OFF);
    for (unsigned i = 0; i < o->connections; i++) {
        crew->fetches[i].fd = -1;
    }
    for (unsigned i = 0; i < o->n_paths; i++) {
        struct request *r = &crew->requests[i];
        int n = snprintf(r->text, sizeof r->text, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n",
                         o->paths[i], o->header != NULL ? o->header : "", o->header ? "\r\n" : "");
        r->len = n > 0 && (size_t)n < sizeof r->text ? (size_t)n : 0;
    }
    return true;
}

enum sp_err load_fetch(const struct load_options *options, struct load_result *result,
                       size_t *bytes)
{
    struct crew *crew = calloc(1, sizeof *crew);
    enum sp_err err = SP_ERR_MEMORY;
    *result = (struct load_result){0};
    *bytes = 0;
    if (crew == NULL) {
        return err;
    }
    crew->options = options;
    crew->result = result;
    crew->epoll = -1;
    if (prepare(crew)) {
        crew->began = load_now();
        err = loop(crew);
        result->seconds = load_now() - crew->began;
        *bytes = result->messages > 0 ? crew->bytes / result->messages : 0;
    }
    free(crew->fetches);
    SSL_CTX_free(crew->ctx);
    if (crew->epoll >= 0) {
        (void)close(crew->epoll);
    }
    free(crew);
    return err;
}
