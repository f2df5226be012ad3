/* The SMTP client against scripted servers, good and hostile, on real sockets with real TLS: what
 * it says, what it makes of the answers, and that no trick makes it say more. */
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

static SSL_CTX *server_tls(const char *names, X509 *ca, EVP_PKEY *ca_key, long seconds)
{
    X509 *cert = scripted_cert(tls.key, names, ca, ca_key, seconds);
    SSL_CTX *ctx = scripted_tls_new(cert, tls.key);
    X509_free(cert);
    return ctx;
}

static int make_world(void **state)
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

static int free_world(void **state)
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

static void reset_settings(void)
{
    w.set = (struct dialog_settings){.hostname = "us.test",
                                     .peer = "mx.test",
                                     .loops = true,
                                     .tls = DIALOG_TLS_MAY,
                                     .ctx = tls.client};
    w.stop = 0;
}

static int each(void **state)
{
    (void)state;
    reset_settings();
    return 0;
}

static enum dialog_next start_for(const char *const *script, SSL_CTX *server, uint64_t whole_ms)
{
    static const uint8_t loopback[] = {127, 0, 0, 1};
    scripted_start(&w.server, script, server);
    memset(&w.v, 0x5a, sizeof(w.v));
    assert_int_equal(remote_connect(&w.remote, loopback, 4, w.server.port, 5000, whole_ms, &w.stop),
                     SP_OK);
    return dialog_open(&w.dialog, &w.remote, &w.set, &w.v);
}

static enum dialog_next start(const char *const *script, SSL_CTX *server)
{
    return start_for(script, server, 30000);
}

static void finish(void)
{
    remote_close(&w.remote);
    scripted_join(&w.server);
    assert_string_equal(w.server.error, "");
    scripted_free(&w.server);
}

static void expect(const struct dialog_verdict *v, enum dialog_outcome outcome, unsigned code,
                   const char *enhanced, const char *words)
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

/* --- mails --- */

struct text {
    const char *bytes;
    size_t len, at, step; /* step: at most so many at a time */
    enum sp_err then;     /* at the end */
    bool stop;            /* ask to stop at the end */
};

static enum sp_err read_text(void *ctx, uint8_t *buf, size_t cap, size_t *n)
{
    struct text *t = ctx;
    *n = t->len - t->at < cap ? t->len - t->at : cap;
    if (t->step > 0 && *n > t->step)
        *n = t->step;
    memcpy(buf, t->bytes + t->at, *n);
    t->at += *n;
    if (*n == 0 && t->stop)
        w.stop = 1;
    return *n == 0 ? t->then : SP_OK;
}

static struct text text;

/* One mail to up to six recipients. */
static enum sp_err send_with(struct dialog_mail mail, const char *bytes, const char *const *to,
                             struct dialog_verdict *v)
{
    if (bytes != NULL)
        text = (struct text){.bytes = bytes, .len = strlen(bytes)};
    mail.from = mail.from != NULL ? mail.from : "a@us.test";
    mail.to = to;
    for (mail.n = 0; to[mail.n] != NULL; mail.n++)
        ;
    mail.size = text.len;
    mail.source = read_text;
    mail.ctx = &text;
    memset(v, 0x5a, mail.n * sizeof(*v));
    return dialog_send(&w.dialog, &mail, v);
}

static enum sp_err send_text(const char *bytes, struct dialog_verdict *v)
{
    return send_with((struct dialog_mail){.n = 0}, bytes, SCRIPT("b@mx.test"), v);
}

#define HELLO      "> 220 mx.test ESMTP", "< EHLO us.test", "> 250 mx.test"
#define HELLO_WITH "> 220 mx.test ESMTP", "< EHLO us.test", "> 250-mx.test"
#define ENVELOPE   "< MAIL FROM:<a@us.test>", "> 250 ok", "< RCPT TO:<b@mx.test>", "> 250 ok"
#define BYE        "< QUIT", "> 221 bye", "! end"

/* --- hello --- */

static void test_hello(void **state)
{
    (void)state;
    assert_int_equal(start(SCRIPT("> 220-mx.test", "> 220-two", "> 220 three", "< EHLO us.test",
                                  "> 250-mx.test greets you", "> 250-pipelining", "> 250-SIZE 1000",
                                  "> 250-8BITMIME", "> 250-SMTPUTF8", "> 250-CHUNKING",
                                  "> 250-AUTH PLAIN CRAM-MD5 login", "> 250-STARTTLSX",
                                  "> 250-X-OTHER a b", "> 250 ENHANCEDSTATUSCODES", BYE),
                           NULL),
                     DIALOG_READY);
    assert_true(w.dialog.extended && w.dialog.pipelining && w.dialog.size && w.dialog.eight_bit &&
                w.dialog.utf8 && w.dialog.chunking && w.dialog.auth_plain && w.dialog.auth_login);
    assert_false(w.dialog.starttls);
    assert_int_equal(w.dialog.size_max, 1000);
    dialog_quit(&w.dialog);
    finish();
    /* A first line is a name, not a word; a size that is none is none. */
    assert_int_equal(start(SCRIPT("> 220 x", "< EHLO us.test", "> 250-PIPELINING",
                                  "> 250-SIZE 99999999999999999999999", "> 250 AUTH", BYE),
                           NULL),
                     DIALOG_READY);
    assert_false(w.dialog.pipelining || w.dialog.auth_plain);
    assert_int_equal(w.dialog.size_max, 0);
    dialog_quit(&w.dialog);
    finish();
}

static void test_helo(void **state)
{
    (void)state;
    assert_int_equal(start(SCRIPT("> 220 old", "< EHLO us.test", "> 502-PIPELINING", "> 502 what",
                                  "< HELO us.test", "> 250 old", BYE),
                           NULL),
                     DIALOG_READY);
    assert_false(w.dialog.extended || w.dialog.pipelining);
    dialog_quit(&w.dialog);
    finish();
    assert_int_equal(start(SCRIPT("> 220 x", "< EHLO us.test", "> 450 4.7.1 later", "! end"), NULL),
                     DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 450, "4.7.1", "later");
    finish();
    assert_int_equal(start(SCRIPT("> 220 x", "< EHLO us.test", "> 500 no", "< HELO us.test",
                                  "> 550 5.7.1 go away", "! end"),
                           NULL),
                     DIALOG_OTHER);
    expect(&w.v, DIALOG_FAILED, 550, "5.7.1", "go away");
    finish();
}

