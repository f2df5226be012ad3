/* The schedule of outgoing mail. Destinations and mail are users' choice: what one of them queues
 * costs the others a turn, never their place; every step but adding is bounded by the lanes of one
 * destination. */
#include "storage/queue.h"
#include "storage/heap.h"
#include "storage/share.h"
#include "storage/store.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define CHAINS      16384u
#define MINUTE_MS   UINT64_C(60000)
#define LONGEST_MS  (66u * MINUTE_MS) /* as queue_backoff_ms */
#define DOWN_STEPS  5u                /* doublings of a minute */
#define DOWN_MAX_MS (30u * MINUTE_MS)
#define QUIET_MAX   1024u /* destinations that are remembered for having been down, without jobs */

struct job {
    LIST_ENTRY(job) chain;
    TAILQ_ENTRY(job) next; /* in its lane, when due */
    struct heap_item timer;
    struct lane *lane;
    uint64_t no;
    uint16_t job;
    enum { WAITING, DUE, LEASED } state;
};

/* What one user has for one destination. It stands with its user, or is parked with a destination
 * that takes no more now, or is empty and stands nowhere. */
struct lane {
    TAILQ_ENTRY(lane) next;
    LIST_ENTRY(lane) all; /* of its destination */
    struct user *user;
    struct destination *destination;
    TAILQ_HEAD(, job) due;
    size_t jobs;
    enum { NOWHERE, WITH_USER, PARKED } where;
};
TAILQ_HEAD(lanes, lane);

struct user {
    LIST_ENTRY(user) chain;
    TAILQ_ENTRY(user) next; /* in the ring, while it has lanes */
    uint64_t no;
    struct lanes lanes;
    size_t n_lanes; /* of all kinds */
    unsigned leased;
    bool in_ring, held; /* held: out of the ring until a lease ends, for having too many */
};
TAILQ_HEAD(users, user);

struct destination {
    LIST_ENTRY(destination) chain;
    TAILQ_ENTRY(destination) quiet;
    struct heap_item timer; /* the end of its rest */
    LIST_HEAD(, lane) all;
    struct lanes parked;
    unsigned leased, window, failures;
    bool is_quiet;
    char name[STORE_MAX_ADDRESS];
};

struct queue {
    unsigned per_destination, places, leased;
    uint8_t
        key[crypto_shorthash_KEYBYTES]; /* users choose names: their chains must not be theirs */
    LIST_HEAD(, job) job[CHAINS];
    LIST_HEAD(, user) user[CHAINS];
    LIST_HEAD(, destination) destination[CHAINS];
    struct users ring, held;
    TAILQ_HEAD(, destination) quiet;
    size_t n_jobs, n_quiet;
    struct heap heap; /* jobs that wait, destinations that rest */
};

uint64_t queue_backoff_ms(uint32_t attempts, uint32_t random)
{
    static const unsigned minutes[] = {1, 2, 5, 10, 20, 40};
    uint32_t i = attempts > 0 ? attempts - 1 : 0;
    uint64_t ms = MINUTE_MS * (i < sizeof(minutes) / sizeof(minutes[0]) ? minutes[i] : 60);
    return ms - ms / 10 + ms / 5 * (random % 1024) / 1023;
}

/* --- users, destinations, lanes --- */

static size_t job_chain(uint64_t no, uint16_t job)
{
    return (no * 31 + job) % CHAINS;
}

static struct job *job_find(const struct queue *q, uint64_t no, uint16_t job)
{
    struct job *j;
    LIST_FOREACH(j, &q->job[job_chain(no, job)], chain)
    if (j->no == no && j->job == job)
        return j;
    return NULL;
}

static struct user *user_get(struct queue *q, uint64_t no)
{
    struct user *u;
    LIST_FOREACH(u, &q->user[no % CHAINS], chain)
    if (u->no == no)
        return u;
    u = calloc(1, sizeof(*u));
    if (u == NULL)
        return NULL;
    u->no = no;
    TAILQ_INIT(&u->lanes);
    LIST_INSERT_HEAD(&q->user[no % CHAINS], u, chain);
    return u;
}

