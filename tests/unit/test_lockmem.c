/* P2 at its root: locked memory is locked, guarded, unreadable from outside, shared only with whom
 * it is given to, and wiped; and the heap on top of it holds against a model of itself. */
#include "sandbox/lockmem.h"
#include "tests/unit/caged.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#define PAGE 4096u

static enum lockmem_kind best;

static int choose(void **state)
{
    (void)state;
    return lockmem_init(LOCKMEM_NONE, &best) == SP_OK ? 0 : -1;
}

/* Each test runs with both kinds, where the kernel has both. */
static bool choose_kind(enum lockmem_kind kind)
{
    enum lockmem_kind got;
    if (lockmem_init(kind, &got) == SP_OK) {
        assert_int_equal(got, kind);
        return true;
    }
    assert_int_equal(got, LOCKMEM_NONE);
    assert_int_equal(kind, LOCKMEM_SECRET); /* the other must always be there */
    return false;
}

static bool all_zero(const uint8_t *at, size_t n)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum |= at[i];
    return sum == 0;
}

static void wipe_wipes(void **state)
{
    (void)state;
    uint8_t bytes[64];
    memset(bytes, 7, sizeof(bytes));
    lockmem_wipe(bytes + 1, sizeof(bytes) - 2);
    assert_true(all_zero(bytes + 1, sizeof(bytes) - 2));
    assert_int_equal(bytes[0] + bytes[63], 14);
    lockmem_wipe(bytes, 0);
    assert_int_equal(bytes[0], 7);
}

/* Does the mapping at this address have the flag? (VmFlags, proc(5)) */
static bool mapping_has(const void *at, const char *flag)
{
    char line[512], flags[512] = "";
    bool here = false;
    FILE *maps = fopen("/proc/self/smaps", "r");
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps) != NULL) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            here = from <= (uintptr_t)at && (uintptr_t)at < to;
        else if (here && strncmp(line, "VmFlags:", 8) == 0)
            memcpy(flags, line, sizeof(flags));
    }
    fclose(maps);
    return strstr(flags, flag) != NULL;
}

static void is_locked_and_not_dumped(void **state)
{
    (void)state;
    for (enum lockmem_kind kind = LOCKMEM_MLOCK; kind <= LOCKMEM_SECRET; kind++) {
        void *at;
        if (!choose_kind(kind))
            continue;
        assert_int_equal(lockmem_alloc(3 * PAGE - 5, &at), SP_OK);
        assert_true(all_zero(at, 3 * PAGE));
        assert_true(mapping_has(at, " lo"));
        assert_true(mapping_has(at, " dd"));
        assert_true(mapping_has(at, " sh"));
        memset(at, 0x5a, 3 * PAGE);
        lockmem_free(at, 3 * PAGE - 5);
    }
}

struct poke {
    volatile uint8_t *at;
};

static void poke_byte(void *ctx)
{
    signal(SIGSEGV, SIG_DFL); /* not the sanitizer's report */
    *((struct poke *)ctx)->at = 1;
}

static void guards_stand_on_both_sides(void **state)
{
    (void)state;
    for (enum lockmem_kind kind = LOCKMEM_MLOCK; kind <= LOCKMEM_SECRET; kind++) {
        void *at;
        if (!choose_kind(kind))
            continue;
        assert_int_equal(lockmem_alloc(2 * PAGE, &at), SP_OK);
        struct poke inside = {(uint8_t *)at + 2 * PAGE - 1}, below = {(uint8_t *)at - 1},
                    above = {(uint8_t *)at + 2 * PAGE};
        assert_int_equal(run_child(poke_byte, &inside).killed, 0);
        assert_int_equal(run_child(poke_byte, &below).killed, SIGSEGV);
        assert_int_equal(run_child(poke_byte, &above).killed, SIGSEGV);
        lockmem_free(at, 2 * PAGE);
    }
}

/* Not even root reads it through /proc. */
static void secret_cannot_be_read_through_proc(void **state)
{
    (void)state;
    void *at;
    char buf[16];
    if (!choose_kind(LOCKMEM_SECRET))
        skip();
    assert_int_equal(lockmem_alloc(PAGE, &at), SP_OK);
    int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    assert_true(mem >= 0);
    assert_int_equal(pread(mem, buf, sizeof(buf), (off_t)(uintptr_t)at), -1);
    assert_int_equal(errno, EIO);
    close(mem);
    lockmem_free(at, PAGE);
}

