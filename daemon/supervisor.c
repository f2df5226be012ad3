/* Life of the tree: start, watch, restart as a whole, end in order. It holds the listeners and few
 * capabilities, parses nothing that comes from outside, and trusts roles no further than their
 * permit tables. */
#include "daemon/supervisor.h"
#include "daemon/audit/events.h"
#include "daemon/messages.h"
#include "daemon/notify.h"
#include "daemon/web/page.h"
#include "sandbox/lockmem.h"
#include "sandbox/sandbox.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define AUDIT_GRACE_MS 500 /* for the audit role to write down what it has, after a crash */
#define RESTART_MS     200
#define MAX_FAILURES   10 /* trees in a row that did not become ready */
#define EXTRA_GRACE    5  /* seconds beyond shutdown_grace */

/* Roles end in this order, so that each can still finish what the earlier ones handed to it. */
static const unsigned stages[] = {
    1u << ROLE_SMTP | 1u << ROLE_WEB | 1u << ROLE_RELAY, 1u << ROLE_SEALER | 1u << ROLE_RESOLVER,
    1u << ROLE_STORE | 1u << ROLE_KEEPER | 1u << ROLE_DOOR, 1u << ROLE_AUDIT};
#define N_STAGES ((int)(sizeof(stages) / sizeof(stages[0])))

static struct supervisor self;

static void say(const char *text)
{
    dprintf(STDERR_FILENO, "sealpostd: %s\n", text);
}

static bool anyone_left(const struct supervisor *s, unsigned mask)
{
    for (int r = 0; r < ROLE_COUNT; r++)
        if ((mask >> r & 1) && s->child[r].pid != 0)
            return true;
    return false;
}

static void kill_roles(const struct supervisor *s, unsigned mask)
{
    for (int r = 0; r < ROLE_COUNT; r++)
        if ((mask >> r & 1) && s->child[r].pid != 0)
            supervisor_kill(s, (enum role_id)r);
}

static void tell_stop(struct supervisor *s, unsigned mask)
{
    for (int r = 0; r < ROLE_COUNT; r++)
        if ((mask >> r & 1) && s->child[r].pid != 0)
            ipc_peer_send(s->child[r].control, CT_STOP, 0, NULL, -1);
}

static void describe(int status, char *buf, size_t cap)
{
    if (WIFSIGNALED(status))
        snprintf(buf, cap, "signal %d%s", WTERMSIG(status),
                 WTERMSIG(status) == SIGSYS ? " (forbidden system call)" : "");
    else
        snprintf(buf, cap, "exit status %d", WEXITSTATUS(status));
}

/* --- messages from roles --- */

static void announce(struct supervisor *s)
{
    for (int r = 0; r < ROLE_COUNT; r++)
        if (!s->child[r].ready && supervisor_has(s, r))
            return;
    if (!s->announced) {
        s->announced = s->served = true;
        s->failures = 0;
        say("ready");
        notify_say("READY=1");
    }
}

static enum role_id role_of(const struct supervisor *s, const struct ipc_peer *peer)
{
    int r = 0;
    while (r < ROLE_COUNT && s->child[r].control != peer)
        r++;
    return (enum role_id)r;
}

static enum sp_err on_ready(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct supervisor *s = ctx;
    (void)frame;
    s->child[role_of(s, peer)].ready = true;
    announce(s);
    return SP_OK;
}

static enum sp_err on_reply(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    return operators_status_reply(ctx, role_of(ctx, peer), frame);
}

static enum sp_err on_metrics(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    (void)frame;
    return role_of(ctx, peer) == ROLE_WEB ? operators_metrics(ctx) : SP_ERR_DENIED;
}

static enum sp_err on_log_full(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct supervisor *s = ctx;
    (void)frame;
    if (role_of(s, peer) != ROLE_AUDIT)
        return SP_ERR_DENIED;
    if (rotation_begin(s) == SP_ERR_SYSTEM)
        say("the audit log is over its size and cannot be rotated");
    return SP_OK;
}

static enum sp_err on_log_reply(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct supervisor *s = ctx;
    uint64_t last = wire_get_u64(&frame->body);
    if (role_of(s, peer) != ROLE_AUDIT)
        return SP_ERR_DENIED;
    operators_rotated(s, rotation_end(s, last), last);
    return SP_OK;
}

