/* The store's process as its peers see it: a child runs the role over socket pairs, the test plays
 * sealer, web, operators and the audit role, honestly and not. */
#include "tests/unit/store_tree.h"
#include "storage/store.h"

/* --- tests --- */

static void test_operators(void **state)
{
    struct tree *t = *state;
    char text[1024];
    uint32_t rows;
    assert_int_equal(OPERATE(t, text, &rows, "user", "add", "Ann@Example.org"), SP_OK);
    assert_int_equal(strlen(text), 29);
    expect_event(t, AUDIT_USER_ADDED);
    assert_int_equal(OPERATE(t, text, &rows, "user", "add", "x@elsewhere.org"), SP_ERR_DENIED);
    assert_int_equal(OPERATE(t, text, &rows, "user", "add", "nobody"), SP_ERR_FORMAT);
    assert_int_equal(OPERATE(t, text, &rows, "user", "add"), SP_ERR_CONFIG);
    assert_int_equal(OPERATE(t, text, &rows, "dance"), SP_ERR_CONFIG);
    assert_non_null(strstr(text, "alias add ALIAS ADDRESS..."));
    assert_int_equal(OPERATE(t, text, &rows, "alias", "add", "all@example.org", ADDRESS), SP_OK);
    expect_event(t, AUDIT_ALIAS_CHANGED);
    assert_int_equal(OPERATE(t, text, &rows, "alias", "list"), SP_OK);
    assert_int_equal(rows, 2);
    assert_int_equal(OPERATE(t, text, &rows, "user", "list"), SP_OK);
    assert_int_equal(rows, 2);
    assert_int_equal(OPERATE(t, text, &rows, "user", "remove", ADDRESS), SP_ERR_DENIED);
    assert_int_equal(OPERATE(t, text, &rows, "alias", "remove", "all@example.org"), SP_OK);
    expect_event(t, AUDIT_ALIAS_CHANGED);
    assert_int_equal(OPERATE(t, text, &rows, "user", "remove", ADDRESS), SP_OK);
    expect_event(t, AUDIT_USER_REMOVED);
    assert_int_equal(OPERATE(t, text, &rows, "user", "list"), SP_OK);
    assert_int_equal(rows, 1);
}

static void test_enrolment(void **state)
{
    struct tree *t = *state;
    struct client c, other;
    struct wire_in in;
    uint8_t wire[SIGCHAIN_MAX_WIRE], challenge[TOKEN] = {0};
    char code[1024];
    uint32_t rows;
    size_t len;
    send_ring(t);
    assert_int_equal(OPERATE(t, code, &rows, "user", "add", ADDRESS), SP_OK);
    expect_event(t, AUDIT_USER_ADDED);
    assert_int_equal(lookup(t, ADDRESS, &in), SP_ERR_NO_KEY);
    make_root(&c, "bob@example.org", wire, &len);
    assert_int_equal(enrol(t, ADDRESS, code, wire, len), SP_ERR_FORMAT); /* another's root */
    make_root(&c, "ANN@example.org", wire, &len);
    assert_int_equal(enrol(t, ADDRESS, "AAAA-AAAA", wire, len), SP_ERR_AUTH);
    assert_int_equal(enrol(t, "zoe@example.org", code, wire, len), SP_ERR_AUTH);
    wire[20] ^= 1;
    assert_int_equal(enrol(t, ADDRESS, code, wire, len), SP_ERR_FORMAT);
    wire[20] ^= 1;
    assert_int_equal(enrol(t, ADDRESS, code, wire, len), SP_OK);
    expect_event(t, AUDIT_USER_ENROLLED);
    assert_int_equal(enrol(t, ADDRESS, code, wire, len), SP_ERR_EXISTS);
    assert_int_equal(login(t, &c, "https://evil.example", NULL), SP_ERR_AUTH);
    assert_int_equal(login(t, &c, URL, challenge), SP_ERR_AUTH); /* not one of ours */
    other = c;
    randombytes_buf(other.device.id, ID_SIZE);
    assert_int_equal(login(t, &other, URL, NULL), SP_ERR_AUTH);
    assert_int_equal(login(t, &c, URL, NULL), SP_OK);
    assert_int_equal(lookup(t, "Ann+tag@EXAMPLE.org", &in), SP_OK);
    assert_int_equal(wire_get_u16(&in), 1);
    assert_memory_equal(wire_get_bytes(&in, ID_SIZE), c.user_id, ID_SIZE);
    assert_int_equal(wire_get_u32(&in), 1);
    assert_memory_equal(wire_get_bytes(&in, KEY_SIZE), c.chain.puk_pk, KEY_SIZE);
    assert_int_equal(lookup(t, "postmaster", &in), SP_OK);
    assert_int_equal(lookup(t, "bob@example.org", &in), SP_ERR_NOT_FOUND);
    assert_int_equal(lookup(t, "ann@elsewhere.org", &in), SP_ERR_NOT_FOUND);
}

