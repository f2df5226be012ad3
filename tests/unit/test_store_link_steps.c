/* Links and what may happen between any two steps of their lives: kill -9 of the store, which takes
 * the tree along, and a clock that is set forward and back. A link works until its time is over,
 * and never after. */
#include "daemon/testhooks.h"
#include "tests/unit/store_links.h"

#include <time.h>

#define HOUR_S 3600

static uint64_t in_hours(uint64_t n)
{
    return ((uint64_t)time(NULL) + n * HOUR_S) * 1000;
}

/* kill -9, and a new tree on what is on disk, that many hours from the real time of day. The keeper
 * is told of these slots and no others. */
static void again(struct tree *t, struct client *ann, int hours, const uint32_t *slots, size_t n)
{
    uint32_t named[16];
    testhook_clock_ms = hours * HOUR_S * INT64_C(1000);
    crash(t, ann);
    assert_int_equal(keeper_hears(t, named, 16), n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(named[i], slots[i]);
    keeper_ready(t);
}

static void opens(struct tree *t, const uint8_t id[ID_SIZE])
{
    assert_int_equal(ask_page(t, id, NULL, 0), SP_OK);
    assert_int_equal(ask_piece(t, id, 0, 100, 1), SP_OK);
    assert_int_equal(ask_envelope(t, id, 0, NULL), SP_OK);
}

static void is_gone(struct tree *t, const uint8_t id[ID_SIZE])
{
    uint8_t buf[256];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct wire_in in;
    assert_int_equal(ask_page(t, id, NULL, 0), SP_ERR_NOT_FOUND);
    assert_int_equal(ask_piece(t, id, 0, 100, 1), SP_ERR_NOT_FOUND);
    put_who(&out, id, true);
    wire_put_u32(&out, 0);
    assert_int_equal(ask(t->web, SW_LINK_ENVELOPE, &out, &in), SP_ERR_NOT_FOUND);
}

static void take_notification(struct tree *t, struct lent *d)
{
    struct wire_in in;
    struct wire_out none = wire_out(NULL, 0);
    *d = (struct lent){.n = 1, .index = {1}};
    want(t, 1);
    d->lease = take_lease(t);
    d->channel = open_channel(t, d->lease);
    assert_int_equal(ask(d->channel, SD_JOB, &none, &in), SP_OK);
    assert_int_equal(wire_get_u8(&in), BOX_PASSWORD);
}

static void test_cuts(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct lent d;
    uint8_t id[ID_SIZE];
    const struct mail m = {.mark = 1, .links = 1, .expires_ms = in_hours(1)};
    const uint32_t slots[] = {slot_of(&m, 0), slot_of(&m, 0) + 1};
    begin_with(t, &ann, &m, 1);
    link_id(1, 0, id);
    /* 1: it is there, and its notification waits. */
    again(t, &ann, 0, slots, 2);
    opens(t, id);
    /* 2: a delivery has the password. */
    take_notification(t, &d);
    close(d.channel);
    again(t, &ann, 0, slots, 2);
    opens(t, id);
    /* 3: it is sent, and told; the password is not erased yet. */
    take_notification(t, &d);
    assert_int_equal(result(&d, DELIVERY_SENT, 250), SP_OK);
    keeper_erases(t, slots[0]);
    close(d.channel);
    again(t, &ann, 0, slots, 2);
    /* 4: its slot is overwritten, the record stands. */
    keeper_erases(t, slots[0]);
    again(t, &ann, 0, slots, 2);
    keeper_says(t, VT_ERASE_REPLY, keeper_erases(t, slots[0]), NULL, 0);
    assert_true(becomes(t, "secrets", 1));
    /* 5: there is the box alone. */
    again(t, &ann, 0, &slots[1], 1);
    opens(t, id);
    /* 6: its time is over while nobody runs. */
    again(t, &ann, 2, &slots[1], 1);
    is_gone(t, id);
    keeper_erases(t, slots[1]);
    /* 7: the row says so, the box is not erased yet; and the clock goes back. */
    again(t, &ann, 0, &slots[1], 1);
    is_gone(t, id);
    keeper_erases(t, slots[1]);
    /* 8: its slot is overwritten, the records stand. */
    again(t, &ann, 0, &slots[1], 1);
    is_gone(t, id);
    keeper_says(t, VT_ERASE_REPLY, keeper_erases(t, slots[1]), NULL, 0);
    assert_true(becomes(t, "links", 0));
    /* 9: finished. */
    again(t, &ann, 0, NULL, 0);
    is_gone(t, id);
    assert_int_equal(number(t, "secrets"), 0);
    assert_int_equal(number(t, "queue"), 0);
}

/* The same for a link that its sender deletes. */
static void test_cuts_of_deleting(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct wire_in in;
    uint8_t id[ID_SIZE], message[ID_SIZE];
    const struct mail m = {.mark = 1, .links = 1, .expires_ms = in_hours(1)};
    const uint32_t slots[] = {slot_of(&m, 0), slot_of(&m, 0) + 1};
    begin_with(t, &ann, &m, 1);
    link_id(1, 0, id);
    memset(message, 1, ID_SIZE);
    again(t, &ann, 0, slots, 2);
    assert_int_equal(ask_about(t, &ann, SW_DELETE, message, &in), SP_OK);
    again(t, &ann, 0, slots, 2);
    is_gone(t, id);
    for (int i = 0; i < 2; i++) {
        struct ipc_frame f = next(t->keeper);
        assert_int_equal(f.type, VT_ERASE);
        keeper_says(t, VT_ERASE_REPLY, f.id, NULL, 0);
    }
    assert_true(becomes(t, "links", 0));
    assert_true(becomes(t, "stored_bytes", 0));
    again(t, &ann, 0, NULL, 0);
    is_gone(t, id);
}

/* The clock forward and back, over restarts: what has ended stays so, what has time left goes on,
 * as the latest time that was seen has it. */
static void test_clock(void **state)
{
    static const struct {
        int hours;
        bool first, second; /* are there */
    } steps[] = {{0, true, true},   {-5, true, true},  {2, false, true}, {0, false, true},
                 {-5, false, true}, {4, false, false}, {0, false, false}};
    struct tree *t = *state;
    struct client ann;
    uint8_t first[ID_SIZE], second[ID_SIZE];
    const struct mail m[] = {{.mark = 1, .links = 1, .expires_ms = in_hours(1)},
                             {.mark = 2, .links = 1, .expires_ms = in_hours(3)}};
    const uint32_t slots[] = {slot_of(&m[0], 0), slot_of(&m[0], 0) + 1, slot_of(&m[1], 0),
                              slot_of(&m[1], 0) + 1};
    begin_with(t, &ann, m, 2);
    link_id(1, 0, first);
    link_id(2, 0, second);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        again(t, &ann, steps[i].hours, slots, 4); /* the keeper never gets to erase */
        size_t ended = (steps[i].first ? 0u : 2u) + (steps[i].second ? 0u : 2u);
        for (; ended > 0; ended--) {
            struct ipc_frame f = next(t->keeper);
            assert_int_equal(f.type, VT_ERASE);
        }
        steps[i].first ? opens(t, first) : is_gone(t, first);
        steps[i].second ? opens(t, second) : is_gone(t, second);
    }
}

