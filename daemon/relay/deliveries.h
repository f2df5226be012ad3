#ifndef SEALPOST_RELAY_DELIVERIES_H
#define SEALPOST_RELAY_DELIVERIES_H
/*
 * The processes that deliver, as their parent sees them: started with a lease and three channels,
 * ended by themselves, by a deadline or at shutdown, reaped, reported.
 */
#include "daemon/ipc.h"
#include "daemon/role.h"

#include <linux/filter.h>
#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A delivery gives up by itself before the deadline; whoever cannot is killed. In between it may
 * still wait for the answer to a mail that the server has: to kill it there is to send that mail
 * twice (delivery.c). Seconds. */
#define DELIVERY_TIME     3300u
#define DELIVERY_DEADLINE 5700u

/* Crashes until the next deliveries get another address space layout: all have that of their
 * parent, and whoever may crash them again and again learns it byte by byte. */
#define DELIVERY_CRASHES 100u

struct event;

struct delivery_place {
    pid_t pid; /* 0: free */
    uint32_t id;
    uint64_t lease;
    struct event *deadline;
    /* Locked memory for the one process that is here now, struct vault; NULL: none was made yet. No
     * other child inherits it, and it is wiped when that process is reaped: before, another mapping
     * of it could be left. */
    void *vault;
};

struct deliveries {
    struct role *role;
    struct ipc_peer *store;
    SSL_CTX *tls;         /* of a client; children inherit it */
    const char *template; /* of links' notifications */
    size_t template_len;
    struct sock_fprog filter; /* the delivery's, compiled once */
    struct delivery_place *place;
    size_t n_places, n_running;
    size_t n_peers; /* whom each delivery has a channel to */
    /* Leases that came while SR_WANT was on its way and no place is free any more. */
    uint64_t *waiting;
    size_t n_waiting;
    uint32_t last_id;
    bool ending;
    bool short_of; /* processes or descriptors: for a second nothing more is asked for */
    struct event *again;
    uint64_t started, crashed, violations;
};

/* After d's fields up to filter are set: room for n processes. */
enum sp_err deliveries_init(struct deliveries *d, size_t n);
/* Runs this lease, now or when a place is free. SP_ERR_LIMIT: more than were ever asked for. */
enum sp_err deliveries_start(struct deliveries *d, uint64_t lease);
/* Reaps those that ended, says so to the store, starts those that wait. */
void deliveries_reap(struct deliveries *d);
/* Tells the store how many jobs it may send. */
void deliveries_want(struct deliveries *d);
/* Sends a signal to all. */
void deliveries_signal(const struct deliveries *d, int signal);

#endif
