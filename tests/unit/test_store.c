/* The store's backend alone, in a directory of its own: users, aliases, mail, and what is left
 * after crashes and full maps. */
#include "storage/copied.h"
#include "storage/store.h"
#include "envelope/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <lmdb.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define MAP  (64u << 20)
#define MOST 2000 /* messages to count: more than a round of test_killed fits into MAP */

struct place {
    char dir[64];
    struct store *s;
};

static int set_up(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    snprintf(p->dir, sizeof(p->dir), "/tmp/sealpost-store-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    assert_int_equal(store_open(p->dir, MAP, &p->s), SP_OK);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    static const char *const files[] = {"data.mdb", "lock.mdb", "owner.lock"};
    struct place *p = *state;
    char path[128];
    store_close(p->s);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", p->dir, files[i]);
        unlink(path);
    }
    rmdir(p->dir);
    free(p);
    return 0;
}

static void reopen(struct place *p, uint64_t map)
{
    store_close(p->s);
    assert_int_equal(store_open(p->dir, map, &p->s), SP_OK);
}

static void id_of(uint8_t id[ID_SIZE], unsigned n)
{
    memset(id, 0, ID_SIZE);
    id[0] = 1;
    id[14] = (uint8_t)(n >> 8);
    id[15] = (uint8_t)n;
}

/* A user who is enrolled, number n. */
static uint64_t add_user(struct store *s, const char *address, unsigned n)
{
    uint8_t hash[HASH_SIZE] = {1};
    struct store_user u;
    assert_int_equal(store_user_add(s, address, hash, 1000), SP_OK);
    assert_int_equal(store_commit(s), SP_OK);
    assert_int_equal(store_user_by_address(s, address, &u), SP_OK);
    assert_int_equal(u.state, USER_INVITED);
    id_of(u.user_id, n);
    u.chain_seq = 1;
    u.generation = 1;
    u.puk_pk[0] = (uint8_t)n;
    assert_int_equal(store_chain_add(s, &u, (const uint8_t *)"wire", 4), SP_OK);
    assert_int_equal(store_commit(s), SP_OK);
    return u.no;
}

static uint8_t byte_at(unsigned message, unsigned piece, size_t i)
{
    return (uint8_t)(message * 7 + piece * 13 + i * 31 + (i >> 8));
}

/* Sends sizes[] bytes as pieces of message number n, in blocks as the sealer makes them. */
static enum sp_err upload(struct store_upload *u, unsigned n, const size_t *sizes, unsigned pieces)
{
    static uint8_t block[49256];
    enum sp_err err = SP_OK;
    for (unsigned p = 0; p < pieces; p++) {
        for (size_t at = 0; at < sizes[p];) {
            size_t len = sizes[p] - at < sizeof(block) ? sizes[p] - at : sizeof(block);
            for (size_t i = 0; i < len; i++)
                block[i] = byte_at(n, p, at + i);
            err = store_upload_append(u, (uint16_t)p, block, len);
            at += len;
        }
    }
    return err;
}

static enum sp_err deliver(struct store_upload *u, unsigned n, unsigned pieces,
                           const unsigned *users, size_t n_users)
{
    struct store_box box[16] = {0};
    struct store_message m = {.received_ms = 1000 + n,
                              .pieces = (uint16_t)pieces,
                              .envelope = (const uint8_t *)"envelope",
                              .envelope_len = 8,
                              .box = box,
                              .boxes = n_users};
    id_of(m.message_id, n);
    for (size_t i = 0; i < n_users; i++) {
        id_of(box[i].user_id, users[i]);
        box[i].generation = 1;
        box[i].bytes = (const uint8_t *)"box";
        box[i].len = 3;
    }
    return store_upload_deliver(u, &m);
}

static enum sp_err send(struct store *s, unsigned n, const size_t *sizes, unsigned pieces,
                        const unsigned *users, size_t n_users)
{
    struct store_upload *u;
    assert_int_equal(store_upload_begin(s, &u), SP_OK);
    enum sp_err err = upload(u, n, sizes, pieces);
    if (err != SP_OK) {
        store_upload_abort(u);
        return err;
    }
    return deliver(u, n, pieces, users, n_users);
}

