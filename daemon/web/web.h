#ifndef SEALPOST_WEB_H
#define SEALPOST_WEB_H
/*
 * The parts of the web role, to each other.
 *
 *   web.c       role, listeners, TLS            connection.c  connections, deadlines, answers
 *   routes.c    the table of what exists        exchange.c    one request from gencb to its end
 *   asks.c      the edge to the store           stream.c      answers that go out in blocks
 *   handlers.c  bodies and replies, translated  upload.c      mail that is being sent
 *   sent.c      its recipients and its fate     parse.c       text of clients
 *   link.c      links, without a session        page.c        the link page
 *
 * Lifetimes. A conn lives as long as its SSL object. An exchange lives from the request's arrival
 * to the answer's start (its end for a stream), or until its connection goes away, whichever is
 * first: connection.c and exchange.c are the only ones to free. A handler that has answered does
 * not touch its exchange again. An ask whose exchange is gone stays until the store has replied:
 * it counts, so that vanishing clients cannot pile up work there.
 */
#include "daemon/config.h"
#include "daemon/guest.h"
#include "daemon/ipc.h"
#include "daemon/messages.h"
#include "daemon/role.h"
#include "daemon/web/parse.h"

#include <event2/event.h>
#include <event2/http.h>
#include <openssl/types.h>
#include <sys/queue.h>

struct evconnlistener;
struct bufferevent;
struct evbuffer;

#define WEB_MAX_CONNECTIONS 1000u
#define WEB_MAX_ASKS        256u           /* outstanding at the store */
#define WEB_MAX_HEADERS     (8u * 1024u)   /* request line and headers */
#define WEB_MAX_BODY        (8u * 1024u)   /* that any connection may send at any time */
#define WEB_MAX_PUT         (256u * 1024u) /* of a body; each route has a limit of its own */
#define WEB_MAX_LARGE       128u           /* bodies above WEB_MAX_BODY in memory at once: 32 MiB */
#define WEB_MAX_LARGE_OF    16u            /* ... of one client */
#define WEB_MAX_CODE        64u            /* bytes of an enrolment code as typed */
#define WEB_MAX_CHAIN       (1024u * 1024u) /* bytes of wires in one answer */
#define WEB_BLOCK           65536u          /* bytes of a stream under way for one client */

/* Seconds; a connection always runs under one of them, so that nobody is waited for longer. */
#define WEB_DEADLINE_REQUEST 20 /* handshake or last answer to the whole next request */
#define WEB_DEADLINE_CROWDED 5  /* the same, when more than half of the connections are taken */
#define WEB_DEADLINE_BODY    60 /* a large body, from when there is room for it */
#define WEB_DEADLINE_STORE   30 /* request to answer */
#define WEB_DEADLINE_BLOCK   60 /* one answer or block of a piece to be taken by the client */

/* Milliseconds from a login or enrolment that proved nothing to its answer. This bounds what
 * strangers can make the store do, whoever they are and whomever they name: each connection has one
 * request under way, so that all of them together try 4,000 times a second. */
#define WEB_PAUSE_MS 250

struct exchange;

struct conn {
    LIST_ENTRY(conn) next;
    struct guest guest; /* a turn after it was accepted */
    struct web *web;
    struct bufferevent *bev;
    struct event *deadline;
    struct exchange *exchange; /* NULL between requests */
    bool large;                /* has room for a large body */
    bool wants, paused;        /* is in web->wanting; and not read from */
    TAILQ_ENTRY(conn) wanting;
};

struct ask {
    uint32_t id; /* of the frame; 0: free */
    uint16_t reply_type;
    struct exchange *exchange; /* NULL: nobody waits any more */
};

struct web {
    struct role *role;
    struct evhttp *http;
    SSL_CTX *tls; /* NULL until the first certificate came: nobody is accepted before */
    struct ipc_peer *store;
    struct evconnlistener *listener[CONFIG_MAX_LIST];
    size_t n_listeners;
    LIST_HEAD(, conn) conns;
    size_t n_conns, max_conns, n_exchanges, n_asks;
    TAILQ_HEAD(, exchange) waiting; /* streams, puts whose next block waits for a free ask */
    TAILQ_HEAD(, conn) wanting;     /* that have more to send than they have room for */
    size_t n_large;
    uint32_t last_ask;
    struct ask asks[WEB_MAX_ASKS];
    bool listening, stopping;
    struct event *stop_timer;
    unsigned stop_ticks;
    uint64_t n_requests, n_busy; /* for status: all; turned away with 503 */
};

/* What a status of the store becomes. text NULL: a page for people (page.h). A list ends in one
 * whose code is 0. */
struct outcome {
    enum sp_err status;
    int code;
    const char *text;
};

/* What has to stand in Authorization. Whether it is right is for the store to say. */
enum route_needs {
    NEEDS_NOTHING,
    NEEDS_TOKEN, /* of a session: none is a 401 at once; it goes first into the frame */
    NEEDS_GATE,  /* of a link: none is asked about as one of zeros, so that the log has it */
    NEEDS_PROOF, /* nothing there: the body proves who asks. Without proof, the answer is late */
};

struct route {
    unsigned method; /* EVHTTP_REQ_*; GET serves HEAD too */
    const char *pattern;
    enum route_needs needs;
    unsigned query; /* bit mask of enum query_key */
    size_t body_max;
    uint16_t ask; /* frame for the store; 0: answered here by start */
    /* Writes the frame's payload behind the token; or, where ask is 0, answers. An error answers
     * the request by the route's outcomes. */
    enum sp_err (*start)(struct exchange *x, struct wire_in *body, struct wire_out *frame);
    /* Answers, or asks on, from what follows a status of SP_OK. An error: the store broke the
     * protocol. */
    enum sp_err (*finish)(struct exchange *x, struct wire_in *reply);
    const struct outcome *outcomes; /* looked at before the common ones */
};

