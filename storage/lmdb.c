/* The store on LMDB: opening, groups of writes, single rows, space. Trusted by the store role
 * alone; it holds nothing secret. Whatever comes out of the file was put there by this code. */
#include "storage/lmdb.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SCHEMA        2u
#define MODE          0600
#define RESERVE_MAX   (64u << 20) /* bytes kept free for deleting */
#define RESERVE_SHARE 16u         /* or this part of a small map */
#define GROUP_MAX     (64u << 20) /* more than any group writes */
#define GROUP_SLACK   64u         /* pages that copying the trees of a group may cost */
#define ROOM_MIN      256u /* pages: with less, no new mail is begun, what is under way may end */

static const char *const table_names[TABLES] = {
    [T_META] = "meta",         [T_USERS] = "users",         [T_ADDRESSES] = "addresses",
    [T_IDS] = "ids",           [T_ALIASES] = "aliases",     [T_CHAINS] = "chains",
    [T_COUNTS] = "counts",     [T_MAILBOXES] = "mailboxes", [T_MAIL_IDS] = "mail_ids",
    [T_MESSAGES] = "messages", [T_BLOCKS] = "blocks",       [T_LOOSE] = "loose",
    [T_DRAFTS] = "drafts",     [T_SENT] = "sent",           [T_RECIPIENTS] = "recipients",
    [T_JOBS] = "jobs",         [T_SECRETS] = "secrets",     [T_USAGE] = "usage",
    [T_TIMERS] = "timers",     [T_LINKS] = "links",
};

static enum sp_err from_mdb(int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return SP_OK;
    case MDB_NOTFOUND:
        return SP_ERR_NOT_FOUND;
    case MDB_KEYEXIST:
        return SP_ERR_EXISTS;
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
    case ENOSPC:
    case EDQUOT:
        return SP_ERR_NO_SPACE;
    case ENOMEM:
        return SP_ERR_MEMORY;
    default:
        if (rc > 0)
            errno = rc;
        return SP_ERR_SYSTEM;
    }
}

/* --- keys --- */

struct key key_bytes(const void *bytes, size_t len)
{
    struct key k = {.len = len < MAX_KEY ? len : MAX_KEY};
    memcpy(k.bytes, bytes, k.len);
    return k;
}

struct key key_u64_bytes(uint64_t n, const void *bytes, size_t len)
{
    struct key k;
    struct wire_out out = wire_out(k.bytes, sizeof(k.bytes));
    wire_put_u64(&out, n);
    wire_put_bytes(&out, bytes, len);
    k.len = out.len;
    return k;
}

struct key key_u64(uint64_t n)
{
    return key_u64_bytes(n, NULL, 0);
}

struct key key_u64_u16(uint64_t n, uint16_t m)
{
    const uint8_t second[2] = {(uint8_t)(m >> 8), (uint8_t)m};
    return key_u64_bytes(n, second, sizeof(second));
}

struct key key_u64_u64(uint64_t n, uint64_t m)
{
    struct key second = key_u64(m);
    return key_u64_bytes(n, second.bytes, second.len);
}

/* --- space --- */

/* Pages in the free list: freed by deleting, and to be used again. */
static uint64_t free_pages(struct store *s)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val key, value;
    uint64_t pages = 0;
    if (snapshot(s, &txn) != SP_OK || mdb_cursor_open(txn, 0, &cursor) != 0)
        return 0;
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
        size_t n; /* LMDB's ID list begins with its length */
        memcpy(&n, value.mv_data, sizeof(n));
        pages += n;
    }
    mdb_cursor_close(cursor);
    return pages;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* What the next group may take: the rest of the map or of the disk, and the free list when these
 * come to their ends; less a reserve, without which nothing could be deleted any more. */
