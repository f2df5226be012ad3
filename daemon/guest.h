#ifndef SEALPOST_GUEST_H
#define SEALPOST_GUEST_H
/* Who a client is, as far as its address tells: for the log, and for limits. */
#include <sys/socket.h>

#define GUEST_TEXT 64u

struct guest {
    char name[GUEST_TEXT]; /* "192.0.2.1" or "IPv6:2001:db8::1" */
    char key[GUEST_TEXT];  /* what limits count: an IPv6 client is its /64 */
};

struct guest guest_of(const struct sockaddr_storage *from);

#endif
