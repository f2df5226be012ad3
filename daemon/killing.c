/* How the supervisor ends a role that does not end by itself. */
#include "daemon/supervisor.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Who shares a role's real uid may end it: for this moment the supervisor does, and so it needs no
 * power over all processes of the machine (CAP_KILL). The role, first of a process namespace and of
 * a session of its own, has no name for the supervisor to signal it in turn. In user mode they
 * share a uid anyway. */
void supervisor_kill(const struct supervisor *s, enum role_id r)
{
    uid_t own = getuid();
    if (!s->user_mode && setresuid(s->uid[r], (uid_t)-1, (uid_t)-1) != 0)
        dprintf(STDERR_FILENO, "sealpostd: cannot become a role to end it\n");
    if (kill(s->child[r].pid, SIGKILL) != 0 && errno != ESRCH)
        dprintf(STDERR_FILENO, "sealpostd: cannot end a role\n");
    if (setresuid(own, (uid_t)-1, (uid_t)-1) != 0)
        abort();
}
