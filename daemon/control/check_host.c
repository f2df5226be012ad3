/* What the tree stands on: the kernel's settings, swap, the clock. */
#include "daemon/control/check.h"
#include "daemon/control/swap.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define HOST "host"

static const struct {
    const char *path;
    long least, most;
    const char *advice;
} settings[] = {
    {"kernel/kptr_restrict", 1, 2, "sysctl kernel.kptr_restrict=2"},
    {"kernel/dmesg_restrict", 1, 1, "sysctl kernel.dmesg_restrict=1"},
    {"kernel/unprivileged_bpf_disabled", 1, 2, "sysctl kernel.unprivileged_bpf_disabled=1"},
    {"kernel/yama/ptrace_scope", 1, 3, "sysctl kernel.yama.ptrace_scope=2 (a kernel with Yama)"},
    {"kernel/randomize_va_space", 2, 2, "sysctl kernel.randomize_va_space=2"},
    {"fs/suid_dumpable", 0, 0, "sysctl fs.suid_dumpable=0"},
    {"fs/protected_symlinks", 1, 1, "sysctl fs.protected_symlinks=1"},
    {"fs/protected_hardlinks", 1, 1, "sysctl fs.protected_hardlinks=1"},
};

static void check_settings(struct report *r)
{
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        char path[128], text[64];
        snprintf(path, sizeof(path), "/proc/sys/%s", settings[i].path);
        bool there = proc_read(0, path, text, sizeof(text)) && text[0] != '\0';
        long value = there ? strtol(text, NULL, 10) : -1;
        bool right = there && value >= settings[i].least && value <= settings[i].most;
        report_row(r, HOST, "kernel", right ? NULL : settings[i].advice,
                   there ? "%s is %ld" : "%s: this kernel does not have it", settings[i].path,
                   value);
    }
}

/* Locked pages are never swapped; the rest of the tree may be, where no control group forbids it.
 * Gone it is then only for whoever finds the disk and cannot read it. */
static void check_swap(struct report *r)
{
    static const struct {
        const char *what;
        bool good;
    } kinds[] = {[SWAP_FILE] = {"a file", false},
                 [SWAP_PLAIN] = {"not known to be encrypted", false},
                 [SWAP_ZRAM] = {"zram, which is memory", true},
                 [SWAP_ZRAM_DISK] = {"zram that writes to a disk", false},
                 [SWAP_CRYPT] = {"encrypted by dm-crypt", true}};
    char text[4096];
    struct swap swap;
    unsigned n = 0;
    const char *at = text;
    if (!proc_read(0, "/proc/swaps", text, sizeof(text)))
        text[0] = '\0'; /* a kernel without */
    for (; swap_next(&at, "/sys/class/block", &swap); n++)
        report_row(r, HOST, "swap",
                   kinds[swap.kind].good
                       ? NULL
                       : "swapoff it, or have it on dm-crypt with a key of each boot (crypttab(5))",
                   "%s: %s", swap.name, kinds[swap.kind].what);
    if (n == 0)
        report_row(r, HOST, "swap", NULL, "none");
}

static void check_memory_settings(struct report *r, const struct config *c)
{
    char pattern[256];
    proc_read(0, "/proc/sys/kernel/core_pattern", pattern, sizeof(pattern));
    pattern[strcspn(pattern, "\n")] = '\0';
    /* No finding, even where it pipes to a program, which RLIMIT_CORE does not stop: of a process
     * that is not dumpable there is no dump of any kind, and that is looked at for each. */
    report_row(r, HOST, "core dumps", NULL, "pattern \"%s\"; the tree makes none", pattern);
    long fd = syscall(SYS_memfd_secret, 0);
    bool demanded = c->memory_lock == LOCK_SECRETMEM;
    report_row(r, HOST, "secretmem",
               fd < 0 && demanded ? "boot with secretmem.enable=1 (Linux before 6.5)" : NULL,
               fd >= 0 ? "memfd_secret works" : "memfd_secret does not: %s", strerror(errno));
    if (fd >= 0)
        close((int)fd);
}

static void check_clock(struct report *r)
{
    struct timex t = {0};
    int state = adjtimex(&t);
    bool kept = state >= 0 && state != TIME_ERROR && (t.status & STA_UNSYNC) == 0;
    report_row(r, HOST, "clock",
               kept ? NULL : "run a time service (systemd-timesyncd, chrony): links expire by it",
               kept ? "synchronised" : "nothing keeps it right");
}

void check_host(struct report *r, const struct config *config)
{
    check_settings(r);
    check_swap(r);
    check_memory_settings(r, config);
    check_clock(r);
}
