#ifndef SEALPOST_STORAGE_HEAP_H
#define SEALPOST_STORAGE_HEAP_H
/* What waits for its time, soonest first: a binary heap of items that stand in their owners. Times
 * are the wall clock's, which may be wrong for a while, and set back: nothing ever waits for longer
 * than most_ms from what the clock says now. */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_item {
    uint64_t at_ms;
    size_t place; /* in the heap, from 1; 0: it does not wait */
    void *what;   /* the owner's, as is: */
    bool is_destination;
};

struct heap {
    struct heap_item **item; /* from 1 */
    size_t n, cap;
    uint64_t most_ms; /* the owner's to set; now + most_ms must not overflow */
    uint64_t now_ms;  /* as it was last heard */
};

/* Room for so many items in all: heap_put cannot fail within it. SP_ERR_MEMORY. */
enum sp_err heap_room(struct heap *h, size_t items);
/* Or moves it. */
void heap_put(struct heap *h, struct heap_item *t, uint64_t at_ms, uint64_t now_ms);
void heap_remove(struct heap *h, struct heap_item *t); /* if it is there */
/* Takes out what is due. NULL: nothing is. */
struct heap_item *heap_due(struct heap *h, uint64_t now_ms);
struct heap_item *heap_first(const struct heap *h); /* NULL: it is empty */
void heap_free(struct heap *h);

#endif
