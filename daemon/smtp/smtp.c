/* The smtp role's parent: accepts, counts, forks a session, reaps it. It parses nothing of what
 * clients send and holds no secret; sessions are its children in its own PID namespace and die with
 * it. */
#include "daemon/audit/events.h"
#include "daemon/messages.h"
#include "daemon/role.h"
#include "daemon/shed.h"
#include "daemon/smtp/channels.h"
#include "daemon/smtp/child.h"
#include "daemon/forked.h"
#include "daemon/smtp/guests.h"
#include "daemon/smtp/refusals.h"
#include "daemon/testhooks.h"
#include "daemon/tls.h"
#include "sandbox/lockmem.h"
#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ACCEPT_TURN   16
#define SECOND_TRY_US 30000
#define LATE_MAX      64u
#define CRASHES_MAX   100u /* of sessions, until the next ones get another address space layout */

/* One live session. */
struct client {
    pid_t pid; /* 0: free */
    uint32_t id;
    uint64_t began_ms;
    struct client_channels channels;
    bool lmtp;
    struct guest guest;
};

struct listener {
    struct smtp *smtp;
    struct event *event;
    int fd;
    bool lmtp;
};

struct smtp {
    struct role *role;
    SSL_CTX *tls;
    struct sock_fprog filter; /* the session's, compiled once */
    struct client *clients;
    size_t n_clients;
    uint32_t last_id;
    struct listener listeners[2 * CONFIG_MAX_LIST];
    size_t n_listeners;
    bool ending;
    struct guests guests;
    struct refusals refusals;
    struct event *tick;
    size_t n_late; /* connections that wait for a second try */
    uint64_t accepted, crashed, violations;
};

static struct smtp smtp;

/* --- sessions --- */

static enum sp_err start_session(struct smtp *s, struct client *c, bool lmtp, int fd)
{
    struct channels ours;
    /* A client of the LMTP listener is a mail server, which has seen to the sender itself. */
    bool asks = !lmtp && s->role->config->check_sender == CONFIG_YES;
    c->id = ++s->last_id;
    c->channels = (struct client_channels){.id = c->id, .name = c->guest.name, .pid = &c->pid};
    enum sp_err err = channels_open(&c->channels, s->role->base, asks, &ours);
    if (err != SP_OK)
        return err;
    audit_emit(AUDIT_SESSION_OPEN, (uint64_t)c->id, c->guest.name, lmtp ? "lmtp" : "smtp");
    c->began_ms = stream_now_ms();
    c->lmtp = lmtp;
    pid_t pid = fork();
    if (pid == 0)
        child_run(&(struct child){.config = s->role->config,
                                  .tls = s->tls,
                                  .filter = &s->filter,
                                  .id = c->id,
                                  .client = c->guest.name,
                                  .lmtp = lmtp,
                                  .connection = fd,
                                  .channels = ours});
    close(ours.sealer);
    close(ours.keeper);
    if (ours.resolver >= 0)
        close(ours.resolver);
    if (pid > 0) {
        c->pid = pid;
        return SP_OK;
    }
    channels_end(&c->channels);
    return SP_ERR_SYSTEM;
}

/* Its exit status is what a session says of itself; what it says beyond that is a crash. */
static void report_end(struct smtp *s, const struct client *c, int status)
{
    int end = WIFEXITED(status) ? WEXITSTATUS(status) : END_COUNT;
    bool violation = WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
    s->violations += violation;
    s->crashed += end >= END_COUNT;
    if (violation)
        audit_emit(AUDIT_VIOLATION, "session", (uint64_t)c->id, c->guest.name);
    else if (end >= END_COUNT)
        audit_emit(AUDIT_SESSION_CRASHED, (uint64_t)c->id, c->guest.name,
                   (uint64_t)(WIFSIGNALED(status) ? WTERMSIG(status) : 0));
    else if (end != END_WELL)
        refusals_note(&s->refusals, (enum refusal)end, c->id, c->guest.name);
    audit_emit(AUDIT_SESSION_CLOSE, (uint64_t)c->id, c->guest.name, stream_now_ms() - c->began_ms);
}

