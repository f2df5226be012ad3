#ifndef SEALPOST_SMTP_GUESTS_H
#define SEALPOST_SMTP_GUESTS_H
/*
 * What is remembered of clients, by address: how fast they connect, what they did wrong, and until
 * when they are held off (SMTP.md, Abuse). All of it decays. Sessions are forks of one image:
 * whoever may crash them again and again learns its layout byte by byte, so that a crash weighs
 * most. A table of fixed size: who is held off longest is forgotten last.
 */
#include "daemon/guest.h"
#include "envelope/error.h"

#include <stdbool.h>
#include <stdint.h>

#define GUESTS_DOUBLES 6u   /* times that a hold doubles, from one to the next */
#define GUESTS_SETS    128u /* a client's address chooses one of them */
#define GUESTS_WAYS    8u   /* clients that a set remembers */

/* What an offence counts for; at GUESTS_HOLD a client is held off. Ten points are forgiven a
 * minute. */
#define GUESTS_HOLD  100u
#define GUESTS_DECAY 10u

struct guests {
    uint64_t hold_ms;    /* the first time; 0: nobody is held off */
    uint64_t per_minute; /* connections of one client; as many at once; 0: any number */
    uint64_t crashes;    /* in all */
    uint8_t secret[16];  /* so that nobody chooses whom they drive out of the table */
    struct guest_row *rows;
};

enum guests_verdict { GUESTS_WELCOME, GUESTS_HELD, GUESTS_TOO_FAST };

/* Makes the table, in memory that a fork does not copy. */
enum sp_err guests_init(struct guests *g, uint64_t hold_ms, uint64_t per_minute);
/* Unmaps the table. */
void guests_end(struct guests *g);
/* A client has connected: counts it. */
enum guests_verdict guests_connected(struct guests *g, const char *key, uint64_t now_ms);
/* A client did something that weighs so many points. */
void guests_offended(struct guests *g, const char *key, unsigned points, uint64_t now_ms);
/* A session of this client died of a signal that its own doing may have brought about. NULL: of one
 * that is not held off for it. */
void guests_crashed(struct guests *g, const char *key, uint64_t now_ms);
bool guests_held(struct guests *g, const char *key, uint64_t now_ms);

#endif
