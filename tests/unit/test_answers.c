/* What is taken over from DNS answers: names and addresses of use, and nothing else. */
#include "daemon/resolver/answers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static bool ok(const char *name)
{
    return answers_name_ok(name, strlen(name));
}

static void names(void **state)
{
    (void)state;
    char longest[256] = "";
    static const char *const good[] = {
        "a",           "a.b",  "mx1.example.org", "x_y.example.org", "1a.org", "xn--4ca.example",
        "1.2.3.4.org", "A-B.C"};
    static const char *const bad[] = {"",       ".",       "a.",           ".a",      "a..b",
                                      "-a.org", "a-.org",  "a.-b.org",     "a.org-",  "a b.org",
                                      "a*.org", "a\\.org", "1.2.3.4",      "127",     "a.1",
                                      "a/org",  "a@b.org", "\xc3\xa4.org", "a\n.org", "[::1]"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(ok(good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(ok(bad[i]));
    assert_false(answers_name_ok("a\0b", 3));
    memset(longest, 'x', 253);
    longest[63] = longest[127] = longest[191] = '.';
    assert_true(ok(longest));
    longest[253] = 'x';
    assert_false(ok(longest)); /* 254 bytes, and a label of 62 */
    memset(longest, 'x', 64);
    longest[64] = '\0';
    assert_false(ok(longest));
    assert_true(ok(longest + 1));
}

/* --- packets --- */

static uint8_t packet[4096];
static size_t len;

static void put(const void *bytes, size_t n)
{
    assert_true(len + n <= sizeof(packet));
    memcpy(packet + len, bytes, n);
    len += n;
}

static void put_u16(unsigned v)
{
    const uint8_t bytes[] = {(uint8_t)(v >> 8), (uint8_t)v};
    put(bytes, 2);
}

/* "a.b" as labels; "" is the root. */
static void put_name(const char *name)
{
    while (*name != '\0') {
        size_t n = strcspn(name, ".");
        put(&(uint8_t){(uint8_t)n}, 1);
        put(name, n);
        name += n + (name[n] == '.');
    }
    put("", 1);
}

static void begin(const char *name, unsigned type, unsigned rcode)
{
    len = 0;
    put_u16(7);
    put_u16(0x8180 | rcode);
    put_u16(1);
    put_u16(0);
    put_u16(0);
    put_u16(0);
    put_name(name);
    put_u16(type);
    put_u16(1);
}

static void put_record(const char *owner, unsigned type, const void *data, size_t n)
{
    put_name(owner);
    put_u16(type);
    put_u16(1);
    put("\0\0\0\x3c", 4);
    put_u16((unsigned)n);
    put(data, n);
    packet[7]++;
}

static void put_mx(const char *owner, unsigned preference, const char *host)
{
    put_name(owner);
    put_u16(ANSWER_MX);
    put_u16(1);
    put("\0\0\0\x3c", 4);
    size_t at = len;
    put_u16(0);
    put_u16(preference);
    put_name(host);
    packet[at + 1] = (uint8_t)(len - at - 2);
    packet[7]++;
}

static void put_alias(const char *owner, const char *to)
{
    put_name(owner);
    put_u16(5);
    put_u16(1);
    put("\0\0\0\x3c", 4);
    size_t at = len;
    put_u16(0);
    put_name(to);
    packet[at + 1] = (uint8_t)(len - at - 2);
    packet[7]++;
}

static struct answer_mx mx;
static struct answer_addresses addresses;

static enum answer_result read_mx(const char *name)
{
    memset(&mx, 0xee, sizeof(mx));
    return answers_read_mx(packet, len, name, &mx);
}

static enum answer_result read_addresses(const char *name, enum answer_type type)
{
    return answers_read_addresses(packet, len, name, type, &addresses);
}

static void exchangers_in_order(void **state)
{
    (void)state;
    begin("example.org", ANSWER_MX, 0);
    put_mx("example.org", 20, "b.example.org");
    put_mx("EXAMPLE.org", 10, "A.Example.ORG");
    put_mx("example.org", 20, "c.example.org");
    put_mx("example.org", 0, "");
    put_mx("example.org", 5, "no host.example.org");
    put_mx("other.org", 1, "evil.org");
    assert_int_equal(read_mx("example.org"), ANSWER_FOUND);
    assert_int_equal(mx.n, 3);
    assert_string_equal(mx.at[0].host, "a.example.org");
    assert_int_equal(mx.at[0].preference, 10);
    assert_string_equal(mx.at[1].host, "b.example.org");
    assert_string_equal(mx.at[2].host, "c.example.org");
}

static void no_exchangers(void **state)
{
    (void)state;
    begin("example.org", ANSWER_MX, 0);
    assert_int_equal(read_mx("example.org"), ANSWER_NO_DATA);
    put_mx("example.org", 7, "");
    assert_int_equal(read_mx("example.org"), ANSWER_FOUND);
    assert_int_equal(mx.n, 1);
    assert_string_equal(mx.at[0].host, "");
    begin("example.org", ANSWER_MX, 0);
    put_mx("example.org", 7, "192.0.2.1");
    assert_int_equal(read_mx("example.org"), ANSWER_FOUND);
    assert_int_equal(mx.n, 0);
    begin("example.org", ANSWER_MX, 3);
    assert_int_equal(read_mx("example.org"), ANSWER_NO_NAME);
    for (unsigned rcode = 1; rcode < 16; rcode++) {
        begin("example.org", ANSWER_MX, rcode);
        assert_int_equal(read_mx("example.org"), rcode == 3 ? ANSWER_NO_NAME : ANSWER_LATER);
    }
}

static void the_best_fifty(void **state)
{
    (void)state;
    begin("o", ANSWER_MX, 0);
    for (unsigned i = 0; i < 60; i++)
        put_mx("o", 100 - i, "h");
    assert_int_equal(read_mx("o"), ANSWER_FOUND);
    assert_int_equal(mx.n, ANSWERS_MX);
    for (unsigned i = 0; i < ANSWERS_MX; i++)
        assert_int_equal(mx.at[i].preference, 41 + i);
}

static void aliases(void **state)
{
    (void)state;
    begin("a.org", ANSWER_A, 0);
    put_alias("a.org", "b.org");
    put_alias("b.org", "c.org");
    put_record("c.org", ANSWER_A, "\xc0\0\2\1", 4);
    put_record("a.org", ANSWER_A, "\xc0\0\2\2", 4); /* not the alias's */
    addresses.n = 0;
    assert_int_equal(read_addresses("a.org", ANSWER_A), ANSWER_FOUND);
    assert_int_equal(addresses.n, 1);
    assert_memory_equal(addresses.at[0].bytes, "\xc0\0\2\1", 4);
    begin("a.org", ANSWER_A, 0);
    put_alias("a.org", "a.org");
    for (int i = 0; i < 20; i++)
        put_alias("a.org", "a.org");
    assert_int_equal(read_addresses("a.org", ANSWER_A), ANSWER_LATER);
    begin("a.org", ANSWER_A, 0);
    put_alias("a.org", "");
    assert_int_equal(read_addresses("a.org", ANSWER_A), ANSWER_NO_DATA);
}

static void addresses_of_use(void **state)
{
    (void)state;
    static const char *const useless4[] = {"\0\0\0\0", "\0\1\2\3", "\xe0\0\0\1", "\xff\xff\xff\xff",
                                           "\xf0\0\0\1"};
    static const uint8_t useless6[][16] = {
        {0}, {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}, {[12] = 1}, {0xff, 2, [15] = 1}};
    static const uint8_t here6[16] = {[15] = 1};
    begin("a.org", ANSWER_A, 0);
    for (size_t i = 0; i < sizeof(useless4) / sizeof(useless4[0]); i++)
        put_record("a.org", ANSWER_A, useless4[i], 4);
    put_record("a.org", ANSWER_A, "\x7f\0\0", 3);
    put_record("a.org", ANSWER_A, "\x7f\0\0\1\1", 5);
    addresses.n = 0;
    assert_int_equal(read_addresses("a.org", ANSWER_A), ANSWER_NO_DATA);
    put_record("a.org", ANSWER_A, "\x7f\0\0\1", 4);
    assert_int_equal(read_addresses("a.org", ANSWER_A), ANSWER_FOUND);
    begin("a.org", ANSWER_AAAA, 0);
    for (size_t i = 0; i < sizeof(useless6) / sizeof(useless6[0]); i++)
        put_record("a.org", ANSWER_AAAA, useless6[i], 16);
    assert_int_equal(read_addresses("a.org", ANSWER_AAAA), ANSWER_NO_DATA);
    assert_int_equal(addresses.n, 1);
    put_record("a.org", ANSWER_AAAA, here6, 16);
    assert_int_equal(read_addresses("a.org", ANSWER_AAAA), ANSWER_FOUND);
    assert_int_equal(addresses.n, 2);
    assert_int_equal(addresses.at[1].len, 16);
    begin("a.org", ANSWER_A, 0);
    for (int i = 0; i < 20; i++)
        put_record("a.org", ANSWER_A, "\x7f\0\0\1", 4);
    addresses.n = 0;
    assert_int_equal(read_addresses("a.org", ANSWER_A), ANSWER_FOUND);
    assert_int_equal(addresses.n, ANSWERS_PER_TYPE);
}

/* A whole packet cut short anywhere, or with any one byte changed, does no harm; an answer to
 * another question is none. */
static void damaged(void **state)
{
    (void)state;
    begin("example.org", ANSWER_MX, 0);
    put_alias("example.org", "e.org");
    put_mx("e.org", 20, "b.example.org");
    assert_int_equal(read_mx("example.com"), ANSWER_LATER);
    assert_int_equal(read_addresses("example.org", ANSWER_A), ANSWER_LATER);
    assert_int_equal(read_mx("example.org"), ANSWER_FOUND);
    size_t whole = len;
    for (len = 0; len < whole; len++)
        assert_int_equal(read_mx("example.org"), ANSWER_LATER);
    for (size_t i = 0; i < whole; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            packet[i] ^= (uint8_t)(1u << bit);
            if (read_mx("example.org") == ANSWER_FOUND && mx.n > 0)
                assert_true(*mx.at[0].host == '\0' || ok(mx.at[0].host));
            packet[i] ^= (uint8_t)(1u << bit);
        }
    }
    packet[2] &= 0x7f; /* a question, not an answer */
    assert_int_equal(read_mx("example.org"), ANSWER_LATER);
}

static void two_answers(void **state)
{
    (void)state;
    static const enum answer_result order[] = {ANSWER_FOUND, ANSWER_BOGUS, ANSWER_LATER,
                                               ANSWER_NO_DATA, ANSWER_NO_NAME};
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < 5; j++)
            assert_int_equal(answers_join(order[i], order[j]), order[i < j ? i : j]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),         cmocka_unit_test(exchangers_in_order),
        cmocka_unit_test(no_exchangers), cmocka_unit_test(the_best_fifty),
        cmocka_unit_test(aliases),       cmocka_unit_test(addresses_of_use),
        cmocka_unit_test(damaged),       cmocka_unit_test(two_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
