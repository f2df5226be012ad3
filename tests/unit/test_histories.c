/* Histories that are remembered: a user's own place, and who gives way where there are too many. */
#include "storage/histories.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static struct histories histories;

static int set_up(void **state)
{
    (void)state;
    memset(&histories, 0, sizeof(histories));
    return 0;
}

/* The n-th of the users who share a set with user 1. */
static uint64_t neighbour(uint64_t n)
{
    return 1 + n * HISTORY_SETS;
}

/* As the store does: whether it had to be read. */
static bool is_read(uint64_t user)
{
    struct sigchain *c = histories_of(&histories, user);
    bool known = c->seq == user;
    assert_true(known || c->seq == 0); /* never another's */
    c->seq = (uint32_t)user;
    return !known;
}

static void as_many_as_a_set_has_places_are_read_once(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++)
        for (uint64_t n = 0; n < HISTORY_WAYS; n++)
            assert_int_equal(is_read(neighbour(n)), round == 0);
}

static void two_users_do_not_drive_each_other_out(void **state)
{
    (void)state;
    for (uint64_t other = 2; other <= 1025; other++) {
        set_up(NULL);
        assert_true(is_read(1));
        assert_true(is_read(other));
        assert_false(is_read(1));
        assert_false(is_read(other));
    }
}

static void users_in_a_row_are_all_known(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++)
        for (uint64_t user = 1; user <= (uint64_t)HISTORY_SETS * HISTORY_WAYS; user++)
            assert_int_equal(is_read(user), round == 0);
}

static void who_was_asked_for_least_recently_gives_way(void **state)
{
    (void)state;
    for (uint64_t n = 0; n < HISTORY_WAYS; n++)
        assert_true(is_read(neighbour(n)));
    assert_false(is_read(neighbour(0)));
    assert_true(is_read(neighbour(HISTORY_WAYS)));
    for (uint64_t n = 2; n <= HISTORY_WAYS; n++)
        assert_false(is_read(neighbour(n)));
    assert_false(is_read(neighbour(0)));
    assert_true(is_read(neighbour(1)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(as_many_as_a_set_has_places_are_read_once, set_up),
        cmocka_unit_test_setup(two_users_do_not_drive_each_other_out, set_up),
        cmocka_unit_test_setup(users_in_a_row_are_all_known, set_up),
        cmocka_unit_test_setup(who_was_asked_for_least_recently_gives_way, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
