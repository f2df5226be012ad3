#ifndef SEALPOST_NOTIFY_H
#define SEALPOST_NOTIFY_H
/* sd_notify(3)'s protocol: a datagram for each word, where there is a service manager. */
#include <sys/time.h>

/* Connected to it, for words that are said when nothing can be opened any more: each is one write.
 * -1: there is none, or it cannot be reached (errno; 0 if there is none). */
int notify_open(void);
/* One word, now. */
void notify_say(const char *state);
/* How often the service manager's watchdog is to be fed: twice in the time it allows; 0: never. */
struct timeval notify_every(void);

#endif
