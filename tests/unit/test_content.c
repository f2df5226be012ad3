/* The content of a message off the network: where it ends, what is refused, and that no tail of it
 * is ever left for the command parser (SMTP smuggling). */
#include "daemon/smtp/content.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct got {
    char bytes[65536];
    size_t len;
    size_t calls;
    enum sp_err fail;
};

static enum sp_err on_content(void *ctx, const uint8_t *bytes, size_t len)
{
    struct got *got = ctx;

    assert_true(len > 0 && got->len + len <= sizeof got->bytes);
    memcpy(got->bytes + got->len, bytes, len);
    got->len += len;
    got->calls++;
    return got->fail;
}

/* Feeds it in steps of n bytes (each its own allocation); returns the bytes consumed. */
static size_t feed(struct content *c, const char *in, size_t len, size_t n, struct got *got,
                   bool *done)
{
    size_t at = 0;

    *done = false;
    while (at < len && !*done) {
        size_t used = 0;
        const size_t step = n < len - at ? n : len - at;
        uint8_t *own = malloc(step);
        assert_non_null(own);
        memcpy(own, in + at, step);
        assert_int_equal(content_push(c, own, step, &used, done, on_content, got), SP_OK);
        assert_true(*done ? used <= step : used == step);
        at += used;
        free(own);
    }
    return at;
}

struct item {
    const char *in;
    size_t in_len;
    const char *content; /* NULL: refused */
    const char *refused;
    const char *rest; /* NULL: not done */
};
#define IN(s) s, sizeof(s) - 1

static const struct item data[] = {
    {IN(".\r\n"), "", NULL, ""},
    {IN(".\r\nQUIT\r\n"), "", NULL, "QUIT\r\n"},
    {IN("a\r\n.\r\nMAIL"), "a\r\n", NULL, "MAIL"},
    {IN("\r\n.\r\n"), "\r\n", NULL, ""},
    {IN("..\r\n.\r\n"), ".\r\n", NULL, ""},
    {IN("...a\r\n.b\r\n..\r\n.\r\n.\r\n"), "..a\r\nb\r\n.\r\n", NULL, ".\r\n"},
    {IN("a.\r\n.\r\n"), "a.\r\n", NULL, ""},
    {IN("a\tb\v\f\x01\x7f\xff\r\n.\r\n"), "a\tb\v\f\x01\x7f\xff\r\n", NULL, ""},
    {IN("a\r\n."), "a\r\n", NULL, NULL},
    {IN("a\r\n.\r"), "a\r\n", NULL, NULL},
    {IN("a\r\n\r\n"), "a\r\n\r\n", NULL, NULL},
    /* Not an end, whatever others think (CVE-2023-51764, -51765, -51766). */
    {IN("a\n.\nMAIL FROM:<b>\r\n.\r\nX"), NULL, "bare-lf", "X"},
    {IN("a\n.\r\nMAIL\r\n.\r\nX"), NULL, "bare-lf", "X"},
    {IN("a\r\n.\nMAIL\r\n.\r\nX"), NULL, "bare-lf", "X"},
    {IN("a\r\n.\rMAIL\r\n.\r\nX"), NULL, "bare-cr", "X"},
    {IN("a\r.\rMAIL\r\n.\r\nX"), NULL, "bare-cr", "X"},
    {IN("a\r.\r\nMAIL\r\n.\r\nX"), NULL, "bare-cr", "X"},
    {IN("a\r\n.\r\r\nMAIL\r\n.\r\nX"), NULL, "bare-cr", "X"},
    {IN("a\r\r\n.\r\nX"), NULL, "bare-cr", "X"},
    {IN("a\r\n\r.\r\nMAIL\r\n.\r\nX"), NULL, "bare-cr", "X"},
    {IN("a\r\n\n.\r\nMAIL\r\n.\r\nX"), NULL, "bare-lf", "X"},
    {IN("a\0b\r\n.\r\nX"), NULL, "nul", "X"},
    {IN("\0\r\n.\r\nX"), NULL, "nul", "X"},
    {IN("a\r\n.\0\r\n.\r\nX"), NULL, "nul", "X"},
    {IN("a\r\n\0.\r\nMAIL\r\n.\r\nX"), NULL, "nul", "X"},
    {IN("a\r\0\n.\r\nMAIL\r\n.\r\nX"), NULL, "bare-cr", "X"},
    {IN("\n.\r\nX\r\n.\r\nY"), NULL, "bare-lf", "Y"},
    {IN(".\n.\r\nX\r\n.\r\nY"), NULL, "bare-lf", "Y"},
    {IN(".\r.\r\nX\r\n.\r\nY"), NULL, "bare-cr", "Y"},
    {IN("..\n\r\n.\r\nY"), NULL, "bare-lf", "Y"},
};

