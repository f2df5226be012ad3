/* The queue as keeper, relay and deliveries see it; what a kill -9 at any step leaves behind; what
 * a delivery that was taken over may not do. */
#include "daemon/testhooks.h"
#include "storage/store.h"
#include "tests/unit/store_sender.h"

#define OUT_A "zoe@elsewhere.example", "Zed@Elsewhere.EXAMPLE"
#define OUT_B "bo@other.example"

static void begin(struct tree *t, struct client *ann)
{
    new_client(t, ann, ADDRESS);
    keeper_hears(t, NULL, 0);
    keeper_ready(t);
}

/* After a crash: the slots that are named, all of it ready again. */
static void again(struct tree *t, struct client *ann, const uint32_t *slots, size_t n)
{
    uint32_t named[8];
    crash(t, ann);
    assert_int_equal(keeper_hears(t, named, 8), n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(named[i], slots[i]);
    keeper_ready(t);
}

static void expect_states(struct tree *t, const struct letter *l, const char *expected)
{
    char text[32];
    assert_int_equal(states(t, l, text), SP_OK);
    assert_string_equal(text, expected);
}

static void erased(struct tree *t, uint32_t slot)
{
    keeper_says(t, VT_ERASE_REPLY, keeper_erases(t, slot), NULL, 0);
}

static void test_delivery(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct lent a, b;
    struct wire_in in;
    uint8_t buf[64], id[ID_SIZE];
    begin(t, &ann);
    struct letter l = {.mark = 1, .from = &ann, .outside = {OUT_B, OUT_A}};
    send_outside(t, &l, 3, 2);
    expect_states(t, &l, "1000");
    want(t, 2);
    deliver(t, &a);
    assert_string_equal(a.destination, "elsewhere.example");
    assert_int_equal(a.n, 2);
    assert_int_equal(a.kind, BOX_RELAY);
    assert_memory_equal(a.puk_pk, ann.chain.puk_pk, KEY_SIZE);
    assert_memory_equal(a.report_pk, ann.chain.puk_pk, KEY_SIZE);
    assert_int_equal(a.order[0], 3); /* as in the form, though sorted */
    assert_int_equal(a.order[1], 2);
    assert_int_equal(a.attempt, 1);
    letter_id(&l, id);
    assert_memory_equal(a.message_id, id, ID_SIZE);
    deliver(t, &b);
    assert_string_equal(b.destination, "other.example");
    assert_true(a.brought && b.brought);
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u32(&out, 0);
    assert_int_equal(ask(a.channel, SD_ENVELOPE, &out, &in), SP_OK);
    assert_true(wire_get_u32(&in) == in.left && in.left > 300);
    out = wire_out(buf, sizeof(buf));
    wire_put_u16(&out, 0);
    wire_put_u64(&out, 990);
    wire_put_u32(&out, PART_MAX);
    assert_int_equal(ask(a.channel, SD_PIECE, &out, &in), SP_OK);
    assert_int_equal(wire_get_u64(&in), piece_bytes());
    assert_int_equal(wire_get_u32(&in), piece_bytes() - 990);
    assert_int_equal(in.at[0], 1);
    assert_int_equal(result(&a, DELIVERY_SENT, 250), SP_OK);
    expect_event(t, AUDIT_RELAY_SENT);
    finish(t, &a, 0);
    expect_states(t, &l, "1110");
    assert_int_equal(number(t, "secrets"), 1);
    assert_int_equal(result(&b, DELIVERY_DEFERRED, 450), SP_OK);
    expect_event(t, AUDIT_RELAY_DEFERRED);
    finish(t, &b, 0);
    expect_states(t, &l, "1112");
    assert_int_equal(number(t, "queue"), 1);
    /* He takes back what was not sent; the secret goes, slot first. */
    uint8_t all[64];
    struct wire_out revoke = wire_out(all, sizeof(all));
    wire_put_bytes(&revoke, ann.token, TOKEN);
    wire_put_bytes(&revoke, id, ID_SIZE);
    wire_put_str(&revoke, "");
    assert_int_equal(ask(t->web, SW_REVOKE, &revoke, &in), SP_OK);
    assert_int_equal(wire_get_u16(&in), 1);
    expect_states(t, &l, "1114");
    assert_int_equal(number(t, "queue"), 0);
    uint32_t erase = keeper_erases(t, 3);
    assert_int_equal(number(t, "secrets"), 1);
    keeper_says(t, VT_ERASE_REPLY, erase, NULL, 0);
    for (int i = 0; i < 500 && number(t, "secrets") > 0; i++)
        usleep(10000);
    assert_int_equal(number(t, "secrets"), 0);
}

static void test_revoke_one(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct wire_in in;
    struct lent a;
    uint8_t buf[128], id[ID_SIZE];
    begin(t, &ann);
    struct letter l = {.mark = 1, .from = &ann, .outside = {OUT_A, OUT_B}};
    send_outside(t, &l, 3, 2);
    want(t, 1);
    deliver(t, &a);
    letter_id(&l, id);
    static const struct {
        const char *address;
        uint16_t n;
    } cases[] = {{"zoe@elsewhere.example", 0}, /* leased */
                 {"nobody@other.example", 0},
                 {"BO@other.example", 1},
                 {"bo@other.example", 0}};
    for (size_t i = 0; i < 4; i++) {
        struct wire_out out = wire_out(buf, sizeof(buf));
        wire_put_bytes(&out, ann.token, TOKEN);
        wire_put_bytes(&out, id, ID_SIZE);
        wire_put_str(&out, cases[i].address);
        assert_int_equal(ask(t->web, SW_REVOKE, &out, &in), SP_OK);
        assert_int_equal(wire_get_u16(&in), cases[i].n);
    }
    expect_states(t, &l, "1004");
    assert_int_equal(result(&a, DELIVERY_SENT, 250), SP_OK);
    finish(t, &a, 0);
    erased(t, 3);
    expect_states(t, &l, "1114");
}

/* Each step of edge_send.c is the last once. */
static void test_cuts(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct lent d;
    uint8_t id[ID_SIZE], other[ID_SIZE];
    const uint32_t slot = 3;
    begin(t, &ann);
    struct letter l = {.mark = 1, .from = &ann, .outside = {OUT_A}};
    /* 2: the keeper has the secret, nobody has been told. */
    upload(t, &l, id);
    send_frame(t, &ann, id);
    struct ipc_frame f = next(t->keeper);
    assert_int_equal(f.type, VT_SECRET);
    again(t, &ann, NULL, 0);
    assert_int_equal(list(t, &ann, other), 0);
    /* 3: committed. */
    send_outside(t, &l, slot, 1);
    again(t, &ann, &slot, 1);
    assert_int_equal(list(t, &ann, other), 1);
    upload(t, &l, id);
    send_frame(t, &ann, id);
    assert_int_equal(send_status(t), SP_ERR_EXISTS);
    /* 4: leased. */
    want(t, 1);
    deliver(t, &d);
    close(d.channel);
    again(t, &ann, &slot, 1);
    /* 5: the other server has answered, the store was not told: it is due again. */
    want(t, 1);
    deliver(t, &d);
    assert_int_equal(d.attempt, 1);
    /* 6: told, and on disk; the keeper has not erased yet. */
    assert_int_equal(result(&d, DELIVERY_SENT, 250), SP_OK);
    keeper_erases(t, slot);
    close(d.channel);
    again(t, &ann, &slot, 1);
    expect_states(t, &l, "111");
    /* 7: the slot is erased, the record stands. */
    keeper_erases(t, slot);
    again(t, &ann, &slot, 1);
    /* 8: finished. */
    erased(t, slot);
    for (int i = 0; i < 500 && number(t, "secrets") > 0; i++)
        usleep(10000);
    again(t, &ann, NULL, 0);
    want(t, 1);
    expect_states(t, &l, "111");
    assert_int_equal(number(t, "queue"), 0);
}

/* A sending that comes to nothing leaves no slot behind. */
static void test_not_sent(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct wire_in in;
    uint8_t id[ID_SIZE], reply[1] = {SP_ERR_AUTH};
    begin(t, &ann);
    struct letter l = {.mark = 1, .from = &ann, .outside = {OUT_A}};
    upload(t, &l, id);
    send_frame(t, &ann, id);
    struct ipc_frame f = next(t->keeper);
    assert_int_equal(ipc_send_fd(t->keeper, VT_SECRET_REPLY, f.id, reply, 1, -1), SP_OK);
    assert_int_equal(send_status(t), SP_ERR_NO_KEY);
    send_frame(t, &ann, id);
    f = next(t->keeper);
    send_frame(t, &ann, id); /* a second time, while the first is under way */
    assert_int_equal(send_status(t), SP_ERR_EXISTS);
    assert_int_equal(ask_about(t, &ann, SW_UPLOAD_DROP, id, &in), SP_OK);
    uint8_t buf[64];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u32(&out, 77);
    wire_put_b16(&out, "wrapped", 7);
    keeper_says(t, VT_SECRET_REPLY, f.id, buf, out.len);
    assert_int_equal(send_status(t), SP_ERR_NOT_FOUND);
    erased(t, 77);
}

/* Deliveries that crash without a word; after five, the mail is opened no more. */
static void test_crashes(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct lent d;
    char text[1024];
    uint32_t rows;
    begin(t, &ann);
    struct letter l = {.mark = 1, .from = &ann, .outside = {OUT_A}};
    send_outside(t, &l, 3, 1);
    for (unsigned i = 0; i < 5; i++) {
        want(t, 1);
        deliver(t, &d);
        assert_int_equal(d.attempt, i + 1);
        assert_int_equal(d.kind, BOX_RELAY);
        finish(t, &d, SIGSEGV);
        if (i < 4)
            assert_int_equal(OPERATE(t, text, &rows, "queue", "retry", "all"), SP_OK);
    }
    erased(t, 3);
    want(t, 1);
    assert_int_equal(OPERATE(t, text, &rows, "queue", "retry", "all"), SP_OK);
    deliver(t, &d);
    assert_int_equal(d.kind, 0);
    assert_string_equal(d.why, "could not be processed");
    assert_int_equal(result(&d, DELIVERY_FAILED, 0), SP_OK);
    expect_event(t, AUDIT_RELAY_FAILED);
    finish(t, &d, 0);
    expect_states(t, &l, "133");
    assert_int_equal(number(t, "queue"), 0);
}

/* One end without a word; kind: whether the mail itself was leased. Then it is due again. */
static void end_silently(struct tree *t, uint32_t signal_number, uint8_t kind)
{
    struct lent d;
    char text[1024];
    uint32_t rows;
    want(t, 1);
    deliver(t, &d);
    assert_int_equal(d.kind, kind);
    if (kind == 0)
        assert_string_equal(d.why, "could not be processed in time");
    finish(t, &d, signal_number);
    while (number(t, "deliveries") > 0)
        usleep(1000);
    assert_int_equal(OPERATE(t, text, &rows, "queue", "retry", "all"), SP_OK);
}

/* The tree runs on, so many hours from now. */
static void later(struct tree *t, struct client *ann, int64_t hours, uint32_t slot)
{
    testhook_clock_ms = hours * 3600 * 1000;
    again(t, ann, &slot, slot != 0);
}

/* What ends without a word and did not crash (no memory, a peer that is gone, the deadline, the
 * system's killer) had no fault of the mail's: it is tried until its time is over, and a report for
 * as long again. */
static void test_silent_ends(void **state)
{
    struct tree *t = *state;
    struct client ann;
    begin(t, &ann);
    struct letter l = {.mark = 1, .from = &ann, .outside = {OUT_A}};
    send_outside(t, &l, 3, 1);
    for (unsigned i = 0; i < 12; i++)
        end_silently(t, i % 2 == 0 ? 0 : SIGKILL, BOX_RELAY);
    for (unsigned i = 0; i < 4; i++) /* nor do those make up for crashes */
        end_silently(t, SIGSEGV, BOX_RELAY);
    later(t, &ann, 23, 3);
    end_silently(t, 0, BOX_RELAY);
    later(t, &ann, 25, 3);
    end_silently(t, 0, BOX_RELAY);
    erased(t, 3);
    for (unsigned i = 0; i < 12; i++)
        end_silently(t, 0, 0);
    expect_states(t, &l, "100");
    later(t, &ann, 49, 0);
    end_silently(t, SIGKILL, 0);
    expect_event(t, AUDIT_RELAY_FAILED);
    expect_states(t, &l, "133");
    assert_int_equal(number(t, "queue"), 0);
    testhook_clock_ms = 0;
}

/* A tree that is stopped ten times has not tried ten times. */
static void test_stopped(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct lent d;
    begin(t, &ann);
    struct letter l = {.mark = 1, .from = &ann, .outside = {OUT_A}};
    send_outside(t, &l, 3, 1);
    for (unsigned i = 0; i < 10; i++) {
        want(t, 1);
        deliver(t, &d);
        assert_int_equal(d.attempt, 1);
        assert_int_equal(d.kind, BOX_RELAY);
        finish(t, &d, SIGTERM);
    }
    expect_states(t, &l, "100");
}

/* --- reports --- */

/* A report of so many bytes; claims: what its envelope says. */
static enum sp_err report(struct lent *d, const struct client *to, uint8_t mark, size_t bytes,
                          size_t claims, uint32_t generation)
{
    static uint8_t piece[PART_MAX];
    uint8_t e_buf[1024], b_buf[BOX_MAX], buf[2048], manifest[200] = {0}, sealed[72] = {0};
    size_t e_len, b_len;
    struct wire_in in;
    struct wire_out out = wire_out(piece, sizeof(piece));
    out.len = bytes;
    assert_int_equal(ask(d->channel, SD_REPORT_BYTES, &out, &in), SP_OK);
    struct envelope e = {.suite = ENVELOPE_SUITE_X25519,
                         .n_pieces = 1,
                         .piece_length = {claims},
                         .manifest = manifest,
                         .manifest_len = (size_t)cake_sealed_length(100)};
    struct box b = {
        .kind = BOX_USER, .puk_generation = generation, .sealed = sealed, .sealed_len = 72};
    memset(e.message_id, mark, ID_SIZE);
    memset(e.ephemeral_pk, 9, KEY_SIZE);
    memcpy(b.recipient_pk, to->chain.puk_pk, KEY_SIZE);
    memcpy(b.recipient_id, to->user_id, ID_SIZE);
    assert_int_equal(envelope_encode(&e, e_buf, sizeof(e_buf), &e_len), SP_OK);
    assert_int_equal(box_encode(&b, b_buf, sizeof(b_buf), &b_len), SP_OK);
    struct wire_out sealed_report = wire_out(buf, sizeof(buf));
    wire_put_b32(&sealed_report, e_buf, e_len);
    wire_put_b32(&sealed_report, b_buf, b_len);
    assert_int_equal(ipc_send_fd(d->channel, SD_REPORT, 7, buf, sealed_report.len, -1), SP_OK);
    struct pollfd p = {.fd = d->channel, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 5000), 1);
    struct ipc_frame f;
    if (ipc_recv(d->channel, received, sizeof(received), &f) != SP_OK)
        return SP_ERR_PEER;
    assert_int_equal(f.type, SD_REPORT_REPLY);
    return wire_get_u8(&f.body);
}

