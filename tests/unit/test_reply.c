/* Replies as the relay reads them: what is one, what is none, in any cut. */
#include "daemon/relay/reply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

struct expected {
    const char *in; /* with its CRLFs */
    unsigned code;  /* 0: REPLY_BAD */
    const char *enhanced, *text;
    unsigned lines;
    size_t rest; /* octets behind it that are not looked at */
};

static const struct expected cases[] = {
    {"220 mx.test ESMTP\r\n", 220, "", "mx.test ESMTP", 1, 0},
    {"220 \r\n", 220, "", "", 1, 0},
    {"220\r\n", 220, "", "", 1, 0},
    {"250-\r\n250\r\n", 250, "", "", 2, 0},
    {"250-a\r\n250-b\r\n250 c\r\n", 250, "", "a b c", 3, 0},
    {"250 a\r\n250 b\r\n", 250, "", "a", 1, 7},
    {"250 a\r\nx", 250, "", "a", 1, 1},
    {"550 5.1.1 no such user\r\n", 550, "5.1.1", "no such user", 1, 0},
    {"550-5.1.1 no\r\n550 5.1.1 user\r\n", 550, "5.1.1", "no user", 2, 0},
    {"550-5.1.1 no\r\n550 5.7.1 user\r\n", 550, "5.1.1", "no user", 2, 0},
    {"550-no\r\n550 5.1.1 user\r\n", 550, "5.1.1", "no user", 2, 0},
    {"550 5.1.1\r\n", 550, "5.1.1", "", 1, 0},
    {"550 5.123.123 x\r\n", 550, "5.123.123", "x", 1, 0},
    /* Not of the reply's class, or no code: then it is text. */
    {"550 4.1.1 x\r\n", 550, "", "4.1.1 x", 1, 0},
    {"250 5.1.1 x\r\n", 250, "", "5.1.1 x", 1, 0},
    {"550 5.1 x\r\n", 550, "", "5.1 x", 1, 0},
    {"550 5.1.1.1 x\r\n", 550, "", "5.1.1.1 x", 1, 0},
    {"550 5.1234.1 x\r\n", 550, "", "5.1234.1 x", 1, 0},
    {"550 5..1 x\r\n", 550, "", "5..1 x", 1, 0},
    {"550 5.1.1x\r\n", 550, "", "5.1.1x", 1, 0},
    {"550  5.1.1 x\r\n", 550, "", " 5.1.1 x", 1, 0},
    {"354 2.0.0 x\r\n", 354, "", "2.0.0 x", 1, 0},
    {"299 x\r\n", 299, "", "x", 1, 0},
    {"599 x\r\n", 599, "", "x", 1, 0},
    {"550 \x1b[1m\t\xc3\xbc\x7f\r\n", 550, "", "?[1m ???", 1, 0},
    {"\r\n", 0, NULL, "without a reply code", 0, 0},
    {" 250 x\r\n", 0, NULL, "without a reply code", 0, 0},
    {"25 x\r\n", 0, NULL, "without a reply code", 0, 0},
    {"25\r\n", 0, NULL, "without a reply code", 0, 0},
    {"199 x\r\n", 0, NULL, "without a reply code", 0, 0},
    {"600 x\r\n", 0, NULL, "without a reply code", 0, 0},
    {"2a0 x\r\n", 0, NULL, "without a reply code", 0, 0},
    {"2500 x\r\n", 0, NULL, "without a separator", 0, 0},
    {"250_x\r\n", 0, NULL, "without a separator", 0, 0},
    {"250-a\r\n251 b\r\n", 0, NULL, "several codes", 0, 0},
    {"250-a\r\nb\r\n", 0, NULL, "without a reply code", 0, 0},
    {"250 a\nb\r\n", 0, NULL, "bare LF", 0, 2 + 1},
    {"250 a\n", 0, NULL, "bare LF", 0, 0},
    {"\n", 0, NULL, "bare LF", 0, 0},
    {"250 a\rb\r\n", 0, NULL, "bare CR", 0, 2},
    {"250 a\r\r\n", 0, NULL, "bare CR", 0, 1},
};

