/* P10, from inside: every row's cage is put on, as root and in user mode, and everything that a
 * taken-over process would try is tried in it. */
#include "sandbox/policy.h"
#include "sandbox/steps.h"
#include "tests/unit/caged.h"

#include <grp.h>
#include <linux/capability.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <stdio.h>
// clang-format off
#include <cmocka.h>
// clang-format on

struct trial {
    const char *row, *probe; /* probe: NULL: only wait, to be looked at */
    bool user_mode;
    uid_t uid;
    int root;
    struct sock_fprog own; /* of a row with a parent */
};

/* What a row is allowed, or refused politely; all else must end the process by SIGSYS. */
static const struct {
    const char *row, *probe;
    int gets;
} exceptions[] = {
    {"*", "kill-supervisor", EPERM}, /* so that abort() is a crash, not a violation */
    {"session", "send-message", -1}, /* so that it cannot pass descriptors on */
    {"delivery", "send-message", -1},
    {"backup", "send-message", -1},
    {"*", "send-message", EISCONN}, /* allowed, but that socket knows its peer */
    {"backup", "open", ENOENT},     /* of its root directory it opens files */
    {"backup", "open-proc", ENOENT},
    {"backup", "open-device", ENOENT},
    {"backup", "open-root", 0},
    {"backup", "open-path", 0},
    {"backup", "create", EACCES}, /* this root is not its own */
    {"backup", "read-state", ENOENT},
    {"backup", "clone3", ENOSYS}, /* so that a thread is made by clone() */
    {"smtp", "shutdown", 0},      /* of a connection; a delivery shares the door's channels */
    {"session", "shutdown", 0},
    {"web", "shutdown", 0},
    {"smtp", "fork", 0},
    {"smtp", "socketpair", 0},
    {"relay", "fork", 0},
    {"relay", "socketpair", 0},
    {"relay", "connect", EINVAL}, /* allowed, but that socket is of another family */
    {"relay", "connect-unix", ENOENT},
    {"delivery", "connect", EINVAL},
    {"delivery", "connect-unix", ENOENT},
    {"resolver", "connect", EINVAL},
    {"resolver", "connect-unix", ENOENT},
    {"resolver", "connect-fastopen", EPIPE}, /* so that libunbound connects */
    {"resolver", "bind", EINVAL},
    {"door", "socket-inet", 0},
    {"door-unit", "socket-inet", 0},
    {"door-unit", "socketpair", 0},
    {"door-unit", "accept", EINVAL},
    {"smtp", "accept", EINVAL}, /* allowed, but that socket does not listen */
    {"web", "accept", EINVAL},
    {"web", "socket-inet", EACCES},
    {"web", "socket-unix", EACCES},
    {"web", "socket-netlink", EACCES},
};

static int expected(const char *row, const char *probe)
{
    for (size_t i = 0; i < sizeof(exceptions) / sizeof(*exceptions); i++) {
        bool any = strcmp(exceptions[i].row, "*") == 0;
        if ((any || strcmp(exceptions[i].row, row) == 0) && strcmp(exceptions[i].probe, probe) == 0)
            return exceptions[i].gets;
    }
    return -1;
}

static void act(const struct trial *trial)
{
    if (trial->probe != NULL) {
        tell(sandbox_probe(trial->probe), 0, "alive");
        leave(0);
    }
    char byte;
    tell(0, 0, "waiting");
    leave(read(FD_PEER, &byte, 1) < 0 ? 1 : 0); /* until the test closes its end */
}

static enum sp_err compile_own(void *ctx)
{
    struct trial *trial = ctx;
    return sandbox_compile(policy_row(trial->row), &trial->own);
}

static void enter_as_service(struct trial *trial)
{
    const int keep[] = {FD_PEER, FD_TELL};
    const char *step;
    const struct cage cage = {.keep = keep, .n_keep = 2, .root = -1};
    enum sp_err err = sandbox_alone(policy_row(trial->row), &cage, &step);
    if (err == SP_OK)
        act(trial);
    tell((int)err, errno, step);
    leave(1);
}

/* As systemd starts a service with User=. */
static void service(void *ctx)
{
    struct trial *trial = ctx;
    close(trial->root);
    if (geteuid() == 0 &&
        (setgroups(0, NULL) != 0 || setresgid(trial->uid, trial->uid, trial->uid) != 0 ||
         setresuid(trial->uid, trial->uid, trial->uid) != 0))
        leave(3);
    enter_as_service(trial);
}

/* The first process of a new process namespace: a role. */
static void role(struct trial *trial)
{
    const char *parent = policy_row(trial->row)->parent;
    const int keep[] = {FD_PEER, FD_TELL};
    const char *step;
    struct cage cage = {.keep = keep,
                        .n_keep = 2,
                        .root = trial->root,
                        .user_mode = trial->user_mode,
                        .uid = trial->uid,
                        .prepare = parent != NULL ? compile_own : NULL,
                        .ctx = trial};
    enum sp_err err = sandbox_enter(policy_row(parent != NULL ? parent : trial->row), &cage, &step);
    if (err != SP_OK) {
        tell((int)err, errno, step);
        leave(1);
    }
    if (parent != NULL) {
        pid_t pid = fork();
        if (pid != 0)
            exit_like(pid);
        if (sandbox_install(&trial->own) != SP_OK)
            leave(2);
    }
    act(trial);
}

