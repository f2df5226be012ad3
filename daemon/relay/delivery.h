#ifndef SEALPOST_RELAY_DELIVERY_H
#define SEALPOST_RELAY_DELIVERY_H
/*
 * One lease, one process: a mail to its recipients at one destination, opened as it is sent, and
 * told of to the store. Split by what it does: delivery.c (the whole), opening.c (envelope, keys,
 * first pass, signatures), orders.c (who may get it), route.c (whom to connect to), attempt.c
 * (connections, transactions), outcome.c (what the store is told), report.c (what the sender is
 * told), flow.c, job.c, facts.c, edge.c; below them dialog.h, dkim.h, remote.h.
 */
#include "daemon/config.h"
#include "daemon/domain.h"
#include "daemon/forked.h"
#include "daemon/relay/dialog.h"
#include "daemon/relay/dkim.h"
#include "daemon/relay/facts.h"
#include "daemon/relay/job.h"
#include "daemon/relay/route.h"
#include "daemon/relay/flow.h"
#include "daemon/sealer/sealing.h"

#include <signal.h>

/* Numbers of its channels. */
enum {
    DELIVERY_STORE = FORKED_FIRST,
    DELIVERY_KEEPER,
    DELIVERY_TCP4, /* sockets from the door */
    DELIVERY_TCP6,
    DELIVERY_RESOLVER, /* last: it may be left out */
};
#define DELIVERY_CHANNELS 3u

struct delivery_start {
    const struct config *config;
    SSL_CTX *tls;
    const char *template; /* of links' notifications: template.h */
    size_t template_len;
    void *
        vault; /* a struct vault in locked memory, all zero, the parent's; NULL: it makes its own */
};

/* --- for the parent, in the child --- */

/* SIGTERM is remembered. First. */
void delivery_watch_signals(void);
/* Locked memory; before the filter. start's pointers are kept. */
enum sp_err delivery_prepare(const struct delivery_start *start);
/* Does it. SP_OK, too, when nothing could be delivered and the store was told. Otherwise the store
 * hears nothing more of it but the end of this process, and the lease is tried again. */
enum sp_err delivery_run(void);

/* --- inside --- */

/* All that must not be seen, in locked memory; what is not used at the same time shares its place.
 */
struct vault {
    union {
        uint8_t manifest[SEALING_MAX_ENVELOPE]; /* until its pieces are taken over */
        struct dkim dkim;                       /* first pass */
        struct dialog dialog;                   /* each connection */
        uint8_t report[CAKE_CHUNK];             /* what the sender is told, a chunk at a time */
    } in;
    struct remote remote;
    struct flow_secret flow;
    struct facts facts;
    char user[256], password[256]; /* for the smarthost */
};

struct delivery_recipient {
    bool settled; /* nothing more is to be tried */
    bool told;    /* the store knows */
    bool any;     /* there is a verdict */
    size_t host;  /* whose: index into route.host, or ROUTE_NOBODY */
    struct dialog_verdict verdict;
};

#define DELIVERY_FRONT (1024u + CONFIG_MAX_LIST * DKIM_MAX)

struct delivery {
    const struct config *config;
    SSL_CTX *tls;
    const char *template;
    size_t template_len;
    struct vault *vault;
    uint64_t until_ms; /* monotonic: it gives up by itself */
    struct job job;
    struct delivery_recipient *to; /* job.n of them, in locked memory: servers may quote mail */
    struct flow flow;
    bool opened; /* the mail can be read */
    bool login;  /* the smarthost wants a password */
    struct dkim_facts mail;
    char from_domain[DOMAIN_MAX + 1];
    struct route route;
    char front[DELIVERY_FRONT]; /* Received: and DKIM-Signature: */
    size_t front_len;
};

/* Set by SIGTERM. */
extern volatile sig_atomic_t delivery_stop;

/* A verdict of our own. format's result is cut to what a result may have. */
void delivery_verdict(struct dialog_verdict *v, enum dialog_outcome outcome, unsigned code,
                      const char *enhanced, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* One recipient's. NONE becomes DEFERRED. host: who said it, as in delivery_all. */
void delivery_take(struct delivery_recipient *to, size_t host, const struct dialog_verdict *v);
/* For all that are not settled, at the end of what can be tried. A verdict DEFERRED that stands
 * already wins over FAILED. host: who said it. */
void delivery_all(struct delivery *d, size_t host, const struct dialog_verdict *v);
size_t delivery_unsettled(const struct delivery *d);
bool delivery_is_ascii(const char *text);

/* opening.c. SP_OK: d->opened, *why as it was (NONE), or the verdict for all is in *why (FAILED).
 */
enum sp_err opening_open(struct delivery *d, struct dialog_verdict *why);
/* notice.c: the same for a link, whose mail is the notification that it writes. */
enum sp_err notice_open(struct delivery *d, struct dialog_verdict *why);
/* The first pass: all pieces are what the manifest says, the mail may be sent as it is. */
enum sp_err opening_inspect(struct delivery *d, struct dialog_verdict *why);

/* orders.c: whether the sender has ordered the mail for each recipient of the job, whose domain is
 * the job's destination. sign_pk, digest: what the keeper has opened the box for. */
bool orders_relay(const struct job *job, const uint8_t sign_pk[KEY_SIZE],
                  const uint8_t digest[HASH_SIZE]);
/* The same of a link, and of all that its notification says. */
bool orders_link(const struct job *job, const uint8_t password[KEY_SIZE]);
/* The verdict if not. */
void orders_refused(struct dialog_verdict *why);

/* attempt.c: tries all hosts of the route until every recipient is settled or nothing is left. Who
 * was served is told to the store at once. */
enum sp_err attempt_all(struct delivery *d);

/* outcome.c: tells the store of all who are settled and SENT. */
enum sp_err outcome_sent(struct delivery *d);
/* Tells it of all others, with a report for the sender if any failed for good. */
enum sp_err outcome_conclude(struct delivery *d);

/* report.c: seals a delivery status notification for the sender and gives it to the store. */
enum sp_err report_send(struct delivery *d);

#endif
