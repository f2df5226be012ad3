/* P10, layer by layer: each is proved by itself, without the filter above it; and each that cannot
 * be put on is fatal and named. */
#include "sandbox/steps.h"
#include "tests/unit/caged.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/un.h>
// clang-format off
#include <cmocka.h>
// clang-format on

struct layer {
    enum sp_err (*step)(const struct policy *row, const struct cage *cage);
    const char *row, *probe;
    int root;
};

/* Puts on one layer alone, then tries one action. */
static void one_layer(void *ctx)
{
    const struct layer *layer = ctx;
    struct cage cage = {.root = layer->root, .uid = TEST_UID};
    const char *row = layer->row != NULL ? layer->row : "audit";
    enum sp_err err = step_no_new_privs(NULL, NULL);
    if (err == SP_OK)
        err = layer->step(policy_row(row), &cage);
    if (err != SP_OK)
        tell(-(int)err, errno, "step failed");
    else
        tell(sandbox_probe(layer->probe), 0, "alive");
    leave(0);
}

static int errno_of(struct layer layer)
{
    struct report report = run_child(one_layer, &layer);
    if (report.said < 0 || strcmp(report.text, "alive") != 0)
        print_error("%s: killed %d, \"%s\" %d, errno %d\n", layer.probe, report.killed, report.text,
                    report.code, report.why);
    return report.said < 0 ? -100 : report.code;
}

static int needs_root(void)
{
    return geteuid() != 0;
}

static void landlock_denies_files(void **state)
{
    (void)state;
    assert_int_equal(errno_of((struct layer){.step = step_landlock, .probe = "open"}), EACCES);
    assert_int_equal(errno_of((struct layer){.step = step_landlock, .probe = "open-root"}), EACCES);
    assert_int_equal(errno_of((struct layer){.step = step_landlock, .probe = "read-state"}),
                     EACCES);
    assert_int_equal(errno_of((struct layer){.step = step_landlock, .probe = "execve"}), EACCES);
    assert_int_equal(errno_of((struct layer){.step = step_landlock, .probe = "mkdir"}), EACCES);
    assert_int_equal(errno_of((struct layer){.step = step_landlock, .probe = "ptrace"}), EPERM);
}

/* What the filter takes away, Landlock alone shall deny too: where this kernel's version can. */
static void scope_probes(void *ctx)
{
    (void)ctx;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(9)};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (step_no_new_privs(NULL, NULL) != SP_OK || step_landlock(policy_row("audit"), NULL) != SP_OK)
        leave(1);
    int abi = landlock_abi(), sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool refused = connect(sock, (struct sockaddr *)&in, sizeof(in)) != 0 && errno == EACCES;
    refused &= bind(sock, (struct sockaddr *)&in, sizeof(in)) != 0 && errno == EACCES;
    tell(abi < 4 || refused, 0, "network");
    bool kept = kill(getppid(), 0) != 0 && errno == EPERM;
    leave(abi < 6 || kept ? 0 : 2);
}

static void landlock_denies_network_and_signals(void **state)
{
    (void)state;
    struct report report = run_child(scope_probes, NULL);
    assert_int_equal(report.code, 1);
    assert_int_equal(report.exited, 0);
}

/* Relay and resolver: the ports that they were given. Nothing listens there: "refused" is the
 * network's word, EACCES that of the cage. */
static void port_probes(void *ctx)
{
    static const uint16_t granted[] = {9};
    struct cage cage = {.connect = granted, .n_connect = 1};
    struct sockaddr_in in = {.sin_family = AF_INET};
    int why[2];
    (void)ctx;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (step_no_new_privs(NULL, NULL) != SP_OK ||
        step_landlock(policy_row("relay"), &cage) != SP_OK)
        leave(1);
    for (int i = 0; i < 2; i++) {
        int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        in.sin_port = htons((uint16_t)(9 + i));
        why[i] = connect(sock, (struct sockaddr *)&in, sizeof(in)) == 0 ? 0 : errno;
    }
    tell(why[0] == ECONNREFUSED, why[1] == (landlock_abi() < 4 ? ECONNREFUSED : EACCES), "ports");
    leave(0);
}