/* All sessions have the layout of this process: a search for it must not go on for ever, however
 * many addresses take part in it. A mail server in front of us tries a mail that crashes a session
 * again: it is counted, but held off it would keep all other mail back. */
static void punish(struct smtp *s, const struct client *c, int status)
{
    if (!c->lmtp && WIFEXITED(status) && WEXITSTATUS(status) < END_COUNT) {
        unsigned points = refusals_points((enum refusal)WEXITSTATUS(status));
        if (points > 0)
            guests_offended(&s->guests, c->guest.key, points, stream_now_ms());
    }
    if (!WIFSIGNALED(status) || !forked_is_crash(WTERMSIG(status)))
        return;
    guests_crashed(&s->guests, c->lmtp ? NULL : c->guest.key, stream_now_ms());
    if (s->guests.crashes < CRASHES_MAX)
        return;
    role_log("%u sessions crashed: a fresh tree gets another address space layout", CRASHES_MAX);
    _exit(1);
}

static void reap(struct smtp *s)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (size_t i = 0; i < s->role->config->max_sessions; i++) {
            struct client *c = &s->clients[i];
            if (c->pid != pid)
                continue;
            report_end(s, c, status);
            punish(s, c, status);
            channels_end(&c->channels);
            c->pid = 0;
            s->n_clients--;
        }
}

#define NOTHING REFUSAL_COUNT /* is against it */

/* A free place, or why there is none for this client. */
static enum refusal find_place(struct smtp *s, const char *key, bool lmtp, struct client **place)
{
    size_t same = 0;
    *place = NULL;
    if (!lmtp && guests_held(&s->guests, key, stream_now_ms()))
        return REFUSAL_HELD;
    for (size_t i = 0; i < s->role->config->max_sessions; i++) {
        struct client *c = &s->clients[i];
        if (c->pid == 0)
            *place = *place == NULL ? c : *place;
        else if (strcmp(c->guest.key, key) == 0)
            same++;
    }
    if (*place == NULL)
        return REFUSAL_SESSIONS;
    return same >= s->role->config->max_sessions_per_client ? REFUSAL_CLIENT : NOTHING;
}

