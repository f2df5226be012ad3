#ifndef SEALPOST_SEALER_SEALER_H
#define SEALPOST_SEALER_SEALER_H
/*
 * The sealer's state, shared by its files: sealer.c (role, pool of slots), session.c (what a
 * session may ask), storage_edge.c (the edge to the store).
 */
#include "daemon/ipc.h"
#include "daemon/messages.h"
#include "daemon/role.h"
#include "daemon/sealer/ring.h"
#include "daemon/sealer/sealing.h"
#include "daemon/sealer/tally.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#define MAX_RECIPIENTS_SEALED 500u /* after aliases: bounds the frame that commits a message */

struct slot {
    SLIST_ENTRY(slot) next;
    int fd; /* to lend; the session closes its copy when it has mapped it */
    uint8_t *at;
};

struct sealer;

/* One SMTP session: a channel to a process that may have been taken over. */
struct session {
    LIST_ENTRY(session) next;
    TAILQ_ENTRY(session) waiting; /* for room in the ring */
    struct sealer *sealer;
    uint32_t id;
    struct ipc_peer *peer; /* NULL: its channel has ended */
    bool process_gone;     /* and so has the process, with its mapping of the slot */
    struct slot *slot;     /* bound to this process for its life */
    struct sealing *sealing;
    struct recipient *recipients;
    size_t n_recipients, room;
    bool asked_store;   /* an answer is under way */
    uint64_t active_us; /* when it last asked for something */
    bool wait_ring;
    struct {
        bool finish, last; /* what waits for room in the ring */
        uint8_t stream;
        uint32_t len;
    } pending;
    uint64_t window_bytes, plaintext_us;
};

struct sealer {
    struct role *role;
    struct ring ring;
    struct ipc_peer *store, *smtp;
    LIST_HEAD(, session) sessions;
    TAILQ_HEAD(, session) waiting;
    SLIST_HEAD(, slot) free_slots;
    size_t n_sessions, n_slots, max_slots;
    uint64_t uploads;
    struct tally tally;
};

/* Monotonic. */
uint64_t sealer_now_us(void);

/* sealer.c: slots are lent to one process for its life, and wiped when it is dead. */
struct slot *slot_take(struct sealer *s);
/* Frees what can be freed: all of it, once channel, process and the store's answer are over. */
void session_release(struct session *x);

/* session.c */
/* Owns sock. SP_ERR_EXISTS: this id is still in use, so that answers could be mistaken. */
enum sp_err session_start(struct sealer *s, uint32_t id, int sock);
void session_lookup_done(struct session *x, enum sp_err status);
void session_commit_done(struct session *x, enum sp_err status);
/* False: there is no room again, and it waits. Else its turn is over, and it may be gone. */
bool session_ring_has_room(struct session *x);
/* Forgets recipients and message; tells the store if something of it was sent. */
void session_forget(struct session *x);

/* storage_edge.c */
struct session *session_find(struct sealer *s, uint32_t id);
enum sp_err storage_start(struct sealer *s);
enum sp_err storage_lookup(struct session *x, const uint8_t *address, size_t len);
/* SP_ERR_NO_SPACE: the ring is full, try again from session_ring_has_room. */
enum sp_err storage_block(struct session *x, enum stream stream, uint32_t len, bool last);
enum sp_err storage_commit(struct session *x);
void storage_abort(struct session *x);

#endif