static void landlock_grants_ports(void **state)
{
    (void)state;
    struct report report = run_child(port_probes, NULL);
    assert_int_equal(report.code, 1);
    assert_int_equal(report.why, 1);
    assert_int_equal(report.exited, 0);
}

/* The store: files below its root, nothing else. */
static void data_probes(void *ctx)
{
    const struct policy *row = policy_row("store");
    struct cage cage = {.root = *(int *)ctx, .uid = TEST_UID};
    if (step_no_new_privs(row, &cage) != SP_OK || step_root(row, &cage) != SP_OK ||
        step_landlock(row, &cage) != SP_OK)
        leave(1);
    int fd = open("/data.mdb", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    bool file = fd >= 0 && ftruncate(fd, 4096) == 0 && unlink("/data.mdb") == 0;
    bool others =
        mkdir("/d", 0700) == 0 || symlink("/etc", "/d") == 0 || mknod("/d", S_IFIFO, 0) == 0;
    tell(file, others, NULL);
}

static void landlock_grants_data(void **state)
{
    (void)state;
    if (needs_root())
        skip();
    char path[32];
    int root = empty_directory(path);
    struct report report = run_child(data_probes, &root);
    close(root);
    rmdir(path);
    assert_int_equal(report.exited, 0);
    assert_int_equal(report.code, 1);
    assert_int_equal(report.why, 0);
}

static void root_directory_hides_files(void **state)
{
    (void)state;
    if (needs_root())
        skip();
    char path[32];
    int root = empty_directory(path);
    struct layer layer = {.step = step_root, .root = root};
    static const char *const probes[] = {"open", "open-proc", "read-state", "stat", "execve"};
    for (size_t i = 0; i < sizeof(probes) / sizeof(*probes); i++) {
        layer.probe = probes[i];
        assert_int_equal(errno_of(layer), ENOENT);
    }
    close(root);
    rmdir(path);
}

static enum sp_err identity_and_capabilities(const struct policy *row, const struct cage *cage)
{
    enum sp_err err = step_identity(row, cage);
    if (err == SP_OK)
        err = step_capabilities(row, cage);
    return err == SP_OK ? step_identity_final(row, cage) : err;
}

static void identity_denies_privilege(void **state)
{
    (void)state;
    if (needs_root())
        skip();
    static const char *const probes[] = {"setuid", "setgroups", "chroot", "mount", "bpf"};
    struct layer layer = {.step = identity_and_capabilities};
    for (size_t i = 0; i < sizeof(probes) / sizeof(*probes); i++) {
        layer.probe = probes[i];
        assert_int_equal(errno_of(layer), EPERM);
    }
}

static void network_probes(void *ctx)
{
    (void)ctx;
    if (step_namespaces(policy_row("web"), NULL) != SP_OK)
        leave(1);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(9)};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = connect(sock, (struct sockaddr *)&in, sizeof(in));
    tell(rc, errno, NULL);
}

static void namespace_has_no_network(void **state)
{
    (void)state;
    if (needs_root())
        skip();
    struct report report = run_child(network_probes, NULL);
    assert_int_equal(report.code, -1);
    assert_int_equal(report.why, ENETUNREACH);
}

static void mdwe_denies_code(void **state)
{
    (void)state;
    struct layer layer = {.step = step_mdwe, .probe = "mmap-exec"};
    int got = errno_of(layer);
    if (got == 0)
        skip(); /* Linux before 6.3 */
    assert_int_equal(got, EACCES);
    layer.probe = "mprotect-exec";
    assert_int_equal(errno_of(layer), EACCES);
}

static void limit_probes(void *ctx)
{
    (void)ctx;
    const struct policy *row = policy_row("audit");
    if (step_limits(row, NULL) != SP_OK)
        leave(1);
    struct rlimit core, files;
    getrlimit(RLIMIT_CORE, &core);
    getrlimit(RLIMIT_NOFILE, &files);
    tell(core.rlim_max == 0 && files.rlim_max <= row->nofile, 0, NULL);
    if (geteuid() == 0 && (setresuid(TEST_UID, TEST_UID, TEST_UID) != 0))
        leave(2);
    leave(fork() < 0 && errno == EAGAIN ? 0 : 3);
}