static void test_report(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct lent d;
    uint8_t id[ID_SIZE];
    const size_t bytes = (size_t)cake_sealed_length(500);
    begin(t, &ann);
    struct letter l = {.mark = 1, .from = &ann, .outside = {OUT_A}};
    send_outside(t, &l, 3, 1);
    want(t, 1);
    deliver(t, &d);
    assert_int_equal(report(&d, &ann, 0x42, bytes, bytes, 2), SP_ERR_STATE);
    assert_int_equal(report(&d, &ann, 0x42, bytes, bytes, 1), SP_OK);
    assert_int_equal(list(t, &ann, id), 1); /* nothing before the result */
    assert_int_equal(result(&d, DELIVERY_FAILED, 550), SP_OK);
    assert_int_equal(list(t, &ann, id), 2);
    expect_states(t, &l, "133");
    finish(t, &d, 0);
    erased(t, 3);
}

/* Without its result a report is not delivered; nor is one beside mail that was sent. */
static void test_report_dropped(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct lent d;
    uint8_t id[ID_SIZE];
    const size_t bytes = (size_t)cake_sealed_length(500);
    begin(t, &ann);
    struct letter l = {.mark = 1, .from = &ann, .outside = {OUT_A, OUT_B}};
    send_outside(t, &l, 3, 2);
    want(t, 2);
    deliver(t, &d);
    assert_int_equal(report(&d, &ann, 0x42, bytes, bytes, 1), SP_OK);
    finish(t, &d, SIGKILL);
    deliver(t, &d);
    assert_int_equal(report(&d, &ann, 0x42, bytes, bytes, 1), SP_OK);
    assert_int_equal(result(&d, DELIVERY_SENT, 250), SP_OK);
    finish(t, &d, 0);
    assert_int_equal(list(t, &ann, id), 1);
}

