#ifndef SEALPOST_TEST_SCRIPTED_H
#define SEALPOST_TEST_SCRIPTED_H
/*
 * A mail server on loopback that follows a script, line by line, with real TLS:
 *     "> 250 ok"    sends a line          "! raw x"   sends bytes as they are, no CRLF
 *     "< NOOP"      expects this line     "! tls"     handshake with chain and key of the script
 *     "! body"      reads DATA's content, up to the final dot, into body (dots unstuffed)
 *     "! chunk"     reads a BDAT and its bytes into body     "! all"  reads until the end, into
 * body
 *     "! close"     closes in order       "! cut"     without close_notify     "! reset"
 *     "! end"       expects the end of the connection            "! some"   waits for a byte
 * What differs from the script is in error, and ends the connection.
 */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define SCRIPTED_BODY (4u << 20)

struct scripted {
    const char *const *script; /* NULL at its end */
    SSL_CTX *tls;
    uint16_t port;
    char error[512];
    char *body;
    size_t body_len;
    unsigned chunks, last; /* BDATs, and those with LAST */

    pthread_t thread;
    int listener, fd;
    SSL *ssl;
    char in[4096];
    size_t at, len;
};

static inline bool scripted_fill(struct scripted *s)
{
    s->at = s->len = 0;
    ssize_t n = s->ssl != NULL ? SSL_read(s->ssl, s->in, sizeof(s->in))
                               : recv(s->fd, s->in, sizeof(s->in), 0);
    s->len = n > 0 ? (size_t)n : 0;
    return n > 0;
}

static inline int scripted_byte(struct scripted *s)
{
    if (s->at == s->len && !scripted_fill(s))
        return -1;
    return (uint8_t)s->in[s->at++];
}

/* A line without its CRLF; false at the end. */
static inline bool scripted_line(struct scripted *s, char *line, size_t cap)
{
    size_t n = 0;
    int b;
    while ((b = scripted_byte(s)) >= 0 && n + 1 < cap) {
        line[n++] = (char)b;
        line[n] = '\0';
        if (n >= 2 && memcmp(line + n - 2, "\r\n", 2) == 0) {
            line[n - 2] = '\0';
            return true;
        }
    }
    line[n] = '\0';
    return false;
}

static inline void scripted_send(struct scripted *s, const char *bytes, size_t len)
{
    if (s->ssl != NULL)
        SSL_write(s->ssl, bytes, (int)len);
    else
        send(s->fd, bytes, len, MSG_NOSIGNAL);
}

static inline void scripted_keep(struct scripted *s, const char *bytes, size_t len)
{
    if (len > SCRIPTED_BODY - s->body_len)
        len = SCRIPTED_BODY - s->body_len;
    memcpy(s->body + s->body_len, bytes, len);
    s->body_len += len;
}

static inline bool scripted_data(struct scripted *s)
{
    char *line = malloc(70000);
    bool any;
    while ((any = scripted_line(s, line, 70000)) && strcmp(line, ".") != 0) {
        const char *at = line[0] == '.' ? line + 1 : line;
        scripted_keep(s, at, strlen(at));
        scripted_keep(s, "\r\n", 2);
    }
    free(line);
    return any;
}

static inline bool scripted_chunk(struct scripted *s)
{
    char line[256];
    size_t n = 0;
    int used = 0;
    if (!scripted_line(s, line, sizeof(line)) || sscanf(line, "BDAT %zu%n", &n, &used) != 1)
        return false;
    s->chunks++;
    s->last += strcmp(line + used, " LAST") == 0;
    for (; n > 0; n--) {
        int b = scripted_byte(s);
        char ch = (char)b;
        if (b < 0)
            return false;
        scripted_keep(s, &ch, 1);
    }
    return true;
}

static inline bool scripted_tls(struct scripted *s)
{
    s->ssl = SSL_new(s->tls);
    SSL_set_fd(s->ssl, s->fd);
    return SSL_accept(s->ssl) == 1;
}

static inline void scripted_close(struct scripted *s, bool orderly, bool reset)
{
    struct linger now = {.l_onoff = 1};
    if (s->fd < 0)
        return;
    if (s->ssl != NULL && orderly)
        SSL_shutdown(s->ssl);
    SSL_free(s->ssl);
    s->ssl = NULL;
    if (reset)
        setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(s->fd);
    s->fd = -1;
}

