/* Sending as web's clients see it: uploads, forms, what is refused and why, what the sender keeps.
 */
#include "tests/unit/store_sender.h"

static void test_upload(void **state)
{
    struct tree *t = *state;
    struct client ann, bob;
    struct wire_in in;
    uint8_t id[ID_SIZE], bytes[2000];
    const uint64_t length[] = {5000, 3};
    memset(bytes, 5, sizeof(bytes));
    new_client(t, &ann, ADDRESS);
    new_client(t, &bob, "bob@example.org");
    assert_int_equal(begin_upload(t, &ann, length, 2, id), SP_OK);
    assert_int_equal(put_part(t, &ann, id, 0, 0, bytes, 2000), SP_OK);
    assert_int_equal(put_part(t, &ann, id, 0, 0, bytes, 2000), SP_ERR_STATE);
    assert_int_equal(put_part(t, &ann, id, 0, 1999, bytes, 2000), SP_ERR_STATE);
    assert_int_equal(put_part(t, &ann, id, 1, 0, bytes, 4), SP_ERR_LIMIT);
    assert_int_equal(put_part(t, &ann, id, 2, 0, bytes, 1), SP_ERR_NOT_FOUND);
    assert_int_equal(put_part(t, &bob, id, 0, 2000, bytes, 1), SP_ERR_NOT_FOUND);
    assert_int_equal(put_part(t, &ann, id, FORM_PIECE, 0, bytes, 100), SP_OK);
    assert_int_equal(put_part(t, &ann, id, FORM_PIECE, 99, bytes, 100), SP_ERR_STATE);
    assert_int_equal(put_part(t, &ann, id, FORM_PIECE, 100, bytes, 10), SP_OK);
    assert_int_equal(put_part(t, &bob, id, FORM_PIECE, 0, bytes, 10), SP_ERR_NOT_FOUND);
    for (int i = 0; i < 1000; i++) /* one byte at a time becomes few rows */
        assert_int_equal(put_part(t, &ann, id, 0, 2000 + (uint64_t)i, bytes, 1), SP_OK);
    assert_int_equal(ask_about(t, &ann, SW_UPLOAD_STATE, id, &in), SP_OK);
    assert_int_equal(wire_get_u16(&in), 2);
    assert_int_equal(wire_get_u64(&in), 3000);
    assert_int_equal(wire_get_u64(&in), 0);
    assert_int_equal(wire_get_u64(&in), 110);
    assert_int_equal(ask_about(t, &bob, SW_UPLOAD_STATE, id, &in), SP_ERR_NOT_FOUND);
    /* Ended in order, it is all there but the form, which never touched the disk. */
    assert_int_equal(ipc_send_fd(t->control, CT_STOP, 0, NULL, 0, -1), SP_OK);
    expect_end(t->control);
    crash(t, &ann);
    assert_int_equal(ask_about(t, &ann, SW_UPLOAD_STATE, id, &in), SP_OK);
    wire_get_u16(&in);
    assert_int_equal(wire_get_u64(&in), 3000);
    wire_get_u64(&in);
    assert_int_equal(wire_get_u64(&in), 0);
    assert_int_equal(put_part(t, &ann, id, 0, 3000, bytes, 2000), SP_OK);
    assert_int_equal(ask_about(t, &ann, SW_UPLOAD_DROP, id, &in), SP_OK);
    assert_int_equal(ask_about(t, &ann, SW_UPLOAD_STATE, id, &in), SP_ERR_NOT_FOUND);
}

static void test_limits(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct wire_in in;
    uint8_t id[ID_SIZE], first[ID_SIZE];
    const uint64_t small = 100, big = 900u << 10, huge[] = {UINT64_MAX, 2};
    new_client(t, &ann, ADDRESS);
    assert_int_equal(begin_upload(t, &ann, huge, 2, id), SP_ERR_LIMIT); /* no sum overflows */
    assert_int_equal(begin_upload(t, &ann, &(uint64_t){0}, 1, id), SP_ERR_FORMAT);
    assert_int_equal(begin_upload(t, &ann, &big, 1, first), SP_OK);
    assert_int_equal(begin_upload(t, &ann, &big, 1, id), SP_ERR_LIMIT);
    for (int i = 0; i < 15; i++)
        assert_int_equal(begin_upload(t, &ann, &small, 1, id), SP_OK);
    assert_int_equal(begin_upload(t, &ann, &small, 1, id), SP_ERR_LIMIT);
    assert_int_equal(ask_about(t, &ann, SW_UPLOAD_DROP, first, &in), SP_OK);
    assert_int_equal(begin_upload(t, &ann, &big, 1, id), SP_OK);
}

