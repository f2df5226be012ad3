/*
 * SMTP and LMTP sessions, one message each, many at once on one epoll loop. Every server is spoken
 * to alike: MAIL, RCPT and DATA in one write where it offers PIPELINING (RFC 2920), QUIT, and its
 * reply awaited. The server is not trusted to be correct, but nothing depends on it.
 */
#include "bench/load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 64
#define IDLE_LIMIT_MS  60000

enum phase { PH_BANNER, PH_HELLO, PH_MAIL, PH_RCPT, PH_DATA, PH_CONTENT, PH_QUIT };

struct session {
    int fd; /* -1: not in use */
    enum phase phase;
    bool pipelining, writing;
    unsigned serial;
    double started;
    char in[2048], out[1024];
    size_t in_len, out_len, out_sent;
    off_t content_sent;
};

struct run {
    const struct load_options *options;
    const struct load_message *message;
    struct load_result *result;
    struct session *sessions;
    int epoll;
    unsigned started, open;
    double began;
};

static void say(struct session *s, const char *text)
{
    size_t n = strlen(text);
    if (n <= sizeof s->out - s->out_len) {
        memcpy(s->out + s->out_len, text, n);
        s->out_len += n;
    }
}

static void say_rcpt(const struct run *run, struct session *s)
{
    char text[400], address[320];
    const char *mark = strstr(run->options->rcpt, "%d");
    if (mark == NULL) {
        (void)snprintf(address, sizeof address, "%s", run->options->rcpt);
    } else {
        (void)snprintf(address, sizeof address, "%.*s%u%s", (int)(mark - run->options->rcpt),
                       run->options->rcpt, s->serial % run->options->users, mark + 2);
    }
    (void)snprintf(text, sizeof text, "RCPT TO:<%s>\r\n", address);
    say(s, text);
}

/* --- What to do at the reply that each phase waits for. --- */

static void on_banner(struct run *run, struct session *s)
{
    say(s, run->options->lmtp ? "LHLO load.example.net\r\n" : "EHLO load.example.net\r\n");
}

static void on_hello(struct run *run, struct session *s)
{
    char text[400];
    (void)snprintf(text, sizeof text, "MAIL FROM:<%s>\r\n", run->options->from);
    say(s, text);
    if (s->pipelining) {
        say_rcpt(run, s);
        say(s, "DATA\r\n");
    }
}

static void on_mail(struct run *run, struct session *s)
{
    if (!s->pipelining) {
        say_rcpt(run, s);
    }
}

static void on_rcpt(struct run *run, struct session *s)
{
    (void)run;
    if (!s->pipelining) {
        say(s, "DATA\r\n");
    }
}

static void on_data(struct run *run, struct session *s)
{
    char head[LOAD_HEAD_MAX];
    (void)run;
    (void)load_message_head(head, s->serial);
    say(s, head);
    s->content_sent = 0;
}

static void on_content(struct run *run, struct session *s)
{
    double us = (load_now() - s->started) * 1e6;
    run->result->latency_us[run->result->messages++] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
    if (run->options->hold) {
        load_wait("held", 1);
    }
    say(s, "QUIT\r\n");
}

static const struct {
    unsigned expect;
    void (*then)(struct run *run, struct session *s);
} steps[] = {
    [PH_BANNER] = {220, on_banner}, [PH_HELLO] = {250, on_hello}, [PH_MAIL] = {250, on_mail},
    [PH_RCPT] = {250, on_rcpt},     [PH_DATA] = {354, on_data},   [PH_CONTENT] = {250, on_content},
    [PH_QUIT] = {221, NULL},
};

/* --- Sessions come and go. --- */

static void session_end(struct run *run, struct session *s, unsigned failure)
{
    if (failure != 0) {
        run->result->failures[failure]++;
    }
    (void)close(s->fd);
    s->fd = -1;
    run->open--;
}

static bool may_start(const struct run *run)
{
    const struct load_options *o = run->options;
    return run->started < o->count &&
           (o->seconds == 0 || load_now() - run->began < (double)o->seconds);
}

static void session_start(struct run *run, struct session *s)
{
    *s = (struct session){.serial = run->started++, .started = load_now()};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    const struct sockaddr *server = (const struct sockaddr *)&run->options->server;

    run->open++;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0 ||
        (connect(s->fd, server, sizeof run->options->server) != 0 && errno != EINPROGRESS) ||
        epoll_ctl(run->epoll, EPOLL_CTL_ADD, s->fd, &event) != 0) {
        session_end(run, s, LOAD_NO_CONNECT);
    }
}

