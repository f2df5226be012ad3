/* The keeper role as it runs (all but its cage): a session signs once, and loses its channel for
 * anything else; web signs as often as it likes; nobody's misdeed is felt by another. */
#include "tests/unit/keeper_tree.h"

static struct tree tree;

static int set_up(void **state)
{
    (void)state;
    tree_new(&tree);
    tree_give_key(&tree);
    return tree_count(&tree, "tls_signatures") == 0 ? 0 : -1; /* and the key has arrived */
}

static int tear_down(void **state)
{
    (void)state;
    tree_end(&tree);
    return 0;
}

static int open_session(uint32_t id)
{
    uint8_t buf[64];
    int pair[2];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u32(&out, id);
    wire_put_str(&out, "192.0.2.1");
    assert_int_equal(ipc_pair(pair), SP_OK);
    assert_int_equal(ipc_send_fd(tree.smtp, SP_SESSION, 0, buf, out.len, pair[1]), SP_OK);
    close(pair[1]);
    return pair[0];
}

/* Asks for a signature and returns the status, or SP_ERR_PEER if the channel is gone. */
static enum sp_err ask(int fd, uint16_t type, size_t hash)
{
    static const char context[] = "TLS 1.3, server CertificateVerify";
    uint8_t input[256] = {0}, body[512], reply[1024];
    struct ipc_frame frame;
    memset(input, 0x20, 64);
    memcpy(input + 64, context, sizeof(context));
    struct wire_out out = wire_out(body, sizeof(body));
    wire_put_str(&out, "ED25519");
    wire_put_str(&out, "");
    wire_put_b32(&out, input, 64 + sizeof(context) + hash);
    enum sp_err err = ipc_send_fd(fd, type, 7, body, out.len, -1);
    if (err == SP_OK)
        err = ipc_recv(fd, reply, sizeof(reply), &frame);
    if (err != SP_OK)
        return err;
    assert_int_equal(frame.type, SK_SIGN_REPLY);
    assert_int_equal(frame.id, 7);
    err = (enum sp_err)wire_get_u8(&frame.body);
    assert_int_equal(frame.body.left, err == SP_OK ? 2 + 64 : 0);
    return err;
}

static void test_web(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(ask(tree.web, SK_SIGN, 32 + 16 * (size_t)(i & 1)), SP_OK);
    assert_int_equal(tree_count(&tree, "tls_signatures"), 5);
}

static void test_session_once(void **state)
{
    (void)state;
    int one = open_session(1), other = open_session(2);
    assert_int_equal(ask(one, SK_SIGN, 48), SP_OK);
    assert_int_equal(ask(one, SK_SIGN, 48), SP_ERR_PEER);
    assert_int_equal(ask(other, SK_SIGN, 32), SP_OK);
    close(one);
    close(other);
}

static void test_session_misbehaves(void **state)
{
    (void)state;
    int form = open_session(3), type = open_session(4), good = open_session(5);
    uint64_t refused = tree_count(&tree, "tls_refused");
    assert_int_equal(ask(form, SK_SIGN, 33), SP_ERR_PEER);
    assert_int_equal(ask(form, SK_SIGN, 32), SP_ERR_PEER);
    assert_int_equal(ask(type, SP_SESSION, 32), SP_ERR_PEER);
    assert_int_equal(tree_count(&tree, "tls_refused"), refused + 2);
    assert_int_equal(ask(good, SK_SIGN, 32), SP_OK);
    assert_int_equal(ask(tree.web, SK_SIGN, 32), SP_OK);
    close(form);
    close(type);
    close(good);
}

/* smtp says that a session is dead: its channel goes, even if somebody still holds it. */
static void test_session_gone(void **state)
{
    (void)state;
    int fd = open_session(6);
    assert_int_equal(ipc_send_fd(tree.smtp, SP_SESSION_GONE, 0, "\0\0\0\6", 4, -1), SP_OK);
    uint8_t buf[64];
    struct ipc_frame frame;
    assert_int_equal(ipc_recv(fd, buf, sizeof(buf), &frame), SP_ERR_PEER);
    close(fd);
}

int main(int argc, char **argv)
{
    tree_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_web),
        cmocka_unit_test(test_session_once),
        cmocka_unit_test(test_session_misbehaves),
        cmocka_unit_test(test_session_gone),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
