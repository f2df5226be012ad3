/* Histograms, and the text that Prometheus reads: what roles count arrives in it, and what a role
 * that was taken over may say does not change its form. */
#include "daemon/histogram.h"
#include "daemon/role.h"
#include "daemon/sealer/tally.h"
#include "daemon/smtp/refusals.h"
#include "daemon/web/exposition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <event2/buffer.h>

static uint8_t buf[65536];
static char text[262144];

static void put_row(struct wire_out *rows, const char *role, const char *name, const char *value)
{
    wire_put_str(rows, role);
    wire_put_str(rows, name);
    wire_put_str(rows, value);
}

static const char *expose(const struct wire_out *rows)
{
    struct evbuffer *out = evbuffer_new();
    assert_true(wire_out_ok(rows));
    exposition_write(wire_in(rows->at, rows->len), out);
    int n = evbuffer_remove(out, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    evbuffer_free(out);
    return text;
}

static unsigned count(const char *in, const char *what)
{
    unsigned n = 0;
    for (; (in = strstr(in, what)) != NULL; in++)
        n++;
    return n;
}

/* The rows of one role, as the supervisor puts them together. */
static struct wire_out as_rows(const char *role, const struct wire_out *pairs)
{
    static uint8_t rows_buf[65536];
    struct wire_out rows = wire_out(rows_buf, sizeof(rows_buf));
    struct wire_in in = wire_in(pairs->at, pairs->len);
    put_row(&rows, role, "pid", "77");
    while (in.left > 0) {
        size_t name_len, len;
        const uint8_t *name = wire_get_b16(&in, 256, &name_len);
        const uint8_t *value = wire_get_b16(&in, 4096, &len);
        wire_put_str(&rows, role);
        wire_put_b16(&rows, name, name_len);
        wire_put_b16(&rows, value, len);
    }
    return rows;
}

/* --- histograms --- */

static void test_buckets(void **state)
{
    struct histogram h = {0}, again;
    char said[HISTOGRAM_TEXT];
    (void)state;
    assert_int_equal(histogram_limit(0), 1);
    assert_int_equal(histogram_limit(1), 3);
    assert_int_equal(histogram_limit(HISTOGRAM_BUCKETS - 1), 1000000000);
    histogram_add(&h, 0);
    histogram_add(&h, 1);
    histogram_add(&h, 2);
    histogram_add(&h, 1000000000);
    histogram_add(&h, 1000000001);
    assert_int_equal(h.bucket[0], 2);
    assert_int_equal(h.bucket[1], 1);
    assert_int_equal(h.bucket[HISTOGRAM_BUCKETS - 1], 1);
    histogram_text(&h, said);
    assert_string_equal(said, "count:5 sum:2000000004 1:2 3:1 1000000000:1");
    assert_int_equal(histogram_parse(said, strlen(said), &again), SP_OK);
    assert_memory_equal(&h, &again, sizeof(h));
    histogram_add(&h, UINT64_MAX); /* a lie does not make the sum go round */
    assert_int_equal(h.sum, 2000000004 + UINT64_C(1000000000000));
}

/* The longest text there can be fits, and is read again. */
static void test_full(void **state)
{
    struct histogram h = {.count = UINT64_MAX, .sum = UINT64_MAX}, again;
    char said[HISTOGRAM_TEXT];
    (void)state;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        h.bucket[i] = UINT64_MAX / HISTOGRAM_BUCKETS;
    histogram_text(&h, said);
    assert_true(strlen(said) < HISTOGRAM_TEXT - 1);
    assert_int_equal(histogram_parse(said, strlen(said), &again), SP_OK);
    assert_memory_equal(&h, &again, sizeof(h));
}

static void test_bad_texts(void **state)
{
    static const char *const bad[] = {"",
                                      "count:",
                                      "count:1",
                                      "count:1 sum:",
                                      "count:x sum:1",
                                      "count:-1 sum:1",
                                      "count:1 sum:1 ",
                                      "count:1 sum:1 3",
                                      "count:1 sum:1 3:",
                                      "count:1 sum:1 2:1",
                                      "count:1 sum:1 3:2",          /* more than all */
                                      "count:3 sum:1 3:2 10:2",     /* together */
                                      "count:3 sum:1 3:1 3:1",      /* twice */
                                      "count:3 sum:1 10:1 3:1",     /* not in order */
                                      "count:3 sum:1 3000000000:1", /* no such bucket */
                                      "count:18446744073709551616 sum:1",
                                      "count:000000000000000000001 sum:1",
                                      "count:1 sum:1\n3:1",
                                      "count:1  sum:1",
                                      " count:1 sum:1"};
    struct histogram h;
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(histogram_parse(bad[i], strlen(bad[i]), &h), SP_ERR_FORMAT);
}

/* --- the text --- */

static void test_histogram_exposed(void **state)
{
    struct wire_out rows = wire_out(buf, sizeof(buf));
    (void)state;
    put_row(&rows, "store", "pid", "5");
    put_row(&rows, "store", "commit_us", "count:4 sum:3500 300:1 1000:2");
    const char *out = expose(&rows);
    assert_non_null(strstr(out, "# TYPE sealpost_commit_seconds histogram\n"));
    assert_non_null(strstr(out, "sealpost_commit_seconds_bucket{le=\"0.0001\"} 0\n"));
    assert_non_null(strstr(out, "sealpost_commit_seconds_bucket{le=\"0.0003\"} 1\n"));
    assert_non_null(strstr(out, "sealpost_commit_seconds_bucket{le=\"0.001\"} 3\n"));
    assert_non_null(strstr(out, "sealpost_commit_seconds_bucket{le=\"1000\"} 3\n"));
    assert_non_null(strstr(out, "sealpost_commit_seconds_bucket{le=\"+Inf\"} 4\n"));
    assert_non_null(strstr(out, "sealpost_commit_seconds_sum 0.0035\n"));
    assert_non_null(strstr(out, "sealpost_commit_seconds_count 4\n"));
}

static void test_labels(void **state)
{
    struct wire_out rows = wire_out(buf, sizeof(buf));
    (void)state;
    put_row(&rows, "keeper", "pid", "5");
    put_row(&rows, "keeper", "residency_ms_password", "count:1 sum:1500 3000:1");
    put_row(&rows, "audit", "pid", "6");
    put_row(&rows, "audit", "event_link_page", "12");
    const char *out = expose(&rows);
    assert_non_null(
        strstr(out, "sealpost_secret_residency_seconds_bucket{kind=\"password\",le=\"3\"} 1\n"));
    assert_non_null(strstr(out, "sealpost_secret_residency_seconds_sum{kind=\"password\"} 1.5\n"));
    assert_non_null(strstr(out, "sealpost_secret_residency_seconds_count{kind=\"relay\"} 0\n"));
    assert_non_null(strstr(out, "sealpost_link_visits_total{what=\"page\"} 12\n"));
    assert_non_null(strstr(out, "sealpost_link_visits_total{what=\"opened\"} 0\n"));
    assert_null(strstr(out, "sealpost_sessions_refused_total{")); /* smtp has not answered */
}

/* A role that was taken over: names, labels and second samples do not get through. */
static void test_hostile_role(void **state)
{
    static const char *const values[] = {"",
                                         "1\nsealpost_users 7",
                                         "1 2",
                                         "-1",
                                         "+1",
                                         "0x10",
                                         "1e9",
                                         "NaN",
                                         "18446744073709551616",
                                         "000000000000000000000000000001",
                                         "1\r",
                                         " 1"};
    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct wire_out rows = wire_out(buf, sizeof(buf));
        put_row(&rows, "store", "users", values[i]);
        assert_null(strstr(expose(&rows), "\nsealpost_users "));
        assert_int_equal(count(text, "sealpost_users"), 2); /* HELP and TYPE */
    }
    struct wire_out rows = wire_out(buf, sizeof(buf));
    put_row(&rows, "smtp", "pid", "1");
    put_row(&rows, "smtp", "sessions", "1");
    put_row(&rows, "smtp", "sessions", "2");
    put_row(&rows, "smtp", "refused_x\"} 1\nsealpost_users 7\n", "1");
    put_row(&rows, "smtp", "users", "7");
    put_row(&rows, "smtp", "refused_held_off", "3");
    const char *out = expose(&rows);
    assert_int_equal(count(out, "\nsealpost_sessions "), 1);
    assert_non_null(strstr(out, "\nsealpost_sessions 1\n"));
    assert_null(strstr(out, "sealpost_users 7"));
    assert_non_null(strstr(out, "sealpost_sessions_refused_total{reason=\"held_off\"} 3\n"));
}

