/* Paths and parameters of MAIL and RCPT. */
#include "daemon/smtp/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { N = ADDRESS_NULL_PATH, P = ADDRESS_POSTMASTER, U = ADDRESS_UTF8 };

static const struct {
    const char *text;
    unsigned allow;
    const char *local, *domain;
    const char *rest;
    const char *written;
} good[] = {
    {"<a@b.example>", 0, "a", "b.example", "", "a@b.example"},
    {"<A.B+c@B.Example> SIZE=1", 0, "A.B+c", "b.example", " SIZE=1", "A.B+c@b.example"},
    {"<>", N, "", "", "", ""},
    {"<> BODY=7BIT", N, "", "", " BODY=7BIT", ""},
    {"<Postmaster>", P, "postmaster", "", "", "postmaster"},
    {"<POSTMASTER>", P | N, "postmaster", "", "", "postmaster"},
    {"<Postmaster@B>", P, "Postmaster", "b", "", "Postmaster@b"},
    {"<!#$%&'*+-/=?^_`{|}~@b>", 0, "!#$%&'*+-/=?^_`{|}~", "b", "", "!#$%&'*+-/=?^_`{|}~@b"},
    {"<\"a\"@b>", 0, "a", "b", "", "a@b"},
    {"<\"\\a\\.\\b\"@b>", 0, "a.b", "b", "", "a.b@b"},
    {"<\"a b\"@b>", 0, "a b", "b", "", "\"a b\"@b"},
    {"<\"a@b\"@ours>", 0, "a@b", "ours", "", "\"a@b\"@ours"},
    {"<\"a>b\"@c>", 0, "a>b", "c", "", "\"a>b\"@c"},
    {"<\"a\\\"\\\\\"@b>", 0, "a\"\\", "b", "", "\"a\\\"\\\\\"@b"},
    {"<\"a..b\"@c>", 0, "a..b", "c", "", "\"a..b\"@c"},
    {"<\"\"@c>", 0, "", "c", "", "\"\"@c"},
    {"<a%b@ours>", 0, "a%b", "ours", "", "a%b@ours"},
    {"<b!a@ours>", 0, "b!a", "ours", "", "b!a@ours"},
    {"<a@[1.2.3.4]>", 0, "a", "[1.2.3.4]", "", "a@[1.2.3.4]"},
    {"<a@[IPv6:2001:DB8::1]>", 0, "a", "[ipv6:2001:db8::1]", "", "a@[ipv6:2001:db8::1]"},
    {"<a@[ipv6:::ffff:1.2.3.4]>", 0, "a", "[ipv6:::ffff:1.2.3.4]", "", "a@[ipv6:::ffff:1.2.3.4]"},
    {"<@x.example:a@b>", 0, "a", "b", "", "a@b"},
    {"<@x,@y.z,@w:\"a\"@b>", 0, "a", "b", "", "a@b"},
    {"<a@1.example>", 0, "a", "1.example", "", "a@1.example"},
    {"<a@x-y--z.example>", 0, "a", "x-y--z.example", "", "a@x-y--z.example"},
    {"<\xc3\xbc@b>", U, "\xc3\xbc", "b", "", "\xc3\xbc@b"},
    {"<a@\xc3\xbc.EXAMPLE>", U, "a", "\xc3\xbc.example", "", "a@\xc3\xbc.example"},
    {"<\"\xc3\xbc \"@b>", U, "\xc3\xbc ", "b", "", "\"\xc3\xbc \"@b"},
};

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct address a;
        char text[ADDRESS_MAX_TEXT];
        const char *end = NULL;
        const enum sp_err err = address_parse(good[i].text, good[i].allow, &a, &end);
        if (err != SP_OK)
            fail_msg("%s: refused (%d)", good[i].text, (int)err);
        assert_string_equal(a.local, good[i].local);
        assert_string_equal(a.domain, good[i].domain);
        assert_string_equal(end, good[i].rest);
        assert_int_equal(a.null, good[i].text[1] == '>');
        assert_int_equal(a.literal, good[i].domain[0] == '[');
        assert_int_equal(a.utf8, strchr(good[i].text, '\xc3') != NULL);
        assert_int_equal(address_write(&a, text, sizeof text), SP_OK);
        assert_string_equal(text, good[i].written);
        const size_t need = strlen(good[i].written) + 1;
        assert_int_equal(address_write(&a, text, need), SP_OK);
        assert_int_equal(address_write(&a, text, need - 1), SP_ERR_LIMIT);
    }
}

