/* The files of the tree: who may read them, who may write them, and whether what is erased from
 * them is gone. Whoever owns a file can change its mode, so that the owner counts as much. */
#include "daemon/control/check.h"
#include "daemon/inplace.h"
#include "daemon/role.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOST     "host"
#define WRITABLE 022 /* others may not write it */
#define SECRET   077 /* others may not have it at all */

enum whose { OPERATORS, STORES };

/* Below state. */
static const struct {
    const char *name;
    mode_t forbidden;
    bool needed;
    enum whose whose;
} state_files[] = {
    {"data", 027, true, STORES},
    {"data/data.mdb", SECRET, true, STORES},
    {"data/lock.mdb", SECRET, true, STORES},
    {"data/owner.lock", SECRET, true, STORES},
    {"empty", 0222, true, OPERATORS},
    {"audit.key", SECRET, true, OPERATORS},
    {"keeper.key", SECRET, false, OPERATORS},
    {"slots", SECRET, false, OPERATORS},
    {"self-signed.key", SECRET, false, OPERATORS},
};

/* The supervisor opens the files of the configuration as root, wherever they are: those of another
 * user would let that user in. Root may own what is a user's: it can do everything anyway. */
static bool owned(const struct report *r, const struct stat *st, enum whose whose, uid_t store)
{
    if (whose == STORES)
        return st->st_uid == store;
    return st->st_uid == r->owner || st->st_uid == 0;
}

struct expected {
    mode_t forbidden; /* mode bits that must not be there */
    bool needed;
    enum whose whose;
    uid_t store;
};

/* The folders on the way to the files, each looked at once. */
static struct folder {
    dev_t device;
    ino_t number;
} folders[64];
static size_t n_folders;

static bool is_new(const struct stat *st)
{
    for (size_t i = 0; i < n_folders; i++)
        if (folders[i].device == st->st_dev && folders[i].number == st->st_ino)
            return false;
    if (n_folders < sizeof(folders) / sizeof(folders[0]))
        folders[n_folders++] = (struct folder){st->st_dev, st->st_ino};
    return true;
}

/* Whoever may write into a folder can put a file of his own in the place of any in it, whosever
 * that is; in a sticky one (/tmp) only what is his. */
static void check_folder(struct report *r, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0 || !is_new(&st))
        return;
    bool by_group = (st.st_mode & S_IWGRP) != 0 && st.st_gid != 0;
    bool open = (st.st_mode & S_ISVTX) == 0 && (by_group || (st.st_mode & S_IWOTH) != 0);
    if (open)
        report_row(r, HOST, "folders", "chmod go-w: whoever writes there can replace files of ours",
                   "%s is %o", path, (unsigned)(st.st_mode & 07777));
    if (!owned(r, &st, OPERATORS, 0))
        report_row(r, HOST, "folders", "chown it: its owner can replace files of ours",
                   "%s is uid %u's, not %u's", path, st.st_uid, r->owner);
}

/* All that are above it, up to the root. */
static void check_way(struct report *r, const char *path)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof(folder), "%s", path);
    for (char *slash; (slash = strrchr(folder, '/')) != NULL && slash > folder;) {
        *slash = '\0';
        check_folder(r, folder);
    }
    check_folder(r, "/");
}

static void check_ways(struct report *r, const char *path)
{
    char real[PATH_MAX];
    check_way(r, path);
    if (realpath(path, real) != NULL)
        check_way(r, real);
}

/* A link is as good as what it points to, and whose it is. */
static void check_path(struct report *r, const char *path, const struct expected *e)
{
    struct stat link, st;
    if (path == NULL || (lstat(path, &link) != 0 && !e->needed))
        return;
    if (stat(path, &st) != 0) {
        report_row(r, HOST, "files", "start the appliance once, or put it there", "%s: %s", path,
                   strerror(errno));
        return;
    }
    bool open = (st.st_mode & e->forbidden) != 0;
    const char *advice = e->forbidden == SECRET     ? "chmod 600: its owner alone may have it"
                         : e->forbidden == WRITABLE ? "chmod go-w: others may not write there"
                                                    : "chmod 750 (data) or 555 (empty)";
    report_row(r, HOST, "files", open ? advice : NULL, "%s is %o, uid %u", path,
               (unsigned)(st.st_mode & 07777), st.st_uid);
    uid_t want = e->whose == STORES ? e->store : r->owner;
    if (!owned(r, &st, e->whose, e->store))
        report_row(r, HOST, "files", "chown it: whoever owns it can change it",
                   "%s is uid %u's, not %u's", path, st.st_uid, want);
    else if (!owned(r, &link, e->whose, e->store))
        report_row(r, HOST, "files", "chown -h it: whoever owns the link can turn it elsewhere",
                   "%s is a link of uid %u's, not %u's", path, link.st_uid, want);
    if (e->whose == OPERATORS)
        check_ways(r, path);
}

