/* The other half of P10: inside their cages the libraries that the roles live on still do their
 * work. A TLS session, HTTPS by libevent, LMDB, locked memory: all in the real cage, after the
 * filter. */
#include "sandbox/lockmem.h"
#include "sandbox/steps.h"
#include "tests/unit/caged.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <lmdb.h>
#include <netinet/in.h>
#include <openssl/ec.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
// clang-format off
#include <cmocka.h>
// clang-format on

/* For the sanitizer itself: the shadow of a large mapping that goes is overwritten, not handed back
 * by advice to the kernel, which newer sanitizers give and no cage allows. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "clear_shadow_mmap_threshold=1073741824";
}

#define FD_LISTEN 5

struct job {
    const char *row;
    bool (*prepare)(struct job *job); /* in the cage, without the filter */
    bool (*work)(struct job *job);    /* behind the filter */
    int root, port;
    SSL_CTX *tls;
    struct event_base *base;
    MDB_env *env;
};

static SSL_CTX *server_tls(void)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    bool good = X509_sign(cert, key, EVP_sha256()) != 0 &&
                SSL_CTX_use_certificate(tls, cert) == 1 && SSL_CTX_use_PrivateKey(tls, key) == 1;
    X509_free(cert);
    EVP_PKEY_free(key);
    if (!good)
        abort();
    return tls;
}

static enum sp_err prepare_job(void *ctx)
{
    struct job *job = ctx;
    return job->prepare == NULL || job->prepare(job) ? SP_OK : SP_ERR_SYSTEM;
}

static void job_role(struct job *job)
{
    const int keep[] = {FD_PEER, FD_TELL, job->port != 0 ? FD_LISTEN : FD_TELL};
    const char *step;
    struct cage cage = {.keep = keep,
                        .n_keep = 3,
                        .root = job->root,
                        .user_mode = true,
                        .prepare = prepare_job,
                        .ctx = job};
    if (sandbox_enter(policy_row(job->row), &cage, &step) != SP_OK) {
        tell(-1, errno, step);
        leave(1);
    }
    tell(0, 0, "caged");
    leave(job->work(job) ? 0 : 2);
}

/* In user mode, so that it runs for everybody; test_sandbox.c shows that the filter is the same. */
static void job_supervisor(void *ctx)
{
    const char *step;
    if (sandbox_user_namespace() != SP_OK || sandbox_supervisor(true, &step) != SP_OK ||
        unshare(CLONE_NEWPID) != 0)
        leave(5);
    pid_t pid = fork();
    if (pid == 0)
        job_role(ctx);
    exit_like(pid);
}

static void run_job(struct job *job, void (*client)(pid_t pid, int peer, void *ctx))
{
    char path[32];
    job->root = empty_directory(path);
    struct report report = run_child_watched(job_supervisor, job, client);
    if (report.exited != 0)
        print_error("%s: killed %d, \"%s\" errno %d\n", job->row, report.killed, report.text,
                    report.why);
    static const char *const files[] = {"data.mdb", "lock.mdb"};
    for (size_t i = 0; i < 2; i++)
        unlinkat(job->root, files[i], 0);
    close(job->root);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(report.exited, 0);
}

/* --- TLS, one connection, blocking. --- */

static bool tls_echo(struct job *job)
{
    char line[32];
    SSL *ssl = SSL_new(job->tls);
    if (ssl == NULL || SSL_set_fd(ssl, FD_PEER) != 1 || SSL_accept(ssl) != 1)
        return false;
    int n = SSL_read(ssl, line, sizeof(line));
    bool good = n > 0 && SSL_write(ssl, line, n) == n;
    SSL_shutdown(ssl);
    SSL_free(ssl);
    return good;
}

/* smtp's cage first, then the session's filter, as in a session. */
static bool session_work(struct job *job)
{
    struct sock_fprog *prog = (struct sock_fprog *)job->env;
    pid_t pid = fork();
    if (pid == 0) {
        bool good = sandbox_install(prog) == SP_OK && tls_echo(job);
        leave(good ? 0 : 3);
    }
    exit_like(pid);
    return false;
}

static bool session_prepare(struct job *job)
{
    static struct sock_fprog prog;
    job->env = (void *)&prog;
    return sandbox_compile(policy_row("session"), &prog) == SP_OK;
}

/* Says text over TLS on fd; what came back is in answer. */
static void tls_client(int fd, const char *text, char *answer, size_t cap)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(tls);
    size_t have = 0;
    int n;
    SSL_set_fd(ssl, fd);
    if (SSL_connect(ssl) == 1 && SSL_write(ssl, text, (int)strlen(text)) > 0)
        while (have + 1 < cap && (n = SSL_read(ssl, answer + have, (int)(cap - have - 1))) > 0)
            have += (size_t)n;
    answer[have] = 0;
    SSL_free(ssl);
    SSL_CTX_free(tls);
}

static void expect_echo(pid_t pid, int peer, void *ctx)
{
    char answer[64];
    (void)pid;
    (void)ctx;
    tls_client(peer, "through the filter", answer, sizeof(answer));
    assert_string_equal(answer, "through the filter");
}

