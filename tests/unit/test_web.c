/* The web role over real TLS, in a process of its own, against doubles of the store and the keeper.
 * The sanitizers watch the role: it must end with status 0 whatever clients did to it. */
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

#define TOTAL   300001u /* bytes of every piece of the double */
#define ANSWER  (1u << 20)
#define AUTH    "Authorization: Sealpost-Session AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\r\n"
#define MESSAGE "/v1/message/11111111111111111111111111111111"
#define SLOW    "/v1/message/dd111111111111111111111111111111" /* answered late */
#define NEVER   "/v1/message/ee111111111111111111111111111111"
#define MISSING "/v1/message/44111111111111111111111111111111"

static pid_t role_pid, doubles_pid;
static uint16_t port;
static SSL_CTX *client;
static char *answer;

/* --- the doubles --- */

static uint8_t piece_byte(uint64_t i)
{
    return (uint8_t)(i ^ i >> 8 ^ i >> 16);
}

static void reply_piece(struct wire_in *body, struct wire_out *out)
{
    static uint8_t block[65536];
    wire_get_u16(body);
    uint64_t offset = wire_get_u64(body);
    uint32_t n = wire_get_u32(body);
    if (offset + n > TOTAL)
        n = (uint32_t)(TOTAL - offset);
    for (uint32_t i = 0; i < n; i++)
        block[i] = piece_byte(offset + i);
    wire_put_u8(out, SP_OK);
    wire_put_u64(out, TOTAL);
    wire_put_b32(out, block, n);
}

static void reply_list(struct wire_in *body, struct wire_out *out)
{
    uint64_t after = wire_get_u64(body);
    uint16_t n = wire_get_u16(body);
    n = n < 5 ? n : 5;
    wire_put_u8(out, SP_OK);
    wire_put_u16(out, n);
    for (uint16_t i = 1; i <= n; i++) {
        wire_put_u64(out, after + i);
        wire_put_bytes(out, "0123456789abcdef", 16);
        wire_put_u64(out, 1700000000000u);
        wire_put_u64(out, 4711);
        wire_put_u16(out, 2);
        wire_put_u32(out, 1);
        wire_put_u8(out, i & 1);
    }
}

static void put_wire(struct wire_out *out)
{
    static const uint8_t signature[64];
    wire_put_b32(out, "link", 4);
    wire_put_bytes(out, signature, sizeof(signature));
}

/* Two links in a first frame, one in a second. */
static void reply_chain(struct wire_in *body, struct wire_out *out)
{
    size_t len;
    uint8_t by = wire_get_u8(body);
    wire_get_b16(body, 320, &len);
    uint32_t after = wire_get_u32(body);
    wire_put_u8(out, by == (len == 16) ? SP_OK : SP_ERR_FORMAT);
    wire_put_bytes(out, "0123456789abcdef", 16);
    wire_put_u8(out, after == 0);
    put_wire(out);
    if (after == 0)
        put_wire(out);
}

/* Seven bytes a frame: the client gets one answer. */
static void reply_part(struct wire_in *body, struct wire_out *out)
{
    static const char whole[] = "\0\0\0\x08"
                                "envelope\0\0\0\x03"
                                "box";
    const uint32_t total = sizeof(whole) - 1;
    uint32_t offset = wire_get_u32(body), left = total - offset;
    wire_put_u32(out, total);
    wire_put_bytes(out, whole + offset, left < 7 ? left : 7);
}

/* With a token: false: no answer, ever. */
static bool reply_session(uint16_t type, struct wire_in *body, struct wire_out *out)
{
    static const uint8_t good[32] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                     1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const uint8_t *token = wire_get_bytes(body, 32), *id = NULL;
    if (memcmp(token, good, 32) != 0) {
        wire_put_u8(out, SP_ERR_DENIED);
        return true;
    }
    if (type == SW_PIECE || type == SW_MESSAGE || type == SW_DELETE)
        id = wire_get_bytes(body, 16);
    if (id != NULL && id[0] == 0xee)
        return false;
    if (id != NULL && id[0] == 0xdd)
        usleep(100000);
    if (id != NULL && id[0] == 0x44)
        wire_put_u8(out, SP_ERR_NOT_FOUND);
    else if (type == SW_PIECE)
        reply_piece(body, out);
    else if (type == SW_LIST)
        reply_list(body, out);
    else if (type == SW_CHAIN_GET)
        reply_chain(body, out);
    else
        wire_put_u8(out, SP_OK);
    if (type == SW_MESSAGE && id[0] != 0x44)
        reply_part(body, out);
    return true;
}

