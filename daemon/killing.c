/* How the supervisor ends a role that does not end by itself. */
#include "daemon/supervisor.h"

#include <errno.h>
#include <event2/event.h>
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

struct deaf {
    struct supervisor *s;
    enum role_id role;
    pid_t pid;
};

static void on_deaf(evutil_socket_t fd, short what, void *arg)
{
    struct deaf *d = arg;
    (void)fd;
    (void)what;
    if (d->s->child[d->role].pid == d->pid) {
        dprintf(STDERR_FILENO,
                "sealpostd: role %s has closed its channel and not ended; ending it\n",
                all_roles[d->role]->name);
        supervisor_kill(d->s, d->role);
    }
    free(d);
}

void supervisor_kill_deaf(struct supervisor *s, enum role_id r)
{
    const struct timeval second = {.tv_sec = 1};
    struct deaf *d = malloc(sizeof(*d));
    if (d != NULL)
        *d = (struct deaf){.s = s, .role = r, .pid = s->child[r].pid};
    if (d == NULL || event_base_once(s->base, -1, EV_TIMEOUT, on_deaf, d, &second) != 0) {
        free(d);
        supervisor_kill(s, r);
    }
}
