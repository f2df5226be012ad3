/*
 * Idle TLS sessions: each has greeted, started TLS (RFC 3207) and greeted again, and then says
 * nothing, as a mail server does that keeps a connection in reserve. The server's certificate is
 * not verified: it is a bench's own, on loopback.
 */
#include "bench/load.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Reads one reply, of several lines perhaps, and says whether it has this code. */
static bool expect(SSL *ssl, int fd, const char *code)
{
    char in[2048];
    size_t len = 0;
    while (len < sizeof in - 1) {
        size_t room = sizeof in - 1 - len;
        ssize_t n = ssl != NULL ? SSL_read(ssl, in + len, (int)room) : recv(fd, in + len, room, 0);
        if (n <= 0) {
            return false;
        }
        len += (size_t)n;
        in[len] = '\0';
        if (len < 5 || strcmp(in + len - 2, "\r\n") != 0) {
            continue;
        }
        in[len - 2] = '\0';
        const char *newline = strrchr(in, '\n');
        const char *last = newline != NULL ? newline + 1 : in;
        if (strlen(last) >= 3 && last[3] != '-') {
            return strncmp(last, code, 3) == 0;
        }
        in[len - 2] = '\r';
    }
    return false;
}

static bool say(int fd, const char *text)
{
    return send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

/* A session that idles inside TLS, or NULL. */
static SSL *open_one(SSL_CTX *ctx, const struct load_options *options)
{
    static const char hello[] = "EHLO load.example.net\r\n";
    const struct sockaddr *server = (const struct sockaddr *)&options->server;
    SSL *ssl = NULL;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, server, sizeof options->server) != 0 || !expect(NULL, fd, "220") ||
        !say(fd, hello) || !expect(NULL, fd, "250") || !say(fd, "STARTTLS\r\n") ||
        !expect(NULL, fd, "220")) {
        goto fail;
    }
    ssl = SSL_new(ctx);
    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1 || SSL_connect(ssl) != 1 ||
        SSL_write(ssl, hello, sizeof hello - 1) <= 0 || !expect(ssl, fd, "250")) {
        goto fail;
    }
    return ssl;
fail:
    SSL_free(ssl);
    if (fd >= 0) {
        (void)close(fd);
    }
    return NULL;
}

enum sp_err load_idle(const struct load_options *options)
{
    enum sp_err err = SP_ERR_MEMORY;
    unsigned open = 0;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL **sessions = calloc(options->idle, sizeof *sessions);
    if (ctx == NULL || sessions == NULL) {
        goto out;
    }
    while (open < options->idle && (sessions[open] = open_one(ctx, options)) != NULL) {
        open++;
    }
    err = open == options->idle ? SP_OK : SP_ERR_PEER;
    load_wait("ready", open);
out:
    for (unsigned i = 0; i < open; i++) {
        (void)close(SSL_get_fd(sessions[i]));
        SSL_free(sessions[i]);
    }
    free(sessions);
    SSL_CTX_free(ctx);
    return err;
}
