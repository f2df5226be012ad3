/* Operators and the queue: queue list, retry, drop. They name mail by the beginning of its id, and
 * see addresses and answers, never content. */
#include "storage/operator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ID_TEXT   (2u * ID_SIZE + 1u)
#define PREFIX    4u /* characters of an id at least */
#define BATCH     512u
#define TIME_TEXT 32u

/* --- listing --- */

/* Rows are collected first: a cell may need another read of the store. */
struct listed {
    uint64_t no;
    uint16_t job, secret;
    bool skipped;
};

struct batch {
    const char *prefix; /* of the message's id; NULL: all */
    uint64_t after_no;
    uint16_t after_job;
    bool begun;
    size_t n;
    struct listed at[BATCH];
};

static void id_text(const uint8_t id[ID_SIZE], char out[ID_TEXT])
{
    for (size_t i = 0; i < ID_SIZE; i++)
        snprintf(out + 2 * i, 3, "%02x", id[i]);
}

static enum sp_err collect(void *ctx, const struct store_job *job)
{
    struct batch *b = ctx;
    char id[ID_TEXT];
    if (b->begun && (job->no < b->after_no || (job->no == b->after_no && job->job <= b->after_job)))
        return SP_OK;
    if (b->n == BATCH)
        return SP_OK;
    id_text(job->message_id, id);
    if (b->prefix != NULL && strncmp(id, b->prefix, strlen(b->prefix)) != 0)
        return SP_OK;
    b->at[b->n++] = (struct listed){job->no, job->job, job->secret, false};
    return SP_OK;
}

/* The next jobs, by age; false: there are no more. */
static bool batch_next(struct request *q, struct batch *b)
{
    if (b->n > 0) {
        b->after_no = b->at[b->n - 1].no;
        b->after_job = b->at[b->n - 1].job;
        b->begun = true;
    }
    b->n = 0;
    enum sp_err err = store_jobs_each(q->role->store, 0, collect, b);
    if (err != SP_OK)
        request_say(q, err, "the queue could not be read: %s", sp_err_text(err));
    return err == SP_OK && b->n > 0;
}

