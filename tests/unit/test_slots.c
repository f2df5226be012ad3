/* The slots file: what is taken is there until it is erased, what is erased is nowhere, whatever
 * the order; and a file that is not whole is refused, and left as it is. */
#include "sandbox/lockmem.h"
#include "storage/slots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODEL 2000u

static char path[] = "/tmp/sealpost-slots-XXXXXX";
static int fd = -1;
static struct slots *slots;

static off_t size_of_file(void)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return st.st_size;
}

static enum sp_err reopen(void)
{
    slots_close(slots);
    if (fd >= 0)
        close(fd);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    return slots_open(fd, &slots);
}

static int set_up(void **state)
{
    (void)state;
    memcpy(path + strlen(path) - 6, "XXXXXX", 6);
    close(mkstemp(path));
    return reopen() == SP_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    slots_close(slots);
    slots = NULL;
    close(fd);
    fd = -1;
    return unlink(path);
}

/* Whether these bytes are anywhere in the file. */
static bool in_file(const uint8_t key[KEY_SIZE])
{
    size_t size = (size_t)size_of_file();
    uint8_t *all = malloc(size);
    assert_int_equal(pread(fd, all, size, 0), size);
    bool found = memmem(all, size, key, KEY_SIZE) != NULL;
    free(all);
    return found;
}

static void test_life(void **state)
{
    uint8_t key[KEY_SIZE], other[KEY_SIZE], got[KEY_SIZE];
    uint32_t one, two, three;
    (void)state;
    assert_int_equal(size_of_file(), SLOTS_HEADER);
    assert_int_equal(slots_read(slots, 0, got), SP_ERR_NOT_FOUND);
    assert_int_equal(slots_take(slots, key, &one), SP_OK);
    assert_int_equal(slots_take(slots, other, &two), SP_OK);
    assert_int_equal(slots_sync(slots), SP_OK);
    assert_int_not_equal(one, two);
    assert_memory_not_equal(key, other, KEY_SIZE);
    assert_int_equal(reopen(), SP_OK);
    assert_int_equal(slots_in_use(slots), 2);
    assert_int_equal(slots_read(slots, one, got), SP_OK);
    assert_memory_equal(got, key, KEY_SIZE);
    assert_int_equal(slots_erase(slots, one), SP_OK);
    assert_int_equal(slots_erase(slots, one), SP_OK);
    assert_int_equal(slots_erase(slots, UINT32_MAX), SP_OK);
    assert_int_equal(slots_sync(slots), SP_OK);
    assert_int_equal(slots_read(slots, one, got), SP_ERR_NOT_FOUND);
    assert_false(in_file(key));
    assert_true(in_file(other));
    assert_int_equal(reopen(), SP_OK);
    assert_int_equal(slots_read(slots, one, got), SP_ERR_NOT_FOUND);
    assert_int_equal(slots_read(slots, two, got), SP_OK);
    assert_memory_equal(got, other, KEY_SIZE);
    assert_int_equal(slots_take(slots, key, &three), SP_OK);
    assert_int_equal(three, one); /* the lowest that is free */
}

/* What no record names is wiped at start, and nothing else. */
static void test_unnamed(void **state)
{
    uint8_t key[300][KEY_SIZE], got[KEY_SIZE];
    uint32_t slot, n;
    (void)state;
    for (uint32_t i = 0; i < 300; i++)
        assert_int_equal(slots_take(slots, key[i], &slot), SP_OK);
    for (uint32_t i = 0; i < 300; i += 3)
        assert_int_equal(slots_name(slots, i), SP_OK);
    assert_int_equal(slots_name(slots, 301), SP_OK); /* free */
    assert_int_equal(slots_name(slots, SLOTS_MAX - 1), SP_OK);
    assert_int_equal(slots_name(slots, SLOTS_MAX), SP_ERR_LIMIT);
    assert_int_equal(slots_erase_unnamed(slots, &n), SP_OK);
    assert_int_equal(n, 200);
    assert_int_equal(slots_sync(slots), SP_OK);
    assert_int_equal(reopen(), SP_OK);
    assert_int_equal(slots_in_use(slots), 100);
    for (uint32_t i = 0; i < 300; i++) {
        assert_int_equal(slots_read(slots, i, got), i % 3 == 0 ? SP_OK : SP_ERR_NOT_FOUND);
        assert_int_equal(in_file(key[i]), i % 3 == 0);
    }
    assert_int_equal(slots_erase_unnamed(slots, &n), SP_OK); /* names were forgotten */
    assert_int_equal(n, 100);
    assert_int_equal(slots_in_use(slots), 0);
}

