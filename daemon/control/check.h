#ifndef SEALPOST_CHECK_H
#define SEALPOST_CHECK_H
/*
 * `sealpostctl check`: the running tree and its host, looked at from outside. What can be read off
 * the kernel is read there; only what it does not show (Landlock) is taken from the roles
 * themselves.
 *
 *   check.c       the verb, the report          check_process.c  one process of the tree
 *   check_fds.c   its open descriptors          check_filter.c   its system call filters
 *   check_memory.c   what it has mapped, and locked
 *   check_host.c  kernel, swap, clock            check_files.c    files and their owners
 *   check_certificate.c  the one on disk, and the one that is served
 */
#include "daemon/config.h"
#include "daemon/control/ctl.h"
#include "sandbox/policy.h"

#include <sys/types.h>

struct report {
    struct table table; /* where, layer, result, found, what to do */
    unsigned findings, notes;
    bool all; /* rows that are in order as well */
    bool user_mode;
    uid_t owner; /* of the configuration and the state: root, in user mode its user */
};

/* What was looked at is in order (advice NULL), or is a finding with what to do about it. found
 * says what is there. printf-like: advice is a constant. */
void report_row(struct report *r, const char *where, const char *layer, const char *advice,
                const char *found, ...) __attribute__((format(printf, 5, 6)));

/* Neither: what the operator has accepted, or what could not be looked at; advice says what would
 * change that. Always shown, so that nobody takes it for in order; the exit status is for what was
 * not decided. */
void report_note(struct report *r, const char *where, const char *layer, const char *advice,
                 const char *found, ...) __attribute__((format(printf, 5, 6)));

/* A process of the tree, and what it must be. */
struct subject {
    const char *name; /* of its row, or "supervisor" */
    const struct policy *row;
    const struct config *config;
    pid_t pid, supervisor;
    pid_t keeper; /* of the supervisor's tree; 0: not known, or not asked */
    bool user_mode;
    uid_t uid;
    gid_t gid;
    const char *landlock, *mdwe; /* as it said; NULL: it was not asked (forked processes) */
};

/* Prints the report; the exit status. path: of the configuration; all: what is in order too. */
int check_run(const struct config *config, const char *path, bool all, bool json);
/* Whose a role's process and files are. */
uid_t check_uid(const struct report *r, const struct config *config, int role);

void check_process(struct report *r, const struct subject *s);
void check_descriptors(struct report *r, const struct subject *s);
void check_memory(struct report *r, const struct subject *s);
void check_filters(struct report *r, const struct subject *s);
void check_host(struct report *r, const struct config *config);
/* status: of the roles. */
void check_certificate(struct report *r, const struct config *config, const struct table *status);
/* The value that a role gave under this name; NULL: none. */
const char *check_said(const struct table *status, const char *role, const char *name);
void check_files(struct report *r, const struct config *config, const char *path);

/* Reads a file of /proc/PID (or a path, pid 0) as text; false: it cannot be read. */
bool proc_read(pid_t pid, const char *name, char *out, size_t cap);
/* The value of "KEY:\tVALUE" in a text like /proc/PID/status; tabs become spaces. "" if none. */
void proc_field(const char *text, const char *key, char *out, size_t cap);

#endif