static const struct {
    const char *text;
    unsigned allow;
    enum sp_err err;
} bad[] = {
    {"", N, SP_ERR_FORMAT},
    {"a@b", N, SP_ERR_FORMAT},
    {"<", N, SP_ERR_FORMAT},
    {"<>", P, SP_ERR_FORMAT},
    {"<>x", N, SP_ERR_FORMAT},
    {"< >", N, SP_ERR_FORMAT},
    {"<postmaster>", N, SP_ERR_FORMAT},
    {"<\"postmaster\">", P, SP_ERR_FORMAT},
    {"<a>", P, SP_ERR_FORMAT},
    {"<@b>", P, SP_ERR_FORMAT},
    {"<a@>", P, SP_ERR_FORMAT},
    {"<a@b", P, SP_ERR_FORMAT},
    {"<a@b>x", P, SP_ERR_FORMAT},
    {"<a@b>\tSIZE=1", P, SP_ERR_FORMAT},
    {"<<a@b>>", P, SP_ERR_FORMAT},
    {"<a@b@c>", P, SP_ERR_FORMAT},
    {"< a@b>", P, SP_ERR_FORMAT},
    {"<a@b >", P, SP_ERR_FORMAT},
    {"<a b@c>", P, SP_ERR_FORMAT},
    {"<.a@b>", P, SP_ERR_FORMAT},
    {"<a.@b>", P, SP_ERR_FORMAT},
    {"<a..b@c>", P, SP_ERR_FORMAT},
    {"<a@.b>", P, SP_ERR_FORMAT},
    {"<a@b.>", P, SP_ERR_FORMAT},
    {"<a@b..c>", P, SP_ERR_FORMAT},
    {"<a@-b>", P, SP_ERR_FORMAT},
    {"<a@b->", P, SP_ERR_FORMAT},
    {"<a@b_c>", P, SP_ERR_FORMAT},
    {"<a(c)@b>", P, SP_ERR_FORMAT},
    {"<a\x01@b>", P, SP_ERR_FORMAT},
    {"<\"a\x01\"@b>", P, SP_ERR_FORMAT},
    {"<\"a\x7f\"@b>", P, SP_ERR_FORMAT},
    {"<\"a\\\x01\"@b>", P, SP_ERR_FORMAT},
    {"<\"a\t\"@b>", P, SP_ERR_FORMAT},
    {"<\"a@b>", P, SP_ERR_FORMAT},
    {"<\"a\\", P, SP_ERR_FORMAT},
    {"<\"a\"b@c>", P, SP_ERR_FORMAT},
    {"<a\"b\"@c>", P, SP_ERR_FORMAT},
    {"<a@[1.2.3]>", P, SP_ERR_FORMAT},
    {"<a@[1.2.3.256]>", P, SP_ERR_FORMAT},
    {"<a@[1.2.3.4>", P, SP_ERR_FORMAT},
    {"<a@1.2.3.4]>", P, SP_ERR_FORMAT},
    {"<a@[]>", P, SP_ERR_FORMAT},
    {"<a@[::1]>", P, SP_ERR_FORMAT},
    {"<a@[IPv6:1.2.3.4]>", P, SP_ERR_FORMAT},
    {"<a@[IPv6:]>", P, SP_ERR_FORMAT},
    {"<a@[IPv6]>", P, SP_ERR_FORMAT},
    {"<a@[IPv6:::1%lo]>", P, SP_ERR_FORMAT},
    {"<a@[x:y]>", P, SP_ERR_FORMAT},
    {"<a@[1.2.3.4].b>", P, SP_ERR_FORMAT},
    {"<@a>", P, SP_ERR_FORMAT},
    {"<@a:>", P, SP_ERR_FORMAT},
    {"<@a,b@c>", P, SP_ERR_FORMAT},
    {"<@a,:b@c>", P, SP_ERR_FORMAT},
    {"<@a:@b:c@d>", P, SP_ERR_FORMAT},
    {"<\xc3\xbc@b>", P, SP_ERR_DENIED},
    {"<a@\xc3\xbc>", P, SP_ERR_DENIED},
    {"<\xc3@b>", U, SP_ERR_FORMAT},
    {"<\xc0\x80@b>", U, SP_ERR_FORMAT},
    {"<\xed\xa0\x80@b>", U, SP_ERR_FORMAT},
    {"<\xf4\x90\x80\x80@b>", U, SP_ERR_FORMAT},
    {"<\xc2\x85@b>", U, SP_ERR_FORMAT},
    {"<a@b\xff>", U, SP_ERR_FORMAT},
    {"<\"\\\xc3\xbc\"@b>", U, SP_ERR_FORMAT},
};

