/* Links in the store's role: how they end, however many at once and however their notification
 * fails; and that a web process that was taken over reads nothing that is not in the log. */
#include "tests/unit/store_links.h"

#define MAILS 15u

static const uint8_t nobody[ID_SIZE] = {0x99};

static void begin(struct tree *t, struct client *ann, const struct mail *m, size_t n)
{
    begin_with(t, ann, m, n);
    keeper_ready(t);
    assert_int_equal(login(t, ann, URL, NULL), SP_OK);
}

/* --- many at once --- */

struct round {
    size_t n;
    uint32_t id[ERASE_FLIGHT];
};

/* What is asked of the keeper until nothing comes for a while; the log is read meanwhile. */
static void gather(struct tree *t, struct round *r, uint8_t *seen, size_t slots)
{
    struct pollfd p[2] = {{.fd = t->keeper, .events = POLLIN}, {.fd = t->audit, .events = POLLIN}};
    r->n = 0;
    while (poll(p, 2, 50) > 0) {
        if (p[1].revents & POLLIN)
            next(t->audit);
        if ((p[0].revents & POLLIN) == 0)
            continue;
        struct ipc_frame f = next(t->keeper);
        assert_int_equal(f.type, VT_ERASE);
        uint32_t slot = wire_get_u32(&f.body);
        assert_true(slot < slots && r->n < ERASE_FLIGHT);
        assert_int_equal(seen[slot]++, 0);
        r->id[r->n++] = f.id;
    }
}

/* Fifteen hundred links end in the same moment: the keeper is asked for a bounded number of slots
 * at a time, for each of them once, and nothing is left. */
static void test_many(void **state)
{
    static struct mail mails[MAILS];
    static uint8_t seen[2 * (MAILS + 1) * LINKS_MAX + 2];
    struct tree *t = *state;
    struct client ann;
    struct round r = {0};
    for (uint8_t i = 0; i < MAILS; i++)
        mails[i] = (struct mail){.mark = i, .links = LINKS_MAX, .expires_ms = 2000};
    size_t erased = 0;
    uint8_t id[ID_SIZE];
    begin_with(t, &ann, mails, MAILS);
    keeper_says(t, VT_SLOTS_REPLY, 0, keeper_pk, KEY_SIZE);
    for (int idle = 0; idle < 100 && erased < 2 * MAILS * LINKS_MAX; idle++) {
        gather(t, &r, seen, sizeof(seen));
        for (size_t i = 0; i < r.n; i++)
            keeper_says(t, VT_ERASE_REPLY, r.id[i], NULL, 0);
        erased += r.n;
        if (r.n > 0)
            idle = 0;
    }
    assert_int_equal(erased, 2 * MAILS * LINKS_MAX);
    assert_true(becomes(t, "secrets", 0));
    assert_true(becomes(t, "links", 0));
    link_id(3, 5, id);
    assert_int_equal(ask_page(t, id, NULL, 0), SP_ERR_NOT_FOUND);
}

/* A slot that could not be overwritten is asked for again later, not over and over. */
static void test_erasing_fails(void **state)
{
    struct tree *t = *state;
    struct client ann;
    const struct mail m = {.mark = 1, .links = 1, .expires_ms = 2000};
    uint8_t failed[1] = {SP_ERR_SYSTEM};
    begin(t, &ann, &m, 1);
    for (int i = 0; i < 2; i++) {
        struct ipc_frame f = next(t->keeper);
        assert_int_equal(f.type, VT_ERASE);
        assert_int_equal(ipc_send_fd(t->keeper, VT_ERASE_REPLY, f.id, failed, 1, -1), SP_OK);
    }
    struct pollfd p = {.fd = t->keeper, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 300), 0);
    assert_int_equal(number(t, "secrets"), 2);
}

/* --- ends --- */

static void erase_slots(struct tree *t, const struct mail *m, const char *expected)
{
    bool seen[2 * LINKS_MAX] = {false};
    for (size_t i = 0; i < 2 * m->links; i++) {
        char why[256];
        struct ipc_frame f = next(t->keeper);
        while (f.type == VT_LEASE_END)
            f = next(t->keeper);
        assert_int_equal(f.type, VT_ERASE);
        uint32_t at = wire_get_u32(&f.body) - slot_of(m, 0);
        assert_true(at < 2 * m->links && !seen[at]);
        seen[at] = true;
        wire_get_bytes(&f.body, 2 * ID_SIZE + 1 + 8);
        get_string(&f.body, why);
        assert_string_equal(why, expected);
        keeper_says(t, VT_ERASE_REPLY, f.id, NULL, 0);
    }
}