static void time_text(uint64_t ms, char out[TIME_TEXT])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    strftime(out, TIME_TEXT, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static enum sp_err put_job(struct request *q, const struct store_job *job)
{
    char id[ID_TEXT], recipients[16], attempts[16], next[TIME_TEXT];
    unsigned open_n = 0;
    for (uint16_t i = 0; i < job->n; i++) {
        struct store_recipient r;
        bool open;
        open_n +=
            store_recipient_get(q->role->store, job->no, job->recipient[i], &r, &open) == SP_OK &&
            open;
    }
    id_text(job->message_id, id);
    snprintf(recipients, sizeof(recipients), "%u", open_n);
    snprintf(attempts, sizeof(attempts), "%u", job->attempts);
    if (queue_leased(q->role->queue, job->no, job->job))
        snprintf(next, sizeof(next), "under way");
    else
        time_text(job->next_ms, next);
    return request_row(q, (const char *const[]){
                              id, job->mail_from, job->destination, recipients, attempts, next,
                              job->closed != CLOSED_NOT ? closed_text(job->closed) : job->answer});
}

void queue_verb_list(struct request *q)
{
    static struct batch b;
    struct store_job job;
    q->columns = 7;
    b = (struct batch){0};
    enum sp_err err =
        request_row(q, (const char *const[]){"id", "from", "destination", "recipients", "attempts",
                                             "next try", "last answer"});
    while (err == SP_OK && batch_next(q, &b))
        for (size_t i = 0; err == SP_OK && i < b.n; i++)
            if (store_job_get(q->role->store, b.at[i].no, b.at[i].job, &job) == SP_OK)
                err = put_job(q, &job);
    if (err != SP_OK)
        request_say(q, err, "the list could not be sent: %s", sp_err_text(err));
}

/* --- changing --- */

/* Which jobs arg names; false: it said why not. */
static bool get_prefix(struct request *q, bool all, char prefix[ID_TEXT])
{
    const char *arg = q->arg[2];
    size_t len = strlen(arg);
    prefix[0] = '\0';
    if (all && strcmp(arg, "all") == 0)
        return true;
    if (len < PREFIX || len >= ID_TEXT || strspn(arg, "0123456789abcdefABCDEF") != len) {
        request_say(q, SP_ERR_FORMAT,
                    "'%s' is not an id; write the first %u or more characters of one that queue "
                    "list shows%s",
                    arg, PREFIX, all ? ", or all" : "");
        return false;
    }
    for (size_t i = 0; i <= len; i++)
        prefix[i] = (char)(arg[i] >= 'A' && arg[i] <= 'F' ? arg[i] - 'A' + 'a' : arg[i]);
    return true;
}

/* A beginning that several messages share would change more than was meant. */
static bool is_ambiguous(struct request *q, const char *prefix)
{
    static struct batch b;
    uint64_t no = 0;
    bool several = false;
    b = (struct batch){.prefix = prefix};
    while (!several && batch_next(q, &b))
        for (size_t i = 0; i < b.n; i++) {
            several = several || (no != 0 && b.at[i].no != no);
            no = b.at[i].no;
        }
    if (several)
        request_say(q, SP_ERR_FORMAT, "'%s' is the beginning of several ids; write more of it",
                    prefix);
    else if (no == 0)
        request_say(q, SP_ERR_NOT_FOUND, "no mail in the queue begins with '%s'", prefix);
    return several || no == 0;
}

/* Applies change to every job that is named and is not under way, and commits. */
static void change_jobs(struct request *q, const char *prefix, const char *done,
                        void (*change)(struct store_job *job))
{
    static struct batch b;
    unsigned n = 0, leased = 0;
    struct store_job job;
    struct store_role *r = q->role;
    b = (struct batch){.prefix = prefix[0] != '\0' ? prefix : NULL};
    while (batch_next(q, &b)) {
        enum sp_err err = SP_OK;
        for (size_t i = 0; err == SP_OK && i < b.n; i++) {
            if (queue_leased(r->queue, b.at[i].no, b.at[i].job)) {
                leased++;
                b.at[i].skipped = true;
                continue;
            }
            err = store_job_get(r->store, b.at[i].no, b.at[i].job, &job);
            if (err == SP_OK) {
                change(&job);
                err = store_job_put(r->store, &job);
            }
            n++;
        }
        if (!request_kept(q, err))
            return;
        for (size_t i = 0; i < b.n; i++) {
            if (b.at[i].skipped)
                continue;
            queue_retry(r->queue, b.at[i].no, b.at[i].job, now_ms());
            secret_check(r, b.at[i].no, b.at[i].secret, "dropped");
        }
    }
    if (q->err == SP_OK && leased > 0)
        request_say(q, SP_OK, "%s: %u; %u are being delivered right now and stay as they are", done,
                    n, leased);
    else if (q->err == SP_OK)
        request_say(q, SP_OK, "%s: %u", done, n);
    relay_dispatch(r);
}

static void retry(struct store_job *job)
{
    job->next_ms = now_ms();
}

static void drop(struct store_job *job)
{
    job->next_ms = now_ms();
    job->closed = CLOSED_DROPPED;
}

void queue_verb_retry(struct request *q)
{
    char prefix[ID_TEXT];
    if (get_prefix(q, true, prefix) && (prefix[0] == '\0' || !is_ambiguous(q, prefix)))
        change_jobs(q, prefix, "due now", retry);
}

/* The secret goes at once; a last delivery reports to the sender. */
void queue_verb_drop(struct request *q)
{
    char prefix[ID_TEXT];
    if (get_prefix(q, false, prefix) && !is_ambiguous(q, prefix))
        change_jobs(q, prefix, "dropped", drop);
}