/* --- a delivery, or a relay, that was taken over --- */

static void expect_channel_ends(struct tree *t, struct lent *d)
{
    expect_end(d->channel);
    finish(t, d, 0);
}

static void test_bad_deliveries(void **state)
{
    struct tree *t = *state;
    struct client ann, bob;
    struct lent d;
    char text[1024];
    uint32_t rows;
    const size_t bytes = (size_t)cake_sealed_length(500);
    begin(t, &ann);
    new_client(t, &bob, "bob@example.org");
    struct letter l = {.mark = 1, .from = &ann, .outside = {OUT_A}};
    send_outside(t, &l, 3, 1);
    for (int i = 0; i < 9; i++) {
        uint8_t buf[8192];
        struct wire_out out = wire_out(buf, sizeof(buf));
        assert_int_equal(OPERATE(t, text, &rows, "queue", "retry", "all"), SP_OK);
        want(t, 1);
        memset(&d, 0, sizeof(d));
        d.lease = take_lease(t);
        d.channel = open_channel(t, d.lease);
        uint16_t type = SD_RESULT;
        if (i > 0)
            ask_job(&d);
        struct lent lie = d;
        switch (i) {
        case 0: /* before its job */
            type = SD_ENVELOPE;
            wire_put_u32(&out, 0);
            break;
        case 1: /* its job twice */
            type = SD_JOB;
            break;
        case 2: /* a recipient who is ours */
            lie.index[0] = 0;
            break;
        case 3: /* one twice */
            lie.index[1] = lie.index[0];
            break;
        case 4: /* a state that is not its to give */
            put_result(&out, &d, DELIVERY_REVOKED, 250);
            break;
        case 5: /* a control in a text for people */
            put_result(&out, &d, DELIVERY_SENT, 250);
            buf[out.len - 2] = 0x1b;
            break;
        case 6: /* a report for somebody else */
            assert_int_equal(report(&d, &bob, 0x42, bytes, bytes, 1), SP_ERR_PEER);
            break;
        case 7: /* a report that claims more than came */
            assert_int_equal(report(&d, &ann, 0x42, bytes, bytes + 1, 1), SP_ERR_PEER);
            break;
        default: /* a report out of nothing */
            type = SD_REPORT;
            wire_put_u64(&out, 0);
        }
        if (i == 2 || i == 3)
            put_result(&out, &lie, DELIVERY_SENT, 250);
        if (i != 6 && i != 7) {
            assert_int_equal(ipc_send_fd(d.channel, type, 1, buf, out.len, -1), SP_OK);
            if (i == 1)
                expect_end(d.channel);
        }
        if (i != 1 && i != 6 && i != 7)
            expect_channel_ends(t, &d);
        else
            finish(t, &d, 0);
        expect_states(t, &l, "100"); /* and the store lives on */
    }
}

