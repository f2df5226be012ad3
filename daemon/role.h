#ifndef SEALPOST_ROLE_H
#define SEALPOST_ROLE_H
/*
 * What every role of the tree has in common: how it is started (fork and exec by the supervisor,
 * fixed descriptors), configured, caged, told to stop.
 *
 * Descriptors of a role after exec:
 *     0, 1  /dev/null        2  stderr of the supervisor
 *     3     control channel to the supervisor (SEQPACKET)
 *     4     the one way into the audit role (SEQPACKET, written only)
 *     5..14 ROLE_FD(r): the edge to role r, if edges[] in wiring.c has one
 *     15    the directory that becomes its root (closed by the cage)
 *     16..  what the supervisor opened for it (listeners, log), see each role
 */
#include "daemon/config.h"
#include "daemon/ipc.h"
#include "envelope/error.h"
#include "sandbox/lockmem.h"

#include <stdbool.h>
#include <stddef.h>

enum role_id {
    ROLE_SMTP,
    ROLE_SEALER,
    ROLE_STORE,
    ROLE_KEEPER,
    ROLE_WEB,
    ROLE_AUDIT,
    ROLE_RELAY,
    ROLE_RESOLVER,
    ROLE_DOOR,
    ROLE_COUNT,
    ROLE_SUPERVISOR = ROLE_COUNT, /* no row of its own in the tables of roles */
};

#define FD_CONTROL 3
#define FD_AUDIT   4
#define ROLE_FD(r) (5 + (int)(r))
#define FD_ROOT    15
#define FD_EXTRA   16

#define ROLE_MAX_PORTS 4

struct role;

struct role_ops {
    enum role_id id;
    const char *name; /* also the name of its row in sandbox/policy.c */
    /* The TCP ports that it may connect to, into out; how many. NULL: none. */
    size_t (*connect)(const struct config *config, uint16_t out[ROLE_MAX_PORTS]);
    /* Inside the cage but before system calls are filtered: open, map, allocate, derive. */
    enum sp_err (*prepare)(struct role *role);
    /* Filtered: register events on role->base. After SP_OK the supervisor is told READY. */
    enum sp_err (*run)(struct role *role);
    /* Asked to end: finish what is under way, then event_base_loopexit(). NULL: exit at once. */
    void (*stop)(struct role *role);
    /* Adds "name", "value" string pairs (wire_put_str each) for `sealpostctl status`. May be NULL.
     */
    void (*status)(struct role *role, struct wire_out *pairs);
    /* Control frames beyond those that role.c knows (CT_CERTIFICATE, CT_ADMIN). May be NULL. */
    enum sp_err (*control)(struct role *role, struct ipc_frame *frame);
};

struct role {
    const struct role_ops *ops;
    const struct config *config; /* this role's slice alone; the rest holds defaults */
    struct event_base *base;
    struct ipc_peer *supervisor;
    void *state; /* the role's own */
};

/* Runs a role to its end; the process's exit status. argv: as the supervisor gave it. */
int role_main(const struct role_ops *ops, bool user_mode, unsigned uid);

/* Says "sealpostd[NAME]: ..." on stderr. Never content, addresses, secrets. */
void role_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* For role_ops.status: a pair whose value is a number; one of a kind, as PREFIX_KIND in snake case,
 * and nothing as long as it is 0; a histogram. */
void role_status_number(struct wire_out *pairs, const char *name, uint64_t value);
void role_status_count(struct wire_out *pairs, const char *prefix, const char *kind,
                       uint64_t value);
struct histogram;
void role_status_histogram(struct wire_out *pairs, const char *name, const struct histogram *h);

/* [memory] lock as a kind, and the words for the kind that is in use. */
enum lockmem_kind lockmem_wanted(const struct config *config);
const char *lockmem_name(enum lockmem_kind kind);

extern const struct role_ops smtp_role, sealer_role, store_role, keeper_role, web_role, audit_role,
    relay_role, resolver_role, door_role;

#endif