/* What the log was before it was rotated, beside it under longer names. */
static void check_rotated(struct report *r, const char *log)
{
    static const struct expected secret = {SECRET, false, OPERATORS, 0};
    char folder[PATH_MAX], path[PATH_MAX];
    snprintf(folder, sizeof(folder), "%s", log);
    char *slash = strrchr(folder, '/');
    size_t len = strlen(slash + 1);
    *slash = '\0';
    DIR *list = opendir(slash > folder ? folder : "/");
    const struct dirent *entry;
    while (list != NULL && (entry = readdir(list)) != NULL) {
        const char *name = entry->d_name;
        if (strncmp(name, log + (slash - folder) + 1, len) == 0 && name[len] == '.' &&
            snprintf(path, sizeof(path), "%s/%s", folder, name) < (int)sizeof(path))
            check_path(r, path, &secret);
    }
    if (list != NULL)
        closedir(list);
}

static void check_configured(struct report *r, const struct config *c, const char *path)
{
    static const struct expected plain = {WRITABLE, true, OPERATORS, 0},
                                 secret = {SECRET, true, OPERATORS, 0},
                                 optional = {WRITABLE, false, OPERATORS, 0};
    check_path(r, path, &plain);
    check_path(r, c->audit_log, &secret);
    check_rotated(r, c->audit_log);
    check_path(r, c->control, &secret);
    check_path(r, c->tls_certificate, &plain);
    check_path(r, c->tls_key, &secret);
    for (size_t i = 0; i < c->dkim_key.count; i++)
        check_path(r, c->dkim_key.item[i], &secret);
    check_path(r, c->smarthost_auth, &secret);
    check_path(r, c->link_template, &plain);
    check_path(r, c->relay_ca, &optional);
    check_path(r, c->trust_anchor, &optional);
}

/* Erasing a key means overwriting it. Where that does not hold a start needs the operator's word
 * for it; the running tree's may have been given for another file system. */
static void check_slots(struct report *r, const struct config *c)
{
    char path[PATH_MAX];
    struct inplace place;
    snprintf(path, sizeof(path), "%s/slots", c->state);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return; /* check_path() has said so */
    inplace_look(fd, &place);
    close(fd);
    static const char advice[] = "to have erased keys gone, put [appliance] state on ext4 "
                                 "(data=ordered), xfs or tmpfs";
    if (place.holds)
        report_row(r, HOST, "erasing", NULL, "%s lies on %s, which overwrites in place", path,
                   place.name);
    else if (c->slots == SLOTS_ACCEPT_COW)
        report_note(r, HOST, "erasing", advice, "accepted: %s lies on %s: %s", path, place.name,
                    place.why);
    else
        report_row(r, HOST, "erasing", advice, "%s lies on %s: %s", path, place.name, place.why);
}

void check_files(struct report *r, const struct config *config, const char *path)
{
    char name[PATH_MAX];
    struct expected e = {WRITABLE, true, OPERATORS, check_uid(r, config, ROLE_STORE)};
    check_path(r, config->state, &e);
    for (size_t i = 0; i < sizeof(state_files) / sizeof(state_files[0]); i++) {
        snprintf(name, sizeof(name), "%s/%s", config->state, state_files[i].name);
        e.forbidden = state_files[i].forbidden;
        e.needed = state_files[i].needed;
        e.whose = state_files[i].whose;
        check_path(r, name, &e);
    }
    check_configured(r, config, path);
    report_row(r, HOST, "folders", NULL, "%zu on the way to them", n_folders);
    check_slots(r, config);
}
