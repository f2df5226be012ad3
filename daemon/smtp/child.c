/* What a session's process does before it reads its first byte. Up to there it is trusted; then it
 * belongs to whoever is at the other end. */
#include "daemon/smtp/child.h"
#include "daemon/smtp/session.h"
#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct session session; /* untouched pages in the parent */

/* Everything but its three channels and stderr is closed; fixed numbers, so that the rest is a
 * range. */
enum { CHILD_CLIENT = 3, CHILD_SEALER, CHILD_KEEPER, CHILD_FIRST_CLOSED };

static void keep_channels(int client, int sealer, int keeper)
{
    const int from[] = {client, sealer, keeper};
    int high[3];
    for (int i = 0; i < 3; i++)
        if ((high[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 64)) < 0)
            _exit(71);
    for (int i = 0; i < 3; i++)
        if (dup2(high[i], CHILD_CLIENT + i) < 0)
            _exit(71);
    if (close_range(CHILD_FIRST_CLOSED, ~0u, 0) != 0)
        _exit(71);
}

_Noreturn void child_run(const struct child *c)
{
    signal(SIGCHLD, SIG_DFL);
    stream_watch_signals();
    keep_channels(c->connection, c->sealer, c->keeper);
    /* A chunk of BDAT comes in one read with commands. Locked as it is touched. */
    if (mlock2(&session, sizeof(session), MLOCK_ONFAULT) != 0)
        _exit(73);
    if (sandbox_install(c->filter) != SP_OK)
        _exit(72);
    /* All zero from the start, and most of it never touched: no page is written that need not be.
     */
    session.config = c->config;
    session.tls = c->tls;
    session.keeper = CHILD_KEEPER;
    session.id = c->id;
    session.lmtp = c->lmtp;
    session.stream.fd = CHILD_CLIENT;
    session.upstream.sock = CHILD_SEALER;
    memcpy(session.client, c->client, strnlen(c->client, sizeof(session.client) - 1));
    session_run(&session);
    _exit((int)session.end);
}
