/* The system call filters of a process, read back from the kernel and compared with what this very
 * version builds: ptrace(2) stops the process for a moment, and the kernel gives the program as it
 * was installed. */
#include "daemon/control/check.h"
#include "sandbox/sandbox.h"

#include <errno.h>
#include <linux/filter.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#ifndef PTRACE_SECCOMP_GET_FILTER
#define PTRACE_SECCOMP_GET_FILTER 0x420c
#endif
#define MAX_INSTRUCTIONS 4096
#define RESTART                                                                                    \
    "restart the appliance; if it comes back, compare versions of sealpostd and libseccomp"

/* How many instructions, -1 with errno; out holds MAX_INSTRUCTIONS. index 0: installed first. */
static long read_filter(pid_t pid, unsigned long index, struct sock_filter *out)
{
    int status;
    long n = -1;
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0)
        return -1;
    if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0 && waitpid(pid, &status, __WALL) == pid)
        n = ptrace(PTRACE_SECCOMP_GET_FILTER, pid, (void *)index, NULL);
    if (n > 0 && n <= MAX_INSTRUCTIONS)
        n = ptrace(PTRACE_SECCOMP_GET_FILTER, pid, (void *)index, out);
    int why = errno;
    ptrace(PTRACE_DETACH, pid, NULL, NULL);
    errno = why;
    return n;
}

/* Neither this process nor who examines it is at fault, but a filter that was not compared is not
 * in order: so it is a note. */
static void say_why(struct report *r, const struct subject *s, unsigned long index, int why)
{
    bool hidden = why == EACCES || why == EPERM || why == EINVAL;
    if (hidden)
        report_note(r, s->name, "system call filter",
                    "run it as root with CAP_SYS_ADMIN, outside of containers and of filters of "
                    "its own (kernel.yama.ptrace_scope below 3)",
                    "filter %lu could not be compared: the kernel does not let it be read", index);
    else
        report_row(r, s->name, "system call filter", RESTART, "filter %lu: %s", index,
                   strerror(why));
}

/* False: it cannot be read, and no other will be. */
static bool compare(struct report *r, const struct subject *s, const struct policy *row,
                    unsigned long index)
{
    static struct sock_filter got[MAX_INSTRUCTIONS];
    struct sock_fprog want;
    long n = read_filter(s->pid, index, got);
    if (n < 0) {
        say_why(r, s, index, errno);
        return false;
    }
    if (sandbox_compile(row, &want) != SP_OK)
        return false;
    bool same = n == want.len && memcmp(got, want.filter, (size_t)n * sizeof(*got)) == 0;
    report_row(r, s->name, "system call filter", same ? NULL : RESTART,
               same ? "%ld instructions, as built for %s" : "%ld instructions, not those of %s", n,
               row->name);
    free(want.filter);
    return true;
}

static long count_filters(pid_t pid)
{
    char status[8192], mode[16], count[16];
    if (!proc_read(pid, "status", status, sizeof(status)))
        return -1;
    proc_field(status, "Seccomp", mode, sizeof(mode));
    proc_field(status, "Seccomp_filters", count, sizeof(count));
    return strcmp(mode, "2") == 0 ? strtol(count, NULL, 10) : 0;
}

/* Whatever started the tree (systemd, a container) may have put filters of its own on it: they are
 * there first. The supervisor has those and one. */
void check_filters(struct report *r, const struct subject *s)
{
    long has = count_filters(s->pid), supervisor = count_filters(s->supervisor);
    bool forked = s->row->parent != NULL;
    if (has < 0 || supervisor < 0)
        return;
    if (s->row->alone || s->row->deny) {
        report_row(r, s->name, "system call filter", has > 0 ? NULL : RESTART, "%ld filters", has);
        if (has > 0)
            compare(r, s, s->row, (unsigned long)has - 1);
        return;
    }
    bool right = supervisor > 0 && has == supervisor + (forked ? 2 : 1);
    report_row(r, s->name, "system call filter", right ? NULL : RESTART,
               "%ld filters, the supervisor has %ld", has, supervisor);
    if (!right)
        return;
    unsigned long outer = (unsigned long)supervisor - 1;
    if (compare(r, s, policy_row("supervisor"), outer) &&
        compare(r, s, forked ? policy_row(s->row->parent) : s->row, outer + 1) && forked)
        compare(r, s, s->row, outer + 2);
}
