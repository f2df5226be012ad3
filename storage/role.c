/* The store's process: one group of writes for everybody who asks, one sync for the group. Its
 * peers are less trusted than itself: the sealer may ask for mail to be kept, web for what a
 * device's signature allows, operators (handed over by the supervisor) for users and aliases. */
#include "storage/edges.h"
#include "daemon/messages.h"
#include "daemon/testhooks.h"

#include <errno.h>
#include <event2/event.h>
#include <malloc.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define DATA_DIR       "."  /* the root of the cage */
#define SWEEP_BLOCKS   256u /* freed in one group */
#define SWEEP_PAUSE_US 5000 /* between groups, for those who wait */

static struct store_role the_store;

uint64_t clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t ms = (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
#ifdef SEALPOST_TEST
    ms += (uint64_t)testhook_clock_ms;
#endif
    return ms;
}

bool own_domain(const struct store_role *r, const char *address)
{
    const char *domain = store_address_domain(address);
    const struct config_list *own = &r->role->config->domain;
    for (size_t i = 0; i < own->count; i++)
        if (strcasecmp(own->item[i], domain) == 0)
            return true;
    return false;
}

/* --- groups --- */

enum sp_err answer(struct ipc_peer *peer, uint16_t type, uint32_t id, enum sp_err status)
{
    uint8_t byte = (uint8_t)status;
    struct wire_out out = {.at = &byte, .len = 1, .cap = 1};
    return ipc_peer_send(peer, type, id, &out, -1);
}

/* After a failed sync nobody knows what is on disk: a new process reads it anew. */
static void give_up_if_broken(enum sp_err err)
{
    if (err == SP_OK || err == SP_ERR_NO_SPACE || err == SP_ERR_MEMORY)
        return;
    role_log("the database failed: %s (%s)", sp_err_text(err), strerror(errno));
    exit(EXIT_FAILURE);
}

enum sp_err group_flush(struct store_role *r)
{
    if (r->flushing) { /* a fault of ours: better a fresh tree than an answer twice */
        role_log("a flush inside a flush");
        exit(EXIT_FAILURE);
    }
    ring_ack(r); /* the sealer can go on while the disk works */
    if (store_pending(r->store) == 0 && r->n_replies == 0)
        return SP_OK;
    uint64_t start = clock_us();
    enum sp_err err = store_commit(r->store);
    give_up_if_broken(err);
    histogram_add(&r->commit_us, clock_us() - start);
    if (r->n_replies > 0)
        histogram_add(&r->group_size, r->n_replies);
    r->flushing = true;
    for (size_t i = 0; i < r->n_replies; i++) {
        const struct reply *a = &r->reply[i];
        if (a->then != NULL) {
            a->then(r, a->arg, err);
            continue;
        }
        if (a->deleted && err == SP_OK)
            audit_emit(AUDIT_DELETED, a->message_id, a->user_id);
        if (a->peer == r->sealer || a->peer == r->web)
            answer(a->peer, a->type, a->id, err); /* one who is gone is told by gone() */
    }
    r->flushing = false;
    r->n_replies = 0;
    r->more_soon = 0;
    secrets_flushed(r, err);
    return err;
}

enum sp_err group_answer(struct store_role *r, const struct reply *reply)
{
    if (r->n_replies == 0)
        r->first_reply_us = clock_us();
    r->reply[r->n_replies++] = *reply;
    if (r->n_replies == GROUP_REPLIES)
        group_flush(r);
    return SP_OK;
}

/* Whether it is worth waiting a moment for others to share the sync: the sealer has sent more
 * already, or expects to, or results of deliveries come thick and fast. */
static bool more_comes(struct store_role *r)
{
    const struct timeval moment = {.tv_usec = GATHER_US};
    if (r->sealer == NULL || clock_us() - r->first_reply_us > GATHER_US)
        return false;
    if (r->more_soon > 0) {
        if (!event_pending(r->gather, EV_TIMEOUT, NULL))
            event_add(r->gather, &moment);
        return true;
    }
    struct pollfd p = {.fd = ipc_peer_socket(r->sealer), .events = POLLIN};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLIN) != 0;
}

/* The moment is over: on_idle, which follows, sees that. */
static void on_gathered(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    (void)ctx;
}

void commit_soon(struct store_role *r)
{
    const struct timeval second = {.tv_sec = 1};
    if (!event_pending(r->lazy, EV_TIMEOUT, NULL))
        event_add(r->lazy, &second);
}

static void on_lazy(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    group_flush(ctx);
}

static void on_idle(void *ctx)
{
    struct store_role *r = ctx;
    ring_ack(r);
    relay_tell(r);
    if (store_pending(r->store) >= GROUP_BYTES || (r->n_replies > 0 && !more_comes(r)))
        group_flush(r);
}

/* --- sweeping --- */

void sweep_soon(struct store_role *r)
{
    const struct timeval pause = {.tv_usec = SWEEP_PAUSE_US};
    if (!event_pending(r->sweeper, EV_TIMEOUT, NULL))
        event_add(r->sweeper, &pause);
}

