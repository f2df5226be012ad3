#ifndef SEALPOST_TEST_DIALOG_WORLD_H
#define SEALPOST_TEST_DIALOG_WORLD_H
/* One connection of the SMTP client to a scripted server, and what both files of tests ask of it.
 */
#include "daemon/relay/dialog.h"
#include "daemon/tls.h"
#include "tests/unit/scripted.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/pem.h>
#include <signal.h>

/* The certificates: of a CA that we believe, and of nobody. */
static struct {
    EVP_PKEY *ca_key, *key;
    X509 *ca;
    SSL_CTX *good, *other_name, *expired, *unknown; /* servers */
    SSL_CTX *client;
} tls;

static struct {
    struct scripted server;
    struct remote remote;
    struct dialog dialog;
    struct dialog_settings set;
    struct dialog_verdict v;
    volatile sig_atomic_t stop;
} w;

static inline SSL_CTX *server_tls(const char *names, X509 *ca, EVP_PKEY *ca_key, long seconds)
{
    X509 *cert = scripted_cert(tls.key, names, ca, ca_key, seconds);
    SSL_CTX *ctx = scripted_tls_new(cert, tls.key);
    X509_free(cert);
    return ctx;
}

static inline int make_world(void **state)
{
    (void)state;
    X509_STORE *store = NULL;
    BIO *pem = BIO_new(BIO_s_mem());
    char *text;
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(tls_init(), SP_OK);
    tls.ca_key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    tls.key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    tls.ca = scripted_cert(tls.ca_key, NULL, NULL, NULL, 3600);
    tls.good = server_tls("DNS:mx.test,IP:127.0.0.1", tls.ca, tls.ca_key, 3600);
    tls.other_name = server_tls("DNS:other.test", tls.ca, tls.ca_key, 3600);
    tls.expired = server_tls("DNS:mx.test", tls.ca, tls.ca_key, -60);
    tls.unknown = server_tls("DNS:mx.test", NULL, NULL, 3600);
    BIO_puts(pem, "# comment\n");
    PEM_write_bio_X509(pem, tls.ca);
    long len = BIO_get_mem_data(pem, &text);
    assert_int_equal(remote_store_new(text, (size_t)len, &store), SP_OK);
    assert_int_equal(remote_tls_new(store, &tls.client), SP_OK);
    X509_STORE_free(store);
    assert_int_equal(remote_store_new("nothing", 7, &store), SP_ERR_FORMAT);
    assert_null(store);
    text[len - 40] = '!';
    assert_int_equal(remote_store_new(text, (size_t)len, &store), SP_ERR_FORMAT);
    BIO_free(pem);
    return 0;
}

static inline int free_world(void **state)
{
    (void)state;
    SSL_CTX_free(tls.good);
    SSL_CTX_free(tls.other_name);
    SSL_CTX_free(tls.expired);
    SSL_CTX_free(tls.unknown);
    SSL_CTX_free(tls.client);
    X509_free(tls.ca);
    EVP_PKEY_free(tls.ca_key);
    EVP_PKEY_free(tls.key);
    return 0;
}

static inline void reset_settings(void)
{
    w.set = (struct dialog_settings){.hostname = "us.test",
                                     .peer = "mx.test",
                                     .loops = true,
                                     .tls = DIALOG_TLS_MAY,
                                     .ctx = tls.client};
    w.stop = 0;
}

static inline int each(void **state)
{
    (void)state;
    reset_settings();
    return 0;
}

static inline enum dialog_next start_for(const char *const *script, SSL_CTX *server,
                                         uint64_t whole_ms)
{
    static const uint8_t loopback[] = {127, 0, 0, 1};
    scripted_start(&w.server, script, server);
    memset(&w.v, 0x5a, sizeof(w.v));
    assert_int_equal(remote_connect(&w.remote, loopback, 4, w.server.port, 5000, whole_ms, &w.stop),
                     SP_OK);
    return dialog_open(&w.dialog, &w.remote, &w.set, &w.v);
}

static inline enum dialog_next start(const char *const *script, SSL_CTX *server)
{
    return start_for(script, server, 30000);
}

static inline void finish(void)
{
    remote_close(&w.remote);
    scripted_join(&w.server);
    assert_string_equal(w.server.error, "");
    scripted_free(&w.server);
}

static inline void expect(const struct dialog_verdict *v, enum dialog_outcome outcome,
                          unsigned code, const char *enhanced, const char *words)
{
    assert_int_equal(v->outcome, outcome);
    assert_int_equal(v->code, code);
    assert_string_equal(v->enhanced, enhanced);
    if (strstr(v->text, words) == NULL)
        fail_msg("'%s' is not in '%s'", words, v->text);
}

#define SCRIPT(...)                                                                                \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

#define HELLO      "> 220 mx.test ESMTP", "< EHLO us.test", "> 250 mx.test"
#define HELLO_WITH "> 220 mx.test ESMTP", "< EHLO us.test", "> 250-mx.test"
#define ENVELOPE   "< MAIL FROM:<a@us.test>", "> 250 ok", "< RCPT TO:<b@mx.test>", "> 250 ok"
#define BYE        "< QUIT", "> 221 bye", "! end"

#define STARTTLS                                                                                   \
    "> 220 mx.test", "< EHLO us.test", "> 250-mx.test", "> 250-SIZE 5", "> 250-CHUNKING",          \
        "> 250 STARTTLS", "< STARTTLS"
#define TLS       STARTTLS, "> 220 go", "! tls"
#define TLS_HELLO "< EHLO us.test", "> 250-mx.test", "> 250-PIPELINING", "> 250 STARTTLS"

#endif