static void measure_room(struct store *s)
{
    MDB_envinfo info;
    struct statvfs fs;
    uint64_t map = s->map_size / s->page;
    uint64_t reserve = RESERVE_MAX / s->page;
    if (reserve > map / RESERVE_SHARE)
        reserve = map / RESERVE_SHARE;
    s->measured = s->group;
    mdb_env_info(s->env, &info);
    uint64_t grow = less(map, info.me_last_pgno + 1);
    if (fstatvfs(s->data, &fs) == 0) {
        uint64_t disk = less((uint64_t)fs.f_bavail * fs.f_frsize / s->page, RESERVE_MAX / s->page);
        if (disk < grow)
            grow = disk;
    }
    s->crowded = grow < reserve + GROUP_MAX / s->page;
    if (s->crowded)
        grow += free_pages(s);
    s->room = less(grow, reserve + GROUP_SLACK);
}

bool store_has_room(struct store *s)
{
    /* Asked for every recipient: a yes is good for the group, a no is looked into again. */
    if (s->write == NULL && (s->measured != s->group || s->room <= ROOM_MIN))
        measure_room(s);
    return !s->spoiled && s->room > ROOM_MIN;
}

/* --- groups --- */

enum sp_err group_lose(struct store *s, int mdb_error)
{
    if (s->write != NULL)
        mdb_txn_abort(s->write);
    s->write = NULL;
    s->spoiled = true;
    s->bytes = s->bytes_committed;
    s->failed = from_mdb(mdb_error);
    if (s->failed == SP_ERR_NOT_FOUND || s->failed == SP_ERR_EXISTS)
        s->failed = SP_ERR_SYSTEM; /* the tables contradict each other */
    uploads_lose(s, s->failed);
    return s->failed;
}

enum sp_err group_open(struct store *s)
{
    if (s->spoiled)
        return s->failed;
    if (s->write != NULL)
        return SP_OK;
    measure_room(s);
    mdb_txn_reset(s->read); /* an old snapshot would keep free pages from being used */
    int rc = mdb_txn_begin(s->env, NULL, 0, &s->write);
    if (rc != 0) {
        s->write = NULL;
        return group_lose(s, rc);
    }
    return SP_OK;
}

enum sp_err group_take(struct store *s, uint64_t bytes)
{
    enum sp_err err = group_open(s);
    uint64_t pages = bytes / s->page + 1;
    if (err != SP_OK)
        return err;
    if (pages > s->room)
        return SP_ERR_NO_SPACE;
    s->room -= pages;
    return SP_OK;
}

static void group_end(struct store *s)
{
    s->write = NULL;
    s->spoiled = false;
    s->failed = SP_OK;
    s->bytes_committed = s->bytes;
    s->pending = 0;
    s->group++;
}

enum sp_err counter_put(struct store *s, const char *name, uint64_t value)
{
    struct key key = key_bytes(name, strlen(name)), v = key_u64(value);
    return row_put(s, T_META, &key, v.bytes, v.len);
}

static enum sp_err counters_put(struct store *s)
{
    enum sp_err err = counter_put(s, "next_user", s->next_user);
    if (err == SP_OK)
        err = counter_put(s, "bytes", s->bytes);
    return err != SP_OK ? err : counter_put(s, "next_message", s->next_message);
}

enum sp_err store_commit(struct store *s)
{
    enum sp_err err = s->failed;
    if (s->write != NULL && s->pending == 0)
        mdb_txn_abort(s->write); /* opened, and then nothing was written */
    else if (s->write != NULL) {
        err = uploads_list(s);
        if (err == SP_OK)
            err = counters_put(s);
        if (err == SP_OK) {
            MDB_txn *txn = s->write;
            s->write = NULL; /* the transaction is over whatever comes out */
            int rc = mdb_txn_commit(txn);
            err = rc != 0 ? group_lose(s, rc) : SP_OK;
        }
    }
    group_end(s);
    return err;
}

uint64_t store_pending(const struct store *s)
{
    if (s->spoiled)
        return UINT64_MAX;
    return s->write != NULL ? s->pending + 1 : 0;
}

enum sp_err snapshot(struct store *s, MDB_txn **txn)
{
    mdb_txn_reset(s->read);
    int rc = mdb_txn_renew(s->read);
    *txn = rc == 0 ? s->read : NULL;
    return from_mdb(rc);
}

enum sp_err current(struct store *s, MDB_txn **txn)
{
    *txn = s->write;
    return s->write != NULL ? SP_OK : snapshot(s, txn);
}

