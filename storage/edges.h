#ifndef SEALPOST_STORAGE_EDGES_H
#define SEALPOST_STORAGE_EDGES_H
/* Inside of the store role: what its edges (sealer, web, operators) share. */
#include "daemon/audit/events.h"
#include "daemon/role.h"
#include "envelope/sigchain.h"
#include "storage/sessions.h"
#include "storage/store.h"

#include <sys/queue.h>

#define GROUP_REPLIES 512u        /* answers that wait for one commit at most */
#define GROUP_BYTES   (16u << 20) /* written before a commit although nobody waits */
#define UPLOAD_CHAINS 256u
#define UPLOADS_MAX   8192u
#define OPERATORS_MAX 16u
#define CHAIN_MAX     1024u /* links of one user's history: each login verifies all of them */
#define BUCKETS       1024u

/* An answer that may go out once the group is durable. */
struct reply {
    struct ipc_peer *peer;
    uint16_t type;
    uint32_t id;
    bool deleted; /* then audited as message.deleted, with: */
    uint8_t message_id[ID_SIZE], user_id[ID_SIZE];
};

struct incoming {
    LIST_ENTRY(incoming) next;
    uint64_t id; /* the sealer's */
    struct store_upload *upload;
};

struct ring {
    const uint8_t *bytes;      /* mapped read-only */
    uint64_t size, end, acked; /* running positions */
};

/* Public-key work that one user may still cause; below zero: he must wait. */
struct bucket {
    uint64_t at_ms;
    int64_t left;
};

struct store_role {
    struct role *role;
    struct store *store;
    struct sessions *sessions;
    struct ipc_peer *sealer, *web;
    unsigned operators;
    struct event *sweeper;
    struct ring ring;
    LIST_HEAD(, incoming) incoming[UPLOAD_CHAINS];
    size_t n_incoming;
    struct reply reply[GROUP_REPLIES];
    size_t n_replies;
    uint64_t first_reply_us;
    uint16_t more_soon; /* messages that the sealer expects to commit any moment */
    struct event *gather;
    struct bucket proofs[BUCKETS]; /* by user number */
    uint64_t commits, committed, last_commit_us;
};

uint64_t clock_us(void);
uint64_t now_ms(void); /* wall clock */

/* Commits the group and sends every answer that waits for it. SP_OK, or why all of it is lost. */
enum sp_err group_flush(struct store_role *r);
/* Adds an answer (status alone) to those that wait. */
enum sp_err group_answer(struct store_role *r, const struct reply *reply);
/* An answer of a status alone, now. */
enum sp_err answer(struct ipc_peer *peer, uint16_t type, uint32_t id, enum sp_err status);
/* Sees to it that mail without owner is swept. */
void sweep_soon(struct store_role *r);
/* Whether the address is in a domain of ours. */
bool own_domain(const struct store_role *r, const char *address);

/* A peer has ended. */
void edge_gone(void *ctx, struct ipc_peer *peer, enum sp_err why);

/* edge_sealer.c */
extern const struct ipc_rules sealer_rules;
void ring_ack(struct store_role *r);
void incoming_drop_all(struct store_role *r);
/* edge_web.c */
extern const struct ipc_rules web_rules;
/* The verified state of a user's chain. */
enum sp_err chain_load(struct store_role *r, const struct store_user *user, struct sigchain *chain);
/* Whether signatures may be verified on behalf of this user now; if so, they are counted. */
bool may_try(struct store_role *r, const struct store_user *user, uint32_t signatures);
/* The session whose token the body begins with; NULL: there is none. */
const struct session *token_session(struct store_role *r, struct wire_in *in);
/* edge_enrol.c: handlers of web_rules that write. */
enum sp_err on_enroll(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
enum sp_err on_chain_add(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
/* edge_operator.c */
enum sp_err operator_accept(struct store_role *r, struct ipc_frame *frame);

#endif
