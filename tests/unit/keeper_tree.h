#ifndef SEALPOST_TEST_KEEPER_TREE_H
#define SEALPOST_TEST_KEEPER_TREE_H
/* The keeper role as it runs (all but its cage), with the test in the place of all its peers. */
#include "daemon/messages.h"
#include "daemon/role.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TREE_DELIVERIES 4

struct tree {
    struct config config; /* relay_mode; how many selectors ("one", "two") */
    pid_t pid;
    int smtp, web, store, relay, audit, control; /* our ends */
    int key, slots;                              /* files without a name */
};

static enum sp_err tree_on_control(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    const uint8_t *at = frame->body.at;
    size_t len = frame->body.left;
    (void)peer;
    enum sp_err err = keeper_role.control(ctx, frame);
    for (size_t i = 0; frame->type == CT_KEY && i < len; i++)
        if (at[i] != 0)
            _exit(99); /* a key is wiped where it came in */
    return err;
}

static enum sp_err tree_on_status(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    uint8_t buf[4096];
    struct wire_out pairs = wire_out(buf, sizeof(buf));
    keeper_role.status(ctx, &pairs);
    return ipc_peer_send(peer, CT_STATUS_REPLY, frame->id, &pairs, -1);
}

static void tree_on_end(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    (void)ctx;
    (void)peer;
    _exit((int)why);
}

static const struct ipc_rule tree_rule[] = {
    {CT_KEY, false, false, 1, IPC_MAX_PAYLOAD, tree_on_control},
    {CT_DKIM, true, false, 2, 300, tree_on_control},
    {CT_AUTH, true, false, 0, 0, tree_on_control},
    {CT_STATUS, false, false, 0, 0, tree_on_status},
};
static const struct ipc_rules tree_rules = {tree_rule, 4, UINT64_MAX, tree_on_end};

enum { TREE_SMTP, TREE_WEB, TREE_STORE, TREE_RELAY, TREE_AUDIT, TREE_CONTROL, TREE_PAIRS };

/* In the child. far: its ends of the pairs, then the two files. */
static void tree_become_role(struct tree *t, const int far[TREE_PAIRS + 2])
{
    static const int to[TREE_PAIRS + 2] = {
        ROLE_FD(ROLE_SMTP), ROLE_FD(ROLE_WEB), ROLE_FD(ROLE_STORE), ROLE_FD(ROLE_RELAY), FD_AUDIT,
        FD_CONTROL,         FD_EXTRA,          FD_EXTRA + 1};
    int high[TREE_PAIRS + 2];
    for (int i = 0; i < TREE_PAIRS + 2; i++)
        high[i] = fcntl(far[i], F_DUPFD_CLOEXEC, 200);
    close_range(3, 199, 0);
    for (int i = 0; i < TREE_PAIRS + 2; i++)
        dup2(high[i], to[i]);
    close_range(200, 300, 0);
    char mode[8], selectors[8];
    snprintf(mode, sizeof(mode), "%d", (int)t->config.relay_mode);
    snprintf(selectors, sizeof(selectors), "%zu", t->config.dkim_selector.count);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execl("/proc/self/exe", "keeper", mode, selectors, (char *)NULL);
    _exit(127);
}

/* A program of its own, as in the tree: OpenSSL takes another heap only before its first use. For
 * the beginning of main(): returns in the test alone. */
static void tree_main(int argc, char **argv)
{
    static char one[] = "one", two[] = "two";
    static struct config config = {.max_sessions = 500, .deliveries = TREE_DELIVERIES};
    struct role role = {.ops = &keeper_role, .config = &config};
    if (argc != 3)
        return;
    config.relay_mode = (enum config_relay)atoi(argv[1]);
    config.dkim_selector = (struct config_list){(size_t)atoi(argv[2]), {one, two}};
    role.base = event_base_new();
    enum sp_err err = keeper_role.prepare(&role);
    if (err == SP_OK)
        err = keeper_role.run(&role);
    if (err == SP_OK && ipc_peer_new(role.base, FD_CONTROL, &tree_rules, &role) == NULL)
        err = SP_ERR_MEMORY;
    if (err == SP_OK)
        err = ipc_loop(role.base);
    _exit((int)err);
}

static void tree_start(struct tree *t)
{
    int *const ours[TREE_PAIRS] = {&t->smtp, &t->web, &t->store, &t->relay, &t->audit, &t->control};
    int far[TREE_PAIRS + 2];
    for (int i = 0; i < TREE_PAIRS; i++) {
        int pair[2];
        assert_int_equal(ipc_pair(pair), SP_OK);
        *ours[i] = pair[0];
        far[i] = pair[1];
    }
    far[TREE_PAIRS] = t->key;
    far[TREE_PAIRS + 1] = t->slots;
    fflush(NULL);
    t->pid = fork();
    assert_true(t->pid >= 0);
    if (t->pid == 0)
        tree_become_role(t, far);
    for (int i = 0; i < TREE_PAIRS; i++)
        close(far[i]);
}

static void tree_close(struct tree *t)
{
    const int ours[] = {t->smtp, t->web, t->store, t->relay, t->audit, t->control};
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        close(ours[i]);
}

/* Its exit status, once it has ended by itself. */
static int tree_wait(struct tree *t)
{
    int status;
    assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
    tree_close(t);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void tree_kill(struct tree *t)
{
    kill(t->pid, SIGKILL);
    tree_wait(t);
}

static int tree_file(void)
{
    char path[] = "/tmp/sealpost-keeper-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

static void tree_new(struct tree *t)
{
    *t = (struct tree){0};
    t->key = tree_file();
    t->slots = tree_file();
    tree_start(t);
}

static void tree_end(struct tree *t)
{
    tree_kill(t);
    close(t->key);
    close(t->slots);
}

/* The TLS key, with which it begins to hear deliveries. Made for these tests; of no use elsewhere.
 */
static inline void tree_give_key(struct tree *t)
{
    static const char key_pem[] =
        "-----BEGIN PRIVATE KEY-----\n"
        "MC4CAQAwBQYDK2VwBCIEIPOG8fgA4psKysqwooVuOVxm3EetgIf7pP41nwzTIwCj\n"
        "-----END PRIVATE KEY-----\n";
    assert_int_equal(ipc_send_fd(t->control, CT_KEY, 0, key_pem, strlen(key_pem), -1), SP_OK);
}

/* One of its numbers in status. */
static uint64_t tree_count(struct tree *t, const char *name)
{
    static uint8_t buf[IPC_HEADER + 8192];
    struct ipc_frame f;
    uint64_t value = UINT64_MAX;
    assert_int_equal(ipc_send_fd(t->control, CT_STATUS, 1, NULL, 0, -1), SP_OK);
    assert_int_equal(ipc_recv(t->control, buf, sizeof(buf), &f), SP_OK);
    while (f.body.left > 0) {
        size_t n, v;
        const char *key = (const char *)wire_get_b16(&f.body, 100, &n);
        const char *text = (const char *)wire_get_b16(&f.body, 1000, &v);
        assert_false(f.body.bad);
        if (n == strlen(name) && memcmp(key, name, n) == 0)
            value = strtoull(text, NULL, 10);
    }
    return value;
}

#endif
