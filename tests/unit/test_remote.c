/* Connections of the relay: refused, silent, dripping, stalled; how each kind of end is told from
 * the others; nothing of the other side's words is left when it is over. */
#include "daemon/relay/remote.h"
#include "daemon/tls.h"
#include "tests/unit/scripted.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>

static const uint8_t loopback[] = {127, 0, 0, 1};

/* A listener on this address; its port. */
static int listen_on(int family, int backlog, uint16_t *port)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } at = {.in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT}};
    socklen_t len = sizeof(at);
    if (family == AF_INET)
        at.in =
            (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, &at.any, family == AF_INET ? sizeof(at.in) : sizeof(at.in6)), 0);
    assert_int_equal(listen(fd, backlog), 0);
    assert_int_equal(getsockname(fd, &at.any, &len), 0);
    *port = ntohs(family == AF_INET ? at.in.sin_port : at.in6.sin6_port);
    return fd;
}

static void test_connect(void **state)
{
    (void)state;
    static const uint8_t six[16] = {[15] = 1};
    struct remote r;
    uint16_t port;
    for (int i = 0; i < 2; i++) {
        int fd = listen_on(i ? AF_INET6 : AF_INET, 1, &port);
        assert_int_equal(remote_connect(&r, i ? six : loopback, i ? 16 : 4, port, 5000, 0, NULL),
                         SP_OK);
        assert_int_equal(r.end, REMOTE_OPEN);
        remote_close(&r);
        close(fd);
        assert_int_equal(remote_connect(&r, i ? six : loopback, i ? 16 : 4, port, 5000, 0, NULL),
                         SP_ERR_SYSTEM);
        assert_int_equal(errno, ECONNREFUSED);
        assert_int_equal(r.fd, -1);
    }
    assert_int_equal(remote_connect(&r, loopback, 3, 25, 5000, 0, NULL), SP_ERR_FORMAT);
    remote_close(&r);
    remote_close(&r);
}

/* A full queue of connections: SYNs go unanswered. */
static void test_connect_to_silence(void **state)
{
    (void)state;
    struct remote r, others[8];
    volatile sig_atomic_t stop = 0;
    uint16_t port;
    enum sp_err err = SP_OK;
    int fd = listen_on(AF_INET, 0, &port), n = 0;
    while (err == SP_OK && n < 8)
        err = remote_connect(&others[n++], loopback, 4, port, 300, 0, NULL);
    assert_int_equal(err, SP_ERR_EXPIRED);
    assert_int_equal(remote_connect(&r, loopback, 4, port, 60000, 50, NULL), SP_ERR_EXPIRED);
    stop = 1;
    assert_int_equal(remote_connect(&r, loopback, 4, port, 60000, 0, &stop), SP_ERR_STATE);
    while (n > 0)
        remote_close(&others[--n]);
    close(fd);
}

static void make_pair(struct remote *r, int *far, uint64_t whole_ms)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    remote_adopt(r, pair[0], whole_ms, NULL);
    *far = pair[1];
}

static void test_read(void **state)
{
    (void)state;
    struct remote r;
    int far;
    bool came;
    make_pair(&r, &far, 0);
    /* Without a step there is no time. */
    assert_int_equal(remote_fill(&r), SP_ERR_EXPIRED);
    remote_step(&r, 20);
    assert_int_equal(remote_fill(&r), SP_ERR_EXPIRED);
    remote_step(&r, 5000);
    assert_int_equal(remote_early(&r, &came), SP_OK);
    assert_false(came);
    assert_int_equal(write(far, "hello", 5), 5);
    assert_int_equal(remote_fill(&r), SP_OK);
    assert_int_equal(r.len - r.at, 5);
    assert_memory_equal(r.in + r.at, "hello", 5);
    assert_int_equal(remote_early(&r, &came), SP_OK);
    assert_true(came);
    assert_int_equal(remote_fill(&r), SP_ERR_STATE); /* what is there goes first */
    r.at = r.len;
    assert_int_equal(write(far, "more", 4), 4);
    assert_int_equal(remote_early(&r, &came), SP_OK);
    assert_true(came);
    assert_memory_equal(r.in + r.at, "more", 4);
    r.at = r.len;
    close(far);
    assert_int_equal(remote_early(&r, &came), SP_ERR_PEER);
    assert_false(came);
    assert_int_equal(r.end, REMOTE_CLOSED);
    assert_int_equal(remote_fill(&r), SP_ERR_PEER);
    assert_int_equal(remote_write(&r, "x", 1), SP_ERR_PEER);
    assert_memory_equal(r.in, "moreo", 5);
    remote_close(&r);
    assert_memory_equal(r.in, "\0\0\0\0\0", 5);
}

