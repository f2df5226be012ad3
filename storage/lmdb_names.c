/* From addresses to users on LMDB: aliases, sub-addresses, postmaster. A target must exist when an
 * alias is made and cannot go away while it is named, so aliases never form a loop. */
#include "storage/lmdb.h"

#include <string.h>

#define DEPTH_MAX                                                                                  \
    16u /* aliases of aliases; the tables cannot hold more than store_alias_add lets */
#define RECORD_MAX (64u * 1024u)
#define POSTMASTER "postmaster"

/* Users found so far. */
struct found {
    struct store *store;
    MDB_txn *txn;
    struct store_user *user;
    size_t n, max;
};

static enum sp_err found_add(struct found *f, uint64_t no)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->user[i].no == no)
            return SP_OK;
    if (f->n == f->max)
        return SP_ERR_LIMIT;
    enum sp_err err = user_get(f->store, f->txn, no, &f->user[f->n]);
    if (err == SP_OK)
        f->n++;
    return err;
}

static enum sp_err resolve_name(struct found *f, const char *name, size_t len, unsigned depth);

static enum sp_err resolve_targets(struct found *f, struct wire_in in, unsigned depth)
{
    while (in.left > 0) {
        size_t len;
        const uint8_t *target = wire_get_b16(&in, STORE_MAX_ADDRESS - 1, &len);
        if (target == NULL)
            return SP_ERR_FORMAT;
        enum sp_err err = resolve_name(f, (const char *)target, len, depth + 1);
        if (err != SP_OK)
            return err;
    }
    return SP_OK;
}

/* The name as it stands: a user, or an alias with all its targets. */
static enum sp_err resolve_name(struct found *f, const char *name, size_t len, unsigned depth)
{
    struct wire_in in;
    struct key key = key_bytes(name, len);
    if (depth > DEPTH_MAX)
        return SP_ERR_LIMIT;
    enum sp_err err = row_get(f->store, f->txn, T_ADDRESSES, &key, &in);
    if (err == SP_OK)
        return found_add(f, wire_get_u64(&in));
    if (err == SP_ERR_NOT_FOUND)
        err = row_get(f->store, f->txn, T_ALIASES, &key, &in);
    return err == SP_OK ? resolve_targets(f, in, depth) : err;
}

/* The name under which an address is known: itself, or itself without "+tag". */
static enum sp_err known_as(struct store *s, MDB_txn *txn, const char *address,
                            char out[STORE_MAX_ADDRESS])
{
    struct wire_in in;
    size_t len = strlen(address);
    struct key key = key_bytes(address, len);
    if (len >= STORE_MAX_ADDRESS)
        return SP_ERR_LIMIT;
    memcpy(out, address, len + 1);
    if (row_get(s, txn, T_ADDRESSES, &key, &in) == SP_OK ||
        row_get(s, txn, T_ALIASES, &key, &in) == SP_OK)
        return SP_OK;
    if (!store_address_base(address, out))
        return SP_ERR_NOT_FOUND;
    key = key_bytes(out, strlen(out));
    if (row_get(s, txn, T_ADDRESSES, &key, &in) == SP_OK)
        return SP_OK;
    return row_get(s, txn, T_ALIASES, &key, &in);
}

static bool is_postmaster(const char *address)
{
    size_t n = strlen(POSTMASTER);
    return strncmp(address, POSTMASTER, n) == 0 && (address[n] == '\0' || address[n] == '@');
}

static enum sp_err first_user(struct found *f)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    enum sp_err err = SP_ERR_NOT_FOUND;
    if (mdb_cursor_open(f->txn, f->store->dbi[T_USERS], &cursor) != 0)
        return SP_ERR_MEMORY;
    while (err == SP_ERR_NOT_FOUND && mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
        struct wire_in no = wire_in(k.mv_data, k.mv_size);
        f->n = 0;
        err = found_add(f, wire_get_u64(&no));
        if (err == SP_OK && f->user[0].state == USER_REMOVED)
            err = SP_ERR_NOT_FOUND;
    }
    mdb_cursor_close(cursor);
    return err;
}

