/* `sealpostctl backup`: a copy of the database while the appliance runs, by a reader of its own, so
 * that the store goes on undisturbed. Compacted: what was deleted is not in it. Marked, so that a
 * store that opens it knows that time has passed since. */
#include "daemon/control/ctl.h"
#include "daemon/config.h"
#include "envelope/wire.h"
#include "storage/copied.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DIR_MODE 0700
#define KEY_MODE 0600
#define KEY_MAX  4096u
#define UMASK    0077 /* LMDB makes the copy for everybody to read */

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

static int put_mark(MDB_txn *txn)
{
    uint8_t when[8];
    char name[] = COPIED_ROW;
    MDB_dbi table;
    struct timespec t;
    struct wire_out out = wire_out(when, sizeof(when));
    clock_gettime(CLOCK_REALTIME, &t);
    wire_put_u64(&out, (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000);
    MDB_val key = {.mv_size = sizeof(name) - 1, .mv_data = name},
            value = {.mv_size = sizeof(when), .mv_data = when};
    int rc = mdb_dbi_open(txn, COPIED_TABLE, 0, &table);
    return rc == 0 ? mdb_put(txn, table, &key, &value, 0) : rc;
}

/* Nobody else has the copy open: no lock file. */
static int mark_copy(const char *dir)
{
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    int rc = mdb_env_create(&env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(env, 1);
    if (rc == 0)
        rc = mdb_env_open(env, dir, MDB_NOLOCK, KEY_MODE);
    if (rc == 0)
        rc = mdb_txn_begin(env, NULL, 0, &txn);
    if (rc == 0)
        rc = put_mark(txn);
    if (rc == 0)
        rc = mdb_txn_commit(txn);
    else if (txn != NULL)
        mdb_txn_abort(txn);
    if (env != NULL)
        mdb_env_close(env);
    return rc == 0 ? 0 : fail(dir, mdb_strerror(rc));
}

int backup_run(const struct config *config, const char *to)
{
    char data[PATH_MAX], from[PATH_MAX], key[PATH_MAX];
    MDB_env *env = NULL;
    int rc;
    umask(UMASK);
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
    if (status == 0)
        status = mark_copy(key);
    snprintf(data, sizeof(data), "%s/data/data.mdb", to);
    if (status == 0)
        status = sync_path(data);
    snprintf(from, sizeof(from), "%s/keeper.key", config->state);
    snprintf(key, sizeof(key), "%s/keeper.key", to);
    if (status == 0)
        status = copy_file(from, key);
    return status == 0 ? sync_path(to) : status;
}
