/* The schedule of outgoing mail alone, with a clock of the test's own. */
#include "storage/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sodium.h>
#include <cmocka.h>

#define MINUTE UINT64_C(60000)

static struct queue *q;
static uint64_t now = 1000000;

static int set_up(void **state)
{
    (void)state;
    now = 1000000;
    q = queue_new(3, 100000);
    return q == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    queue_free(q);
    return 0;
}

static void add(uint64_t no, uint64_t user, const char *destination)
{
    assert_int_equal(queue_add(q, no, 0, user, destination, now, now), SP_OK);
}

/* The number of the job that is leased; 0: none is due. */
static uint64_t lease(void)
{
    uint64_t no;
    uint16_t job;
    return queue_lease(q, now, &no, &job) == SP_OK ? no : 0;
}

static void done(uint64_t no)
{
    queue_end(q, no, 0, QUEUE_NEVER, QUEUE_ANSWERED, now);
}

static void test_backoff(void **state)
{
    static const unsigned minutes[] = {1, 1, 2, 5, 10, 20, 40, 60, 60, 60};
    (void)state;
    for (uint32_t i = 0; i < 10; i++)
        for (uint32_t random = 0; random < 5000; random += 77) {
            uint64_t ms = queue_backoff_ms(i, random), middle = minutes[i] * MINUTE;
            assert_in_range(ms, middle - middle / 10, middle + middle / 10);
        }
    assert_in_range(queue_backoff_ms(UINT32_MAX, 0), 54 * MINUTE, 66 * MINUTE);
}

static void test_times(void **state)
{
    (void)state;
    assert_int_equal(queue_wake(q), QUEUE_NEVER);
    for (uint64_t i = 1; i <= 100; i++) /* in no order */
        assert_int_equal(
            queue_add(q, i, 0, i % 5, "a.example", now + (i * 37 % 101) * MINUTE / 2, now), SP_OK);
    assert_int_equal(queue_add(q, 7, 0, 1, "b.example", now, now), SP_ERR_EXISTS);
    assert_int_equal(queue_remove(q, 50, 0), SP_OK);
    for (uint64_t step = 1; step <= 100; step++) {
        uint64_t due = 0;
        for (uint64_t i = 1; i <= 100 && due == 0; i++)
            due = i != 50 && i * 37 % 101 == step ? i : 0;
        assert_int_equal(lease(), 0);
        now += MINUTE / 2;
        if (due != 0)
            assert_int_equal(lease(), due);
        if (due != 0)
            done(due);
    }
    assert_int_equal(queue_length(q), 0);
}

#define YEAR (365 * 24 * 60 * MINUTE)

/* A clock that was years ahead when an attempt failed, and is set right, parks no mail: neither a
 * job that is read from the disk with such a time nor one that waits already. */
static void test_clock_set_back(void **state)
{
    (void)state;
    assert_int_equal(queue_add(q, 1, 0, 1, "a.example", now + 5 * YEAR, now), SP_OK);
    assert_int_equal(queue_wake(q), now + 66 * MINUTE);
    add(2, 1, "b.example");
    add(3, 1, "c.example");
    assert_int_equal(lease(), 2);
    assert_int_equal(lease(), 3);
    now += 5 * YEAR;
    queue_end(q, 2, 0, now + MINUTE, QUEUE_ANSWERED, now);
    queue_end(q, 3, 0, now + 2 * MINUTE, QUEUE_DOWN, now);
    now -= 5 * YEAR;
    assert_int_equal(lease(), 0);
    assert_in_range(queue_wake(q), now, now + 66 * MINUTE);
    now += 66 * MINUTE;
    assert_int_equal(lease() + lease() + lease(), 1 + 2 + 3);
}

/* Set back while all of them wait, by less than that. */
static void test_clock_steps_back(void **state)
{
    uint64_t first = 0;
    (void)state;
    now += YEAR;
    for (uint64_t i = 1; i <= 50; i++)
        assert_int_equal(queue_add(q, i, 0, i, "a.example", now + (i * 37 % 51) * MINUTE, now),
                         SP_OK);
    now -= 40 * MINUTE;
    assert_int_equal(lease(), 0);
    for (unsigned minute = 0; minute < 66; minute++, now += MINUTE)
        for (uint64_t no; (no = lease()) != 0; done(no))
            first = first == 0 ? no : first;
    assert_int_equal(first * 37 % 51, 1); /* in their order */
    for (uint64_t no; (no = lease()) != 0; done(no))
        ;
    assert_int_equal(queue_length(q), 0);
}

