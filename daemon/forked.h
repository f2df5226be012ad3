#ifndef SEALPOST_FORKED_H
#define SEALPOST_FORKED_H
/* What a process does first that a role's parent has forked for one session or one delivery: it
 * lets go of all that is not its own. No step may fail: the process ends instead. */
#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>

#define FORKED_FIRST    3 /* channels[0] lies here, channels[1] behind it, ... */
#define FORKED_CHANNELS 5u

/* Keeps 0 to 2 and these channels, at fixed numbers, so that the rest can be closed as a range. */
void forked_keep(const int *channels, size_t n);
/* Its own filter, which the parent has compiled. */
void forked_filter(const struct sock_fprog *filter);

/* Whether a signal tells of a crash: not those that operators and we ourselves send. */
bool forked_is_crash(int signal);

#endif
