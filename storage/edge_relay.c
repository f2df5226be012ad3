/* The relay's edge: jobs that are due go to deliveries, one lease each. The relay (parent) holds
 * nothing; one that was taken over can let mail wait, or give a lease's channel to whom it likes,
 * but reach no more than the mail of the leases that it was given. */
#include "storage/edges.h"
#include "daemon/forked.h"
#include "daemon/messages.h"

#include <event2/event.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define CRASHES_CLOSE 5u  /* without a word: the mail is opened no more, a report is made */
#define CRASHES_END   10u /* nor is there a report: it fails here */
#define LEASE_TRIES   64  /* of jobs that have gone meanwhile, in one turn */

const char *closed_text(enum store_closed closed)
{
    static const char *const text[] = {
        [CLOSED_NOT] = "",
        [CLOSED_DROPPED] = "dropped by the operator",
        [CLOSED_CRASHES] = "could not be processed",
        [CLOSED_LOST] = "the key of this mail is no longer there",
        [CLOSED_LATE] = "could not be processed in time",
    };
    return closed < sizeof(text) / sizeof(text[0]) ? text[closed] : "";
}

struct lease *lease_find(struct store_role *r, uint64_t id)
{
    struct lease *l;
    LIST_FOREACH(l, &r->leases, next)
    if (l->id == id)
        return l;
    return NULL;
}

/* --- leasing --- */

/* With the recipients that are still open. */
static enum sp_err load_job(struct store_role *r, struct lease *l, uint64_t no, uint16_t job)
{
    enum sp_err err = store_job_get(r->store, no, job, &l->job);
    for (uint16_t i = 0; err == SP_OK && i < l->job.n; i++) {
        struct store_recipient recipient;
        bool open;
        if (store_recipient_get(r->store, no, l->job.recipient[i], &recipient, &open) == SP_OK &&
            open)
            l->open[l->n_open++] = l->job.recipient[i];
    }
    return err;
}

static bool has_sender(struct store_role *r, const struct store_job *job)
{
    struct store_user user;
    return store_user_by_no(r->store, job->user, &user) == SP_OK && user.state == USER_ENROLLED;
}

/* Nobody is left to hear of it. */
static void give_up(struct store_role *r, struct store_job *job)
{
    size_t n, left;
    if (store_job_revoke(r->store, job, NULL, now_ms(), &n, &left) == SP_OK)
        group_flush(r);
    secret_check(r, job->no, job->secret, "failed");
}

/* Relay hears of a lease when the keeper can: a delivery whose lease is still on its way out of
 * here would be refused there. */
static enum sp_err tell_relay(struct store_role *r, struct lease *l)
{
    uint8_t buf[8];
    struct wire_out out = wire_out(buf, sizeof(buf));
    if (l->told || r->relay == NULL || r->keeper == NULL)
        return SP_OK;
    if (!ipc_peer_flushed(r->keeper)) {
        r->untold = true;
        return SP_OK;
    }
    l->told = true;
    wire_put_u64(&out, l->id);
    return ipc_peer_send(r->relay, SR_JOB, 0, &out, -1);
}

void relay_tell(struct store_role *r)
{
    struct lease *l;
    if (!r->untold)
        return;
    r->untold = false;
    LIST_FOREACH(l, &r->leases, next)
    tell_relay(r, l);
}

static enum sp_err announce(struct store_role *r, struct lease *l)
{
    enum sp_err err = keeper_lease(r, l);
    if (err == SP_ERR_NOT_FOUND) { /* its record is gone: a report is all that can be made */
        l->job.closed = CLOSED_LOST;
        err = keeper_lease(r, l);
    }
    return err == SP_OK ? tell_relay(r, l) : err;
}

