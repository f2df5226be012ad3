/* The system call filter of a row: compiled by libseccomp into a program, installed with
 * seccomp(2). Whatever has no rule ends the whole process, not the thread alone. */
#include "sandbox/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_PROGRAM 4096 /* BPF_MAXINSNS, linux/bpf_common.h */

static int add_rules(scmp_filter_ctx filter, const struct rule_set *set, bool deny)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct rule *rule = &set->rule[i];
        uint32_t action = deny ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ALLOW;
        if (rule->refuse != 0)
            action = SCMP_ACT_ERRNO((uint16_t)rule->refuse);
        int rc = seccomp_rule_add_array(filter, action, rule->nr, rule->n, rule->arg);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static bool has_set(const struct policy *row, const struct rule_set *set)
{
    for (size_t i = 0; i < POLICY_MAX_SETS && row->sets[i] != NULL; i++)
        if (row->sets[i] == set)
            return true;
    return false;
}

static bool allows(const struct policy *row, int nr)
{
    for (size_t i = 0; i < POLICY_MAX_SETS && row->sets[i] != NULL; i++)
        for (size_t n = 0; n < row->sets[i]->count; n++)
            if (row->sets[i]->rule[n].nr == nr)
                return true;
    return false;
}

/* A forked process is under its parent's filter for good, and the stricter verdict counts: so its
 * own need only deny what the parent has more, which is the same cage in a tenth of the
 * instructions, and the kernel translates those to machine code for each session anew. A call that
 * both have under different conditions cannot be taken apart that way and is an error. */
static int subtract(scmp_filter_ctx filter, const struct policy *row, const struct policy *parent)
{
    int rc = parent != NULL ? 0 : -EINVAL;
    for (size_t i = 0; rc == 0 && i < POLICY_MAX_SETS && parent->sets[i] != NULL; i++) {
        const struct rule_set *set = parent->sets[i];
        for (size_t n = 0; rc == 0 && n < set->count && !has_set(row, set); n++) {
            if (allows(row, set->rule[n].nr))
                rc = -EEXIST;
            else
                rc = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, set->rule[n].nr, 0);
            if (rc == -EEXIST && n > 0 && set->rule[n].nr == set->rule[n - 1].nr)
                rc = 0; /* denied already, by the rule before */
        }
    }
    return rc;
}

static int build(scmp_filter_ctx filter, const struct policy *row)
{
    /* Calls of another architecture (i386, x32) end the process too; a binary tree instead of a
     * list of comparisons halves the cost of a call. */
    int rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (rc == 0)
        rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (rc == 0 && row->parent != NULL)
        return subtract(filter, row, policy_row(row->parent));
    for (size_t i = 0; rc == 0 && i < POLICY_MAX_SETS && row->sets[i] != NULL; i++)
        rc = add_rules(filter, row->sets[i], row->deny);
    return rc;
}

/* Through a pipe: a memfd would be subject to the limit on file sizes that is already in force.
 * 4,096 instructions are 32 KiB, which a pipe takes at once; if it does not, that is an error. */
static int export_program(scmp_filter_ctx filter, struct sock_fprog *prog)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return -errno;
    int rc = seccomp_export_bpf(filter, ends[1]);
    if (rc != 0)
        goto out;
    size_t room = MAX_PROGRAM * sizeof(struct sock_filter);
    prog->filter = malloc(room);
    if (prog->filter == NULL) {
        rc = -ENOMEM;
        goto out;
    }
    ssize_t got = read(ends[0], prog->filter, room);
    if (got <= 0 || (size_t)got % sizeof(struct sock_filter) != 0) {
        rc = got < 0 ? -errno : -EINVAL;
        free(prog->filter);
        prog->filter = NULL;
        goto out;
    }
    prog->len = (unsigned short)((size_t)got / sizeof(struct sock_filter));
out:
    close(ends[0]);
    close(ends[1]);
    return rc;
}

enum sp_err sandbox_compile(const struct policy *row, struct sock_fprog *prog)
{
    *prog = (struct sock_fprog){0, NULL};
    scmp_filter_ctx filter =
        seccomp_init(row->deny || row->parent != NULL ? SCMP_ACT_ALLOW : SCMP_ACT_KILL_PROCESS);
    if (filter == NULL) {
        errno = ENOMEM;
        return SP_ERR_MEMORY;
    }
    int rc = build(filter, row);
    if (rc == 0)
        rc = export_program(filter, prog);
    seccomp_release(filter);
    errno = -rc;
    return rc == 0 ? SP_OK : SP_ERR_SYSTEM;
}

enum sp_err sandbox_install(const struct sock_fprog *prog)
{
    /* TSYNC: should a library have started a thread, it is caged too. Returns the id of a thread
     * that could not be. */
    long rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, prog);
    if (rc > 0)
        errno = EBUSY;
    return rc == 0 ? SP_OK : SP_ERR_SYSTEM;
}
