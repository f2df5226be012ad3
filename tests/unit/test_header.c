/* What is taken out of a header, and what is counted in it: nothing else may change, however the
 * message is cut. */
#include "daemon/smtp/header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWN "mx.xn--bcher-kva.example"

static char out[200000];
static size_t out_len;

static enum sp_err on_bytes(void *ctx, const uint8_t *bytes, size_t len)
{
    (void)ctx;
    assert_true(len > 0 && len <= sizeof(out) - out_len);
    memcpy(out + out_len, bytes, len);
    out_len += len;
    return SP_OK;
}

static struct header *filter(const char *in, size_t len, size_t step)
{
    static struct header h;
    out_len = 0;
    header_init(&h, OWN, on_bytes, NULL);
    for (size_t at = 0; at < len; at += step) {
        size_t n = step < len - at ? step : len - at;
        uint8_t *own = malloc(n); /* so that a read too far is seen */
        memcpy(own, in + at, n);
        assert_int_equal(header_push(&h, own, n), SP_OK);
        free(own);
    }
    assert_int_equal(header_finish(&h), SP_OK);
    return &h;
}

static void expect(const char *in, const char *want)
{
    size_t len = strlen(in);
    for (size_t step = 1; step <= len + 1; step++) {
        filter(in, len, step);
        if (out_len != strlen(want) || memcmp(out, want, out_len) != 0)
            fail_msg("step %zu: %s -> %.*s", step, in, (int)out_len, out);
    }
}

static void test_ours_is_removed(void **state)
{
    static const char *const fields[] = {
        "Authentication-Results: " OWN "; spf=pass\r\n",
        "Authentication-Results: " OWN "\r\n",
        "authentication-RESULTS:" OWN ";none\r\n",
        "Authentication-Results \t : " OWN "; none\r\n",
        "Authentication-Results: MX.XN--Bcher-Kva.Example.; none\r\n",
        "Authentication-Results: mx.b\xc3\xbc"
        "cher.example; none\r\n",
        "Authentication-Results: mx.B\xc3\x9c"
        "CHER.example; none\r\n",
        "Authentication-Results: \"" OWN "\"; none\r\n",
        "Authentication-Results: \"m\\x.xn--bcher-kva.example\" 1; none\r\n",
        "Authentication-Results:\r\n\t" OWN ";\r\n dkim=pass\r\n\theader.d=x.example\r\n",
        "Authentication-Results: (a (b) \\) c)\r\n (d)" OWN "(e); none\r\n",
        "Authentication-Results:" OWN "/1; none\r\n",
    };
    char in[1024];
    (void)state;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        snprintf(in, sizeof(in), "A: b\r\n%sSubject: x\r\n y\r\n\r\nbody\r\n", fields[i]);
        expect(in, "A: b\r\nSubject: x\r\n y\r\n\r\nbody\r\n");
        snprintf(in, sizeof(in), "%s\r\n", fields[i]);
        expect(in, "\r\n");
        snprintf(in, sizeof(in), "%s%s", fields[i], fields[i]);
        expect(in, "");
    }
}