static void test_greeting_refused(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        enum dialog_outcome outcome;
        unsigned code;
        const char *enhanced;
    } cases[] = {
        {"> 554 5.7.1 no", DIALOG_FAILED, 554, "5.7.1"},
        {"> 521 no", DIALOG_FAILED, 521, "5.0.0"},
        {"> 421 4.3.2 busy", DIALOG_DEFERRED, 421, "4.3.2"},
        {"> 450 5.1.1 the wrong class", DIALOG_DEFERRED, 450, "4.0.0"},
        {"> 250 hello", DIALOG_DEFERRED, 0, "4.5.0"},
        {"> 354 go on", DIALOG_DEFERRED, 0, "4.5.0"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(start(SCRIPT(cases[i].line, "! end"), NULL), DIALOG_OTHER);
        expect(&w.v, cases[i].outcome, cases[i].code, cases[i].enhanced, "");
        finish();
    }
}

static void test_loop(void **state)
{
    (void)state;
    const char *const in_greeting[] = {"> 220 US.test ESMTP", "! end", NULL};
    const char *const in_hello[] = {"> 220 x",    "< EHLO us.test", "> 250-Us.Test hi",
                                    "> 250 SIZE", "! end",          NULL};
    assert_int_equal(start(in_greeting, NULL), DIALOG_STOP);
    expect(&w.v, DIALOG_FAILED, 0, "5.4.6", "us.test");
    finish();
    assert_int_equal(start(in_hello, NULL), DIALOG_STOP);
    expect(&w.v, DIALOG_FAILED, 0, "5.4.6", "us.test");
    finish();
    w.set.loops = false;
    assert_int_equal(start(in_hello, NULL), DIALOG_READY);
    finish();
    /* Part of a name is another name. */
    reset_settings();
    assert_int_equal(start(SCRIPT("> 220 us.test.example hi", "< EHLO us.test", "> 250-x us.test",
                                  "> 250 us.test", BYE),
                           NULL),
                     DIALOG_READY);
    dialog_quit(&w.dialog);
    finish();
}

/* What is no reply, or one too many, ends the connection before anything else is said. */
static void test_nonsense(void **state)
{
    (void)state;
    static char long_line[3000], many[140][16];
    const char *endless[140];
    memset(long_line, 'x', sizeof(long_line) - 1);
    memcpy(long_line, "! raw 220 ", 10);
    for (size_t i = 0; i < 139; i++) {
        snprintf(many[i], sizeof(many[i]), "> 220-%zu", i);
        endless[i] = many[i];
    }
    endless[139] = NULL;
    static const struct {
        const char *line, *words;
    } cases[] = {
        {"> hello", "without a reply code"},     {"> 22", "without a reply code"},
        {"> 199 x", "without a reply code"},     {"> 600 x", "without a reply code"},
        {"> 220x", "without a separator"},       {"> 220-a\r\n250 b", "several codes"},
        {"> 220-a\r\n", "without a reply code"}, {"! raw 220 a\n", "bare LF"},
        {"! raw 220 a\rb", "bare CR"},           {"! raw 220-a\n220 b\r\n", "bare LF"},
        {"> 220 x\r\n250 y", "nobody asked"},    {"> 220 x\r\n220 y\r\n250 z", "nobody asked"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(start(SCRIPT(cases[i].line, "! end"), NULL), DIALOG_OTHER);
        expect(&w.v, DIALOG_DEFERRED, 0, "4.5.0", cases[i].words);
        finish();
    }
    assert_int_equal(start(SCRIPT(long_line, "! end"), NULL), DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 0, "4.5.0", "too long");
    finish();
    assert_int_equal(start(endless, NULL), DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 0, "4.5.0", "too many lines");
    finish();
    /* But 421 may come at any time. */
    assert_int_equal(start(SCRIPT("> 220 x\r\n421 4.3.2 going down", "! end"), NULL), DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 421, "4.3.2", "going down");
    finish();
}

static void test_ends(void **state)
{
    (void)state;
    assert_int_equal(start(SCRIPT("! close"), NULL), DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 0, "4.4.2", "closed");
    finish();
    assert_int_equal(start(SCRIPT("! raw 220 half", "! close"), NULL), DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 0, "4.4.2", "closed");
    finish();
    assert_int_equal(start(SCRIPT("> 220 x", "< EHLO us.test", "! reset"), NULL), DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 0, "4.4.2", "cut, at EHLO");
    finish();
    assert_int_equal(start_for(SCRIPT("! raw 220 slow", "! end"), NULL, 100), DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 0, "4.4.2", "time is over");
    finish();
    w.stop = 1;
    scripted_start(&w.server, SCRIPT("! end"), NULL);
    assert_int_equal(remote_connect(&w.remote, (const uint8_t[]){127, 0, 0, 1}, 4, w.server.port,
                                    5000, 5000, NULL),
                     SP_OK);
    w.remote.stop = &w.stop;
    assert_int_equal(dialog_open(&w.dialog, &w.remote, &w.set, &w.v), DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 0, "4.3.2", "interrupted");
    finish();
}

static void test_text_is_cleaned(void **state)
{
    (void)state;
    assert_int_equal(
        start(SCRIPT("> 554-5.7.1 \x1b[31m\xc3\xbc\tred", "> 554 5.7.1 end", "! end"), NULL),
        DIALOG_OTHER);
    expect(&w.v, DIALOG_FAILED, 554, "5.7.1", "?[31m?? red end");
    finish();
}

/* --- TLS --- */

#define STARTTLS                                                                                   \
    "> 220 mx.test", "< EHLO us.test", "> 250-mx.test", "> 250-SIZE 5", "> 250-CHUNKING",          \
        "> 250 STARTTLS", "< STARTTLS"
#define TLS       STARTTLS, "> 220 go", "! tls"
#define TLS_HELLO "< EHLO us.test", "> 250-mx.test", "> 250-PIPELINING", "> 250 STARTTLS"

static void expect_secured(SSL_CTX *server, enum remote_tls level)
{
    assert_int_equal(start(SCRIPT(TLS, TLS_HELLO, BYE), server), DIALOG_READY);
    assert_int_equal(w.remote.tls, level);
    /* Of what was said in the clear nothing is left. */
    assert_true(w.dialog.pipelining);
    assert_false(w.dialog.size || w.dialog.chunking || w.dialog.size_max != 0);
    dialog_quit(&w.dialog);
    finish();
}

static void test_tls(void **state)
{
    (void)state;
    expect_secured(tls.good, REMOTE_VERIFIED);
    expect_secured(tls.other_name, REMOTE_ENCRYPTED);
    expect_secured(tls.expired, REMOTE_ENCRYPTED);
    expect_secured(tls.unknown, REMOTE_ENCRYPTED);
    w.set.peer = "mx.test.";
    expect_secured(tls.good, REMOTE_VERIFIED);
    w.set.peer = "127.0.0.1";
    expect_secured(tls.good, REMOTE_VERIFIED);
    w.set.peer = "cn.test"; /* its subject, which no longer counts */
    expect_secured(tls.good, REMOTE_ENCRYPTED);
    w.set.tls = DIALOG_TLS_REQUIRE;
    w.set.peer = "mx.test";
    expect_secured(tls.good, REMOTE_VERIFIED);
    assert_string_equal(dialog_tls_name(REMOTE_VERIFIED), "verified");
}

static void test_tls_not_verified(void **state)
{
    (void)state;
    SSL_CTX *const bad[] = {tls.other_name, tls.expired, tls.unknown};
    w.set.tls = DIALOG_TLS_REQUIRE;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(start(SCRIPT(STARTTLS, "> 220 go", "! tls", "! end"), bad[i]),
                         DIALOG_OTHER);
        expect(&w.v, DIALOG_DEFERRED, 0, "4.7.5", "TLS with mx.test failed");
        remote_close(&w.remote);
        scripted_join(&w.server);
        scripted_free(&w.server);
    }
}

