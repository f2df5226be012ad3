#ifndef SEALPOST_STORAGE_EDGES_H
#define SEALPOST_STORAGE_EDGES_H
/* Inside of the store role: what its edges (sealer, web, keeper, relay, deliveries, operators)
 * share. */
#include "daemon/audit/events.h"
#include "daemon/histogram.h"
#include "daemon/role.h"
#include "envelope/sigchain.h"
#include "storage/form.h"
#include "storage/forms.h"
#include "storage/histories.h"
#include "storage/queue.h"
#include "storage/ration.h"
#include "storage/sessions.h"
#include "storage/store.h"
#include "storage/visits.h"

#include <sys/queue.h>

#define GROUP_REPLIES 512u        /* answers that wait for one commit at most */
#define GROUP_BYTES   (16u << 20) /* written before a commit although nobody waits */
#define UPLOAD_CHAINS 256u
#define UPLOADS_MAX   8192u
#define OPERATORS_MAX 16u
#define CHAIN_MAX     1024u /* links of one user's history */
#define SENDINGS_MAX  64u   /* mails that wait for the keeper */
#define OPENINGS_MAX  256u
#define WRAPPING_MAX  512u  /* requests under way; the peer's queue holds 1,024 frames */
#define LINK_CLIENT   64u   /* a client's address, with NUL */
#define ERASINGS_MAX  1024u /* records that are being erased; what is more is found again later */
#define ERASE_FLIGHT  128u  /* of them asked of the keeper at once */

struct store_role;