enum sp_err store_resolve(struct store *s, const char *address, struct store_user *out, size_t max,
                          size_t *n)
{
    char name[STORE_MAX_ADDRESS];
    struct found f = {.store = s, .user = out, .max = max};
    enum sp_err err = snapshot(s, &f.txn);
    *n = 0;
    if (err == SP_OK)
        err = known_as(s, f.txn, address, name);
    if (err == SP_OK)
        err = resolve_name(&f, name, strlen(name), 0);
    else if (err == SP_ERR_NOT_FOUND && is_postmaster(address))
        err = first_user(&f);
    *n = err == SP_OK ? f.n : 0;
    return err;
}

enum sp_err store_user_names(struct store *s, uint64_t user,
                             enum sp_err (*each)(void *ctx, const char *address), void *ctx)
{
    static struct store_user users[STORE_MAX_TARGETS];
    struct found f = {.store = s, .user = users, .max = STORE_MAX_TARGETS};
    char alias[STORE_MAX_ADDRESS];
    MDB_cursor *cursor;
    MDB_val k, v;
    enum sp_err err = snapshot(s, &f.txn);
    if (err == SP_OK)
        err = user_get(s, f.txn, user, &users[0]);
    if (err == SP_OK)
        err = each(ctx, users[0].address);
    if (err == SP_OK && mdb_cursor_open(f.txn, s->dbi[T_ALIASES], &cursor) != 0)
        err = SP_ERR_MEMORY;
    if (err != SP_OK)
        return err;
    while (err == SP_OK && mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
        bool his = false;
        f.n = 0;
        if (k.mv_size >= sizeof(alias) || resolve_name(&f, k.mv_data, k.mv_size, 0) != SP_OK)
            continue;
        for (size_t i = 0; i < f.n; i++)
            his = his || users[i].no == user;
        memcpy(alias, k.mv_data, k.mv_size);
        alias[k.mv_size] = '\0';
        if (his)
            err = each(ctx, alias);
    }
    mdb_cursor_close(cursor);
    return err;
}

/* --- aliases --- */

static bool names(struct wire_in in, const char *address)
{
    size_t len, n = strlen(address);
    while (in.left > 0) {
        const uint8_t *target = wire_get_b16(&in, STORE_MAX_ADDRESS - 1, &len);
        if (target != NULL && len == n && memcmp(target, address, n) == 0)
            return true;
    }
    return false;
}

enum sp_err alias_naming(struct store *s, MDB_txn *txn, const char *address,
                         char alias[STORE_MAX_ADDRESS])
{
    MDB_cursor *cursor;
    MDB_val k, v;
    alias[0] = '\0';
    if (mdb_cursor_open(txn, s->dbi[T_ALIASES], &cursor) != 0)
        return SP_ERR_MEMORY;
    while (alias[0] == '\0' && mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
        if (k.mv_size < STORE_MAX_ADDRESS && names(wire_in(v.mv_data, v.mv_size), address)) {
            memcpy(alias, k.mv_data, k.mv_size);
            alias[k.mv_size] = '\0';
        }
    }
    mdb_cursor_close(cursor);
    return SP_OK;
}

/* Writes the targets as they are known, and counts the users that they reach. */
static enum sp_err encode_targets(struct found *f, const char *const *targets, size_t n,
                                  struct wire_out *out, size_t *bad)
{
    char name[STORE_MAX_ADDRESS];
    for (*bad = 0; *bad < n; (*bad)++) {
        enum sp_err err = known_as(f->store, f->txn, targets[*bad], name);
        /* One deeper than it will be asked for, so that this alias may be a target itself. */
        if (err == SP_OK)
            err = resolve_name(f, name, strlen(name), 2);
        if (err != SP_OK)
            return err;
        wire_put_str(out, name);
    }
    return wire_out_ok(out) ? SP_OK : SP_ERR_LIMIT;
}