static void test_all_else_stays(void **state)
{
    static const char *const messages[] = {
        "",
        "\r\n",
        "A",
        "Authentication-Results: mx.other.example; spf=pass\r\n\r\n",
        "Authentication-Results: " OWN ".evil.example; none\r\n\r\n",
        "Authentication-Results: x" OWN "; none\r\n\r\n",
        "Authentication-Results: (" OWN ") mx.other.example; none\r\n\r\n",
        "Authentication-Results: ; " OWN "\r\n\r\n",
        "Authentication-Results: \r\n" OWN ": x\r\n\r\n",
        "Authentication-Results: (never closed\r\nSubject: " OWN "\r\n\r\nbody\r\n",
        "Authentication-Results: \"never closed\r\nSubject: " OWN "\r\n\r\nbody\r\n",
        "Authentication-Results\r\n: " OWN "\r\n\r\n",
        "Authentication-Resultsx: " OWN "\r\n\r\n",
        "X-Authentication-Results: " OWN "\r\n\r\n",
        "ARC-Authentication-Results: i=1; " OWN "\r\n\r\n",
        "Subject: x\r\n Authentication-Results: " OWN "\r\n\r\n",
        " Authentication-Results: " OWN "\r\n\r\n",
        "Subject: x\r\n\r\nAuthentication-Results: " OWN "; none\r\n",
        "\r\nAuthentication-Results: " OWN "; none\r\n",
        "Authentication-Results: \"mx.xn--\r\n bcher-kva.example\" 1; none\r\n\r\n",
        "Authent",
        "Authentication-Results: (",
        "Authentication-Results: a.b.c.d\xff\xfe; none\r\n\r\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++)
        expect(messages[i], messages[i]);
}

static void test_neighbours_stay(void **state)
{
    (void)state;
    expect("Authentication-Results: mx.other.example; a\r\nAuthentication-Results: " OWN
           "; b\r\nAuthentication-Results:\r\nAuthentication-Results: " OWN "\r\nZ: 1\r\n\r\n",
           "Authentication-Results: mx.other.example; a\r\nAuthentication-Results:\r\nZ: "
           "1\r\n\r\n");
}

/* The name of the server never comes within what is held back: nobody writes that in good faith. */
static void test_endless_comment(void **state)
{
    static char in[20000], want[20000];
    (void)state;
    for (size_t pad = HEADER_HOLD - 60; pad < HEADER_HOLD + 60; pad++) {
        memset(in, 0, sizeof(in));
        strncat(in, "Authentication-Results: (", 40);
        memset(in + strlen(in), 'c', pad);
        size_t len = strlen(in);
        memcpy(in + len, ") x.example; none\r\nB: c\r\n\r\n", 28);
        bool held = len + 1 + 1 + sizeof("x.example;") - 1 <= HEADER_HOLD + 1;
        memcpy(want, held ? in : "B: c\r\n\r\n", held ? strlen(in) + 1 : 9);
        for (size_t step = 1; step < 2000; step += 331) {
            filter(in, strlen(in), step);
            assert_int_equal(out_len, strlen(want));
            assert_memory_equal(out, want, out_len);
        }
    }
}

static void test_received_are_counted(void **state)
{
    static const struct {
        const char *in;
        unsigned n;
    } cases[] = {
        {"", 0},
        {"Received: a\r\n", 1},
        {"RECEIVED:a\r\nreceived \t: b\r\n\tReceived: c\r\nReceived-SPF: pass\r\n\r\n", 2},
        {"X-Received: a\r\nReceive: b\r\nReceived\r\nReceived: c\r\n\r\nReceived: d\r\n", 1},
        {"Authentication-Results: " OWN "\r\nReceived: a\r\nAuthentication-Results: x\r\nReceived:"
         "\r\n\r\n",
         2},
    };
    static char in[13 * 150 + 1];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t step = 1; step < 100; step++)
            assert_int_equal(header_received(filter(cases[i].in, strlen(cases[i].in), step)),
                             cases[i].n);
    for (size_t i = 0; i < 150; i++)
        memcpy(in + i * 13, "Received: x\r\n", 13);
    assert_int_equal(header_received(filter(in, sizeof(in) - 1, 7)), 150);
}

static enum sp_err refuse(void *ctx, const uint8_t *bytes, size_t len)
{
    (void)ctx;
    (void)bytes;
    (void)len;
    return SP_ERR_NO_SPACE;
}

static void test_errors_of_the_sink(void **state)
{
    static const char in[] = "Authentication-Results: x.example; none\r\n\r\n";
    struct header h;
    (void)state;
    header_init(&h, OWN, refuse, NULL);
    assert_int_equal(header_push(&h, (const uint8_t *)in, sizeof(in) - 1), SP_ERR_NO_SPACE);
    header_init(&h, OWN, refuse, NULL);
    assert_int_equal(header_push(&h, (const uint8_t *)in, 5), SP_OK);
    assert_int_equal(header_finish(&h), SP_ERR_NO_SPACE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ours_is_removed),      cmocka_unit_test(test_all_else_stays),
        cmocka_unit_test(test_neighbours_stay),      cmocka_unit_test(test_endless_comment),
        cmocka_unit_test(test_received_are_counted), cmocka_unit_test(test_errors_of_the_sink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