static void test_cut_rows(void **state)
{
    struct wire_out rows = wire_out(buf, sizeof(buf));
    (void)state;
    put_row(&rows, "store", "users", "12345");
    for (size_t n = 0; n < rows.len; n++) {
        struct wire_out cut = rows;
        cut.len = n;
        assert_null(strstr(expose(&cut), "\nsealpost_users "));
    }
    assert_non_null(strstr(expose(&rows), "sealpost_users 12345\n"));
}

/* --- every reason that a role counts is one that the table knows --- */

static void test_all_refusals(void **state)
{
    struct refusals r;
    uint8_t space[8192];
    struct wire_out pairs = wire_out(space, sizeof(space));
    (void)state;
    memset(&r, 0, sizeof(r));
    for (unsigned i = 0; i < REFUSAL_COUNT; i++)
        r.of[i].count = 1000 + i;
    r.of[END_WELL].count = 0;
    refusals_status(&r, &pairs);
    struct wire_out rows = as_rows("smtp", &pairs);
    const char *out = expose(&rows);
    for (unsigned i = END_WELL + 1; i < REFUSAL_COUNT; i++) {
        char sample[16];
        snprintf(sample, sizeof(sample), "\"} %u\n", 1000 + i);
        assert_int_equal(count(out, sample), 1);
    }
}

