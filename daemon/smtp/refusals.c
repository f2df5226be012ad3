/* Refusals: one table of kinds. Nothing here was said by a client; what a session claims of itself
 * is one of the numbers of enum session_end. */
#include "daemon/smtp/refusals.h"
#include "daemon/audit/events.h"
#include "daemon/role.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *why; /* for the audit log and for status */
    unsigned points;
    const char *text;
} kinds[REFUSAL_COUNT] = {
    [END_ERRORS] = {"commands-in-error", 25, NULL},
    [END_RECIPIENTS] = {"refused-recipients", 34, NULL},
    [END_TRANSACTIONS] = {"many-transactions", 0, NULL},
    [END_EARLY] = {"talks-too-early", 25, NULL},
    [END_HTTP] = {"speaks-http", 50, NULL},
    [END_SLOW] = {"too-slow", 10, NULL},
    [REFUSAL_HELD] = {"held-off", 0, "421 4.7.0 Not now, try again later"},
    [REFUSAL_RATE] = {"too-many-connections", 0, "421 4.7.0 Too many connections, slow down"},
    [REFUSAL_SESSIONS] = {"too-many-sessions", 0, "421 4.3.2 Too many sessions, try again later"},
    [REFUSAL_CLIENT] = {"too-many-sessions-of-client", 0,
                        "421 4.7.0 Too many sessions at once, try again later"},
    [REFUSAL_ENDING] = {"shutting-down", 0, "421 4.3.2 Shutting down"},
    [REFUSAL_RESOURCES] = {"no-resources", 0, "421 4.3.2 No room for a session, try again later"},
};

static void report(enum refusal why, const struct refused *k, uint64_t left_out)
{
    if (why < REFUSAL_FIRST)
        audit_emit(AUDIT_SESSION_CUT, (uint64_t)k->session, k->client, kinds[why].why, left_out);
    else
        audit_emit(AUDIT_SESSION_REFUSED, k->client, kinds[why].why, left_out);
}

void refusals_note(struct refusals *r, enum refusal why, uint32_t session, const char *client)
{
    struct refused *k = &r->of[why];
    k->count++;
    k->session = session;
    snprintf(k->client, sizeof(k->client), "%s", client);
    if (k->logged >= REFUSALS_LOGGED) {
        k->left_out++;
        return;
    }
    k->logged++;
    report(why, k, 0);
}

void refusals_tick(struct refusals *r)
{
    for (unsigned i = 0; i < REFUSAL_COUNT; i++) {
        struct refused *k = &r->of[i];
        if (k->left_out > 0)
            report((enum refusal)i, k, k->left_out - 1); /* this one is told now */
        k->left_out = 0;
        k->logged = 0;
    }
}

static uint64_t count(const struct refusals *r, unsigned from, unsigned to)
{
    uint64_t n = 0;
    for (unsigned i = from; i < to; i++)
        n += r->of[i].count;
    return n;
}

void refusals_status(const struct refusals *r, struct wire_out *pairs)
{
    role_status_number(pairs, "sessions_refused", count(r, REFUSAL_FIRST, REFUSAL_COUNT));
    role_status_number(pairs, "sessions_cut", count(r, 0, REFUSAL_FIRST));
    for (unsigned i = 0; i < REFUSAL_COUNT; i++)
        role_status_count(pairs, i < REFUSAL_FIRST ? "cut" : "refused", kinds[i].why,
                          r->of[i].count);
}

const char *refusals_text(enum refusal why)
{
    return kinds[why].text;
}

unsigned refusals_points(enum refusal why)
{
    return kinds[why].points;
}