#define WRONG_CODE "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA"
#define MANY       300 /* more than a user's ration of signatures (storage/ration.h) */

/* Whatever became of an invitation, one without its code hears the same; its holder hears it all.
 */
static void test_codes(void **state)
{
    struct tree *t = *state;
    struct client c;
    uint8_t wire[SIGCHAIN_MAX_WIRE];
    char old[1024], code[1024];
    uint32_t rows;
    size_t len;
    make_root(&c, ADDRESS, wire, &len);
    assert_int_equal(enrol(t, ADDRESS, WRONG_CODE, wire, len), SP_ERR_AUTH); /* nobody */
    assert_int_equal(OPERATE(t, old, &rows, "user", "add", ADDRESS), SP_OK);
    assert_int_equal(OPERATE(t, code, &rows, "user", "add", ADDRESS), SP_OK);
    assert_int_equal(enrol(t, ADDRESS, WRONG_CODE, wire, len), SP_ERR_AUTH); /* invited */
    assert_int_equal(enrol(t, ADDRESS, old, wire, len), SP_ERR_AUTH);
    assert_int_equal(enrol(t, ADDRESS, code, wire, len), SP_OK);
    assert_int_equal(enrol(t, ADDRESS, WRONG_CODE, wire, len), SP_ERR_AUTH); /* enrolled */
    assert_int_equal(enrol(t, ADDRESS, "", wire, len), SP_ERR_AUTH);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(enrol(t, ADDRESS, code, wire, len), SP_ERR_EXISTS);
        end(t, SIGKILL);
        start(t);
    }
    assert_int_equal(OPERATE(t, code, &rows, "user", "remove", ADDRESS), SP_OK);
    assert_int_equal(enrol(t, ADDRESS, WRONG_CODE, wire, len), SP_ERR_AUTH); /* gone */
    assert_int_equal(enrol(t, ADDRESS, code, wire, len), SP_ERR_AUTH);
}

/* However often somebody without the code tries, the invitation is good. */
static void test_wrong_codes(void **state)
{
    struct tree *t = *state;
    struct client c;
    uint8_t wire[SIGCHAIN_MAX_WIRE];
    char code[1024];
    uint32_t rows;
    size_t len;
    assert_int_equal(OPERATE(t, code, &rows, "user", "add", ADDRESS), SP_OK);
    make_root(&c, ADDRESS, wire, &len);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(enrol(t, ADDRESS, WRONG_CODE, wire, len), SP_ERR_AUTH);
    assert_int_equal(enrol(t, ADDRESS, code, wire, len), SP_OK);
    assert_int_equal(login(t, &c, URL, NULL), SP_OK);
}

/* Nor does he keep a user out whose address and ids he knows. */
static void test_forged_logins(void **state)
{
    struct tree *t = *state;
    struct client c, forger;
    uint8_t wire[SIGCHAIN_MAX_WIRE] = {0}, pk[KEY_SIZE], id[ID_SIZE];
    new_client(t, &c, ADDRESS);
    forger = c;
    crypto_sign_keypair(pk, forger.sign_sk);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(enrol(t, ADDRESS, WRONG_CODE, wire, sizeof(wire)), SP_ERR_AUTH);
        assert_int_equal(login(t, &forger, URL, NULL), SP_ERR_AUTH);
    }
    assert_int_equal(login(t, &c, URL, NULL), SP_OK);
    assert_int_equal(list(t, &c, id), 0);
}