static void limits_bind(void **state)
{
    (void)state;
    struct report report = run_child(limit_probes, NULL);
    assert_int_equal(report.code, 1);
    assert_int_equal(report.exited, 0);
}

static void descriptor_probes(void *ctx)
{
    (void)ctx;
    int root = open("/", O_PATH | O_CLOEXEC), other = fcntl(root, F_DUPFD_CLOEXEC, 100);
    int last = fcntl(root, F_DUPFD_CLOEXEC, 200);
    const int keep[] = {last, FD_TELL, last};
    struct cage cage = {.keep = keep, .n_keep = 3, .root = root};
    enum sp_err err = step_descriptors(NULL, &cage);
    bool right = fcntl(FD_PEER, F_GETFD) < 0 && fcntl(other, F_GETFD) < 0 &&
                 fcntl(root, F_GETFD) >= 0 && fcntl(last, F_GETFD) >= 0 && fcntl(0, F_GETFD) >= 0;
    tell(err == SP_OK && right, 0, NULL);
}

static void descriptors_are_closed(void **state)
{
    (void)state;
    assert_int_equal(run_child(descriptor_probes, NULL).code, 1);
}

/* --- The supervisor's filter, which all inherit. --- */

static void supervisor_probe(void *ctx)
{
    const char *step;
    if (sandbox_supervisor(false, &step) != SP_OK)
        leave(1);
    tell(sandbox_probe(ctx), 0, NULL);
}

static void supervisor_refuses_what_nobody_needs(void **state)
{
    (void)state;
    if (needs_root())
        skip();
    static const char *const probes[] = {"ptrace",   "process-vm-readv", "pidfd-getfd",   "bpf",
                                         "io-uring", "userfaultfd",      "perf",          "keyctl",
                                         "mount",    "unshare",          "clone-newuser", "setns",
                                         "module"};
    for (size_t i = 0; i < sizeof(probes) / sizeof(*probes); i++) {
        char name[32];
        snprintf(name, sizeof(name), "%s", probes[i]);
        assert_int_equal(run_child(supervisor_probe, name).killed, SIGSYS);
    }
    char clone3[] = "clone3";
    assert_int_equal(run_child(supervisor_probe, clone3).code, ENOSYS);
}

/* --- What is missing is fatal, and named. --- */

struct failure {
    const char *step; /* that must be named */
    int why;          /* errno */
    bool no_process_namespace, writable, full, unprivileged;
    int bad_fd;
    uid_t uid; /* 0: TEST_UID */
    int hide;  /* a system call that this kernel shall not have */
    int hide_arg;
    enum sp_err prepare;
    const char *row;
};

struct attempt {
    const struct failure *failure;
    int root;
};

/* A kernel without a system call, or without one of its functions. */
static void hide(int nr, int arg)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    struct scmp_arg_cmp first = {0, SCMP_CMP_EQ, (scmp_datum_t)arg, 0};
    uint32_t action = SCMP_ACT_ERRNO(arg != 0 ? EINVAL : ENOSYS);
    if (filter == NULL || seccomp_rule_add_array(filter, action, nr, arg != 0, &first) != 0 ||
        seccomp_load(filter) != 0)
        leave(50);
}

static enum sp_err prepare_with(void *ctx)
{
    const struct failure *failure = ctx;
    errno = failure->why;
    return failure->prepare;
}

static void attempt_role(const struct attempt *attempt)
{
    const struct failure *f = attempt->failure;
    const int keep[] = {FD_PEER, FD_TELL, f->bad_fd != 0 ? f->bad_fd : FD_TELL};
    const char *step = "";
    struct sandbox_layers layers = {0, false};
    struct cage cage = {.keep = keep,
                        .n_keep = 3,
                        .root = attempt->root,
                        .uid = f->uid == (uid_t)-1 ? 0 : TEST_UID,
                        .prepare = prepare_with,
                        .ctx = (void *)(uintptr_t)f};
    if (f->hide != 0)
        hide(f->hide, f->hide_arg);
    if (f->unprivileged && setresuid(TEST_UID, TEST_UID, TEST_UID) != 0)
        leave(51);
    enum sp_err err = sandbox_enter(policy_row(f->row != NULL ? f->row : "audit"), &cage, &step);
    int why = errno;
    sandbox_layers(&layers);
    tell((int)err, err == SP_OK ? layers.mdwe : why, step);
    leave(0);
}