static void play_store(int sock)
{
    static uint8_t in[IPC_HEADER + IPC_MAX_PAYLOAD], buf[IPC_MAX_PAYLOAD];
    struct ipc_frame frame;
    struct wire_out out = wire_out(buf, sizeof(buf));
    bool answers = true;
    if (ipc_recv(sock, in, sizeof(in), &frame) != SP_OK)
        _exit(0);
    if (frame.type == SW_CHALLENGE || frame.type == SW_LOGIN || frame.type == SW_ENROLL) {
        bool refused = frame.type == SW_LOGIN && frame.body.at[0] != 'u';
        wire_put_u8(&out, refused ? SP_ERR_AUTH : SP_OK);
        if (!refused)
            wire_put_bytes(&out, "0123456789abcdef0123456789abcdef0123",
                           frame.type == SW_CHALLENGE ? 32
                           : frame.type == SW_LOGIN   ? 36
                                                      : 16);
    } else {
        answers = reply_session(frame.type, &frame.body, &out);
    }
    if (answers)
        ipc_send_fd(sock, frame.type | 0x80, frame.id, buf, out.len, -1);
}

static void play_keeper(int sock, EVP_PKEY *key)
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

static void play(int store, int keeper, EVP_PKEY *key)
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

static void on_term(evutil_socket_t fd, short what, void *arg)
{
    struct role *role = arg;
    (void)fd, (void)what;
    web_role.stop(role);
}

static void run_role(char *pem, size_t len)
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

static size_t make_certificate(EVP_PKEY **key, char **pem)
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

static int make_listener(void)
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
static void place(int store, int keeper, int listener)
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

static int set_up(void **state)
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

static int tear_down(void **state)
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

static int dial(void)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static SSL *dial_tls(void)
{
    SSL *ssl = SSL_new(client);
    SSL_set_fd(ssl, dial());
    assert_int_equal(SSL_connect(ssl), 1);
    return ssl;
}

static void hang_up(SSL *ssl)
{
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
}

static size_t read_all(SSL *ssl)
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
static int ask(const char *request, ...)
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

static bool has(const char *text)
{
    return strstr(answer, text) != NULL;
}

static const char *body(void)
{
    const char *end = strstr(answer, "\r\n\r\n");
    return end != NULL ? end + 4 : "";
}

#define REST " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"

static void test_simple(void **state)
{
    (void)state;
    assert_int_equal(ask("GET /healthz" REST "\r\n"), 200);
    assert_string_equal(body(), "ok");
    static const char *const always[] = {
        "Cache-Control: no-store", "X-Content-Type-Options: nosniff",
        "Strict-Transport-Security: ", "no-referrer", "default-src 'none'"};
    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
        assert_true(has(always[i]));
    assert_false(has("Server:"));
    assert_int_equal(ask("HEAD /healthz" REST "\r\n"), 200);
    assert_string_equal(body(), "");
    assert_true(has("Content-Length: 2\r\n"));
    assert_int_equal(ask("GET /v1/info" REST "\r\n"), 200);
    assert_true(has("\"domains\":[\"example.org\"]"));
    assert_true(has("\"url\":\"https://mail.example.org\""));
    assert_int_equal(ask("GET /" REST "\r\n"), 404);
    assert_true(has("default-src 'none'"));
    assert_int_equal(ask("GET /healthz?x=1" REST "\r\n"), 400);
}

#define LINK "/m/F6yeHQOA3mkJBaXRk3ft-g"

