/* One process of the tree: identity, privilege, namespaces, root directory. */
#include "daemon/control/check.h"

#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOT_ITSELF   "restart the appliance; if it comes back, this process may have been taken over"
#define NOT_ITS_UNIT "start it by its unit, sealpost-door.service"
#define IN_THE_OPEN  "start the appliance by its unit: PrivateNetwork=yes"
#define NOT_THE_BIN  "the program was replaced since the start: restart the appliance"

/* A field of /proc/PID/status that must have this value. */
static void expect(struct report *r, const struct subject *s, const char *status, const char *key,
                   const char *layer, const char *want)
{
    char got[128];
    proc_field(status, key, got, sizeof(got));
    size_t len = strlen(got);
    while (len > 0 && got[len - 1] == ' ')
        got[--len] = '\0';
    bool right = strcmp(got, want) == 0;
    report_row(r, s->name, layer, right ? NULL : NOT_ITSELF, right ? "%s %s" : "%s %s, not %s", key,
               got[0] != '\0' ? got : "none", want[0] != '\0' ? want : "none");
}

/* What is left in the door's bounding set its unit has put there; it cannot lower that itself. */
static void check_bounding(struct report *r, const struct subject *s, const char *status)
{
    char got[128];
    proc_field(status, "CapBnd", got, sizeof(got));
    bool right = (strtoull(got, NULL, 16) & ~(1ull << CAP_NET_BIND_SERVICE)) == 0;
    report_row(r, s->name, "capabilities", right ? NULL : NOT_ITS_UNIT, "CapBnd %s", got);
}

static void check_identity(struct report *r, const struct subject *s, const char *status)
{
    char ids[64], gids[64], caps[32];
    snprintf(ids, sizeof(ids), "%u %u %u %u", s->uid, s->uid, s->uid, s->uid);
    snprintf(gids, sizeof(gids), "%u %u %u %u", s->gid, s->gid, s->gid, s->gid);
    uint64_t kept = s->user_mode && !s->row->deny ? 0 : s->row->caps;
    if (s->row->parent != NULL && !s->user_mode)
        kept = policy_row(s->row->parent)->caps;
    snprintf(caps, sizeof(caps), "%016llx", (unsigned long long)kept);
    expect(r, s, status, "Uid", "groups and uid", ids);
    if (!s->user_mode && !s->row->deny) { /* the supervisor has those that root has */
        expect(r, s, status, "Gid", "groups and uid", gids);
        if (!s->row->alone) /* systemd names its one group there */
            expect(r, s, status, "Groups", "groups and uid", "");
    }
    expect(r, s, status, "CapEff", "capabilities", caps);
    expect(r, s, status, "CapPrm", "capabilities", caps);
    if (s->row->alone)
        check_bounding(r, s, status);
    else
        expect(r, s, status, "CapBnd", "capabilities", caps);
    expect(r, s, status, "CapInh", "capabilities", "0000000000000000");
    expect(r, s, status, "CapAmb", "capabilities", "0000000000000000");
    expect(r, s, status, "NoNewPrivs", "no_new_privs", "1");
    expect(r, s, status, "Threads", "process", "1");
}

static bool same_namespace(pid_t a, pid_t b, const char *name)
{
    char path[64], x[64], y[64];
    snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)a, name);
    ssize_t n = readlink(path, x, sizeof(x));
    snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)b, name);
    ssize_t m = readlink(path, y, sizeof(y));
    return n <= 0 || n != m || memcmp(x, y, (size_t)n) == 0; /* not seen: not told apart */
}

/* With the door outside, nobody of the tree has a network, not even who starts it. */
static void check_apart(struct report *r, const struct subject *s)
{
    bool shared = same_namespace(s->pid, s->supervisor, "net");
    report_row(r, "supervisor", "namespaces", shared ? IN_THE_OPEN : NULL,
               shared ? "in the door's network" : "net namespace of its own");
}

static void check_namespaces(struct report *r, const struct subject *s)
{
    static const struct {
        int flag;
        const char *name;
    } spaces[] = {{CLONE_NEWNET, "net"},
                  {CLONE_NEWIPC, "ipc"},
                  {CLONE_NEWUTS, "uts"},
                  {CLONE_NEWNS, "mnt"},
                  {CLONE_NEWPID, "pid"}};
    const struct policy *row = s->row->parent != NULL ? policy_row(s->row->parent) : s->row;
    int own = row->namespaces | CLONE_NEWPID;
    for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++) {
        if (!(own & spaces[i].flag))
            continue;
        bool shared = same_namespace(s->pid, s->supervisor, spaces[i].name);
        report_row(r, s->name, "namespaces", shared ? NOT_ITSELF : NULL,
                   shared ? "the host's %s namespace" : "%s namespace of its own", spaces[i].name);
    }
    if (!(own & CLONE_NEWNET))
        return;
    char devices[4096];
    if (!proc_read(s->pid, "net/dev", devices, sizeof(devices)))
        return;
    int n = 0;
    for (const char *at = devices; (at = strchr(at, ':')) != NULL; at++)
        n++;
    report_row(r, s->name, "namespaces", n > 1 ? NOT_ITSELF : NULL, "%d network interfaces", n);
}

/* Of a process of root's the files in /proc are root's either way. But whoever has its uid and all
 * of its capabilities needs no CAP_SYS_PTRACE to look into it, unless it is not dumpable. */
