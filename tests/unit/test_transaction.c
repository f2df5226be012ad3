/* Mail by the SMTP client, against scripted servers: that it arrives as it is, what becomes of each
 * recipient, and that no server is believed to have what it has not got. */
#include "tests/unit/dialog_world.h"

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

/* A server that refuses MAIL for good often hangs up at once, the answers to RCPT that came along
 * unsaid: it has refused all the same. */
static void test_mail_refused_then_lost(void **state)
{
    static const char *const ends[] = {"! close", "! reset", "> 421 4.3.2 down", "> what", "> 42"};
    (void)state;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        struct dialog_verdict v[3];
        assert_int_equal(
            start(SCRIPT(HELLO_WITH, "> 250 PIPELINING", "< MAIL FROM:<a@us.test>",
                         "< RCPT TO:<a@x>", "< RCPT TO:<b@x>", "> 550 5.7.1 not you", ends[i]),
                  NULL),
            DIALOG_READY);
        assert_int_equal(send_with((struct dialog_mail){.n = 0}, "hi\r\n",
                                   SCRIPT("a@x", "\xc3\xbc@x", "b@x"), v),
                         SP_ERR_PEER);
        expect(&v[0], DIALOG_FAILED, 550, "5.7.1", "not you");
        expect(&v[1], DIALOG_FAILED, 0, "5.6.7", "SMTPUTF8"); /* our own finding stays */
        expect(&v[2], DIALOG_FAILED, 550, "5.7.1", "not you");
        finish();
        assert_int_equal(start(SCRIPT(HELLO, "< MAIL FROM:<a@us.test>", "> 550 5.7.1 not you",
                                      "< RSET", ends[i]),
                               NULL),
                         DIALOG_READY);
        assert_int_equal(send_text("hi\r\n", v), SP_ERR_PEER);
        expect(&v[0], DIALOG_FAILED, 550, "5.7.1", "not you");
        finish();
    }
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
        cmocka_unit_test_setup(test_data, each),
        cmocka_unit_test_setup(test_big, each),
        cmocka_unit_test_setup(test_parameters, each),
        cmocka_unit_test_setup(test_impossible, each),
        cmocka_unit_test_setup(test_addresses, each),
        cmocka_unit_test_setup(test_recipients, each),
        cmocka_unit_test_setup(test_none_accepted, each),
        cmocka_unit_test_setup(test_mail_refused_in_turn, each),
        cmocka_unit_test_setup(test_mail_refused_then_lost, each),
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
