#ifndef SEALPOST_KEEPER_KEEPER_H
#define SEALPOST_KEEPER_KEEPER_H
/*
 * The keeper's state, shared by its files:
 *
 *   keeper.c      role, TLS signatures for sessions and web     signable.c, signer.c  their key
 *   store_edge.c  secrets in, wrapped; erased (VT_*)            vault.c, boxkey.c     wrapping
 *   leases.c      which delivery may have which secret          dkimkey.c             DKIM keys
 *   deliveries.c  the channels of deliveries (KD_*)             relaykeys.c           what CT_DKIM,
 *                                                                                     CT_AUTH bring
 */
#include "daemon/histogram.h"
#include "daemon/ipc.h"
#include "daemon/keeper/credentials.h"
#include "daemon/keeper/dkimkey.h"
#include "daemon/keeper/vault.h"
#include "daemon/messages.h"
#include "daemon/role.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#define KEEPER_FD_KEY   FD_EXTRA       /* STATE/keeper.key */
#define KEEPER_FD_SLOTS (FD_EXTRA + 1) /* STATE/slots */
#define KEEPER_SLACK    16u /* leases, channels: ended ones whose end is still under way */

struct signer;
struct delivery;

/* One delivery may have this secret, once. */
struct lease {
    bool used;
    uint64_t no;
    struct vault_id id; /* kind 0: there is nothing to be opened any more */
    uint32_t slot;
    size_t len;
    uint8_t wrapped[VAULT_SECRET];
    struct delivery *holder; /* NULL: nobody has come for it yet */
};

/* A process that delivers one mail, and may have been taken over. */
struct delivery {
    LIST_ENTRY(delivery) next;
    struct keeper *keeper;
    uint32_t id;
    uint64_t lease_no;
    struct lease *lease;      /* NULL: not known yet whether there is one */
    struct ipc_peer *channel; /* NULL as long as lease is */
    int sock;                 /* -1 from then on */
    uint32_t signed_with;     /* bit i: DKIM key i */
};

/* In locked memory. */
struct keeper_locked {
    uint8_t reply[1024];
    uint8_t user[CREDENTIALS_MAX], password[CREDENTIALS_MAX];
    char file[DKIMKEY_FILE_MAX + 1]; /* one that is being read */
};

/* An answer that goes out when the slots are synced. */
struct pending {
    uint16_t type;
    uint32_t id;
    uint32_t slot;
    enum { AUDIT_NOTHING, AUDIT_RECEIVED, AUDIT_ERASED } audit;
    struct vault_id what;
    uint64_t received_ms;
    char why[64];
    size_t len;
    uint8_t wrapped[VT_BOX_WRAPPED_MAX];
};
#define KEEPER_PENDING 64u

struct keeper {
    struct role *role;
    struct ipc_peer *smtp, *web, *store, *relay;
    struct vault *vault;
    struct keeper_locked *locked;

    struct signer *signer; /* NULL before the first CT_KEY */
    LIST_HEAD(, session) sessions;
    uint64_t n_sessions, signatures, tls_refused;

    struct pending pending[KEEPER_PENDING];
    size_t n_pending;
    uint64_t synced_us;     /* when the slots were, monotonic */
    struct event *sync_due; /* for those that are erased meanwhile */
    bool ready;             /* VT_SLOTS is over */

    struct lease *leases;
    size_t n_leases, max_leases; /* in use; in all */
    LIST_HEAD(, delivery) deliveries;
    size_t n_deliveries;
    struct dkimkey *dkim[CONFIG_MAX_LIST]; /* the i-th selector's, or NULL */
    size_t user_len, password_len;         /* 0: there are none */

    uint64_t received, opened, refused, erased; /* secrets */
    struct histogram password_ms, relay_ms;     /* how long they were here */
};

/* --- store_edge.c --- */
enum sp_err store_edge_open(struct keeper *k);
/* Syncs the slots, then sends the answers that wait for it. An error: nothing is known of the disk
 * any more, and the role must end. */
enum sp_err store_edge_flush(struct keeper *k);
/* After each turn: the same, unless nothing but erasures wait and there was a sync a moment ago. */
enum sp_err store_edge_turn(struct keeper *k);

/* --- leases.c --- */
enum sp_err leases_init(struct keeper *k);
/* NULL: none of that number. */
struct lease *leases_find(struct keeper *k, uint64_t no);
/* NULL: too many. */
struct lease *leases_new(struct keeper *k, uint64_t no);
void leases_drop(struct keeper *k, struct lease *lease);

/* --- deliveries.c --- */
enum sp_err deliveries_open(struct keeper *k); /* the edge to relay */
/* After each turn: channels whose lease is known by now, or will not come. */
void deliveries_settle(struct keeper *k);
/* Ends a delivery's channel; its lease is void. */
void delivery_drop(struct delivery *d);

/* --- relaykeys.c --- */
enum sp_err relaykeys_take_dkim(struct keeper *k, struct ipc_frame *frame);
enum sp_err relaykeys_take_auth(struct keeper *k, struct ipc_frame *frame);

#endif
