#ifndef SEALPOST_SMTP_CHANNELS_H
#define SEALPOST_SMTP_CHANNELS_H
/*
 * A session's channels: to the sealer, at once; to the keeper and the resolver when the session
 * first writes to them. Most sessions of a plaintext listener never sign, and many never ask.
 */
#include "daemon/role.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct event;

struct client_channels {
    uint32_t id;      /* the session */
    const char *name; /* the client's address; the caller's, as long as the session lives */
    const pid_t *pid; /* whom to end if a channel cannot be handed on */
    /* The far end of a channel that nobody reads yet. */
    struct knock {
        struct client_channels *of;
        enum role_id to;
        struct event *event; /* NULL: handed on, or never made */
        int end;
        bool used;
    } keeper, resolver;
};

/* The session's own ends; -1: there is none. */
struct channels {
    int sealer, keeper, resolver;
};

/* Makes them all, or none. resolver: whether that edge exists. */
enum sp_err channels_open(struct client_channels *c, struct event_base *base, bool resolver,
                          struct channels *ours);
/* The keeper has another key now: who has not used the channel shall not sign with it. */
void channels_forget_keeper(struct client_channels *c);
/* The session's process is dead, or was never begun: tells those who know of it. */
void channels_end(struct client_channels *c);

#endif