/* Who deletes his mail ends its links, of this mail alone; what became of them can be read. */
static void test_deleted(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct wire_in in;
    const struct mail m[] = {{.mark = 1, .links = 3, .expires_ms = FAR, .piece = PIECE_LEN},
                             {.mark = 2, .links = 1, .expires_ms = FAR, .piece = PIECE_LEN}};
    const struct letter l = {.from = &ann};
    uint8_t id[ID_SIZE], message[ID_SIZE];
    char text[1024];
    uint32_t rows;
    begin(t, &ann, m, 2);
    memset(message, 1, ID_SIZE);
    assert_int_equal(ask_about(t, &ann, SW_DELETE, message, &in), SP_OK);
    for (int i = 0; i < 3; i++)
        expect_event(t, AUDIT_LINK_REVOKED);
    expect_event(t, AUDIT_DELETED);
    for (size_t i = 0; i < 3; i++) { /* before the keeper has answered */
        link_id(1, i, id);
        assert_int_equal(ask_page(t, id, NULL, 0), SP_ERR_NOT_FOUND);
        assert_int_equal(ask_piece(t, id, 0, 100, 1), SP_ERR_NOT_FOUND);
    }
    erase_slots(t, &m[0], "deleted");
    assert_true(becomes(t, "links", 1));
    assert_true(becomes(t, "stored_bytes", PIECE_LEN + 8)); /* the other mail's */
    link_id(2, 0, id);
    assert_int_equal(ask_page(t, id, NULL, 0), SP_OK);
    assert_int_equal(ask_about(t, &ann, SW_DELIVERY_STATUS, message, &in), SP_OK);
    wire_get_u64(&in);
    assert_int_equal(wire_get_u16(&in), 4);
    assert_int_equal(ask_about(t, l.from, SW_DELETE, message, &in), SP_ERR_NOT_FOUND);
    assert_int_equal(OPERATE(t, text, &rows, "link", "list"), SP_OK);
    assert_int_equal(rows, 1 + 1); /* under a heading */
}

/* Attempts without a word, and no more jobs that wait for their time. */
static void crash_often(struct tree *t, struct lent *d, unsigned times, uint8_t kind)
{
    char text[1024];
    uint32_t rows;
    while (times-- > 0) {
        want(t, 1);
        deliver(t, d);
        assert_int_equal(d->kind, kind);
        finish(t, d, SIGSEGV);
        assert_int_equal(OPERATE(t, text, &rows, "queue", "retry", "all"), SP_OK);
    }
}

static void ask_job_of_link(struct lent *d)
{
    struct wire_in in;
    struct wire_out none = wire_out(NULL, 0);
    assert_int_equal(ask(d->channel, SD_JOB, &none, &in), SP_OK);
    assert_int_equal(wire_get_u8(&in), BOX_PASSWORD);
}

static void crash_of_notification(struct tree *t, unsigned times)
{
    char text[1024];
    uint32_t rows;
    for (unsigned i = 0; i < times; i++) {
        struct lent d = {0};
        want(t, 1);
        d.lease = take_lease(t);
        d.channel = open_channel(t, d.lease);
        ask_job_of_link(&d);
        finish(t, &d, SIGSEGV);
        if (i + 1 < times)
            assert_int_equal(OPERATE(t, text, &rows, "queue", "retry", "all"), SP_OK);
    }
}

static void answer_erase(struct tree *t, uint32_t slot)
{
    keeper_says(t, VT_ERASE_REPLY, keeper_erases(t, slot), NULL, 0);
}

/* Five deliveries of a notification crash: its password goes, the sender gets a report, and the
 * link, which nobody will ever hold, ends with it. */
static void test_notification_fails(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct lent d;
    const struct mail m = {.mark = 1, .links = 1, .expires_ms = FAR};
    char text[1024];
    uint32_t rows;
    uint8_t id[ID_SIZE];
    begin(t, &ann, &m, 1);
    crash_of_notification(t, 5);
    answer_erase(t, slot_of(&m, 0));
    assert_true(becomes(t, "secrets", 1)); /* the box's alone */
    assert_int_equal(OPERATE(t, text, &rows, "queue", "retry", "all"), SP_OK);
    want(t, 1);
    deliver(t, &d);
    assert_int_equal(d.kind, 0);
    assert_int_equal(result(&d, DELIVERY_FAILED, 0), SP_OK);
    expect_event(t, AUDIT_RELAY_FAILED);
    finish(t, &d, 0);
    answer_erase(t, slot_of(&m, 0) + 1);
    link_id(1, 0, id);
    assert_int_equal(ask_page(t, id, NULL, 0), SP_ERR_NOT_FOUND);
    assert_true(becomes(t, "links", 0));
}