static void test_tls_fails(void **state)
{
    (void)state;
    const char *const garbage[] = {STARTTLS, "> 220 go", "! some", "> 250 this is no handshake",
                                   "! all",  NULL};
    const char *const cut[] = {STARTTLS, "> 220 go", "! cut", NULL};
    for (int i = 0; i < 4; i++) {
        w.set.tls = i < 2 ? DIALOG_TLS_MAY : DIALOG_TLS_REQUIRE;
        assert_int_equal(start(i % 2 ? cut : garbage, NULL), i < 2 ? DIALOG_CLEAR : DIALOG_OTHER);
        expect(&w.v, DIALOG_DEFERRED, 0, "4.7.5", "TLS with mx.test failed");
        finish();
    }
    /* The second attempt, in the clear. */
    w.set.tls = DIALOG_TLS_NEVER;
    assert_int_equal(
        start(SCRIPT("> 220 mx.test", "< EHLO us.test", "> 250-mx.test", "> 250 STARTTLS", BYE),
              NULL),
        DIALOG_READY);
    dialog_quit(&w.dialog);
    finish();
}

static void test_tls_stripped(void **state)
{
    (void)state;
    w.set.tls = DIALOG_TLS_REQUIRE;
    assert_int_equal(start(SCRIPT(HELLO, "! end"), NULL), DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 0, "4.7.10", "offers no TLS");
    finish();
    assert_int_equal(start(SCRIPT("> 220 x", "< EHLO us.test", "> 502 what", "! end"), NULL),
                     DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 502, "4.0.0", "");
    finish();
    assert_int_equal(start(SCRIPT(STARTTLS, "> 454 4.7.0 not now", "! end"), NULL), DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 454, "4.7.0", "not now");
    finish();
    /* What anybody in between may have said does not fail mail for good. */
    assert_int_equal(start(SCRIPT("> 554 5.7.1 never", "! end"), NULL), DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 554, "4.7.1", "never");
    finish();
    assert_int_equal(start(SCRIPT(STARTTLS, "> 554 5.7.1 never", "! end"), NULL), DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 554, "4.7.1", "never");
    finish();
    assert_int_equal(
        start(SCRIPT("> 220 us.test", "< EHLO us.test", "> 250 us.test", "! end"), NULL),
        DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 0, "4.7.10", "");
    finish();
    w.set.tls = DIALOG_TLS_MAY;
    assert_int_equal(start(SCRIPT(STARTTLS, "> 454 4.7.0 not now", BYE), NULL), DIALOG_READY);
    assert_int_equal(w.remote.tls, REMOTE_CLEAR);
    dialog_quit(&w.dialog);
    finish();
    assert_int_equal(start(SCRIPT(STARTTLS, "> 250 what", "! end"), NULL), DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 0, "4.5.0", "");
    finish();
}

/* CVE-2011-0411, the client's side of it. */
static void test_tls_injection(void **state)
{
    (void)state;
    for (int require = 0; require < 2; require++) {
        w.set.tls = require ? DIALOG_TLS_REQUIRE : DIALOG_TLS_MAY;
        assert_int_equal(
            start(SCRIPT(STARTTLS, "> 220 go\r\n250-mx.test\r\n250 AUTH PLAIN", "! end"), tls.good),
            DIALOG_OTHER);
        expect(&w.v, DIALOG_DEFERRED, 0, "4.5.0", "in the clear");
        finish();
        assert_int_equal(start(SCRIPT(STARTTLS, "! raw 220 go\r\n2", "! end"), tls.good),
                         DIALOG_OTHER);
        finish();
    }
}

/* --- AUTH --- */

#define TLS_AUTH "< EHLO us.test", "> 250-mx.test", "> 250 AUTH PLAIN LOGIN"

static void test_auth(void **state)
{
    (void)state;
    w.set.user = "tim";
    w.set.password = "tanstaaftanstaaf"; /* RFC 4616's */
    assert_int_equal(start(SCRIPT(TLS, TLS_AUTH, "< AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm",
                                  "> 235 2.7.0 ok", BYE),
                           tls.good),
                     DIALOG_READY);
    dialog_quit(&w.dialog);
    finish();
    assert_int_equal(
        start(SCRIPT(TLS, "< EHLO us.test", "> 250-mx.test", "> 250 AUTH LOGIN", "< AUTH LOGIN",
                     "> 334 VXNlcm5hbWU6", "< dGlt", "> 334 UGFzc3dvcmQ6",
                     "< dGFuc3RhYWZ0YW5zdGFhZg==", "> 235 2.7.0 ok", BYE),
              tls.good),
        DIALOG_READY);
    dialog_quit(&w.dialog);
    finish();
    assert_int_equal(start(SCRIPT(TLS, TLS_AUTH, "< AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm",
                                  "> 535 5.7.8 wrong", "! end"),
                           tls.good),
                     DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 535, "4.7.8", "wrong");
    finish();
    assert_int_equal(
        start(SCRIPT(TLS, "< EHLO us.test", "> 250-mx.test", "> 250 AUTH CRAM-MD5", "! end"),
              tls.good),
        DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 0, "4.7.0", "no AUTH that we know");
    finish();
}

