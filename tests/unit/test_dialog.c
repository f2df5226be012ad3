/* The SMTP client up to where mail may be sent, against scripted servers, good and hostile, on real
 * sockets with real TLS: what it says, what it makes of the answers, and that no trick makes it say
 * more. */
#include "tests/unit/dialog_world.h"

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
    };
    return cmocka_run_group_tests(tests, make_world, free_world);
}