static void user_free_if_idle(struct user *u)
{
    if (u == NULL || u->n_lanes > 0)
        return;
    LIST_REMOVE(u, chain);
    free(u);
}

static struct destination *destination_get(struct queue *q, const char *name)
{
    struct destination *d;
    uint8_t hash[crypto_shorthash_BYTES];
    crypto_shorthash(hash, (const uint8_t *)name, strlen(name), q->key);
    size_t chain = ((size_t)hash[0] << 8 | hash[1]) % CHAINS;
    LIST_FOREACH(d, &q->destination[chain], chain)
    if (strcmp(d->name, name) == 0)
        return d;
    d = calloc(1, sizeof(*d));
    if (d == NULL)
        return NULL;
    strncpy(d->name, name, sizeof(d->name) - 1);
    d->window = q->per_destination;
    d->timer.what = d;
    d->timer.is_destination = true;
    TAILQ_INIT(&d->parked);
    LIST_INSERT_HEAD(&q->destination[chain], d, chain);
    return d;
}

static void destination_free(struct queue *q, struct destination *d)
{
    heap_remove(&q->heap, &d->timer);
    if (d->is_quiet) {
        TAILQ_REMOVE(&q->quiet, d, quiet);
        q->n_quiet--;
    }
    LIST_REMOVE(d, chain);
    free(d);
}

/* Without jobs it is remembered only for having been down, and not for long. */
static void destination_rest(struct queue *q, struct destination *d)
{
    if (d == NULL || !LIST_EMPTY(&d->all) || d->is_quiet)
        return;
    if (d->failures == 0) {
        destination_free(q, d);
        return;
    }
    d->is_quiet = true;
    TAILQ_INSERT_TAIL(&q->quiet, d, quiet);
    if (++q->n_quiet > QUIET_MAX)
        destination_free(q, TAILQ_FIRST(&q->quiet));
}

static void destination_wake(struct queue *q, struct destination *d)
{
    if (!d->is_quiet)
        return;
    TAILQ_REMOVE(&q->quiet, d, quiet);
    q->n_quiet--;
    d->is_quiet = false;
}

static bool closed(const struct destination *d)
{
    return d->leased >= d->window || d->timer.place != 0;
}

static void user_leave(struct queue *q, struct user *u)
{
    if (u->in_ring)
        TAILQ_REMOVE(&q->ring, u, next);
    if (u->held)
        TAILQ_REMOVE(&q->held, u, next);
    u->in_ring = u->held = false;
}

static void user_to_ring(struct queue *q, struct user *u)
{
    user_leave(q, u);
    TAILQ_INSERT_TAIL(&q->ring, u, next);
    u->in_ring = true;
}

static void user_hold(struct queue *q, struct user *u)
{
    user_leave(q, u);
    TAILQ_INSERT_TAIL(&q->held, u, next);
    u->held = true;
}

/* They are few: each holds some of the places. */
static void release_held(struct queue *q)
{
    while (!TAILQ_EMPTY(&q->held))
        user_to_ring(q, TAILQ_FIRST(&q->held));
}

static void lane_leave(struct queue *q, struct lane *l)
{
    if (l->where == PARKED)
        TAILQ_REMOVE(&l->destination->parked, l, next);
    if (l->where == WITH_USER) {
        TAILQ_REMOVE(&l->user->lanes, l, next);
        if (TAILQ_EMPTY(&l->user->lanes))
            user_leave(q, l->user);
    }
    l->where = NOWHERE;
}

static void lane_to_user(struct queue *q, struct lane *l)
{
    lane_leave(q, l);
    TAILQ_INSERT_TAIL(&l->user->lanes, l, next);
    l->where = WITH_USER;
    if (!l->user->in_ring && !l->user->held)
        user_to_ring(q, l->user);
}

static void lane_park(struct queue *q, struct lane *l)
{
    lane_leave(q, l);
    TAILQ_INSERT_TAIL(&l->destination->parked, l, next);
    l->where = PARKED;
}

static void unpark(struct queue *q, struct destination *d)
{
    while (!closed(d) && !TAILQ_EMPTY(&d->parked))
        lane_to_user(q, TAILQ_FIRST(&d->parked));
}

