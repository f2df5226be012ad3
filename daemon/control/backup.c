/* `sealpostctl backup`: a copy of the database while the appliance runs, by a reader of its own, so
 * that the store goes on undisturbed. Compacted: what was deleted is not in it. Marked, so that a
 * store that opens it knows that time has passed since. The store has written what is copied, and
 * may have been taken over: a process in its cage does that. */
#include "daemon/control/caged.h"
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

static int fail(const char *path, const char *why)
{
    fprintf(stderr, "sealpostctl: %s: %s\n", path, why);
    return 1;
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

/* What the caged process does, the first in the store's folder, the second in the copy's. Both
 * return what LMDB does. */
static int copy_database(void *ctx)
{
    const int *to = ctx;
    MDB_env *env = NULL;
    int rc = mdb_env_create(&env);
    if (rc == 0)
        rc = mdb_env_open(env, "/", MDB_RDONLY | MDB_NOTLS, KEY_MODE);
    if (rc == 0)
        rc = mdb_env_copyfd2(env, *to, MDB_CP_COMPACT);
    if (env != NULL)
        mdb_env_close(env);
    return rc;
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
static int mark_copy(void *ctx)
{
    (void)ctx;
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    int rc = mdb_env_create(&env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(env, 1);
    if (rc == 0)
        rc = mdb_env_open(env, "/", MDB_NOLOCK, KEY_MODE);
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
    return rc;
}

static int run_caged(const char *folder, int keep, int (*work)(void *ctx))
{
    int rc;
    if (caged_in(folder, keep, work, &keep, &rc) != SP_OK)
        return 1;
    return rc == 0 ? 0 : fail(folder, mdb_strerror(rc));
}

/* The copy's folder and file become this uid's: the store's while they are marked. Root's they are
 * before and after, and in a folder that is root's alone. */
static int give_copy(const char *folder, int file, uid_t uid, gid_t gid)
{
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    bool ok = dir >= 0 && fchown(dir, uid, gid) == 0 && fchown(file, uid, gid) == 0;
    int status = ok ? 0 : fail(folder, strerror(errno));
    if (dir >= 0)
        close(dir);
    return status;
}

static int mark(const char *folder, int file, const struct stat *store)
{
    if (geteuid() != 0)
        return run_caged(folder, -1, mark_copy);
    int status = give_copy(folder, file, store->st_uid, store->st_gid);
    if (status == 0)
        status = run_caged(folder, -1, mark_copy);
    return give_copy(folder, file, 0, 0) == 0 ? status : 1;
}

static int make_copy(const char *from, const char *to, const struct stat *store)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%.4000s/data.mdb", to);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, KEY_MODE);
    if (fd < 0)
        return fail(path, strerror(errno));
    int status = run_caged(from, fd, copy_database);
    if (status == 0)
        status = mark(to, fd, store);
    if (status == 0 && fsync(fd) != 0)
        status = fail(path, strerror(errno));
    close(fd);
    return status == 0 ? sync_path(to) : status;
}

/* What is no copy must not look like one, and the next try may have its name. */
static void remove_copy(const char *to)
{
    static const char *const files[] = {"data/data.mdb", "data/lock.mdb", "keeper.key"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%.4000s/%s", to, files[i]);
        unlink(path);
    }
    snprintf(path, sizeof(path), "%.4000s/data", to);
    rmdir(path);
    rmdir(to);
}

int backup_run(const struct config *config, const char *to)
{
    char from[PATH_MAX], copy[PATH_MAX];
    struct stat store;
    snprintf(from, sizeof(from), "%.4000s/data/data.mdb", config->state);
    if (stat(from, &store) != 0)
        return fail(from, strerror(errno));
    snprintf(from, sizeof(from), "%.4000s/data", config->state);
    snprintf(copy, sizeof(copy), "%.4000s/data", to);
    int status = make_folder(to);
    if (status != 0)
        return status;
    status = make_folder(copy);
    if (status == 0)
        status = make_copy(from, copy, &store);
    snprintf(from, sizeof(from), "%.4000s/keeper.key", config->state);
    if (status == 0) {
        snprintf(copy, sizeof(copy), "%.4000s/keeper.key", to);
        status = copy_file(from, copy);
    }
    if (status == 0)
        status = sync_path(to);
    if (status != 0)
        remove_copy(to);
    return status;
}
