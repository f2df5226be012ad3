/* The user's state directory. Other users of the machine are not trusted: it has to be ours and
 * closed to them. What lies in it is trusted as far as each file's own reader says. */
#include "client/state.h"
#include "client/report.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_TRIES 100 /* of 100 ms */

struct state {
    int dir;
    int lock;
    char path[PATH_MAX];
};

static enum sp_err find_path(char out[PATH_MAX])
{
    const char *own = getenv("SEALPOST_HOME");
    const char *xdg = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    int n = -1;
    if (own != NULL && *own != '\0')
        n = snprintf(out, PATH_MAX, "%s", own);
    else if (xdg != NULL && *xdg == '/')
        n = snprintf(out, PATH_MAX, "%s/sealpost", xdg);
    else if (home != NULL && *home == '/')
        n = snprintf(out, PATH_MAX, "%s/.config/sealpost", home);
    if (n <= 0 || n >= PATH_MAX)
        return report_plain(SP_ERR_CONFIG, "no state directory: set SEALPOST_HOME or HOME");
    return SP_OK;
}

/* Ours, and nobody else's. */
static enum sp_err check_dir(const struct state *s)
{
    struct stat st;
    if (fstat(s->dir, &st) != 0)
        return report_fail(SP_ERR_SYSTEM, "%s", s->path);
    if (st.st_uid != geteuid())
        return report_plain(SP_ERR_DENIED, "%s belongs to another user", s->path);
    if ((st.st_mode & 077) != 0 && fchmod(s->dir, 0700) != 0)
        return report_fail(SP_ERR_SYSTEM, "%s: cannot close it to others", s->path);
    return SP_OK;
}

static enum sp_err take_lock(struct state *s)
{
    const struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
    s->lock = openat(s->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->lock < 0)
        return report_fail(SP_ERR_SYSTEM, "%s/lock", s->path);
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(s->lock, LOCK_EX | LOCK_NB) == 0)
            return SP_OK;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return report_fail(SP_ERR_SYSTEM, "%s/lock", s->path);
        nanosleep(&pause, NULL);
    }
    return report_plain(SP_ERR_EXISTS,
                        "another sealpost is at work in %s: try again when it is done", s->path);
}

void state_unlock(struct state *s)
{
    flock(s->lock, LOCK_UN);
}

enum sp_err state_lock(struct state *s)
{
    while (flock(s->lock, LOCK_EX) != 0) {
        if (errno != EINTR)
            return report_fail(SP_ERR_SYSTEM, "%s/lock", s->path);
    }
    return SP_OK;
}

enum sp_err state_open(bool create, struct state **out)
{
    *out = NULL;
    struct state *s = calloc(1, sizeof *s);
    if (s == NULL)
        return report_fail(SP_ERR_MEMORY, "state");
    s->dir = s->lock = -1;
    enum sp_err err = find_path(s->path);
    if (err != SP_OK)
        goto out;
    if (create && (err = file_mkdirs(s->path)) != SP_OK) {
        report_fail(err, "%s", s->path);
        goto out;
    }
    s->dir = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->dir < 0) {
        err = errno == ENOENT ? SP_ERR_NOT_FOUND : report_fail(SP_ERR_SYSTEM, "%s", s->path);
        goto out;
    }
    err = check_dir(s);
    if (err == SP_OK)
        err = take_lock(s);
out:
    if (err == SP_OK)
        *out = s;
    else
        state_close(s);
    return err;
}

void state_close(struct state *s)
{
    if (s == NULL)
        return;
    if (s->lock >= 0)
        close(s->lock); /* and with it the lock */
    if (s->dir >= 0)
        close(s->dir);
    free(s);
}

const char *state_path(const struct state *s)
{
    return s->path;
}

enum sp_err state_read(struct state *s, const char *name, size_t max, uint8_t **out, size_t *len)
{
    *out = NULL;
    *len = 0;
    uint8_t *bytes = NULL;
    struct stat st;
    enum sp_err err = SP_OK;
    int fd = openat(s->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? SP_ERR_NOT_FOUND
                               : report_fail(SP_ERR_SYSTEM, "%s/%s", s->path, name);
    if (fstat(fd, &st) != 0)
        err = SP_ERR_SYSTEM;
    else if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > max)
        err = SP_ERR_LIMIT;
    else if ((bytes = malloc((size_t)st.st_size + 1)) == NULL)
        err = SP_ERR_MEMORY;
    else
        err = file_pread(fd, bytes, (size_t)st.st_size, 0);
    close(fd);
    if (err != SP_OK) {
        free(bytes);
        return report_fail(err, "%s/%s", s->path, name);
    }
    bytes[st.st_size] = '\0';
    *out = bytes;
    *len = (size_t)st.st_size;
    return SP_OK;
}

