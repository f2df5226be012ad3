/* Every open descriptor of a process has to be accounted for: by its kind where it is a channel, by
 * its protocol where it is a socket, by its file where it is one. */
#include "daemon/control/check.h"
#include "daemon/keeper/keeper.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define HOST   "host"
#define ADVICE "restart the appliance; if it comes back, find out who opened it"

struct descriptor {
    long number;
    char path[PATH_MAX]; /* in /proc */
    char target[PATH_MAX];
    char what[PATH_MAX + 32]; /* in words */
};

/* Files below state, by process; the log's path is a setting. */
static const struct {
    const char *process, *file;
} files[] = {
    {"store", "data/data.mdb"},   {"store", "data/lock.mdb"}, {"store", "data/owner.lock"},
    {"keeper", "keeper.key"},     {"keeper", "slots"},        {"audit", "audit.key"},
    {"supervisor", "keeper.key"}, {"supervisor", "slots"},    {"supervisor", "audit.key"},
    {"supervisor", "data"},       {"supervisor", "empty"},
};

/* Who speaks to the network, and by what: listeners and what they accept, what the door makes.
 * Whoever is not here has channels to the others alone. */
static const struct {
    const char *process;
    bool udp;
} networked[] = {
    {"supervisor", false}, {"smtp", false},    {"session", false}, {"web", false},
    {"delivery", false},   {"resolver", true}, {"door", true},
};

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* Channels and memory: what a descriptor without a name may be. */
static bool is_channel(const char *target)
{
    static const char *const kinds[] = {"anon_inode:[event",    "pipe:[",   "/memfd:", "/secretmem",
                                        "anon_inode:secretmem", "/dev/null"};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (begins(target, kinds[i]))
            return true;
    return false;
}

/* The kernel names the protocol of any socket, bound or not; /proc/PID/net has those alone that
 * are in use, in the namespace that they were made in. */
static bool is_own_socket(const struct subject *s, struct descriptor *d)
{
    char protocol[64] = "";
    ssize_t n = getxattr(d->path, "system.sockprotoname", protocol, sizeof(protocol) - 1);
    snprintf(d->what, sizeof(d->what), "a socket (%s)", n > 0 ? protocol : "of no protocol known");
    if (begins(protocol, "UNIX"))
        return true;
    bool tcp = strcmp(protocol, "TCP") == 0 || strcmp(protocol, "TCPv6") == 0;
    bool udp = strcmp(protocol, "UDP") == 0 || strcmp(protocol, "UDPv6") == 0;
    for (size_t i = 0; i < sizeof(networked) / sizeof(networked[0]); i++)
        if (strcmp(networked[i].process, s->name) == 0)
            return tcp || (udp && networked[i].udp);
    return false;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* What the supervisor keeps open to read it again with the next tree. A new version of the file may
 * have come into its place meanwhile, as at an update of the certificates of others. */
static bool is_kept(const struct descriptor *d, const char *setting)
{
    char real[PATH_MAX];
    size_t n = setting != NULL && realpath(setting, real) != NULL ? strlen(real) : 0;
    return n > 0 && strncmp(d->target, real, n) == 0 &&
           (d->target[n] == '\0' || strcmp(d->target + n, " (deleted)") == 0);
}

/* The keeper's files that a restart would make anew, at their fixed numbers. */
static const struct {
    const char *name;
    int number;
} kept[] = {{"keeper.key", KEEPER_FD_KEY}, {"slots", KEEPER_FD_SLOTS}};

/* The supervisor's descriptor of the same file; -1: it has none. */
static long supervisors(const struct subject *s, const char *path)
{
    char dir[64], of[PATH_MAX];
    long found = -1;
    snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)s->supervisor);
    DIR *list = opendir(dir);
    for (const struct dirent *e; list != NULL && found < 0 && (e = readdir(list)) != NULL;) {
        snprintf(of, sizeof(of), "%s/%s", dir, e->d_name);
        if (e->d_name[0] != '.' && same_file(of, path))
            found = strtol(e->d_name, NULL, 10);
    }
    if (list != NULL)
        closedir(list);
    return found;
}

