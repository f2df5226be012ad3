/* A Maildir, which is where the user asked for plaintext to be. Others may read and rename in it at
 * the same time; nothing in it is believed but file names. */
#include "client/maildir.h"
#include "client/report.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct maildir {
    int dir;
    char path[PATH_MAX];
    char host[128];
    char (*ids)[ID_HEX + 1]; /* sorted */
    size_t n;
    int fd; /* of the file in tmp/, -1: none */
    char name[NAME_MAX + 1];
};

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, ID_HEX);
}

/* "<seconds>.<id>.<host>", perhaps with ":2,flags" behind. */
static const char *id_in_name(const char *name)
{
    const char *dot = strchr(name, '.');
    if (dot == NULL || strspn(dot + 1, "0123456789abcdef") != ID_HEX || dot[1 + ID_HEX] != '.')
        return NULL;
    return dot + 1;
}

static enum sp_err remember(struct maildir *d, const char *id, size_t *room)
{
    if (d->n == *room) {
        size_t more = *room == 0 ? 256 : *room * 2;
        void *ids = reallocarray(d->ids, more, sizeof *d->ids);
        if (ids == NULL)
            return SP_ERR_MEMORY;
        d->ids = ids;
        *room = more;
    }
    memcpy(d->ids[d->n], id, ID_HEX);
    d->ids[d->n++][ID_HEX] = '\0';
    return SP_OK;
}

static enum sp_err scan(struct maildir *d, const char *folder, size_t *room)
{
    int fd = openat(d->dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return SP_ERR_SYSTEM;
    }
    enum sp_err err = SP_OK;
    const struct dirent *entry;
    while (err == SP_OK && (entry = readdir(dir)) != NULL) {
        const char *id = id_in_name(entry->d_name);
        if (id != NULL)
            err = remember(d, id, room);
    }
    closedir(dir);
    return err;
}

/* A host name for file names: Maildir forbids '/' and ':' there. */
static void find_host(char *out, size_t cap)
{
    if (gethostname(out, cap) != 0)
        snprintf(out, cap, "localhost");
    out[cap - 1] = '\0';
    for (; *out != '\0'; out++) {
        if (*out == '/' || *out == ':' || (unsigned char)*out < 0x21)
            *out = '_';
    }
}

static enum sp_err open_folders(struct maildir *d, const char *path)
{
    static const char *const folders[] = {"tmp", "new", "cur"};
    enum sp_err err = file_mkdirs(path);
    if (err != SP_OK)
        return err;
    d->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->dir < 0 || realpath(path, d->path) == NULL)
        return SP_ERR_SYSTEM;
    for (size_t i = 0; i < 3; i++) {
        if (mkdirat(d->dir, folders[i], 0700) != 0 && errno != EEXIST)
            return SP_ERR_SYSTEM;
    }
    return SP_OK;
}

enum sp_err maildir_open(const char *path, struct maildir **out)
{
    size_t room = 0;
    *out = NULL;
    struct maildir *d = calloc(1, sizeof *d);
    if (d == NULL)
        return report_fail(SP_ERR_MEMORY, "Maildir");
    d->dir = d->fd = -1;
    find_host(d->host, sizeof d->host);
    enum sp_err err = open_folders(d, path);
    if (err == SP_OK)
        err = scan(d, "new", &room);
    if (err == SP_OK)
        err = scan(d, "cur", &room);
    if (err != SP_OK) {
        report_fail(err, "Maildir %s", path);
        maildir_close(d);
        return err;
    }
    if (d->n > 0)
        qsort(d->ids, d->n, sizeof *d->ids, compare);
    *out = d;
    return SP_OK;
}

void maildir_close(struct maildir *d)
{
    if (d == NULL)
        return;
    if (d->fd >= 0)
        maildir_end(d, false);
    if (d->dir >= 0)
        close(d->dir);
    free(d->ids);
    free(d);
}

const char *maildir_path(const struct maildir *d)
{
    return d->path;
}

bool maildir_has(const struct maildir *d, const char id[ID_HEX + 1])
{
    return d->n > 0 && bsearch(id, d->ids, d->n, sizeof *d->ids, compare) != NULL;
}

enum sp_err maildir_begin(struct maildir *d, const char id[ID_HEX + 1], uint64_t received_ms,
                          int *fd)
{
    char temp[NAME_MAX + 8];
    *fd = -1;
    int n = snprintf(d->name, sizeof d->name, "%" PRIu64 ".%s.%s", received_ms / 1000, id, d->host);
    if (n < 0 || (size_t)n >= sizeof d->name)
        return report_fail(SP_ERR_LIMIT, "Maildir %s: file name", d->path);
    snprintf(temp, sizeof temp, "tmp/%s", d->name);
    /* What a run that was killed left behind is plaintext of the same message: begun anew. */
    d->fd = openat(d->dir, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (d->fd < 0)
        return report_fail(SP_ERR_SYSTEM, "%s/%s", d->path, temp);
    *fd = d->fd;
    return SP_OK;
}

static enum sp_err sync_new(const struct maildir *d)
{
    int fd = openat(d->dir, "new", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return SP_ERR_SYSTEM;
    enum sp_err err = fsync(fd) == 0 ? SP_OK : SP_ERR_SYSTEM;
    close(fd);
    return err;
}

enum sp_err maildir_end(struct maildir *d, bool keep)
{
    char temp[NAME_MAX + 8], done[NAME_MAX + 8];
    snprintf(temp, sizeof temp, "tmp/%s", d->name);
    snprintf(done, sizeof done, "new/%s", d->name);
    enum sp_err err = keep && fsync(d->fd) != 0 ? SP_ERR_SYSTEM : SP_OK;
    if (close(d->fd) != 0 && err == SP_OK)
        err = SP_ERR_SYSTEM;
    d->fd = -1;
    if (keep && err == SP_OK && renameat(d->dir, temp, d->dir, done) != 0)
        err = SP_ERR_SYSTEM;
    if (keep && err == SP_OK)
        err = sync_new(d);
    if (err != SP_OK)
        report_fail(err, "%s/%s", d->path, done);
    if (!keep || err != SP_OK)
        unlinkat(d->dir, temp, 0);
    return err;
}
