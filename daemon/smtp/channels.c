/* The far ends of sessions' channels, in the hands of their parent until somebody needs them. It
 * passes sockets on and reads none: what waits in them is a session's, which may be taken over. */
#include "daemon/smtp/channels.h"
#include "daemon/messages.h"

#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static enum sp_err hand_on(const struct client_channels *c, enum role_id to, int end)
{
    uint8_t buf[128];
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_u32(&body, c->id);
    wire_put_str(&body, c->name);
    return ipc_send_fd(ROLE_FD(to), SP_SESSION, 0, body.at, body.len, end);
}

static void tell_gone(const struct client_channels *c, enum role_id to)
{
    uint8_t buf[4];
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_u32(&body, c->id);
    if (ipc_send_fd(ROLE_FD(to), SP_SESSION_GONE, 0, body.at, body.len, -1) != SP_OK)
        _exit(1); /* a role is gone: the tree comes down */
}

static void forget(struct knock *k)
{
    if (k->event == NULL)
        return;
    event_free(k->event);
    k->event = NULL;
    close(k->end);
}

static void on_knock(evutil_socket_t fd, short what, void *arg)
{
    struct knock *k = arg;
    (void)what;
    /* It may fail because of what the session has sent: too many descriptors of our uid on their
     * way (ETOOMANYREFS). That is its own end, and nobody else's. */
    if (hand_on(k->of, k->to, fd) == SP_OK)
        k->used = true;
    else
        kill(*k->of->pid, SIGKILL);
    forget(k);
}

static enum sp_err open_late(struct client_channels *c, struct event_base *base, enum role_id to,
                             struct knock *k, int *ours)
{
    int pair[2];
    enum sp_err err = ipc_pair(pair);
    if (err != SP_OK)
        return err;
    *ours = pair[0];
    *k = (struct knock){.of = c, .to = to, .end = pair[1]};
    k->event = event_new(base, pair[1], EV_READ, on_knock, k);
    if (k->event == NULL || event_add(k->event, NULL) != 0)
        _exit(1); /* no memory for a few bytes: a fresh tree is better */
    return SP_OK;
}

enum sp_err channels_open(struct client_channels *c, struct event_base *base, bool resolver,
                          struct channels *ours)
{
    int sealer[2];
    *ours = (struct channels){-1, -1, -1};
    c->keeper = c->resolver = (struct knock){0};
    enum sp_err err = ipc_pair(sealer);
    if (err != SP_OK)
        return err;
    err = hand_on(c, ROLE_SEALER, sealer[1]);
    close(sealer[1]);
    ours->sealer = sealer[0];
    if (err != SP_OK) {
        close(sealer[0]);
        return err;
    }
    err = open_late(c, base, ROLE_KEEPER, &c->keeper, &ours->keeper);
    if (err == SP_OK && resolver)
        err = open_late(c, base, ROLE_RESOLVER, &c->resolver, &ours->resolver);
    if (err != SP_OK) {
        close(ours->sealer);
        if (ours->keeper >= 0)
            close(ours->keeper);
        channels_end(c);
    }
    return err;
}

void channels_forget_keeper(struct client_channels *c)
{
    forget(&c->keeper);
}

void channels_end(struct client_channels *c)
{
    tell_gone(c, ROLE_SEALER);
    if (c->keeper.used)
        tell_gone(c, ROLE_KEEPER);
    if (c->resolver.used)
        tell_gone(c, ROLE_RESOLVER);
    forget(&c->keeper);
    forget(&c->resolver);
}