/* What the supervisor gave to the keeper and what lies below state are no longer the same: a
 * restart would lose the file. The supervisor's word counts, a keeper may have been taken over. */
static bool is_cut_off(struct report *r, const struct subject *s, const struct descriptor *d)
{
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        char advice[2 * PATH_MAX];
        long n = strcmp(s->name, "keeper") == 0 && d->number == kept[i].number
                     ? supervisors(s, d->path)
                     : -1;
        if (n < 0)
            continue;
        snprintf(
            advice, sizeof(advice),
            "a restart now loses it: first install -m 600 /proc/%d/fd/%ld %s/%s%s, then restart "
            "at once",
            (int)s->supervisor, n, s->config->state, kept[i].name,
            kept[i].number == KEEPER_FD_KEY ? ", or put it back from a backup" : "");
        report_row(r, HOST, "files", advice,
                   "%s/%s is not there, or not the one in use: that is %s", s->config->state,
                   kept[i].name, d->target);
        return true;
    }
    return false;
}

/* Of the supervisor; the finding is the keeper's. */
static bool is_keepers(const struct subject *s, const struct descriptor *d)
{
    for (size_t i = 0; s->keeper > 0 && i < sizeof(kept) / sizeof(kept[0]); i++) {
        char path[64];
        snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)s->keeper, kept[i].number);
        if (same_file(d->path, path))
            return true;
    }
    return false;
}

static bool is_own_file(const struct subject *s, const struct descriptor *d)
{
    char path[PATH_MAX];
    const struct config *c = s->config;
    bool supervisor = strcmp(s->name, "supervisor") == 0;
    if ((supervisor || strcmp(s->name, "audit") == 0) && same_file(d->path, c->audit_log))
        return true;
    if (supervisor && (is_kept(d, c->relay_ca) || is_kept(d, c->link_template)))
        return true;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", c->state, files[i].file);
        if (strcmp(files[i].process, s->name) == 0 && same_file(d->path, path))
            return true;
    }
    return false;
}

/* Words of the service go wherever the operator sends the supervisor's, or the door's unit's. */
static bool is_words(const struct subject *s, const struct descriptor *d)
{
    char path[64], target[PATH_MAX];
    if (s->row->deny || s->row->alone)
        return d->number <= STDERR_FILENO;
    snprintf(path, sizeof(path), "/proc/%d/fd/2", (int)s->supervisor);
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    return d->number == STDERR_FILENO && n > 0 && (size_t)n == strlen(d->target) &&
           memcmp(target, d->target, (size_t)n) == 0;
}

static bool is_accounted(const struct subject *s, struct descriptor *d)
{
    snprintf(d->what, sizeof(d->what), "%s", d->target);
    if (begins(d->target, "socket:[") && !is_own_socket(s, d))
        return false;
    if (is_words(s, d))
        return true;
    if (d->number == STDERR_FILENO) {
        snprintf(d->what, sizeof(d->what), "%s, not the supervisor's", d->target);
        return false;
    }
    return begins(d->target, "socket:[") || is_channel(d->target) || is_own_file(s, d) ||
           is_keepers(s, d);
}

void check_descriptors(struct report *r, const struct subject *s)
{
    char dir[64];
    static struct descriptor d;
    snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)s->pid);
    DIR *list = opendir(dir);
    if (list == NULL)
        return;
    unsigned known = 0;
    const struct dirent *entry;
    while ((entry = readdir(list)) != NULL) {
        snprintf(d.path, sizeof(d.path), "%s/%s", dir, entry->d_name);
        ssize_t n = readlink(d.path, d.target, sizeof(d.target) - 1);
        if (n <= 0)
            continue; /* "." and "..", or gone meanwhile */
        d.target[n] = '\0';
        d.number = strtol(entry->d_name, NULL, 10);
        if (is_accounted(s, &d) || is_cut_off(r, s, &d))
            known++;
        else if (access(d.path, F_OK) == 0) /* not gone in between */
            report_row(r, s->name, "descriptors", ADVICE, "descriptor %ld is %s", d.number, d.what);
    }
    closedir(list);
    report_row(r, s->name, "descriptors", NULL, "%u, accounted for", known);
}