static void test_bad_relay(void **state)
{
    struct tree *t = *state;
    struct client ann;
    uint8_t buf[16];
    for (int i = 0; i < 2; i++) {
        struct wire_out out = wire_out(buf, sizeof(buf));
        begin(t, &ann);
        wire_put_u64(&out, 12345); /* a lease that nobody has */
        wire_put_u32(&out, 0);
        wire_put_u32(&out, 0);
        if (i == 0)
            assert_int_equal(ipc_send_fd(t->relay, SR_ENDED, 0, buf, 16, -1), SP_OK);
        else
            assert_int_equal(ipc_send_fd(t->relay, SR_WANT, 0, buf, 5, -1), SP_OK);
        expect_end(t->relay);
        expect_exit(t);
        tear_down((void **)&t);
        set_up(state);
        t = *state;
    }
}

/* A keeper that answers what nobody asked, or does not begin. */
static void test_bad_keeper(void **state)
{
    static const uint16_t types[] = {VT_ERASE_REPLY, VT_UNWRAP_REPLY, VT_SECRET_REPLY,
                                     VT_SLOTS_REPLY, VT_SLOTS_REPLY,  SR_JOB};
    struct tree *t = *state;
    struct client ann;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        uint8_t status = i == 4 ? SP_ERR_PEER : SP_OK;
        if (i != 4)
            begin(t, &ann);
        assert_int_equal(ipc_send_fd(t->keeper, types[i], 4711, &status, 1, -1), SP_OK);
        expect_end(t->keeper);
        expect_exit(t);
        tear_down((void **)&t);
        set_up(state);
        t = *state;
    }
}