/* Feeds step octets at a time, up to the end of the reply. */
static enum reply_event feed(struct reply *r, const char *in, size_t len, size_t step, size_t *left,
                             unsigned *lines)
{
    enum reply_event event = REPLY_MORE;
    *lines = 0;
    while (len > 0 && event != REPLY_DONE && event != REPLY_BAD) {
        size_t used, n = step < len ? step : len;
        event = reply_push(r, (const uint8_t *)in, n, &used);
        assert_true(used <= n);
        assert_true(event != REPLY_MORE || used == n);
        *lines += event == REPLY_NEXT || event == REPLY_DONE;
        assert_int_equal(*lines > 0 ? strlen(r->line) : 0, *lines > 0 ? r->line_len : 0);
        in += used;
        len -= used;
    }
    *left = len;
    return event;
}

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct expected *c = &cases[i];
        for (size_t step = 1; step <= strlen(c->in); step++) {
            struct reply r;
            size_t left;
            unsigned lines;
            reply_init(&r);
            enum reply_event event = feed(&r, c->in, strlen(c->in), step, &left, &lines);
            if (c->code == 0) {
                assert_int_equal(event, REPLY_BAD);
                assert_non_null(strstr(r.problem, c->text));
                /* For good. */
                assert_int_equal(feed(&r, "250 ok\r\n", 8, 8, &left, &lines), REPLY_BAD);
                continue;
            }
            assert_int_equal(event, REPLY_DONE);
            assert_int_equal(r.code, c->code);
            assert_string_equal(r.enhanced, c->enhanced);
            assert_string_equal(r.text, c->text);
            assert_int_equal(lines, c->lines);
            assert_int_equal(left, c->rest);
            /* A reply is one reply. */
            assert_int_equal(feed(&r, "250 ok\r\n", 8, 8, &left, &lines), REPLY_BAD);
        }
    }
}

static void test_unfinished(void **state)
{
    (void)state;
    static const char *const parts[] = {"2",        "250",        "250 ok",
                                        "250 ok\r", "250-ok\r\n", "250-ok\r\n250 ok\r"};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        struct reply r;
        size_t left;
        unsigned lines;
        reply_init(&r);
        enum reply_event event = feed(&r, parts[i], strlen(parts[i]), 100, &left, &lines);
        assert_true(event == REPLY_MORE || event == REPLY_NEXT);
        assert_int_equal(left, 0);
    }
}

static void test_nul(void **state)
{
    (void)state;
    struct reply r;
    size_t left;
    unsigned lines;
    reply_init(&r);
    assert_int_equal(feed(&r, "250 a\0b\r\n", 9, 3, &left, &lines), REPLY_DONE);
    assert_string_equal(r.text, "a?b");
    reply_init(&r);
    assert_int_equal(feed(&r, "25\0 a\r\n", 7, 3, &left, &lines), REPLY_BAD);
}

static void test_longest_line(void **state)
{
    (void)state;
    char in[REPLY_LINE + 1];
    for (size_t len = REPLY_LINE - 2; len <= REPLY_LINE + 1; len++) {
        struct reply r;
        size_t left;
        unsigned lines;
        memset(in, 'x', sizeof(in));
        memcpy(in, "250 ", 4);
        memcpy(in + len - 2, "\r\n", 2);
        reply_init(&r);
        assert_int_equal(feed(&r, in, len, 100, &left, &lines),
                         len <= REPLY_LINE ? REPLY_DONE : REPLY_BAD);
        if (len > REPLY_LINE)
            continue;
        assert_int_equal(r.line_len, len - 6);
        assert_int_equal(strlen(r.text), REPLY_TEXT);
    }
}

static void test_most_lines(void **state)
{
    (void)state;
    struct reply r;
    size_t left;
    unsigned lines;
    reply_init(&r);
    for (unsigned i = 0; i < REPLY_LINES; i++)
        assert_int_equal(feed(&r, "250-line\r\n", 10, 10, &left, &lines), REPLY_NEXT);
    assert_int_equal(strlen(r.text), REPLY_TEXT);
    assert_int_equal(feed(&r, "250-line\r\n", 10, 10, &left, &lines), REPLY_BAD);
    assert_string_equal(r.problem, "a reply of too many lines");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),      cmocka_unit_test(test_unfinished),
        cmocka_unit_test(test_nul),        cmocka_unit_test(test_longest_line),
        cmocka_unit_test(test_most_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