/* SP_ERR_NOT_FOUND: the job has ended. */
static enum sp_err lease_new(struct store_role *r, uint64_t no, uint16_t job)
{
    struct lease *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return SP_ERR_MEMORY;
    enum sp_err err = load_job(r, l, no, job);
    if (err == SP_OK && (l->n_open == 0 || !has_sender(r, &l->job))) {
        give_up(r, &l->job);
        err = SP_ERR_NOT_FOUND;
    }
    l->id = ++r->lease_id;
    if (err == SP_OK)
        err = announce(r, l);
    if (err != SP_OK) {
        free(l);
        return err;
    }
    LIST_INSERT_HEAD(&r->leases, l, next);
    r->n_leases++;
    r->want--;
    return SP_OK;
}

/* While the store is full only one: its result comes out of the reserve, what it has sent makes
 * room, and no row of them can eat the reserve up. */
static bool has_place(struct store_role *r)
{
    return r->n_leases < r->role->config->deliveries &&
           (r->n_leases == 0 || store_has_room(r->store));
}

static bool may_lease(struct store_role *r)
{
    return r->relay != NULL && r->keeper_ready && r->want > 0 && has_place(r);
}

#define LOOK_MS 60000u /* the wall clock may be set */

/* Where nothing may be leased, what ends that wakes us. */
static void wait_for_next(struct store_role *r)
{
    uint64_t wake = queue_wake(r->queue), now = now_ms(), ms = LOOK_MS;
    if (wake == QUEUE_NEVER) {
        event_del(r->due);
        return;
    }
    if (may_lease(r))
        ms = wake <= now ? 1 : wake - now < LOOK_MS ? wake - now : LOOK_MS;
    const struct timeval t = {.tv_sec = (time_t)(ms / 1000),
                              .tv_usec = (suseconds_t)(ms % 1000) * 1000};
    event_add(r->due, &t);
}

void relay_dispatch(struct store_role *r)
{
    uint64_t no;
    uint16_t job;
    int tries = LEASE_TRIES;
    while (tries > 0 && may_lease(r) && queue_lease(r->queue, now_ms(), &no, &job) == SP_OK) {
        enum sp_err err = lease_new(r, no, job);
        if (err == SP_OK)
            continue;
        uint64_t next = err == SP_ERR_NOT_FOUND ? QUEUE_NEVER : now_ms() + 60000;
        queue_end(r->queue, no, job, next, QUEUE_UNSEEN, now_ms());
        tries--;
    }
    if (tries == 0)
        relay_wake(r); /* the others have their turn */
    else
        wait_for_next(r);
}

/* --- what comes next --- */

static bool is_older(const struct store_role *r, const struct store_job *job, unsigned times)
{
    return now_ms() >= job->queued_ms + times * r->role->config->retry_for * 1000u;
}

/* After an end without a word. Crashes are this mail's doing. Whatever else ends a delivery (no
 * memory, a peer that is gone, the deadline) is this host's, and may pass: the mail is tried as
 * long as any other, but not for ever, as no delivery lives to say that time is over. */
static void close_silent(const struct store_role *r, struct store_job *job)
{
    if (job->closed != CLOSED_NOT)
        return;
    if (job->crashes >= CRASHES_CLOSE)
        job->closed = CLOSED_CRASHES;
    else if (is_older(r, job, 1))
        job->closed = CLOSED_LATE;
}

enum sp_err job_settle(struct store_role *r, struct lease *l)
{
    struct store_job *job = &l->job;
    job->attempts++;
    if (l->n_reported > 0)
        job->crashes = 0;
    else if (l->crashed && job->crashes < UINT8_MAX)
        job->crashes++;
    if (l->n_reported == 0)
        close_silent(r, job);
    job->next_ms = now_ms() + queue_backoff_ms(job->attempts, randombytes_random());
    return store_job_put(r->store, job);
}

/* A report has as long again as the mail had. closed: it was a report already. */
static bool is_hopeless(const struct store_role *r, const struct lease *l, bool closed)
{
    return l->job.crashes >= CRASHES_END ||
           (closed && l->n_reported == 0 && is_older(r, &l->job, 2));
}

