/* A binary heap (storage/heap.h): places are kept in the items, so that any of them can be taken
 * out. */
#include "storage/heap.h"

#include <stdlib.h>

static void set(struct heap *h, size_t place, struct heap_item *t)
{
    h->item[place] = t;
    t->place = place;
}

static void up(struct heap *h, struct heap_item *t, size_t place)
{
    for (; place > 1 && h->item[place / 2]->at_ms > t->at_ms; place /= 2)
        set(h, place, h->item[place / 2]);
    set(h, place, t);
}

static void down(struct heap *h, struct heap_item *t, size_t place)
{
    for (size_t child; (child = 2 * place) <= h->n; place = child) {
        if (child < h->n && h->item[child + 1]->at_ms < h->item[child]->at_ms)
            child++;
        if (h->item[child]->at_ms >= t->at_ms)
            break;
        set(h, place, h->item[child]);
    }
    set(h, place, t);
}

void heap_remove(struct heap *h, struct heap_item *t)
{
    size_t place = t->place;
    if (place == 0)
        return;
    t->place = 0;
    struct heap_item *last = h->item[h->n--];
    if (last == t)
        return;
    if (place > 1 && h->item[place / 2]->at_ms > last->at_ms)
        up(h, last, place);
    else
        down(h, last, place);
}

static uint64_t no_later(const struct heap *h, uint64_t at_ms)
{
    uint64_t last = h->now_ms + h->most_ms;
    return at_ms < last ? at_ms : last;
}

/* Where the clock was set back, all come nearer; the order stays. */
static void hear_clock(struct heap *h, uint64_t now_ms)
{
    bool back = now_ms < h->now_ms;
    h->now_ms = now_ms;
    for (size_t i = 1; back && i <= h->n; i++)
        h->item[i]->at_ms = no_later(h, h->item[i]->at_ms);
}

void heap_put(struct heap *h, struct heap_item *t, uint64_t at_ms, uint64_t now_ms)
{
    hear_clock(h, now_ms);
    heap_remove(h, t);
    t->at_ms = no_later(h, at_ms);
    h->n++;
    up(h, t, h->n);
}

struct heap_item *heap_due(struct heap *h, uint64_t now_ms)
{
    hear_clock(h, now_ms);
    struct heap_item *t = heap_first(h);
    if (t == NULL || t->at_ms > now_ms)
        return NULL;
    heap_remove(h, t);
    return t;
}

enum sp_err heap_room(struct heap *h, size_t items)
{
    if (items + 2 <= h->cap)
        return SP_OK;
    size_t cap = 2 * items + 64;
    struct heap_item **item = realloc(h->item, cap * sizeof(struct heap_item *));
    if (item == NULL)
        return SP_ERR_MEMORY;
    h->item = item;
    h->cap = cap;
    return SP_OK;
}

struct heap_item *heap_first(const struct heap *h)
{
    return h->n > 0 ? h->item[1] : NULL;
}

void heap_free(struct heap *h)
{
    free(h->item);
    *h = (struct heap){0};
}
