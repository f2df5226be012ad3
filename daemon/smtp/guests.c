/* The penalty for crashing a session. An address is all that is known of clients here; no byte that
 * they sent is looked at. */
#include "daemon/smtp/guests.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

bool guests_is_crash(int signal)
{
    static const int crash[] = {SIGSYS, SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGTRAP};
    for (size_t i = 0; i < sizeof(crash) / sizeof(crash[0]); i++)
        if (crash[i] == signal)
            return true;
    return false;
}

/* The client's place; else the one that is forgotten first. */
static struct held *place(struct guests *g, const char *key)
{
    struct held *best = &g->held[0];
    for (size_t i = 0; i < GUESTS_HELD; i++) {
        struct held *h = &g->held[i];
        if (strcmp(h->key, key) == 0)
            return h;
        if (h->forget_ms < best->forget_ms)
            best = h;
    }
    return best;
}

void guests_crashed(struct guests *g, const char *key, uint64_t now_ms)
{
    struct held *h = place(g, key);
    g->crashes++;
    if (strcmp(h->key, key) != 0 || h->forget_ms <= now_ms)
        *h = (struct held){0};
    snprintf(h->key, sizeof(h->key), "%s", key);
    uint64_t hold = g->hold_ms << (h->crashes < GUESTS_DOUBLES ? h->crashes : GUESTS_DOUBLES);
    h->crashes++;
    h->until_ms = now_ms + hold;
    h->forget_ms = h->until_ms + (g->hold_ms << GUESTS_DOUBLES);
}

bool guests_held(const struct guests *g, const char *key, uint64_t now_ms)
{
    for (size_t i = 0; i < GUESTS_HELD; i++)
        if (g->held[i].until_ms > now_ms && strcmp(g->held[i].key, key) == 0)
            return true;
    return false;
}