static void map_and_answer(void *ctx)
{
    /* The descriptor was inherited here; between roles it comes over a socket. */
    int fd = *(int *)ctx;
    void *at;
    enum sp_err err = lockmem_map(fd, 2 * PAGE, &at);
    bool closed = fcntl(fd, F_GETFD) < 0;
    if (err == SP_OK && memcmp(at, "question", 8) == 0)
        memcpy(at, "answer!!", 8);
    tell((int)err, closed, NULL);
}

static void is_shared_with_whom_it_is_given_to(void **state)
{
    (void)state;
    for (enum lockmem_kind kind = LOCKMEM_MLOCK; kind <= LOCKMEM_SECRET; kind++) {
        void *at;
        int fd;
        if (!choose_kind(kind))
            continue;
        assert_int_equal(lockmem_create(2 * PAGE, &fd, &at), SP_OK);
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
        memcpy(at, "question", 8);
        int high = fcntl(fd, F_DUPFD_CLOEXEC, 40);
        struct report report = run_child(map_and_answer, &high);
        assert_int_equal(report.code, SP_OK);
        assert_int_equal(report.why, 1);
        assert_memory_equal(at, "answer!!", 8);
        assert_int_not_equal(ftruncate(fd, 0), 0); /* no SIGBUS from the other side */
        close(high);
        close(fd);
        lockmem_free(at, 2 * PAGE);
    }
}

static void map_refuses(int fd, size_t size, enum sp_err want)
{
    void *at = &fd;
    assert_int_equal(lockmem_map(fd, size, &at), want);
    assert_null(at);
    assert_int_equal(fcntl(fd, F_GETFD), -1); /* closed all the same */
}

static void map_believes_no_descriptor(void **state)
{
    (void)state;
    void *at;
    int fd;
    assert_true(choose_kind(best));
    assert_int_equal(lockmem_create(2 * PAGE, &fd, &at), SP_OK);
    map_refuses(fcntl(fd, F_DUPFD_CLOEXEC, 0), PAGE, SP_ERR_FORMAT);
    map_refuses(fcntl(fd, F_DUPFD_CLOEXEC, 0), 3 * PAGE, SP_ERR_FORMAT);
    map_refuses(fcntl(fd, F_DUPFD_CLOEXEC, 0), 0, SP_ERR_LIMIT);
    map_refuses(fcntl(fd, F_DUPFD_CLOEXEC, 0), SIZE_MAX, SP_ERR_LIMIT);
    close(fd);
    lockmem_free(at, 2 * PAGE);
    int unsealed = memfd_create("test", MFD_CLOEXEC);
    assert_int_equal(ftruncate(unsealed, PAGE), 0);
    map_refuses(unsealed, PAGE, SP_ERR_FORMAT);
    int file = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(file, PAGE), 0);
    map_refuses(file, PAGE, SP_ERR_FORMAT);
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    map_refuses(ends[0], PAGE, SP_ERR_FORMAT);
    close(ends[1]);
    map_refuses(999, PAGE, SP_ERR_SYSTEM);
}

/* Over the limit there is no memory, rather than memory that is not locked. */
static void over_the_limit(void *ctx)
{
    (void)ctx;
    struct rlimit limit = {PAGE * 4, PAGE * 4};
    void *at;
    enum lockmem_kind got;
    /* Root is not bound. */
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
        (geteuid() == 0 && setresuid(TEST_UID, TEST_UID, TEST_UID) != 0))
        leave(1);
    bool right = lockmem_init(LOCKMEM_NONE, &got) == SP_OK;
    right &= lockmem_alloc(64 * PAGE, &at) == SP_ERR_MEMORY && at == NULL;
    right &= lockmem_init(LOCKMEM_MLOCK, &got) == SP_OK;
    right &= lockmem_alloc(64 * PAGE, &at) == SP_ERR_MEMORY && at == NULL;
    tell(right, 0, NULL);
}

static void nothing_is_handed_out_unlocked(void **state)
{
    (void)state;
    struct report report = run_child(over_the_limit, NULL);
    assert_int_equal(report.exited, 0);
    assert_int_equal(report.code, 1);
}

/* --- The heap. --- */

#define HEAP   (256u * 1024u)
#define BLOCKS 400u

