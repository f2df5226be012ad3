#ifndef SEALPOST_STORAGE_SHARE_H
#define SEALPOST_STORAGE_SHARE_H
/* Places that all users want, and that nobody may fill alone. */
#include <stdbool.h>
#include <stddef.h>

#define SHARE 3u /* of what is free */

/* Whether one who holds `mine` of max places, `used` of which are taken, may take `more`: whoever
 * has none takes what is free; others never come to hold more than SHARE times what was free. One
 * user alone so gets three quarters, the next of the rest, and some are left for the one after. */
static inline bool share_allows(size_t mine, size_t more, size_t used, size_t max)
{
    return used <= max && more <= max - used && (mine == 0 || mine + more <= SHARE * (max - used));
}

#endif
