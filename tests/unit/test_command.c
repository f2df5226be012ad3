/* Command lines: what is one, what is swallowed, and how it splits into verb and argument. */
#include "daemon/smtp/command.h"
#include "daemon/smtp/lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Feeds in steps of n and writes the events down: "[line]" or L, B, N. */
static void events(const char *in, size_t len, size_t n, char *out, size_t cap)
{
    static const char letters[] = "--LBN";
    struct lines l;
    size_t at = 0;
    size_t to = 0;

    lines_init(&l);
    while (at < len) {
        size_t used = 0;
        size_t line_len = 0;
        char *line = NULL;
        const size_t step = n < len - at ? n : len - at;
        uint8_t *own = malloc(step);
        assert_non_null(own);
        memcpy(own, in + at, step);
        const enum lines_event event = lines_push(&l, own, step, &used, &line, &line_len);
        free(own);
        at += used;
        assert_int_equal(event == LINES_LINE, line != NULL);
        if (event == LINES_LINE) {
            assert_int_equal(strlen(line), line_len);
            to += (size_t)snprintf(out + to, cap - to, "[%s]", line);
        } else if (event != LINES_MORE) {
            to += (size_t)snprintf(out + to, cap - to, "%c", letters[event]);
        } else {
            assert_int_equal(used, step);
        }
        assert_true(to < cap);
    }
    out[to] = '\0';
    if (lines_pending(&l))
        snprintf(out + to, cap - to, "...");
}

#define IN(s) s, sizeof(s) - 1
static const struct {
    const char *in;
    size_t len;
    const char *expect;
} streams[] = {
    {IN(""), ""},
    {IN("\r\n"), "[]"},
    {IN("EHLO a\r\nQUIT\r\n"), "[EHLO a][QUIT]"},
    {IN("EHLO a\r\nQU"), "[EHLO a]..."},
    {IN("EHLO a\r"), "..."},
    {IN("EHLO a\nMAIL\r\nQUIT\r\n"), "B[QUIT]"},
    {IN("EHLO a\rMAIL\r\nQUIT\r\n"), "B[QUIT]"},
    {IN("EHLO a\r\r\nQUIT\r\n"), "B[QUIT]"},
    {IN("\n\r\n\r\n"), "B[]"},
    {IN("NOOP\n\nQUIT"), "..."},
    {IN("NO\0OP\r\nQUIT\r\n"), "N[QUIT]"},
    {IN("\0\n\r\n"), "B"},
    {IN("\0\r\n"), "N"},
};

static void test_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        for (size_t n = 1; n <= streams[i].len + 1; n++) {
            char got[256];
            events(streams[i].in, streams[i].len, n, got, sizeof got);
            assert_string_equal(got, streams[i].expect);
        }
    }
}

static void test_long_lines(void **state)
{
    static char in[3 * LINES_MAX];
    static char got[3 * LINES_MAX];

    (void)state;
    for (size_t len = LINES_MAX - 3; len <= LINES_MAX + 2; len++) {
        memset(in, 'x', len);
        memcpy(in + len - 2, "\r\nQUIT\r\n", 8);
        for (size_t n = 1; n < len + 10; n += 997) {
            events(in, len + 6, n, got, sizeof got);
            if (len > LINES_MAX) {
                assert_string_equal(got, "L[QUIT]");
            } else {
                assert_int_equal(strlen(got), len - 2 + 2 + 6);
            }
        }
    }
    /* The tail of a line that is too long is no command, whatever it holds. */
    memset(in, 'x', sizeof in);
    memcpy(in + 2 * LINES_MAX, "\nQUIT\n\rQUIT\n\r\n", 14);
    events(in, 2 * LINES_MAX + 14, 4096, got, sizeof got);
    assert_string_equal(got, "L");
}

