#ifndef SEALPOST_SWAP_H
#define SEALPOST_SWAP_H
/* Where the kernel swaps to, and whether what it puts there can be read once the machine is off. */
#include <stdbool.h>

#define SWAP_NAME 256 /* bytes, NUL included; longer ones are cut */

enum swap_kind {
    SWAP_FILE,      /* a file, on whatever */
    SWAP_PLAIN,     /* a device that encrypts nothing, or that is not known to */
    SWAP_ZRAM,      /* compressed, in memory alone */
    SWAP_ZRAM_DISK, /* zram that writes back to a device */
    SWAP_CRYPT      /* dm-crypt, or devices that all lie on it (LVM) */
};

struct swap {
    char name[SWAP_NAME];
    enum swap_kind kind;
};

/* The next line of a text like /proc/swaps, from *at on, which moves; the heading is passed over.
 * block: a folder like /sys/class/block, which says what a device is made of. What is not known is
 * plain. False: there is no more. */
bool swap_next(const char **at, const char *block, struct swap *out);

#endif