/* The password stays here. */
static void test_auth_needs_verified(void **state)
{
    (void)state;
    w.set.user = "tim";
    w.set.password = "secret";
    assert_int_equal(start(SCRIPT(HELLO_WITH, "> 250 AUTH PLAIN", "! end"), NULL), DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 0, "4.7.10", "");
    finish();
    assert_int_equal(start(SCRIPT(STARTTLS, "> 220 go", "! tls", "! end"), tls.unknown),
                     DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 0, "4.7.5", "");
    remote_close(&w.remote);
    scripted_join(&w.server);
    scripted_free(&w.server);
    assert_int_equal(start(SCRIPT(STARTTLS, "> 454 no", "! end"), NULL), DIALOG_OTHER);
    finish();
    w.set.tls = DIALOG_TLS_NEVER;
    assert_int_equal(start(SCRIPT(HELLO_WITH, "> 250 AUTH PLAIN", "! end"), NULL), DIALOG_OTHER);
    expect(&w.v, DIALOG_DEFERRED, 0, "4.7.10", "");
    finish();
}

/* --- mail --- */

static void expect_body(const char *bytes, size_t len)
{
    assert_int_equal(w.server.body_len, len);
    assert_memory_equal(w.server.body, bytes, len);
}

static void expect_sent(const char *bytes, const char *arrives)
{
    struct dialog_verdict v;
    assert_int_equal(start(SCRIPT(HELLO, ENVELOPE, "< DATA", "> 354 go", "! body",
                                  "> 250 2.6.0 queued as 1", BYE),
                           NULL),
                     DIALOG_READY);
    assert_int_equal(send_text(bytes, &v), SP_OK);
    expect(&v, DIALOG_SENT, 250, "2.6.0", "queued as 1");
    dialog_quit(&w.dialog);
    remote_close(&w.remote);
    scripted_join(&w.server);
    assert_string_equal(w.server.error, "");
    expect_body(arrives, strlen(arrives));
    scripted_free(&w.server);
}

static void test_data(void **state)
{
    (void)state;
    static const char *const mails[] = {"",
                                        "\r\n",
                                        ".\r\n",
                                        "..\r\n",
                                        ".a\r\n.b\r\n\r\n.\r\n",
                                        "a\r\n.\r\n",
                                        "a\r\n..\r\nb\r\n",
                                        "From: x\r\n\r\nhello\r\n"};
    for (size_t i = 0; i < sizeof(mails) / sizeof(mails[0]); i++)
        expect_sent(mails[i], mails[i]);
    expect_sent("no end", "no end\r\n");
    expect_sent(".", ".\r\n");
    expect_sent("a\r\n.", "a\r\n.\r\n");
}

/* Lines of all lengths with dots where they matter, read in steps of all sizes. */
static char *make_big(size_t len)
{
    char *big = malloc(len);
    uint32_t dice = 7;
    for (size_t i = 0; i + 1 < len; i++) {
        dice = dice * 1103515245u + 12345u;
        unsigned roll = dice >> 16 & 63;
        if (roll < 3 && i + 2 < len) {
            big[i++] = '\r';
            big[i] = '\n';
        } else {
            big[i] = roll < 20 ? '.' : (char)('a' + roll % 26);
        }
    }
    memcpy(big + len - 3, "x\r\n", 3);
    return big;
}

static void test_big(void **state)
{
    (void)state;
    static const size_t steps[] = {0, 1, 100, 4097, 16384};
    size_t len = 200000;
    char *big = make_big(len);
    for (size_t i = 0; i < 5; i++) {
        struct dialog_verdict v;
        assert_int_equal(start(SCRIPT(TLS, "< EHLO us.test", "> 250 mx.test", ENVELOPE, "< DATA",
                                      "> 354 go", "! body", "> 250 ok", BYE),
                               tls.good),
                         DIALOG_READY);
        text = (struct text){.bytes = big, .len = len, .step = steps[i]};
        assert_int_equal(send_text(NULL, &v), SP_OK);
        expect(&v, DIALOG_SENT, 250, "2.0.0", "ok");
        dialog_quit(&w.dialog);
        remote_close(&w.remote);
        scripted_join(&w.server);
        assert_string_equal(w.server.error, "");
        expect_body(big, len);
        scripted_free(&w.server);
    }
    free(big);
}

static void test_parameters(void **state)
{
    (void)state;
    struct dialog_verdict v[2];
    assert_int_equal(
        start(SCRIPT(HELLO_WITH, "> 250-SIZE 0", "> 250-8BITMIME", "> 250 SMTPUTF8",
                     "< MAIL FROM:<> SIZE=4", "> 250 ok", "< RCPT TO:<b@mx.test>", "> 550 no",
                     "< RSET", "> 250 ok", "< MAIL FROM:<a@us.test> SIZE=4 BODY=8BITMIME SMTPUTF8",
                     "> 250 ok", "< RCPT TO:<b@mx.test>", "> 550 no", "< RSET", "> 250 ok",
                     "< MAIL FROM:<a@us.test> SIZE=4 SMTPUTF8", "> 250 ok",
                     "< RCPT TO:<\xc3\xbc@mx.test>", "> 550 no", "< RSET", "> 250 ok", BYE),
              NULL),
        DIALOG_READY);
    assert_int_equal(send_with((struct dialog_mail){.from = ""}, "hi\r\n", SCRIPT("b@mx.test"), v),
                     SP_OK);
    assert_int_equal(send_with((struct dialog_mail){.eight_bit = true, .utf8 = true}, "hi\r\n",
                               SCRIPT("b@mx.test"), v),
                     SP_OK);
    assert_int_equal(
        send_with((struct dialog_mail){.n = 0}, "hi\r\n", SCRIPT("\xc3\xbc@mx.test"), v), SP_OK);
    expect(v, DIALOG_FAILED, 550, "5.0.0", "no");
    dialog_quit(&w.dialog);
    finish();
}