/* A history that is not the one whose links were verified is nobody's. */
static void test_changed_chain(void **state)
{
    struct tree *t = *state;
    struct client c, forger;
    struct store *s;
    struct store_user user;
    uint8_t wire[SIGCHAIN_MAX_WIRE];
    size_t len;
    new_client(t, &c, ADDRESS);
    forger = c;
    crypto_sign_keypair(forger.device.sign_pk, forger.sign_sk);
    struct chain_signer by = signer(&forger);
    assert_int_equal(sigchain_make_rotate(&c.chain, &by, c.chain.puk_pk, wire, &len), SP_OK);
    end(t, SIGKILL);
    assert_int_equal(store_open(t->dir, 32u << 20, &s), SP_OK);
    assert_int_equal(store_user_by_address(s, ADDRESS, &user), SP_OK);
    user.chain_seq = 2; /* the head stays */
    assert_int_equal(store_chain_add(s, &user, wire, len), SP_OK);
    assert_int_equal(store_commit(s), SP_OK);
    store_close(s);
    start(t);
    assert_int_equal(login(t, &c, URL, NULL), SP_ERR_AUTH);
}

static void test_chain(void **state)
{
    struct tree *t = *state;
    struct client c;
    struct wire_in in;
    uint8_t buf[4096], wire[SIGCHAIN_MAX_WIRE], puk[KEY_SIZE];
    size_t len;
    new_client(t, &c, ADDRESS);
    randombytes_buf(puk, sizeof(puk));
    struct chain_signer by = signer(&c);
    assert_int_equal(sigchain_make_rotate(&c.chain, &by, puk, wire, &len), SP_OK);
    for (int round = 0; round < 2; round++) {
        struct wire_out out = wire_out(buf, sizeof(buf));
        wire_put_bytes(&out, c.token, TOKEN);
        wire_put_b32(&out, wire, len);
        assert_int_equal(ask(t->web, SW_CHAIN_ADD, &out, &in), round == 0 ? SP_OK : SP_ERR_STATE);
        if (round == 0)
            expect_event(t, AUDIT_KEY_ROTATED);
    }
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_bytes(&out, c.token, TOKEN);
    for (uint8_t id = 0; id < 2; id++) { /* address, user_id */
        struct wire_out which = out;
        wire_put_u8(&which, id);
        wire_put_b16(&which, id == 0 ? (const void *)ADDRESS : c.user_id,
                     id == 0 ? strlen(ADDRESS) : ID_SIZE);
        wire_put_u32(&which, 1);
        assert_int_equal(ask(t->web, SW_CHAIN_GET, &which, &in), SP_OK);
        assert_memory_equal(wire_get_bytes(&in, ID_SIZE), c.user_id, ID_SIZE);
        assert_int_equal(wire_get_u8(&in), 0);
        assert_int_equal(in.left, len);
        assert_memory_equal(in.at, wire, len);
    }
    wire_put_u8(&out, 1);
    wire_put_b16(&out, "0123456789abcdef", ID_SIZE);
    wire_put_u32(&out, 0);
    assert_int_equal(ask(t->web, SW_CHAIN_GET, &out, &in), SP_ERR_NOT_FOUND);
    send_ring(t);
    assert_int_equal(lookup(t, ADDRESS, &in), SP_OK);
    wire_get_bytes(&in, 2 + ID_SIZE);
    assert_int_equal(wire_get_u32(&in), 2);
    assert_memory_equal(wire_get_bytes(&in, KEY_SIZE), puk, KEY_SIZE);
}

/* From any offset the rest of one and the same; the audit log hears of it once. */
static void check_message(struct tree *t, const struct wire_out *which)
{
    uint8_t whole[2048];
    struct wire_in in;
    struct wire_out out = *which;
    wire_put_u32(&out, 0);
    assert_int_equal(ask(t->web, SW_MESSAGE, &out, &in), SP_OK);
    uint32_t total = wire_get_u32(&in);
    assert_int_equal(in.left, total);
    wire_get_copy(&in, whole, total);
    expect_event(t, AUDIT_FETCHED);
    struct wire_in both = wire_in(whole, total);
    size_t len;
    wire_get_b32(&both, total, &len);
    wire_get_b32(&both, total, &len);
    assert_true(wire_in_done(&both));
    for (uint32_t offset = 1; offset <= total + 1; offset++) {
        out.len = which->len;
        wire_put_u32(&out, offset);
        assert_int_equal(ask(t->web, SW_MESSAGE, &out, &in),
                         offset <= total ? SP_OK : SP_ERR_LIMIT);
        if (offset > total)
            break;
        assert_int_equal(wire_get_u32(&in), total);
        assert_int_equal(in.left, total - offset);
        assert_memory_equal(in.at, whole + offset, in.left);
    }
}