static struct lane *lane_get(struct user *u, struct destination *d)
{
    struct lane *l;
    LIST_FOREACH(l, &d->all, all)
    if (l->user == u)
        return l;
    l = calloc(1, sizeof(*l));
    if (l == NULL)
        return NULL;
    *l = (struct lane){.user = u, .destination = d};
    TAILQ_INIT(&l->due);
    LIST_INSERT_HEAD(&d->all, l, all);
    u->n_lanes++;
    return l;
}

/* --- jobs --- */

static void job_due(struct queue *q, struct job *j)
{
    struct lane *l = j->lane;
    heap_remove(&q->heap, &j->timer);
    j->state = DUE;
    TAILQ_INSERT_TAIL(&l->due, j, next);
    if (l->where == NOWHERE)
        lane_to_user(q, l);
}

static void job_wait(struct queue *q, struct job *j, uint64_t next_ms, uint64_t now_ms)
{
    if (next_ms <= now_ms) {
        job_due(q, j);
        return;
    }
    j->state = WAITING;
    heap_put(&q->heap, &j->timer, next_ms, now_ms);
}

/* Out of its lane, or out of the heap. */
static void job_stop(struct queue *q, struct job *j)
{
    heap_remove(&q->heap, &j->timer);
    if (j->state != DUE)
        return;
    TAILQ_REMOVE(&j->lane->due, j, next);
    if (TAILQ_EMPTY(&j->lane->due))
        lane_leave(q, j->lane);
}

static void job_free(struct queue *q, struct job *j)
{
    struct lane *l = j->lane;
    struct user *u = l->user;
    struct destination *d = l->destination;
    job_stop(q, j);
    LIST_REMOVE(j, chain);
    free(j);
    q->n_jobs--;
    if (--l->jobs > 0)
        return;
    LIST_REMOVE(l, all);
    u->n_lanes--;
    free(l);
    user_free_if_idle(u);
    destination_rest(q, d);
}

enum sp_err queue_add(struct queue *q, uint64_t no, uint16_t job, uint64_t user,
                      const char *destination, uint64_t next_ms, uint64_t now_ms)
{
    if (job_find(q, no, job) != NULL)
        return SP_ERR_EXISTS;
    struct user *u = user_get(q, user);
    struct destination *d = u != NULL ? destination_get(q, destination) : NULL;
    struct lane *l = d != NULL ? lane_get(u, d) : NULL;
    struct job *j = l != NULL ? calloc(1, sizeof(*j)) : NULL;
    /* A timer for each job, and for each destination, of which there are no more than jobs. */
    if (j == NULL || heap_room(&q->heap, 2 * (q->n_jobs + 1) + QUIET_MAX) != SP_OK) {
        if (l != NULL && l->jobs == 0) {
            LIST_REMOVE(l, all);
            u->n_lanes--;
            free(l);
        }
        free(j);
        user_free_if_idle(u);
        destination_rest(q, d);
        return SP_ERR_MEMORY;
    }
    destination_wake(q, d);
    *j = (struct job){.lane = l, .no = no, .job = job};
    j->timer.what = j;
    l->jobs++;
    q->n_jobs++;
    LIST_INSERT_HEAD(&q->job[job_chain(no, job)], j, chain);
    job_wait(q, j, next_ms, now_ms);
    return SP_OK;
}

enum sp_err queue_remove(struct queue *q, uint64_t no, uint16_t job)
{
    struct job *j = job_find(q, no, job);
    if (j == NULL)
        return SP_OK;
    if (j->state == LEASED)
        return SP_ERR_STATE;
    job_free(q, j);
    return SP_OK;
}

bool queue_leased(const struct queue *q, uint64_t no, uint16_t job)
{
    const struct job *j = job_find(q, no, job);
    return j != NULL && j->state == LEASED;
}

/* --- leasing --- */

static void catch_up(struct queue *q, uint64_t now_ms)
{
    struct heap_item *t;
    while ((t = heap_due(&q->heap, now_ms)) != NULL)
        if (t->is_destination)
            unpark(q, t->what);
        else
            job_due(q, t->what);
}