static void on_control_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct supervisor *s = ctx;
    enum role_id r = role_of(s, peer);
    if (r == ROLE_COUNT || s->child[r].pid == 0)
        return;
    if (why == SP_ERR_PEER)
        supervisor_kill_deaf(s, r);
    else
        supervisor_kill(s, r); /* it spoke out of turn; SIGCHLD does the rest */
}

static const struct ipc_rule control_rules[] = {
    {CT_READY, false, true, 0, 0, on_ready},
    {CT_STATUS_REPLY, false, false, 0, 16384, on_reply},
    {CT_METRICS, false, false, 0, 0, on_metrics},
    {CT_LOG_FULL, false, false, 0, 0, on_log_full},
    {CT_LOG_REPLY, false, false, 8, 8, on_log_reply},
#ifdef SEALPOST_TEST
    {CT_PROBE_REPLY, false, false, 4, 4, on_reply},
    {CT_SCAN_REPLY, false, false, 4, 4, on_reply},
#endif
};
static const struct ipc_rules control = {
    control_rules, sizeof(control_rules) / sizeof(control_rules[0]), UINT64_MAX, on_control_gone};

/* --- start and end --- */

static enum sp_err give_tls(struct supervisor *s)
{
    struct wire_out cert = {
        .at = (uint8_t *)s->certificate, .len = s->certificate_len, .cap = s->certificate_len};
    struct wire_out key = {.at = (uint8_t *)s->key, .len = s->key_len, .cap = s->key_len};
    enum sp_err err = ipc_peer_send(s->child[ROLE_KEEPER].control, CT_KEY, 0, &key, -1);
    if (err == SP_OK)
        err = ipc_peer_send(s->child[ROLE_SMTP].control, CT_CERTIFICATE, 0, &cert, -1);
    if (err == SP_OK)
        err = ipc_peer_send(s->child[ROLE_WEB].control, CT_CERTIFICATE, 0, &cert, -1);
    return err;
}

static void on_timer_kill(evutil_socket_t fd, short what, void *arg)
{
    struct supervisor *s = arg;
    (void)fd;
    (void)what;
    if (s->restart || s->stage >= 0) /* else a fresh tree runs already */
        kill_roles(s, ~0u);
}

static void after_ms(struct supervisor *s, long ms, event_callback_fn fn)
{
    struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    event_base_once(s->base, -1, EV_TIMEOUT, fn, s, &delay);
}

static void next_stage(struct supervisor *s)
{
    while (s->stage < N_STAGES && !anyone_left(s, stages[s->stage]))
        if (++s->stage < N_STAGES)
            tell_stop(s, stages[s->stage]);
    if (s->stage >= N_STAGES)
        event_base_loopbreak(s->base);
}

static void shut_down(struct supervisor *s, const char *why)
{
    if (s->stage >= 0)
        return;
    notify_say("STOPPING=1");
    if (s->child[ROLE_AUDIT].pid != 0)
        audit_report(AUDIT_STOP, why);
    s->stage = 0;
    tell_stop(s, stages[0]);
    after_ms(s, (long)(s->config->shutdown_grace + EXTRA_GRACE) * 1000, on_timer_kill);
    next_stage(s);
}

/* Without the door nothing gets out. What is under way may be finished; then the service manager
 * starts the door and this service anew. */
static void on_door_gone(evutil_socket_t fd, short what, void *arg)
{
    struct supervisor *s = arg;
    (void)fd;
    (void)what;
    event_del(s->doorway.end);
    if (s->stage >= 0)
        return;
    say("the door is gone; ending");
    s->shut_out = true;
    shut_down(s, "the door is gone");
}

static enum sp_err start_tree(struct supervisor *s)
{
    s->stage = -1;
    s->restart = s->announced = false;
    enum sp_err err = resources_load_tls(s);
    if (err == SP_OK)
        resources_judge_certificate(s);
    if (err == SP_OK)
        err = relayfiles_open(s);
    if (err == SP_OK && s->doorway.path != NULL)
        err = doorway_open(s, on_door_gone);
    if (err == SP_OK)
        err = wiring_start(s, &control);
    if (err == SP_OK)
        err = relayfiles_give(s);
    if (err == SP_OK)
        err = give_tls(s);
    relayfiles_close(s);
    resources_forget_key(s);
    return err;
}

