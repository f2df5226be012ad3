#ifndef SEALPOST_DOOR_H
#define SEALPOST_DOOR_H
/*
 * The door: the one process in the host's network. It makes sockets and hands them on, unconnected,
 * through channels (SEQPACKET) that are kept full: each message is one byte and one socket. Whoever
 * needs a socket takes a message; nothing is ever said to the door, so that there is nothing by
 * which it could be attacked.
 *
 *   channels.c  which there are              filling.c  keeping them full
 *   door.c      the role in the tree          unit.c     the same as a service of its own
 *   sockets.c   the other side: taking one (sockets.h)
 */
#include "daemon/role.h"

#include <stddef.h>
#include <stdint.h>

struct config;

/* Whose each channel is, and the number of its end there. */
struct door_channel {
    enum role_id to;
    int at;
    int family, type;
};

/* Behind the files of the relay and the resolver. */
#define DOOR_AT       (FD_EXTRA + 2)
#define DOOR_CHANNELS 6u
extern const struct door_channel door_channels[DOOR_CHANNELS];

/* Few wait in a channel, which is refilled when most of them are gone: sockets that wait are open
 * files, and the kernel lets a user have only so many under way. For an end that is written. */
enum sp_err door_bound(int end);

struct door_filling;
/* Keeps the channels full from the loop on; their ends become the filling's (closed, too, if there
 * is no memory: NULL). A kind of socket that the system does not have is told by closing its
 * channel. */
struct door_filling *door_fill(struct event_base *base, const int ends[DOOR_CHANNELS]);
void door_fill_end(struct door_filling *filling);
/* Sockets made since the start. */
uint64_t door_made(void);

/* As a service (sealpost-door.service): opens the listeners of the configuration, then hands them
 * and channels to every supervisor that connects to the socket at path. The exit status. */
int door_unit_main(const char *path, const struct config *config);

#endif
