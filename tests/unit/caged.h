#ifndef SEALPOST_TEST_CAGED_H
#define SEALPOST_TEST_CAGED_H
/*
 * For tests of sandbox/: runs a function in a forked child, as the supervisor would start a role,
 * and tells what became of it. Nothing in the child may fail a cmocka assertion: it says what it
 * saw in its report and ends with leave().
 */
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEST_UID 59300u
#define FD_PEER  3 /* a connected socket, as every role has one there */
#define FD_TELL  4 /* where the child writes its report */

struct report {
    int exited;    /* the child's exit status, or -1 */
    int killed;    /* the signal that ended the child, or the role below it, or 0 */
    int said;      /* bytes of text, or -1 if the child said nothing */
    int code;      /* its first number: an errno, an sp_err */
    int why;       /* its second: errno */
    char text[64]; /* its word: a step */
};

typedef void child_fn(void *ctx);

/* Not _exit(), nor declared _Noreturn: in both cases the sanitizers do what no filter allows. */
static inline void leave(int code)
{
    syscall(SYS_exit_group, code);
}

static inline void tell(int code, int why, const char *text)
{
    struct report report = {.code = code, .why = why};
    if (text != NULL)
        strncpy(report.text, text, sizeof(report.text) - 1);
    if (write(FD_TELL, &report, sizeof(report)) != (ssize_t)sizeof(report))
        leave(99);
}

/* Puts a socket at FD_PEER and the report's pipe at FD_TELL; both are moved out of the way first.
 */
static inline void child_descriptors(int peer, int pipe_end)
{
    int a = fcntl(peer, F_DUPFD_CLOEXEC, 20), b = fcntl(pipe_end, F_DUPFD_CLOEXEC, 20);
    if (a < 0 || b < 0 || dup2(a, FD_PEER) != FD_PEER || dup2(b, FD_TELL) != FD_TELL)
        leave(98);
}

/* In a child that waited for one of its own: ends as that one did. */
static inline void exit_like(pid_t pid)
{
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        leave(97);
    leave(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

/* watch, if not NULL, is called once the child has reported; then FD_PEER's other end is closed. */
static inline struct report run_child_watched(child_fn *fn, void *ctx,
                                              void (*watch)(pid_t pid, int peer, void *ctx))
{
    struct report report = {.said = -1};
    int status;
    int ends[2], pair[2];
    if (pipe2(ends, O_CLOEXEC) != 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        abort();
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        close(ends[0]);
        child_descriptors(pair[1], ends[1]);
        fn(ctx);
        leave(0);
    }
    close(ends[1]);
    close(pair[1]);
    struct report got;
    if (read(ends[0], &got, sizeof(got)) == (ssize_t)sizeof(got)) {
        report = got;
        report.said = (int)strlen(got.text);
    }
    close(ends[0]);
    if (watch != NULL && report.said >= 0)
        watch(pid, pair[0], ctx);
    close(pair[0]);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        abort();
    report.exited = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    report.killed = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (report.exited > 128)
        report.killed = report.exited - 128;
    return report;
}

static inline struct report run_child(child_fn *fn, void *ctx)
{
    return run_child_watched(fn, ctx, NULL);
}

/* An empty directory that nobody else may write. */
static inline int empty_directory(char path[32])
{
    static const char name[32] = "/tmp/sealpost-cage-XXXXXX";
    memcpy(path, name, sizeof(name));
    if (mkdtemp(path) == NULL || chmod(path, 0755) != 0)
        abort();
    int low = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = fcntl(low, F_DUPFD_CLOEXEC, 30); /* out of the way of FD_PEER and FD_TELL */
    close(low);
    return fd;
}

#endif