static void test_all_of_the_sealer(void **state)
{
    static const char *const words[] = {"size",        "loop",     "bare-cr",      "bare-lf",
                                        "nul",         "sealer",   "bad-order",    "no-slot",
                                        "interrupted", "no-space", "forged-frame", "store"};
    struct tally t = {0};
    uint8_t space[8192];
    struct wire_out pairs = wire_out(space, sizeof(space));
    (void)state;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        tally_message_refused(&t, words[i]);
    for (int i = 0; i < 2; i++)
        tally_message_refused(&t, "\"} 1\n"); /* what no session of ours says */
    tally_recipient_refused(&t, SP_ERR_NOT_FOUND);
    tally_recipient_refused(&t, SP_ERR_NO_KEY);
    tally_recipient_refused(&t, SP_ERR_LIMIT);
    tally_recipient_refused(&t, SP_ERR_NO_SPACE);
    tally_recipient_refused(&t, SP_ERR_SYSTEM);
    tally_sealed(&t, 500, 70000, 2000);
    tally_sealed(&t, 500, 60000, 2000);
    tally_status(&t, &pairs);
    struct wire_out rows = as_rows("sealer", &pairs);
    const char *out = expose(&rows);
    assert_int_equal(count(out, "sealpost_messages_refused_total{"), TALLY_MESSAGE_REASONS);
    assert_int_equal(count(out, "sealpost_recipients_refused_total{"), TALLY_RECIPIENT_REASONS);
    assert_null(strstr(out, "\"} 0\nsealpost_messages_refused"));
    assert_non_null(strstr(out, "sealpost_messages_refused_total{reason=\"other\"} 2\n"));
    assert_non_null(strstr(out, "sealpost_recipients_refused_total{reason=\"unknown\"} 1\n"));
    assert_non_null(strstr(out, "sealpost_recipients_refused_total{reason=\"other\"} 1\n"));
    assert_non_null(strstr(out, "sealpost_plaintext_window_bytes_most 70000\n"));
    assert_non_null(strstr(out, "sealpost_plaintext_residency_seconds_sum 0.004\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_bad_texts),
        cmocka_unit_test(test_histogram_exposed),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_hostile_role),
        cmocka_unit_test(test_cut_rows),
        cmocka_unit_test(test_all_refusals),
        cmocka_unit_test(test_all_of_the_sealer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
