#ifndef SEALPOST_SEALER_RING_H
#define SEALPOST_SEALER_RING_H
/*
 * The writer's side of the ciphertext ring between sealer and store (messages.h, SS_RING): shared
 * memory that the sealer alone may write. Positions are running byte counts; a block never wraps.
 */
#include "envelope/error.h"

#include <stddef.h>
#include <stdint.h>

#define RING_SIZE   (32u * 1024u * 1024u)
#define RING_BLOCKS 1024u /* of any size: each is a frame that waits for the store */

struct ring {
    uint8_t *base;
    int fd;        /* for the store; later mappings of it are read-only */
    uint64_t head; /* next byte to be written */
    uint64_t tail; /* all before it has been consumed */
    /* Where each block that is not consumed ends, oldest first. */
    uint64_t end[RING_BLOCKS];
    size_t first, n;
};

enum sp_err ring_create(struct ring *ring);
/* Room for a block of at most len bytes, or NULL: the bytes or the blocks are all taken, wait for
 * the store. Nothing is taken yet. */
uint8_t *ring_reserve(struct ring *ring, size_t len);
/* Takes the first len bytes of what was reserved last; their position. */
uint64_t ring_commit(struct ring *ring, size_t len);
/* The store's word on how far it is; SP_ERR_FORMAT if that cannot be. */
enum sp_err ring_consumed(struct ring *ring, uint64_t position);

#endif