static void test_mail(void **state)
{
    struct tree *t = *state;
    struct client ann, bob;
    struct wire_in in;
    uint8_t buf[256], id[ID_SIZE];
    size_t len;
    new_client(t, &ann, ADDRESS);
    new_client(t, &bob, "bob@example.org");
    send_ring(t);
    for (uint64_t u = 1; u <= 40; u++) { /* interleaved, and answered in one or a few groups */
        send_block(t, u, 0, 3000);
        if (u > 1) {
            send_block(t, u - 1, 0, BODY - 3000);
            send_commit(t, u - 1, (uint8_t)(u - 1), &ann, BODY);
        }
    }
    for (uint64_t u = 1; u < 40; u++)
        assert_int_equal(commit_status(t, u), SP_OK);
    send_commit(t, 40, 40, &ann, BODY); /* bytes are missing */
    assert_int_equal(commit_status(t, 40), SP_ERR_FORMAT);
    assert_int_equal(list(t, &ann, id), 39);
    assert_int_equal(list(t, &bob, id), 0);
    list(t, &ann, id);
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_bytes(&out, ann.token, TOKEN);
    wire_put_bytes(&out, id, ID_SIZE);
    struct wire_out piece = out;
    check_message(t, &out);
    wire_put_u16(&piece, 0);
    wire_put_u64(&piece, 2900);
    wire_put_u32(&piece, 65536);
    assert_int_equal(ask(t->web, SW_PIECE, &piece, &in), SP_OK);
    assert_int_equal(wire_get_u64(&in), BODY);
    const uint8_t *bytes = wire_get_b32(&in, 65536, &len);
    assert_int_equal(len, BODY - 2900);
    assert_int_equal(bytes[0], (uint8_t)(1 + 2900));
    assert_int_equal(bytes[100], 1);
    struct wire_out theirs = wire_out(buf, sizeof(buf));
    wire_put_bytes(&theirs, bob.token, TOKEN);
    wire_put_bytes(&theirs, id, ID_SIZE);
    wire_put_u32(&theirs, 0);
    assert_int_equal(ask(t->web, SW_MESSAGE, &theirs, &in), SP_ERR_NOT_FOUND);
    theirs.len = TOKEN + ID_SIZE;
    assert_int_equal(ask(t->web, SW_DELETE, &theirs, &in), SP_ERR_NOT_FOUND);
    memcpy(buf, ann.token, TOKEN);
    assert_int_equal(ask(t->web, SW_DELETE, &theirs, &in), SP_OK);
    expect_event(t, AUDIT_DELETED);
    assert_int_equal(list(t, &ann, id), 38);
    theirs.len = TOKEN;
    assert_int_equal(ask(t->web, SW_LOGOUT, &theirs, &in), SP_OK);
    theirs.len = TOKEN + ID_SIZE + 4;
    assert_int_equal(ask(t->web, SW_MESSAGE, &theirs, &in), SP_ERR_DENIED);
}

/* What was acknowledged is there after a kill; what was not is not. */
static void test_killed(void **state)
{
    struct tree *t = *state;
    struct client ann;
    uint8_t id[ID_SIZE];
    new_client(t, &ann, ADDRESS);
    send_ring(t);
    send_block(t, 1, 0, BODY);
    send_commit(t, 1, 1, &ann, BODY);
    assert_int_equal(commit_status(t, 1), SP_OK);
    send_block(t, 2, 0, BODY);
    end(t, SIGKILL);
    start(t);
    assert_int_equal(login(t, &ann, URL, NULL), SP_OK);
    assert_int_equal(list(t, &ann, id), 1);
    assert_int_equal(ipc_send_fd(t->control, CT_STOP, 0, NULL, 0, -1), SP_OK);
    expect_end(t->control);
}

