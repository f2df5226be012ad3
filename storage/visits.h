#ifndef SEALPOST_STORAGE_VISITS_H
#define SEALPOST_STORAGE_VISITS_H
/*
 * What tells a request for a link from the next block of one that is in the audit log already
 * (promise P12). Web says what it reads, and may lie: so a read counts as going on only where a
 * logged one stopped. Places are kept for as many readers as there is room for; one that was pushed
 * out, or was slow beyond VISIT_IDLE_MS, is logged once more.
 *
 * And how many requests for links that nobody ever made may be written down one by one: a stranger
 * can invent any number of ids.
 */
#include "envelope/keys.h"

#include <stdbool.h>
#include <stdint.h>

#define VISIT_ENVELOPE 0x10000u /* what is read; below it the number of a piece */
#define VISIT_ANYWHERE                                                                             \
    UINT64_MAX /* its length was asked for: the read that follows may begin                        \
                  where it likes */
#define VISIT_IDLE_MS 600000u
#define VISIT_SETS    64u
#define VISIT_WAYS    16u

#define VISIT_STRANGE_BURST 200u /* requests for unknown links that are logged at once ... */
#define VISIT_STRANGE_MS    200u /* ... and milliseconds until one more is */

struct visit {
    uint8_t link[ID_SIZE];
    uint32_t what;
    uint64_t offset, at_ms; /* at_ms 0: free */
};

/* All zero: nothing was read yet. now_ms: of a clock that does not go back, above 0. */
struct visits {
    struct visit place[VISIT_SETS][VISIT_WAYS];
    uint64_t strange_ms, strange; /* of the first that counts, and how many have been logged */
    uint64_t left_out;
};

/* Whether a read from offset goes on where a logged one stopped, which is taken out. */
bool visits_go_on(struct visits *v, uint64_t now_ms, const uint8_t link[ID_SIZE], uint32_t what,
                  uint64_t offset);
/* A logged read stopped here and may go on. */
void visits_stop(struct visits *v, uint64_t now_ms, const uint8_t link[ID_SIZE], uint32_t what,
                 uint64_t offset);
/* Whether a request for a link that nobody knows may be logged; if not, it is counted in left_out.
 */
bool visits_may_log(struct visits *v, uint64_t now_ms);
/* How many were left out since the last call; 0 as long as none may be logged again. */
uint64_t visits_left_out(struct visits *v, uint64_t now_ms);

#endif