static void check_dumpable_of_root(struct report *r, const struct subject *s)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct had[2], less[2];
    char path[64], link[64];
    bool asked = syscall(SYS_capget, &head, had) == 0 &&
                 (s->row->caps & ~(uint64_t)had[0].effective) == 0; /* those of the row are low */
    memcpy(less, had, sizeof(less));
    less[0].effective &= ~(1u << CAP_SYS_PTRACE);
    if (!asked || syscall(SYS_capset, &head, less) != 0) {
        report_note(r, s->name, "dumpable", "run it with all of root's capabilities",
                    "it cannot be told without its capabilities");
        return;
    }
    snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)s->pid);
    bool opens = readlink(path, link, sizeof(link)) > 0;
    if (syscall(SYS_capset, &head, had) != 0)
        abort(); /* what is permitted may always be made effective: capabilities(7) */
    report_row(r, s->name, "dumpable", opens ? NOT_ITSELF : NULL,
               opens ? "other processes of its uid may look into it" : "not dumpable");
}

/* Not dumpable: the kernel gives its files in /proc to root. */
static void check_dumpable(struct report *r, const struct subject *s)
{
    char path[64], limits[4096], core[128] = "";
    struct stat st;
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)s->pid);
    bool root = stat(path, &st) == 0 && st.st_uid == 0;
    if (!s->user_mode) /* there its uid is root's, of its namespace */
        report_row(r, s->name, "dumpable", root ? NULL : NOT_ITSELF,
                   root ? "not dumpable" : "other processes of its uid may look into it");
    proc_read(s->pid, "limits", limits, sizeof(limits));
    const char *line = strstr(limits, "Max core file size");
    if (line != NULL)
        sscanf(line + strlen("Max core file size"), "%127s", core);
    report_row(r, s->name, "resource limits", strcmp(core, "0") == 0 ? NULL : NOT_ITSELF,
               "core file size %s", core);
}

static void check_root(struct report *r, const struct subject *s)
{
    char path[PATH_MAX];
    struct stat want, got;
    const struct policy *row = s->row->parent != NULL ? policy_row(s->row->parent) : s->row;
    const char *dir = row->root == ROOT_DATA ? "data" : "empty";
    snprintf(path, sizeof(path), "%s/%s", s->config->state, dir);
    bool known = stat(path, &want) == 0;
    snprintf(path, sizeof(path), "/proc/%d/root/.", (int)s->pid);
    bool right =
        known && stat(path, &got) == 0 && got.st_dev == want.st_dev && got.st_ino == want.st_ino;
    report_row(r, s->name, "root directory", right ? NULL : NOT_ITSELF,
               right ? "state/%s" : "not state/%s", dir);
}

static void check_self_told(struct report *r, const struct subject *s)
{
    if (s->landlock == NULL)
        return;
    bool none = strcmp(s->landlock, "0") == 0;
    report_row(r, s->name, "Landlock", none ? NOT_ITSELF : NULL,
               none ? "none in force, it says" : "version %s in force, it says", s->landlock);
    bool mdwe = s->mdwe != NULL && strcmp(s->mdwe, "yes") == 0;
    char version[256];
    int major = 0, minor = 0;
    proc_read(0, "/proc/sys/kernel/osrelease", version, sizeof(version));
    sscanf(version, "%d.%d", &major, &minor);
    bool old = major < 6 || (major == 6 && minor < 3);
    report_row(r, s->name, "memory-deny-write-execute", mdwe || old ? NULL : NOT_ITSELF,
               mdwe  ? "on, it says"
               : old ? "this kernel does not have it (Linux 6.3); the filter stands alone"
                     : "off, it says");
}

/* What its service would start now: the program that the supervisor, or the door, was started as. A
 * path that is not absolute is not known from here. */
static bool named_program(const struct subject *s, char *path, size_t cap)
{
    return proc_read(s->row->alone ? s->pid : s->supervisor, "cmdline", path, cap) &&
           path[0] == '/';
}

/* Roles are started from the file that their supervisor has open, whatever is in its place by now:
 * an old version runs until all of it is started anew. */
static void check_program(struct report *r, const struct subject *s)
{
    char path[64], exe[PATH_MAX], named[PATH_MAX];
    struct stat runs, there;
    snprintf(path, sizeof(path), "/proc/%d/exe", (int)s->pid);
    ssize_t n = readlink(path, exe, sizeof(exe) - 1);
    if (n <= 0 || stat(path, &runs) != 0)
        return;
    exe[n] = '\0';
    bool gone = runs.st_nlink == 0;
    bool other =
        !gone && named_program(s, named, sizeof(named)) &&
        (stat(named, &there) != 0 || there.st_dev != runs.st_dev || there.st_ino != runs.st_ino);
    report_row(r, s->name, "program", gone || other ? NOT_THE_BIN : NULL, "%s%s%s", exe,
               other ? ", not " : "", other ? named : "");
}

void check_process(struct report *r, const struct subject *s)
{
    char status[8192];
    if (!proc_read(s->pid, "status", status, sizeof(status)))
        return; /* a session that has ended meanwhile */
    check_identity(r, s, status);
    if (!s->row->deny) /* its limits are those of whoever starts it */
        check_dumpable(r, s);
    else if (!s->user_mode && geteuid() == 0)
        check_dumpable_of_root(r, s);
    if (geteuid() != 0)
        return; /* said once, by check_run */
    if (s->row->alone) {
        check_apart(r, s);
    } else if (!s->row->deny) {
        check_namespaces(r, s);
        check_root(r, s);
    }
    check_descriptors(r, s);
    check_memory(r, s);
    check_program(r, s);
    check_self_told(r, s);
    check_filters(r, s);
}