static void test_users(void **state)
{
    struct tree *t = *state;
    struct client ann, bob;
    struct wire_in in;
    char text[32];
    uint8_t id[ID_SIZE], other[ID_SIZE];
    size_t len;
    new_client(t, &ann, ADDRESS);
    new_client(t, &bob, "bob@example.org");
    struct letter l = {.mark = 1, .from = &ann, .to = {&bob}, .mail_from = "Ann+shop@example.org"};
    upload(t, &l, id);
    send_frame(t, &ann, id);
    assert_int_equal(send_status(t), SP_ERR_NO_SPACE); /* the keeper has not spoken yet */
    keeper_hears(t, NULL, 0);
    keeper_ready(t);
    send_frame(t, &ann, id);
    assert_int_equal(send_status(t), SP_OK);
    expect_event(t, AUDIT_SENT);
    assert_int_equal(ask_about(t, &ann, SW_UPLOAD_STATE, id, &in), SP_ERR_NOT_FOUND);
    letter_id(&l, id);
    assert_int_equal(list(t, &ann, other), 1);
    assert_memory_equal(other, id, ID_SIZE);
    assert_int_equal(list(t, &bob, other), 1);
    assert_int_equal(states(t, &l, text), SP_OK);
    assert_string_equal(text, "11");
    uint8_t buf[64];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_bytes(&out, ann.token, TOKEN);
    wire_put_bytes(&out, id, ID_SIZE);
    wire_put_u32(&out, 5);
    assert_int_equal(ask(t->web, SW_SENT, &out, &in), SP_OK);
    assert_int_equal(wire_get_u32(&in), strlen(SENT));
    len = in.left;
    assert_int_equal(len, strlen(SENT) - 5);
    assert_memory_equal(in.at, &SENT[5], len);
    memcpy(buf, bob.token, TOKEN);
    assert_int_equal(ask(t->web, SW_SENT, &out, &in), SP_ERR_NOT_FOUND);
    assert_int_equal(send_letter(t, &l), SP_ERR_EXISTS);
    /* He deletes his own: the copy goes, the status stays; what is in other mailboxes too. */
    assert_int_equal(ask_about(t, &ann, SW_DELETE, id, &in), SP_OK);
    expect_event(t, AUDIT_DELETED);
    memcpy(buf, ann.token, TOKEN);
    assert_int_equal(ask(t->web, SW_SENT, &out, &in), SP_ERR_NOT_FOUND);
    assert_int_equal(states(t, &l, text), SP_OK);
    assert_int_equal(list(t, &bob, other), 1);
    assert_int_equal(send_letter(t, &l), SP_ERR_EXISTS);
}

static void test_refused(void **state)
{
    struct tree *t = *state;
    struct client ann, bob;
    char text[1024];
    uint32_t rows;
    static const uint8_t old_puk[KEY_SIZE] = {7};
    new_client(t, &ann, ADDRESS);
    new_client(t, &bob, "bob@example.org");
    assert_int_equal(
        OPERATE(t, text, &rows, "alias", "add", "all@example.org", ADDRESS, "bob@example.org"),
        SP_OK);
    expect_event(t, AUDIT_ALIAS_CHANGED);
    keeper_hears(t, NULL, 0);
    keeper_ready(t);
    struct client stranger = bob;
    randombytes_buf(stranger.user_id, ID_SIZE);
    const struct {
        enum sp_err err;
        struct letter l;
    } bad[] = {
        {SP_ERR_DENIED, {.from = &ann, .mail_from = "bob@example.org"}},
        {SP_ERR_DENIED, {.from = &ann, .mail_from = "ann@elsewhere.example"}},
        {SP_ERR_FORMAT, {.from = &ann, .mail_from = "ann"}},
        {SP_ERR_STATE, {.from = &ann, .generation = 2}},
        {SP_ERR_STATE, {.from = &ann, .puk = old_puk}},
        {SP_ERR_NOT_FOUND, {.from = &ann, .to = {&stranger}}},
        {SP_ERR_FORMAT, {.from = &ann, .twice = true}},
        {SP_ERR_FORMAT, {.from = &ann, .to = {&bob}, .no_self = true}},
        {SP_ERR_AUTH, {.from = &ann, .other_device = true}},
        {SP_ERR_FORMAT, {.from = &ann, .bad_uuid = true}},
        {SP_ERR_FORMAT, {.from = &ann, .long_piece = true}},
        {SP_ERR_FORMAT, {.from = &ann, .link = true}},
        {SP_ERR_FORMAT, {.from = &ann, .outside = {"zoe@example.org"}}},
        {SP_ERR_FORMAT, {.from = &ann, .outside = {"a@b.example", "a@B.example"}}},
        {SP_ERR_FORMAT, {.from = &ann, .outside = {"a@b.example> SIZE=1"}}},
        {SP_ERR_FORMAT, {.from = &ann, .outside = {"a@b.example"}, .two_relays = true}},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct letter l = bad[i].l;
        uint8_t id[ID_SIZE];
        struct wire_in in;
        l.mark = (uint8_t)(10 + i);
        upload(t, &l, id);
        send_frame(t, &ann, id);
        enum sp_err err = send_status(t);
        if (err != bad[i].err)
            fail_msg("letter %zu: %s", i, sp_err_text(err));
        assert_int_equal(ask_about(t, &ann, SW_UPLOAD_DROP, id, &in), SP_OK);
    }
    struct letter good = {.mark = 99, .from = &ann, .mail_from = "ALL@example.org"};
    assert_int_equal(send_letter(t, &good), SP_OK);
    expect_event(t, AUDIT_SENT);
}