/* What the server cannot take is not even begun. */
static void test_impossible(void **state)
{
    (void)state;
    struct dialog_verdict v[3];
    assert_int_equal(start(SCRIPT(HELLO_WITH, "> 250 SIZE 3", "< MAIL FROM:<a@us.test> SIZE=2",
                                  "> 250 ok", "< RCPT TO:<b@mx.test>", "> 250 ok", "< DATA",
                                  "> 354 go", "! body", "> 250 ok", BYE),
                           NULL),
                     DIALOG_READY);
    assert_int_equal(send_text("four\r\n", v), SP_OK);
    expect(v, DIALOG_FAILED, 0, "5.3.4", "more than 3 bytes");
    assert_int_equal(
        send_with((struct dialog_mail){.eight_bit = true}, "a", SCRIPT("b@mx.test"), v), SP_OK);
    expect(v, DIALOG_FAILED, 0, "5.6.3", "8BITMIME");
    assert_int_equal(send_with((struct dialog_mail){.utf8 = true}, "a", SCRIPT("b@mx.test"), v),
                     SP_OK);
    expect(v, DIALOG_FAILED, 0, "5.6.7", "SMTPUTF8");
    assert_int_equal(
        send_with((struct dialog_mail){.from = "\xc3\xbc@us.test"}, "a", SCRIPT("b@mx.test"), v),
        SP_OK);
    expect(v, DIALOG_FAILED, 0, "5.6.7", "SMTPUTF8");
    /* One who cannot be named does not hold up the others. */
    assert_int_equal(send_with((struct dialog_mail){.n = 0}, "a\n" + 1,
                               SCRIPT("\xc3\xbc@mx.test", "x\r\nDATA@mx.test"), v),
                     SP_OK);
    expect(&v[0], DIALOG_FAILED, 0, "5.6.7", "SMTPUTF8");
    expect(&v[1], DIALOG_FAILED, 0, "5.1.3", "");
    assert_int_equal(
        send_with((struct dialog_mail){.n = 0}, "\r\n", SCRIPT("\xc3\xbc@mx.test", "b@mx.test"), v),
        SP_OK);
    expect(&v[0], DIALOG_FAILED, 0, "5.6.7", "SMTPUTF8");
    expect(&v[1], DIALOG_SENT, 250, "2.0.0", "ok");
    dialog_quit(&w.dialog);
    finish();
}

/* No address may end its path, or the line. */
static void test_addresses(void **state)
{
    (void)state;
    static const char *const bad[] = {"b@x>\r\nRCPT TO:<c@x",
                                      "b@x> SIZE=1",
                                      "b@x\r",
                                      "b@x\n",
                                      "<b@x>",
                                      "b b@x",
                                      "b\x01@x",
                                      "b\x7f@x",
                                      "\"b@x",
                                      "b\\@x",
                                      "",
                                      "\"b\\\"@x"};
    struct dialog_verdict v[2];
    char longest[400];
    memset(longest, 'l', sizeof(longest));
    longest[255] = '\0';
    assert_int_equal(
        start(SCRIPT(HELLO, "< MAIL FROM:<a@us.test>", "> 250 ok", "< RCPT TO:<\"b \\\"<>\"@x>",
                     "> 550 no", "< RSET", "> 250 ok", BYE),
              NULL),
        DIALOG_READY);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *const to[] = {bad[i], NULL};
        assert_int_equal(send_with((struct dialog_mail){.n = 0}, "a", to, v), SP_OK);
        expect(v, DIALOG_FAILED, 0, "5.1.3", "");
        if (bad[i][0] == '\0')
            continue;
        assert_int_equal(send_with((struct dialog_mail){.from = bad[i]}, "a", SCRIPT("b@x"), v),
                         SP_OK);
        expect(v, DIALOG_FAILED, 0, "5.1.7", "");
    }
    assert_int_equal(send_with((struct dialog_mail){.n = 0}, "a", SCRIPT(longest), v), SP_OK);
    expect(v, DIALOG_FAILED, 0, "5.1.3", "");
    assert_int_equal(send_with((struct dialog_mail){.n = 0}, "a", SCRIPT("\"b \\\"<>\"@x"), v),
                     SP_OK);
    expect(v, DIALOG_FAILED, 550, "5.0.0", "no");
    dialog_quit(&w.dialog);
    finish();
}

/* --- recipients --- */

static void expect_each(const struct dialog_verdict *v)
{
    expect(&v[0], DIALOG_SENT, 250, "2.6.0", "queued");
    expect(&v[1], DIALOG_FAILED, 550, "5.1.1", "unknown");
    expect(&v[2], DIALOG_DEFERRED, 450, "4.2.0", "greylisted");
    expect(&v[3], DIALOG_DEFERRED, 452, "4.5.3", "too many");
    expect(&v[4], DIALOG_FAILED, 552, "5.2.2", "full");
    expect(&v[5], DIALOG_DEFERRED, 552, "4.0.0", "too many");
    assert_false(v[0].again || v[1].again || v[2].again || v[4].again);
    assert_true(v[3].again && v[5].again);
}

static void test_recipients(void **state)
{
    (void)state;
    static const char *const to[] = {"a@x", "b@x", "c@x", "d@x", "e@x", "f@x", NULL};
    static const char *const turn[] = {HELLO,
                                       "< MAIL FROM:<a@us.test>",
                                       "> 250 2.1.0 ok",
                                       "< RCPT TO:<a@x>",
                                       "> 250 2.1.5 ok",
                                       "< RCPT TO:<b@x>",
                                       "> 550 5.1.1 unknown",
                                       "< RCPT TO:<c@x>",
                                       "> 450 4.2.0 greylisted",
                                       "< RCPT TO:<d@x>",
                                       "> 452 4.5.3 too many",
                                       "< RCPT TO:<e@x>",
                                       "> 552 5.2.2 full",
                                       "< RCPT TO:<f@x>",
                                       "> 552 too many",
                                       "< DATA",
                                       "> 354 go",
                                       "! body",
                                       "> 250 2.6.0 queued",
                                       BYE,
                                       NULL};
    static const char *const one[] = {HELLO_WITH,
                                      "> 250 PIPELINING",
                                      "< MAIL FROM:<a@us.test>",
                                      "< RCPT TO:<a@x>",
                                      "< RCPT TO:<b@x>",
                                      "< RCPT TO:<c@x>",
                                      "< RCPT TO:<d@x>",
                                      "< RCPT TO:<e@x>",
                                      "< RCPT TO:<f@x>",
                                      "> 250 2.1.0 ok",
                                      "> 250-2.1.5 yes",
                                      "> 250 2.1.5 ok",
                                      "> 550 5.1.1 unknown",
                                      "> 450 4.2.0 greylisted",
                                      "> 452 4.5.3 too many",
                                      "> 552 5.2.2 full",
                                      "> 552 too many",
                                      "< DATA",
                                      "> 354 go",
                                      "! body",
                                      "> 250 2.6.0 queued",
                                      BYE,
                                      NULL};
    for (int pipelined = 0; pipelined < 2; pipelined++) {
        struct dialog_verdict v[6];
        assert_int_equal(start(pipelined ? one : turn, NULL), DIALOG_READY);
        assert_int_equal(send_with((struct dialog_mail){.n = 0}, "hi\r\n", to, v), SP_OK);
        expect_each(v);
        dialog_quit(&w.dialog);
        finish();
    }
}

