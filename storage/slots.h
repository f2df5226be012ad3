#ifndef SEALPOST_SLOTS_H
#define SEALPOST_SLOTS_H
/*
 * The slots file: keys of 32 random bytes at fixed offsets, overwritten in place. What must be able
 * to vanish lies elsewhere, sealed under such a key. A database never forgets its free pages, a
 * backup never forgets anything: here erasing means overwriting the one copy of the key, and it is
 * over when that is on disk.
 *
 *        0  "SPSLOTS" 0, u32 version=1, u32 key bytes=32, zeros
 *     4096  key 0, key 1, ...; zeros: a free slot
 *
 * It grows by blocks of zeros that are really written (fallocate leaves unwritten extents, which
 * the first write may move) and never shrinks. Keys go between the file and the caller's (locked)
 * memory and are copied nowhere else. One thread. Whether the file system overwrites in place is
 * the caller's to know (daemon/inplace.h).
 */
#include "envelope/error.h"
#include "envelope/keys.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLOTS_BLOCK        4096u
#define SLOTS_HEADER       SLOTS_BLOCK
#define SLOTS_MAX          (1u << 20)
#define SLOTS_OFFSET(slot) ((uint64_t)SLOTS_HEADER + (uint64_t)KEY_SIZE * (slot))

struct slots;

/* Takes a descriptor open for reading and writing, which stays the caller's. An empty file becomes
 * a new one. SP_ERR_FORMAT: it is not a slots file, is cut off or too large, and is left as it is;
 * SP_ERR_SYSTEM (errno), SP_ERR_MEMORY. lockmem_init must have been called: finding the free slots
 * means reading all of them once. */
enum sp_err slots_open(int fd, struct slots **out);
/* NULL is ignored. What was not synced may or may not be on disk. */
void slots_close(struct slots *s);

/* Fills key with fresh random bytes and writes it into a free slot. SP_ERR_NO_SPACE: the disk, or
 * the file's limit; the slot is free still. Not durable before slots_sync. */
enum sp_err slots_take(struct slots *s, uint8_t key[KEY_SIZE], uint32_t *slot);
/* SP_ERR_NOT_FOUND: the slot is free, or there is no such one. */
enum sp_err slots_read(const struct slots *s, uint32_t slot, uint8_t key[KEY_SIZE]);
/* Overwrites the slot with zeros; SP_OK for one that is free. Not durable before slots_sync. */
enum sp_err slots_erase(struct slots *s, uint32_t slot);
/* Makes what was written durable, with one fdatasync; free if nothing was. After an error of a
 * write or a sync nothing is known of the disk: all that writes fails from then on. */
enum sp_err slots_sync(struct slots *s);

/* At start: name each slot that is in use (SP_ERR_LIMIT: no slot can have that number; one that is
 * free is kept from slots_take until slots_erase), then erase the others; *n: how many there were.
 * Needs a sync. */
enum sp_err slots_name(struct slots *s, uint32_t slot);
enum sp_err slots_erase_unnamed(struct slots *s, uint32_t *n);

uint32_t slots_in_use(const struct slots *s);

#endif
