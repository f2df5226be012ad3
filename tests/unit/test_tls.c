/* TLS with the key in another process: handshakes of every kind of key and version against plain
 * OpenSSL clients, the context made before a fork and after it; the key cannot be exported. */
#include "daemon/ipc.h"
#include "daemon/keeper/signer.h"
#include "daemon/messages.h"
#include "daemon/tls.h"
#include "daemon/tls_provider.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/encoder.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct pair {
    const char *name;
    char *chain, *key; /* PEM */
};

static struct pair pairs[] = {{.name = "RSA-2048"},
                              {.name = "RSA-4096"},
                              {.name = "P-256"},
                              {.name = "P-384"},
                              {.name = "ED25519"}};
#define N_PAIRS (sizeof(pairs) / sizeof(pairs[0]))

static EVP_PKEY *make_key(const char *name)
{
    if (strncmp(name, "RSA-", 4) == 0)
        return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)atoi(name + 4));
    if (strcmp(name, "ED25519") == 0)
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return EVP_PKEY_Q_keygen(NULL, NULL, "EC", name);
}

static char *bio_text(BIO *bio)
{
    char *at;
    long len = BIO_get_mem_data(bio, &at);
    char *copy = strndup(at, (size_t)len);
    BIO_free(bio);
    return copy;
}

static void make_pair(struct pair *p)
{
    EVP_PKEY *key = make_key(p->name);
    X509 *cert = X509_new();
    BIO *chain = BIO_new(BIO_s_mem()), *secret = BIO_new(BIO_s_mem());
    assert_non_null(key);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"mx.test", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    assert_true(X509_sign(cert, key, strcmp(p->name, "ED25519") == 0 ? NULL : EVP_sha256()) > 0);
    PEM_write_bio_X509(chain, cert);
    PEM_write_bio_PrivateKey(secret, key, NULL, NULL, 0, NULL, NULL);
    p->chain = bio_text(chain);
    p->key = bio_text(secret);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static int make_pairs(void **state)
{
    (void)state;
    assert_int_equal(tls_init(), SP_OK);
    for (size_t i = 0; i < N_PAIRS; i++)
        make_pair(&pairs[i]);
    return 0;
}

static int free_pairs(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_PAIRS; i++) {
        free(pairs[i].chain);
        free(pairs[i].key);
    }
    return 0;
}

/* What the keeper does, in a loop: decode, check, sign. Its exit status is the number of refusals.
 */
static pid_t fork_keeper(const char *pem, int fd[2])
{
    static uint8_t buf[IPC_HEADER + 1024];
    struct signer *signer;
    struct ipc_frame frame;
    int refused = 0;
    assert_int_equal(ipc_pair(fd), SP_OK);
    pid_t pid = fork();
    if (pid != 0) {
        close(fd[1]);
        return pid;
    }
    close(fd[0]);
    if (signer_load(pem, strlen(pem), &signer) != SP_OK)
        _exit(99);
    while (ipc_recv(fd[1], buf, sizeof(buf), &frame) == SP_OK) {
        struct signable_request request;
        uint8_t sig[SIGNER_MAX], reply[3 + SIGNER_MAX];
        struct wire_out out = wire_out(reply, sizeof(reply));
        size_t len = 0;
        enum sp_err err = signable_decode(&frame.body, signer_key(signer), &request);
        if (err == SP_OK)
            err = signer_sign(signer, &request, sig, &len);
        wire_put_u8(&out, (uint8_t)err);
        if (err == SP_OK)
            wire_put_b16(&out, sig, len);
        else
            refused++;
        ipc_send_fd(fd[1], SK_SIGN_REPLY, frame.id, reply, out.len, -1);
    }
    signer_free(signer);
    _exit(refused);
}

static int end_child(pid_t pid)
{
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* The far side: a client of the given version that trusts this very certificate; sends one line. */
static pid_t fork_client(int sock, int version, const char *chain, const char *groups)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    BIO *bio = BIO_new_mem_buf(chain, -1);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), cert);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_min_proto_version(ctx, version);
    SSL_CTX_set_max_proto_version(ctx, version);
    if (groups != NULL)
        SSL_CTX_set1_groups_list(ctx, groups);
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, sock);
    char line[8];
    int ok = SSL_connect(ssl) == 1 && SSL_write(ssl, "hello\n", 6) == 6 &&
             SSL_read(ssl, line, sizeof(line)) == 3 && SSL_session_reused(ssl) == 0;
    SSL_shutdown(ssl);
    SSL_free(ssl);
    X509_free(cert);
    BIO_free(bio);
    SSL_CTX_free(ctx);
    _exit(ok ? 0 : 1);
}

static bool serve(SSL_CTX *ctx, int sock)
{
    char line[16384];
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, sock);
    bool ok = SSL_accept(ssl) == 1 && SSL_read(ssl, line, sizeof(line)) == 6 &&
              memcmp(line, "hello\n", 6) == 0 && SSL_write(ssl, "bye", 3) == 3;
    if (ok)
        SSL_shutdown(ssl);
    SSL_free(ssl);
    return ok;
}

