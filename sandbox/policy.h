#ifndef SEALPOST_POLICY_H
#define SEALPOST_POLICY_H
/*
 * What each process of the tree may keep, as data: policy.c holds the rows, calls.c the system
 * calls; sandbox.c and filter.c put a row on, print.c shows it. Private to sandbox/, but for
 * policy_print().
 */
#include "sandbox/sandbox.h"

#include <seccomp.h>
#include <stdint.h>
#include <sys/resource.h>

/* A system call that is allowed when all its conditions hold (or refused politely with an errno:
 * for libraries that try something and live without it). Calls without a rule end the process. */
struct rule {
    int nr;
    int refuse;       /* 0: allowed; else the errno it gets */
    const char *when; /* the conditions in words, for docs/sandbox.md; NULL: always */
    unsigned n;
    struct scmp_arg_cmp arg[3];
};

struct rule_set {
    const char *name, *what;
    const struct rule *rule;
    size_t count;
};

/* calls.c */
extern const struct rule_set calls_core, calls_loop, calls_memory, calls_session, calls_forks,
    calls_smtp, calls_outgoing, calls_locked, calls_sealer, calls_store, calls_copying,
    calls_keeper, calls_web, calls_audit, calls_dns, calls_door, calls_handing, calls_never;

enum policy_root {
    ROOT_EMPTY,    /* an empty directory that the role may not write */
    ROOT_DATA,     /* the role's own data directory; Landlock grants files in it, nothing else */
    ROOT_INHERITED /* that of the process it was forked from */
};

#define POLICY_MAX_SETS 6

struct policy {
    const char *name, *what;
    const char *parent; /* NULL, or the row it is forked from: it keeps that cage, and its own
                           filter takes away what its sets do not have */
    bool alone; /* no child of the supervisor's: the service manager has put on what it may not
                   itself (sandbox_alone) */
    bool deny;  /* the filter's rules are what is denied; all else is allowed (supervisor) */
    enum policy_root root;
    int namespaces; /* CLONE_NEW* to unshare; its process namespace comes from the supervisor */
    uint64_t caps;  /* capabilities kept, as bits; none in user mode */
    rlim_t nofile;  /* most open descriptors */
    rlim_t nproc;   /* most processes of its uid */
    rlim_t fsize;   /* largest file, in bytes; counts for memfds too */
    const struct rule_set *sets[POLICY_MAX_SETS];
};

#endif