static const struct item bdat[] = {
    {IN("a\r\n.\r\n..b\r\n"), "a\r\n.\r\n..b\r\n", NULL, NULL},
    {IN("no end"), "no end", NULL, NULL},
    {IN("a\nb"), NULL, "bare-lf", NULL},
    {IN("a\rb"), NULL, "bare-cr", NULL},
    {IN("a\0b"), NULL, "nul", NULL},
    {IN("a\r"), NULL, "bare-cr", NULL},
    {IN("\n"), NULL, "bare-lf", NULL},
};

static void run(const struct item *item, enum content_mode mode, size_t step)
{
    struct got *got = calloc(1, sizeof *got);
    struct content c;
    bool done = false;

    assert_non_null(got);
    content_init(&c, mode);
    const size_t used = feed(&c, item->in, item->in_len, step, got, &done);
    assert_int_equal(done, item->rest != NULL);
    if (done)
        assert_string_equal(item->in + used, item->rest);
    content_end(&c);
    if (item->refused != NULL) {
        assert_non_null(content_refused(&c));
        assert_string_equal(content_refused(&c), item->refused);
    } else {
        assert_null(content_refused(&c));
        assert_int_equal(got->len, strlen(item->content));
        assert_memory_equal(got->bytes, item->content, got->len);
        assert_int_equal(content_bytes(&c), got->len);
    }
    free(got);
}

static void test_data(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof data / sizeof data[0]; i++) {
        for (size_t step = 1; step <= data[i].in_len; step++)
            run(&data[i], CONTENT_DATA, step);
    }
}

static void test_bdat(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bdat / sizeof bdat[0]; i++) {
        for (size_t step = 1; step <= bdat[i].in_len; step++)
            run(&bdat[i], CONTENT_BDAT, step);
    }
}

/* Each place where the wide scan can find an octet, or miss it. */
static void test_every_offset(void **state)
{
    static const char *const ends[] = {"\r\n.\r\nREST", "\n\r\n.\r\nREST", "\rx\r\n.\r\nREST"};
    char in[160];

    (void)state;
    for (size_t n = 0; n < 128; n++) {
        for (size_t e = 0; e < 3; e++) {
            struct got got = {.len = 0};
            struct content c;
            bool done = false;
            memset(in, 'x', n);
            const size_t len = n + (size_t)snprintf(in + n, sizeof in - n, "%s", ends[e]);
            content_init(&c, CONTENT_DATA);
            const size_t used = feed(&c, in, len, len, &got, &done);
            assert_true(done);
            assert_int_equal(len - used, 4);
            assert_int_equal(content_refused(&c) != NULL, e > 0);
            if (e == 0)
                assert_int_equal(got.len, n + 2);
        }
    }
}

static void test_long_runs(void **state)
{
    static char in[16384];
    static struct got got;
    struct content c;
    bool done = false;

    (void)state;
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = i % 78 == 76 ? '\r' : i % 78 == 77 ? '\n' : 'A';
    content_init(&c, CONTENT_DATA);
    feed(&c, in, sizeof in, sizeof in, &got, &done);
    assert_int_equal(got.calls, 1);
    assert_int_equal(got.len, sizeof in);
}

static void test_refuse_and_errors(void **state)
{
    struct got got = {.len = 0};
    struct content c;
    bool done = false;
    size_t used = 0;

    (void)state;
    content_init(&c, CONTENT_DATA);
    feed(&c, "ab", 2, 2, &got, &done);
    content_refuse(&c, "size");
    feed(&c, "cd\n\r\n.\r\n", 8, 1, &got, &done);
    assert_true(done);
    assert_int_equal(got.len, 2);
    assert_int_equal(content_bytes(&c), 7);
    assert_string_equal(content_refused(&c), "size");
    assert_int_equal(content_push(&c, (const uint8_t *)"x", 1, &used, &done, on_content, &got),
                     SP_ERR_STATE);
    assert_false(done);
    assert_int_equal(used, 0);

    content_init(&c, CONTENT_DATA);
    got.fail = SP_ERR_NO_SPACE;
    assert_int_equal(content_push(&c, (const uint8_t *)"x", 1, &used, &done, on_content, &got),
                     SP_ERR_NO_SPACE);
    assert_int_equal(content_push(&c, (const uint8_t *)"x", 1, &used, &done, on_content, &got),
                     SP_ERR_STATE);
}

/* A CR at the end of one chunk and its LF in the next are a CRLF. */
static void test_bdat_chunks(void **state)
{
    struct got got = {.len = 0};
    struct content c;
    bool done = false;

    (void)state;
    content_init(&c, CONTENT_BDAT);
    feed(&c, "a\r", 2, 2, &got, &done);
    feed(&c, "\n.\r\n", 4, 4, &got, &done);
    content_end(&c);
    assert_null(content_refused(&c));
    assert_int_equal(got.len, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data),
        cmocka_unit_test(test_bdat),
        cmocka_unit_test(test_every_offset),
        cmocka_unit_test(test_long_runs),
        cmocka_unit_test(test_refuse_and_errors),
        cmocka_unit_test(test_bdat_chunks),
    };

    return cmocka_run_group_tests_name("content", tests, NULL, NULL);
}
