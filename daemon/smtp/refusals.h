#ifndef SEALPOST_SMTP_REFUSALS_H
#define SEALPOST_SMTP_REFUSALS_H
/*
 * Who was turned away, and why: counted for status, and told to the audit log, though only so many
 * times a minute and kind, so that nobody fills the disk by being refused. What was left out is
 * told with the next one, or when the minute is over.
 */
#include "daemon/guest.h"
#include "daemon/smtp/session.h"
#include "envelope/wire.h"

#include <stdint.h>

#define REFUSALS_SECONDS 60
#define REFUSALS_LOGGED  10u /* of each kind, in so many seconds */

enum refusal {
    /* Why a session ended that we ended ourselves: END_ERRORS.. of session.h come first. */
    REFUSAL_FIRST = END_COUNT,
    REFUSAL_HELD = REFUSAL_FIRST,
    REFUSAL_RATE,
    REFUSAL_SESSIONS,
    REFUSAL_CLIENT,
    REFUSAL_ENDING,
    REFUSAL_RESOURCES,
    REFUSAL_COUNT
};

struct refusals {
    struct refused {
        uint64_t count, left_out;
        unsigned logged;
        uint32_t session; /* the last that was left out, and who it was */
        char client[GUEST_TEXT];
    } of[REFUSAL_COUNT];
};

/* session: 0 if none was begun. */
void refusals_note(struct refusals *r, enum refusal why, uint32_t session, const char *client);
/* Every REFUSALS_SECONDS. */
void refusals_tick(struct refusals *r);
/* Pairs of b16 for status: connections that got no session, sessions that we ended, and then one a
 * kind that has happened. */
void refusals_status(const struct refusals *r, struct wire_out *pairs);
/* What a client is told that gets no session ("421 code text", without our name). */
const char *refusals_text(enum refusal why);
/* What weighs against the client (guests.h). */
unsigned refusals_points(enum refusal why);

#endif
