/* A heap for a library's secrets (OpenSSL's, all of it): one locked region, blocks with boundary
 * tags, free blocks in lists by size. Every block is wiped when it is freed or moved. For one
 * thread. What uses it may be attacked: tags are checked, and a broken one ends the process. */
#include "sandbox/lockmem.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Before each block, free or not. Sizes count the tag, are multiples of 16, and neighbours agree.
 */
struct tag {
    size_t size;   /* lowest bit: in use */
    size_t before; /* size of the block before; 0: this is the first */
};

/* A free block's memory; the rest of it is zero. */
struct free_block {
    struct tag tag;
    struct free_block *next, *prev;
};

#define ALIGN    ((size_t)16)
#define MINIMUM  (sizeof(struct free_block))
#define BINS     64u
#define MAX_HEAP ((size_t)1 << 28)

static struct {
    uint8_t *start, *end; /* end: where a last tag stands, in use and without memory */
    struct free_block *bin[BINS];
    uint64_t filled; /* bit i: bin[i] is not empty */
    size_t used, most;
    bool forked;
} heap;

_Static_assert(sizeof(struct tag) == ALIGN, "blocks start aligned");
_Static_assert(MINIMUM % ALIGN == 0, "smallest block keeps the alignment");

static size_t size_of(const struct tag *tag)
{
    return tag->size & ~(size_t)1;
}

static bool in_use(const struct tag *tag)
{
    return (tag->size & 1) != 0;
}

static struct tag *after(struct tag *tag)
{
    return (struct tag *)((uint8_t *)tag + size_of(tag));
}

/* Four bins to each power of two. All blocks in a bin above this one are large enough. */
static unsigned bin_of(size_t size)
{
    unsigned log = 63u - (unsigned)__builtin_clzll(size);
    unsigned bin = (log - 5u) * 4u + (unsigned)(size >> (log - 2u) & 3u);
    return bin < BINS ? bin : BINS - 1;
}

static void list_add(struct tag *tag)
{
    struct free_block *block = (struct free_block *)tag;
    unsigned bin = bin_of(size_of(tag));
    block->prev = NULL;
    block->next = heap.bin[bin];
    if (block->next != NULL)
        block->next->prev = block;
    heap.bin[bin] = block;
    heap.filled |= UINT64_C(1) << bin;
}

/* Checked unlinking: an overflow into a free block must not become a write of the attacker's
 * choice. */
static void list_remove(struct tag *tag)
{
    struct free_block *block = (struct free_block *)tag;
    unsigned bin = bin_of(size_of(tag));
    struct free_block **link = block->prev == NULL ? &heap.bin[bin] : &block->prev->next;
    if (*link != block || (block->next != NULL && block->next->prev != block))
        abort();
    *link = block->next;
    if (block->next != NULL)
        block->next->prev = block->prev;
    if (heap.bin[bin] == NULL)
        heap.filled &= ~(UINT64_C(1) << bin);
    block->next = block->prev = NULL;
}

static struct tag *find(size_t size)
{
    unsigned bin = bin_of(size);
    for (struct free_block *b = heap.bin[bin]; b != NULL; b = b->next) {
        if (size_of(&b->tag) >= size)
            return &b->tag;
    }
    uint64_t larger = bin + 1 < BINS ? heap.filled >> (bin + 1) : 0;
    if (larger == 0)
        return NULL;
    return &heap.bin[bin + 1 + (unsigned)__builtin_ctzll(larger)]->tag;
}

static void set(struct tag *tag, size_t size, bool used)
{
    tag->size = size | (used ? 1u : 0u);
    after(tag)->before = size;
}

/* Makes a block that is in no list, all zero but its tag, free; joins it with free neighbours. */
static void give_back(struct tag *tag, size_t size)
{
    struct tag *next = (struct tag *)((uint8_t *)tag + size);
    if (!in_use(next)) {
        list_remove(next);
        size += size_of(next);
        lockmem_wipe(next, sizeof(*next));
    }
    struct tag *before = (struct tag *)((uint8_t *)tag - tag->before);
    if (tag->before != 0 && !in_use(before)) {
        list_remove(before);
        size += size_of(before);
        lockmem_wipe(tag, sizeof(*tag));
        tag = before;
    }
    set(tag, size, false);
    list_add(tag);
}

/* Cuts what is more than size off a block in use. The surplus is zero already. */
static void trim(struct tag *tag, size_t size)
{
    size_t surplus = size_of(tag) - size;
    if (surplus < MINIMUM)
        return;
    set(tag, size, true);
    give_back(after(tag), surplus);
}

static void count(size_t more)
{
    heap.used += more;
    if (heap.used > heap.most)
        heap.most = heap.used;
}

/* Bytes of the block that holds n, or 0 if that is absurd. */
static size_t block_size(size_t n)
{
    if (n == 0 || n > MAX_HEAP)
        return 0;
    size_t size = (n + sizeof(struct tag) + ALIGN - 1) & ~(ALIGN - 1);
    return size < MINIMUM ? MINIMUM : size;
}

/* The tag of a pointer that a caller gave us. */
static struct tag *checked(void *at)
{
    struct tag *tag = (struct tag *)((uint8_t *)at - sizeof(struct tag));
    if ((uintptr_t)at % ALIGN != 0 || (uint8_t *)tag < heap.start || (uint8_t *)tag >= heap.end)
        abort();
    size_t size = size_of(tag);
    if (!in_use(tag) || size < MINIMUM || size > (size_t)(heap.end - (uint8_t *)tag) ||
        after(tag)->before != size)
        abort();
    return tag;
}