static void tls_works_in_a_session(void **state)
{
    (void)state;
    struct job job = {.row = "smtp", .prepare = session_prepare, .work = session_work};
    job.tls = server_tls();
    run_job(&job, expect_echo);
    SSL_CTX_free(job.tls);
}

/* --- HTTPS by evhttp over OpenSSL. --- */

static struct bufferevent *tls_bufferevent(struct event_base *base, void *ctx)
{
    return bufferevent_openssl_socket_new(base, -1, SSL_new(((struct job *)ctx)->tls),
                                          BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
}

static void on_request(struct evhttp_request *request, void *ctx)
{
    struct evbuffer *body = evbuffer_new();
    static char big[100000];
    (void)ctx;
    memset(big, 'x', sizeof(big));
    evbuffer_add(body, big, sizeof(big));
    evhttp_add_header(evhttp_request_get_output_headers(request), "Connection", "close");
    evhttp_send_reply(request, 200, "OK", body);
    evbuffer_free(body);
}

static void on_peer_closed(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    event_base_loopexit(((struct job *)ctx)->base, NULL);
}

static bool web_prepare(struct job *job)
{
    struct event_base *base = job->base = event_base_new();
    struct evhttp *http = evhttp_new(base);
    evhttp_set_bevcb(http, tls_bufferevent, job);
    evhttp_set_gencb(http, on_request, NULL);
    struct event *end = event_new(base, FD_PEER, EV_READ, on_peer_closed, job);
    return event_add(end, NULL) == 0 && evhttp_accept_socket(http, FD_LISTEN) == 0;
}

static bool web_work(struct job *job)
{
    return event_base_dispatch(job->base) == 0;
}

static void expect_page(pid_t pid, int peer, void *ctx)
{
    static char answer[200000];
    (void)pid;
    (void)peer;
    for (int i = 0; i < 3; i++) {
        struct sockaddr_in to = {.sin_family = AF_INET};
        to.sin_port = htons((uint16_t)((struct job *)ctx)->port);
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
        tls_client(fd, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", answer, sizeof(answer));
        close(fd);
        assert_memory_equal(answer, "HTTP/1.1 200 OK", 15);
        assert_true(strlen(answer) > 100000);
    }
}

static void https_works_in_web(void **state)
{
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    int high = fcntl(fd, F_DUPFD, 40);
    close(fd);
    assert_int_equal(dup2(high, FD_LISTEN), FD_LISTEN);
    close(high);
    struct job job = {.row = "web", .prepare = web_prepare, .work = web_work};
    job.port = ntohs(at.sin_port);
    job.tls = server_tls();
    run_job(&job, expect_page);
    SSL_CTX_free(job.tls);
    close(FD_LISTEN);
}

/* --- LMDB, once open. --- */

static bool store_prepare(struct job *job)
{
    return mdb_env_create(&job->env) == 0 && mdb_env_set_mapsize(job->env, 16 << 20) == 0 &&
           mdb_env_open(job->env, "/", 0, 0600) == 0;
}

static int by_value(const void *a, const void *b)
{
    return memcmp(a, b, 8);
}

static bool store_work(struct job *job)
{
    static char bytes[70000];
    qsort(bytes, sizeof(bytes) / 8, 8, by_value);
    for (unsigned i = 0; i < 50; i++) {
        MDB_txn *txn;
        MDB_dbi dbi;
        MDB_val key = {sizeof(i), &i}, value = {sizeof(bytes) - i * 1000, bytes};
        if (mdb_txn_begin(job->env, NULL, 0, &txn) != 0 || mdb_dbi_open(txn, NULL, 0, &dbi) != 0 ||
            mdb_put(txn, dbi, &key, &value, 0) != 0 || mdb_txn_commit(txn) != 0 ||
            mdb_env_sync(job->env, 1) != 0)
            return false;
    }
    return mdb_env_set_mapsize(job->env, 32 << 20) == 0;
}

static void lmdb_works_in_store(void **state)
{
    (void)state;
    struct job job = {.row = "store", .prepare = store_prepare, .work = store_work};
    run_job(&job, NULL);
}

/* --- Locked memory, made as it is needed. --- */

static bool sealer_prepare(struct job *job)
{
    enum lockmem_kind kind;
    (void)job;
    return lockmem_init(LOCKMEM_NONE, &kind) == SP_OK;
}

static bool sealer_work(struct job *job)
{
    void *at, *again;
    int fd;
    (void)job;
    if (lockmem_create(65536, &fd, &at) != SP_OK || lockmem_map(fd, 65536, &again) != SP_OK)
        return false;
    memcpy(at, "slot", 4);
    bool good = memcmp(again, "slot", 4) == 0;
    lockmem_free(at, 65536);
    lockmem_free(again, 65536);
    return good;
}

static void slots_can_be_made_in_sealer(void **state)
{
    (void)state;
    struct job job = {.row = "sealer", .prepare = sealer_prepare, .work = sealer_work};
    run_job(&job, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tls_works_in_a_session),
        cmocka_unit_test(https_works_in_web),
        cmocka_unit_test(lmdb_works_in_store),
        cmocka_unit_test(slots_can_be_made_in_sealer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