static struct {
    uint8_t *at;
    size_t size;
    uint8_t fill;
} model[BLOCKS];

static uint32_t seed = 0x5ea1;

static uint32_t next_random(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static void check_block(size_t i)
{
    for (size_t k = 0; k < model[i].size; k++)
        assert_int_equal(model[i].at[k], model[i].fill);
}

static void fill_block(size_t i, uint8_t *at, size_t size)
{
    model[i].at = at;
    model[i].size = size;
    model[i].fill = (uint8_t)(next_random() | 1);
    memset(at, model[i].fill, size);
}

static void model_step(void)
{
    size_t i = next_random() % BLOCKS, size = 1 + next_random() % (1u << next_random() % 12);
    if (model[i].at == NULL) {
        uint8_t *at = lockheap_malloc(size);
        if (at == NULL)
            return; /* full */
        assert_int_equal((uintptr_t)at % 16, 0);
        fill_block(i, at, size);
    } else if (next_random() % 3 == 0) {
        size_t same = size < model[i].size ? size : model[i].size;
        uint8_t *at = lockheap_realloc(model[i].at, size);
        if (at == NULL)
            return;
        for (size_t k = 0; k < same; k++)
            assert_int_equal(at[k], model[i].fill);
        fill_block(i, at, size);
    } else {
        check_block(i);
        lockheap_free(model[i].at);
        model[i].at = NULL;
    }
}

static void heap_holds_against_model(void **state)
{
    (void)state;
    assert_null(lockheap_malloc(1)); /* not yet */
    assert_int_equal(lockheap_lock(), SP_ERR_STATE);
    assert_int_equal(lockheap_init(HEAP, 1), SP_OK);
    assert_int_equal(lockheap_init(HEAP, 1), SP_ERR_STATE);
    assert_int_equal(lockheap_lock(), SP_OK);
    for (unsigned n = 0; n < 200000; n++)
        model_step();
    for (size_t i = 0; i < BLOCKS; i++) {
        if (model[i].at == NULL)
            continue;
        check_block(i);
        lockheap_free(model[i].at);
        model[i].at = NULL;
    }
    assert_in_range(lockheap_used(), HEAP / 4, HEAP);
    /* All is one block again, and nothing of what was there is left. */
    uint8_t *all = lockheap_malloc(HEAP - 64);
    assert_non_null(all);
    assert_true(all_zero(all + 16, HEAP - 64 - 16));
    assert_true(mapping_has(all, " lo"));
    assert_true(mapping_has(all, " dd"));
    assert_null(lockheap_malloc(64));
    lockheap_free(all);
}

static void heap_wipes_what_it_takes_back(void **state)
{
    (void)state;
    uint8_t *a = lockheap_malloc(1000), *wall = lockheap_malloc(16);
    memset(a, 0x77, 1000);
    assert_ptr_equal(lockheap_realloc(a, 100), a);
    assert_true(all_zero(a + 128, 1000 - 128));
    uint8_t *moved = lockheap_realloc(a, 5000); /* cannot grow past the wall */
    assert_ptr_not_equal(moved, a);
    assert_int_equal(moved[99], 0x77);
    assert_true(all_zero(a + 16, 84)); /* links of a free block in the first 16 bytes */
    lockheap_free(moved);
    assert_true(all_zero(moved + 16, 4984));
    assert_null(lockheap_realloc(wall, 0));
    lockheap_free(NULL);
    assert_null(lockheap_malloc(0));
    assert_null(lockheap_malloc(SIZE_MAX));
    assert_null(lockheap_malloc(HEAP));
    assert_non_null(wall = lockheap_realloc(NULL, 5));
    lockheap_free(wall);
}

static void free_twice(void *ctx)
{
    void *at = lockheap_malloc(100);
    (void)ctx;
    signal(SIGABRT, SIG_DFL);
    lockheap_free(at);
    lockheap_free(at);
}

static void free_inside(void *ctx)
{
    uint8_t *at = lockheap_malloc(100);
    (void)ctx;
    signal(SIGABRT, SIG_DFL);
    lockheap_free(at + 16);
}

static void overflow(void *ctx)
{
    uint8_t *at = lockheap_malloc(112);
    (void)ctx;
    signal(SIGABRT, SIG_DFL);
    memset(at, 0x41, 128); /* over the tag behind it */
    lockheap_free(at);
}

static void heap_ends_the_process_when_broken(void **state)
{
    (void)state;
    assert_int_equal(run_child(free_twice, NULL).killed, SIGABRT);
    assert_int_equal(run_child(free_inside, NULL).killed, SIGABRT);
    assert_int_equal(run_child(overflow, NULL).killed, SIGABRT);
}

/* A child has its own copy, which it must lock anew. */
static void lock_in_child(void *ctx)
{
    bool before = mapping_has(ctx, " lo");
    enum sp_err err = lockheap_lock();
    *(uint8_t *)ctx = 2;
    tell((int)err, !before && mapping_has(ctx, " lo"), NULL);
}

static void heap_is_locked_in_a_forked_child(void **state)
{
    (void)state;
    uint8_t *at = lockheap_malloc(10);
    at[0] = 1;
    struct report report = run_child(lock_in_child, at);
    assert_int_equal(report.code, SP_OK);
    assert_int_equal(report.why, 1);
    assert_int_equal(at[0], 1);
    lockheap_free(at);
}

/* A region that is lent to one child after the other, and to no other at the same time. */
static void write_there(void *ctx)
{
    signal(SIGSEGV, SIG_DFL); /* the sanitizers would tell of it */
    enum sp_err err = lockmem_relock(ctx, PAGE);
    bool locked = best == LOCKMEM_SECRET || mapping_has(ctx, " lo");
    *(uint8_t *)ctx = 3;
    tell((int)err, locked && mapping_has(ctx, " dd"), NULL);
}

static void one_child_inherits_a_region_and_another_does_not(void **state)
{
    (void)state;
    for (enum lockmem_kind kind = LOCKMEM_MLOCK; kind <= LOCKMEM_SECRET; kind++) {
        void *at;
        if (!choose_kind(kind))
            continue;
        best = kind;
        assert_int_equal(lockmem_alloc(PAGE, &at), SP_OK);
        struct report report = run_child(write_there, at);
        assert_int_equal(report.code, SP_OK);
        assert_int_equal(report.why, 1);
        assert_int_equal(*(uint8_t *)at, 3);
        assert_int_equal(lockmem_inherit(at, PAGE, 0), SP_OK);
        assert_int_equal(run_child(write_there, at).killed, SIGSEGV);
        assert_int_equal(lockmem_inherit(at, PAGE, 1), SP_OK);
        assert_int_equal(run_child(write_there, at).code, SP_OK);
        lockmem_free(at, PAGE);
    }
}

/* Last: the heap of this process is another one afterwards. */
static void see_image(void *ctx)
{
    uint8_t *at = ctx, *more;
    bool same = at[0] == 7 && !mapping_has(at, " lo");
    enum sp_err err = lockheap_lock();
    at[0] = 9;
    more = lockheap_malloc(100);
    bool good = same && more != NULL && mapping_has(at, " lo");
    lockheap_free(more);
    lockheap_free(at);
    tell((int)err, good, NULL);
}

static void children_start_from_a_frozen_heap(void **state)
{
    (void)state;
    uint8_t *at = lockheap_malloc(10);
    at[0] = 7;
    assert_int_equal(lockheap_freeze(), SP_OK);
    assert_int_equal(at[0], 7);
    for (int i = 0; i < 2; i++) {
        struct report report = run_child(see_image, at);
        assert_int_equal(report.code, SP_OK);
        assert_int_equal(report.why, 1);
        assert_int_equal(at[0], 7);
    }
    lockheap_free(at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wipe_wipes),
        cmocka_unit_test(is_locked_and_not_dumped),
        cmocka_unit_test(guards_stand_on_both_sides),
        cmocka_unit_test(secret_cannot_be_read_through_proc),
        cmocka_unit_test(is_shared_with_whom_it_is_given_to),
        cmocka_unit_test(map_believes_no_descriptor),
        cmocka_unit_test(nothing_is_handed_out_unlocked),
        cmocka_unit_test(heap_holds_against_model),
        cmocka_unit_test(heap_wipes_what_it_takes_back),
        cmocka_unit_test(heap_ends_the_process_when_broken),
        cmocka_unit_test(heap_is_locked_in_a_forked_child),
        cmocka_unit_test(one_child_inherits_a_region_and_another_does_not),
        cmocka_unit_test(children_start_from_a_frozen_heap),
    };
    return cmocka_run_group_tests(tests, choose, NULL);
}
