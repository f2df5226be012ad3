#ifndef SEALPOST_BENCH_LOAD_H
#define SEALPOST_BENCH_LOAD_H
/*
 * The parts of the load generator. It is measured along with the server on a machine of few cores,
 * so that each part is judged by how little processor time it takes.
 */
#include "envelope/error.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOAD_MAX_CONNECTIONS 1024u
#define LOAD_MAX_PATHS       4u

struct load_options {
    struct sockaddr_in server;
    bool lmtp;            /* LHLO instead of EHLO (RFC 2033); one recipient either way */
    bool hold;            /* stop after the reply to the one message, until a line comes on stdin */
    unsigned connections; /* at once */
    unsigned count;       /* messages in all */
    unsigned seconds;     /* start no new message after this time; 0: no such limit */
    unsigned users;       /* the %d of rcpt goes from 0 to users - 1 */
    unsigned idle;        /* not messages: so many idle TLS sessions */
    size_t size;          /* bytes of a message */
    const char *rcpt, *from;
    const char *paths[LOAD_MAX_PATHS]; /* not messages: what one fetch asks for, in turn */
    unsigned n_paths;
    const char *header; /* of every request, or NULL */
    bool keep;          /* fetch after fetch over the same connection */
};

/* --- message.c: what is sent. --- */

#define LOAD_HEAD_MAX 256u

struct load_message {
    int fd;        /* memfd: all but the head, dots stuffed, with the final CRLF.CRLF */
    size_t length; /* bytes of it */
};

/* Makes a message of size bytes (head and body, without the final dot): plain text if it is small,
 * else text and one attachment of random bytes in base64. */
enum sp_err load_message_make(size_t size, struct load_message *out);
/* The header fields that differ from message to message; always the same length. */
size_t load_message_head(char head[LOAD_HEAD_MAX], unsigned serial);

/* --- session.c: the dialogue. --- */

/* Failures are counted by reply code; what is not a reply has a number below 100. */
#define LOAD_CODES      1000u
#define LOAD_NO_CONNECT 1u
#define LOAD_CLOSED     2u /* the server hung up */
#define LOAD_TIMEOUT    3u /* nothing happened for 60 seconds */

struct load_result {
    unsigned messages;    /* acknowledged */
    uint32_t *latency_us; /* one each: from connect() to the reply to the final dot; in no order */
    unsigned failures[LOAD_CODES];
    double seconds; /* from the first connect() to the end of the last session */
};

/* Sends options->count messages, each over a connection of its own. The result's latency_us is the
 * caller's to free. */
enum sp_err load_run(const struct load_options *options, const struct load_message *message,
                     struct load_result *result);

/* --- fetch.c --- */

/* Makes options->count fetches over HTTPS, which the result counts as messages; latency: from
 * connect() (on a connection that is kept: the request) to the last byte. *bytes: of a fetch's
 * bodies. */
enum sp_err load_fetch(const struct load_options *options, struct load_result *result,
                       size_t *bytes);

/* --- idle.c --- */

/* Opens TLS sessions, prints "ready N", and holds them until a line comes on stdin. */
enum sp_err load_idle(const struct load_options *options);

/* Seconds of a monotonic clock. */
double load_now(void);
/* Waits for a line, or the end, of stdin, after having printed what is ready. */
void load_wait(const char *what, unsigned count);

#endif
