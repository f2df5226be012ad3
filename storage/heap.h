#ifndef SEALPOST_STORAGE_HEAP_H
#define SEALPOST_STORAGE_HEAP_H
/* What waits for its time, soonest first: a binary heap of items that stand in their owners. */
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
};

/* Room for so many items in all: heap_put cannot fail within it. SP_ERR_MEMORY. */
enum sp_err heap_room(struct heap *h, size_t items);
void heap_put(struct heap *h, struct heap_item *t, uint64_t at_ms); /* or moves it */
void heap_remove(struct heap *h, struct heap_item *t);              /* if it is there */
struct heap_item *heap_first(const struct heap *h);                 /* NULL: it is empty */
void heap_free(struct heap *h);

#endif