static void test_none_accepted(void **state)
{
    (void)state;
    struct dialog_verdict v[2];
    assert_int_equal(
        start(SCRIPT(HELLO_WITH, "> 250 PIPELINING", "< MAIL FROM:<a@us.test>", "< RCPT TO:<a@x>",
                     "< RCPT TO:<b@x>", "> 250 ok", "> 550 a", "> 452 b", "< RSET", "> 250 ok",
                     "< MAIL FROM:<a@us.test>", "< RCPT TO:<a@x>", "< RCPT TO:<b@x>",
                     "> 451 4.7.0 not you", "> 503 5.5.1 what", "> 250 lies", "< RSET", "> 250 ok",
                     "< MAIL FROM:<a@us.test>", "< RCPT TO:<b@mx.test>", "> 250 ok", "> 250 ok",
                     "< DATA", "> 354 go", "! body", "> 250 ok", BYE),
              NULL),
        DIALOG_READY);
    assert_int_equal(send_with((struct dialog_mail){.n = 0}, "hi\r\n", SCRIPT("a@x", "b@x"), v),
                     SP_OK);
    expect(&v[0], DIALOG_FAILED, 550, "5.0.0", "a");
    expect(&v[1], DIALOG_DEFERRED, 452, "4.0.0", "b");
    assert_false(v[1].again); /* where nobody was accepted, the limit is another */
    assert_int_equal(send_with((struct dialog_mail){.n = 0}, "hi\r\n", SCRIPT("a@x", "b@x"), v),
                     SP_OK);
    expect(&v[0], DIALOG_DEFERRED, 451, "4.7.0", "not you");
    expect(&v[1], DIALOG_DEFERRED, 451, "4.7.0", "not you");
    assert_int_equal(send_text("hi\r\n", v), SP_OK);
    expect(&v[0], DIALOG_SENT, 250, "2.0.0", "ok");
    dialog_quit(&w.dialog);
    finish();
}

static void test_mail_refused_in_turn(void **state)
{
    (void)state;
    struct dialog_verdict v;
    assert_int_equal(start(SCRIPT(HELLO, "< MAIL FROM:<a@us.test>", "> 550 5.7.1 no", "< RSET",
                                  "> 500 what", "! end"),
                           NULL),
                     DIALOG_READY);
    assert_int_equal(send_text("hi\r\n", &v), SP_ERR_PEER);
    expect(&v, DIALOG_FAILED, 550, "5.7.1", "no");
    /* The connection is of no use, and says so at once. */
    assert_int_equal(send_text("hi\r\n", &v), SP_ERR_PEER);
    expect(&v, DIALOG_DEFERRED, 0, "4.3.0", "not tried");
    dialog_quit(&w.dialog);
    finish();
}

static void test_good_bye(void **state)
{
    (void)state;
    static const char *const to[] = {"a@x", "b@x", "c@x", NULL};
    struct dialog_verdict v[3];
    assert_int_equal(start(SCRIPT(HELLO_WITH, "> 250 PIPELINING", "< MAIL FROM:<a@us.test>",
                                  "< RCPT TO:<a@x>", "< RCPT TO:<b@x>", "< RCPT TO:<c@x>",
                                  "> 250 ok", "> 550 no", "> 421 4.3.2 down", "! end"),
                           NULL),
                     DIALOG_READY);
    assert_int_equal(send_with((struct dialog_mail){.n = 0}, "hi\r\n", to, v), SP_ERR_PEER);
    expect(&v[0], DIALOG_FAILED, 550, "5.0.0", "no");
    expect(&v[1], DIALOG_DEFERRED, 421, "4.3.2", "down");
    expect(&v[2], DIALOG_DEFERRED, 421, "4.3.2", "down");
    finish();
    assert_int_equal(start(SCRIPT(HELLO, ENVELOPE, "< DATA", "> 421 4.3.2 down", "! end"), NULL),
                     DIALOG_READY);
    assert_int_equal(send_text("hi\r\n", v), SP_ERR_PEER);
    expect(v, DIALOG_DEFERRED, 421, "4.3.2", "down");
    finish();
    assert_int_equal(start(SCRIPT(HELLO, "< MAIL FROM:<a@us.test>", "> 354 what", "! end"), NULL),
                     DIALOG_READY);
    assert_int_equal(send_text("hi\r\n", v), SP_ERR_PEER);
    expect(v, DIALOG_DEFERRED, 0, "4.5.0", "354 out of order, at MAIL");
    finish();
    assert_int_equal(start(SCRIPT(HELLO, "< MAIL FROM:<a@us.test>", "> 250 ok",
                                  "< RCPT TO:<b@mx.test>", "> 354 what", "! end"),
                           NULL),
                     DIALOG_READY);
    assert_int_equal(send_text("hi\r\n", v), SP_ERR_PEER);
    expect(v, DIALOG_DEFERRED, 0, "4.5.0", "354 out of order, at RCPT");
    finish();
    assert_int_equal(start(SCRIPT(HELLO, "< MAIL FROM:<a@us.test>", "> 250 ok", "! close"), NULL),
                     DIALOG_READY);
    assert_int_equal(send_text("hi\r\n", v), SP_ERR_PEER);
    expect(v, DIALOG_DEFERRED, 0, "4.4.2", "");
    finish();
}

/* --- content --- */

static void test_data_refused(void **state)
{
    (void)state;
    struct dialog_verdict v;
    assert_int_equal(start(SCRIPT(HELLO, ENVELOPE, "< DATA", "> 554 5.7.1 changed my mind",
                                  "< RSET", "> 250 ok", ENVELOPE, "< DATA", "> 354 go", "! body",
                                  "> 550 5.7.1 spam", ENVELOPE, "< DATA", "> 354 go", "! body",
                                  "> 451 4.3.0 later", ENVELOPE, "< DATA", "> 250 ok", "! end"),
                           NULL),
                     DIALOG_READY);
    assert_int_equal(send_text("hi\r\n", &v), SP_OK);
    expect(&v, DIALOG_FAILED, 554, "5.7.1", "changed my mind");
    assert_int_equal(send_text("hi\r\n", &v), SP_OK);
    expect(&v, DIALOG_FAILED, 550, "5.7.1", "spam");
    assert_int_equal(send_text("hi\r\n", &v), SP_OK);
    expect(&v, DIALOG_DEFERRED, 451, "4.3.0", "later");
    /* A 250 to DATA: the server waits for commands, and must not get the mail as such. */
    assert_int_equal(send_text("hi\r\n", &v), SP_ERR_PEER);
    expect(&v, DIALOG_DEFERRED, 0, "4.5.0", "250 out of order, at DATA");
    finish();
}

