/* When the store hands leases out: not in the middle of a flush, and one by one when it is full.
 * And results for which there is no room. */
#include "storage/edges.h"
#include "tests/unit/store_sender.h"

#include <event2/event.h>
#include <lmdb.h>

#define MAP (32u << 20) /* as the tree's */

/* A letter to six destinations. */
static struct letter to_six(const struct client *from, uint8_t mark)
{
    return (struct letter){.mark = mark,
                           .from = from,
                           .outside = {"a@one.example", "a@two.example", "a@three.example",
                                       "a@four.example", "a@five.example", "a@six.example"}};
}

static void ready(struct tree *t, size_t slots)
{
    assert_int_equal(keeper_hears(t, (uint32_t[64]){0}, 64), slots);
    keeper_ready(t);
}

/* --- a flush inside a flush --- */

static unsigned answers;

static void flushes(struct store_role *r, void *arg, enum sp_err err)
{
    (void)arg;
    answers += err == SP_OK;
    group_flush(r);
}

static void wakes(struct store_role *r, void *arg, enum sp_err err)
{
    (void)arg;
    answers += err == SP_OK;
    relay_wake(r);
}

/* What is called with an answer may wake the dispatcher, which flushes, but not call it: each
 * answer would be given twice, of memory that is free. Should it ever, the process ends there. */
static void test_no_flush_in_a_flush(void **state)
{
    struct tree *t = *state;
    static struct store_role r;
    int status;
    struct event_base *base = event_base_new();
    end(t, SIGKILL);
    assert_int_equal(store_open(t->dir, MAP, &r.store), SP_OK);
    r.due = evtimer_new(base, NULL, NULL);
    group_answer(&r, &(struct reply){.then = wakes});
    group_answer(&r, &(struct reply){.then = wakes});
    assert_int_equal(group_flush(&r), SP_OK);
    assert_int_equal(answers, 2);
    assert_true(event_pending(r.due, EV_TIMEOUT, NULL));
    assert_int_equal(group_flush(&r), SP_OK);
    assert_int_equal(answers, 2);
    pid_t child_pid = fork();
    if (child_pid == 0) {
        group_answer(&r, &(struct reply){.then = flushes});
        group_flush(&r);
        _exit(0);
    }
    assert_int_equal(waitpid(child_pid, &status, 0), child_pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE);
    store_close(r.store);
    event_free(r.due);
    event_base_free(base);
    start(t);
}

/* --- a full store --- */

#define FILLED 1000u

/* What leaves no room for anything but the reserve: mail of this user. */
static size_t fill(struct store *s, const struct client *c, uint8_t ids[FILLED][ID_SIZE])
{
    size_t n = 0;
    static const uint8_t bytes[60000];
    while (store_has_room(s)) {
        struct store_upload *u;
        struct store_box box = {.generation = 1, .bytes = (const uint8_t *)"box", .len = 3};
        struct store_message m = {.received_ms = 1,
                                  .pieces = 1,
                                  .envelope = (const uint8_t *)"envelope",
                                  .envelope_len = 8,
                                  .box = &box,
                                  .boxes = 1};
        assert_true(n < FILLED);
        randombytes_buf(m.message_id, ID_SIZE);
        memcpy(ids[n], m.message_id, ID_SIZE);
        memcpy(box.user_id, c->user_id, ID_SIZE);
        assert_int_equal(store_upload_begin(s, &u), SP_OK);
        if (store_upload_append(u, 0, bytes, sizeof(bytes)) != SP_OK) {
            store_upload_abort(u);
            assert_int_equal(store_commit(s), SP_OK);
            continue;
        }
        assert_int_equal(store_upload_deliver(u, &m), SP_OK);
        assert_int_equal(store_commit(s), SP_OK);
        n++;
    }
    return n;
}

static uint8_t filled[FILLED][ID_SIZE];

/* What is sent makes room, so that a full store goes on sending; but one by one, so that no row of
 * results eats up the reserve. Each result is taken. */
static void test_full(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct store *s;
    struct lent d;
    new_client(t, &ann, ADDRESS);
    ready(t, 0);
    struct letter l = to_six(&ann, 1);
    send_outside(t, &l, 1, 6);
    end(t, SIGKILL);
    assert_int_equal(store_open(t->dir, MAP, &s), SP_OK);
    fill(s, &ann, filled);
    store_close(s);
    start(t);
    ready(t, 1);
    assert_int_equal(login(t, &ann, URL, NULL), SP_OK);
    want(t, 4);
    for (unsigned i = 0; i < 6; i++) {
        deliver(t, &d);
        struct pollfd relay = {.fd = t->relay, .events = POLLIN};
        assert_int_equal(poll(&relay, 1, 100), 0); /* no second lease beside it */
        assert_int_equal(result(&d, DELIVERY_SENT, 250), SP_OK);
        expect_event(t, AUDIT_RELAY_SENT);
        if (i == 3)
            want(t, 4);
        finish(t, &d, 0);
    }
    char text[32];
    assert_int_equal(states(t, &l, text), SP_OK);
    assert_string_equal(text, "1111111");
}