static void become_user(uid_t uid)
{
    if (geteuid() == 0 && (setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0))
        leave(3);
    /* Else /proc/self belongs to root, since the uid changed. */
    if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0 || sandbox_user_namespace() != SP_OK)
        leave(4);
}

static void supervisor(void *ctx)
{
    struct trial *trial = ctx;
    const char *step;
    if (trial->user_mode)
        become_user(trial->uid);
    if (sandbox_supervisor(trial->user_mode, &step) != SP_OK || unshare(CLONE_NEWPID) != 0)
        leave(5);
    pid_t pid = fork();
    if (pid == 0)
        role(trial);
    exit_like(pid);
}

static struct trial trial_of(size_t row, bool user_mode, int root)
{
    return (struct trial){.row = policy_at(row)->name,
                          .user_mode = user_mode,
                          .uid = TEST_UID + (uid_t)row,
                          .root = root};
}

static void (*start_of(const struct trial *trial))(void *)
{
    return policy_row(trial->row)->alone ? service : supervisor;
}

static int check_probe(struct trial *trial)
{
    int gets = expected(trial->row, trial->probe);
    struct report report = run_child(start_of(trial), trial);
    /* A kernel without i386 entry answers it with SIGSEGV. */
    bool no_entry = strcmp(trial->probe, "syscall-i386") == 0 && report.killed == SIGSEGV;
    bool right = gets < 0 ? report.said < 0 && (report.killed == SIGSYS || no_entry)
                          : report.said > 0 && report.code == gets && report.exited == 0;
    if (!right)
        print_error("%s%s, %s: killed %d, exit %d, said \"%s\" %d %d; expected %d\n", trial->row,
                    trial->user_mode ? " (user mode)" : "", trial->probe, report.killed,
                    report.exited, report.text, report.code, report.why, gets);
    return right ? 0 : 1;
}

static void every_probe_in_every_row(bool user_mode)
{
    char path[32];
    int root = empty_directory(path), wrong = 0;
    assert_true(root >= 0);
    for (size_t i = 0; policy_at(i) != NULL; i++) {
        if (policy_at(i)->deny || (policy_at(i)->alone && user_mode))
            continue;
        struct trial trial = trial_of(i, user_mode, root);
        for (size_t j = 0; (trial.probe = sandbox_probe_name(j)) != NULL; j++)
            wrong += check_probe(&trial);
    }
    close(root);
    rmdir(path);
    assert_int_equal(wrong, 0);
}

static void as_root(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    every_probe_in_every_row(false);
}

static void in_user_mode(void **state)
{
    (void)state;
    every_probe_in_every_row(true);
}

/* --- Looked at from outside, in /proc. --- */

/* The value of a field of /proc/PID/status, spaces for tabs; "" if there is none. */
static void status_field(pid_t pid, const char *name, char value[64])
{
    char path[64], line[256];
    value[0] = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        size_t n = strlen(name);
        if (strncmp(line, name, n) != 0 || line[n] != ':')
            continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(value, 64, "%.60s", line + n + 1 + strspn(line + n + 1, "\t "));
    }
    for (char *at = value; (at = strchr(at, '\t')) != NULL;)
        *at = ' ';
    if (file != NULL)
        fclose(file);
}

static int check_field(pid_t pid, const struct trial *trial, const char *name, const char *want)
{
    char got[64];
    status_field(pid, name, got);
    if (strcmp(got, want) == 0)
        return 0;
    print_error("%s%s: %s is \"%s\", not \"%s\"\n", trial->row,
                trial->user_mode ? " (user mode)" : "", name, got, want);
    return 1;
}

/* Same namespace as ours? */
static bool shares(pid_t pid, const char *space)
{
    char ours[64], path[64], theirs[64];
    snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, space);
    ssize_t n = readlink(path, theirs, sizeof(theirs));
    snprintf(path, sizeof(path), "/proc/self/ns/%s", space);
    ssize_t m = readlink(path, ours, sizeof(ours));
    return n <= 0 || m <= 0 || (n == m && memcmp(ours, theirs, (size_t)n) == 0);
}

/* The door makes the sockets to the outside. */
static bool on_the_network(const struct policy *row)
{
    const struct policy *of = row->parent != NULL ? policy_row(row->parent) : row;
    return (of->namespaces & CLONE_NEWNET) == 0;
}

static int check_namespaces(pid_t pid, const struct trial *trial)
{
    static const char *const spaces[] = {"net", "ipc", "uts", "mnt", "pid"};
    int wrong = 0;
    for (size_t i = 0; i < sizeof(spaces) / sizeof(*spaces); i++) {
        const struct policy *row = policy_row(trial->row);
        bool wanted = row->alone || (i == 0 && on_the_network(row));
        if (shares(pid, spaces[i]) == wanted)
            continue;
        print_error("%s: %s our %s namespace\n", trial->row, wanted ? "not in" : "in", spaces[i]);
        wrong++;
    }
    return wrong;
}

