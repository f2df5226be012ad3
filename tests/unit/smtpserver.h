#ifndef SEALPOST_TEST_SMTPSERVER_H
#define SEALPOST_TEST_SMTPSERVER_H
/*
 * For tests: an SMTP server on loopback, in a process of its own, that answers as it is told and
 * keeps what it gets in shared memory. It serves one connection after the other.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVER_MAILS   8
#define SERVER_CONTENT (4u << 20)

struct server_mail {
    char from[300];
    char to[64000]; /* each followed by a space */
    unsigned n_to;
    bool tls;
    size_t len;
    uint8_t content[SERVER_CONTENT]; /* dots undone */
};

struct server_seen {
    unsigned connections, mails, commands;
    char auth[512];
    struct server_mail mail[SERVER_MAILS];
};

struct server {
    /* How it answers; NULL: as usual. */
    SSL_CTX *tls;    /* offers STARTTLS */
    bool implicit;   /* TLS from the first octet */
    bool tls_broken; /* offers it and fails */
    const char *greeting, *extensions /* "250-X\r\n" lines */, *mail, *data, *final;
    const char *rcpt[8]; /* to the n-th RCPT of a transaction */
    unsigned rcpt_limit; /* of a transaction, then 452; 0: none */
    unsigned drop_after; /* so many bytes of content the connection is reset; 0: never */
    unsigned deaf_final; /* seconds to wait before the final reply */

    uint16_t port;
    pid_t pid;
    struct server_seen *seen;
};

struct server_conn {
    const struct server *s;
    int fd;
    SSL *ssl;
    uint8_t in[65536];
    size_t at, len;
};

static inline int conn_byte(struct server_conn *c)
{
    if (c->at == c->len) {
        ssize_t n = c->ssl != NULL ? SSL_read(c->ssl, c->in, sizeof(c->in))
                                   : read(c->fd, c->in, sizeof(c->in));
        if (n <= 0)
            return -1;
        c->at = 0;
        c->len = (size_t)n;
    }
    return c->in[c->at++];
}

/* Without CRLF; false at the end. */
static inline bool conn_line(struct server_conn *c, char *out, size_t cap)
{
    size_t n = 0;
    int b;
    while ((b = conn_byte(c)) >= 0 && b != '\n')
        if (n + 1 < cap)
            out[n++] = (char)b;
    while (n > 0 && out[n - 1] == '\r')
        n--;
    out[n] = '\0';
    return b >= 0;
}

static inline void conn_say(struct server_conn *c, const char *text)
{
    char line[1200];
    int n = snprintf(line, sizeof(line), "%s\r\n", text);
    if ((c->ssl != NULL ? SSL_write(c->ssl, line, n) : write(c->fd, line, (size_t)n)) != n)
        return;
}