struct exchange {
    struct web *web;
    struct conn *conn; /* NULL: gone */
    struct evhttp_request *req;
    const struct route *route;
    struct ask *ask; /* what it waits for, or NULL */
    bool head;
    struct path_args args;
    struct query query;
    uint8_t token[PARSE_TOKEN]; /* or gate */
    bool ungated;               /* NEEDS_GATE: it brought none */
    struct evbuffer *gathered;  /* sigchain: wires so far */
    uint32_t chain_after;       /* sigchain: the newest of them */
    struct range range;         /* pieces: asked for */
    uint64_t offset, left;      /* streams, puts: still to be sent */
    bool streaming;             /* streams: headers are out */
    bool waiting;               /* streams, puts: in web->waiting */
    struct event *pause;        /* NULL, or the time to its refusal */
    TAILQ_ENTRY(exchange) next;
};

/* --- routes.c --- */
const struct route *route_at(size_t i); /* NULL past the end */

/* --- connection.c --- */

/* Registers how connections are noticed to end. Once, before system calls are filtered. */
enum sp_err conn_init(struct web *web);
/* For evhttp: a TLS bufferevent with its conn, under its first deadline. */
struct bufferevent *conn_accept(struct event_base *base, void *web);
/* The conn of a request that has one still. */
struct conn *conn_of(struct evhttp_request *req);
/* After each turn: room for large bodies to those who want it, as far as there is some; the others
 * are not read from until then. */
void conn_grow(struct web *web);
/* A request has arrived: what comes behind it may wait. */
void conn_hold(struct conn *conn);
void conn_deadline(struct conn *conn, int seconds);
/* Drops the connection from the loop, as if it had timed out; its exchange ends with it. */
void conn_drop(struct conn *conn);
/* Answers req, with all the headers that every answer has. type may be NULL, body too (it is
 * drained); for HEAD its length alone is sent. The request is evhttp's afterwards. */
void conn_answer(struct evhttp_request *req, int code, const char *type, struct evbuffer *body);
void conn_answer_error(struct evhttp_request *req, int code, const char *text);
/* For answers that stream: the headers alone, and before the end is sent. A header that is there
 * stays as it is. */
void conn_add_headers(struct evhttp_request *req, const char *type);
void conn_finishing(struct evhttp_request *req, struct conn *conn);

/* --- exchange.c --- */

/* evhttp's callback for every request. */
void exchange_begin(struct evhttp_request *req, void *web);
/* Its connection is gone. */
void exchange_gone(struct exchange *x);
/* Takes the request back from an exchange that ends now, to answer it; frees the exchange. */
struct evhttp_request *exchange_end(struct exchange *x);
/* Ends it with an answer. body may be NULL; it is drained and freed. */
void exchange_answer(struct exchange *x, int code, const char *type, struct evbuffer *body);
/* Ends it with the answer that its route has for err; drops the connection if headers are out. */
void exchange_fail(struct exchange *x, enum sp_err err);

/* --- asks.c --- */

/* Makes the edge to the store. */
enum sp_err asks_init(struct web *web);
/* A frame with the exchange's token (if its route needs one) in front; good until the next one.
 * ask_wipe when it is done with. */
struct wire_out ask_frame(const struct exchange *x);
void ask_wipe(struct wire_out *frame);
#define ASK_MAX (PART_MAX + 4096u)
/* Sends it; the reply goes to the route's finish. SP_ERR_NO_SPACE: too many are outstanding. */
enum sp_err ask_send(struct exchange *x, const struct wire_out *frame);
/* The same for one that goes on: waits for its turn when too many are under way; wipes it. */
void ask_or_wait(struct exchange *x, struct wire_out *frame);

/* --- handlers.c: start and finish of routes --- */
typedef enum sp_err start_fn(struct exchange *x, struct wire_in *body, struct wire_out *frame);
typedef enum sp_err finish_fn(struct exchange *x, struct wire_in *reply);
start_fn start_health, start_info, start_nothing, start_enroll, start_login, start_chain_get,
    start_chain_add, start_list, start_id;
finish_fn finish_octets, finish_nothing, finish_chain_get, finish_list;
/* Answers with it and takes it; NULL is out of memory. */
struct json_t;
enum sp_err answer_json(struct exchange *x, struct json_t *object);

/* --- upload.c, sent.c --- */
start_fn start_upload, start_put_piece, start_put_form, start_resolve, start_revoke;
finish_fn finish_put, finish_upload_state, finish_resolve, finish_status, finish_revoke;
/* The next part of a body. */
void put_next(struct exchange *x);

/* --- link.c --- */
start_fn start_link_page, start_link_none;
finish_fn finish_link_page, finish_link_envelope;
/* What every frame about ciphertext of a link begins with: its id, the gate, who asks. */
void link_put(const struct exchange *x, struct wire_out *frame);

/* --- page.c: parts of the link page (page.h) --- */
start_fn start_asset;

/* --- stream.c: pieces (with Range), and what else the store hands out in parts by offset --- */
start_fn start_piece, start_parts;
finish_fn finish_piece, finish_parts;
/* Asks for the next block of a stream. */
void stream_next(struct exchange *x);

#endif