struct drip {
    int fd;
    volatile bool end;
};

static void *drip(void *arg)
{
    struct drip *d = arg;
    while (!d->end && send(d->fd, ".", 1, MSG_NOSIGNAL) == 1)
        usleep(2000);
    return NULL;
}

/* One byte after the other does not make a step longer. */
static void test_drip(void **state)
{
    (void)state;
    struct remote r;
    struct drip d = {.fd = -1};
    pthread_t thread;
    make_pair(&r, &d.fd, 0);
    pthread_create(&thread, NULL, drip, &d);
    remote_step(&r, 100);
    enum sp_err err = SP_OK;
    while (err == SP_OK) {
        r.at = r.len;
        err = remote_fill(&r);
    }
    assert_int_equal(err, SP_ERR_EXPIRED);
    d.end = true;
    remote_close(&r);
    pthread_join(thread, NULL);
    close(d.fd);
}

static void test_stalled(void **state)
{
    (void)state;
    static uint8_t much[1 << 20];
    struct remote r;
    int far;
    make_pair(&r, &far, 0);
    remote_step(&r, 50);
    enum sp_err err = SP_OK;
    while (err == SP_OK)
        err = remote_write(&r, much, sizeof(much));
    assert_int_equal(err, SP_ERR_EXPIRED);
    remote_close(&r);
    close(far);
    /* The whole deadline ends a step before its time, unless it is on hold. */
    make_pair(&r, &far, 30);
    remote_step(&r, 60000);
    assert_int_equal(remote_fill(&r), SP_ERR_EXPIRED);
    remote_hold(&r, true);
    assert_int_equal(write(far, "x", 1), 1);
    assert_int_equal(remote_fill(&r), SP_OK);
    remote_hold(&r, false);
    r.at = r.len;
    assert_int_equal(remote_fill(&r), SP_ERR_EXPIRED);
    remote_close(&r);
    close(far);
}

/* --- TLS --- */

static struct {
    EVP_PKEY *key;
    X509 *cert;
    SSL_CTX *server, *client;
} tls;

static int make_tls(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(tls_init(), SP_OK);
    tls.key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    tls.cert = scripted_cert(tls.key, "DNS:mx.test", NULL, NULL, 3600);
    tls.server = scripted_tls_new(tls.cert, tls.key);
    assert_int_equal(remote_tls_new(NULL, &tls.client), SP_OK);
    return 0;
}

static int free_tls(void **state)
{
    (void)state;
    SSL_CTX_free(tls.server);
    SSL_CTX_free(tls.client);
    X509_free(tls.cert);
    EVP_PKEY_free(tls.key);
    return 0;
}

static enum sp_err start_tls(struct scripted *s, const char *const *script, struct remote *r,
                             const char *name, bool must_verify)
{
    scripted_start(s, script, tls.server);
    assert_int_equal(remote_connect(r, loopback, 4, s->port, 5000, 20000, NULL), SP_OK);
    remote_step(r, 10000);
    return remote_start_tls(r, tls.client, name, must_verify);
}

static void end_tls(struct scripted *s, struct remote *r)
{
    remote_close(r);
    scripted_join(s);
    scripted_free(s);
}

/* close_notify, and the same without it. */
static void test_tls_ends(void **state)
{
    (void)state;
    static const char *const scripts[][4] = {{"! tls", "! raw hi", "! close", NULL},
                                             {"! tls", "! raw hi", "! cut", NULL}};
    for (int i = 0; i < 2; i++) {
        struct scripted s;
        struct remote r;
        assert_int_equal(start_tls(&s, scripts[i], &r, "mx.test", false), SP_OK);
        assert_int_equal(r.tls, REMOTE_ENCRYPTED);
        assert_int_equal(remote_fill(&r), SP_OK);
        assert_memory_equal(r.in, "hi", 2);
        r.at = r.len;
        assert_int_equal(remote_fill(&r), SP_ERR_PEER);
        assert_int_equal(r.end, i == 0 ? REMOTE_CLOSED : REMOTE_CUT);
        end_tls(&s, &r);
        assert_string_equal(s.error, "");
    }
}

