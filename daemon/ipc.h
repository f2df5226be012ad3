#ifndef SEALPOST_IPC_H
#define SEALPOST_IPC_H
/*
 * Frames between processes: SOCK_SEQPACKET, each message one frame:
 *     u16 type, u16 flags, u32 id, payload (big-endian fields, envelope/wire.h); at most one
 *     descriptor beside it.
 * A receiver states in a table which types a peer may send, their sizes and whether a descriptor
 * comes with them; which of those it may send *now* is a bit mask that handlers change. Anything
 * else ends the peer. See messages.h for the types.
 */
#include "envelope/error.h"
#include "envelope/wire.h"

#include <stdbool.h>
#include <stdint.h>

struct event_base;

#define IPC_HEADER      8u
#define IPC_MAX_PAYLOAD (128u * 1024u)

struct ipc_frame {
    uint16_t type;
    uint16_t flags;
    uint32_t id;
    struct wire_in body; /* valid until the next frame is received in this process */
    int fd;              /* -1, or a close-on-exec descriptor; a handler that keeps it sets -1 */
};

/* A pair of connected, close-on-exec SOCK_SEQPACKET sockets. */
enum sp_err ipc_pair(int fd[2]);

/* --- One frame at a time, blocking: sessions, and programs without an event loop. --- */

/* Sends one frame; fd (or -1) goes along and stays the caller's. SP_ERR_PEER if the other side is
 * gone. */
enum sp_err ipc_send_fd(int sock, uint16_t type, uint32_t id, const void *body, size_t len, int fd);
/* The same for a long frame without a descriptor, and without sendmsg(2): the body of len bytes
 * stands at frame + IPC_HEADER, and the header is written in front of it. */
enum sp_err ipc_send_frame(int sock, uint16_t type, uint32_t id, uint8_t *frame, size_t len);
/* Receives one frame into buf (at least IPC_HEADER + max bytes). SP_ERR_PEER at end of file,
 * SP_ERR_FORMAT if it is too long, too short or brings more than one descriptor. */
enum sp_err ipc_recv(int sock, void *buf, size_t cap, struct ipc_frame *frame);
/* Decodes header and descriptors of a received datagram; shared with the fuzz harness. */
enum sp_err ipc_decode(const void *bytes, size_t len, struct ipc_frame *frame);

/* --- Peers on an event loop. --- */

struct ipc_peer;

struct ipc_rule {
    uint16_t type;
    bool fd;           /* a descriptor must come with it (and with no other frame) */
    bool once;         /* permitted a single time, unless permitted anew */
    uint32_t min, max; /* payload bytes */
    /* Returns SP_OK, or an error, which ends the peer. The body must be consumed exactly
     * (wire_in_done), which the caller checks too. */
    enum sp_err (*handle)(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
};

struct ipc_rules {
    const struct ipc_rule *rule;
    size_t count;       /* at most 64 */
    uint64_t permitted; /* at first: bit i stands for rule[i] */
    /* Called once when the peer has ended: SP_ERR_PEER is end of file, SP_ERR_LIMIT that a frame to
     * it was lost (too many wait already), all else what it did wrong. The peer still exists; the
     * callee must call ipc_peer_free (now or later). */
    void (*gone)(void *ctx, struct ipc_peer *peer, enum sp_err why);
};

/* Takes ownership of sock, makes it non-blocking and reads it from the loop. NULL: no memory (and
 * sock is closed all the same). */
struct ipc_peer *ipc_peer_new(struct event_base *base, int sock, const struct ipc_rules *rules,
                              void *ctx);
/* Closes the socket and frees; safe inside the peer's own handler; NULL is ignored. */
void ipc_peer_free(struct ipc_peer *peer);
/* Queues a frame if the socket is full: the protocol bounds what may be outstanding, so that an
 * overflow (1,024 frames) is SP_ERR_PEER. fd (or -1) stays the caller's and is sent or duplicated
 * before this returns. Failures to send are also reported through gone, from the loop. */
enum sp_err ipc_peer_send(struct ipc_peer *peer, uint16_t type, uint32_t id,
                          const struct wire_out *body, int fd);
/* The same with header flags (0 otherwise). */
enum sp_err ipc_peer_send_flags(struct ipc_peer *peer, uint16_t type, uint16_t flags, uint32_t id,
                                const struct wire_out *body, int fd);
/* Whether nothing waits for a full socket: whatever was sent is there for the other side to read.
 */
bool ipc_peer_flushed(const struct ipc_peer *peer);
/* Another limit than 1,024 frames, for a peer of which the protocol permits more. */
void ipc_peer_queue_limit(struct ipc_peer *peer, size_t frames);
/* The socket itself, to hand the connection on; stays the peer's. */
int ipc_peer_socket(const struct ipc_peer *peer);
/* Permits or denies one type from now on. Unknown types are a programming error: abort. */
void ipc_permit(struct ipc_peer *peer, uint16_t type);
void ipc_deny(struct ipc_peer *peer, uint16_t type);
/* Permits exactly these: bit i stands for the i-th rule. */
void ipc_permit_only(struct ipc_peer *peer, uint64_t rules);
/* Stops (true) or resumes reading from this peer, so that a slow reader slows its writer. */
void ipc_peer_pause(struct ipc_peer *peer, bool pause);
/* The loop of a role: runs events until event_base_loopexit or _loopbreak. After each turn (all
 * that was ready has been handled) it calls idle: the place to commit, or to write, once for many
 * frames. */
enum sp_err ipc_loop(struct event_base *base);
void ipc_on_idle(void (*idle)(void *ctx), void *ctx);

#endif
