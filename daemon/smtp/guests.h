#ifndef SEALPOST_SMTP_GUESTS_H
#define SEALPOST_SMTP_GUESTS_H
/*
 * Who a client is, for limits and for the log, and which of them are held off for a while because a
 * session of theirs crashed (SMTP.md, Abuse). Sessions are forks of one image: whoever may crash
 * them again and again learns its layout byte by byte.
 */
#include "daemon/smtp/session.h"

#include <stdbool.h>
#include <sys/socket.h>

#define GUESTS_HELD    256u /* the longest held of them are remembered */
#define GUESTS_DOUBLES 6u   /* times that the hold doubles, from crash to crash */

struct guest {
    char name[SESSION_CLIENT]; /* "192.0.2.1" or "IPv6:2001:db8::1" */
    char key[SESSION_CLIENT];  /* what limits count: an IPv6 client is its /64 */
};

struct guests {
    uint64_t hold_ms; /* after a first crash; 0: nobody is held off */
    uint64_t crashes; /* in all */
    struct held {
        char key[SESSION_CLIENT];
        unsigned crashes;
        uint64_t until_ms, forget_ms;
    } held[GUESTS_HELD];
};

struct guest guest_of(const struct sockaddr_storage *from);
/* A session of this client died of a signal that its own doing may have brought about. */
void guests_crashed(struct guests *g, const char *key, uint64_t now_ms);
bool guests_held(const struct guests *g, const char *key, uint64_t now_ms);
/* Whether a signal tells of a crash: not those that operators and we ourselves send. */
bool guests_is_crash(int signal);

#endif
