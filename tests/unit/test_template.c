/* The words of a link's notification: the built-in ones are sound, an operator's are checked,
 * values cannot break out. */
#include "daemon/relay/template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

static const char *value[TEMPLATE_VALUES] = {
    [TEMPLATE_SENDER] = "ann@example.org",
    [TEMPLATE_RECIPIENT] = "bob@example.net",
    [TEMPLATE_SUBJECT] = "",
    [TEMPLATE_LINK] = "https://m.example/m/x#y.z",
    [TEMPLATE_EXPIRES] = "tomorrow",
    [TEMPLATE_HOST] = "m.example",
    [TEMPLATE_URL] = "https://m.example",
};
static char out[16384];

static const char *rendered(const char *text, bool html)
{
    size_t len;
    assert_int_equal(template_render(text, strlen(text), html, value, out, sizeof(out) - 1, &len),
                     SP_OK);
    out[len] = '\0';
    return out;
}

static void built_in(void **state)
{
    (void)state;
    value[TEMPLATE_SUBJECT] = "";
    assert_null(template_fault(template_built_in, strlen(template_built_in)));
    for (int html = 0; html < 2; html++) {
        const char *text = rendered(template_built_in, html);
        assert_non_null(strstr(text, value[TEMPLATE_LINK]));
        assert_null(strstr(text, "Subject:"));
        assert_null(strchr(text, '{'));
        for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++)
            assert_int_equal(at[-1], '\r');
    }
    value[TEMPLATE_SUBJECT] = "Lunch";
    assert_non_null(strstr(rendered(template_built_in, false), "\r\nSubject: Lunch\r\n"));
}

static void values_stay_values(void **state)
{
    (void)state;
    value[TEMPLATE_SUBJECT] = "<script>&\"'{link}";
    assert_string_equal(rendered("{link}\n---html---\n<p>{subject}</p>{link}", true),
                        "<p>&lt;script&gt;&amp;&quot;&#39;{link}</p>https://m.example/m/x#y.z\r\n");
    assert_string_equal(rendered("a {subject}\n---html---\n{link}", false),
                        "a <script>&\"'{link}\r\n");
}

static void faults(void **state)
{
    static const struct {
        const char *text, *fault;
    } bad[] = {
        {"", "empty"},
        {"no link\n---html---\n{link}", "text has no"},
        {"{link}\n---html---\nno link", "HTML has no"},
        {"{link}\n", "no HTML"},
        {"{link} {subjet}\n---html---\n{link}", "unknown"},
        {"{link} {\n---html---\n{link}", "unknown"},
        {"{link}\x01\n---html---\n{link}", "control"},
        {"{link}\xff\n---html---\n{link}", "UTF-8"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *fault = template_fault(bad[i].text, strlen(bad[i].text));
        if (fault == NULL || strstr(fault, bad[i].fault) == NULL)
            fail_msg("%zu: %s", i, fault != NULL ? fault : "none");
    }
    assert_non_null(template_fault("{link}\0\n---html---\n{link}", 26));
    assert_null(template_fault("H\xc3\xa4\n{link}\n---html---\n{link}",
                               strlen("H\xc3\xa4\n{link}\n---html---\n{link}")));
}

static void fits_or_fails(void **state)
{
    size_t len, whole = strlen(rendered(template_built_in, true));
    (void)state;
    for (size_t cap = 0; cap < whole; cap += 7)
        assert_int_equal(template_render(template_built_in, strlen(template_built_in), true, value,
                                         out, cap, &len),
                         SP_ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_in),
        cmocka_unit_test(values_stay_values),
        cmocka_unit_test(faults),
        cmocka_unit_test(fits_or_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
