/* Ciphertext on its way to the store. The store may read all of it and write none. */
#include "daemon/sealer/ring.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

enum sp_err ring_create(struct ring *ring)
{
    *ring = (struct ring){.fd = memfd_create("ciphertext", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    if (ring->fd < 0 || ftruncate(ring->fd, RING_SIZE) != 0)
        return SP_ERR_SYSTEM;
    void *base = mmap(NULL, RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
    if (base == MAP_FAILED)
        return SP_ERR_MEMORY;
    ring->base = base;
    if (fcntl(ring->fd, F_ADD_SEALS,
              F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
        return SP_ERR_SYSTEM;
    return SP_OK;
}

uint8_t *ring_reserve(struct ring *ring, size_t len)
{
    uint64_t start = ring->head;
    if (ring->n == RING_BLOCKS)
        return NULL;
    if (start % RING_SIZE + len > RING_SIZE)
        start += RING_SIZE - start % RING_SIZE; /* the rest of this round is skipped */
    if (start + len - ring->tail > RING_SIZE)
        return NULL;
    ring->head = start;
    return ring->base + start % RING_SIZE;
}

uint64_t ring_commit(struct ring *ring, size_t len)
{
    uint64_t position = ring->head;
    ring->head += len;
    ring->end[(ring->first + ring->n++) % RING_BLOCKS] = ring->head;
    return position;
}

enum sp_err ring_consumed(struct ring *ring, uint64_t position)
{
    if (position < ring->tail || position > ring->head)
        return SP_ERR_FORMAT;
    ring->tail = position;
    for (; ring->n > 0 && ring->end[ring->first] <= position; ring->n--)
        ring->first = (ring->first + 1) % RING_BLOCKS;
    return SP_OK;
}