static inline bool scripted_is(const char *step, const char *what)
{
    return strcmp(step + 2, what) == 0;
}

static inline bool scripted_act(struct scripted *s, const char *step)
{
    char byte;
    if (strncmp(step, "! raw ", 6) == 0)
        scripted_send(s, step + 6, strlen(step + 6));
    else if (scripted_is(step, "tls"))
        return scripted_tls(s);
    else if (scripted_is(step, "body"))
        return scripted_data(s);
    else if (scripted_is(step, "chunk"))
        return scripted_chunk(s);
    else if (scripted_is(step, "all"))
        for (int b; (b = scripted_byte(s)) >= 0; byte = (char)b, scripted_keep(s, &byte, 1))
            ;
    else if (scripted_is(step, "some"))
        return scripted_byte(s) >= 0;
    else if (scripted_is(step, "end"))
        return scripted_byte(s) < 0;
    else
        scripted_close(s, scripted_is(step, "close"), scripted_is(step, "reset"));
    return true;
}

static inline bool scripted_step(struct scripted *s, const char *step)
{
    char line[4096] = "";
    if (step[0] == '>') {
        snprintf(line, sizeof(line), "%s\r\n", step + 2);
        scripted_send(s, line, strlen(line));
        return true;
    }
    if (step[0] == '!') {
        if (scripted_act(s, step))
            return true;
        snprintf(s->error, sizeof(s->error), "failed: %.100s", step);
        return false;
    }
    if (scripted_line(s, line, sizeof(line)) && strcmp(line, step + 2) == 0)
        return true;
    snprintf(s->error, sizeof(s->error), "expected '%.100s', got '%.300s'", step + 2, line);
    return false;
}

static inline void *scripted_run(void *arg)
{
    struct scripted *s = arg;
    struct timeval patience = {.tv_sec = 20};
    s->fd = accept(s->listener, NULL, NULL);
    setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    for (size_t i = 0; s->script[i] != NULL && scripted_step(s, s->script[i]); i++)
        ;
    scripted_close(s, true, false);
    return NULL;
}

/* Listens, and runs the script for the one who connects. */
static inline void scripted_start(struct scripted *s, const char *const *script, SSL_CTX *tls)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    memset(s, 0, sizeof(*s));
    s->script = script;
    s->tls = tls;
    s->body = malloc(SCRIPTED_BODY);
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(s->listener, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(s->listener, 1) != 0 ||
        getsockname(s->listener, (struct sockaddr *)&at, &len) != 0)
        abort();
    s->port = ntohs(at.sin_port);
    pthread_create(&s->thread, NULL, scripted_run, s);
}

/* Waits for its end. */
static inline void scripted_join(struct scripted *s)
{
    pthread_join(s->thread, NULL);
    close(s->listener);
}

static inline void scripted_free(struct scripted *s)
{
    free(s->body);
    s->body = NULL;
}

/* --- certificates --- */

static inline void scripted_extension(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
}

/* A certificate for names ("DNS:mx.test,IP:127.0.0.1"; NULL: it is a CA), signed by ca and its key
 * (NULL: by itself), good from now - 1 h for seconds. */
static inline X509 *scripted_cert(EVP_PKEY *key, const char *names, X509 *ca, EVP_PKEY *ca_key,
                                  long seconds)
{
    static long serial;
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), seconds);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               (const unsigned char *)(names == NULL ? "CA" : "cn.test"), -1, -1,
                               0);
    X509_set_issuer_name(cert, ca != NULL ? X509_get_subject_name(ca) : name);
    if (names == NULL)
        scripted_extension(cert, NID_basic_constraints, "critical,CA:TRUE");
    else
        scripted_extension(cert, NID_subject_alt_name, names);
    X509_sign(cert, ca_key != NULL ? ca_key : key, EVP_sha256());
    return cert;
}

static inline SSL_CTX *scripted_tls_new(X509 *cert, EVP_PKEY *key)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate(ctx, cert) != 1 || SSL_CTX_use_PrivateKey(ctx, key) != 1)
        abort();
    return ctx;
}

#endif