/* The whole piece reads as it was sent, in steps of an odd size. */
static void check_piece(struct store *s, uint64_t user, unsigned n, unsigned piece, size_t size)
{
    uint8_t id[ID_SIZE], buf[30011];
    size_t got;
    uint64_t total;
    id_of(id, n);
    for (size_t at = 0; at < size; at += got) {
        assert_int_equal(
            store_read(s, user, id, (uint16_t)piece, at, buf, sizeof(buf), &got, &total), SP_OK);
        assert_int_equal(total, size);
        assert_true(got > 0);
        for (size_t i = 0; i < got; i++)
            if (buf[i] != byte_at(n, piece, at + i))
                fail_msg("byte %zu of piece %u", at + i, piece);
    }
    assert_int_equal(store_read(s, user, id, (uint16_t)piece, size, buf, 1, &got, &total), SP_OK);
    assert_int_equal(got, 0);
    assert_int_equal(store_read(s, user, id, (uint16_t)piece, size + 1, buf, 1, &got, &total),
                     SP_ERR_LIMIT);
}

static size_t count(struct store *s, uint64_t user)
{
    static struct store_entry e[MOST];
    size_t n;
    assert_int_equal(store_list(s, user, 0, e, MOST, &n), SP_OK);
    return n;
}

static void sweep_all(struct store *s)
{
    bool more = true;
    for (int i = 0; more && i < 10000; i++) {
        assert_int_equal(store_sweep(s, 64, &more), SP_OK);
        assert_int_equal(store_commit(s), SP_OK);
    }
    assert_false(more);
}

static void test_addresses(void **state)
{
    char out[STORE_MAX_ADDRESS], long_text[400];
    (void)state;
    assert_int_equal(store_address("Ann+X@Example.ORG", 17, false, out), SP_OK);
    assert_string_equal(out, "ann+x@example.org");
    assert_true(store_address_base(out, long_text));
    assert_string_equal(long_text, "ann@example.org");
    assert_false(store_address_base("ann@example.org", long_text));
    assert_false(store_address_base("+x@example.org", long_text));
    assert_false(store_address_base("ann@exam+ple.org", long_text));
    assert_string_equal(store_address_domain("\"a@b\"@c"), "c");
    assert_int_equal(store_address("J\xc3\xb6rg@B\xc3\x9c"
                                   "CHER.example",
                                   21, false, out),
                     SP_OK);
    assert_string_equal(out, "j\xc3\xb6rg@xn--bcher-kva.example");
    assert_int_equal(store_address("a@\xff.example", 11, false, out), SP_ERR_FORMAT);
    assert_string_equal(out, "");
    assert_int_equal(store_address("Postmaster", 10, true, out), SP_OK);
    assert_int_equal(store_address("Postmaster", 10, false, out), SP_ERR_FORMAT);
    assert_int_equal(store_address("@b", 2, false, out), SP_ERR_FORMAT);
    assert_int_equal(store_address("a@", 2, false, out), SP_ERR_FORMAT);
    assert_int_equal(store_address("a\0b@c", 5, false, out), SP_ERR_FORMAT);
    assert_int_equal(store_address("a\x7f@c", 4, false, out), SP_ERR_FORMAT);
    memset(long_text, 'a', sizeof(long_text));
    assert_int_equal(store_address(long_text, sizeof(long_text), false, out), SP_ERR_LIMIT);
}

