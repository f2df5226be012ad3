/* A process for one look (aside.h). */
#include "daemon/aside.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void run_child(enum sp_err (*look)(void *ctx), void *ctx)
{
    mlockall(MCL_CURRENT | MCL_FUTURE); /* fails where little may be locked: it lives for ms */
    _exit((int)look(ctx));
}

enum sp_err aside(enum sp_err (*look)(void *ctx), void *ctx)
{
    int status;
    pid_t got, pid = fork();
    if (pid < 0)
        return SP_ERR_SYSTEM;
    if (pid == 0)
        run_child(look, ctx);
    do
        got = waitpid(pid, &status, 0);
    while (got < 0 && errno == EINTR);
    if (got != pid || !WIFEXITED(status) || WEXITSTATUS(status) >= SP_ERR_COUNT)
        return SP_ERR_SYSTEM;
    return (enum sp_err)WEXITSTATUS(status);
}