/* What web, through which a form comes, could like to change once the device has signed it. */
static void test_tampered(void **state)
{
    struct tree *t = *state;
    struct client ann, bob;
    new_client(t, &ann, ADDRESS);
    new_client(t, &bob, "bob@example.org");
    keeper_hears(t, NULL, 0);
    keeper_ready(t);
    char text[1024];
    uint32_t rows;
    assert_int_equal(
        OPERATE(t, text, &rows, "alias", "add", "all@example.org", ADDRESS, "bob@example.org"),
        SP_OK);
    expect_event(t, AUDIT_ALIAS_CHANGED);
    const struct letter one = {.mark = 20, .from = &ann, .outside = {"a@b.example"}},
                        link = {.mark = 20, .from = &ann, .link = true, .expiry = 4000000000u};
    const struct letter bad[] = {
        {.outside = {"x@b.example"}, .signed_as = &one},
        {.outside = {"a@evil.example"}, .signed_as = &one},
        {.outside = {"a@b.example", "x@evil.example"}, .signed_as = &one},
        {.outside = {"a@b.example"}, .to = {&bob}, .signed_as = &one},
        {.outside = {"a@b.example"}, .link = true, .signed_as = &one},
        {.outside = {"a@b.example"}, .mail_from = "ALL@example.org", .signed_as = &one},
        {.signed_as = &one},
        {.link = true, .expiry = 4000000001u, .signed_as = &link},
        {.outside = {"a@b.example"}, .other_upload = true},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct letter l = bad[i];
        uint8_t id[ID_SIZE];
        struct wire_in in;
        l.mark = 20;
        l.from = &ann;
        upload(t, &l, id);
        send_frame(t, &ann, id);
        enum sp_err err = send_status(t);
        if (err != SP_ERR_AUTH)
            fail_msg("letter %zu: %s", i, sp_err_text(err));
        assert_int_equal(ask_about(t, &ann, SW_UPLOAD_DROP, id, &in), SP_OK);
    }
    send_outside(t, &one, 1, 1); /* the keeper has heard of none before */
}

/* Bytes of every part of a form, its signature among them. */
static void test_every_byte(void **state)
{
    struct tree *t = *state;
    struct client ann;
    static uint8_t form[FORM_CAP], piece[2 * PLAIN];
    uint8_t id[ID_SIZE];
    uint64_t length = piece_bytes();
    new_client(t, &ann, ADDRESS);
    keeper_hears(t, NULL, 0);
    keeper_ready(t);
    const struct letter l = {.mark = 1, .from = &ann};
    assert_int_equal(begin_upload(t, &ann, &length, 1, id), SP_OK);
    assert_int_equal(put_part(t, &ann, id, 0, 0, piece, (size_t)length), SP_OK);
    size_t len = make_form(&l, id, form);
    for (size_t i = 0; i < len; i += 29) {
        form[i] ^= 1;
        assert_int_equal(put_part(t, &ann, id, FORM_PIECE, 0, form, len), SP_OK);
        send_frame(t, &ann, id);
        enum sp_err err = send_status(t);
        if (err != SP_ERR_AUTH && err != SP_ERR_FORMAT)
            fail_msg("byte %zu: %s", i, sp_err_text(err));
        form[i] ^= 1;
    }
    assert_int_equal(put_part(t, &ann, id, FORM_PIECE, 0, form, len), SP_OK);
    send_frame(t, &ann, id);
    assert_int_equal(send_status(t), SP_OK);
}