static void test_per_destination(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 5; i++)
        add(i, 1, "a.example");
    add(6, 1, "b.example");
    uint64_t seen = 0;
    for (int i = 0; i < 4; i++)
        seen |= UINT64_C(1) << lease();
    assert_int_equal(seen, 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6);
    assert_int_equal(lease(), 0);
    assert_true(queue_leased(q, 1, 0));
    assert_int_equal(queue_remove(q, 1, 0), SP_ERR_STATE);
    done(2);
    assert_int_equal(lease(), 4);
    assert_int_equal(lease(), 0);
    assert_int_equal(queue_remove(q, 5, 0), SP_OK);
    done(1);
    assert_int_equal(lease(), 0);
    done(3);
    done(4);
    done(6);
    assert_int_equal(queue_length(q), 0);
}

/* A thousand mails of one user hold up nobody's one, at the same destination or another. */
static void test_fair(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 1000; i++) {
        char name[32];
        snprintf(name, sizeof(name), "d%u.example", (unsigned)(i % 400));
        add(i, 1, i % 2 == 0 ? "a.example" : name);
    }
    for (int i = 0; i < 300; i++)
        assert_true(lease() != 0);
    add(2001, 2, "a.example");
    add(2002, 3, "z.example");
    uint64_t seen[4];
    done(2); /* a place at a.example, which is busy with the first user's */
    for (int i = 0; i < 4; i++)
        seen[i] = lease();
    bool second = false, third = false;
    for (int i = 0; i < 4; i++) {
        second = second || seen[i] == 2001;
        third = third || seen[i] == 2002;
    }
    assert_true(third);
    assert_true(second);
}

static void test_down(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 6; i++)
        add(i, i, "a.example");
    for (uint64_t i = 1; i <= 3; i++)
        assert_int_equal(lease(), i);
    for (uint64_t i = 1; i <= 3; i++) /* all three fail at once: one failure */
        queue_end(q, i, 0, now + 1, QUEUE_DOWN, now);
    now += MINUTE - 1;
    assert_int_equal(lease(), 0);
    now += 1;
    uint64_t probe = lease();
    assert_true(probe != 0);
    assert_int_equal(lease(), 0); /* one at first */
    queue_end(q, probe, 0, now, QUEUE_DOWN, now);
    now += 2 * MINUTE - 1;
    assert_int_equal(lease(), 0);
    now += 1;
    probe = lease();
    assert_true(probe != 0);
    done(probe);
    assert_true(lease() != 0); /* two now */
    assert_true(lease() != 0);
    assert_int_equal(lease(), 0);
}

/* One user's mail goes to servers that never answer: the others' is sent all the same, and there is
 * a place left for whoever comes. */
static void test_share(void **state)
{
    enum { PLACES = 40 };
    unsigned held[5] = {0}; /* by user */
    uint64_t no, of_first = 0;
    (void)state;
    queue_free(q);
    q = queue_new(3, PLACES);
    for (uint64_t i = 0; i < 400; i++) {
        char name[32];
        snprintf(name, sizeof(name), "tarpit%u.example", (unsigned)i);
        add(1000 + i, 1, name);
    }
    while ((no = lease()) != 0) {
        held[1]++;
        of_first = no;
    }
    assert_int_equal(held[1], PLACES * 3 / 4);
    for (uint64_t user = 2; user <= 4; user++)
        for (uint64_t i = 0; i < 100; i++) {
            char name[32];
            snprintf(name, sizeof(name), "u%u-%u.example", (unsigned)user, (unsigned)i);
            add(10000 * user + i, user, name);
        }
    while ((no = lease()) != 0)
        held[no / 10000]++;
    for (unsigned user = 2; user <= 4; user++)
        assert_true(held[user] >= 2);
    assert_int_equal(held[0], 0); /* none more of the first one's */
    assert_int_equal(held[2], held[3]);
    assert_int_equal(held[3], held[4]);
    assert_true(held[1] + held[2] + held[3] + held[4] < PLACES);
    add(50000, 5, "late.example");
    assert_int_equal(lease(), 50000);
    done(of_first); /* not for who has many */
    add(60000, 6, "later.example");
    assert_int_equal(lease(), 60000);
    done(60000);
    for (uint64_t i = 0; i < 8; i++) /* more room, and all may have more of it */
        done(1000 + i);
    unsigned others = 0;
    for (int i = 0; i < 4; i++)
        others += lease() / 10000 >= 2;
    assert_int_equal(others, 3);
}