static void expect_refused(const char *text, unsigned allow, enum sp_err expect)
{
    static const struct address zero;
    struct address a;
    const char *end = NULL;

    memset(&a, 0xff, sizeof a);
    const enum sp_err err = address_parse(text, allow, &a, &end);
    if (err != expect)
        fail_msg("%s: %d, not %d", text, (int)err, (int)expect);
    assert_ptr_equal(end, text);
    assert_memory_equal(&a, &zero, sizeof a);
}

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect_refused(bad[i].text, bad[i].allow, bad[i].err);
}

/* A path of so many x, and labels of x. */
static const char *path(size_t local, size_t labels, size_t last, bool quoted)
{
    static char text[2048];
    size_t n = 0;

    text[n++] = '<';
    if (quoted)
        text[n++] = '"';
    memset(text + n, 'x', local);
    n += local;
    if (quoted)
        text[n++] = '"';
    text[n++] = '@';
    for (size_t i = 0; i < labels; i++) {
        memset(text + n, 'y', 49);
        n += 49;
        text[n++] = '.';
    }
    memset(text + n, 'z', last);
    n += last;
    memcpy(text + n, ">", 2);
    return text;
}

static void expect_good(const char *text)
{
    struct address a;
    const char *end = NULL;

    assert_int_equal(address_parse(text, 0, &a, &end), SP_OK);
    assert_int_equal(*end, '\0');
}

static void test_limits(void **state)
{
    (void)state;
    expect_good(path(64, 0, 1, false));
    expect_refused(path(65, 0, 1, false), 0, SP_ERR_LIMIT);
    expect_good(path(62, 0, 1, true));
    expect_refused(path(63, 0, 1, true), 0, SP_ERR_LIMIT);
    expect_refused(path(1000, 0, 1, true), 0, SP_ERR_LIMIT);
    expect_good(path(1, 0, 63, false));
    expect_refused(path(1, 0, 64, false), 0, SP_ERR_LIMIT);
    expect_good(path(1, 5, 2, false));                       /* 256 octets with < and > */
    expect_good(path(64, 5, 5, false));                      /* the longest of both */
    expect_refused(path(64, 5, 6, false), 0, SP_ERR_LIMIT);  /* a domain of 256 */
    expect_refused(path(64, 20, 6, false), 0, SP_ERR_LIMIT); /* and of 1,006 */
}

static void test_keyword(void **state)
{
    const char *at = "from: <a@b>";

    (void)state;
    assert_false(address_keyword(&at, "TO:"));
    assert_true(address_keyword(&at, "FROM:"));
    assert_string_equal(at, "<a@b>");
    at = "TO:<a@b>";
    assert_true(address_keyword(&at, "TO:"));
    assert_string_equal(at, "<a@b>");
    at = "TO:  <a@b>";
    assert_true(address_keyword(&at, "TO:"));
    assert_string_equal(at, " <a@b>"); /* which address_parse refuses */
    at = "FRO";
    assert_false(address_keyword(&at, "FROM:"));
}

