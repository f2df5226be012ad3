#ifndef SEALPOST_DOOR_SOCKETS_H
#define SEALPOST_DOOR_SOCKETS_H
/*
 * Sockets of a process that may make none itself: it takes those that the door has made. Where
 * door_use() was not called (the supervisor, programs without a door) they are the system's.
 */
#include <stddef.h>

struct door_source {
    int family, type, channel;
};

/* From now on. sources stay the caller's. */
void door_use(const struct door_source *sources, size_t n);

/* As socket(2), but that what comes from the door is always close-on-exec. Without waiting, with
 * EAGAIN, if none is there at the moment: poll(2) the channel for POLLIN and try again.
 * EAFNOSUPPORT: no such socket is to be had, from the door or at all. */
int door_socket(int family, int type, int protocol);
/* Its channel; -1: there is none. */
int door_channel(int family, int type);

#endif