/* As many places as there are, and no user alone has none. */
static void test_few_places(void **state)
{
    (void)state;
    for (unsigned places = 1; places <= 5; places++) {
        unsigned n = 0;
        queue_free(q);
        q = queue_new(3, places);
        for (uint64_t i = 1; i <= 10; i++) {
            char name[32];
            snprintf(name, sizeof(name), "d%u.example", (unsigned)i);
            add(i, 1, name);
        }
        while (lease() != 0)
            n++;
        assert_in_range(n, 1, places);
        assert_true(places == 1 || n >= places / 2);
    }
}

/* What was down is remembered when its last job went; an operator may insist. */
static void test_down_remembered(void **state)
{
    (void)state;
    add(1, 1, "a.example");
    assert_int_equal(lease(), 1);
    queue_end(q, 1, 0, QUEUE_NEVER, QUEUE_DOWN, now);
    assert_int_equal(queue_length(q), 0);
    add(2, 1, "a.example");
    assert_int_equal(lease(), 0);
    queue_retry(q, 2, 0, now);
    assert_int_equal(lease(), 2);
    queue_retry(q, 2, 0, now);            /* leased: nothing */
    for (uint64_t i = 0; i < 3000; i++) { /* nor are they remembered without end */
        char name[32];
        snprintf(name, sizeof(name), "d%u.example", (unsigned)i);
        add(100 + i, 1, name);
        assert_int_equal(lease(), 100 + i);
        queue_end(q, 100 + i, 0, QUEUE_NEVER, QUEUE_DOWN, now);
    }
    done(2);
    add(5000, 1, "d0.example");
    assert_int_equal(lease(), 5000);
    add(5001, 1, "d2999.example");
    assert_int_equal(lease(), 0);
}

/* Anything in any order: each job is leased once at a time, limits hold, and nothing is lost. */
static void test_random(void **state)
{
    enum { JOBS = 200, STEPS = 40000 };
    static struct {
        bool there, leased;
        unsigned destination;
    } job[JOBS];
    unsigned busy[8] = {0};
    (void)state;
    memset(job, 0, sizeof(job));
    for (int step = 0; step < STEPS; step++) {
        uint32_t i = randombytes_uniform(JOBS), what = randombytes_uniform(6);
        char name[16];
        unsigned d = i % 8;
        snprintf(name, sizeof(name), "d%u", d);
        if (what == 0 && !job[i].there) {
            assert_int_equal(
                queue_add(q, i + 1, 0, i % 5, name, now + randombytes_uniform(2) * MINUTE, now),
                SP_OK);
            job[i].there = true;
        } else if (what == 1) {
            assert_int_equal(queue_remove(q, i + 1, 0), job[i].leased ? SP_ERR_STATE : SP_OK);
            job[i].there = job[i].leased;
        } else if (what == 2 && job[i].leased) {
            bool ends = randombytes_uniform(2) == 0;
            queue_end(q, i + 1, 0, ends ? QUEUE_NEVER : now + MINUTE,
                      (enum queue_seen)randombytes_uniform(3), now);
            job[i].leased = false;
            job[i].there = !ends;
            busy[d]--;
        } else if (what == 3) {
            queue_retry(q, i + 1, 0, now);
        } else if (what == 4) {
            uint64_t no = lease();
            if (no == 0)
                continue;
            assert_true(job[no - 1].there && !job[no - 1].leased);
            job[no - 1].leased = true;
            assert_true(++busy[(no - 1) % 8] <= 3);
        } else {
            now += randombytes_uniform(20000);
        }
    }
    size_t left = 0, got = 0;
    for (uint32_t i = 0; i < JOBS; i++) {
        if (job[i].leased)
            queue_end(q, i + 1, 0, now, QUEUE_ANSWERED, now);
        left += job[i].there;
    }
    assert_int_equal(queue_length(q), left);
    for (int i = 0; i < 1000 && got < left; i++) {
        uint64_t no;
        for (now += 31 * MINUTE; (no = lease()) != 0; got++)
            done(no);
    }
    assert_int_equal(got, left);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_backoff),
        T(test_times),
        T(test_clock_set_back),
        T(test_clock_steps_back),
        T(test_per_destination),
        T(test_fair),
        T(test_share),
        T(test_few_places),
        T(test_down),
        T(test_down_remembered),
        T(test_random),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