/* Who says 250 before the mail is there has not got it. */
static void test_early(void **state)
{
    (void)state;
    struct dialog_verdict v;
    assert_int_equal(
        start(SCRIPT(HELLO, ENVELOPE, "< DATA", "> 354 go\r\n250 got it", "! end"), NULL),
        DIALOG_READY);
    assert_int_equal(send_text("hi\r\n", &v), SP_ERR_PEER);
    expect(&v, DIALOG_DEFERRED, 0, "4.5.0", "250 out of order, at content");
    finish();
    assert_int_equal(
        start(SCRIPT(HELLO, ENVELOPE, "< DATA", "> 354 go\r\n552 5.3.4 too big", "! end"), NULL),
        DIALOG_READY);
    assert_int_equal(send_text("hi\r\n", &v), SP_ERR_PEER);
    expect(&v, DIALOG_FAILED, 552, "5.3.4", "too big");
    finish();
    /* MAIL's answer and more. */
    assert_int_equal(
        start(SCRIPT(HELLO, "< MAIL FROM:<a@us.test>", "> 250 ok\r\n250 ok\r\n354 go", "! end"),
              NULL),
        DIALOG_READY);
    assert_int_equal(send_text("hi\r\n", &v), SP_ERR_PEER);
    expect(&v, DIALOG_DEFERRED, 0, "4.5.0", "nobody asked");
    finish();
    /* Two answers to the final dot: the second is not the next mail's. */
    assert_int_equal(start(SCRIPT(HELLO, ENVELOPE, "< DATA", "> 354 go", "! body",
                                  "> 250 ok\r\n250 ok\r\n250 ok", "! end"),
                           NULL),
                     DIALOG_READY);
    assert_int_equal(send_text("hi\r\n", &v), SP_OK);
    expect(&v, DIALOG_SENT, 250, "2.0.0", "ok");
    assert_int_equal(send_text("hi\r\n", &v), SP_ERR_PEER);
    expect(&v, DIALOG_DEFERRED, 0, "4.5.0", "nobody asked");
    finish();
}

/* A server that hangs up in the middle: what it said, if it said something. */
static void test_cut_short(void **state)
{
    (void)state;
    size_t len = 3000000;
    char *big = make_big(len);
    struct dialog_verdict v;
    assert_int_equal(start(SCRIPT(HELLO, ENVELOPE, "< DATA", "> 354 go", "! reset"), NULL),
                     DIALOG_READY);
    text = (struct text){.bytes = big, .len = len};
    assert_int_equal(send_text(NULL, &v), SP_ERR_PEER);
    expect(&v, DIALOG_DEFERRED, 0, "4.4.2", "connection");
    finish();
    assert_int_equal(
        start(SCRIPT(HELLO, ENVELOPE, "< DATA", "> 354 go", "! body", "! close"), NULL),
        DIALOG_READY);
    assert_int_equal(send_text("hi\r\n", &v), SP_ERR_PEER);
    expect(&v, DIALOG_DEFERRED, 0, "4.4.2", "closed, at the answer to the whole mail");
    finish();
    assert_int_equal(start(SCRIPT(TLS, "< EHLO us.test", "> 250 mx.test", ENVELOPE, "< DATA",
                                  "> 354 go", "! body", "! raw 250 o", "! cut"),
                           tls.good),
                     DIALOG_READY);
    assert_int_equal(send_text("hi\r\n", &v), SP_ERR_PEER);
    expect(&v, DIALOG_DEFERRED, 0, "4.4.2", "cut, at the answer to the whole mail");
    finish();
    assert_int_equal(
        start(SCRIPT(HELLO, ENVELOPE, "< DATA", "> 354 go", "! body", "> 354 more", "! end"), NULL),
        DIALOG_READY);
    assert_int_equal(send_text("hi\r\n", &v), SP_ERR_PEER);
    expect(&v, DIALOG_DEFERRED, 0, "4.5.0", "354 out of order");
    finish();
    free(big);
}

/* Neither a mail that cannot be read nor one that would smuggle gets its final dot. */
static void test_source(void **state)
{
    (void)state;
    static const char *const bad[] = {"a\nb\r\n", "a\rb\r\n",  "a\r\n.\n\r\n", "a\r\n\n.\r\n",
                                      "a\r\r\n",  "\n",        "\r",           "a\r",
                                      "\r\n\n",   "a\r\n.\r.", "\n.\n"};
    const char *const data[] = {HELLO, ENVELOPE, "< DATA", "> 354 go", "! all", NULL};
    const char *const bdat[] = {HELLO_WITH, "> 250 CHUNKING", ENVELOPE, "! all", NULL};
    struct dialog_verdict v;
    for (size_t i = 0; i < 2 * sizeof(bad) / sizeof(bad[0]); i++) {
        const char *bytes = bad[i / 2];
        assert_int_equal(start(i % 2 ? bdat : data, NULL), DIALOG_READY);
        text = (struct text){.bytes = bytes, .len = strlen(bytes), .step = 1 + i % 3};
        assert_int_equal(send_text(NULL, &v), SP_ERR_FORMAT);
        expect(&v, DIALOG_FAILED, 0, "5.6.0", "bare CR or LF");
        dialog_quit(&w.dialog);
        remote_close(&w.remote);
        scripted_join(&w.server);
        expect_body("", 0);
        scripted_free(&w.server);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(start(i ? bdat : data, NULL), DIALOG_READY);
        text = (struct text){.bytes = "a\0b\r\n", .len = 5};
        assert_int_equal(send_text(NULL, &v), SP_ERR_FORMAT);
        finish();
        assert_int_equal(start(i ? bdat : data, NULL), DIALOG_READY);
        text = (struct text){.bytes = "hi\r\n", .len = 4, .then = SP_ERR_AUTH};
        assert_int_equal(send_text(NULL, &v), SP_ERR_AUTH);
        expect(&v, DIALOG_DEFERRED, 0, "4.3.0", "could not be read");
        finish();
        assert_int_equal(start(i ? bdat : data, NULL), DIALOG_READY);
        text = (struct text){.bytes = "hi\r\n", .len = 4, .then = SP_ERR_PEER};
        assert_int_equal(send_text(NULL, &v), SP_ERR_SYSTEM);
        finish();
    }
}

/* Once the last byte is out, an order to stop waits for the answer. */
static void test_stop(void **state)
{
    (void)state;
    struct dialog_verdict v;
    assert_int_equal(
        start(SCRIPT(HELLO, ENVELOPE, "< DATA", "> 354 go", "! body", "> 250 ok", "! end"), NULL),
        DIALOG_READY);
    text = (struct text){.bytes = "hi\r\n", .len = 4, .stop = true};
    assert_int_equal(send_text(NULL, &v), SP_OK);
    expect(&v, DIALOG_SENT, 250, "2.0.0", "ok");
    assert_int_equal(send_text("hi\r\n", &v), SP_ERR_PEER);
    expect(&v, DIALOG_DEFERRED, 0, "4.3.2", "interrupted");
    finish();
}