static void report_crash(struct supervisor *s)
{
    char why[64];
    describe(s->culprit_status, why, sizeof(why));
    s->restarts++;
    s->crashes[s->culprit]++;
    bool violation = WIFSIGNALED(s->culprit_status) && WTERMSIG(s->culprit_status) == SIGSYS;
    s->violations += violation;
    if (violation)
        audit_report(AUDIT_VIOLATION, all_roles[s->culprit]->name, (uint64_t)0, "");
    audit_report(AUDIT_ROLE_CRASHED, all_roles[s->culprit]->name, why);
}

static void on_restart(evutil_socket_t fd, short what, void *arg)
{
    struct supervisor *s = arg;
    (void)fd;
    (void)what;
    if (s->stage >= 0)
        return;
    rotation_abandon(s);
    operators_rotated(s, SP_ERR_PEER, 0);
    /* The files may be in the middle of being renewed. */
    bool usable = resources_load_tls(s) == SP_OK && relayfiles_open(s) == SP_OK;
    relayfiles_close(s);
    resources_forget_key(s);
    if (!usable && s->failures++ < MAX_FAILURES) {
        after_ms(s, RESTART_MS * (1 + (long)s->failures), on_restart);
        return;
    }
    if (start_tree(s) != SP_OK) {
        say("cannot start a fresh tree; giving up");
        s->status = 1;
        kill_roles(s, ~0u);
        event_base_loopbreak(s->base);
        return;
    }
    report_crash(s);
}

/* A role died unasked: the rest goes too, the audit role last, so that it can write what it was
 * told. */
static void fall(struct supervisor *s, enum role_id r, int status)
{
    char why[64], text[128];
    describe(status, why, sizeof(why));
    if (!s->announced)
        s->failures++;
    bool give_up = !s->served || s->failures > MAX_FAILURES;
    snprintf(text, sizeof(text), "role %s died (%s); %s", all_roles[r]->name, why,
             give_up ? "it never became ready, giving up" : "starting a fresh tree");
    say(text);
    if (give_up) {
        s->status = 1;
        s->stage = N_STAGES;
        kill_roles(s, ~0u);
        event_base_loopbreak(s->base);
        return;
    }
    s->restart = true;
    s->culprit = r;
    s->culprit_status = status;
    kill_roles(s, ~(1u << ROLE_AUDIT));
    after_ms(s, AUDIT_GRACE_MS, on_timer_kill);
}

/* Who died first is not always who is reaped first: roles that lose a peer exit by themselves. A
 * signal that was not ours names the one to blame. */
static void reconsider_blame(struct supervisor *s, enum role_id r, int status)
{
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL && !WIFSIGNALED(s->culprit_status)) {
        s->culprit = r;
        s->culprit_status = status;
    }
}

static void reaped(struct supervisor *s, enum role_id r, int status)
{
    s->child[r].pid = 0;
    operators_role_gone(s, r);
    ipc_peer_free(s->child[r].control);
    s->child[r].control = NULL;
    if (s->restart)
        reconsider_blame(s, r, status);
    else if (s->stage < 0)
        fall(s, r, status);
    if (s->restart && !anyone_left(s, ~(1u << ROLE_AUDIT)))
        tell_stop(s, 1u << ROLE_AUDIT);
    if (s->restart && !anyone_left(s, ~0u))
        after_ms(s, RESTART_MS * (1 + (long)s->failures), on_restart);
    if (s->stage >= 0)
        next_stage(s);
}

static void on_child(evutil_socket_t sig, short what, void *arg)
{
    struct supervisor *s = arg;
    int status;
    pid_t pid;
    (void)sig;
    (void)what;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (int r = 0; r < ROLE_COUNT; r++)
            if (s->child[r].pid == pid)
                reaped(s, (enum role_id)r, status);
}

static void on_terminate(evutil_socket_t sig, short what, void *arg)
{
    (void)what;
    shut_down(arg, sig == SIGTERM ? "SIGTERM" : "SIGINT");
}

static void on_reload(evutil_socket_t sig, short what, void *arg)
{
    struct supervisor *s = arg;
    (void)sig;
    (void)what;
    if (s->stage >= 0 || !s->announced)
        return;
    bool usable = resources_load_tls(s) == SP_OK;
    if (usable)
        resources_judge_certificate(s);
    if (usable && give_tls(s) == SP_OK)
        say("certificates reloaded");
    else
        say("certificates not reloaded; the old ones stay in use");
    resources_forget_key(s);
    if (relayfiles_open(s) != SP_OK || relayfiles_give(s) != SP_OK)
        say("DKIM keys and credentials not reloaded; the old ones stay in use");
    relayfiles_close(s);
    resources_give_resolv_conf(s);
}

