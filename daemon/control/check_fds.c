/* Every open descriptor of a process has to be accounted for: by its kind where it is a channel, by
 * its file where it is one. */
#include "daemon/control/check.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ADVICE "restart the appliance; if it comes back, find out who opened it"

/* Files below state, by role; the log's path is a setting. */
static const struct {
    const char *role, *file;
} files[] = {
    {"store", "data/data.mdb"}, {"store", "data/lock.mdb"}, {"store", "data/owner.lock"},
    {"keeper", "keeper.key"},   {"keeper", "slots"},        {"audit", "audit.key"},
};

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* Channels and memory: what a descriptor without a name may be. */
static bool is_channel(const char *target)
{
    static const char *const kinds[] = {"socket:[",   "anon_inode:[event",    "pipe:[",   "/memfd:",
                                        "/secretmem", "anon_inode:secretmem", "/dev/null"};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (begins(target, kinds[i]))
            return true;
    return false;
}

/* A role's own root changes what the kernel calls its files. */
static bool ends_with(const char *text, const char *with)
{
    size_t n = strlen(text), m = strlen(with);
    return n >= m && strcmp(text + n - m, with) == 0;
}

static bool is_own_file(const struct subject *s, const char *target)
{
    char path[PATH_MAX];
    if (strcmp(s->name, "audit") == 0 && strcmp(target, s->config->audit_log) == 0)
        return true;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", s->config->state, files[i].file);
        if (strcmp(files[i].role, s->name) == 0 &&
            (strcmp(path, target) == 0 || ends_with(target, strrchr(path, '/'))))
            return true;
    }
    return false;
}

void check_descriptors(struct report *r, const struct subject *s)
{
    char dir[64], path[PATH_MAX], target[PATH_MAX];
    snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)s->pid);
    DIR *list = opendir(dir);
    if (list == NULL)
        return;
    unsigned known = 0;
    const struct dirent *entry;
    while ((entry = readdir(list)) != NULL) {
        snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        if (n <= 0)
            continue; /* "." and "..", or gone meanwhile */
        target[n] = '\0';
        long fd = strtol(entry->d_name, NULL, 10);
        if (fd == 2 || is_channel(target) || is_own_file(s, target))
            known++; /* 2: wherever the operator sends the service's words */
        else
            report_row(r, s->name, "descriptors", ADVICE, "descriptor %ld is %s", fd, target);
    }
    closedir(list);
    report_row(r, s->name, "descriptors", NULL, "%u, accounted for", known);
}
