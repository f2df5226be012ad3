/* `sealpostctl backup`: a copy of the database while the appliance runs, by a reader of its own, so
 * that the store goes on undisturbed. Compacted: what was deleted is not in it. */
#include "daemon/control/ctl.h"
#include "daemon/config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIR_MODE 0700
#define KEY_MODE 0600
#define KEY_MAX  4096u

static int fail(const char *path, const char *why)
{
    fprintf(stderr, "sealpostctl: %s: %s\n", path, why);
    return 1;
}

/* LMDB makes a lock file where there is none, and it must stay the store's. */
static int open_database(const char *dir, MDB_env **env)
{
    char data[PATH_MAX], lock[PATH_MAX];
    struct stat st;
    snprintf(data, sizeof(data), "%.4000s/data.mdb", dir);
    snprintf(lock, sizeof(lock), "%.4000s/lock.mdb", dir);
    if (stat(data, &st) != 0)
        return fail(data, strerror(errno));
    int rc = mdb_env_create(env);
    if (rc == 0)
        rc = mdb_env_open(*env, dir, MDB_RDONLY | MDB_NOTLS, KEY_MODE);
    if (rc == 0 && geteuid() == 0 && chown(lock, st.st_uid, st.st_gid) != 0)
        rc = errno;
    return rc == 0 ? 0 : fail(data, mdb_strerror(rc));
}

/* Made here, so that nothing is ever written over. */
static int make_folder(const char *path)
{
    if (mkdir(path, DIR_MODE) == 0)
        return 0;
    return fail(path, errno == EEXIST ? "is there already; name a new folder" : strerror(errno));
}

static int sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok ? 0 : fail(path, strerror(errno));
}

/* A small file, by way of one buffer. */
static int copy_file(const char *from, const char *to)
{
    char buf[KEY_MAX];
    int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), out = -1, status = 1;
    if (in < 0)
        return fail(from, strerror(errno));
    ssize_t n = read(in, buf, sizeof(buf));
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, KEY_MODE);
    if (n >= 0 && out >= 0 && write(out, buf, (size_t)n) == n && fsync(out) == 0)
        status = 0;
    else
        fail(to, strerror(errno));
    explicit_bzero(buf, sizeof(buf));
    close(in);
    if (out >= 0)
        close(out);
    return status;
}

int backup_run(const struct config *config, const char *to)
{
    char data[PATH_MAX], from[PATH_MAX], key[PATH_MAX];
    MDB_env *env = NULL;
    int rc;
    snprintf(data, sizeof(data), "%s/data", config->state);
    int status = open_database(data, &env);
    if (status == 0)
        status = make_folder(to);
    snprintf(key, sizeof(key), "%s/data", to);
    if (status == 0)
        status = make_folder(key);
    if (status == 0 && (rc = mdb_env_copy2(env, key, MDB_CP_COMPACT)) != 0)
        status = fail(key, mdb_strerror(rc));
    if (env != NULL)
        mdb_env_close(env);
    snprintf(data, sizeof(data), "%s/data/data.mdb", to);
    if (status == 0)
        status = sync_path(data);
    snprintf(from, sizeof(from), "%s/keeper.key", config->state);
    snprintf(key, sizeof(key), "%s/keeper.key", to);
    if (status == 0)
        status = copy_file(from, key);
    return status == 0 ? sync_path(to) : status;
}
