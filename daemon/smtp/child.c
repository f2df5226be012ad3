/* What a session's process does before it reads its first byte. Up to there it is trusted; then it
 * belongs to whoever is at the other end. */
#include "daemon/forked.h"
#include "daemon/smtp/child.h"
#include "daemon/smtp/session.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct session session; /* untouched pages in the parent */

/* Its channels' numbers. */
enum { CHILD_CLIENT = FORKED_FIRST, CHILD_SEALER, CHILD_KEEPER, CHILD_RESOLVER };

_Noreturn void child_run(const struct child *c)
{
    const int channels[] = {c->connection, c->channels.sealer, c->channels.keeper,
                            c->channels.resolver};
    bool asks = c->channels.resolver >= 0;
    stream_watch_signals();
    forked_keep(channels, sizeof(channels) / sizeof(channels[0]) - !asks);
    /* A chunk of BDAT comes in one read with commands. Locked as it is touched. */
    if (mlock2(&session, sizeof(session), MLOCK_ONFAULT) != 0)
        _exit(73);
    forked_filter(c->filter);
    /* All zero from the start, and most of it never touched: no page is written that need not be.
     */
    session.config = c->config;
    session.tls = c->tls;
    session.keeper = CHILD_KEEPER;
    session.id = c->id;
    session.lmtp = c->lmtp;
    session.stream.fd = CHILD_CLIENT;
    session.upstream.sock = CHILD_SEALER;
    session.sender.channel = asks ? CHILD_RESOLVER : -1;
    memcpy(session.client, c->client, strnlen(c->client, sizeof(session.client) - 1));
    session_run(&session);
    _exit((int)session.end);
}
