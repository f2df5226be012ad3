#ifndef SEALPOST_CAGED_H
#define SEALPOST_CAGED_H
/*
 * Reading what a role has written that may have been taken over. LMDB believes its files: whoever
 * wrote them could have this process write where he likes. So it is done by a process that is as
 * small as the role: under its uid, in its folder as the root directory, without a network.
 */

/* Runs work(ctx) there; its exit status, and 1, said on stderr, where there is no such cage or the
 * process died. folder: as the root of the file system, and whose owner it becomes; never root.
 * keep: a descriptor that it may use, or -1. */
int caged_in(const char *folder, int keep, int (*work)(void *ctx), void *ctx);

#endif
