/* The audit role: takes events in from every other role, checks that they are theirs to report, and
 * writes the log. The supervisor is trusted; every other role may have been taken over. What cannot
 * be written ends this process, and the tree with it: what cannot be audited does not happen. */
#include "daemon/audit/chain.h"
#include "daemon/audit/events.h"
#include "daemon/audit/schema.h"
#include "daemon/messages.h"
#include "daemon/role.h"
#include "sandbox/lockmem.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define FD_SUPERVISOR_EDGE (FD_EXTRA + 0)
#define FD_LOG             (FD_EXTRA + 1)
#define FD_KEY             (FD_EXTRA + 2)
#define EXIT_CANNOT_WRITE  74
#define ELEMENTS(list)     (sizeof(list) / sizeof((list)[0]))

static struct source {
    unsigned reporter;
    int fd;
    const char *name;
    struct ipc_peer *peer;
} sources[] = {
    {ROLE_SMTP, ROLE_FD(ROLE_SMTP), "smtp", NULL},
    {ROLE_SEALER, ROLE_FD(ROLE_SEALER), "sealer", NULL},
    {ROLE_STORE, ROLE_FD(ROLE_STORE), "store", NULL},
    {ROLE_KEEPER, ROLE_FD(ROLE_KEEPER), "keeper", NULL},
    {ROLE_WEB, ROLE_FD(ROLE_WEB), "web", NULL},
    {ROLE_RELAY, ROLE_FD(ROLE_RELAY), "relay", NULL},
    {ROLE_RESOLVER, ROLE_FD(ROLE_RESOLVER), "resolver", NULL},
    {ROLE_SUPERVISOR, FD_SUPERVISOR_EDGE, "the supervisor", NULL},
};

static struct audit {
    struct role *role;
    struct chain *chain;
    struct event *timer;
    bool stopping, due;
    bool full;  /* the supervisor knows */
    bool heard; /* something came in during this turn */
    uint64_t count[AUDIT_EVENT_COUNT];
} audit;

static void must(enum sp_err err, const char *what)
{
    if (err == SP_OK)
        return;
    role_log("cannot write the %s: %s (%s); the appliance stops, as nothing may happen unaudited",
             what, sp_err_text(err), strerror(errno));
    _exit(EXIT_CANNOT_WRITE);
}

static enum sp_err on_event(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    const struct source *from = ctx;
    unsigned event;
    (void)peer;
    enum sp_err err = audit_render(&frame->body, from->reporter, chain_begin(audit.chain), &event);
    if (err != SP_OK)
        return err; /* the line that was begun is dropped with it */
    must(chain_end(audit.chain, event == AUDIT_START), "log");
    audit.count[event]++;
    audit.heard = true;
    return SP_OK;
}

/* A role that reports what it may not has lost its voice: its next report ends it, and that is
 * written down by the supervisor. */
static void on_source_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct source *from = ctx;
    if (why != SP_ERR_PEER)
        role_log("%s loses its way in: it reported what it may not: %s", from->name,
                 sp_err_text(why));
    from->peer = NULL;
    ipc_peer_free(peer);
}

static const struct ipc_rule rule[] = {
    {AU_EVENT, false, false, 2, AUDIT_FRAME_MAX, on_event},
};
static const struct ipc_rules rules = {rule, ELEMENTS(rule), UINT64_MAX, on_source_gone};

static struct chain_status get_status(void)
{
    struct chain_status status;
    chain_status(audit.chain, &status);
    return status;
}

/* After each turn of the loop: one write for all that came in, and a checkpoint if it is time. When
 * stopping, the end is the first turn in which nothing came in any more. */
static void on_idle(void *ctx)
{
    (void)ctx;
    must(chain_flush(audit.chain), "log");
    bool last = audit.stopping && !audit.heard;
    uint64_t since = get_status().since;
    if (since >= audit.role->config->checkpoint_events || ((audit.due || last) && since > 0))
        must(chain_checkpoint(audit.chain), "checkpoint");
    uint64_t limit = audit.role->config->rotate_size;
    if (limit > 0 && !audit.full && get_status().bytes >= limit) {
        ipc_peer_send(audit.role->supervisor, CT_LOG_FULL, 0, NULL, -1);
        audit.full = true;
    }
    audit.due = false;
    audit.heard = false;
    if (last)
        event_base_loopexit(audit.role->base, NULL);
    else if (audit.stopping)
        event_active(audit.timer, EV_TIMEOUT, 0); /* another turn */
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    (void)ctx;
    audit.due = true;
}

static enum sp_err prepare(struct role *role)
{
    const char *why = "memory cannot be locked";
    enum lockmem_kind got;
    audit.role = role;
    enum sp_err err = lockmem_init(lockmem_wanted(role->config), &got);
    if (err == SP_OK)
        err = chain_open(FD_LOG, FD_KEY, &audit.chain, &why);
    if (err != SP_OK)
        role_log("cannot start: %s", why);
    return err;
}

static enum sp_err run(struct role *role)
{
    struct timeval interval = {.tv_sec = (time_t)role->config->checkpoint_seconds};
    for (size_t i = 0; i < ELEMENTS(sources); i++) {
        sources[i].peer = ipc_peer_new(role->base, sources[i].fd, &rules, &sources[i]);
        if (sources[i].peer == NULL)
            return SP_ERR_MEMORY;
    }
    audit.timer = event_new(role->base, -1, EV_PERSIST, on_timer, NULL);
    if (audit.timer == NULL || event_add(audit.timer, &interval) != 0)
        return SP_ERR_MEMORY;
    ipc_on_idle(on_idle, NULL);
    role_log("audit log at event %" PRIu64 "; first key %s", get_status().events,
             get_status().first_key);
    return SP_OK;
}

/* CT_LOG */
static enum sp_err control(struct role *role, struct ipc_frame *frame)
{
    uint8_t buf[8];
    struct wire_out reply = wire_out(buf, sizeof(buf));
    uint64_t last = 0;
    if (frame->type != CT_LOG)
        return SP_ERR_DENIED;
    must(chain_rotate(audit.chain, frame->fd, &last), "new log");
    frame->fd = -1;
    audit.full = false;
    wire_put_u64(&reply, last);
    return ipc_peer_send(role->supervisor, CT_LOG_REPLY, 0, &reply, -1);
}

static void stop(struct role *role)
{
    (void)role;
    audit.stopping = true;
    audit.heard = true; /* what came before the word to stop is read first */
}

static void status(struct role *role, struct wire_out *pairs)
{
    struct chain_status now = get_status();
    (void)role;
    role_status_number(pairs, "events", now.events);
    role_status_number(pairs, "bytes", now.bytes);
    role_status_number(pairs, "checkpoints", now.checkpoints);
    wire_put_str(pairs, "audit_first_key");
    wire_put_str(pairs, now.first_key);
    wire_put_str(pairs, "audit_current_key");
    wire_put_str(pairs, now.current_key);
    for (unsigned i = 0; i < AUDIT_EVENT_COUNT; i++)
        role_status_count(pairs, "event", audit_schema(i)->name, audit.count[i]);
}

const struct role_ops audit_role = {
    .id = ROLE_AUDIT,
    .name = "audit",
    .prepare = prepare,
    .run = run,
    .stop = stop,
    .status = status,
    .control = control,
};
