/* The slots file (slots.h). Used by the keeper alone. The file is ours and as we left it, or it is
 * refused; the slot numbers that come in are the store's, which may have been taken over. */
#include "storage/slots.h"
#include "envelope/wire.h"
#include "sandbox/lockmem.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC         "SPSLOTS" /* and its NUL */
#define VERSION       1u
#define SCAN          (16u * SLOTS_BLOCK)
#define WORDS         (SLOTS_MAX / 64u)
#define IN_BLOCK      (SLOTS_BLOCK / KEY_SIZE)
#define SIZE_MAX_FILE (SLOTS_HEADER + (uint64_t)SLOTS_MAX * KEY_SIZE)

_Static_assert(SLOTS_MAX % IN_BLOCK == 0 && IN_BLOCK % 64 == 0, "blocks are whole words");

struct slots {
    int fd;
    uint32_t capacity, in_use;
    uint32_t low; /* no slot below it is free */
    bool dirty, broken;
    uint64_t used[WORDS], named[WORDS];
    uint64_t held[WORDS]; /* free, but a record names it: nobody else may have it */
};

static const uint8_t zeros[SLOTS_BLOCK];

static bool get(const uint64_t *bits, uint32_t i)
{
    return bits[i / 64] >> (i % 64) & 1;
}

static void set(uint64_t *bits, uint32_t i, bool on)
{
    uint64_t bit = UINT64_C(1) << (i % 64);
    bits[i / 64] = on ? bits[i / 64] | bit : bits[i / 64] & ~bit;
}

static enum sp_err write_all(int fd, const uint8_t *bytes, size_t len, uint64_t at)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, bytes, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return SP_ERR_SYSTEM;
        bytes += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return SP_OK;
}