/* An answer that may go out once the group is durable. */
struct reply {
    struct ipc_peer *peer;
    uint16_t type;
    uint32_t id;
    /* If set, called instead, with what became of the group; writes nothing, answers nothing that
     * waits for a group itself. */
    void (*then)(struct store_role *r, void *arg, enum sp_err err);
    void *arg;
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

/* A mail between SW_SEND and the commit: its secret is with the keeper. */
struct sending {
    LIST_ENTRY(sending) next;
    uint32_t id; /* of the request to the keeper */
    struct ipc_peer *peer;
    uint32_t frame; /* SW_SEND's */
    uint64_t user;
    uint8_t token[SESSION_TOKEN], draft[ID_SIZE], user_id[ID_SIZE];
    struct form *form;
    /* What the keeper wraps: the relay key, then password and box of each link; the i-th is the
     * request id + i. */
    struct store_secret *secret;
    size_t n_secrets, n_wrapped;
    enum sp_err failed;
};

/* A secret whose slot is to be overwritten, or is. */
struct erasing {
    LIST_ENTRY(erasing) next;
    uint32_t id; /* of the request to the keeper, when it was asked */
    uint64_t no; /* the message whose record goes after it; 0: there is no record */
    enum {
        ERASE_WAITING, /* to be asked */
        ERASE_ASKED,
        ERASE_FAILED, /* to be asked again, in a minute */
        ERASE_DONE,   /* the record's end is in the group */
        ERASE_OWED    /* it was, and the group is lost */
    } state;
    struct store_secret secret; /* its n with no names the record */
    char why[16];
};

/* A link's envelope that waits for the keeper to unwrap the box. */
struct opening {
    LIST_ENTRY(opening) next;
    uint32_t id; /* of the request to the keeper */
    struct ipc_peer *peer;
    uint32_t frame; /* SW_LINK_ENVELOPE's */
    uint32_t offset;
    uint64_t next_offset; /* where the answer ends; 0: at the end */
    uint8_t link[ID_SIZE];
    char client[LINK_CLIENT];
};

/* One job in the hands of a delivery. */
struct lease {
    LIST_ENTRY(lease) next;
    uint64_t id;
    struct store_job job;
    uint16_t n_open, open[STORE_JOB_RECIPIENTS]; /* recipients that it is about */
    bool reported[STORE_JOB_RECIPIENTS];
    size_t n_reported;
    bool told;    /* relay knows of it */
    bool ended;   /* its process is dead */
    bool crashed; /* ... by a fault of its own, and so by the mail's, or the server's */
    bool stopped; /* since the relay is ending: no attempt of the job's */
    bool settled; /* the job's row says what comes next */
    bool pending; /* ... or will, when the open group is on disk */
    enum queue_seen seen;
    struct delivery *delivery; /* whose channel is open; NULL */
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
    bool flushing; /* its answers are being given: nothing may flush again */
    uint64_t first_reply_us;
    uint16_t more_soon; /* messages and results that are expected any moment */
    uint64_t last_result_us;
    struct event *gather;
    struct rations rations;
    struct histories histories;
    struct histogram commit_us, group_size; /* answers a commit */
    struct event *minute;                   /* expiry, and what is to be tried again */
    struct event *lazy;                     /* commits what nobody waits for */
    struct forms *forms;
    /* keeper */
    struct ipc_peer *keeper;
    bool keeper_ready; /* it knows which slots are in use */
    bool unfinished;   /* more records are to be erased than erasings has room for */
    uint8_t keeper_pk[KEY_SIZE];
    uint32_t keeper_id;
    LIST_HEAD(, sending) sendings;
    size_t n_sendings, n_wrapping; /* n_wrapping: requests of theirs */
    LIST_HEAD(, erasing) erasings;
    size_t n_erasings, n_erase_asked;
    LIST_HEAD(, opening) openings;
    size_t n_openings;
    uint64_t latest_ms, noted_ms; /* the wall clock never goes back for links */
    struct visits visits;
    bool expiring; /* more has expired than was ended with at once */
    uint64_t links_opened, links_expired;
    /* relay */
    struct ipc_peer *relay;
    struct queue *queue;
    struct event *due; /* the next job's time */
    uint32_t want;     /* jobs that relay will take */
    uint64_t lease_id;
    LIST_HEAD(, lease) leases;
    LIST_HEAD(, delivery) deliveries;
    size_t n_leases, n_deliveries;
    bool untold; /* of some leases relay has not been told */
};

uint64_t clock_us(void);
uint64_t now_ms(void); /* wall clock */

/* Commits the group and sends every answer that waits for it. SP_OK, or why all of it is lost. Not
 * from what is called with an answer (reply.then): that would give the answers twice. */
enum sp_err group_flush(struct store_role *r);
#define GATHER_US 2500u /* the longest that a first answer waits for others to share its sync */
/* Adds an answer (status alone) to those that wait. */
enum sp_err group_answer(struct store_role *r, const struct reply *reply);
/* An answer of a status alone, now. */
enum sp_err answer(struct ipc_peer *peer, uint16_t type, uint32_t id, enum sp_err status);
/* Sees to it that mail without owner is swept. */
void sweep_soon(struct store_role *r);
/* Sees to it that what was written is committed soon although nobody waits for it. */
void commit_soon(struct store_role *r);
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
/* u32 total, then what of b32(envelope) b32(box) fits from offset on. SP_ERR_LIMIT: beyond it. */
enum sp_err put_sealed(struct wire_out *out, const uint8_t *envelope, size_t envelope_len,
                       const uint8_t *box, size_t box_len, size_t offset);
/* The state of a user's chain, good until the next call; SP_ERR_FORMAT: it is not what was written.
 */
enum sp_err chain_load(struct store_role *r, const struct store_user *user,
                       const struct sigchain **chain);
/* Whether so many signatures may be verified now on behalf of this user, who has proved that he
 * asks; if so, they are counted. */
bool may_try(struct store_role *r, const struct store_user *user, uint32_t signatures);
/* The session whose token the body begins with; NULL: there is none. */
const struct session *token_session(struct store_role *r, struct wire_in *in);
/* edge_enrol.c: handlers of web_rules that write. */
enum sp_err on_enroll(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
enum sp_err on_chain_add(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
/* edge_upload.c: handlers of web_rules. */
enum sp_err on_upload(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
enum sp_err on_upload_state(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
enum sp_err on_upload_put(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
enum sp_err on_upload_drop(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
/* edge_send.c */
enum sp_err on_send(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
/* The keeper has answered for all of its secrets. Ends the sending. */
void send_go_on(struct store_role *r, struct sending *s);
/* edge_sent.c */
enum sp_err on_sent(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
enum sp_err on_delivery_status(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
enum sp_err on_revoke(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
enum sp_err on_resolve(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
enum sp_err on_keeper_key(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
/* Takes back what is open, for one address or all (NULL), of a message (no 0: of all mail) of one
 * user, but what is being delivered right now; commits. *n: so many recipients. */
enum sp_err revoke_open(struct store_role *r, uint64_t user, uint64_t no, const char *address,
                        size_t *n);

/* edge_keeper.c */
extern const struct ipc_rules keeper_rules;
/* Tells the keeper which slots are in use. */
enum sp_err keeper_begin(struct store_role *r);
/* Asks for a sending's secrets to be wrapped; it is the edge's until send_go_on. */
enum sp_err keeper_wrap(struct store_role *r, struct sending *s);
/* Asks for a link's box; its edge's until link_go_on. */
enum sp_err keeper_unwrap(struct store_role *r, struct opening *o,
                          const struct store_secret *secret);
enum sp_err keeper_lease(struct store_role *r, const struct lease *lease);
void keeper_lease_end(struct store_role *r, uint64_t lease);

/* edge_erase.c */
/* After a commit: has the message's secret erased if no job needs it any more. */
void secret_check(struct store_role *r, uint64_t no, uint16_t n, const char *why);
/* A slot that no record names. */
void secret_forget(struct store_role *r, const struct store_secret *secret, const char *why);
/* Before a new secret's record is written, and every minute: the ends of records whose slots are
 * erased, but that a lost group has kept. Their slots may be in use again. */
void secrets_settle(struct store_role *r);
/* A group is over. */
void secrets_flushed(struct store_role *r, enum sp_err err);
/* Begins with records that nobody needs and that are not being erased: at the start, since the last
 * process had begun or was about to; later, since there were too many at once. */
void secrets_finish(struct store_role *r);
enum sp_err on_secret_erased(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);

/* edge_link.c: handlers of web_rules. */
enum sp_err on_link_page(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
enum sp_err on_link_envelope(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
enum sp_err on_link_piece(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
enum sp_err on_link_exposed(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
/* The keeper has unwrapped the box, or not (box NULL). Ends the opening. */
void link_go_on(struct store_role *r, struct opening *o, enum sp_err status, const uint8_t *box,
                size_t len);
/* Those who asked for links that nobody knows, and were not written down one by one. */
void links_tell_left_out(struct store_role *r);

/* edge_linkends.c */
/* Wall-clock milliseconds that never go back, not even over restarts. */
uint64_t link_now(struct store_role *r);
/* Links whose time is over end; the time is noted. Every minute, and when link_soon says. */
void links_expire(struct store_role *r);
/* Sees to it that links_expire runs when the next link's time is over. */
void links_schedule(struct store_role *r);
/* Ends the live links of a message (no 0: of all mail, some hundred at a time) of one user, for one
 * address or all (NULL); commits. why: a word for the audit log. *n: so many more. */
enum sp_err links_revoke(struct store_role *r, uint64_t user, uint64_t no, const char *address,
                         const char *why, size_t *n);
/* The link whose notification a job is; SP_ERR_NOT_FOUND: none, or its box is erased already. */
enum sp_err link_of_job(struct store_role *r, const struct store_job *job, uint8_t id[ID_SIZE]);
/* A link that has ended, durably: its slots are erased, then its records go. */
void link_erase(struct store_role *r, const struct store_link *link, const char *why);
/* Its slot is free, or another's: the record came back with an older database. The box is gone for
 * good, and the rest of the link goes after it. */
void link_lost(struct store_role *r, const uint8_t id[ID_SIZE]);
/* Audits and erases one that was revoked, or whose notification failed for good. */
void link_ended(struct store_role *r, const uint8_t id[ID_SIZE], const char *why);

/* edge_relay.c */
extern const struct ipc_rules relay_rules;
/* Fills the schedule from disk. */
enum sp_err relay_begin(struct store_role *r);
/* The same in the next turn of the loop: for those who are called in the middle of a flush. */
void relay_wake(struct store_role *r);
/* Tells relay of leases that have waited for the keeper's socket; at the end of each turn. */
void relay_tell(struct store_role *r);
/* Hands out what is due and wanted. */
void relay_dispatch(struct store_role *r);
/* A delivery's channel has ended, or its process: what it left undone is scheduled anew. */
void lease_end_if_over(struct store_role *r, struct lease *lease);
/* What comes next for a job that was tried, in the open group. */
enum sp_err job_settle(struct store_role *r, struct lease *lease);
struct lease *lease_find(struct store_role *r, uint64_t id);
/* edge_delivery.c */
extern const struct ipc_rules delivery_rules;
enum sp_err on_delivery(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
/* Why nothing of a job is opened any more, for people. */
const char *closed_text(enum store_closed closed);

/* edge_operator.c */
enum sp_err operator_accept(struct store_role *r, struct ipc_frame *frame);

#endif