/* "421 4.7.0 our name: text". */
static void refuse(struct smtp *s, int fd, const char *name, enum refusal why)
{
    char reply[512];
    const char *text = refusals_text(why);
    int n =
        snprintf(reply, sizeof(reply), "%.9s %s%s\r\n", text, s->role->config->hostname, text + 9);
    if (send(fd, reply, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        role_log("a refusal could not be sent");
    refusals_note(&s->refusals, why, 0, name);
}

/* Starts a session, or says why not; either way the connection is no longer ours. */
static void admit(struct smtp *s, int conn, const struct guest *guest, bool lmtp)
{
    struct client *place;
    enum refusal why = s->ending ? REFUSAL_ENDING : find_place(s, guest->key, lmtp, &place);
    if (why == NOTHING) {
        place->guest = *guest;
        if (start_session(s, place, lmtp, conn) == SP_OK) {
            s->n_clients++;
            s->accepted++;
        } else {
            why = REFUSAL_RESOURCES;
        }
    }
    if (why != NOTHING)
        refuse(s, conn, guest->name, why);
    close(conn);
}

/* A connection that waits for a place: a client that goes from one session to the next at once is
 * here before the process of the last one is gone, and has done nothing wrong. */
struct latecomer {
    struct smtp *smtp;
    struct guest guest;
    int conn;
    bool lmtp;
};

static void on_second_try(evutil_socket_t fd, short what, void *arg)
{
    struct latecomer *l = arg;
    (void)fd;
    (void)what;
    l->smtp->n_late--;
    reap(l->smtp);
    admit(l->smtp, l->conn, &l->guest, l->lmtp);
    free(l);
}

/* False if it cannot wait. */
static bool try_later(struct smtp *s, int conn, const struct guest *guest, bool lmtp)
{
    const struct timeval moment = {.tv_usec = SECOND_TRY_US};
    struct latecomer *l = s->n_late < LATE_MAX ? malloc(sizeof(*l)) : NULL;
    if (l == NULL)
        return false;
    *l = (struct latecomer){.smtp = s, .guest = *guest, .conn = conn, .lmtp = lmtp};
    if (event_base_once(s->role->base, -1, EV_TIMEOUT, on_second_try, l, &moment) != 0) {
        free(l);
        return false;
    }
    s->n_late++;
    return true;
}

static void on_arrival(struct smtp *s, int conn, const struct guest *guest, bool lmtp)
{
    struct client *place;
    reap(s);                                      /* those that ended make room first */
    enum guests_verdict verdict = GUESTS_WELCOME; /* LMTP: a server that others' mail comes from */
    if (!lmtp)
        verdict = guests_connected(&s->guests, guest->key, stream_now_ms());
    if (verdict != GUESTS_WELCOME) {
        refuse(s, conn, guest->name, verdict == GUESTS_HELD ? REFUSAL_HELD : REFUSAL_RATE);
        close(conn);
    } else if (find_place(s, guest->key, lmtp, &place) == NOTHING ||
               !try_later(s, conn, guest, lmtp)) {
        admit(s, conn, guest, lmtp);
    }
}

static void on_connection(evutil_socket_t fd, short what, void *arg)
{
    struct listener *l = arg;
    (void)what;
    for (int i = 0; i < ACCEPT_TURN && !l->smtp->ending; i++) {
        struct sockaddr_storage from = {0};
        socklen_t len = sizeof(from);
        int conn = accept4(fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC);
        if (conn < 0)
            return;
        struct guest guest = guest_of(&from);
        on_arrival(l->smtp, conn, &guest, l->lmtp);
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct smtp *s = arg;
    (void)fd;
    (void)what;
    refusals_tick(&s->refusals);
}

static void on_child(evutil_socket_t sig, short what, void *arg)
{
    struct smtp *s = arg;
    (void)sig;
    (void)what;
    reap(s);
    if (s->ending && s->n_clients == 0)
        event_base_loopexit(s->role->base, NULL);
}

/* --- role --- */

/* What a session does without. */
static const char *const unused[] = {"liblmdb.",    "libjansson.", "libinih.",    "libevent",
                                     "libseccomp.", "libsodium.",  "libpthread.", "libunbound.",
                                     "libresolv.",  "libhogweed.", "libnettle.",  "libgmp.",
                                     NULL};

/* Accepted sockets inherit these, so that no process of the cage needs to set them. */
static enum sp_err set_options(const struct config *c)
{
    struct timeval idle = {.tv_sec = (time_t)c->smtp_idle};
    int one = 1;
    for (size_t i = 0; i < c->smtp_listen.count + c->lmtp_listen.count; i++) {
        int fd = FD_EXTRA + (int)i;
        if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof(idle)) != 0 ||
            setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &idle, sizeof(idle)) != 0 ||
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0)
            return SP_ERR_SYSTEM;
    }
    return SP_OK;
}

static enum sp_err prepare(struct role *role)
{
    enum lockmem_kind got;
    smtp.role = role;
    role->state = &smtp;
    /* A session maps the sealer's slots and locks its own TLS heap; it makes no secret memory. */
    enum sp_err err = lockmem_init(LOCKMEM_MLOCK, &got);
    if (err == SP_OK)
        err = lockheap_init(TLS_HEAP_SESSION, 1);
    if (err == SP_OK)
        err = tls_use_lockheap();
    if (err == SP_OK)
        err = tls_init();
    if (err == SP_OK)
        err = sandbox_compile(policy_row("session"), &smtp.filter);
    if (err == SP_OK)
        err = shed_libraries(unused);
    if (err == SP_OK)
        err = set_options(role->config);
    if (err == SP_OK)
        err = guests_init(&smtp.guests, role->config->hold_off * 1000, role->config->smtp_max_rate);
    smtp.clients = calloc(role->config->max_sessions, sizeof(*smtp.clients));
    return err == SP_OK && smtp.clients == NULL ? SP_ERR_MEMORY : err;
}

