#ifndef SEALPOST_SANDBOX_H
#define SEALPOST_SANDBOX_H
/*
 * The cage of a role: one table row says what it may keep, one function puts it on. Every step is
 * verified where the system lets us ask back, and its failure is final and named; there is no
 * switch to leave one out.
 *
 * Order: time zone (UTC), descriptors, process namespace (the supervisor's clone(CLONE_NEWPID);
 * verified), namespaces, root directory, resource limits, groups and uid, capabilities, no way back
 * to root, death with the supervisor, no_new_privs, dumpable, MDWE, Landlock, prepare(), system
 * call filter.
 */
#include "envelope/error.h"

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct policy; /* a row of policy.c */

/* The row called name: a role's name, or "session" (forked by smtp). NULL: there is none. */
const struct policy *policy_row(const char *name);
/* Walks the rows, for `check` and for docs/sandbox.md: row i, or NULL past the end. */
const struct policy *policy_at(size_t i);
/* Prints all rows and layers as Markdown: the table part of docs/sandbox.md. */
void policy_print(FILE *out);

struct cage {
    const int *keep; /* open descriptors to keep; all others are closed */
    size_t n_keep;
    int root; /* directory to be the new root; closed on the way. Empty, not the role's own and
                 not writable by group or others, unless the row says ROOT_DATA (store) */
    bool user_mode; /* one uid, inside a user namespace that the supervisor made */
    uid_t uid;      /* the role's own, and its gid (not in user mode) */
    /* The TCP ports of others that this process may connect to, where the kernel can tell them
     * apart (Landlock ABI 4); none for roles without the network. */
    const uint16_t *connect;
    size_t n_connect;
    /* Runs caged but unfiltered; may be NULL. */
    enum sp_err (*prepare)(void *ctx);
    void *ctx;
};

/* Puts the cage on this process. On failure *step names the layer in a few words ("Landlock"),
 * errno is set where a system call failed, and the caller must exit. */
enum sp_err sandbox_enter(const struct policy *row, const struct cage *cage, const char **step);

/* The same for a row that says alone: a service of its own, which the service manager has started
 * under its uid with one capability at most. What takes privilege (namespaces, root directory, uid)
 * is the service manager's; the other layers go on in the same order. */
enum sp_err sandbox_alone(const struct policy *row, const struct cage *cage, const char **step);

/* The row "backup", for a process of sealpostctl's that reads what the store has written: LMDB
 * believes its files. It stays in the process namespace of the host, since LMDB tells the readers
 * of a database by their pid, and under its uid meets no process but the store; all other layers
 * are there. A user mode's caller has entered a user namespace before. */
enum sp_err sandbox_backup(const struct cage *cage, const char **step);

/* What this kernel gave, for status: known once sandbox_enter(), _alone() or _supervisor() has run.
 * MDWE is the only layer that may be absent (Linux < 6.3). */
struct sandbox_layers {
    int landlock_abi;
    bool mdwe;
};
void sandbox_layers(struct sandbox_layers *out);

/* The filter of a row as a program for seccomp(2), built once and installed many times: the parent
 * compiles, each forked child installs. *prog's memory is the caller's (free). */
enum sp_err sandbox_compile(const struct policy *row, struct sock_fprog *prog);
enum sp_err sandbox_install(const struct sock_fprog *prog);

/* For the supervisor: gives up all but the few capabilities of its row, sets no_new_privs and its
 * filter (a refusal of the system calls that no role ever needs; inherited by all). */
enum sp_err sandbox_supervisor(bool user_mode, const char **step);

/* For user mode: enters a user namespace where this uid is root. SP_ERR_SYSTEM with errno. */
enum sp_err sandbox_user_namespace(void);

/* Test build only: the layer that roles leave out (a step's name), or the supervisor ("supervisor "
 * before it), so that `sealpostctl check` can be seen to find it; NULL: none. */
extern const char *sandbox_break;
/* Whether this step is left out; undoes what came by itself. */
bool sandbox_breaks(const struct policy *row, const char *step);
/* Test build only: tries an action by name from inside the calling process ("open", "socket",
 * "connect", "execve", "ptrace", "fork", "mmap-exec", "kill", "read-state", ...). Returns its
 * errno, 0 if it was allowed; or the process dies. -1: unknown name. */
int sandbox_probe(const char *action);
/* The name of action i, NULL past the end. */
const char *sandbox_probe_name(size_t i);

#endif
