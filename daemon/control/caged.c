/* A process in a cage (caged.h). What comes back from it is one number. */
#include "daemon/control/caged.h"
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct caged {
    const char *folder;
    int dir, keep, null, answer[2];
    int (*work)(void *ctx);
    void *ctx;
};

static enum sp_err fail(const struct caged *c, const char *what, const char *why)
{
    fprintf(stderr, "sealpostctl: %s: %s%s\n", c->folder, what, why);
    return SP_ERR_SYSTEM;
}

/* The last word on stderr has been said: from here on it may be the store's. */
static enum sp_err let_go_of_stderr(void *ctx)
{
    const struct caged *c = ctx;
    return dup2(c->null, STDERR_FILENO) >= 0 ? SP_OK : SP_ERR_SYSTEM;
}

static enum sp_err enter(struct caged *c, const char **step)
{
    const int keep[] = {c->null, c->answer[1], c->keep};
    bool user_mode = geteuid() != 0;
    struct stat st;
    *step = "descriptors";
    if (setsid() < 0 || fstat(c->dir, &st) != 0 || dup2(c->null, STDIN_FILENO) < 0 ||
        dup2(c->null, STDOUT_FILENO) < 0)
        return SP_ERR_SYSTEM;
    *step = "user namespace";
    if (user_mode && sandbox_user_namespace() != SP_OK)
        return SP_ERR_SYSTEM;
    const struct cage cage = {.keep = keep,
                              .n_keep = c->keep >= 0 ? 3 : 2,
                              .root = c->dir,
                              .user_mode = user_mode,
                              .uid = st.st_uid,
                              .prepare = let_go_of_stderr,
                              .ctx = c};
    return sandbox_backup(&cage, step);
}

static _Noreturn void run_child(struct caged *c)
{
    const char *step;
    if (enter(c, &step) != SP_OK) {
        fail(c, step, " cannot be put on: it is not read without a cage");
        _exit(1);
    }
    int result = c->work(c->ctx);
    _exit(write(c->answer[1], &result, sizeof(result)) == sizeof(result) ? 0 : 1);
}

static enum sp_err hear(const struct caged *c, pid_t pid, int *result)
{
    int status;
    pid_t got;
    ssize_t n = read(c->answer[0], result, sizeof(*result));
    do
        got = waitpid(pid, &status, 0);
    while (got < 0 && errno == EINTR);
    if (got == pid && WIFSIGNALED(status))
        return fail(c, "the process that read it died: ", strsignal(WTERMSIG(status)));
    return got == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0 && n == sizeof(*result)
               ? SP_OK
               : SP_ERR_SYSTEM;
}

static void shut(const struct caged *c)
{
    const int all[] = {c->dir, c->null, c->answer[0], c->answer[1]};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (all[i] >= 0)
            close(all[i]);
}

enum sp_err caged_in(const char *folder, int keep, int (*work)(void *ctx), void *ctx, int *result)
{
    struct caged c = {.folder = folder, .keep = keep, .answer = {-1, -1}, .work = work, .ctx = ctx};
    enum sp_err err = SP_ERR_SYSTEM;
    c.dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    c.null = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool ready = c.dir >= 0 && c.null >= 0 && pipe2(c.answer, O_CLOEXEC) == 0;
    pid_t pid = ready ? fork() : -1;
    if (pid == 0)
        run_child(&c);
    if (pid < 0) {
        fail(&c, "", strerror(errno));
    } else {
        close(c.answer[1]);
        c.answer[1] = -1;
        err = hear(&c, pid, result);
    }
    shut(&c);
    return err;
}