/* Many rounds of the ring: consumed space comes back, large mail streams through. */
static void test_stream(void **state)
{
    struct tree *t = *state;
    struct client ann;
    uint64_t consumed = 0, sent = 0;
    new_client(t, &ann, ADDRESS);
    send_ring(t);
    for (int i = 0; i < 100; i++) {
        while (t->head + 2 * 49256 - consumed > RING) {
            struct ipc_frame f;
            assert_int_equal(ipc_recv(t->sealer, received, sizeof(received), &f), SP_OK);
            assert_int_equal(f.type, SS_CONSUMED);
            consumed = wire_get_u64(&f.body);
        }
        send_block(t, 1, 0, 49256);
        sent += 49256;
    }
    send_commit(t, 1, 1, &ann, sent);
    assert_int_equal(commit_status(t, 1), SP_OK);
}

static void test_full(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct wire_in in;
    uint64_t consumed = 0, sent = 0;
    new_client(t, &ann, ADDRESS);
    send_ring(t);
    for (int i = 0; i < 900; i++) { /* 44 MB into a map of 32 */
        while (t->head + 2 * 49256 - consumed > RING) {
            struct ipc_frame f;
            assert_int_equal(ipc_recv(t->sealer, received, sizeof(received), &f), SP_OK);
            consumed = wire_get_u64(&f.body);
        }
        send_block(t, 1, 0, 49256);
        sent += 49256;
    }
    assert_int_equal(lookup(t, ADDRESS, &in), SP_ERR_NO_SPACE);
    send_commit(t, 1, 1, &ann, sent);
    assert_int_equal(commit_status(t, 1), SP_ERR_NO_SPACE);
    for (int i = 0; i < 200 && lookup(t, ADDRESS, &in) != SP_OK; i++)
        usleep(10000); /* until it is swept */
    send_block(t, 2, 0, BODY);
    send_commit(t, 2, 2, &ann, BODY);
    assert_int_equal(commit_status(t, 2), SP_OK);
}

/* --- a sealer, or web, that was taken over --- */

static void test_before_ring(void **state)
{
    struct tree *t = *state;
    send_block_at(t, 1, 0, 0, 10);
    expect_end(t->sealer);
}

static void test_second_ring(void **state)
{
    struct tree *t = *state;
    send_ring(t);
    send_ring(t);
    expect_end(t->sealer);
}

static void test_ring_size(void **state)
{
    struct tree *t = *state;
    uint8_t buf[8];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u64(&out, RING * 2); /* reading behind the end would kill */
    assert_int_equal(ipc_send_fd(t->sealer, SS_RING, 0, buf, 8, t->ring_fd), SP_OK);
    expect_end(t->sealer);
}

static void test_bad_blocks(void **state)
{
    static const struct {
        uint64_t position;
        uint32_t n;
        uint16_t piece;
    } bad[] = {
        {RING - 1, 2, 0},     {5, 10, 0},           {100, 0, 0},
        {RING * 2ull, 10, 0}, {100, UINT32_MAX, 0}, {100, RING + 1, 0},
        {UINT64_MAX, 1, 0},   {UINT64_MAX, 2, 0},   {100, 10, 256},
    };
    struct tree *t = *state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        send_ring(t);
        send_block_at(t, 1, 0, 0, 100); /* good */
        send_block_at(t, 1, bad[i].piece, bad[i].position, bad[i].n);
        expect_end(t->sealer);
        end(t, SIGKILL);
        start(t);
    }
}

static void test_bad_frames(void **state)
{
    struct tree *t = *state;
    uint8_t junk[64];
    static const uint16_t types[] = {SS_LOOKUP, SS_COMMIT, SS_COMMIT_REPLY, SS_ABORT, CC_REQUEST};
    memset(junk, 0xff, sizeof(junk));
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        send_ring(t);
        assert_int_equal(ipc_send_fd(t->sealer, types[i], 1, junk, sizeof(junk), -1), SP_OK);
        expect_end(t->sealer);
        assert_int_equal(ipc_send_fd(t->web, SW_LIST, 1, junk, TOKEN + 10 + i, -1), SP_OK);
        expect_end(t->web);
        end(t, SIGKILL);
        start(t);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_operators),     T(test_enrolment),     T(test_codes),      T(test_wrong_codes),
        T(test_forged_logins), T(test_changed_chain), T(test_chain),      T(test_mail),
        T(test_killed),        T(test_stream),        T(test_full),       T(test_before_ring),
        T(test_second_ring),   T(test_ring_size),     T(test_bad_blocks), T(test_bad_frames),
    };
    if (sodium_init() < 0)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
