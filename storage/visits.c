/* Places where readers of links stopped: a table in sets, so that one link with many readers pushes
 * out its own alone. Web, on whose word it is filled, is trusted for nothing. */
#include "storage/visits.h"

#include <string.h>

static struct visit *set_of(struct visits *v, const uint8_t link[ID_SIZE])
{
    return v->place[link[0] % VISIT_SETS]; /* ids are random */
}

static bool is_here(const struct visit *p, uint64_t now_ms, const uint8_t link[ID_SIZE],
                    uint32_t what)
{
    return p->at_ms != 0 && p->what == what && now_ms - p->at_ms <= VISIT_IDLE_MS &&
           memcmp(p->link, link, ID_SIZE) == 0;
}

bool visits_go_on(struct visits *v, uint64_t now_ms, const uint8_t link[ID_SIZE], uint32_t what,
                  uint64_t offset)
{
    struct visit *set = set_of(v, link), *found = NULL;
    for (size_t i = 0; i < VISIT_WAYS; i++) {
        if (!is_here(&set[i], now_ms, link, what))
            continue;
        if (set[i].offset == offset) {
            found = &set[i];
            break; /* the very place goes before one that takes any */
        }
        if (set[i].offset == VISIT_ANYWHERE)
            found = &set[i];
    }
    if (found != NULL)
        found->at_ms = 0;
    return found != NULL;
}

void visits_stop(struct visits *v, uint64_t now_ms, const uint8_t link[ID_SIZE], uint32_t what,
                 uint64_t offset)
{
    struct visit *set = set_of(v, link), *oldest = set;
    for (size_t i = 1; i < VISIT_WAYS; i++)
        if (set[i].at_ms < oldest->at_ms)
            oldest = &set[i];
    *oldest = (struct visit){.what = what, .offset = offset, .at_ms = now_ms};
    memcpy(oldest->link, link, ID_SIZE);
}

/* --- requests for links that nobody made --- */

static void refill(struct visits *v, uint64_t now_ms)
{
    uint64_t gained = (now_ms - v->strange_ms) / VISIT_STRANGE_MS;
    v->strange -= gained < v->strange ? gained : v->strange;
    v->strange_ms += gained * VISIT_STRANGE_MS;
}

bool visits_may_log(struct visits *v, uint64_t now_ms)
{
    refill(v, now_ms);
    bool may = v->strange < VISIT_STRANGE_BURST;
    v->strange += may;
    v->left_out += !may;
    return may;
}

uint64_t visits_left_out(struct visits *v, uint64_t now_ms)
{
    refill(v, now_ms);
    if (v->strange >= VISIT_STRANGE_BURST)
        return 0;
    uint64_t n = v->left_out;
    v->left_out = 0;
    return n;
}