void *lockheap_malloc(size_t n)
{
    size_t size = block_size(n);
    struct tag *tag = size == 0 || heap.start == NULL ? NULL : find(size);
    if (tag == NULL)
        return NULL;
    list_remove(tag);
    set(tag, size_of(tag), true);
    trim(tag, size);
    count(size_of(tag));
    return tag + 1;
}

void lockheap_free(void *at)
{
    if (at == NULL)
        return;
    struct tag *tag = checked(at);
    size_t size = size_of(tag);
    lockmem_wipe(at, size - sizeof(*tag));
    heap.used -= size;
    give_back(tag, size);
}

/* In place if it shrinks, or if the next block is free and large enough. */
static bool resize(struct tag *tag, size_t size)
{
    size_t have = size_of(tag);
    if (size > have) {
        struct tag *next = after(tag);
        if (in_use(next) || have + size_of(next) < size)
            return false;
        list_remove(next);
        size_t joined = have + size_of(next);
        lockmem_wipe(next, sizeof(*next));
        set(tag, joined, true);
    } else {
        lockmem_wipe((uint8_t *)tag + size, have - size);
    }
    trim(tag, size);
    heap.used -= have;
    count(size_of(tag));
    return true;
}

void *lockheap_realloc(void *at, size_t n)
{
    if (at == NULL)
        return lockheap_malloc(n);
    if (n == 0) {
        lockheap_free(at);
        return NULL;
    }
    struct tag *tag = checked(at);
    size_t size = block_size(n), have = size_of(tag) - sizeof(*tag);
    if (size == 0)
        return NULL;
    if (resize(tag, size))
        return at;
    void *moved = lockheap_malloc(n);
    if (moved == NULL)
        return NULL;
    memcpy(moved, at, have < n ? have : n);
    lockheap_free(at);
    return moved;
}

/* Private pages between guards: not locked yet, since no lock survives a fork. */
static enum sp_err map_private(size_t size, void **out)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *out = NULL;
    uint8_t *hole = mmap(NULL, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (hole == MAP_FAILED)
        return SP_ERR_MEMORY;
    if (mprotect(hole + page, size, PROT_READ | PROT_WRITE) != 0 ||
        madvise(hole + page, size, MADV_DONTDUMP) != 0) {
        int why = errno;
        munmap(hole, size + 2 * page);
        errno = why;
        return SP_ERR_MEMORY;
    }
    *out = hole + page;
    return SP_OK;
}

enum sp_err lockheap_init(size_t size, int forked)
{
    if (heap.start != NULL)
        return SP_ERR_STATE;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (size == 0 || size > MAX_HEAP)
        return SP_ERR_LIMIT;
    size = (size + page - 1) / page * page;
    void *at;
    enum sp_err err = forked ? map_private(size, &at) : lockmem_alloc(size, &at);
    if (err != SP_OK)
        return err;
    heap.start = at;
    heap.end = heap.start + size - sizeof(struct tag);
    heap.forked = forked != 0;
    struct tag *last = (struct tag *)heap.end;
    last->size = sizeof(struct tag) | 1;
    struct tag *first = (struct tag *)heap.start;
    set(first, (size_t)(heap.end - heap.start), false);
    list_add(first);
    return SP_OK;
}

static enum sp_err write_image(int fd)
{
    const uint8_t *at = heap.start;
    size_t left = (size_t)(heap.end - heap.start) + sizeof(struct tag);
    while (left > 0) {
        ssize_t n = write(fd, at, left);
        if (n <= 0)
            return SP_ERR_SYSTEM;
        at += n;
        left -= (size_t)n;
    }
    return SP_OK;
}

/* A fork copies a table entry for each page that this process has written, and the child's end
 * takes it down again; pages of a file it finds when it needs them. Private still: nobody sees what
 * another writes. */
enum sp_err lockheap_freeze(void)
{
    size_t size = (size_t)(heap.end - heap.start) + sizeof(struct tag);
    if (heap.start == NULL || !heap.forked)
        return SP_ERR_STATE;
    int fd = memfd_create("sealpost", MFD_CLOEXEC);
    if (fd < 0)
        return SP_ERR_SYSTEM;
    enum sp_err err = write_image(fd);
    if (err == SP_OK && mmap(heap.start, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
                             0) == MAP_FAILED)
        err = SP_ERR_MEMORY;
    if (err == SP_OK && madvise(heap.start, size, MADV_DONTDUMP) != 0)
        err = SP_ERR_MEMORY;
    close(fd);
    return err;
}

/* On fault: a page is locked when it is written, which is when it becomes this process's own; pages
 * still shared with the parent hold nothing of ours. */
enum sp_err lockheap_lock(void)
{
    if (heap.start == NULL)
        return SP_ERR_STATE;
    if (!heap.forked)
        return SP_OK;
    size_t size = (size_t)(heap.end - heap.start) + sizeof(struct tag);
    return mlock2(heap.start, size, MLOCK_ONFAULT) == 0 ? SP_OK : SP_ERR_MEMORY;
}

size_t lockheap_used(void)
{
    return heap.most;
}
