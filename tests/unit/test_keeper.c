/* The keeper role as it runs (all but its cage): a session signs once, and loses its channel for
 * anything else; web signs as often as it likes; nobody's misdeed is felt by another. */
#include "daemon/messages.h"
#include "daemon/role.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Made for this test; of no use elsewhere. */
static char key_pem[] =
    "-----BEGIN PRIVATE "
    "KEY-----\nMC4CAQAwBQYDK2VwBCIEIPOG8fgA4psKysqwooVuOVxm3EetgIf7pP41nwzTIwCj\n-----END PRIVATE "
    "KEY-----\n";

static int to_smtp, to_web;

static void become_role(int smtp, int web)
{
    static struct config config = {.max_sessions = 500};
    struct role role = {.ops = &keeper_role, .config = &config, .base = event_base_new()};
    struct ipc_frame key = {.type = CT_KEY, .body = wire_in(key_pem, strlen(key_pem)), .fd = -1};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup3(smtp, ROLE_FD(ROLE_SMTP), O_CLOEXEC);
    dup3(web, ROLE_FD(ROLE_WEB), O_CLOEXEC);
    close(smtp);
    close(web);
    enum sp_err err = keeper_role.prepare(&role);
    if (err == SP_OK)
        err = keeper_role.run(&role);
    if (err == SP_OK)
        err = keeper_role.control(&role, &key);
    if (err == SP_OK && key_pem[0] != '\0') /* wiped where it stood */
        err = SP_ERR_STATE;
    if (err == SP_OK)
        err = ipc_loop(role.base);
    _exit((int)err);
}

static int start_role(void **state)
{
    int smtp[2], web[2];
    (void)state;
    for (int fd = 3; fd < FD_EXTRA; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            dup2(2, fd);
    assert_int_equal(ipc_pair(smtp), SP_OK);
    assert_int_equal(ipc_pair(web), SP_OK);
    if (fork() == 0) {
        close(smtp[0]);
        close(web[0]);
        become_role(smtp[1], web[1]);
    }
    close(smtp[1]);
    close(web[1]);
    to_smtp = smtp[0];
    to_web = web[0];
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
    assert_int_equal(ipc_send_fd(to_smtp, SP_SESSION, 0, buf, out.len, pair[1]), SP_OK);
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
        assert_int_equal(ask(to_web, SK_SIGN, 32 + 16 * (size_t)(i & 1)), SP_OK);
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
    assert_int_equal(ask(form, SK_SIGN, 33), SP_ERR_PEER);
    assert_int_equal(ask(form, SK_SIGN, 32), SP_ERR_PEER);
    assert_int_equal(ask(type, SP_SESSION, 32), SP_ERR_PEER);
    assert_int_equal(ask(good, SK_SIGN, 32), SP_OK);
    assert_int_equal(ask(to_web, SK_SIGN, 32), SP_OK);
    close(form);
    close(type);
    close(good);
}

/* smtp says that a session is dead: its channel goes, even if somebody still holds it. */
static void test_session_gone(void **state)
{
    (void)state;
    int fd = open_session(6);
    assert_int_equal(ipc_send_fd(to_smtp, SP_SESSION_GONE, 0, "\0\0\0\6", 4, -1), SP_OK);
    uint8_t buf[64];
    struct ipc_frame frame;
    assert_int_equal(ipc_recv(fd, buf, sizeof(buf), &frame), SP_ERR_PEER);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_web),
        cmocka_unit_test(test_session_once),
        cmocka_unit_test(test_session_misbehaves),
        cmocka_unit_test(test_session_gone),
    };
    return cmocka_run_group_tests(tests, start_role, NULL);
}
