/* Rations of public-key work: each user has his own, whoever else shares his place in the table. */
#include "storage/ration.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define NOW 1000000u

static struct rations rations;

static int set_up(void **state)
{
    (void)state;
    memset(&rations, 0, sizeof(rations));
    return 0;
}

/* How many of one signature a user gets in a row. */
static unsigned get_all(uint64_t now_ms, uint64_t user)
{
    unsigned n = 0;
    while (n <= RATION_BURST && rations_take(&rations, now_ms, user, 1))
        n++;
    return n;
}

static void a_burst_and_what_follows(void **state)
{
    (void)state;
    assert_int_equal(get_all(NOW, 1), RATION_BURST);
    assert_int_equal(get_all(NOW + RATION_MS - 1, 1), 0);
    assert_int_equal(get_all(NOW + RATION_MS, 1), 1);
    assert_int_equal(get_all(NOW + 3 * RATION_MS - 1, 1), 1); /* no part of a step is lost ... */
    assert_int_equal(get_all(NOW + 3 * RATION_MS, 1), 1);     /* ... and none comes twice */
    assert_int_equal(get_all(UINT64_MAX, 1), RATION_BURST);   /* idle for ever: one burst */
}

static void more_than_is_left_takes_nothing(void **state)
{
    (void)state;
    assert_true(rations_take(&rations, NOW, 1, RATION_BURST - 1));
    assert_false(rations_take(&rations, NOW, 1, 2));
    assert_true(rations_take(&rations, NOW, 1, 1));
    assert_false(rations_take(&rations, NOW, 1, 1));
}

static void nobody_uses_up_anothers(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < RATION_WAYS; i++) /* all in one set */
        assert_int_equal(get_all(NOW, 1 + i * RATION_SETS), RATION_BURST);
    for (uint64_t i = 0; i < RATION_WAYS; i++)
        assert_int_equal(get_all(NOW, 1 + i * RATION_SETS), 0);
    assert_int_equal(get_all(NOW, 1 + RATION_WAYS * RATION_SETS), RATION_BURST);
}

/* One more than a set has room for: the one who has most left gives way, and loses nothing by it if
 * he was idle. */
static void who_gives_way(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < RATION_WAYS; i++)
        assert_true(rations_take(&rations, NOW, 1 + i * RATION_SETS, i == 3 ? 1 : RATION_BURST));
    assert_true(rations_take(&rations, NOW, 1 + RATION_WAYS * RATION_SETS, RATION_BURST));
    for (uint64_t i = 0; i <= RATION_WAYS; i++)
        if (i != 3)
            assert_int_equal(get_all(NOW, 1 + i * RATION_SETS), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, set_up)
    const struct CMUnitTest tests[] = {
        T(a_burst_and_what_follows),
        T(more_than_is_left_takes_nothing),
        T(nobody_uses_up_anothers),
        T(who_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