/* --- addresses of the sender's own --- */

/* With a local part as long as there may be one. */
static void long_alias(char name[STORE_MAX_ADDRESS], unsigned i)
{
    snprintf(name, STORE_MAX_ADDRESS, "alias%059u@example.org", i);
}

/* A delivery hears of every address that the sender may write as: there are no more than it can. */
static void test_many_names(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct lent d;
    char text[1024], name[STORE_MAX_ADDRESS];
    uint32_t rows;
    begin(t, &ann);
    for (unsigned i = 1; i < STORE_MAX_NAMES; i++) {
        long_alias(name, i);
        assert_int_equal(OPERATE(t, text, &rows, "alias", "add", name, ADDRESS), SP_OK);
        expect_event(t, AUDIT_ALIAS_CHANGED);
    }
    assert_int_equal(OPERATE(t, text, &rows, "alias", "add", "one@example.org", ADDRESS),
                     SP_ERR_LIMIT);
    assert_non_null(strstr(text, "350 addresses"));
    assert_int_equal(OPERATE(t, text, &rows, "alias", "add", "two@example.org", name),
                     SP_ERR_LIMIT); /* an alias of an alias is one */
    struct letter l = {.mark = 1, .from = &ann, .outside = {OUT_A}, .mail_from = name};
    send_outside(t, &l, 3, 1);
    want(t, 1);
    deliver(t, &d);
    assert_int_equal(d.n_own, 1 + STORE_MAX_NAMES);
    finish(t, &d, SIGTERM);
    assert_int_equal(OPERATE(t, text, &rows, "alias", "remove", name), SP_OK);
    assert_int_equal(OPERATE(t, text, &rows, "alias", "add", "one@example.org", ADDRESS), SP_OK);
}

