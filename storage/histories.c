/* Which histories are remembered. */
#include "storage/histories.h"

/* The user's own place, or the one that gives way for him. */
static struct history *place_of(struct histories *h, uint64_t user)
{
    struct history *set = h->place[user % HISTORY_SETS], *oldest = set;
    for (uint32_t i = 0; i < HISTORY_WAYS; i++) {
        if (set[i].user == user)
            return &set[i];
        if (set[i].asked < oldest->asked)
            oldest = &set[i];
    }
    oldest->user = user;
    sigchain_init(&oldest->chain);
    return oldest;
}

struct sigchain *histories_of(struct histories *h, uint64_t user)
{
    struct history *place = place_of(h, user);
    place->asked = ++h->asked;
    return &place->chain;
}