static enum sp_err add_listener(struct smtp *s, int fd, bool lmtp)
{
    struct listener *l = &s->listeners[s->n_listeners++];
    *l = (struct listener){.smtp = s, .fd = fd, .lmtp = lmtp};
    l->event = event_new(s->role->base, fd, EV_READ | EV_PERSIST, on_connection, l);
    return l->event != NULL ? SP_OK : SP_ERR_MEMORY;
}

static enum sp_err run(struct role *role)
{
    struct smtp *s = role->state;
    const struct config *c = role->config;
    const struct timeval minute = {.tv_sec = REFUSALS_SECONDS};
    struct event *child = evsignal_new(role->base, SIGCHLD, on_child, s);
    enum sp_err err = child != NULL && event_add(child, NULL) == 0 ? SP_OK : SP_ERR_MEMORY;
    s->tick = event_new(role->base, -1, EV_PERSIST, on_tick, s);
    if (s->tick == NULL || event_add(s->tick, &minute) != 0)
        err = SP_ERR_MEMORY;
    for (size_t i = 0; err == SP_OK && i < c->smtp_listen.count + c->lmtp_listen.count; i++)
        err = add_listener(s, FD_EXTRA + (int)i, i >= c->smtp_listen.count);
    return err;
}

/* The certificate chain; with the first one, the doors open. */
static enum sp_err control(struct role *role, struct ipc_frame *frame)
{
    struct smtp *s = role->state;
    SSL_CTX *tls = NULL;
    if (frame->type != CT_CERTIFICATE)
        return SP_ERR_DENIED;
    size_t len = frame->body.left;
    enum sp_err err = tls_server_new((const char *)wire_get_bytes(&frame->body, len), len, &tls);
    if (err != SP_OK) {
        role_log("the certificate cannot be used: %s", sp_err_text(err));
        return s->tls != NULL ? SP_OK : err;
    }
    bool first = s->tls == NULL;
    SSL_CTX_free(s->tls);
    s->tls = tls;
    /* Those who have the old certificate and no use made of it: the keeper has the new key now. */
    for (size_t i = 0; i < role->config->max_sessions; i++)
        if (s->clients[i].pid != 0)
            channels_forget_keeper(&s->clients[i].channels);
    for (size_t i = 0; first && i < s->n_listeners; i++)
        event_add(s->listeners[i].event, NULL);
    return SP_OK;
}

static void on_grace_over(evutil_socket_t fd, short what, void *arg)
{
    struct smtp *s = arg;
    (void)fd;
    (void)what;
    for (size_t i = 0; i < s->role->config->max_sessions; i++)
        if (s->clients[i].pid != 0)
            kill(s->clients[i].pid, SIGKILL);
}

static void stop(struct role *role)
{
    struct smtp *s = role->state;
    struct timeval grace = {.tv_sec = (time_t)role->config->shutdown_grace};
    s->ending = true;
    event_del(s->tick);
    refusals_tick(&s->refusals);
    for (size_t i = 0; i < s->n_listeners; i++)
        event_del(s->listeners[i].event);
    for (size_t i = 0; i < role->config->max_sessions; i++)
        if (s->clients[i].pid != 0)
            kill(s->clients[i].pid, SIGTERM);
    event_base_once(role->base, -1, EV_TIMEOUT, on_grace_over, s, &grace);
    if (s->n_clients == 0)
        event_base_loopexit(role->base, NULL);
}

static void status(struct role *role, struct wire_out *pairs)
{
    const struct smtp *s = role->state;
    role_status_number(pairs, "sessions", s->n_clients);
    role_status_number(pairs, "sessions_accepted", s->accepted);
    role_status_number(pairs, "sessions_crashed", s->crashed);
    role_status_count(pairs, "violations", "session", s->violations);
    refusals_status(&s->refusals, pairs);
    tls_status(s->tls, pairs);
}

const struct role_ops smtp_role = {.id = ROLE_SMTP,
                                   .name = "smtp",
                                   .prepare = prepare,
                                   .run = run,
                                   .stop = stop,
                                   .status = status,
                                   .control = control};
