#ifndef SEALPOST_STORAGE_RATION_H
#define SEALPOST_STORAGE_RATION_H
/*
 * Public-key work that users cause, so that one of them does not starve incoming mail. Each has a
 * ration of his own, which only what he has proved is taken from: a session's token, a device's
 * signature, the code of an invitation. So a stranger who knows a user has no way to use it up.
 *
 * A table in sets, for as many users at a time as there is room for. Who has most left gives way,
 * and finds the whole ration when he comes back: that is one who has been idle, or one of nine who
 * are busy in the same half second.
 */
#include <stdbool.h>
#include <stdint.h>

#define RATION_BURST 100u /* signatures verified at once for one user ... */
#define RATION_MS    5u   /* ... and milliseconds until one more is */
#define RATION_SETS  128u
#define RATION_WAYS  8u

struct ration {
    uint64_t user, at_ms; /* user 0: free */
    uint32_t left;        /* at that time */
};

/* All zero: nobody has used any. */
struct rations {
    struct ration place[RATION_SETS][RATION_WAYS];
};

/* Takes so many signatures (RATION_BURST at most) from what the user (by number, from 1) has left;
 * false, and nothing taken, if that is less. now_ms: of a clock that does not go back. */
bool rations_take(struct rations *r, uint64_t now_ms, uint64_t user, uint32_t signatures);

#endif