/* Not even the report could be made. */
static void test_report_fails(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct lent d;
    const struct mail m = {.mark = 1, .links = 1, .expires_ms = FAR};
    char text[1024];
    uint32_t rows;
    begin(t, &ann, &m, 1);
    crash_of_notification(t, 5);
    answer_erase(t, slot_of(&m, 0));
    assert_true(becomes(t, "secrets", 1));
    assert_int_equal(OPERATE(t, text, &rows, "queue", "retry", "all"), SP_OK);
    crash_often(t, &d, 5, 0);
    expect_event(t, AUDIT_RELAY_FAILED);
    answer_erase(t, slot_of(&m, 0) + 1);
    assert_true(becomes(t, "links", 0));
    assert_int_equal(number(t, "queue"), 0);
}

/* --- the log --- */

/* P12: what is read of a link is in the log, or goes on where something that is in it stopped. */
static void test_P12_reads_from_the_middle(void **state)
{
    struct tree *t = *state;
    struct client ann;
    const struct mail m = {
        .mark = 1, .links = 2, .expires_ms = FAR, .piece = PIECE_LEN, .envelope = ENVELOPE_LEN};
    uint8_t id[ID_SIZE], other[ID_SIZE];
    begin(t, &ann, &m, 1);
    link_id(1, 0, id);
    link_id(1, 1, other);
    assert_int_equal(ask_piece(t, id, 1000, PART_MAX, 0), SP_OK);
    expect_opened(t, id, "piece 0");
    assert_int_equal(ask_piece(t, id, 1000 + PART_MAX, PART_MAX, 0), SP_OK); /* goes on */
    assert_int_equal(ask_piece(t, id, 1000, PART_MAX, 0), SP_OK);
    expect_opened(t, id, "piece 0"); /* that was logged, but stopped elsewhere */
    assert_int_equal(ask_piece(t, id, 1000 + PART_MAX + 1, PART_MAX, 0), SP_OK);
    expect_opened(t, id, "piece 0");
    assert_int_equal(ask_piece(t, other, 1000 + PART_MAX, PART_MAX, 0), SP_OK);
    expect_opened(t, other, "piece 0"); /* another's place is not this one's */
    assert_int_equal(ask_piece(t, id, 0, 0, 1), SP_OK);
    expect_opened(t, id, "piece 0");
    assert_int_equal(ask_piece(t, id, 7, 100, 0), SP_OK); /* a range, behind its length: once */
    assert_int_equal(ask_piece(t, id, 7, 100, 0), SP_OK);
    expect_opened(t, id, "piece 0");
    assert_int_equal(ask_piece(t, id, 107, 100, 1), SP_OK);
    expect_opened(t, id, "piece 0"); /* web says itself that it is a new one */

    assert_int_equal(ask_envelope(t, id, PART_MAX, NULL), SP_OK);
    expect_opened(t, id, "envelope");
    assert_int_equal(ask_envelope(t, id, 0, NULL), SP_OK);
    expect_opened(t, id, "envelope");
    assert_int_equal(ask_envelope(t, id, PART_MAX, NULL), SP_OK); /* goes on */
    assert_int_equal(ask_envelope(t, id, 2 * PART_MAX, NULL), SP_OK);
    assert_int_equal(ask_envelope(t, id, 2 * PART_MAX, NULL), SP_OK); /* and so does the first */
    assert_int_equal(ask_envelope(t, id, 2 * PART_MAX, NULL), SP_OK);
    expect_opened(t, id, "envelope");
}

/* Ids that somebody invents do not fill the log, and are counted; a real link's visitors are all
 * in it meanwhile. */
