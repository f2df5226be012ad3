/* Sessions that want to know whether a sender can be answered. The smtp parent may have been taken
 * over, sessions even more so: what either may send is counted, and wrong frames end the channel
 * they came by. */
#include "daemon/resolver/senders.h"
#include "daemon/audit/events.h"
#include "daemon/guest.h"
#include "daemon/messages.h"
#include "daemon/resolver/answers.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLACK          16u /* ended ones whose SP_SESSION_GONE is still under way */
#define LOGGED         10u /* refusals told to the audit log, in so many seconds */
#define LOGGED_SECONDS 60

static struct {
    struct role *role;
    struct ipc_peer *smtp;
    LIST_HEAD(, asker) sessions;
    uint64_t n_sessions, refused;
    unsigned logged;
    uint64_t left_out;
    uint32_t last; /* the last that was left out, and its domain */
    char last_domain[ANSWERS_NAME + 1];
    struct event *tick;
} senders;

static void forget(struct asker *a)
{
    LIST_REMOVE(a, next);
    senders.n_sessions--;
    questions_orphan(a);
    ipc_peer_free(a->channel);
    free(a);
}

static void on_session_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct asker *a = ctx;
    (void)peer;
    if (why != SP_ERR_PEER)
        role_log("session %u loses its channel: %s", a->id, sp_err_text(why));
    forget(a);
}

static enum sp_err on_sender(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct asker *a = ctx;
    (void)peer;
    if (a->asked++ == SENDER_QUESTIONS)
        return SP_ERR_LIMIT;
    return questions_ask(a, QUESTION_SENDER, frame);
}

static const struct ipc_rule session_rule[] = {
    {RD_SENDER, false, false, 2, 2 + QUESTION_NAME_MAX, on_sender},
};
static const struct ipc_rules session_rules = {session_rule, 1, UINT64_MAX, on_session_gone};

static struct asker *find_session(uint32_t id)
{
    struct asker *a = LIST_FIRST(&senders.sessions);
    while (a != NULL && a->id != id)
        a = LIST_NEXT(a, next);
    return a;
}

static enum sp_err on_session(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    size_t len;
    (void)ctx;
    (void)peer;
    uint32_t id = wire_get_u32(&frame->body);
    (void)wire_get_b16(&frame->body, GUEST_TEXT, &len); /* whose session: nothing to us */
    if (!wire_in_done(&frame->body) || find_session(id) != NULL)
        return SP_ERR_FORMAT;
    struct asker *a = NULL;
    if (senders.n_sessions < senders.role->config->max_sessions + SLACK)
        a = calloc(1, sizeof(*a));
    if (a == NULL) {
        role_log("session %u gets no channel: there are too many", id);
        return SP_OK; /* the descriptor is closed, and its senders are taken */
    }
    *a = (struct asker){.id = id, .at_once = 1};
    a->channel = ipc_peer_new(senders.role->base, frame->fd, &session_rules, a);
    frame->fd = -1;
    if (a->channel == NULL) {
        free(a);
        return SP_OK;
    }
    LIST_INSERT_HEAD(&senders.sessions, a, next);
    senders.n_sessions++;
    return SP_OK;
}

static enum sp_err on_session_dead(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    (void)ctx;
    (void)peer;
    uint32_t id = wire_get_u32(&frame->body);
    struct asker *a = wire_in_done(&frame->body) ? find_session(id) : NULL;
    if (a != NULL)
        forget(a);
    return SP_OK;
}

static const struct ipc_rule smtp_rule[] = {
    {SP_SESSION, true, false, 4 + 2, 4 + 2 + GUEST_TEXT, on_session},
    {SP_SESSION_GONE, false, false, 4, 4, on_session_dead},
};

static void on_smtp_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct asker *a;
    (void)ctx;
    if (why != SP_ERR_PEER)
        role_log("smtp loses its edge: %s", sp_err_text(why));
    while ((a = LIST_FIRST(&senders.sessions)) != NULL)
        forget(a);
    senders.smtp = NULL;
    ipc_peer_free(peer);
}

static const struct ipc_rules smtp_rules = {smtp_rule, 2, UINT64_MAX, on_smtp_gone};

/* --- the audit log: nobody shall fill the disk by being refused --- */

static void report(uint32_t session, const char *domain, uint64_t left_out)
{
    audit_emit(AUDIT_SENDER_REFUSED, (uint64_t)session, domain, "null-mx", left_out);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    if (senders.left_out > 0) /* the last of them is told now */
        report(senders.last, senders.last_domain, senders.left_out - 1);
    senders.left_out = 0;
    senders.logged = 0;
}

void senders_refused(const struct asker *a, const char *domain)
{
    senders.refused++;
    if (senders.logged < LOGGED) {
        senders.logged++;
        report(a->id, domain, 0);
        return;
    }
    senders.left_out++;
    senders.last = a->id;
    snprintf(senders.last_domain, sizeof(senders.last_domain), "%s", domain);
}

void senders_status(struct wire_out *pairs)
{
    if (senders.role == NULL)
        return;
    role_status_number(pairs, "session_channels", senders.n_sessions);
    role_status_number(pairs, "senders_refused_null_mx", senders.refused);
}

enum sp_err senders_init(struct role *role, int sock)
{
    static const struct timeval minute = {.tv_sec = LOGGED_SECONDS};
    senders.role = role;
    LIST_INIT(&senders.sessions);
    senders.smtp = ipc_peer_new(role->base, sock, &smtp_rules, NULL);
    senders.tick = event_new(role->base, -1, EV_PERSIST, on_tick, NULL);
    if (senders.smtp == NULL || senders.tick == NULL || event_add(senders.tick, &minute) != 0)
        return SP_ERR_MEMORY;
    return SP_OK;
}