/* The latest time is noted: a link whose end nobody was there to write down does not come back. */
static void test_noted_time(void **state)
{
    struct tree *t = *state;
    struct client ann;
    uint8_t id[ID_SIZE];
    struct store *s;
    uint64_t noted = 0;
    const struct mail m = {.mark = 1, .links = 1, .expires_ms = in_hours(3)};
    testhook_clock_ms = 2 * HOUR_S * INT64_C(1000);
    begin_with(t, &ann, &m, 1);
    link_id(1, 0, id);
    assert_int_equal(ipc_send_fd(t->control, CT_STOP, 0, NULL, 0, -1), SP_OK);
    expect_end(t->control);
    end(t, SIGKILL);
    testhook_clock_ms = 0;
    assert_int_equal(store_open(t->dir, 32u << 20, &s), SP_OK);
    assert_int_equal(store_clock_get(s, &noted), SP_OK);
    assert_true(noted >= in_hours(2) - 60000);
    assert_int_equal(store_clock_put(s, m.expires_ms), SP_OK); /* as if it had run until then */
    assert_int_equal(store_commit(s), SP_OK);
    store_close(s);
    start(t);
    assert_int_equal(login(t, &ann, URL, NULL), SP_OK);
    is_gone(t, id);
}

/* The tree is killed when a user's removal is on disk, and the ends of his links are not. */
static void test_sender_removed(void **state)
{
    struct tree *t = *state;
    struct client ann, bob;
    struct store *s;
    uint8_t id[ID_SIZE];
    char alias[STORE_MAX_ADDRESS];
    const struct mail m = {.mark = 1, .links = 1, .expires_ms = in_hours(1)};
    const uint32_t slots[] = {slot_of(&m, 0), slot_of(&m, 0) + 1};
    new_client(t, &bob, "bob@example.org");
    begin_with(t, &ann, &m, 1);
    link_id(1, 0, id);
    again(t, &bob, 0, slots, 2);
    opens(t, id);
    end(t, SIGKILL);
    assert_int_equal(store_open(t->dir, 32u << 20, &s), SP_OK);
    assert_int_equal(store_user_remove(s, ADDRESS, alias), SP_OK);
    assert_int_equal(store_commit(s), SP_OK);
    store_close(s);
    start(t);
    is_gone(t, id);
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_cuts),       T(test_cuts_of_deleting), T(test_clock),
        T(test_noted_time), T(test_sender_removed),
    };
    if (sodium_init() < 0)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
