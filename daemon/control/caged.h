#ifndef SEALPOST_CAGED_H
#define SEALPOST_CAGED_H
/*
 * Reading what a role has written that may have been taken over. LMDB believes its files: whoever
 * wrote them could have this process write where he likes. So it is done by a process in a cage of
 * its own (sandbox_backup): under the role's uid, with the role's folder as the root directory, no
 * network, and no descriptor of its caller's, the terminal least of all.
 */

/* Runs work(ctx) there; what it returns is in *result. SP_ERR_SYSTEM, said on stderr: there is no
 * such cage, or the process died. folder: will be its root directory, and the owner of it whom it
 * becomes, who must not be root. keep: a descriptor that it may use, or -1. */
#include "envelope/error.h"

enum sp_err caged_in(const char *folder, int keep, int (*work)(void *ctx), void *ctx, int *result);

#endif
