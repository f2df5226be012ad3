/* What is found sixteen octets at a time is what is found one by one, wherever it stands and
 * wherever the mail is cut. */
#include "daemon/relay/octets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define MOST 80u

/* One octet after the other. */
static struct octets slowly(const uint8_t *at, size_t len)
{
    struct octets o = {0};
    for (size_t i = 0; i < len; i++) {
        o.bare = o.bare || (at[i] == '\n' && o.last != '\r') || (at[i] != '\n' && o.last == '\r');
        o.nul = o.nul || at[i] == 0;
        o.high = o.high || at[i] > 127;
        o.last = at[i];
    }
    return o;
}

static void assert_same(const struct octets *a, const struct octets *b)
{
    assert_int_equal(a->bare, b->bare);
    assert_int_equal(a->nul, b->nul);
    assert_int_equal(a->high, b->high);
    assert_int_equal(a->last, b->last);
}

/* Words at every place of a text of every length, cut at every place. */
static void looks_at_every_place(void **state)
{
    static const char *const words[] = {"\r\n",   "\r",       "\n",   "\n\r",
                                        "\r\r\n", "\xc3\xa4", "\x80", ""};
    (void)state;
    for (size_t w = 0; w < sizeof(words) / sizeof(words[0]); w++)
        for (size_t at = 0; at < MOST / 2; at++)
            for (size_t cut = 0; cut < MOST; cut++) {
                uint8_t text[MOST];
                size_t n = w + 1 == sizeof(words) / sizeof(words[0]) ? 1 : strlen(words[w]);
                memset(text, 'x', sizeof(text));
                memcpy(text + at, words[w], n); /* the last word is a NUL */
                size_t len = MOST - at;
                size_t first = cut < len ? cut : len;
                struct octets o = {0}, want = slowly(text, len);
                octets_look(&o, text, first);
                octets_look(&o, text + first, len - first);
                assert_same(&o, &want);
            }
}

static void finds_the_first_dot_behind_a_line_feed(void **state)
{
    uint8_t text[MOST];
    (void)state;
    for (size_t len = 0; len <= MOST; len++)
        for (size_t at = 1; at < len; at++) {
            memset(text, '.', sizeof(text)); /* dots that begin no line */
            text[at - 1] = '\n';
            assert_int_equal(octets_dot(text, len), at);
            text[at] = 'x';
            assert_int_equal(octets_dot(text, len), len);
        }
    memcpy(text, "\n", 1);
    assert_int_equal(octets_dot(text, 1), 1); /* the dot may come with the next call */
    assert_int_equal(octets_dot((const uint8_t *)".", 1), 1);
    assert_int_equal(octets_dot(text, 0), 0);
}

static void stops_before_what_canonicalisation_changes(void **state)
{
    static const char *const changed[] = {"\t", "  ", " \t", " \r\n", "\r\n\r\n", "\rx"};
    (void)state;
    for (size_t w = 0; w < sizeof(changed) / sizeof(changed[0]); w++)
        for (size_t at = 0; at + 8 < MOST; at++) {
            uint8_t text[MOST];
            memset(text, 'x', sizeof(text));
            memcpy(text + at, changed[w], strlen(changed[w]));
            assert_int_equal(octets_canonical(text, sizeof(text)), at);
        }
}

static void never_ends_behind_what_may_be_dropped(void **state)
{
    uint8_t text[MOST + 1];
    (void)state;
    for (size_t len = 8; len <= MOST; len++) {
        memset(text, 'x', sizeof(text));
        memcpy(text + len - 3, "\r\n ", 3);
        assert_int_equal(octets_canonical(text, len), len - 3);
        text[len - 1] = 'y';
        assert_true(octets_canonical(text, len) <= len - 1);
        text[len] = 'z';
        assert_int_equal(octets_canonical(text, len + 1),
                         len); /* the last may be followed by one */
    }
    assert_int_equal(octets_canonical(text, 0), 0);
    assert_int_equal(octets_canonical((const uint8_t *)"  ", 2), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(looks_at_every_place),
        cmocka_unit_test(finds_the_first_dot_behind_a_line_feed),
        cmocka_unit_test(stops_before_what_canonicalisation_changes),
        cmocka_unit_test(never_ends_behind_what_may_be_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
