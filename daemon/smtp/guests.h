#ifndef SEALPOST_SMTP_GUESTS_H
#define SEALPOST_SMTP_GUESTS_H
/*
 * Which clients are held off for a while because a session of theirs crashed (SMTP.md, Abuse).
 * Sessions are forks of one image: whoever may crash them again and again learns its layout byte by
 * byte.
 */
#include "daemon/guest.h"

#include <stdbool.h>
#include <stdint.h>

#define GUESTS_HELD    256u /* the longest held of them are remembered */
#define GUESTS_DOUBLES 6u   /* times that the hold doubles, from crash to crash */

struct guests {
    uint64_t hold_ms; /* after a first crash; 0: nobody is held off */
    uint64_t crashes; /* in all */
    struct held {
        char key[GUEST_TEXT];
        unsigned crashes;
        uint64_t until_ms, forget_ms;
    } held[GUESTS_HELD];
};

/* A session of this client died of a signal that its own doing may have brought about. */
void guests_crashed(struct guests *g, const char *key, uint64_t now_ms);
bool guests_held(const struct guests *g, const char *key, uint64_t now_ms);
/* Whether a signal tells of a crash: not those that operators and we ourselves send. */
bool guests_is_crash(int signal);

#endif