static void attempt_start(void *ctx)
{
    const struct attempt *attempt = ctx;
    if (!attempt->failure->no_process_namespace && unshare(CLONE_NEWPID) != 0)
        leave(52);
    pid_t pid = fork();
    if (pid == 0)
        attempt_role(attempt);
    exit_like(pid);
}

static struct report attempt_once(const struct failure *failure)
{
    char path[32];
    int root = empty_directory(path);
    struct attempt attempt = {failure, root};
    if (failure->writable && fchmod(root, 0775) != 0)
        abort();
    if (failure->full && mkdirat(root, "file", 0700) != 0)
        abort();
    struct report report = run_child(attempt_start, &attempt);
    unlinkat(root, "file", AT_REMOVEDIR);
    close(root);
    rmdir(path);
    return report;
}

static void failures_are_named(void **state)
{
    (void)state;
    if (needs_root())
        skip();
    static const struct failure failures[] = {
        {.step = "descriptors", .why = EBADF, .bad_fd = 77},
        {.step = "process namespace", .why = ECHILD, .no_process_namespace = true},
        {.step = "namespaces", .why = EPERM, .unprivileged = true},
        {.step = "root directory", .why = EPERM, .writable = true},
        {.step = "root directory", .why = ENOTEMPTY, .full = true},
        {.step = "policy", .why = EINVAL, .uid = (uid_t)-1},
        {.step = "Landlock", .why = ENOSYS, .hide = SCMP_SYS(landlock_create_ruleset)},
        {.step = "Landlock", .why = ENOSYS, .hide = SCMP_SYS(landlock_restrict_self)},
        {.step = "prepare", .why = ENOSPC, .prepare = SP_ERR_NO_SPACE},
        {.step = "no_new_privs", .why = EINVAL, .hide = SCMP_SYS(prctl), .hide_arg = 38},
        {.step = "dumpable", .why = EINVAL, .hide = SCMP_SYS(prctl), .hide_arg = PR_SET_DUMPABLE},
        {.step = "system call filter", .why = ENOSYS, .hide = SCMP_SYS(seccomp)},
        {.step = "policy", .why = EINVAL, .row = "session"},
        {.step = "policy", .why = EINVAL, .row = "supervisor"},
    };
    for (size_t i = 0; i < sizeof(failures) / sizeof(*failures); i++) {
        struct report report = attempt_once(&failures[i]);
        if (report.why != failures[i].why)
            print_error("%zu: errno %d, exit %d\n", i, report.why, report.exited);
        assert_string_equal(report.text, failures[i].step);
        assert_int_equal(report.why, failures[i].why);
        assert_int_not_equal(report.code, SP_OK);
    }
}

/* The one layer that a kernel may lack; and it says so. */
static void mdwe_may_be_absent(void **state)
{
    (void)state;
    if (needs_root())
        skip();
    struct failure absent = {.hide = SCMP_SYS(prctl), .hide_arg = 65};
    struct report report = attempt_once(&absent);
    assert_int_equal(report.code, SP_OK);
    assert_int_equal(report.why, 0);
    struct failure nothing = {.step = NULL};
    report = attempt_once(&nothing);
    assert_int_equal(report.code, SP_OK);
    assert_int_equal(report.exited, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(landlock_denies_files),
        cmocka_unit_test(landlock_denies_network_and_signals),
        cmocka_unit_test(landlock_grants_ports),
        cmocka_unit_test(landlock_grants_data),
        cmocka_unit_test(root_directory_hides_files),
        cmocka_unit_test(identity_denies_privilege),
        cmocka_unit_test(namespace_has_no_network),
        cmocka_unit_test(mdwe_denies_code),
        cmocka_unit_test(limits_bind),
        cmocka_unit_test(descriptors_are_closed),
        cmocka_unit_test(supervisor_refuses_what_nobody_needs),
        cmocka_unit_test(failures_are_named),
        cmocka_unit_test(mdwe_may_be_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