/* Whether every user found may have one name more. */
static enum sp_err check_names(const struct found *f)
{
    static struct store_user users[STORE_MAX_TARGETS];
    size_t names[STORE_MAX_TARGETS] = {0}; /* aliases of theirs */
    struct found reached = {
        .store = f->store, .txn = f->txn, .user = users, .max = STORE_MAX_TARGETS};
    MDB_cursor *cursor;
    MDB_val k, v;
    enum sp_err err = SP_OK;
    if (mdb_cursor_open(f->txn, f->store->dbi[T_ALIASES], &cursor) != 0)
        return SP_ERR_MEMORY;
    while (err == SP_OK && mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
        reached.n = 0;
        if (resolve_name(&reached, k.mv_data, k.mv_size, 0) != SP_OK)
            continue;
        for (size_t i = 0; i < f->n; i++) {
            for (size_t j = 0; j < reached.n; j++)
                names[i] += users[j].no == f->user[i].no;
            if (names[i] + 2 > STORE_MAX_NAMES) /* their own address, and the new one */
                err = SP_ERR_LIMIT;
        }
    }
    mdb_cursor_close(cursor);
    return err;
}

enum sp_err store_alias_add(struct store *s, const char *alias, const char *const *targets,
                            size_t n, size_t *bad)
{
    static uint8_t buf[RECORD_MAX];
    static struct store_user users[STORE_MAX_TARGETS];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct wire_in in;
    struct key key = key_bytes(alias, strlen(alias));
    *bad = 0;
    if (n == 0 || strlen(alias) >= STORE_MAX_ADDRESS)
        return SP_ERR_LIMIT;
    enum sp_err err = group_take(s, n * STORE_MAX_ADDRESS);
    if (err != SP_OK)
        return err;
    if (row_get(s, s->write, T_ADDRESSES, &key, &in) == SP_OK ||
        row_get(s, s->write, T_ALIASES, &key, &in) == SP_OK)
        return SP_ERR_EXISTS;
    struct found f = {.store = s, .txn = s->write, .user = users, .max = STORE_MAX_TARGETS};
    err = encode_targets(&f, targets, n, &out, bad);
    if (err == SP_OK)
        err = check_names(&f);
    return err == SP_OK ? row_put(s, T_ALIASES, &key, buf, out.len) : err;
}

enum sp_err store_alias_remove(struct store *s, const char *alias, char other[STORE_MAX_ADDRESS])
{
    struct wire_in in;
    struct key key = key_bytes(alias, strlen(alias));
    other[0] = '\0';
    enum sp_err err = group_open(s);
    if (err == SP_OK)
        err = row_get(s, s->write, T_ALIASES, &key, &in);
    if (err == SP_OK)
        err = alias_naming(s, s->write, alias, other);
    if (err == SP_OK && other[0] != '\0')
        err = SP_ERR_DENIED;
    return err == SP_OK ? row_delete(s, T_ALIASES, &key) : err;
}

/* "a@x, b@x", cut where it no longer fits. */
static void join_targets(struct wire_in in, char *text, size_t cap)
{
    struct wire_out out = wire_out(text, cap - 1);
    while (in.left > 0) {
        size_t len;
        const uint8_t *target = wire_get_b16(&in, STORE_MAX_ADDRESS - 1, &len);
        if (out.len > 0)
            wire_put_bytes(&out, ", ", 2);
        if (target != NULL)
            wire_put_bytes(&out, target, len);
    }
    text[out.len] = '\0';
}

enum sp_err store_aliases_each(struct store *s,
                               enum sp_err (*each)(void *ctx, const char *alias,
                                                   const char *targets),
                               void *ctx)
{
    static char text[RECORD_MAX];
    char alias[STORE_MAX_ADDRESS];
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val k, v;
    enum sp_err err = snapshot(s, &txn);
    if (err != SP_OK)
        return err;
    if (mdb_cursor_open(txn, s->dbi[T_ALIASES], &cursor) != 0)
        return SP_ERR_MEMORY;
    while (err == SP_OK && mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
        if (k.mv_size >= sizeof(alias)) {
            err = SP_ERR_FORMAT;
            break;
        }
        memcpy(alias, k.mv_data, k.mv_size);
        alias[k.mv_size] = '\0';
        join_targets(wire_in(v.mv_data, v.mv_size), text, sizeof(text));
        err = each(ctx, alias, text);
    }
    mdb_cursor_close(cursor);
    return err;
}
