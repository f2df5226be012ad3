#ifndef SEALPOST_SMTP_HEADER_H
#define SEALPOST_SMTP_HEADER_H
/*
 * What is looked at, and what is taken out, in the header of a message as it streams by: Received
 * fields are counted (RFC 5321 6.3), and an Authentication-Results field that claims to be ours is
 * removed (RFC 8601 5), since nobody but us may say so, and we do not. Nothing else is changed.
 * Holds back at most HEADER_HOLD bytes, and those of an Authentication-Results field alone. A plain
 * struct, nothing allocated; it holds plaintext: the caller wipes it.
 */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A field whose name of the server is not reached in so many bytes (comments may stand before it)
 * is taken for ours: nobody writes such a thing in good faith. */
#define HEADER_HOLD 1024u
#define HEADER_ID   256u

typedef enum sp_err header_sink(void *ctx, const uint8_t *bytes, size_t len);

struct header {
    const char *own; /* our name, as an A-label */
    header_sink *sink;
    void *ctx;
    int state;     /* enum header_state of header.c */
    bool drop;     /* the field that is under way is ours */
    bool let_go;   /* what is held is not ours after all */
    bool eol;      /* a line of what is held has ended */
    size_t at;     /* octets of a field's name that have matched */
    unsigned deep; /* in comments */
    unsigned received;
    size_t held, id_len;
    uint8_t hold[HEADER_HOLD];
    char id[HEADER_ID];
};

/* own stays the caller's, and is used until header_finish. */
void header_init(struct header *h, const char *own, header_sink *sink, void *ctx);
/* Any cut of the input gives the same output. An error is the sink's. */
enum sp_err header_push(struct header *h, const uint8_t *bytes, size_t len);
/* The message is over: hands on what was held back. */
enum sp_err header_finish(struct header *h);
/* Received fields so far. */
unsigned header_received(const struct header *h);

#endif