static void on_sweep(evutil_socket_t fd, short what, void *ctx)
{
    struct store_role *r = ctx;
    bool more = false;
    (void)fd;
    (void)what;
    enum sp_err err = store_sweep(r->store, SWEEP_BLOCKS, &more);
    group_flush(r);
    if (more && err == SP_OK)
        sweep_soon(r);
}

/* --- every minute --- */

static void on_minute(evutil_socket_t fd, short what, void *ctx)
{
    struct store_role *r = ctx;
    (void)fd;
    (void)what;
    links_expire(r);
    links_tell_left_out(r);
    forms_tick(r->forms);
    secrets_settle(r);
    sweep_soon(r);
    links_schedule(r);
}

/* --- peers --- */

/* Without the keeper nothing would be erased any more, without relay nothing sent, and all would
 * look well: a fresh tree is better. Web and the sealer end by themselves when they have lost their
 * edge; of a peer that has ended the supervisor hears itself. */
void edge_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct store_role *r = ctx;
    if (why != SP_ERR_PEER) {
        role_log("a peer broke the protocol: %s", sp_err_text(why));
        if (peer == r->keeper || peer == r->relay) {
            group_flush(r);
            exit(EXIT_FAILURE);
        }
    }
    if (peer == r->sealer) {
        group_flush(r);
        incoming_drop_all(r);
        r->sealer = NULL;
    }
    if (peer == r->web)
        r->web = NULL;
    if (peer == r->keeper)
        r->keeper = NULL;
    if (peer == r->relay)
        r->relay = NULL;
    ipc_peer_free(peer);
}

/* --- the role --- */

static enum sp_err prepare(struct role *role)
{
    struct store_role *r = &the_store;
    memset(r, 0, sizeof(*r));
    r->role = role;
    role->state = r;
    /* Dirty pages come and go by the megabyte: keep them instead of faulting them in again. */
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
    r->sessions = sessions_new();
    r->forms = forms_new();
    r->queue =
        queue_new((unsigned)role->config->per_destination, (unsigned)role->config->deliveries);
    if (r->sessions == NULL || r->forms == NULL || r->queue == NULL)
        return SP_ERR_MEMORY;
    enum sp_err err = store_open(DATA_DIR, role->config->map_size, &r->store);
    if (err == SP_ERR_STATE)
        role_log("the database is in use by another process");
    if (err == SP_ERR_CONFIG)
        role_log("the database is of another version of this program: install that one, or restore "
                 "a backup of this one's");
    return err;
}

static enum sp_err run(struct role *role)
{
    struct store_role *r = role->state;
    r->sweeper = evtimer_new(role->base, on_sweep, r);
    r->gather = evtimer_new(role->base, on_gathered, r);
    r->sealer = ipc_peer_new(role->base, ROLE_FD(ROLE_SEALER), &sealer_rules, r);
    r->web = ipc_peer_new(role->base, ROLE_FD(ROLE_WEB), &web_rules, r);
    r->minute = evtimer_new(role->base, on_minute, r);
    r->lazy = evtimer_new(role->base, on_lazy, r);
    r->keeper = ipc_peer_new(role->base, ROLE_FD(ROLE_KEEPER), &keeper_rules, r);
    if (r->sweeper == NULL || r->gather == NULL || r->sealer == NULL || r->web == NULL ||
        r->minute == NULL || r->lazy == NULL || r->keeper == NULL)
        return SP_ERR_MEMORY;
    ipc_on_idle(on_idle, r);
    enum sp_err err = keeper_begin(r);
    if (err == SP_OK)
        err = relay_begin(r);
    if (err == SP_OK)
        on_minute(-1, 0, r);
    return err;
}

static void stop(struct role *role)
{
    struct store_role *r = role->state;
    group_flush(r);
    incoming_drop_all(r);
    store_close(r->store);
    r->store = NULL;
    sessions_free(r->sessions);
    forms_free(r->forms);
    exit(EXIT_SUCCESS);
}

static void status(struct role *role, struct wire_out *pairs)
{
    struct store_role *r = role->state;
    struct store_totals t;
    if (store_totals(r->store, &t) != SP_OK)
        return;
    role_status_number(pairs, "users", t.users);
    role_status_number(pairs, "messages", t.messages);
    role_status_number(pairs, "stored_bytes", t.bytes);
    role_status_number(pairs, "map_used_bytes", t.map_used);
    role_status_number(pairs, "map_size_bytes", t.map_size);
    role_status_number(pairs, "drafts", t.drafts);
    role_status_number(pairs, "queue", t.jobs);
    role_status_number(pairs, "secrets", t.secrets);
    role_status_number(pairs, "links", t.links);
    role_status_number(pairs, "links_opened", r->links_opened);
    role_status_number(pairs, "links_expired", r->links_expired);
    role_status_number(pairs, "deliveries", r->n_leases);
    role_status_histogram(pairs, "commit_us", &r->commit_us);
    role_status_histogram(pairs, "group_size", &r->group_size);
}

static enum sp_err control(struct role *role, struct ipc_frame *frame)
{
    return frame->type == CT_ADMIN ? operator_accept(role->state, frame) : SP_ERR_DENIED;
}

const struct role_ops store_role = {
    .id = ROLE_STORE,
    .name = "store",
    .prepare = prepare,
    .run = run,
    .stop = stop,
    .status = status,
    .control = control,
};