/* Even its report could not be made. A link whose notification this was, nobody will ever hold. */
static void fail_here(struct store_role *r, struct lease *l)
{
    static struct store_outcome o[STORE_JOB_RECIPIENTS];
    uint8_t link[ID_SIZE];
    size_t left;
    bool is_link = link_of_job(r, &l->job, link) == SP_OK;
    for (uint16_t i = 0; i < l->n_open; i++) {
        o[i] = (struct store_outcome){.index = l->open[i], .state = DELIVERY_FAILED};
        strncpy(o[i].text, closed_text(l->job.closed), sizeof(o[i].text) - 1);
    }
    enum sp_err err = store_job_result(r->store, &l->job, o, l->n_open, now_ms(), &left);
    if (err == SP_OK && is_link)
        err = store_link_end(r->store, link, DELIVERY_EXPIRED, link_now(r));
    if (err == SP_OK)
        err = group_flush(r);
    if (err != SP_OK)
        return;
    audit_emit(AUDIT_RELAY_FAILED, l->job.message_id, l->job.destination, (uint64_t)l->n_open, "",
               UINT64_C(0));
    if (is_link)
        link_ended(r, link, "failed");
}

void lease_end_if_over(struct store_role *r, struct lease *l)
{
    struct store_job job;
    if (!l->ended || l->delivery != NULL)
        return; /* what it sent before it died is read first */
    /* Most have said all and were answered: what is in the open group is others'. */
    enum sp_err flushed = l->pending ? group_flush(r) : SP_OK;
    bool closed = l->job.closed != CLOSED_NOT;
    if (!l->settled && !l->stopped) {
        if (job_settle(r, l) == SP_OK && is_hopeless(r, l, closed))
            fail_here(r, l);
        flushed = group_flush(r);
    }
    uint64_t next = now_ms() + 60000; /* if the database took nothing */
    enum sp_err err = store_job_get(r->store, l->job.no, l->job.job, &job);
    if (err == SP_ERR_NOT_FOUND)
        next = QUEUE_NEVER;
    else if (err == SP_OK && flushed == SP_OK)
        next = job.next_ms;
    queue_end(r->queue, l->job.no, l->job.job, next, l->seen, now_ms());
    keeper_lease_end(r, l->id);
    secret_check(r, l->job.no, l->job.secret, "failed");
    LIST_REMOVE(l, next);
    r->n_leases--;
    free(l);
    relay_dispatch(r);
}

/* --- frames --- */

void relay_wake(struct store_role *r)
{
    const struct timeval now = {0};
    event_add(r->due, &now);
}

static enum sp_err on_want(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    (void)peer;
    r->want = wire_get_u32(&frame->body);
    relay_dispatch(r);
    return SP_OK;
}

static enum sp_err on_ended(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    (void)peer;
    struct lease *l = lease_find(r, wire_get_u64(&frame->body));
    uint32_t sig = wire_get_u32(&frame->body);
    r->want = wire_get_u32(&frame->body);
    if (l == NULL || frame->body.bad || l->ended)
        return SP_ERR_FORMAT;
    l->ended = true;
    l->stopped = sig == SIGTERM;
    l->crashed = forked_is_crash((int)sig);
    lease_end_if_over(r, l);
    return SP_OK;
}

static void on_due(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    relay_dispatch(ctx);
}

static enum sp_err add_job(void *ctx, const struct store_job *job)
{
    struct store_role *r = ctx;
    return queue_add(r->queue, job->no, job->job, job->user, job->destination, job->next_ms,
                     now_ms());
}

enum sp_err relay_begin(struct store_role *r)
{
    r->due = evtimer_new(r->role->base, on_due, r);
    r->relay = ipc_peer_new(r->role->base, ROLE_FD(ROLE_RELAY), &relay_rules, r);
    if (r->due == NULL || r->relay == NULL)
        return SP_ERR_MEMORY;
    return store_jobs_each(r->store, 0, add_job, r);
}

static const struct ipc_rule rules[] = {
    {SR_WANT, false, false, 4, 4, on_want},
    {SR_ENDED, false, false, 16, 16, on_ended},
    {RP_DELIVERY, true, false, 12, 12, on_delivery},
};
const struct ipc_rules relay_rules = {rules, sizeof(rules) / sizeof(rules[0]), UINT64_MAX,
                                      edge_gone};