static const struct {
    const char *line;
    enum command_verb verb;
    const char *arg;
} splits[] = {
    {"", CMD_UNKNOWN, ""},
    {"   ", CMD_UNKNOWN, ""},
    {" NOOP", CMD_UNKNOWN, "NOOP"},
    {"EHLO a.example", CMD_EHLO, "a.example"},
    {"helo\ta ", CMD_HELO, "a"},
    {"lhlo  x  y \t", CMD_LHLO, "x  y"},
    {"Mail From:<a@b>", CMD_MAIL, "From:<a@b>"},
    {"RCPT TO:<a@b> NOTIFY=NEVER", CMD_RCPT, "TO:<a@b> NOTIFY=NEVER"},
    {"MAILFROM:<a@b>", CMD_UNKNOWN, ""},
    {"DATA", CMD_DATA, ""},
    {"DATA ", CMD_DATA, ""},
    {"BDAT 10 LAST", CMD_BDAT, "10 LAST"},
    {"rset", CMD_RSET, ""},
    {"NOOP x", CMD_NOOP, "x"},
    {"vrfy x", CMD_VRFY, "x"},
    {"EXPN x", CMD_EXPN, "x"},
    {"HELP", CMD_HELP, ""},
    {"QuIt", CMD_QUIT, ""},
    {"StartTLS", CMD_STARTTLS, ""},
    {"STARTTLSX", CMD_UNKNOWN, ""},
    {"DAT", CMD_UNKNOWN, ""},
    {"GET / HTTP/1.1", CMD_HTTP, "/ HTTP/1.1"},
    {"post /", CMD_HTTP, "/"},
    {"CONNECT x:25", CMD_HTTP, "x:25"},
    {"Host: x", CMD_UNKNOWN, "x"},
    {"\xff\xfe", CMD_UNKNOWN, ""},
};

static void test_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof splits / sizeof splits[0]; i++) {
        char line[64];
        struct command c;
        const size_t len = (size_t)snprintf(line, sizeof line, "%s", splits[i].line);
        assert_int_equal(command_split(line, len, &c), SP_OK);
        assert_int_equal(c.verb, splits[i].verb);
        assert_string_equal(c.arg, splits[i].arg);
        assert_int_equal(c.arg_len, strlen(splits[i].arg));
    }
}

static void test_split_refuses(void **state)
{
    char nul[] = "NOOP\0x";
    char cr[] = "NOOP\rx";
    char lf[] = "NOOP x\n";
    struct command c;

    (void)state;
    assert_int_equal(command_split(nul, 6, &c), SP_ERR_FORMAT);
    assert_int_equal(c.verb, CMD_UNKNOWN);
    assert_string_equal(c.arg, "");
    assert_int_equal(command_split(cr, 6, &c), SP_ERR_FORMAT);
    assert_int_equal(command_split(lf, 7, &c), SP_ERR_FORMAT);
    assert_string_equal(command_name(CMD_STARTTLS), "STARTTLS");
    assert_string_equal(command_name(CMD_HTTP), "HTTP");
    assert_string_equal(command_name(CMD_UNKNOWN), "UNKNOWN");
}

static const struct {
    const char *arg;
    enum sp_err err;
    uint64_t size;
    bool last;
} chunks[] = {
    {"0 LAST", SP_OK, 0, true},
    {"0", SP_OK, 0, false},
    {"86 last", SP_OK, 86, true},
    {"0010", SP_OK, 10, false},
    {"9223372036854775807", SP_OK, INT64_MAX, false},
    {"9223372036854775808", SP_ERR_LIMIT, 0, false},
    {"18446744073709551616", SP_ERR_LIMIT, 0, false},
    {"99999999999999999999999999999999999999", SP_ERR_LIMIT, 0, false},
    {"", SP_ERR_FORMAT, 0, false},
    {"LAST", SP_ERR_FORMAT, 0, false},
    {"-1", SP_ERR_FORMAT, 0, false},
    {"+1", SP_ERR_FORMAT, 0, false},
    {"1x", SP_ERR_FORMAT, 0, false},
    {"0x10", SP_ERR_FORMAT, 0, false},
    {"1LAST", SP_ERR_FORMAT, 0, false},
    {"1 LASTLY", SP_ERR_FORMAT, 0, false},
    {"1 LAST LAST", SP_ERR_FORMAT, 0, false},
    {"1 2", SP_ERR_FORMAT, 0, false},
    {" 1", SP_ERR_FORMAT, 0, false},
};

static void test_bdat(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        uint64_t size = 1;
        bool last = true;
        assert_int_equal(command_bdat(chunks[i].arg, &size, &last), chunks[i].err);
        assert_int_equal(size, chunks[i].size);
        assert_int_equal(last, chunks[i].last);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines), cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_split), cmocka_unit_test(test_split_refuses),
        cmocka_unit_test(test_bdat),
    };

    return cmocka_run_group_tests_name("command", tests, NULL, NULL);
}