/* Sends what is to be sent; asks to be woken when the socket has room if there is more. */
static bool session_write(struct run *run, struct session *s)
{
    bool content = s->phase == PH_CONTENT;
    size_t length = run->message->length;
    ssize_t n = 1;
    while (n > 0 && s->out_sent < s->out_len) {
        n = send(s->fd, s->out + s->out_sent, s->out_len - s->out_sent,
                 MSG_NOSIGNAL | (content ? MSG_MORE : 0));
        s->out_sent += n > 0 ? (size_t)n : 0;
    }
    while (n > 0 && content && (size_t)s->content_sent < length) {
        n = sendfile(s->fd, run->message->fd, &s->content_sent, length - (size_t)s->content_sent);
    }
    if (n < 0 && errno != EAGAIN) {
        return false;
    }
    if (n > 0) {
        s->out_sent = s->out_len = 0;
    }
    if (s->writing != (n < 0)) {
        s->writing = n < 0;
        struct epoll_event event = {.events = EPOLLIN | (s->writing ? EPOLLOUT : 0u),
                                    .data.ptr = s};
        return epoll_ctl(run->epoll, EPOLL_CTL_MOD, s->fd, &event) == 0;
    }
    return true;
}

/* One line of the server's. False: the session has ended. */
static bool session_line(struct run *run, struct session *s, const char *text)
{
    if (text[0] != '\0' && strncmp(text + 1, "50", 2) == 0 && strlen(text) > 4 &&
        strcmp(text + 4, "PIPELINING") == 0) {
        s->pipelining = true;
    }
    if (strlen(text) > 3 && text[3] == '-') {
        return true;
    }
    unsigned long code = strtoul(text, NULL, 10);
    if (code != steps[s->phase].expect) {
        session_end(run, s, code >= 100 && code < LOAD_CODES ? (unsigned)code : LOAD_CLOSED);
        return false;
    }
    if (s->phase == PH_QUIT) {
        session_end(run, s, 0);
        return false;
    }
    steps[s->phase].then(run, s);
    s->phase++;
    return true;
}

static bool session_read(struct run *run, struct session *s)
{
    ssize_t n = recv(s->fd, s->in + s->in_len, sizeof s->in - 1 - s->in_len, 0);
    if (n < 0 && errno == EAGAIN) {
        return true;
    }
    if (n <= 0) {
        bool refused = s->phase == PH_BANNER && n < 0;
        session_end(run, s, refused ? LOAD_NO_CONNECT : LOAD_CLOSED);
        return false;
    }
    s->in_len += (size_t)n;
    s->in[s->in_len] = '\0';
    char *start = s->in, *end;
    while ((end = strstr(start, "\r\n")) != NULL) {
        *end = '\0';
        if (!session_line(run, s, start)) {
            return false;
        }
        start = end + 2;
    }
    s->in_len = strlen(start);
    memmove(s->in, start, s->in_len + 1);
    return true;
}

static void session_event(struct run *run, struct session *s, uint32_t events)
{
    if (s->fd >= 0 && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0 && !session_read(run, s)) {
        return;
    }
    bool pending = s->out_sent < s->out_len || s->writing;
    if (s->fd >= 0 && pending && !session_write(run, s)) {
        session_end(run, s, LOAD_CLOSED);
    }
}

static enum sp_err loop(struct run *run)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    for (;;) {
        for (unsigned i = 0; i < run->options->connections; i++) {
            if (run->sessions[i].fd < 0 && may_start(run)) {
                session_start(run, &run->sessions[i]);
            }
        }
        if (run->open == 0 && !may_start(run)) {
            return SP_OK;
        }
        int n = epoll_wait(run->epoll, events, EVENTS_AT_ONCE, IDLE_LIMIT_MS);
        if (n < 0 && errno != EINTR) {
            return SP_ERR_SYSTEM;
        }
        if (n == 0) {
            run->result->failures[LOAD_TIMEOUT] += run->open;
            return SP_OK;
        }
        for (int i = 0; i < n; i++) {
            session_event(run, events[i].data.ptr, events[i].events);
        }
    }
}

enum sp_err load_run(const struct load_options *options, const struct load_message *message,
                     struct load_result *result)
{
    struct run run = {.options = options, .message = message, .result = result};
    enum sp_err err = SP_ERR_MEMORY;
    *result = (struct load_result){0};
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    run.sessions = calloc(options->connections, sizeof *run.sessions);
    result->latency_us = calloc(options->count, sizeof *result->latency_us);
    if (run.epoll < 0 || run.sessions == NULL || result->latency_us == NULL) {
        goto out;
    }
    for (unsigned i = 0; i < options->connections; i++) {
        run.sessions[i].fd = -1;
    }
    run.began = load_now();
    err = loop(&run);
    result->seconds = load_now() - run.began;
out:
    free(run.sessions);
    if (run.epoll >= 0) {
        (void)close(run.epoll);
    }
    return err;
}
