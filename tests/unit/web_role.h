#ifndef SEALPOST_TEST_WEB_ROLE_H
#define SEALPOST_TEST_WEB_ROLE_H
/*
 * The web role over real TLS, in a process of its own, against doubles of the store and the keeper.
 * The sanitizers watch the role: it must end with status 0 whatever clients did to it. A test
 * brings the store: web_store() answers a frame, and says nothing where it returns false.
 */
#include "daemon/messages.h"
#include "daemon/role.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ANSWER (1u << 20)

static pid_t role_pid, doubles_pid;
static uint16_t port;
static SSL_CTX *client;
static char *answer;

/* Into out; the reply's type is the question's | 0x80. */
static bool web_store(uint16_t type, struct wire_in *body, struct wire_out *out);

/* --- the doubles --- */

static inline void play_store(int sock)
{
    static uint8_t in[IPC_HEADER + IPC_MAX_PAYLOAD], buf[IPC_MAX_PAYLOAD];
    struct ipc_frame frame;
    struct wire_out out = wire_out(buf, sizeof(buf));
    if (ipc_recv(sock, in, sizeof(in), &frame) != SP_OK)
        _exit(0);
    if (web_store(frame.type, &frame.body, &out))
        ipc_send_fd(sock, frame.type | 0x80, frame.id, buf, out.len, -1);
}

static inline void play_keeper(int sock, EVP_PKEY *key)
{
    uint8_t in[2048], buf[600], sig[512];
    struct ipc_frame frame;
    size_t len, digest_len, sig_len = sizeof(sig);
    if (ipc_recv(sock, in, sizeof(in), &frame) != SP_OK)
        _exit(0);
    wire_get_b16(&frame.body, 32, &len);
    wire_get_b16(&frame.body, 32, &digest_len);
    const uint8_t *tbs = wire_get_b32(&frame.body, 1024, &len);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, key);
    EVP_DigestSign(md, sig, &sig_len, tbs, len);
    EVP_MD_CTX_free(md);
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u8(&out, SP_OK);
    wire_put_b16(&out, sig, sig_len);
    ipc_send_fd(sock, SK_SIGN_REPLY, frame.id, buf, out.len, -1);
}

static inline void play(int store, int keeper, EVP_PKEY *key)
{
    struct pollfd p[2] = {{.fd = store, .events = POLLIN}, {.fd = keeper, .events = POLLIN}};
    while (poll(p, 2, -1) > 0) {
        if (p[0].revents)
            play_store(store);
        if (p[1].revents)
            play_keeper(keeper, key);
    }
    _exit(1);
}

/* --- the role --- */

static inline void on_term(evutil_socket_t fd, short what, void *arg)
{
    struct role *role = arg;
    (void)fd, (void)what;
    web_role.stop(role);
}

static inline void run_role(char *pem, size_t len)
{
    static struct config config = {.web_max_per_client = 1000,
                                   .hostname = (char *)(uintptr_t) "mail.example.org",
                                   .web_url = (char *)(uintptr_t) "https://mail.example.org",
                                   .domain = {1, {(char *)(uintptr_t) "example.org"}},
                                   .web_listen = {1, {(char *)(uintptr_t) "test"}},
                                   .shutdown_grace = 1};
    static struct role role = {.ops = &web_role, .config = &config};
    signal(SIGPIPE, SIG_IGN);
    role.base = event_base_new();
    struct ipc_frame cert = {.type = CT_CERTIFICATE, .fd = -1, .body = wire_in(pem, len)};
    enum sp_err err = web_role.prepare(&role);
    if (err == SP_OK)
        err = web_role.run(&role);
    if (err == SP_OK)
        err = web_role.control(&role, &cert);
    struct event *term = evsignal_new(role.base, SIGTERM, on_term, &role);
    event_add(term, NULL);
    if (err == SP_OK)
        err = ipc_loop(role.base);
    event_free(term);
    exit(err == SP_OK ? 0 : 1); /* and the leak check */
}

