#ifndef SEALPOST_STORAGE_HISTORIES_H
#define SEALPOST_STORAGE_HISTORIES_H
/*
 * Key histories as they were last read, so that logins that somebody makes up do not have the store
 * read them again and again.
 *
 * A table in sets. In each, the one that was asked for least recently gives way: as long as no more
 * users of one set are asked for at a time than it has places, none of them is read twice.
 */
#include "envelope/sigchain.h"

#define HISTORY_SETS 64u
#define HISTORY_WAYS 4u

struct history {
    uint64_t user, asked; /* user 0: free */
    struct sigchain chain;
};

/* All zero: none is known. */
struct histories {
    uint64_t asked; /* so often, in all */
    struct history place[HISTORY_SETS][HISTORY_WAYS];
};

/* The place of a user (by number, from 1), for the caller to fill if its head is not the user's
 * newest: it may be older, or empty (sigchain_init) if it was another's. Good until the next call.
 */
struct sigchain *histories_of(struct histories *h, uint64_t user);

#endif