/* All parameters as "KEY=value;", then the last result. */
static void params(const char *text, char *out, size_t cap, enum sp_err *err)
{
    struct address_param p;
    size_t n = 0;

    out[0] = '\0';
    while ((*err = address_param_next(&text, &p)) == SP_OK) {
        n += (size_t)snprintf(out + n, cap - n, "%s%s%.*s;", p.key, p.value == NULL ? "" : "=",
                              (int)p.value_len, p.value == NULL ? "" : p.value);
        assert_true(n < cap);
    }
}

static void test_params(void **state)
{
    static const struct {
        const char *text, *expect;
        enum sp_err err;
    } items[] = {
        {"", "", SP_ERR_NOT_FOUND},
        {"  ", "", SP_ERR_NOT_FOUND},
        {" SIZE=100 body=8BITMIME SMTPUTF8 ", "SIZE=100;BODY=8BITMIME;SMTPUTF8;", SP_ERR_NOT_FOUND},
        {" x-y-1=<>", "X-Y-1=<>;", SP_ERR_NOT_FOUND},
        {" ORCPT=utf-8;\xc3\xbc", "ORCPT=utf-8;\xc3\xbc;", SP_ERR_NOT_FOUND},
        {" A B=", "A;", SP_ERR_FORMAT},
        {" =x", "", SP_ERR_FORMAT},
        {" A=b=c", "", SP_ERR_FORMAT},
        {" -A", "", SP_ERR_FORMAT},
        {" A_B", "", SP_ERR_FORMAT},
        {" A=\x01", "", SP_ERR_FORMAT},
        {" A=b\x7f", "", SP_ERR_FORMAT},
        {" A=\xff", "", SP_ERR_FORMAT},
        {" A\tB", "", SP_ERR_FORMAT},
        {" ABCDEFGHIJKLMNOPQRSTUVWXYZ123456", "ABCDEFGHIJKLMNOPQRSTUVWXYZ123456;",
         SP_ERR_NOT_FOUND},
        {" ABCDEFGHIJKLMNOPQRSTUVWXYZ1234567", "", SP_ERR_FORMAT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof items / sizeof items[0]; i++) {
        char got[128];
        enum sp_err err = SP_OK;
        params(items[i].text, got, sizeof got, &err);
        assert_string_equal(got, items[i].expect);
        assert_int_equal(err, items[i].err);
    }
}

static void test_values(void **state)
{
    static const struct {
        const char *text;
        enum sp_err err;
        unsigned long long n;
    } numbers[] = {
        {" S=0", SP_OK, 0},
        {" S=52428800", SP_OK, 52428800},
        {" S=18446744073709551615", SP_OK, 18446744073709551615ull},
        {" S=18446744073709551616", SP_ERR_LIMIT, 0},
        {" S=99999999999999999999", SP_ERR_LIMIT, 0},
        {" S=000000000000000000000", SP_ERR_FORMAT, 0},
        {" S=-1", SP_ERR_FORMAT, 0},
        {" S=1k", SP_ERR_FORMAT, 0},
        {" S", SP_ERR_FORMAT, 0},
    };
    struct address_param p;
    const char *at = " BODY=8BitMime X";

    (void)state;
    assert_int_equal(address_param_next(&at, &p), SP_OK);
    assert_true(address_param_is(&p, "8BITMIME"));
    assert_false(address_param_is(&p, "8BIT"));
    assert_false(address_param_is(&p, "8BITMIME2"));
    assert_int_equal(address_param_next(&at, &p), SP_OK);
    assert_false(address_param_is(&p, ""));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        unsigned long long n = 1;
        at = numbers[i].text;
        assert_int_equal(address_param_next(&at, &p), SP_OK);
        assert_int_equal(address_param_number(&p, &n), numbers[i].err);
        assert_int_equal(n, numbers[i].n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),   cmocka_unit_test(test_bad),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_keyword),
        cmocka_unit_test(test_params), cmocka_unit_test(test_values),
    };

    return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