static inline void conn_reset(struct server_conn *c)
{
    struct linger now = {.l_onoff = 1};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

static inline void take_byte(struct server_mail *m, int b)
{
    if (m->len < sizeof(m->content))
        m->content[m->len++] = (uint8_t)b;
}

static inline bool conn_data(struct server_conn *c, struct server_mail *m)
{
    int b, before = '\n';
    unsigned n = 0;
    while ((b = conn_byte(c)) >= 0) {
        if (c->s->drop_after > 0 && ++n > c->s->drop_after) {
            conn_reset(c);
            return false;
        }
        if (before == '\n' && b == '.') {
            b = conn_byte(c);
            if (b == '\r') {
                conn_byte(c);
                return true;
            }
        }
        take_byte(m, b);
        before = b;
    }
    return false;
}

static inline bool conn_bdat(struct server_conn *c, struct server_mail *m, const char *line,
                             bool *last)
{
    unsigned long n = strtoul(line + 5, NULL, 10);
    *last = strstr(line, "LAST") != NULL;
    while (n-- > 0) {
        int b = conn_byte(c);
        if (b < 0)
            return false;
        take_byte(m, b);
    }
    return true;
}

static inline void conn_ehlo(struct server_conn *c)
{
    char text[1000];
    snprintf(text, sizeof(text), "250-mx.test\r\n%s%s250 8BITMIME",
             c->s->extensions != NULL ? c->s->extensions : "",
             (c->s->tls != NULL || c->s->tls_broken) && c->ssl == NULL ? "250-STARTTLS\r\n" : "");
    conn_say(c, text);
}

static inline const char *or_else(const char *a, const char *b)
{
    return a != NULL ? a : b;
}

static inline bool conn_tls(struct server_conn *c)
{
    c->ssl = SSL_new(c->s->tls);
    SSL_set_fd(c->ssl, c->fd);
    return SSL_accept(c->ssl) == 1;
}

static inline bool conn_starttls(struct server_conn *c)
{
    conn_say(c, "220 go");
    if (c->s->tls_broken) {
        conn_byte(c); /* of its ClientHello */
        conn_say(c, "this is no handshake");
        return false;
    }
    return conn_tls(c);
}

static inline void conn_rcpt(struct server_conn *c, struct server_mail *m, const char *line,
                             unsigned n)
{
    const char *answer = n < 8 ? c->s->rcpt[n] : NULL;
    if (answer == NULL && c->s->rcpt_limit > 0 && m->n_to >= c->s->rcpt_limit)
        answer = "452 4.5.3 Too many recipients";
    answer = or_else(answer, "250 2.1.5 ok");
    conn_say(c, answer);
    if (answer[0] != '2')
        return;
    const char *at = strchr(line, '<');
    strncat(m->to, at != NULL ? at : line, sizeof(m->to) - strlen(m->to) - 2);
    strncat(m->to, " ", sizeof(m->to) - strlen(m->to) - 1);
    m->n_to++;
}

static inline void conn_finish(struct server_conn *c)
{
    if (c->s->deaf_final > 0)
        sleep(c->s->deaf_final);
    const char *answer = or_else(c->s->final, "250 2.0.0 queued as 1");
    if (answer[0] == '2')
        c->s->seen->mails++;
    conn_say(c, answer);
}

/* One command; false: the connection ends. */
static inline bool conn_command(struct server_conn *c, struct server_mail *m, const char *line,
                                unsigned *rcpts)
{
    bool last;
    c->s->seen->commands++;
    if (strncasecmp(line, "EHLO", 4) == 0) {
        conn_ehlo(c);
    } else if (strncasecmp(line, "STARTTLS", 8) == 0) {
        return conn_starttls(c);
    } else if (strncasecmp(line, "AUTH", 4) == 0) {
        snprintf(c->s->seen->auth, sizeof(c->s->seen->auth), "%.250s", line);
        conn_say(c, "235 2.7.0 ok");
    } else if (strncasecmp(line, "MAIL", 4) == 0) {
        memset(m, 0, offsetof(struct server_mail, content));
        snprintf(m->from, sizeof(m->from), "%.250s", line);
        m->tls = c->ssl != NULL;
        *rcpts = 0;
        conn_say(c, or_else(c->s->mail, "250 2.1.0 ok"));
    } else if (strncasecmp(line, "RCPT", 4) == 0) {
        conn_rcpt(c, m, line, (*rcpts)++);
    } else if (strncasecmp(line, "DATA", 4) == 0) {
        const char *answer =
            m->n_to == 0 ? "503 5.5.1 no recipient" : or_else(c->s->data, "354 go");
        conn_say(c, answer);
        if (answer[0] == '3') {
            if (!conn_data(c, m))
                return false;
            conn_finish(c);
        }
    } else if (strncasecmp(line, "BDAT", 4) == 0) {
        if (!conn_bdat(c, m, line, &last))
            return false;
        if (last)
            conn_finish(c);
        else
            conn_say(c, "250 2.0.0 more");
    } else if (strncasecmp(line, "QUIT", 4) == 0) {
        conn_say(c, "221 bye");
        return false;
    } else {
        conn_say(c, "250 2.0.0 ok");
    }
    return true;
}

static inline void server_loop(const struct server *s, int listener)
{
    static struct server_conn c;
    for (;;) {
        char line[2048];
        unsigned rcpts = 0;
        c = (struct server_conn){.s = s, .fd = accept(listener, NULL, NULL)};
        if (c.fd < 0)
            _exit(1);
        s->seen->connections++;
        if (s->implicit && !conn_tls(&c))
            _exit(1);
        conn_say(&c, or_else(s->greeting, "220 mx.test ESMTP"));
        struct server_mail *m = &s->seen->mail[s->seen->mails % SERVER_MAILS];
        while (conn_line(&c, line, sizeof(line)) && conn_command(&c, m, line, &rcpts))
            m = &s->seen->mail[s->seen->mails % SERVER_MAILS];
        if (c.ssl != NULL) {
            SSL_shutdown(c.ssl);
            SSL_free(c.ssl);
        }
        close(c.fd);
    }
}

static inline void server_start(struct server *s)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    s->seen =
        mmap(NULL, sizeof(*s->seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(fd, 8) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) != 0 || s->seen == MAP_FAILED)
        abort();
    s->port = ntohs(at.sin_port);
    s->pid = fork();
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        server_loop(s, fd);
    }
    close(fd);
}

static inline void server_stop(struct server *s)
{
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    munmap(s->seen, sizeof(*s->seen));
}

#endif