static void test_incomplete(void **state)
{
    struct tree *t = *state;
    struct client ann;
    static uint8_t form[FORM_CAP], piece[2 * PLAIN];
    uint8_t id[ID_SIZE];
    uint64_t length = piece_bytes();
    new_client(t, &ann, ADDRESS);
    keeper_hears(t, NULL, 0);
    keeper_ready(t);
    struct letter l = {.mark = 1, .from = &ann}, old = {.mark = 1, .from = &ann, .generation = 2};
    assert_int_equal(begin_upload(t, &ann, &length, 1, id), SP_OK);
    send_frame(t, &ann, id);
    assert_int_equal(send_status(t), SP_ERR_FORMAT); /* no form */
    size_t len = make_form(&old, id, form);
    assert_int_equal(put_part(t, &ann, id, FORM_PIECE, 0, form, len), SP_OK);
    assert_int_equal(put_part(t, &ann, id, 0, 0, piece, (size_t)length - 1), SP_OK);
    send_frame(t, &ann, id);
    assert_int_equal(send_status(t), SP_ERR_FORMAT); /* a byte is missing */
    assert_int_equal(put_part(t, &ann, id, 0, length - 1, piece, 1), SP_OK);
    send_frame(t, &ann, id);
    assert_int_equal(send_status(t), SP_ERR_STATE);
    len = make_form(&l, id, form); /* another form for the same pieces */
    assert_int_equal(put_part(t, &ann, id, FORM_PIECE, 0, form, len), SP_OK);
    send_frame(t, &ann, id);
    assert_int_equal(send_status(t), SP_OK);
    send_frame(t, &ann, id);
    assert_int_equal(send_status(t), SP_ERR_NOT_FOUND);
}

static void test_day(void **state)
{
    struct tree *t = *state;
    struct client ann;
    new_client(t, &ann, ADDRESS);
    keeper_hears(t, NULL, 0);
    keeper_ready(t);
    for (uint8_t i = 1; i <= 11; i++) {
        struct letter l = {.mark = i, .from = &ann};
        if (i == 6) { /* what was sent is counted across restarts */
            crash(t, &ann);
            keeper_hears(t, NULL, 0);
            keeper_ready(t);
        }
        assert_int_equal(send_letter(t, &l), i <= 10 ? SP_OK : SP_ERR_LIMIT);
    }
}

static void test_resolve(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct wire_in in;
    char text[1024];
    uint32_t rows;
    new_client(t, &ann, ADDRESS);
    assert_int_equal(OPERATE(t, text, &rows, "user", "add", "new@example.org"), SP_OK);
    const struct {
        const char *address;
        enum sp_err err;
        uint8_t ours;
        uint16_t n;
    } cases[] = {{"Ann@Example.org", SP_OK, 1, 1},
                 {"nobody@example.org", SP_ERR_NOT_FOUND, 0, 0},
                 {"new@example.org", SP_ERR_NO_KEY, 0, 0},
                 {"zoe@elsewhere.example", SP_OK, 0, 0},
                 {"zoe", SP_ERR_FORMAT, 0, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t buf[256];
        struct wire_out out = wire_out(buf, sizeof(buf));
        wire_put_bytes(&out, ann.token, TOKEN);
        wire_put_str(&out, cases[i].address);
        assert_int_equal(ask(t->web, SW_RESOLVE, &out, &in), cases[i].err);
        if (cases[i].err != SP_OK)
            continue;
        assert_int_equal(wire_get_u8(&in), cases[i].ours);
        assert_int_equal(wire_get_u16(&in), cases[i].n);
        if (cases[i].n > 0)
            assert_memory_equal(wire_get_bytes(&in, ID_SIZE), ann.user_id, ID_SIZE);
    }
    struct wire_out none = wire_out(NULL, 0);
    assert_int_equal(ask(t->web, SW_KEEPER_KEY, &none, &in), SP_ERR_NO_SPACE);
    keeper_hears(t, NULL, 0);
    keeper_ready(t);
    assert_int_equal(ask(t->web, SW_KEEPER_KEY, &none, &in), SP_OK);
    assert_memory_equal(in.at, keeper_pk, KEY_SIZE);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_upload),     T(test_limits),     T(test_users), T(test_refused), T(test_tampered),
        T(test_every_byte), T(test_incomplete), T(test_day),   T(test_resolve),
    };
    if (sodium_init() < 0)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