/* The link page: the same for every link, under policies of its own; its parts for ever. */
static void test_page(void **state)
{
    static const char *const policy[] = {
        "Cache-Control: no-store\r\n", "Cross-Origin-Opener-Policy: same-origin\r\n",
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'\r\n",
        "Content-Type: text/html; charset=utf-8\r\n", "Referrer-Policy: no-referrer\r\n"};
    static const char *const same[] = {"/m/AAAAAAAAAAAAAAAAAAAAAA", LINK "%23a.b", LINK "%2523a.b"};
    char path[128], tag[64], first[8192];
    (void)state;
    assert_int_equal(ask("GET " LINK REST "\r\n"), 200);
    for (size_t i = 0; i < sizeof(policy) / sizeof(policy[0]); i++)
        assert_true(has(policy[i]));
    assert_null(strstr(strstr(answer, "Content-Security-Policy") + 1, "Content-Security-Policy"));
    assert_true(strlen(body()) < sizeof(first));
    strcpy(first, body());
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        assert_int_equal(ask("GET %s" REST "\r\n", same[i]), 200);
        assert_string_equal(body(), first);
    }
    assert_int_equal(ask("GET " LINK "x" REST "\r\n"), 404);
    assert_true(has("<html") && has("trusted-types 'none'"));
    assert_int_equal(ask("POST " LINK REST "\r\n"), 405);
    assert_true(has("Allow: GET, HEAD\r\n"));

    const char *at = strstr(first, "/page/");
    snprintf(path, sizeof(path), "%.*s/sealed.js", (int)strcspn(at + 6, "/") + 6, at);
    assert_int_equal(ask("GET %s" REST "\r\n", path), 200);
    assert_true(has("immutable\r\n") && has("Content-Type: text/javascript"));
    assert_false(has("no-store"));
    assert_int_equal(sscanf(strstr(answer, "ETag: "), "ETag: %63[^\r]", tag), 1);
    assert_int_equal(ask("GET %s" REST "If-None-Match: %s\r\n\r\n", path, tag), 304);
    assert_string_equal(body(), "");
    assert_int_equal(ask("GET %s" REST "If-None-Match: \"x\"\r\n\r\n", path), 200);
    assert_int_equal(ask("GET %sx" REST "\r\n", path), 404);
    path[7] ^= 1; /* of another build */
    assert_int_equal(ask("GET %s" REST "\r\n", path), 404);
}

static void test_methods(void **state)
{
    (void)state;
    assert_int_equal(ask("POST /healthz" REST "\r\n"), 405);
    assert_true(has("Allow: GET, HEAD\r\n"));
    assert_int_equal(ask("PUT " MESSAGE REST "\r\n"), 405);
    assert_true(has("Allow: GET, HEAD, DELETE\r\n"));
    assert_int_equal(ask("BREW /v1/challenge" REST "\r\n"), 405);
    assert_true(has("Allow: POST\r\n"));
    assert_int_equal(ask("BREW /" REST "\r\n"), 404);
    assert_int_equal(ask("OPTIONS *" REST "\r\n"), 400);
    assert_int_equal(ask("GET http://other/healthz" REST "\r\n"), 400);
}