static inline size_t make_certificate(EVP_PKEY **key, char **pem)
{
    BIO *out = BIO_new(BIO_s_mem());
    X509 *x = X509_new();
    *key = EVP_EC_gen("P-256");
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, *key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)"test", -1, -1, 0);
    X509_sign(x, *key, EVP_sha256());
    PEM_write_bio_X509(out, x);
    X509_free(x);
    long len = BIO_get_mem_data(out, pem);
    char *copy = malloc((size_t)len);
    memcpy(copy, *pem, (size_t)len);
    *pem = copy;
    BIO_free(out);
    return (size_t)len;
}

static inline int make_listener(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 1024), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    port = ntohs(a.sin_port);
    return fd;
}

/* Fixed numbers, as the supervisor would lay them out. */
static inline void place(int store, int keeper, int listener)
{
    int from[3] = {store, keeper, listener};
    const int to[3] = {ROLE_FD(ROLE_STORE), ROLE_FD(ROLE_KEEPER), FD_EXTRA};
    for (int i = 0; i < 3; i++)
        from[i] = fcntl(from[i], F_DUPFD, 100);
    for (int i = 0; i < 3; i++)
        dup2(from[i], to[i]);
    for (int fd = 100; fd < 120; fd++)
        close(fd);
}

static inline int set_up(void **state)
{
    int store[2], keeper[2];
    EVP_PKEY *key;
    char *pem;
    (void)state;
    size_t len = make_certificate(&key, &pem);
    assert_int_equal(ipc_pair(store), SP_OK);
    assert_int_equal(ipc_pair(keeper), SP_OK);
    int listener = make_listener();
    fflush(NULL);
    if ((doubles_pid = fork()) == 0) {
        close(store[0]);
        close(keeper[0]);
        play(store[1], keeper[1], key);
    }
    if ((role_pid = fork()) == 0) {
        close(store[1]);
        close(keeper[1]);
        EVP_PKEY_free(key);
        place(store[0], keeper[0], listener);
        run_role(pem, len);
    }
    for (int i = 0; i < 2; i++) {
        close(store[i]);
        close(keeper[i]);
    }
    close(listener);
    EVP_PKEY_free(key);
    free(pem);
    signal(SIGPIPE, SIG_IGN);
    client = SSL_CTX_new(TLS_client_method());
    answer = malloc(ANSWER);
    return 0;
}

static inline int tear_down(void **state)
{
    int status;
    (void)state;
    kill(role_pid, SIGTERM);
    waitpid(role_pid, &status, 0);
    kill(doubles_pid, SIGKILL);
    waitpid(doubles_pid, NULL, 0);
    SSL_CTX_free(client);
    free(answer);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* --- clients --- */

static inline int dial(void)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static inline SSL *dial_tls(void)
{
    SSL *ssl = SSL_new(client);
    SSL_set_fd(ssl, dial());
    assert_int_equal(SSL_connect(ssl), 1);
    return ssl;
}

static inline void hang_up(SSL *ssl)
{
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
}

static inline size_t read_all(SSL *ssl)
{
    size_t at = 0;
    int n;
    while (at < ANSWER - 1 && (n = SSL_read(ssl, answer + at, (int)(ANSWER - 1 - at))) > 0)
        at += (size_t)n;
    ERR_clear_error();
    answer[at] = '\0';
    return at;
}

/* One request on a connection of its own; the answer is in answer[]; its code is returned. */
static inline int ask(const char *request, ...)
{
    char text[16384];
    va_list args;
    va_start(args, request);
    int len = vsnprintf(text, sizeof(text), request, args);
    va_end(args);
    SSL *ssl = dial_tls();
    assert_true(len < (int)sizeof(text) && SSL_write(ssl, text, len) == len);
    read_all(ssl);
    hang_up(ssl);
    return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? atoi(answer + 9) : 0;
}

static inline bool has(const char *text)
{
    return strstr(answer, text) != NULL;
}

static inline const char *body(void)
{
    const char *end = strstr(answer, "\r\n\r\n");
    return end != NULL ? end + 4 : "";
}

#define REST " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"

#endif
