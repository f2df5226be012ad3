#ifndef SEALPOST_STORAGE_QUEUE_H
#define SEALPOST_STORAGE_QUEUE_H
/*
 * When which job is tried: a schedule in memory over what the store keeps on disk, without I/O and
 * without a clock of its own (times are wall-clock milliseconds, as in the jobs). After a restart
 * it is filled anew; nothing is leased then. The wall clock may be set: a job waits for the longest
 * backoff at most, whatever time stands in its row, and from then on if the clock goes back.
 *
 * Jobs that are due stand in lanes, one for each user and destination. Users take turns, and a
 * user's destinations take turns, so that nobody's thousand mails hold up another's one. A
 * destination is given per_destination jobs at once; after it was down it is left alone for a while
 * (a minute, doubling to half an hour), then gets one job, and with each answer one more. Nobody
 * takes a place who holds three times as many as are still free: one user alone may have three
 * quarters of them, so that somebody whose destinations keep deliveries waiting for hours leaves
 * some to the others, and each of these to the next (storage/share.h).
 */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QUEUE_NEVER UINT64_MAX

struct queue;

/* places: leases at a time, of all users. NULL: no memory. */
struct queue *queue_new(unsigned per_destination, unsigned places);
void queue_free(struct queue *q);

/* SP_ERR_EXISTS: it is there; SP_ERR_MEMORY. */
enum sp_err queue_add(struct queue *q, uint64_t no, uint16_t job, uint64_t user,
                      const char *destination, uint64_t next_ms, uint64_t now_ms);
/* SP_ERR_STATE: it is leased, and stays; SP_OK too when there was none. */
enum sp_err queue_remove(struct queue *q, uint64_t no, uint16_t job);
bool queue_leased(const struct queue *q, uint64_t no, uint16_t job);
/* Leases the next one. SP_ERR_NOT_FOUND: none is due now. */
enum sp_err queue_lease(struct queue *q, uint64_t now_ms, uint64_t *no, uint16_t *job);
/* The lease is over. next_ms: when to try again; QUEUE_NEVER: the job has ended. */
enum queue_seen { QUEUE_UNSEEN, QUEUE_ANSWERED, QUEUE_DOWN };
void queue_end(struct queue *q, uint64_t no, uint16_t job, uint64_t next_ms, enum queue_seen seen,
               uint64_t now_ms);
/* Due at once, also if its destination was down, which is then taken for up again; nothing if it is
 * leased. */
void queue_retry(struct queue *q, uint64_t no, uint16_t job, uint64_t now_ms);
/* When to ask queue_lease again; QUEUE_NEVER: when something changes. */
uint64_t queue_wake(const struct queue *q);
size_t queue_length(const struct queue *q);

/* How long to wait after so many attempts: 1, 2, 5, 10, 20, 40 minutes, then an hour; 10 % more or
 * less, as random says. */
uint64_t queue_backoff_ms(uint32_t attempts, uint32_t random);

#endif