static int look_at(pid_t pid, struct trial *trial)
{
    char uids[64], caps[64];
    const struct policy *row = policy_row(trial->row);
    uid_t uid = !trial->user_mode || geteuid() == 0 ? trial->uid : geteuid();
    snprintf(uids, sizeof(uids), "%u %u %u %u", uid, uid, uid, uid);
    uint64_t kept = trial->user_mode ? 0 : row->caps;
    snprintf(caps, sizeof(caps), "%016llx", (unsigned long long)kept);
    int wrong = check_field(pid, trial, "NoNewPrivs", "1") +
                check_field(pid, trial, "Seccomp", "2") +
                check_field(pid, trial, "Seccomp_filters",
                            row->parent != NULL ? "3"
                            : row->alone        ? "1"
                                                : "2") +
                check_field(pid, trial, "CapEff", caps) + check_field(pid, trial, "CapPrm", caps) +
                (row->alone ? 0 : check_field(pid, trial, "CapBnd", caps)) +
                check_field(pid, trial, "CapInh", "0000000000000000") +
                check_field(pid, trial, "CapAmb", "0000000000000000") +
                check_field(pid, trial, "Uid", uids) + check_field(pid, trial, "Threads", "1");
    if (!trial->user_mode)
        wrong += check_field(pid, trial, "Gid", uids) + check_field(pid, trial, "Groups", "");
    /* Only root may look; to others the process is not even open, as it is not dumpable. */
    return wrong + (geteuid() == 0 ? check_namespaces(pid, trial) : 0);
}

/* The only child of pid. */
static pid_t descend(pid_t pid)
{
    char path[64];
    int child = 0;
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL || fscanf(file, "%d", &child) != 1)
        child = -1;
    if (file != NULL)
        fclose(file);
    return child;
}

static int inspected; /* what look_at_child() found wrong, summed up */

static void look_at_child(pid_t pid, int peer, void *ctx)
{
    (void)peer;
    struct trial *trial = ctx;
    pid_t at = policy_row(trial->row)->alone ? pid : descend(pid);
    if (policy_row(trial->row)->parent != NULL)
        at = descend(at);
    inspected += at > 0 ? look_at(at, trial) : 1;
}

static void seen_from_outside(void **state)
{
    (void)state;
    char path[32];
    int root = empty_directory(path);
    inspected = 0;
    for (size_t i = 0; policy_at(i) != NULL; i++) {
        for (int mode = geteuid() == 0 ? 0 : 1; mode < 2 && !policy_at(i)->deny; mode++) {
            if (policy_at(i)->alone && mode == 1)
                continue;
            struct trial trial = trial_of(i, mode == 1, root);
            struct report report = run_child_watched(start_of(&trial), &trial, look_at_child);
            inspected += report.said <= 0 || strcmp(report.text, "waiting") != 0;
        }
    }
    close(root);
    rmdir(path);
    assert_int_equal(inspected, 0);
}

static void unknown_probe_is_told(void **state)
{
    (void)state;
    assert_int_equal(sandbox_probe("no such thing"), -1);
}

/* A filter can only take away from the one before it: what a session needs, smtp must have. */
static void session_is_part_of_smtp(void **state)
{
    (void)state;
    const struct policy *session = policy_row("session"), *smtp = policy_row("smtp");
    for (size_t i = 0; i < POLICY_MAX_SETS && session->sets[i] != NULL; i++) {
        bool found = false;
        for (size_t j = 0; j < POLICY_MAX_SETS; j++)
            found |= smtp->sets[j] == session->sets[i];
        assert_true(found);
    }
}

static void every_row_compiles(void **state)
{
    (void)state;
    assert_null(policy_row("nobody"));
    for (size_t i = 0; policy_at(i) != NULL; i++) {
        struct sock_fprog prog;
        assert_ptr_equal(policy_row(policy_at(i)->name), policy_at(i));
        assert_int_equal(sandbox_compile(policy_at(i), &prog), SP_OK);
        assert_in_range(prog.len, 20, 1000);
        free(prog.filter);
    }
}

/* docs/sandbox.md shows the table that is in force. */
static void document_is_up_to_date(void **state)
{
    (void)state;
    char *table = NULL, *text = calloc(1, 1 << 17);
    size_t size;
    FILE *out = open_memstream(&table, &size), *doc = fopen("docs/sandbox.md", "r");
    assert_non_null(out);
    assert_non_null(doc);
    assert_non_null(text);
    policy_print(out);
    fclose(out);
    assert_true(fread(text, 1, (1 << 17) - 1, doc) > size);
    fclose(doc);
    assert_non_null(strstr(text, table));
    free(table);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_compiles),     cmocka_unit_test(session_is_part_of_smtp),
        cmocka_unit_test(unknown_probe_is_told),  cmocka_unit_test(as_root),
        cmocka_unit_test(in_user_mode),           cmocka_unit_test(seen_from_outside),
        cmocka_unit_test(document_is_up_to_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