static void handshake(const struct pair *p, int version, const char *groups, bool fork_server)
{
    int sock[2], channel[2];
    SSL_CTX *ctx;
    assert_int_equal(tls_server_new(p->chain, strlen(p->chain), &ctx), SP_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
    pid_t keeper = fork_keeper(p->key, channel);
    pid_t client = fork_client(sock[1], version, p->chain, groups);
    close(sock[1]);
    if (fork_server) { /* as a session: the context is the parent's, the channel is its own */
        pid_t server = fork();
        if (server == 0) {
            tls_set_keeper(channel[0]);
            _exit(serve(ctx, sock[0]) ? 0 : 1);
        }
        assert_int_equal(end_child(server), 0);
    } else {
        tls_set_keeper(channel[0]);
        assert_true(serve(ctx, sock[0]));
        tls_set_keeper(-1);
    }
    close(sock[0]);
    close(channel[0]);
    assert_int_equal(end_child(client), 0);
    assert_int_equal(end_child(keeper), 0);
    SSL_CTX_free(ctx);
}

static void test_handshakes(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_PAIRS; i++)
        for (int forked = 0; forked < 2; forked++) {
            handshake(&pairs[i], TLS1_2_VERSION, NULL, forked);
            handshake(&pairs[i], TLS1_3_VERSION, NULL, forked);
        }
}

static void test_groups(void **state)
{
    static const char *const groups[] = {"X25519", "P-256", "P-384"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        handshake(&pairs[0], TLS1_2_VERSION, groups[i], true);
        handshake(&pairs[0], TLS1_3_VERSION, groups[i], true);
    }
}

/* Without a keeper, with one that is gone, or with one that has another key, there is no TLS. */
static void no_handshake(int fd)
{
    int sock[2];
    SSL_CTX *ctx;
    assert_int_equal(tls_server_new(pairs[2].chain, strlen(pairs[2].chain), &ctx), SP_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
    pid_t client = fork_client(sock[1], TLS1_3_VERSION, pairs[2].chain, NULL);
    close(sock[1]);
    tls_set_keeper(fd);
    assert_false(serve(ctx, sock[0]));
    close(sock[0]);
    assert_int_equal(end_child(client), 1);
    SSL_CTX_free(ctx);
}

static void test_no_keeper(void **state)
{
    int fd[2];
    (void)state;
    no_handshake(-1);
    assert_int_equal(ipc_pair(fd), SP_OK);
    close(fd[1]);
    no_handshake(fd[0]);
    assert_true(tls_keeper_lost());
    close(fd[0]);
    pid_t keeper = fork_keeper(pairs[0].key, fd);
    no_handshake(fd[0]);
    assert_false(tls_keeper_lost());
    tls_set_keeper(-1);
    close(fd[0]);
    assert_int_equal(end_child(keeper), 1);
}

static void test_refused_requests(void **state)
{
    int fd[2];
    uint8_t sig[TLS_SIGNATURE_MAX];
    size_t len;
    (void)state;
    pid_t keeper = fork_keeper(pairs[2].key, fd);
    tls_set_keeper(fd[0]);
    assert_int_equal(tls_remote_sign("ECDSA", "SHA256", (const uint8_t *)"transfer", 8, sig, &len),
                     SP_ERR_DENIED);
    assert_int_equal(len, 0);
    tls_set_keeper(-1);
    close(fd[0]);
    assert_int_equal(end_child(keeper), 1);
}

/* The remote key has no private half, and no way to hand out what it has. */
static void test_no_export(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_PAIRS; i++) {
        SSL_CTX *ctx;
        OSSL_PARAM *params = NULL;
        BIGNUM *d = NULL;
        uint8_t raw[64];
        size_t len = sizeof(raw);
        assert_int_equal(tls_server_new(pairs[i].chain, strlen(pairs[i].chain), &ctx), SP_OK);
        EVP_PKEY *key = SSL_CTX_get0_privatekey(ctx);
        BIO *out = BIO_new(BIO_s_mem());
        assert_non_null(key);
        assert_int_not_equal(EVP_PKEY_todata(key, EVP_PKEY_KEYPAIR, &params), 1);
        assert_int_not_equal(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &d), 1);
        assert_int_not_equal(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_D, &d), 1);
        assert_int_not_equal(EVP_PKEY_get_raw_private_key(key, raw, &len), 1);
        assert_int_not_equal(PEM_write_bio_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL), 1);
        assert_int_equal(BIO_pending(out), 0);
        BIO_free(out);
        SSL_CTX_free(ctx);
    }
}

static void test_bad_chains(void **state)
{
    SSL_CTX *ctx;
    (void)state;
    struct pair small = {.name = "RSA-1024"};
    struct pair curve = {.name = "P-521"};
    make_pair(&small);
    make_pair(&curve);
    assert_int_equal(tls_server_new("", 0, &ctx), SP_ERR_FORMAT);
    assert_null(ctx);
    assert_int_equal(tls_server_new("hello", 5, &ctx), SP_ERR_FORMAT);
    assert_int_equal(tls_server_new(small.chain, strlen(small.chain), &ctx), SP_ERR_DENIED);
    assert_int_equal(tls_server_new(curve.chain, strlen(curve.chain), &ctx), SP_ERR_DENIED);
    assert_int_equal(tls_server_new(pairs[0].chain, strlen(pairs[0].chain) / 2, &ctx),
                     SP_ERR_FORMAT);
    struct signer *signer;
    assert_int_equal(signer_load(small.key, strlen(small.key), &signer), SP_ERR_DENIED);
    assert_int_equal(signer_load(curve.key, strlen(curve.key), &signer), SP_ERR_DENIED);
    assert_int_equal(signer_load("x", 1, &signer), SP_ERR_FORMAT);
    assert_null(signer);
    free(small.chain);
    free(small.key);
    free(curve.chain);
    free(curve.key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshakes), cmocka_unit_test(test_groups),
        cmocka_unit_test(test_no_keeper),  cmocka_unit_test(test_refused_requests),
        cmocka_unit_test(test_no_export),  cmocka_unit_test(test_bad_chains),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, make_pairs, free_pairs);
}
