#ifndef SEALPOST_INPLACE_H
#define SEALPOST_INPLACE_H
/*
 * Does the file system overwrite in place? The slots file depends on it: elsewhere an erased key
 * may stay on the disk. Known to do so: ext2, ext3 and ext4 (but with data=journal), xfs, tmpfs.
 * All others are taken not to: btrfs, zfs, f2fs and overlayfs write elsewhere, of a network's or a
 * user-space file system nothing is known.
 *
 * xfs copies on write what is shared: only if somebody makes a reflink copy of the slots file, and
 * such a copy holds the keys anyway, as any backup does. What lies below a file system (snapshots
 * of a volume, the flash of a disk) cannot be seen from here.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inplace {
    bool holds;
    char name[32];   /* of the file system */
    const char *why; /* if it does not hold: a few words */
};

/* For the file system of an open file; what cannot be found out does not hold. */
void inplace_look(int fd, struct inplace *out);

/* The line of /proc/self/mountinfo for a device: its type, source and super options, cut to fit.
 * False: there is none. */
struct inplace_mount {
    char type[32], source[128], options[512];
};
bool inplace_find_mount(const char *mountinfo, unsigned major, unsigned minor,
                        struct inplace_mount *out);
/* Whether a list of options (separated by commas or line ends) has this one. */
bool inplace_has_option(const char *options, const char *option);

#endif