/* --- BDAT --- */

static void run_chunks(const char *const *script, const char *bytes, size_t len, unsigned chunks)
{
    struct dialog_verdict v;
    assert_int_equal(start(script, NULL), DIALOG_READY);
    text = (struct text){.bytes = bytes, .len = len, .step = 10000};
    assert_int_equal(send_text(NULL, &v), SP_OK);
    expect(&v, DIALOG_SENT, 250, "2.0.0", "all");
    dialog_quit(&w.dialog);
    remote_close(&w.remote);
    scripted_join(&w.server);
    assert_string_equal(w.server.error, "");
    assert_int_equal(w.server.chunks, chunks);
    assert_int_equal(w.server.last, 1);
    expect_body(bytes, len);
    scripted_free(&w.server);
}

#define CHUNKS HELLO_WITH, "> 250 CHUNKING", ENVELOPE
#define PIPE_CHUNKS                                                                                \
    HELLO_WITH, "> 250-PIPELINING", "> 250 CHUNKING", "< MAIL FROM:<a@us.test>",                   \
        "< RCPT TO:<b@mx.test>", "> 250 ok", "> 250 ok"

static void test_chunks(void **state)
{
    (void)state;
    char *big = make_big(32768 * 3);
    run_chunks(SCRIPT(CHUNKS, "! chunk", "> 250 all", BYE), ".\r\n..\r\n", 7, 1);
    run_chunks(SCRIPT(CHUNKS, "! chunk", "> 250 all", BYE), "", 0, 1);
    run_chunks(SCRIPT(CHUNKS, "! chunk", "> 250 1", "! chunk", "> 250 2", "! chunk", "> 250 3",
                      "! chunk", "> 250 all", BYE),
               big, 32768 * 3, 4);
    /* All of them are on their way before the first is answered. */
    run_chunks(SCRIPT(PIPE_CHUNKS, "! chunk", "! chunk", "! chunk", "! chunk", "> 250 1", "> 250 2",
                      "> 250 3", "> 250 all", BYE),
               big, 32768 * 3, 4);
    run_chunks(SCRIPT(PIPE_CHUNKS, "! chunk", "> 250 1", "! chunk", "> 250 2", "! chunk", "! chunk",
                      "> 250 3", "> 250 all", BYE),
               big, 32768 * 3, 4);
    free(big);
}

static void test_chunks_refused(void **state)
{
    (void)state;
    size_t len = 100000;
    char *big = make_big(len);
    struct dialog_verdict v;
    assert_int_equal(start(SCRIPT(CHUNKS, "! chunk", "> 552 5.3.4 enough", "! end"), NULL),
                     DIALOG_READY);
    text = (struct text){.bytes = big, .len = len};
    assert_int_equal(send_text(NULL, &v), SP_ERR_PEER);
    expect(&v, DIALOG_FAILED, 552, "5.3.4", "enough");
    assert_int_equal(send_text("hi\r\n", &v), SP_ERR_PEER);
    expect(&v, DIALOG_DEFERRED, 0, "4.3.0", "not tried");
    finish();
    assert_int_equal(start(SCRIPT(CHUNKS, "! chunk", "> 451 4.3.0 no", BYE), NULL), DIALOG_READY);
    assert_int_equal(send_text("hi\r\n", &v), SP_OK);
    expect(&v, DIALOG_DEFERRED, 451, "4.3.0", "no");
    dialog_quit(&w.dialog);
    finish();
    /* An answer before there was a chunk, and one too many behind the first. */
    assert_int_equal(
        start(SCRIPT(HELLO_WITH, "> 250 CHUNKING", "< MAIL FROM:<a@us.test>", "> 250 ok",
                     "< RCPT TO:<b@mx.test>", "> 250 ok\r\n250 all", "! end"),
              NULL),
        DIALOG_READY);
    assert_int_equal(send_text("hi\r\n", &v), SP_ERR_PEER);
    expect(&v, DIALOG_DEFERRED, 0, "4.5.0", "250 out of order, at content");
    finish();
    assert_int_equal(start(SCRIPT(CHUNKS, "! chunk", "> 250 1\r\n250 all", "! end"), NULL),
                     DIALOG_READY);
    text = (struct text){.bytes = big, .len = len};
    assert_int_equal(send_text(NULL, &v), SP_ERR_PEER);
    expect(&v, DIALOG_DEFERRED, 0, "4.5.0", "250 out of order, at content");
    finish();
    assert_int_equal(start(SCRIPT(CHUNKS, "! chunk", "> 354 go", "! end"), NULL), DIALOG_READY);
    text = (struct text){.bytes = big, .len = len};
    assert_int_equal(send_text(NULL, &v), SP_ERR_PEER);
    expect(&v, DIALOG_DEFERRED, 0, "4.5.0", "354 out of order, at BDAT");
    finish();
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_hello, each),
        cmocka_unit_test_setup(test_helo, each),
        cmocka_unit_test_setup(test_greeting_refused, each),
        cmocka_unit_test_setup(test_loop, each),
        cmocka_unit_test_setup(test_nonsense, each),
        cmocka_unit_test_setup(test_ends, each),
        cmocka_unit_test_setup(test_text_is_cleaned, each),
        cmocka_unit_test_setup(test_tls, each),
        cmocka_unit_test_setup(test_tls_not_verified, each),
        cmocka_unit_test_setup(test_tls_fails, each),
        cmocka_unit_test_setup(test_tls_stripped, each),
        cmocka_unit_test_setup(test_tls_injection, each),
        cmocka_unit_test_setup(test_auth, each),
        cmocka_unit_test_setup(test_auth_needs_verified, each),
        cmocka_unit_test_setup(test_data, each),
        cmocka_unit_test_setup(test_big, each),
        cmocka_unit_test_setup(test_parameters, each),
        cmocka_unit_test_setup(test_impossible, each),
        cmocka_unit_test_setup(test_addresses, each),
        cmocka_unit_test_setup(test_recipients, each),
        cmocka_unit_test_setup(test_none_accepted, each),
        cmocka_unit_test_setup(test_mail_refused_in_turn, each),
        cmocka_unit_test_setup(test_good_bye, each),
        cmocka_unit_test_setup(test_data_refused, each),
        cmocka_unit_test_setup(test_early, each),
        cmocka_unit_test_setup(test_cut_short, each),
        cmocka_unit_test_setup(test_source, each),
        cmocka_unit_test_setup(test_stop, each),
        cmocka_unit_test_setup(test_chunks, each),
        cmocka_unit_test_setup(test_chunks_refused, each),
    };
    return cmocka_run_group_tests(tests, make_world, free_world);
}