/* --- operators --- */

static void test_operators(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct lent d;
    char text[1024];
    uint32_t rows;
    begin(t, &ann);
    struct letter l = {.mark = 1, .from = &ann, .outside = {OUT_A, OUT_B}};
    send_outside(t, &l, 3, 2);
    assert_int_equal(OPERATE(t, text, &rows, "queue", "list"), SP_OK);
    assert_int_equal(rows, 3);
    want(t, 1);
    deliver(t, &d);
    assert_int_equal(result(&d, DELIVERY_DEFERRED, 0), SP_OK);
    finish(t, &d, 0);
    assert_int_equal(OPERATE(t, text, &rows, "queue", "retry", "7777"), SP_ERR_NOT_FOUND);
    assert_int_equal(OPERATE(t, text, &rows, "queue", "retry", "xy"), SP_ERR_FORMAT);
    assert_int_equal(OPERATE(t, text, &rows, "queue", "retry", "0101"), SP_OK);
    want(t, 1);
    deliver(t, &d);
    assert_int_equal(OPERATE(t, text, &rows, "queue", "drop", "0101"), SP_OK); /* not the leased */
    finish(t, &d, 0);
    assert_int_equal(OPERATE(t, text, &rows, "queue", "drop", "0101"), SP_OK);
    erased(t, 3);
    want(t, 2);
    deliver(t, &d);
    assert_int_equal(d.kind, 0);
    assert_string_equal(d.why, "dropped by the operator");
    assert_int_equal(result(&d, DELIVERY_FAILED, 0), SP_OK);
    finish(t, &d, 0);
    deliver(t, &d);
    assert_int_equal(result(&d, DELIVERY_FAILED, 0), SP_OK);
    finish(t, &d, 0);
    expect_states(t, &l, "1333");
    assert_int_equal(OPERATE(t, text, &rows, "queue", "list"), SP_OK);
    assert_int_equal(rows, 1);
}

/* A user who is removed takes his queued mail along. */
static void test_user_removed(void **state)
{
    struct tree *t = *state;
    struct client ann;
    char text[1024];
    uint32_t rows;
    begin(t, &ann);
    struct letter l = {.mark = 1, .from = &ann, .outside = {OUT_A, OUT_B}};
    send_outside(t, &l, 3, 2);
    assert_int_equal(OPERATE(t, text, &rows, "user", "remove", ADDRESS), SP_OK);
    erased(t, 3);
    for (int i = 0; i < 500 && number(t, "messages") > 0; i++)
        usleep(10000);
    assert_int_equal(number(t, "messages"), 0);
    assert_int_equal(number(t, "queue"), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_delivery),       T(test_revoke_one),     T(test_cuts),         T(test_not_sent),
        T(test_crashes),        T(test_silent_ends),    T(test_stopped),      T(test_report),
        T(test_report_dropped), T(test_bad_deliveries), T(test_bad_relay),    T(test_bad_keeper),
        T(test_many_names),     T(test_operators),      T(test_user_removed),
    };
    if (sodium_init() < 0)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