/* Twice in the time that the service manager allows. */
static void on_watchdog(evutil_socket_t fd, short what, void *arg)
{
    struct supervisor *s = arg;
    (void)fd;
    (void)what;
    if (s->announced && s->stage < 0 && !s->restart)
        operators_watchdog(s);
}

static enum sp_err watch_ourselves(struct supervisor *s)
{
    struct timeval every = notify_every();
    if (!evutil_timerisset(&every))
        return SP_OK;
    struct event *timer = event_new(s->base, -1, EV_PERSIST, on_watchdog, s);
    return timer != NULL && event_add(timer, &every) == 0 ? SP_OK : SP_ERR_MEMORY;
}

static enum sp_err watch_signals(struct supervisor *s)
{
    static const struct {
        int signal;
        event_callback_fn fn;
    } watch[] = {
        {SIGCHLD, on_child}, {SIGTERM, on_terminate}, {SIGINT, on_terminate}, {SIGHUP, on_reload}};
    for (size_t i = 0; i < sizeof(watch) / sizeof(watch[0]); i++) {
        struct event *ev = evsignal_new(s->base, watch[i].signal, watch[i].fn, s);
        if (ev == NULL || event_add(ev, NULL) != 0)
            return SP_ERR_MEMORY;
    }
    return SP_OK;
}

/* FD_AUDIT is a fixed number: no descriptor of ours, or of the event loop, may come to lie there.
 */
static enum sp_err reserve_low_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd < FD_EXTRA);
    if (fd < 0)
        return SP_ERR_SYSTEM;
    close(fd);
    return SP_OK;
}

static enum sp_err lock_memory(struct supervisor *s)
{
    return lockmem_init(lockmem_wanted(s->config), &s->lock_kind);
}

static const struct {
    const char *step;
    enum sp_err (*run)(struct supervisor *s);
} boot[] = {
    {"read the configuration again", resources_config_digest},
    {"open sockets and files", resources_open},
    {"watch signals", watch_signals},
    {"answer operators", operators_start},
    {"watchdog", watch_ourselves},
};

static enum sp_err start_up(struct supervisor *s)
{
    const char *step = "locked memory";
    enum sp_err err = lock_memory(s);
    for (size_t i = 0; err == SP_OK && i < sizeof(boot) / sizeof(boot[0]); i++) {
        step = boot[i].step;
        err = boot[i].run(s);
    }
    if (err == SP_OK) {
        step = "drop privileges";
        err = sandbox_supervisor(s->user_mode, &step);
    }
    if (err == SP_OK) {
        step = "start the tree";
        err = start_tree(s);
    }
    if (err != SP_OK)
        dprintf(STDERR_FILENO, "sealpostd: cannot start: %s: %s%s%s\n", step, sp_err_text(err),
                errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
    return err;
}

int supervisor_main(const struct supervisor_start *start)
{
    struct supervisor *s = &self;
    *s = (struct supervisor){.config = start->config,
                             .config_path = start->config_path,
                             .user_mode = start->user_mode,
                             .doorway = {.path = start->door, .sock = -1},
                             .fresh_log = -1,
                             .stage = -1};
    signal(SIGPIPE, SIG_IGN);
    errno = 0;
    if (reserve_low_descriptors() == SP_OK)
        s->base = event_base_new();
    if (s->base == NULL)
        return 1;
    if (start_up(s) != SP_OK) {
        kill_roles(s, ~0u);
        return 1;
    }
    audit_report(AUDIT_START, SEALPOST_VERSION, s->config->hostname, lockmem_name(s->lock_kind),
                 s->slots, page_sha256, page_files_sha256);
    audit_report(AUDIT_CONFIG, s->config_path, s->config_sha256);
    while (s->stage < N_STAGES && s->status == 0)
        if (event_base_loop(s->base, EVLOOP_ONCE) != 0)
            break;
    kill_roles(s, ~0u);
    unlink(s->config->control);
    return s->shut_out ? 1 : s->status;
}