static void test_flood(void **state)
{
    enum { TOTAL = 1000 };
    struct tree *t = *state;
    struct client ann;
    struct wire_in in;
    const struct mail m = {.mark = 1, .links = 1, .expires_ms = FAR};
    uint8_t id[ID_SIZE], link[ID_SIZE];
    uint64_t logged = 0, left_out = 0, asked = 0, real = 0;
    begin(t, &ann, &m, 1);
    link_id(1, 0, link);
    memcpy(id, nobody, ID_SIZE);
    while (asked < TOTAL || logged + left_out < asked) {
        struct pollfd p = {.fd = t->audit, .events = POLLIN};
        id[1] = (uint8_t)(asked >> 8);
        id[2] = (uint8_t)asked++;
        assert_int_equal(ask_page(t, id, NULL, 0), SP_ERR_NOT_FOUND);
        if (asked % 100 == 0 && asked <= TOTAL)
            assert_int_equal(ask_page(t, link, NULL, 0), SP_OK);
        if (asked > TOTAL)
            usleep(300000); /* until one may be logged again */
        while (poll(&p, 1, 0) > 0) {
            enum audit_event what = event(t, &in);
            if (what == AUDIT_LINK_LEFT_OUT) {
                left_out += wire_get_u64(&in);
                continue;
            }
            assert_int_equal(what, AUDIT_LINK_PAGE);
            bool is_real = memcmp(wire_get_bytes(&in, ID_SIZE), link, ID_SIZE) == 0;
            real += is_real;
            logged += !is_real;
        }
    }
    assert_int_equal(logged + left_out, asked);
    assert_int_equal(real, TOTAL / 100);
    assert_true(left_out > TOTAL / 4);
}

static void expect_agent(struct tree *t, const char *expected)
{
    struct wire_in in;
    char text[256];
    assert_int_equal(event(t, &in), AUDIT_LINK_PAGE);
    wire_get_bytes(&in, ID_SIZE);
    get_string(&in, text);
    get_string(&in, text);
    assert_string_equal(text, expected);
}

/* What a browser calls itself: 48 characters of it by default, none of them able to look like the
 * log's own. */
static void test_agent(void **state)
{
    static const char plain[] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox";
    static const char odd[] = "a\r\n\0\\x41\x1b[2J\xc3\xa4\x7f\"}";
    struct tree *t = *state;
    struct client ann;
    const struct mail m = {.mark = 1, .links = 1, .expires_ms = FAR};
    uint8_t id[ID_SIZE], longest[LINK_AGENT];
    begin(t, &ann, &m, 1);
    link_id(1, 0, id);
    assert_int_equal(ask_page(t, id, plain, strlen(plain)), SP_OK);
    expect_agent(t, "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/");
    assert_int_equal(ask_page(t, id, odd, sizeof(odd) - 1), SP_OK);
    expect_agent(t, "a\\x0d\\x0a\\x00\\x5cx41\\x1b[2J\\xc3\\xa4\\x7f\"}");
    assert_int_equal(ask_page(t, id, NULL, 0), SP_OK);
    expect_agent(t, "");
    memset(longest, '\n', sizeof(longest)); /* cut where an escape ends */
    assert_int_equal(ask_page(t, id, longest, sizeof(longest)), SP_OK);
    expect_agent(t, "\\x0a\\x0a\\x0a\\x0a\\x0a\\x0a\\x0a\\x0a\\x0a\\x0a\\x0a\\x0a");
}

/* Mail that was sent from an alias is vouched for by that name, as long as it is the sender's. */
static void test_sent_from_an_alias(void **state)
{
    struct tree *t = *state;
    struct client ann;
    const struct mail m[] = {
        {.mark = 1, .links = 1, .expires_ms = FAR, .from = "Sales@Example.org"},
        {.mark = 2, .links = 1, .expires_ms = FAR, .from = "ann+x@example.org"},
        {.mark = 3, .links = 1, .expires_ms = FAR}};
    static const char *const before[] = {"sales@example.org", "ann+x@example.org", ADDRESS};
    static const char *const after[] = {ADDRESS, "ann+x@example.org", ADDRESS};
    uint8_t id[ID_SIZE];
    char text[1024], sender[256];
    uint32_t rows;
    begin(t, &ann, m, 3);
    assert_int_equal(OPERATE(t, text, &rows, "alias", "add", "sales@example.org", ADDRESS), SP_OK);
    for (uint8_t i = 0; i < 3; i++) {
        link_id(i + 1, 0, id);
        assert_int_equal(ask_envelope(t, id, 0, sender), SP_OK);
        assert_string_equal(sender, before[i]);
    }
    assert_int_equal(OPERATE(t, text, &rows, "alias", "remove", "sales@example.org"), SP_OK);
    for (uint8_t i = 0; i < 3; i++) {
        link_id(i + 1, 0, id);
        assert_int_equal(ask_envelope(t, id, 0, sender), SP_OK);
        assert_string_equal(sender, after[i]);
    }
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_many),
        T(test_erasing_fails),
        T(test_deleted),
        T(test_notification_fails),
        T(test_report_fails),
        T(test_P12_reads_from_the_middle),
        T(test_flood),
        T(test_agent),
        T(test_sent_from_an_alias),
    };
    if (sodium_init() < 0)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
