/* sealpostctl's side of the control socket: an answer in one frame or many, whatever its cells
 * hold; and an appliance that does not answer as it should. */
#include "daemon/control/connection.c"
#include "daemon/control/table.c"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <sys/wait.h>

static char path[] = "/tmp/sealpost-control-XXXXXX";

struct reply {
    uint16_t type, flags;
    const uint8_t *bytes;
    size_t len;
    int fd; /* -1: none */
};

static void send_reply(int fd, const struct reply *r)
{
    uint8_t frame[4096];
    struct wire_out out = wire_out(frame, sizeof(frame));
    wire_put_u16(&out, r->type);
    wire_put_u16(&out, r->flags);
    wire_put_u32(&out, 0);
    wire_put_bytes(&out, r->bytes, r->len);
    if (r->fd >= 0)
        ipc_send_fd(fd, r->type, 0, r->bytes, r->len, r->fd);
    else
        send(fd, frame, out.len, MSG_NOSIGNAL);
}

/* An appliance that hears `frames` frames, then says this much. */
static pid_t appliance(int frames, const struct reply *replies, size_t n)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    uint8_t buf[1024];
    memcpy(at.sun_path, path, sizeof(path));
    unlink(path);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(listener, 1), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = accept(listener, NULL, NULL);
        for (int i = 0; i < frames; i++)
            if (recv(fd, buf, sizeof(buf), 0) < (ssize_t)IPC_HEADER)
                _exit(1);
        for (size_t i = 0; i < n; i++)
            send_reply(fd, &replies[i]);
        _exit(0);
    }
    close(listener);
    return pid;
}

static enum sp_err ask(uint16_t service, const struct reply *replies, size_t n, struct answer *a)
{
    static char add[] = "user", who[] = "list";
    char *args[] = {add, who};
    int status;
    pid_t pid = appliance(service == CC_STORE ? 2 : 1, replies, n);
    enum sp_err err = ctl_ask(path, service, args, 2, a);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    return err;
}

static uint8_t bytes[8][512];

/* A frame of a table: cells is a row-major list. */
static struct reply table_frame(int i, bool last, const char *message, uint16_t columns,
                                const char *const *cells, uint32_t rows)
{
    struct wire_out out = wire_out(bytes[i], sizeof(bytes[i]));
    wire_put_u8(&out, SP_OK);
    wire_put_str(&out, message);
    wire_put_u16(&out, columns);
    wire_put_u32(&out, rows);
    for (size_t n = 0; n < (size_t)rows * columns; n++)
        wire_put_str(&out, cells[n]);
    return (struct reply){CC_TABLE, last ? CC_LAST : 0, bytes[i], out.len, -1};
}

static const char *const cells[] = {"name", "value", "a\x1b[31m", "1", "b", "two\nlines\x7f"};

static char *printed(const struct table *t, bool json)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (json)
        table_print_json(t, out);
    else
        table_print(t, out);
    fclose(out);
    return text;
}

static void one_frame(void **state)
{
    struct reply r = table_frame(0, true, "hello", 2, cells, 3);
    struct answer a;
    (void)state;
    assert_int_equal(ask(CC_STATUS, &r, 1, &a), SP_OK);
    assert_int_equal(a.status, SP_OK);
    assert_string_equal(a.message, "hello");
    char *text = printed(&a.table, false), *json = printed(&a.table, true);
    assert_string_equal(text, "name    value\na?[31m  1\nb       two?lines?\n");
    assert_null(strchr(json, '\x1b'));
    json_t *list = json_loads(json, 0, NULL);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "value")),
                        "two\nlines\x7f");
    json_decref(list);
    free(text);
    free(json);
    answer_free(&a);
}

static void many_frames(void **state)
{
    struct reply r[] = {table_frame(0, false, "", 2, cells, 2),
                        table_frame(1, false, "", 2, cells + 2, 2),
                        table_frame(2, true, "end", 2, cells, 0)};
    struct answer a;
    (void)state;
    assert_int_equal(ask(CC_STORE, r, 3, &a), SP_OK);
    assert_int_equal(a.table.rows, 4);
    assert_string_equal(a.message, "end");
    answer_free(&a);
}

static void refusal(void **state)
{
    static const uint8_t no[] = {SP_ERR_EXISTS, 0, 3, 'n', 'o', '!'};
    struct reply r = {CC_TABLE, CC_LAST, no, sizeof(no), -1};
    struct answer a;
    (void)state;
    assert_int_equal(ask(CC_STORE, &r, 1, &a), SP_OK);
    assert_int_equal(a.status, SP_ERR_EXISTS);
    assert_string_equal(a.message, "no!");
    assert_int_equal(a.table.columns, 0);
    answer_free(&a);
}

static void bad_answers(void **state)
{
    static const uint8_t cut[] = {0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 1, 'a', 0, 9, 'b'};
    static const uint8_t wide[] = {0, 0, 0, 0xff, 0xff, 0, 0, 0, 0};
    static const uint8_t many[] = {0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t more[] = {0, 0, 0, 0, 1, 0, 0, 0, 0, 7};
    static const uint8_t none[] = {0};
    struct reply good = table_frame(0, false, "", 2, cells, 2);
    struct reply other = table_frame(1, true, "", 3, cells, 1);
    const struct reply cases[][2] = {
        {{CC_TABLE, CC_LAST, cut, sizeof(cut), -1}},
        {{CC_TABLE, CC_LAST, wide, sizeof(wide), -1}},
        {{CC_TABLE, CC_LAST, many, sizeof(many), -1}},
        {{CC_TABLE, CC_LAST, more, sizeof(more), -1}},
        {{CC_TABLE, CC_LAST, none, sizeof(none), -1}},
        {{CC_TABLE, CC_LAST, none, 0, -1}},
        {{CC_REQUEST, CC_LAST, more, sizeof(more) - 1, -1}},
        {{CC_TABLE, CC_LAST, more, sizeof(more) - 1, 2}},
        {good, other},
        {good, {CC_TABLE, CC_LAST, cut, sizeof(cut), -1}},
    };
    struct answer a;
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_not_equal(ask(CC_STATUS, cases[i], cases[i][1].bytes != NULL ? 2 : 1, &a),
                             SP_OK);
        assert_null(a.message);
        assert_null(a.table.cell);
    }
    assert_int_equal(ask(CC_STATUS, &good, 1, &a), SP_ERR_PEER); /* no last frame */
    assert_int_equal(ask(CC_STATUS, NULL, 0, &a), SP_ERR_PEER);
}

static void nobody_there(void **state)
{
    char longer[200];
    struct answer a;
    (void)state;
    unlink(path);
    assert_int_equal(ctl_ask(path, CC_STATUS, NULL, 0, &a), SP_ERR_PEER);
    memset(longer, 'x', sizeof(longer));
    longer[199] = '\0';
    assert_int_equal(ctl_ask(longer, CC_STATUS, NULL, 0, &a), SP_ERR_PEER);
}

static int start(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd >= 0 ? close(fd) : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_frame),   cmocka_unit_test(many_frames),  cmocka_unit_test(refusal),
        cmocka_unit_test(bad_answers), cmocka_unit_test(nobody_there),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