/* Makes the folder that name leads into. */
static enum sp_err make_folder(struct state *s, const char *name)
{
    char folder[NAME_MAX + 1];
    const char *slash = strchr(name, '/');
    if (slash == NULL)
        return SP_OK;
    if ((size_t)(slash - name) >= sizeof folder)
        return SP_ERR_LIMIT;
    memcpy(folder, name, (size_t)(slash - name));
    folder[slash - name] = '\0';
    return mkdirat(s->dir, folder, 0700) == 0 || errno == EEXIST ? SP_OK : SP_ERR_SYSTEM;
}

/* The rename is only kept once the folder that holds the name is on disk. */
static enum sp_err sync_folder(struct state *s, const char *name)
{
    char folder[NAME_MAX + 1] = ".";
    const char *slash = strchr(name, '/');
    if (slash != NULL)
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - name), name);
    int fd = openat(s->dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return SP_ERR_SYSTEM;
    enum sp_err err = fsync(fd) == 0 ? SP_OK : SP_ERR_SYSTEM;
    close(fd);
    return err;
}

enum sp_err state_write(struct state *s, const char *name, const void *bytes, size_t len)
{
    char temp[NAME_MAX + 1];
    int fd = -1;
    int n = snprintf(temp, sizeof temp, "%s.new", name);
    enum sp_err err = n < 0 || (size_t)n >= sizeof temp ? SP_ERR_LIMIT : make_folder(s, name);
    if (err != SP_OK)
        return report_fail(err, "%s/%s", s->path, name);
    fd = openat(s->dir, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    err = fd < 0 ? SP_ERR_SYSTEM : file_write(fd, bytes, len);
    if (err == SP_OK && fsync(fd) != 0)
        err = SP_ERR_SYSTEM;
    if (fd >= 0 && close(fd) != 0 && err == SP_OK)
        err = SP_ERR_SYSTEM;
    if (err == SP_OK && renameat(s->dir, temp, s->dir, name) != 0)
        err = SP_ERR_SYSTEM;
    if (err == SP_OK)
        err = sync_folder(s, name);
    if (err != SP_OK) {
        report_fail(err, "%s/%s", s->path, name);
        unlinkat(s->dir, temp, 0);
    }
    return err;
}

enum sp_err state_file(struct state *s, const char *name, bool create, int *fd)
{
    enum sp_err err = create ? make_folder(s, name) : SP_OK;
    *fd = err != SP_OK
              ? -1
              : openat(s->dir, name,
                       O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT | O_EXCL : 0), 0600);
    return *fd >= 0 ? SP_OK : report_fail(SP_ERR_SYSTEM, "%s/%s", s->path, name);
}

enum sp_err state_remove(struct state *s, const char *name)
{
    if (unlinkat(s->dir, name, 0) != 0 && errno != ENOENT)
        return report_fail(SP_ERR_SYSTEM, "%s/%s", s->path, name);
    return SP_OK;
}

enum sp_err state_each(struct state *s, const char *folder,
                       enum sp_err (*each)(void *ctx, const char *name), void *ctx)
{
    int fd = openat(s->dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? SP_OK : report_fail(SP_ERR_SYSTEM, "%s/%s", s->path, folder);
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        close(fd);
        return report_fail(SP_ERR_SYSTEM, "%s/%s", s->path, folder);
    }
    enum sp_err err = SP_OK;
    const struct dirent *entry;
    while (err == SP_OK && (entry = readdir(dir)) != NULL) {
        size_t n = strlen(entry->d_name);
        bool temporary = n > 4 && strcmp(entry->d_name + n - 4, ".new") == 0;
        if (entry->d_name[0] != '.' && !temporary)
            err = each(ctx, entry->d_name);
    }
    closedir(dir);
    return err;
}

enum sp_err state_spool(struct state *s, int *fd)
{
    char name[] = "spool.XXXXXX";
    *fd = openat(s->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (*fd >= 0)
        return SP_OK;
    /* A file system without O_TMPFILE: a name that is taken away at once. */
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", s->path, name);
    if (n > 0 && (size_t)n < sizeof path && (*fd = mkostemp(path, O_CLOEXEC)) >= 0 &&
        unlink(path) == 0)
        return SP_OK;
    enum sp_err err = report_fail(SP_ERR_SYSTEM, "%s: no room for a temporary file", s->path);
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return err;
}