enum sp_err queue_lease(struct queue *q, uint64_t now_ms, uint64_t *no, uint16_t *job)
{
    struct user *u;
    catch_up(q, now_ms);
    while (q->leased < q->places && (u = TAILQ_FIRST(&q->ring)) != NULL) {
        if (!share_allows(u->leased, 1, q->leased, q->places)) {
            user_hold(q, u);
            continue;
        }
        struct lane *l = TAILQ_FIRST(&u->lanes);
        if (closed(l->destination)) {
            lane_park(q, l);
            continue;
        }
        struct job *j = TAILQ_FIRST(&l->due);
        job_stop(q, j);
        j->state = LEASED;
        l->destination->leased++;
        u->leased++;
        q->leased++;
        if (l->where == WITH_USER)
            lane_to_user(q, l); /* behind his others */
        if (u->in_ring)
            user_to_ring(q, u); /* and he behind the others */
        *no = j->no;
        *job = j->job;
        return SP_OK;
    }
    return SP_ERR_NOT_FOUND;
}

static void see(struct queue *q, struct destination *d, enum queue_seen seen, uint64_t now_ms)
{
    if (seen == QUEUE_ANSWERED) {
        d->failures = 0;
        heap_remove(&q->heap, &d->timer);
        if (d->window < q->per_destination)
            d->window++;
    }
    if (seen != QUEUE_DOWN)
        return;
    /* Those that were tried at the same time are one failure. */
    if (d->timer.place == 0 && d->failures < DOWN_STEPS + 1)
        d->failures++;
    uint64_t rest = MINUTE_MS << (d->failures - 1);
    d->window = 1;
    heap_put(&q->heap, &d->timer, now_ms + (rest < DOWN_MAX_MS ? rest : DOWN_MAX_MS), now_ms);
}

void queue_end(struct queue *q, uint64_t no, uint16_t job, uint64_t next_ms, enum queue_seen seen,
               uint64_t now_ms)
{
    struct job *j = job_find(q, no, job);
    if (j == NULL || j->state != LEASED)
        return;
    struct destination *d = j->lane->destination;
    d->leased--;
    j->lane->user->leased--;
    q->leased--;
    release_held(q);
    see(q, d, seen, now_ms);
    j->state = WAITING;
    unpark(q, d);
    if (next_ms == QUEUE_NEVER)
        job_free(q, j); /* and d, if it was the last */
    else
        job_wait(q, j, next_ms, now_ms);
}

void queue_retry(struct queue *q, uint64_t no, uint16_t job, uint64_t now_ms)
{
    struct job *j = job_find(q, no, job);
    if (j == NULL || j->state == LEASED)
        return;
    struct destination *d = j->lane->destination;
    heap_remove(&q->heap, &d->timer);
    d->window = q->per_destination; /* who asks for this knows that it is up again */
    unpark(q, d);
    job_stop(q, j);
    job_wait(q, j, now_ms, now_ms);
}

uint64_t queue_wake(const struct queue *q)
{
    const struct heap_item *first = heap_first(&q->heap);
    return first != NULL ? first->at_ms : QUEUE_NEVER;
}

size_t queue_length(const struct queue *q)
{
    return q->n_jobs;
}

struct queue *queue_new(unsigned per_destination, unsigned places)
{
    struct queue *q = calloc(1, sizeof(*q));
    if (q == NULL)
        return NULL;
    q->per_destination = per_destination;
    q->places = places;
    q->heap.most_ms = LONGEST_MS;
    randombytes_buf(q->key, sizeof(q->key));
    TAILQ_INIT(&q->ring);
    TAILQ_INIT(&q->held);
    TAILQ_INIT(&q->quiet);
    return q;
}

void queue_free(struct queue *q)
{
    if (q == NULL)
        return;
    for (size_t i = 0; i < CHAINS; i++)
        while (!LIST_EMPTY(&q->job[i]))
            job_free(q, LIST_FIRST(&q->job[i]));
    while (!TAILQ_EMPTY(&q->quiet))
        destination_free(q, TAILQ_FIRST(&q->quiet));
    heap_free(&q->heap);
    free(q);
}