/* A record of an older database names a slot that is free by now, or that the file never had: it is
 * given to nobody until that record ends, and its end harms nobody. */
static void test_named_but_free(void **state)
{
    uint8_t key[KEY_SIZE], got[KEY_SIZE];
    uint32_t slot, n;
    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(slots_take(slots, key, &slot), SP_OK);
    assert_int_equal(slots_erase(slots, 1), SP_OK);
    for (uint32_t i = 0; i < 200; i++)
        assert_int_equal(slots_name(slots, i), SP_OK);
    assert_int_equal(slots_name(slots, SLOTS_MAX - 1), SP_OK);
    assert_int_equal(slots_erase_unnamed(slots, &n), SP_OK);
    assert_int_equal(n, 0);
    assert_int_equal(slots_in_use(slots), 2);
    assert_int_equal(slots_read(slots, 1, got), SP_ERR_NOT_FOUND);
    assert_int_equal(slots_take(slots, key, &slot), SP_OK);
    assert_int_equal(slot, 200);
    assert_int_equal(slots_erase(slots, SLOTS_MAX - 1), SP_OK);
    assert_int_equal(slots_erase(slots, 1), SP_OK);
    assert_int_equal(slots_take(slots, key, &slot), SP_OK);
    assert_int_equal(slot, 1);
    assert_int_equal(slots_read(slots, 1, got), SP_OK);
    assert_memory_equal(got, key, KEY_SIZE);
}

struct model {
    bool used[MODEL];
    uint8_t key[MODEL][KEY_SIZE];
    uint32_t in_use;
};

static void compare(const struct model *m)
{
    uint8_t got[KEY_SIZE], *all = malloc(MODEL * KEY_SIZE);
    static const uint8_t free_slot[KEY_SIZE];
    assert_int_equal(slots_in_use(slots), m->in_use);
    memset(all, 0, MODEL * KEY_SIZE);
    assert_true(pread(fd, all, MODEL * KEY_SIZE, SLOTS_HEADER) >= 0);
    for (uint32_t i = 0; i < MODEL; i++) {
        assert_int_equal(slots_read(slots, i, got), m->used[i] ? SP_OK : SP_ERR_NOT_FOUND);
        if (m->used[i])
            assert_memory_equal(got, m->key[i], KEY_SIZE);
        assert_memory_equal(all + i * KEY_SIZE, m->used[i] ? m->key[i] : free_slot, KEY_SIZE);
    }
    free(all);
}

static void step(struct model *m)
{
    uint32_t what = randombytes_uniform(1000), slot;
    if (what < 400) {
        uint8_t key[KEY_SIZE];
        assert_int_equal(slots_take(slots, key, &slot), SP_OK);
        assert_true(slot < MODEL && !m->used[slot]);
        memcpy(m->key[slot], key, KEY_SIZE);
        m->used[slot] = true;
        m->in_use++;
    } else if (what < 990) {
        slot = randombytes_uniform(MODEL);
        assert_int_equal(slots_erase(slots, slot), SP_OK);
        m->in_use -= m->used[slot];
        m->used[slot] = false;
    } else if (what < 998) {
        assert_int_equal(slots_sync(slots), SP_OK);
    } else {
        assert_int_equal(reopen(), SP_OK);
    }
}

static void test_property(void **state)
{
    (void)state;
    struct model *m = calloc(1, sizeof(*m));
    for (int i = 0; i < 20000; i++) {
        step(m);
        if (i % 1000 == 0)
            compare(m);
    }
    compare(m);
    free(m);
}

/* A disk that is full: the slot is not taken, those that are stay, and it goes on once there is
 * room. The limit of the process stands for the disk; it cuts a block in two. */