static void test_malformed(void **state)
{
    char big[9000];
    (void)state;
    memset(big, 'x', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    assert_int_equal(ask("GET /healthz" REST "X: %s\r\n\r\n", big), 400);
    int code = ask("GET /%s" REST "\r\n", big);
    assert_true(code == 0 || code == 400 || code == 413 || code == 414);
    big[3000] = '\0';
    assert_int_equal(ask("GET /%s" REST "\r\n", big), 414);
    assert_true(has("Connection: close"));
    assert_int_equal(ask("GET /healthz" REST "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
                     400);
    assert_int_equal(ask("POST /v1/challenge" REST "Content-Length: 5\r\n\r\nhello"), 413);
    assert_int_equal(ask("POST /v1/challenge" REST "Content-Length: 99999999\r\n\r\n"), 413);
    assert_int_equal(ask("POST /v1/challenge" REST "Content-Length: -1\r\n\r\n"), 400);
    assert_int_equal(ask("GARBAGE\r\n\r\n"), 400);
}

static void test_public(void **state)
{
    (void)state;
    char login[129];
    memset(login, 'u', 128);
    login[128] = '\0';
    assert_int_equal(ask("POST /v1/challenge" REST "Content-Length: 0\r\n\r\n"), 200);
    assert_string_equal(body(), "0123456789abcdef0123456789abcdef");
    assert_int_equal(ask("POST /v1/session" REST "Content-Length: 128\r\n\r\n%s", login), 200);
    assert_int_equal(strlen(body()), 36);
    login[0] = 'x';
    assert_int_equal(ask("POST /v1/session" REST "Content-Length: 128\r\n\r\n%s", login), 403);
    assert_int_equal(ask("POST /v1/session" REST "Content-Length: 127\r\n\r\n%.127s", login), 400);
    assert_int_equal(ask("POST /v1/session" REST
                         "Transfer-Encoding: chunked\r\n\r\n80\r\n%s\r\n0\r\n\r\n",
                         login),
                     403);
    assert_int_equal(ask("POST /v1/enroll" REST "Content-Length: 2\r\n\r\nxx"), 400);
}

static void test_token(void **state)
{
    (void)state;
    assert_int_equal(ask("GET /v1/mailbox" REST "\r\n"), 401);
    assert_true(has("WWW-Authenticate: Sealpost-Session\r\n"));
    assert_int_equal(ask("GET /v1/mailbox" REST AUTH AUTH "\r\n"), 400);
    assert_int_equal(ask("GET /v1/mailbox" REST "Authorization: Sealpost-Session "
                         "AAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\r\n\r\n"),
                     401);
    assert_int_equal(ask("GET /v1/mailbox?limit=2&after=9" REST AUTH "\r\n"), 200);
    assert_true(has("\"seq\":11") && !has("\"seq\":12") && has("\"more\":true"));
    assert_true(has("\"id\":\"30313233343536373839616263646566\""));
    assert_int_equal(ask("GET /v1/mailbox" REST AUTH "\r\n"), 200);
    assert_true(has("\"seq\":5") && has("\"more\":false"));
    assert_true(has("\"seq\":1,") && has("\"sent\":true}") && has("\"sent\":false}"));
    assert_int_equal(ask("GET " MESSAGE REST AUTH "\r\n"), 200);
    assert_true(has("Content-Length: 19\r\n"));
    assert_memory_equal(body(),
                        "\0\0\0\x08"
                        "envelope\0\0\0\x03"
                        "box",
                        19);
    assert_int_equal(ask("HEAD " MESSAGE REST AUTH "\r\n"), 200);
    assert_true(has("Content-Length: 19\r\n"));
    assert_string_equal(body(), "");
    assert_int_equal(ask("GET " MISSING REST AUTH "\r\n"), 404);
    assert_int_equal(ask("DELETE " MESSAGE REST AUTH "\r\n"), 204);
    assert_int_equal(ask("DELETE /v1/session" REST AUTH "\r\n"), 204);
    assert_int_equal(ask("GET /v1/sigchain/a%%40example.org" REST AUTH "\r\n"), 200);
    assert_true(has("Content-Length: 232\r\n")); /* 16 + 3 * 72: two frames, one answer */
    assert_int_equal(
        ask("GET /v1/sigchain/by-id/0123456789abcdef0123456789abcdef" REST AUTH "\r\n"), 200);
    assert_true(has("Content-Length: 232\r\n"));
    assert_int_equal(ask("GET /v1/sigchain/by-id/0123456789" REST AUTH "\r\n"), 404);
    assert_int_equal(ask("POST /v1/sigchain" REST AUTH "Content-Length: 4\r\n\r\nwire"), 204);
}

static void check_piece(uint64_t first, uint64_t count)
{
    const uint8_t *b = (const uint8_t *)body();
    char length[64];
    snprintf(length, sizeof(length), "Content-Length: %u\r\n", (unsigned)count);
    assert_true(has(length));
    for (uint64_t i = 0; i < count; i++)
        if (b[i] != piece_byte(first + i))
            fail_msg("byte %u differs", (unsigned)i);
}

static void test_piece(void **state)
{
    (void)state;
    assert_int_equal(ask("GET " MESSAGE "/piece/0" REST AUTH "\r\n"), 200);
    assert_true(has("Accept-Ranges: bytes\r\n"));
    check_piece(0, TOTAL);
    assert_int_equal(ask("GET " MESSAGE "/piece/0" REST AUTH "Range: bytes=10-70009\r\n\r\n"), 206);
    assert_true(has("Content-Range: bytes 10-70009/300001\r\n"));
    check_piece(10, 70000);
    assert_int_equal(ask("GET " MESSAGE "/piece/0" REST AUTH "Range: bytes=-5\r\n\r\n"), 206);
    check_piece(TOTAL - 5, 5);
    assert_int_equal(ask("GET " MESSAGE "/piece/0" REST AUTH "Range: bytes=300001-\r\n\r\n"), 416);
    assert_true(has("Content-Range: bytes */300001\r\n"));
    assert_int_equal(ask("HEAD " MESSAGE "/piece/0" REST AUTH "\r\n"), 200);
    assert_true(has("Content-Length: 300001\r\n"));
    assert_string_equal(body(), "");
    assert_int_equal(ask("GET " MISSING "/piece/0" REST AUTH "\r\n"), 404);
}

/* Two requests in one write, answered in order on one connection. */
static void test_pipeline(void **state)
{
    (void)state;
    assert_int_equal(ask("GET " MISSING " HTTP/1.1\r\n" AUTH "\r\nGET /healthz" REST "\r\n"), 404);
    assert_true(has("HTTP/1.1 200 OK"));
}

static void test_vanish(void **state)
{
    static const char *const requests[] = {
        "GET " SLOW "/piece/0" REST AUTH "\r\n",
        "GET " MESSAGE "/piece/0" REST AUTH "\r\n",
        "GET " SLOW REST AUTH "\r\n",
        "GET /healthz HTTP/1.1\r\nX: ",
    };
    (void)state;
    for (int i = 0; i < 40; i++) {
        const char *request = requests[i % 4];
        SSL *ssl = dial_tls();
        SSL_write(ssl, request, (int)strlen(request));
        if (i % 8 == 1)
            SSL_read(ssl, answer, 1000); /* in the middle of a stream */
        hang_up(ssl);
    }
    assert_int_equal(ask("GET /healthz" REST "\r\n"), 200);
    assert_int_equal(ask("GET " SLOW REST AUTH "\r\n"), 200);
}

static void test_garbage(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        int fd = dial();
        if (i % 2 == 0)
            assert_true(write(fd, "GET / HTTP/1.1\r\n\r\n", 18) == 18);
        else
            assert_true(write(fd, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) == 11);
        close(fd);
    }
    assert_int_equal(ask("GET /healthz" REST "\r\n"), 200);
}

static void test_alpn(void **state)
{
    static const uint8_t both[] = "\x02h2\x08http/1.1", other[] = "\x02h2";
    const unsigned char *got;
    unsigned len;
    (void)state;
    SSL *ssl = SSL_new(client);
    SSL_set_alpn_protos(ssl, both, sizeof(both) - 1);
    SSL_set_fd(ssl, dial());
    assert_int_equal(SSL_connect(ssl), 1);
    SSL_get0_alpn_selected(ssl, &got, &len);
    assert_int_equal(len, 8);
    hang_up(ssl);
    ssl = SSL_new(client);
    SSL_set_alpn_protos(ssl, other, sizeof(other) - 1);
    SSL_set_fd(ssl, dial());
    assert_int_not_equal(SSL_connect(ssl), 1);
    hang_up(ssl);
    ssl = SSL_new(client);
    SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
    SSL_set_fd(ssl, dial());
    assert_int_equal(SSL_connect(ssl), 1);
    hang_up(ssl);
    ERR_clear_error();
}

/* The store never answers 256 questions: the next one is told to come again. */
static void test_busy(void **state)
{
    static SSL *waiting[256];
    (void)state;
    for (size_t i = 0; i < 256; i++) {
        waiting[i] = dial_tls();
        static const char request[] = "GET " NEVER REST AUTH "\r\n";
        assert_int_equal(SSL_write(waiting[i], request, sizeof(request) - 1), sizeof(request) - 1);
    }
    int code = 0;
    for (int i = 0; i < 100 && code != 503; i++) {
        usleep(10000); /* until the last of them has arrived */
        code = ask("GET " MISSING REST AUTH "\r\n");
    }
    assert_int_equal(code, 503);
    assert_true(has("Retry-After: 2\r\n"));
    assert_int_equal(ask("GET /healthz" REST "\r\n"), 200);
    for (size_t i = 0; i < 256; i++)
        hang_up(waiting[i]);
    assert_int_equal(ask("GET /healthz" REST "\r\n"), 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_simple),  cmocka_unit_test(test_page),
        cmocka_unit_test(test_methods), cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_public),  cmocka_unit_test(test_token),
        cmocka_unit_test(test_piece),   cmocka_unit_test(test_pipeline),
        cmocka_unit_test(test_vanish),  cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_alpn),    cmocka_unit_test(test_busy),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