/* --- rows --- */

static MDB_val as_val(const void *bytes, size_t len)
{
    return (MDB_val){.mv_size = len, .mv_data = (void *)(uintptr_t)bytes};
}

enum sp_err row_get(struct store *s, MDB_txn *txn, enum table t, const struct key *key,
                    struct wire_in *value)
{
    MDB_val k = as_val(key->bytes, key->len), v = {0};
    int rc = mdb_get(txn, s->dbi[t], &k, &v);
    *value = wire_in(v.mv_data, v.mv_size);
    return from_mdb(rc);
}

static enum sp_err put(struct store *s, enum table t, const struct key *key, MDB_val *v,
                       unsigned flags)
{
    enum sp_err err = group_open(s);
    MDB_val k = as_val(key->bytes, key->len);
    if (err != SP_OK)
        return err;
    s->pending += v->mv_size + key->len;
    int rc = mdb_put(s->write, s->dbi[t], &k, v, flags);
    if (rc == MDB_KEYEXIST && (flags & MDB_APPEND))
        rc = mdb_put(s->write, s->dbi[t], &k, v, flags & ~(unsigned)MDB_APPEND);
    return rc == 0 ? SP_OK : group_lose(s, rc);
}

enum sp_err row_put(struct store *s, enum table t, const struct key *key, const void *value,
                    size_t len)
{
    MDB_val v = as_val(value, len);
    return put(s, t, key, &v, 0);
}

enum sp_err row_append(struct store *s, enum table t, const struct key *key, const void *value,
                       size_t len)
{
    MDB_val v = as_val(value, len);
    return put(s, t, key, &v, MDB_APPEND);
}

enum sp_err row_reserve(struct store *s, enum table t, const struct key *key, size_t len,
                        void **space)
{
    MDB_val v = {.mv_size = len};
    enum sp_err err = put(s, t, key, &v, MDB_RESERVE | MDB_APPEND);
    *space = v.mv_data;
    return err;
}

enum sp_err row_delete(struct store *s, enum table t, const struct key *key)
{
    enum sp_err err = group_open(s);
    MDB_val k = as_val(key->bytes, key->len);
    if (err != SP_OK)
        return err;
    s->pending += key->len;
    int rc = mdb_del(s->write, s->dbi[t], &k, NULL);
    return rc == 0 || rc == MDB_NOTFOUND ? SP_OK : group_lose(s, rc);
}

/* --- opening --- */

/* A second process would hand out the same numbers: the lock is ours, LMDB's own is not enough. */
static enum sp_err take_lock(struct store *s, const char *dir)
{
    char path[4096];
    if (snprintf(path, sizeof(path), "%s/owner.lock", dir) >= (int)sizeof(path))
        return SP_ERR_LIMIT;
    s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, MODE);
    if (s->lock < 0)
        return SP_ERR_SYSTEM;
    if (flock(s->lock, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? SP_ERR_STATE : SP_ERR_SYSTEM;
    return SP_OK;
}

static int open_env(struct store *s, const char *dir)
{
    int dead, rc = mdb_env_create(&s->env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(s->env, TABLES);
    if (rc == 0)
        rc = mdb_env_set_mapsize(s->env, s->map_size);
    /* Mail is read once, if ever: read-ahead would push what is needed out of memory. */
    if (rc == 0)
        rc = mdb_env_open(s->env, dir, MDB_NOTLS | MDB_NORDAHEAD, MODE);
    if (rc == 0)
        rc = mdb_reader_check(s->env, &dead);
    if (rc == 0)
        rc = mdb_env_get_fd(s->env, &s->data);
    if (rc == 0 && fcntl(s->data, F_SETFD, FD_CLOEXEC) != 0)
        rc = errno;
    return rc;
}

static int open_tables(struct store *s)
{
    MDB_txn *txn;
    MDB_stat stat;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc != 0)
        return rc;
    for (size_t t = 0; t < TABLES && rc == 0; t++)
        rc = mdb_dbi_open(txn, table_names[t], MDB_CREATE, &s->dbi[t]);
    if (rc == 0)
        rc = mdb_stat(txn, s->dbi[T_META], &stat);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    s->page = stat.ms_psize;
    rc = mdb_txn_commit(txn);
    return rc != 0 ? rc : mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->read);
}

