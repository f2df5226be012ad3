/* Limits and penalties by client. An address is all that is known of clients here; no byte that
 * they sent is looked at. */
#include "daemon/smtp/guests.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define MINUTE_MS 60000u /* what a minute gives n of, a millisecond gives n / MINUTE_MS of */

struct guest_row {
    char key[GUEST_TEXT]; /* "": free */
    uint64_t seen_ms;
    uint64_t used;  /* connections * MINUTE_MS, as they are forgotten */
    uint64_t score; /* points * MINUTE_MS */
    unsigned holds;
    uint64_t until_ms, forget_ms;
};

#define TABLE (GUESTS_SETS * GUESTS_WAYS * sizeof(struct guest_row))

enum sp_err guests_init(struct guests *g, uint64_t hold_ms, uint64_t per_minute)
{
    _Static_assert(sizeof(g->secret) == crypto_shorthash_KEYBYTES, "SipHash");
    *g = (struct guests){.hold_ms = hold_ms, .per_minute = per_minute};
    randombytes_buf(g->secret, sizeof(g->secret));
    void *at = mmap(NULL, TABLE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return SP_ERR_MEMORY;
    g->rows = at;
    return madvise(at, TABLE, MADV_DONTFORK) == 0 ? SP_OK : SP_ERR_SYSTEM;
}

void guests_end(struct guests *g)
{
    if (g->rows != NULL)
        munmap(g->rows, TABLE);
    g->rows = NULL;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The set that a client belongs to. */
static struct guest_row *find_set(const struct guests *g, const char *key)
{
    uint8_t hash[crypto_shorthash_BYTES];
    crypto_shorthash(hash, (const uint8_t *)key, strlen(key), g->secret);
    return g->rows + (size_t)hash[0] % GUESTS_SETS * GUESTS_WAYS;
}

/* The client's row as it stands now; else the one that is forgotten first, emptied. */
static struct guest_row *find_row(struct guests *g, const char *key, uint64_t now_ms)
{
    struct guest_row *set = find_set(g, key), *best = set;
    for (size_t i = 0; i < GUESTS_WAYS; i++) {
        struct guest_row *r = &set[i];
        if (strcmp(r->key, key) == 0 && r->forget_ms > now_ms) {
            r->used = less(r->used, (now_ms - r->seen_ms) * g->per_minute);
            r->score = less(r->score, (now_ms - r->seen_ms) * GUESTS_DECAY);
            r->seen_ms = now_ms;
            return r;
        }
        if (strcmp(r->key, key) == 0)
            r->forget_ms = 0;
        if (r->forget_ms < best->forget_ms)
            best = r;
    }
    *best = (struct guest_row){.seen_ms = now_ms};
    snprintf(best->key, sizeof(best->key), "%s", key);
    return best;
}

/* It may go once nothing is left of it. */
static void set_forget(const struct guests *g, struct guest_row *r)
{
    uint64_t held = r->holds > 0 ? r->until_ms + (g->hold_ms << GUESTS_DOUBLES) : 0;
    uint64_t rate = g->per_minute > 0 ? r->seen_ms + r->used / g->per_minute + 1 : 0;
    r->forget_ms = most(most(held, rate), r->seen_ms + r->score / GUESTS_DECAY + 1);
}

enum guests_verdict guests_connected(struct guests *g, const char *key, uint64_t now_ms)
{
    struct guest_row *r = find_row(g, key, now_ms);
    enum guests_verdict verdict = GUESTS_WELCOME;
    if (r->until_ms > now_ms)
        verdict = GUESTS_HELD;
    else if (g->per_minute > 0 && r->used + MINUTE_MS > g->per_minute * MINUTE_MS)
        verdict = GUESTS_TOO_FAST;
    else
        r->used += g->per_minute > 0 ? MINUTE_MS : 0;
    set_forget(g, r);
    return verdict;
}

void guests_offended(struct guests *g, const char *key, unsigned points, uint64_t now_ms)
{
    struct guest_row *r = find_row(g, key, now_ms);
    r->score += (uint64_t)points * MINUTE_MS;
    if (r->score >= (uint64_t)GUESTS_HOLD * MINUTE_MS) {
        r->score = 0;
        r->until_ms =
            now_ms + (g->hold_ms << (r->holds < GUESTS_DOUBLES ? r->holds : GUESTS_DOUBLES));
        r->holds++;
    }
    set_forget(g, r);
}

void guests_crashed(struct guests *g, const char *key, uint64_t now_ms)
{
    g->crashes++;
    if (key != NULL)
        guests_offended(g, key, GUESTS_HOLD, now_ms);
}

bool guests_held(struct guests *g, const char *key, uint64_t now_ms)
{
    const struct guest_row *set = find_set(g, key);
    for (size_t i = 0; i < GUESTS_WAYS; i++)
        if (strcmp(set[i].key, key) == 0)
            return set[i].until_ms > now_ms;
    return false;
}
