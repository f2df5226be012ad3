/* A process in the store's cage (caged.h). */
#include "daemon/control/caged.h"
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail(const char *folder, const char *what, const char *why)
{
    fprintf(stderr, "sealpostctl: %s: %s%s\n", folder, what, why);
    return 1;
}

static _Noreturn void run_child(const char *folder, int dir, int keep, int (*work)(void *ctx),
                                void *ctx)
{
    struct stat st;
    const char *step = "user namespace";
    bool user_mode = geteuid() != 0;
    enum sp_err err = fstat(dir, &st) == 0 ? SP_OK : SP_ERR_SYSTEM;
    if (err == SP_OK && user_mode)
        err = sandbox_user_namespace();
    struct cage cage = {
        .keep = &keep, .n_keep = keep >= 0, .root = dir, .user_mode = user_mode, .uid = st.st_uid};
    if (err == SP_OK)
        err = sandbox_store_reader(&cage, &step);
    if (err != SP_OK)
        _exit(fail(folder, step, " cannot be put on: it is not read without a cage"));
    _exit(work(ctx));
}

int caged_in(const char *folder, int keep, int (*work)(void *ctx), void *ctx)
{
    int status, dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (dir < 0)
        return fail(folder, "", strerror(errno));
    pid_t got, pid = fork();
    if (pid == 0)
        run_child(folder, dir, keep, work, ctx);
    close(dir);
    if (pid < 0)
        return fail(folder, "", strerror(errno));
    do
        got = waitpid(pid, &status, 0);
    while (got < 0 && errno == EINTR);
    if (got == pid && WIFSIGNALED(status))
        return fail(folder, "the process that read it died: ", strsignal(WTERMSIG(status)));
    return got == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