static void test_users(void **state)
{
    struct place *p = *state;
    struct store_user u;
    uint8_t hash[HASH_SIZE] = {9}, wires[16];
    size_t len;
    bool more;
    assert_int_equal(store_user_by_address(p->s, "a@x", &u), SP_ERR_NOT_FOUND);
    uint64_t a = add_user(p->s, "a@x", 1);
    assert_int_equal(store_user_add(p->s, "a@x", hash, 1), SP_ERR_EXISTS);
    assert_int_equal(store_user_add(p->s, "b@x", hash, 77), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    hash[0] = 10; /* a new code takes the place of the old */
    assert_int_equal(store_user_add(p->s, "b@x", hash, 78), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    reopen(p, MAP);
    assert_int_equal(store_user_by_address(p->s, "b@x", &u), SP_OK);
    assert_int_equal(u.code_expiry_ms, 78);
    assert_int_equal(u.code_hash[0], 10);
    id_of(u.user_id, 1);
    u.chain_seq = 1;
    assert_int_equal(store_chain_add(p->s, &u, (const uint8_t *)"w", 1), SP_ERR_EXISTS);
    u.chain_seq = 2;
    assert_int_equal(store_chain_add(p->s, &u, (const uint8_t *)"w", 1), SP_ERR_STATE);
    assert_int_equal(store_user_by_no(p->s, a, &u), SP_OK);
    u.chain_seq = 2;
    u.generation = 2;
    assert_int_equal(store_chain_add(p->s, &u, (const uint8_t *)"second", 6), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(store_chain_get(p->s, a, 0, wires, 16, &len, &more), SP_OK);
    assert_int_equal(len, 10);
    assert_memory_equal(wires, "wiresecond", 10);
    assert_int_equal(store_chain_get(p->s, a, 0, wires, 6, &len, &more), SP_OK);
    assert_int_equal(len, 4);
    assert_true(more);
    assert_int_equal(store_chain_get(p->s, a, 2, wires, 16, &len, &more), SP_OK);
    assert_int_equal(len, 0);
    assert_false(more);
}

static void test_aliases(void **state)
{
    struct place *p = *state;
    struct store_user found[8];
    char name[STORE_MAX_ADDRESS];
    size_t n, bad;
    add_user(p->s, "a@x", 1);
    add_user(p->s, "b@x", 2);
    assert_int_equal(store_alias_add(p->s, "all@x", (const char *[]){"a@x", "b+t@x"}, 2, &bad),
                     SP_OK);
    assert_int_equal(store_alias_add(p->s, "more@x", (const char *[]){"all@x", "a@x"}, 2, &bad),
                     SP_OK);
    assert_int_equal(store_alias_add(p->s, "me@x", (const char *[]){"a@x", "me@x"}, 2, &bad),
                     SP_ERR_NOT_FOUND);
    assert_int_equal(bad, 1);
    assert_int_equal(store_alias_add(p->s, "a@x", (const char *[]){"b@x"}, 1, &bad), SP_ERR_EXISTS);
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(store_resolve(p->s, "more+tag@x", found, 8, &n), SP_OK);
    assert_int_equal(n, 2);
    assert_string_equal(found[0].address, "a@x");
    assert_string_equal(found[1].address, "b@x");
    assert_int_equal(store_resolve(p->s, "more@x", found, 1, &n), SP_ERR_LIMIT);
    assert_int_equal(store_resolve(p->s, "c@x", found, 8, &n), SP_ERR_NOT_FOUND);
    assert_int_equal(store_resolve(p->s, "postmaster@x", found, 8, &n), SP_OK);
    assert_string_equal(found[0].address, "a@x");
    assert_int_equal(store_user_add(p->s, "all@x", found[0].head, 1), SP_ERR_EXISTS);
    assert_int_equal(store_user_remove(p->s, "b@x", name), SP_ERR_DENIED);
    assert_string_equal(name, "all@x");
    assert_int_equal(store_alias_remove(p->s, "all@x", name), SP_ERR_DENIED);
    assert_string_equal(name, "more@x");
    assert_int_equal(store_alias_remove(p->s, "more@x", name), SP_OK);
    assert_int_equal(store_alias_remove(p->s, "all@x", name), SP_OK);
    assert_int_equal(store_user_remove(p->s, "a@x", name), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(store_resolve(p->s, "postmaster@x", found, 8, &n), SP_OK);
    assert_string_equal(found[0].address, "b@x");
    assert_int_equal(store_resolve(p->s, "a@x", found, 8, &n), SP_ERR_NOT_FOUND);
}

static void test_mail(void **state)
{
    struct place *p = *state;
    const size_t sizes[] = {4500, 1, 300000};
    uint64_t a = add_user(p->s, "a@x", 1), b = add_user(p->s, "b@x", 2);
    const uint8_t *envelope, *box;
    size_t envelope_len, box_len;
    struct store_totals t;
    uint8_t id[ID_SIZE];
    id_of(id, 70);
    assert_int_equal(send(p->s, 70, sizes, 3, (unsigned[]){1, 2, 9, 2}, 4), SP_OK);
    assert_int_equal(count(p->s, a), 0); /* not before the commit */
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(count(p->s, a), 1);
    assert_int_equal(count(p->s, b), 1);
    for (unsigned i = 0; i < 3; i++)
        check_piece(p->s, b, 70, i, sizes[i]);
    assert_int_equal(store_fetch(p->s, a, id, &envelope, &envelope_len, &box, &box_len), SP_OK);
    assert_memory_equal(envelope, "envelope", envelope_len);
    assert_memory_equal(box, "box", box_len);
    assert_int_equal(store_fetch(p->s, 99, id, &envelope, &envelope_len, &box, &box_len),
                     SP_ERR_NOT_FOUND);
    assert_int_equal(send(p->s, 70, sizes, 1, (unsigned[]){1}, 1), SP_ERR_EXISTS);
    assert_int_equal(send(p->s, 71, sizes, 1, (unsigned[]){9}, 1), SP_ERR_NOT_FOUND);
    reopen(p, MAP);
    assert_int_equal(store_delete(p->s, a, id, 1), SP_OK);
    assert_int_equal(store_delete(p->s, a, id, 1), SP_ERR_NOT_FOUND);
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(count(p->s, a), 0);
    check_piece(p->s, b, 70, 2, sizes[2]); /* kept for the other */
    assert_int_equal(store_totals(p->s, &t), SP_OK);
    assert_int_equal(t.bytes, 304501 + 8);
    assert_int_equal(store_delete(p->s, b, id, 1), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(store_totals(p->s, &t), SP_OK);
    assert_int_equal(t.messages, 0);
    assert_int_equal(t.bytes, 0);
}

static void test_list(void **state)
{
    struct place *p = *state;
    const size_t size = 100;
    struct store_entry e[10];
    size_t n;
    uint8_t id[ID_SIZE];
    uint64_t a = add_user(p->s, "a@x", 1);
    for (unsigned i = 1; i <= 25; i++)
        assert_int_equal(send(p->s, i, &size, 1, (unsigned[]){1}, 1), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(store_list(p->s, a, 0, e, 10, &n), SP_OK);
    assert_int_equal(n, 10);
    assert_int_equal(e[9].seq, 10);
    assert_int_equal(e[9].received_ms, 1010);
    assert_int_equal(e[9].bytes, 100 + 8 + 3);
    assert_int_equal(store_list(p->s, a, 20, e, 10, &n), SP_OK);
    assert_int_equal(n, 5);
    id_of(id, 25);
    assert_int_equal(store_delete(p->s, a, id, 1), SP_OK);
    assert_int_equal(send(p->s, 26, &size, 1, (unsigned[]){1}, 1), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(store_list(p->s, a, 24, e, 10, &n), SP_OK);
    assert_int_equal(n, 1);
    assert_int_equal(e[0].seq, 26); /* a number is never used again */
}

/* Closes it, and makes it a backup of a time that lies ahead of the clock if ahead. */
static uint64_t mark(struct place *p, bool ahead)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi meta;
    uint8_t row[8];
    char name[] = COPIED_ROW;
    uint64_t when = ((uint64_t)time(NULL) + (ahead ? 86400 : 0)) * 1000;
    struct wire_out out = wire_out(row, sizeof(row));
    MDB_val key = {sizeof(name) - 1, name}, value = {sizeof(row), row};
    wire_put_u64(&out, when);
    store_close(p->s);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 1), 0);
    assert_int_equal(mdb_env_open(env, p->dir, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, COPIED_TABLE, 0, &meta), 0);
    assert_int_equal(mdb_put(txn, meta, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    return when;
}

static uint64_t mark_copied(struct place *p, bool ahead)
{
    uint64_t when = mark(p, ahead);
    assert_int_equal(store_open(p->dir, MAP, &p->s), SP_OK);
    return when;
}

/* The number that the next mail gets, message n for the users who have that one box. */
static uint64_t number(struct place *p, uint64_t user, unsigned box, unsigned n)
{
    const size_t size = 100;
    struct store_entry e[50];
    size_t entries;
    assert_int_equal(send(p->s, n, &size, 1, &box, 1), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(store_list(p->s, user, 0, e, 50, &entries), SP_OK);
    return e[entries - 1].seq;
}

/* A database that came back gives out no number again, not in a mailbox that is empty, nor in one
 * that is made anew; once is enough; and when it comes back again, not those since the last time.
 */
static void test_copied(void **state)
{
    struct place *p = *state;
    uint64_t a = add_user(p->s, "a@x", 1), b = add_user(p->s, "b@x", 2), seen;
    assert_int_equal(number(p, a, 1, 1), 1);
    uint64_t when = mark_copied(p, false);
    seen = number(p, a, 1, 2);
    assert_true(seen >= when);
    assert_true(number(p, b, 2, 3) >= when);
    assert_true(number(p, add_user(p->s, "c@x", 3), 3, 4) >= when);
    reopen(p, MAP);
    assert_int_equal(number(p, a, 1, 5), seen + 1);
    usleep(20000);
    mark_copied(p, false);
    assert_true(number(p, a, 1, 6) > seen + 10);
    when = mark_copied(p, true);
    seen = number(p, a, 1, 7);
    assert_true(seen >= when + 1000000);
    mark_copied(p, false);
    assert_true(number(p, a, 1, 8) >= seen + 1000000);
    assert_true(number(p, a, 1, 9) < UINT64_C(1) << 53);
}

/* Of the folder's database, into or out of the other file. */
static void copy_data(const struct place *p, bool back)
{
    char data[128], copy[128], *from = back ? copy : data, *to = back ? data : copy;
    static uint8_t bytes[4096];
    size_t n;
    snprintf(data, sizeof(data), "%s/data.mdb", p->dir);
    snprintf(copy, sizeof(copy), "%s/copy", p->dir);
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_true(in != NULL && out != NULL);
    while ((n = fread(bytes, 1, sizeof(bytes), in)) > 0)
        assert_int_equal(fwrite(bytes, 1, n, out), n);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

/* One and the same copy comes back again and again, with a clock that stands before its time. */
static void test_copied_again(void **state)
{
    struct place *p = *state;
    uint64_t a = add_user(p->s, "a@x", 1), seen = 0;
    for (unsigned n = 0; n < 3; n++) {
        if (n == 0) {
            mark(p, true);
            copy_data(p, false);
        } else {
            store_close(p->s);
            copy_data(p, true);
        }
        assert_int_equal(store_open(p->dir, MAP, &p->s), SP_OK);
        assert_true(number(p, a, 1, 1) > seen);
        for (unsigned i = 2; i < 12; i++)
            seen = number(p, a, 1, i);
        usleep(300000); /* what chance adds is less */
    }
}

static void test_abort(void **state)
{
    struct place *p = *state;
    const size_t sizes[] = {5 << 20};
    struct store_upload *u;
    struct store_totals before, after;
    add_user(p->s, "a@x", 1);
    sweep_all(p->s);
    assert_int_equal(store_totals(p->s, &before), SP_OK);
    for (int committed = 0; committed < 2; committed++) {
        assert_int_equal(store_upload_begin(p->s, &u), SP_OK);
        assert_int_equal(upload(u, 1, sizes, 1), SP_OK);
        if (committed)
            assert_int_equal(store_commit(p->s), SP_OK);
        store_upload_abort(u);
        assert_int_equal(store_commit(p->s), SP_OK);
        sweep_all(p->s);
    }
    for (int i = 0; i < 10; i++) { /* the space is used again: sixty megabytes would not fit */
        assert_int_equal(store_upload_begin(p->s, &u), SP_OK);
        assert_int_equal(upload(u, 1, sizes, 1), SP_OK);
        assert_int_equal(store_commit(p->s), SP_OK);
        store_upload_abort(u);
        sweep_all(p->s);
    }
    assert_int_equal(store_totals(p->s, &after), SP_OK);
    assert_true(after.map_used < before.map_used + (32u << 20));
}

static void crash(const char *dir, unsigned step)
{
    const size_t sizes[] = {2 << 20};
    struct store *s;
    struct store_upload *u;
    if (store_open(dir, MAP, &s) != SP_OK || store_upload_begin(s, &u) != SP_OK)
        _exit(1);
    upload(u, 50, sizes, 1);
    if (step >= 1 && store_commit(s) != SP_OK) /* half of it on disk */
        _exit(1);
    upload(u, 50, sizes, 1);
    if (step >= 2 && deliver(u, 50, 1, (unsigned[]){1}, 1) != SP_OK)
        _exit(1);
    if (step >= 3 && store_commit(s) != SP_OK)
        _exit(1);
    _exit(0);
}

static void test_crash(void **state)
{
    struct place *p = *state;
    struct store_totals t;
    uint64_t a = add_user(p->s, "a@x", 1), used = 0;
    for (unsigned step = 0; step <= 3; step++) {
        int status;
        store_close(p->s);
        p->s = NULL;
        pid_t pid = fork();
        if (pid == 0)
            crash(p->dir, step);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(store_open(p->dir, MAP, &p->s), SP_OK);
        assert_int_equal(count(p->s, a), step == 3 ? 1 : 0);
        sweep_all(p->s);
        assert_int_equal(store_totals(p->s, &t), SP_OK);
        used = t.map_used;
    }
    assert_true(used < 16u << 20); /* what was left behind has been used again */
}

/* Acknowledges over the pipe what is committed, until it is killed. */
static void take_mail(const char *dir, unsigned from, int acks)
{
    const size_t sizes[] = {4500, 150000};
    struct store *s;
    bool more;
    if (store_open(dir, MAP, &s) != SP_OK)
        _exit(1);
    for (unsigned n = from;; n += 4) {
        for (unsigned i = 0; i < 4; i++)
            if (send(s, n + i, sizes, i == 3 ? 2 : 1, (unsigned[]){1, 2}, 2) != SP_OK)
                _exit(0);
        store_sweep(s, 16, &more);
        if (store_commit(s) != SP_OK || write(acks, &n, sizeof(n)) != sizeof(n))
            _exit(0);
    }
}

static void check_group(struct store *s, uint64_t user, unsigned n)
{
    for (unsigned i = 0; i < 4; i++) {
        check_piece(s, user, n + i, 0, 4500);
        if (i == 3)
            check_piece(s, user, n + i, 1, 150000);
    }
}

/* Killed at any moment: what was acknowledged is there, and nothing is there by half. */
static void test_killed(void **state)
{
    struct place *p = *state;
    uint64_t a = add_user(p->s, "a@x", 1), b = add_user(p->s, "b@x", 2);
    unsigned from = 0, acked;
    for (unsigned round = 0; round < 12; round++) {
        int acks[2];
        unsigned groups = 0;
        assert_int_equal(pipe(acks), 0);
        store_close(p->s);
        p->s = NULL;
        pid_t pid = fork();
        if (pid == 0)
            take_mail(p->dir, from, acks[1]);
        close(acks[1]);
        usleep(20000 + 3700 * round);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(store_open(p->dir, MAP, &p->s), SP_OK);
        for (; read(acks[0], &acked, sizeof(acked)) == sizeof(acked); groups++)
            check_group(p->s, groups % 2 ? a : b, acked);
        close(acks[0]);
        size_t n = count(p->s, a), want = from + groups * 4;
        assert_true(n == want || n == want + 4); /* the last may be on disk without its answer */
        assert_int_equal(count(p->s, b), n);
        if (n > want)
            check_group(p->s, a, (unsigned)want);
        from = (unsigned)n;
        if (from > 400)
            break;
    }
    assert_true(from > 0);
}

static void test_two_processes(void **state)
{
    struct place *p = *state;
    struct store *other;
    assert_int_equal(store_open(p->dir, MAP, &other), SP_ERR_STATE);
    assert_null(other);
}

static void test_full(void **state)
{
    struct place *p = *state;
    const size_t big = 1 << 20, small = 4500;
    const unsigned to[] = {1};
    uint8_t id[ID_SIZE];
    uint64_t a = add_user(p->s, "a@x", 1);
    unsigned n = 0, kept = 0;
    enum sp_err err;
    reopen(p, 24u << 20);
    assert_true(store_has_room(p->s));
    do { /* a small one shares the group with the big one that fails */
        assert_int_equal(send(p->s, 1000 + n, &small, 1, to, 1), SP_OK);
        err = send(p->s, n, &big, 1, to, 1);
        assert_int_equal(store_commit(p->s), SP_OK);
        kept += err == SP_OK;
        n++;
    } while (err == SP_OK && n < 100);
    assert_int_equal(err, SP_ERR_NO_SPACE);
    assert_true(kept > 10);
    assert_int_equal(count(p->s, a), kept + n);
    check_piece(p->s, a, 1000 + n - 1, 0, small);
    while (send(p->s, 2000 + n, &small, 1, to, 1) == SP_OK && n < 10000) {
        assert_int_equal(store_commit(p->s), SP_OK);
        n++;
    }
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_false(store_has_room(p->s));
    check_piece(p->s, a, kept - 1, 0, big);
    for (unsigned i = 0; i < kept; i++) { /* deleting works in a full store */
        id_of(id, i);
        assert_int_equal(store_delete(p->s, a, id, 1), SP_OK);
        assert_int_equal(store_commit(p->s), SP_OK);
    }
    sweep_all(p->s);
    assert_true(store_has_room(p->s));
    for (unsigned i = 0; i < kept / 2; i++) /* and makes room */
        assert_int_equal(send(p->s, 20000 + i, &big, 1, to, 1), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    check_piece(p->s, a, 20000, 0, big);
    reopen(p, MAP); /* so does a larger map */
    assert_true(store_has_room(p->s));
}

static void test_remove_user(void **state)
{
    struct place *p = *state;
    const size_t sizes[] = {5000, 60000};
    char alias[STORE_MAX_ADDRESS];
    struct store_totals t;
    struct store_user u;
    add_user(p->s, "a@x", 1);
    uint64_t b = add_user(p->s, "b@x", 2);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(send(p->s, i, sizes, 2, (unsigned[]){1, 2}, i % 2 + 1), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(store_user_remove(p->s, "a@x", alias), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(store_user_by_address(p->s, "a@x", &u), SP_ERR_NOT_FOUND);
    reopen(p, MAP); /* goes on after a restart */
    sweep_all(p->s);
    assert_int_equal(store_totals(p->s, &t), SP_OK);
    assert_int_equal(t.users, 1);
    assert_int_equal(t.messages, 50);
    assert_int_equal(count(p->s, b), 50);
    check_piece(p->s, b, 1, 1, 60000);
    uint64_t again = add_user(p->s, "a@x", 1);
    assert_int_equal(count(p->s, again), 0);
}

static void test_rejects(void **state)
{
    struct place *p = *state;
    struct store_upload *u;
    const size_t size = 100;
    add_user(p->s, "a@x", 1);
    assert_int_equal(store_upload_begin(p->s, &u), SP_OK);
    assert_int_equal(deliver(u, 1, 1, (unsigned[]){1}, 1), SP_ERR_FORMAT); /* no bytes */
    assert_int_equal(store_upload_begin(p->s, &u), SP_OK);
    assert_int_equal(upload(u, 1, &size, 1), SP_OK);
    assert_int_equal(deliver(u, 1, 2, (unsigned[]){1}, 1), SP_ERR_FORMAT); /* a piece is missing */
    assert_int_equal(store_upload_begin(p->s, &u), SP_OK);
    assert_int_equal(store_upload_append(u, STORE_MAX_PIECES, "x", 1), SP_ERR_LIMIT);
    assert_int_equal(upload(u, 1, &size, 1), SP_ERR_LIMIT); /* final */
    assert_int_equal(deliver(u, 1, 1, (unsigned[]){1}, 1), SP_ERR_LIMIT);
    assert_int_equal(store_commit(p->s), SP_OK);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        T(test_users),
        T(test_aliases),
        T(test_mail),
        T(test_list),
        T(test_copied),
        T(test_copied_again),
        T(test_abort),
        T(test_crash),
        T(test_killed),
        T(test_two_processes),
        T(test_full),
        T(test_remove_user),
        T(test_rejects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