static void test_tls_refused(void **state)
{
    (void)state;
    const char *const script[] = {"! tls", "! end", NULL};
    struct scripted s;
    struct remote r;
    assert_int_equal(start_tls(&s, script, &r, "mx.test", true), SP_ERR_AUTH);
    assert_true(r.why[0] != '\0');
    assert_int_equal(r.tls, REMOTE_CLEAR);
    assert_int_equal(remote_write(&r, "secret", 6), SP_ERR_PEER);
    end_tls(&s, &r);
    assert_int_equal(start_tls(&s, script, &r, "", false), SP_ERR_FORMAT);
    assert_int_equal(remote_write(&r, "secret", 6), SP_ERR_PEER);
    end_tls(&s, &r);
    /* What came in the clear must not count as come under TLS. */
    scripted_start(&s, (const char *const[]){"! raw x", "! end", NULL}, tls.server);
    assert_int_equal(remote_connect(&r, loopback, 4, s.port, 5000, 20000, NULL), SP_OK);
    remote_step(&r, 10000);
    assert_int_equal(remote_fill(&r), SP_OK);
    assert_int_equal(remote_start_tls(&r, tls.client, "mx.test", false), SP_ERR_FORMAT);
    end_tls(&s, &r);
}

/* TLS 1.1 and older are refused; RSA key exchange and old suites are taken where any certificate
 * is, since the alternative is no encryption at all, and refused where it must verify. */
static void test_tls_versions(void **state)
{
    (void)state;
    static const struct {
        int version;
        const char *suites;
        bool loose, strict;
    } cases[] = {
        {TLS1_1_VERSION, "ALL:@SECLEVEL=0", false, false},
        {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0", true, false},
        {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", true, true},
        {TLS1_2_VERSION, "eNULL:@SECLEVEL=0", false, false},
        {TLS1_2_VERSION, "aNULL:@SECLEVEL=0", false, false},
        {TLS1_3_VERSION, NULL, true, true},
    };
    X509_STORE *store = X509_STORE_new();
    SSL_CTX *trusting;
    X509_STORE_add_cert(store, tls.cert);
    assert_int_equal(remote_tls_new(store, &trusting), SP_OK);
    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        const char *const script[] = {"! tls", "! end", NULL};
        bool strict = i % 2;
        struct scripted s;
        struct remote r;
        SSL_CTX *server = scripted_tls_new(tls.cert, tls.key), *others = tls.server;
        SSL_CTX_set_min_proto_version(server, cases[i / 2].version);
        SSL_CTX_set_max_proto_version(server, cases[i / 2].version);
        if (cases[i / 2].suites != NULL)
            assert_int_equal(SSL_CTX_set_cipher_list(server, cases[i / 2].suites), 1);
        SSL_CTX *client = tls.client;
        tls.server = server;
        tls.client = trusting;
        enum sp_err err = start_tls(&s, script, &r, "mx.test", strict);
        assert_int_equal(err == SP_OK, strict ? cases[i / 2].strict : cases[i / 2].loose);
        if (err == SP_OK)
            assert_int_equal(r.tls, REMOTE_VERIFIED);
        tls.server = others;
        tls.client = client;
        end_tls(&s, &r);
        SSL_CTX_free(server);
    }
    SSL_CTX_free(trusting);
    X509_STORE_free(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connect),     cmocka_unit_test(test_connect_to_silence),
        cmocka_unit_test(test_read),        cmocka_unit_test(test_drip),
        cmocka_unit_test(test_stalled),     cmocka_unit_test(test_tls_ends),
        cmocka_unit_test(test_tls_refused), cmocka_unit_test(test_tls_versions),
    };
    return cmocka_run_group_tests(tests, make_tls, free_tls);
}