/* A map with hardly a free page, the reserve eaten up: while somebody reads an old snapshot, no
 * page comes back, and deleting takes some. */
static void eat_reserve(struct tree *t, const struct client *c, size_t n)
{
    struct wire_in in;
    enum sp_err err = SP_OK;
    for (size_t i = 0; err == SP_OK && i < n; i++) {
        err = ask_about(t, c, SW_DELETE, filled[i], &in);
        if (err == SP_OK)
            expect_event(t, AUDIT_DELETED);
    }
    assert_int_equal(err, SP_ERR_NO_SPACE);
}

/* Of one recipient of a lease. */
static enum sp_err say_of(const struct lent *d, size_t i)
{
    struct lent one = *d;
    one.n = 1;
    one.index[0] = d->index[i];
    return result(&one, DELIVERY_SENT, 250);
}

/* A result that could not be written is none: neither the lease nor the job have it. Said again
 * when there is room, it is taken, and the mail is not sent twice. */
static void test_result_without_room(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct store *s;
    struct lent d;
    MDB_env *env;
    MDB_txn *reader;
    char text[32];
    new_client(t, &ann, ADDRESS);
    ready(t, 0);
    struct letter l = {.mark = 1,
                       .from = &ann,
                       .outside = {"a@one.example", "b@one.example", "c@one.example",
                                   "d@one.example", "e@one.example", "f@one.example"}};
    send_outside(t, &l, 1, 1);
    end(t, SIGKILL);
    assert_int_equal(store_open(t->dir, MAP, &s), SP_OK);
    size_t n = fill(s, &ann, filled);
    store_close(s);
    start(t);
    ready(t, 1);
    assert_int_equal(login(t, &ann, URL, NULL), SP_OK);
    want(t, 1);
    deliver(t, &d);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, t->dir, MDB_RDONLY | MDB_NOTLS, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, MDB_RDONLY, &reader), 0);
    eat_reserve(t, &ann, n);
    size_t told = 0; /* what little is left takes the first ones */
    while (told < d.n && say_of(&d, told) == SP_OK) {
        expect_event(t, AUDIT_RELAY_SENT);
        told++;
    }
    assert_in_range(told, 0, d.n - 1u);
    for (int i = 0; i < 3; i++)
        assert_int_equal(say_of(&d, told), SP_ERR_NO_SPACE);
    mdb_txn_abort(reader);
    mdb_env_close(env);
    for (unsigned tries = 0; told < d.n; told++) {
        while (say_of(&d, told) != SP_OK) /* a group that began before is still without room */
            assert_in_range(tries++, 0, 100);
        expect_event(t, AUDIT_RELAY_SENT);
    }
    finish(t, &d, 0);
    assert_int_equal(states(t, &l, text), SP_OK);
    assert_string_equal(text, "1111111");
}

/* --- a keeper who is slow to read --- */

/* The number of a lease that relay is told of at once; 0: it is made, and relay is not told. */
static uint64_t told(struct tree *t)
{
    struct pollfd relay = {.fd = t->relay, .events = POLLIN};
    want(t, 1);
    while (number(t, "deliveries") == 0)
        usleep(1000);
    if (poll(&relay, 1, 0) == 0)
        return 0;
    struct ipc_frame f = next(t->relay);
    assert_int_equal(f.type, SR_JOB);
    t->wanted = 0;
    return wire_get_u64(&f.body);
}

/* Relay is never told of a lease that has not left for the keeper: a delivery would be quicker than
 * its lease, and refused. */
static void test_keeper_first(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct lent d = {0};
    struct ipc_frame f;
    uint64_t last = 0, lease;
    new_client(t, &ann, ADDRESS);
    ready(t, 0);
    struct letter l = {.mark = 1, .from = &ann, .outside = {"a@one.example"}};
    send_outside(t, &l, 1, 1);
    t->keeper_room = 1;
    crash(t, &ann);
    ready(t, 1);
    for (int i = 0; i < 100 && (d.lease = told(t)) != 0; i++) {
        last = d.lease;
        d.channel = open_channel(t, d.lease);
        finish(t, &d, SIGTERM);
        while (number(t, "deliveries") > 0)
            usleep(1000);
    }
    assert_true(last > 0 && d.lease == 0);
    do { /* the keeper reads */
        f = next(t->keeper);
        lease = f.type == VT_LEASE ? wire_get_u64(&f.body) : 0;
    } while (lease <= last);
    f = next(t->relay);
    assert_int_equal(f.type, SR_JOB);
    assert_int_equal(wire_get_u64(&f.body), lease);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {T(test_no_flush_in_a_flush), T(test_full),
                                       T(test_result_without_room), T(test_keeper_first)};
    if (sodium_init() < 0)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