/* Exactly len bytes: a file that has become shorter is no longer ours. */
static enum sp_err read_all(int fd, uint8_t *bytes, size_t len, uint64_t at)
{
    while (len > 0) {
        ssize_t n = pread(fd, bytes, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? SP_ERR_SYSTEM : SP_ERR_FORMAT;
        bytes += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return SP_OK;
}

/* --- opening --- */

static void make_header(uint8_t header[SLOTS_HEADER])
{
    struct wire_out out = wire_out(header, SLOTS_HEADER);
    memset(header, 0, SLOTS_HEADER);
    wire_put_bytes(&out, MAGIC, sizeof(MAGIC));
    wire_put_u32(&out, VERSION);
    wire_put_u32(&out, KEY_SIZE);
}

static enum sp_err make_file(int fd)
{
    uint8_t header[SLOTS_HEADER];
    make_header(header);
    enum sp_err err = write_all(fd, header, sizeof(header), 0);
    return err == SP_OK && fdatasync(fd) != 0 ? SP_ERR_SYSTEM : err;
}

static enum sp_err check_header(int fd)
{
    uint8_t want[SLOTS_HEADER], header[SLOTS_HEADER];
    make_header(want);
    enum sp_err err = read_all(fd, header, sizeof(header), 0);
    if (err == SP_OK && memcmp(header, want, sizeof(header)) != 0)
        err = SP_ERR_FORMAT;
    return err;
}

/* A full disk may have cut the last block off while it was being added: then it holds nothing. */
static enum sp_err check_tail(int fd, uint64_t at, size_t len, uint8_t *scratch)
{
    enum sp_err err = read_all(fd, scratch, len, at);
    if (err == SP_OK && !sodium_is_zero(scratch, len))
        err = SP_ERR_FORMAT;
    return err;
}

static enum sp_err scan(struct slots *s, uint64_t size, uint8_t *scratch)
{
    uint64_t tail = size % SLOTS_BLOCK, end = size - tail;
    enum sp_err err = check_tail(s->fd, end, (size_t)tail, scratch);
    for (uint64_t at = SLOTS_HEADER; err == SP_OK && at < end; at += SCAN) {
        size_t n = end - at < SCAN ? (size_t)(end - at) : SCAN;
        err = read_all(s->fd, scratch, n, at);
        for (size_t i = 0; err == SP_OK && i < n; i += KEY_SIZE, s->capacity++)
            if (!sodium_is_zero(scratch + i, KEY_SIZE)) {
                set(s->used, s->capacity, true);
                s->in_use++;
            }
    }
    return err;
}

static enum sp_err open_file(struct slots *s)
{
    struct stat st;
    void *scratch;
    if (fstat(s->fd, &st) != 0)
        return SP_ERR_SYSTEM;
    if (!S_ISREG(st.st_mode))
        return SP_ERR_FORMAT;
    if (st.st_size == 0)
        return make_file(s->fd);
    uint64_t size = (uint64_t)st.st_size;
    if (size < SLOTS_HEADER || size > SIZE_MAX_FILE)
        return SP_ERR_FORMAT;
    enum sp_err err = check_header(s->fd);
    if (err == SP_OK)
        err = lockmem_alloc(SCAN, &scratch);
    if (err != SP_OK)
        return err;
    err = scan(s, size, scratch);
    lockmem_free(scratch, SCAN);
    return err;
}

enum sp_err slots_open(int fd, struct slots **out)
{
    *out = NULL;
    struct slots *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return SP_ERR_MEMORY;
    s->fd = fd;
    enum sp_err err = open_file(s);
    if (err == SP_OK)
        *out = s;
    else
        slots_close(s);
    return err;
}

void slots_close(struct slots *s)
{
    free(s);
}

/* --- slots --- */

static enum sp_err give_up(struct slots *s)
{
    s->broken = true;
    return SP_ERR_SYSTEM;
}

/* One more block. Only a full disk may stop it without harm: nothing of the block is used yet. */
static enum sp_err grow(struct slots *s)
{
    if (s->capacity == SLOTS_MAX)
        return SP_ERR_NO_SPACE;
    s->dirty = true;
    if (write_all(s->fd, zeros, sizeof(zeros), SLOTS_OFFSET(s->capacity)) != SP_OK)
        return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? SP_ERR_NO_SPACE : give_up(s);
    s->capacity += IN_BLOCK;
    return SP_OK;
}

static enum sp_err find_free(struct slots *s, uint32_t *slot)
{
    uint32_t word = s->low / 64;
    for (;; word++) {
        enum sp_err err = word == s->capacity / 64 ? grow(s) : SP_OK;
        if (err != SP_OK) {
            s->low = s->capacity;
            return err;
        }
        if ((s->used[word] | s->held[word]) != UINT64_MAX)
            break;
    }
    *slot = word * 64 + (uint32_t)__builtin_ctzll(~(s->used[word] | s->held[word]));
    s->low = *slot;
    return SP_OK;
}

enum sp_err slots_take(struct slots *s, uint8_t key[KEY_SIZE], uint32_t *slot)
{
    *slot = 0;
    if (s->broken)
        return SP_ERR_SYSTEM;
    enum sp_err err = find_free(s, slot);
    if (err != SP_OK)
        return err;
    randombytes_buf(key, KEY_SIZE);
    s->dirty = true;
    if (write_all(s->fd, key, KEY_SIZE, SLOTS_OFFSET(*slot)) != SP_OK)
        return give_up(s);
    set(s->used, *slot, true);
    s->in_use++;
    s->low++;
    return SP_OK;
}

enum sp_err slots_read(const struct slots *s, uint32_t slot, uint8_t key[KEY_SIZE])
{
    if (slot >= s->capacity || !get(s->used, slot))
        return SP_ERR_NOT_FOUND;
    return read_all(s->fd, key, KEY_SIZE, SLOTS_OFFSET(slot));
}

enum sp_err slots_erase(struct slots *s, uint32_t slot)
{
    if (s->broken)
        return SP_ERR_SYSTEM;
    if (slot < SLOTS_MAX && get(s->held, slot)) {
        set(s->held, slot, false);
        s->low = slot < s->low ? slot : s->low;
        return SP_OK;
    }
    if (slot >= s->capacity || !get(s->used, slot))
        return SP_OK;
    s->dirty = true;
    if (write_all(s->fd, zeros, KEY_SIZE, SLOTS_OFFSET(slot)) != SP_OK)
        return give_up(s);
    /* It may be taken again at once: whatever is written there next lies over the old key, too. */
    set(s->used, slot, false);
    s->in_use--;
    if (slot < s->low)
        s->low = slot;
    return SP_OK;
}

/* After a failed sync the kernel may take pages for clean that never reached the disk. */
enum sp_err slots_sync(struct slots *s)
{
    if (s->broken)
        return SP_ERR_SYSTEM;
    if (s->dirty && fdatasync(s->fd) != 0)
        return give_up(s);
    s->dirty = false;
    return SP_OK;
}

enum sp_err slots_name(struct slots *s, uint32_t slot)
{
    if (slot >= SLOTS_MAX)
        return SP_ERR_LIMIT;
    set(s->named, slot, true);
    return SP_OK;
}

enum sp_err slots_erase_unnamed(struct slots *s, uint32_t *n)
{
    enum sp_err err = SP_OK;
    *n = 0;
    for (uint32_t word = 0; word < s->capacity / 64; word++)
        while (err == SP_OK && (s->used[word] & ~s->named[word]) != 0) {
            uint64_t left = s->used[word] & ~s->named[word];
            err = slots_erase(s, word * 64 + (uint32_t)__builtin_ctzll(left));
            ++*n;
        }
    /* A record that came back with an older database names a slot that was erased since. Were it
     * given to another, the record's end would erase the other's key. */
    for (uint32_t word = 0; word < WORDS; word++)
        s->held[word] |= s->named[word] & ~s->used[word];
    memset(s->named, 0, sizeof(s->named));
    return err;
}

uint32_t slots_in_use(const struct slots *s)
{
    return s->in_use;
}