static void test_full(void **state)
{
    struct rlimit before, limit;
    uint8_t key[KEY_SIZE];
    uint32_t slot, in_use = 0;
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = SLOTS_HEADER + SLOTS_BLOCK + 1000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    enum sp_err err;
    while ((err = slots_take(slots, key, &slot)) == SP_OK)
        in_use++;
    assert_int_equal(err, SP_ERR_NO_SPACE);
    assert_int_equal(in_use, SLOTS_BLOCK / KEY_SIZE);
    assert_int_equal(slots_take(slots, key, &slot), SP_ERR_NO_SPACE);
    assert_int_equal(slots_sync(slots), SP_OK);
    assert_int_equal(size_of_file(), limit.rlim_cur);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0); /* locked memory needs it, too */
    assert_int_equal(reopen(), SP_OK);                     /* the torn block is nothing yet */
    assert_int_equal(slots_in_use(slots), in_use);
    assert_int_equal(slots_erase(slots, 3), SP_OK);
    assert_int_equal(slots_take(slots, key, &slot), SP_OK);
    assert_int_equal(slot, 3);
    assert_int_equal(slots_take(slots, key, &slot), SP_OK);
    assert_int_equal(slot, in_use);
    assert_int_equal(reopen(), SP_OK);
    assert_int_equal(slots_in_use(slots), in_use + 1);
}

/* --- files that are not what they should be --- */

static void expect_refused(void)
{
    off_t size = size_of_file();
    uint8_t before[SLOTS_HEADER] = {0}, after[SLOTS_HEADER] = {0};
    assert_true(pread(fd, before, sizeof(before), 0) >= 0);
    assert_int_equal(reopen(), SP_ERR_FORMAT);
    assert_null(slots);
    assert_int_equal(size_of_file(), size);
    assert_true(pread(fd, after, sizeof(after), 0) >= 0);
    assert_memory_equal(before, after, sizeof(before));
}

static void test_corrupted(void **state)
{
    static const size_t at[] = {0, 6, 7, 8, 11, 12, 15, 16, 4095};
    uint8_t key[KEY_SIZE], byte;
    uint32_t slot;
    (void)state;
    assert_int_equal(slots_take(slots, key, &slot), SP_OK);
    for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        assert_int_equal(pread(fd, &byte, 1, (off_t)at[i]), 1);
        byte ^= 0x40;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at[i]), 1);
        expect_refused();
        byte ^= 0x40;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at[i]), 1);
    }
    assert_int_equal(reopen(), SP_OK);
    assert_int_equal(slots_in_use(slots), 1);
}

static void test_sizes(void **state)
{
    static const off_t sizes[] = {1,
                                  16,
                                  SLOTS_HEADER - 1,
                                  SLOTS_OFFSET(SLOTS_MAX) + 1,
                                  SLOTS_OFFSET(SLOTS_MAX) + SLOTS_BLOCK,
                                  (off_t)1 << 40};
    uint8_t key[KEY_SIZE];
    uint32_t slot;
    (void)state;
    for (int i = 0; i < 64; i++)
        assert_int_equal(slots_take(slots, key, &slot), SP_OK);
    assert_int_equal(ftruncate(fd, SLOTS_HEADER + 33 * KEY_SIZE), 0); /* amid keys */
    expect_refused();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        assert_int_equal(ftruncate(fd, sizes[i]), 0);
        expect_refused();
    }
}

static void test_not_a_file(void **state)
{
    struct slots *none;
    int pipes[2];
    (void)state;
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(slots_open(pipes[0], &none), SP_ERR_FORMAT);
    assert_int_equal(slots_open(-1, &none), SP_ERR_SYSTEM);
    close(pipes[0]);
    close(pipes[1]);
}

/* What cannot be written is not forgotten: from then on nothing is promised any more. */
static void test_broken(void **state)
{
    uint8_t key[KEY_SIZE], got[KEY_SIZE];
    uint32_t slot;
    struct slots *only;
    (void)state;
    assert_int_equal(slots_take(slots, key, &slot), SP_OK);
    int reading = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(slots_open(reading, &only), SP_OK);
    assert_int_equal(slots_read(only, slot, got), SP_OK);
    assert_int_equal(slots_erase(only, slot), SP_ERR_SYSTEM);
    assert_int_equal(slots_sync(only), SP_ERR_SYSTEM);
    assert_int_equal(slots_take(only, got, &slot), SP_ERR_SYSTEM);
    slots_close(only);
    close(reading);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
    enum lockmem_kind kind;
    const struct CMUnitTest tests[] = {
        T(test_life),      T(test_unnamed),        T(test_property),   T(test_full),
        T(test_life),      T(test_named_but_free), T(test_property),   T(test_full),
        T(test_corrupted), T(test_sizes),          T(test_not_a_file), T(test_broken),
    };
    if (sodium_init() < 0 || lockmem_init(LOCKMEM_NONE, &kind) != SP_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