enum sp_err counter_get(struct store *s, MDB_txn *txn, const char *name, uint64_t *value)
{
    struct key key = key_bytes(name, strlen(name));
    struct wire_in in;
    enum sp_err err = row_get(s, txn, T_META, &key, &in);
    if (err == SP_ERR_NOT_FOUND)
        return SP_OK; /* a new store: *value stays what it is */
    *value = wire_get_u64(&in);
    return err == SP_OK && !wire_in_done(&in) ? SP_ERR_FORMAT : err;
}

static enum sp_err load_counters(struct store *s)
{
    MDB_txn *txn;
    uint64_t schema = 0;
    enum sp_err err = snapshot(s, &txn);
    if (err == SP_OK)
        err = counter_get(s, txn, "schema", &schema);
    if (err == SP_OK)
        err = counter_get(s, txn, "next_user", &s->next_user);
    if (err == SP_OK)
        err = counter_get(s, txn, "next_message", &s->next_message);
    if (err == SP_OK)
        err = counter_get(s, txn, "first_seq", &s->first_seq);
    if (err == SP_OK)
        err = counter_get(s, txn, "bytes", &s->bytes);
    s->bytes_committed = s->bytes;
    if (err != SP_OK)
        return err;
    if (schema != 0)
        return schema == SCHEMA ? numbers_go_on(s) : SP_ERR_CONFIG;
    err = counter_put(s, "schema", SCHEMA);
    return err != SP_OK ? err : store_commit(s);
}

enum sp_err store_open(const char *dir, uint64_t map_size, struct store **out)
{
    struct store *s = calloc(1, sizeof(*s));
    *out = NULL;
    if (s == NULL)
        return SP_ERR_MEMORY;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    *s = (struct store){.lock = -1,
                        .data = -1,
                        .next_user = 1,
                        .next_message = 1,
                        .group = 1,
                        .sweep = true,
                        .map_size = map_size / page * page};
    LIST_INIT(&s->uploads);
    enum sp_err err = take_lock(s, dir);
    if (err == SP_OK)
        err = from_mdb(open_env(s, dir));
    if (err == SP_OK)
        err = from_mdb(open_tables(s));
    if (err == SP_OK)
        err = load_counters(s);
    if (err != SP_OK) {
        int saved = errno;
        store_close(s);
        errno = saved;
        return err;
    }
    *out = s;
    return SP_OK;
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    while (!LIST_EMPTY(&s->uploads)) {
        struct store_upload *u = LIST_FIRST(&s->uploads);
        LIST_REMOVE(u, next);
        free(u); /* what was committed of it is in loose */
    }
    if (s->write != NULL)
        mdb_txn_abort(s->write);
    if (s->read != NULL)
        mdb_txn_abort(s->read);
    if (s->env != NULL)
        mdb_env_close(s->env);
    if (s->lock >= 0)
        close(s->lock);
    free(s);
}

static uint64_t rows(struct store *s, MDB_txn *txn, enum table t)
{
    MDB_stat stat;
    return mdb_stat(txn, s->dbi[t], &stat) == 0 ? stat.ms_entries : 0;
}

enum sp_err store_totals(struct store *s, struct store_totals *out)
{
    MDB_txn *txn;
    MDB_envinfo info;
    *out = (struct store_totals){.map_size = s->map_size};
    enum sp_err err = snapshot(s, &txn);
    if (err != SP_OK)
        return err;
    int rc = mdb_env_info(s->env, &info);
    if (rc != 0)
        return from_mdb(rc);
    out->users = rows(s, txn, T_USERS);
    out->messages = rows(s, txn, T_MESSAGES);
    out->drafts = rows(s, txn, T_DRAFTS);
    out->jobs = rows(s, txn, T_JOBS);
    out->secrets = rows(s, txn, T_SECRETS);
    out->links = rows(s, txn, T_LINKS);
    out->map_used = (info.me_last_pgno + 1) * s->page;
    out->bytes = s->bytes_committed;
    return SP_OK;
}
