/* The control socket: who may connect is the file's mode and the peer's uid. The first frame says
 * who is meant; the store's connections are handed on unread. Status is gathered from all roles. */
#include "daemon/supervisor.h"
#include "daemon/messages.h"
#include "daemon/notify.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STATUS_SECONDS 5
#define METRICS_MS     1000 /* between two questions of web's, which may have been taken over */
#define ASKERS         32u

enum who { WATCHDOG, WEB, OPERATOR };

struct asker {
    enum who who;
    struct ipc_peer *peer; /* an operator's; else NULL */
    uint16_t type;         /* of the frame that roles are sent: CT_STATUS, or a test's */
    unsigned roles;        /* that are sent it; bits */
    uint8_t body[64];      /* of a test's */
    size_t len;
    bool heard; /* by the round under way, which answers it */
};

/* Roles are asked in rounds, one after the other. A round asks what the first of the queue wants to
 * know, and answers whoever wanted to know the same when it began: nobody who asks for status waits
 * for more than two rounds, however often others ask. The table grows as roles reply. */
struct operators {
    struct supervisor *s;
    struct event *listener, *deadline, *metrics_due;
    struct ipc_peer *rotator;
    struct asker queue[ASKERS];
    size_t n_queue;
    uint64_t metrics_ms;       /* when web was last heard */
    uint16_t asked;            /* in the round under way; 0: there is none */
    unsigned waiting, missing; /* roles that have not replied; that cannot */
    uint32_t round;
    struct wire_out cells;
    uint32_t rows;
    uint8_t buf[IPC_MAX_PAYLOAD - 64];
};

static void add_row(struct operators *o, const char *role, const void *name, size_t name_len,
                    const void *value, size_t value_len)
{
    wire_put_str(&o->cells, role);
    wire_put_b16(&o->cells, name, name_len);
    wire_put_b16(&o->cells, value, value_len);
    o->rows++;
}

static void add_text(struct operators *o, const char *role, const char *name, const char *value)
{
    add_row(o, role, name, strlen(name), value, strlen(value));
}

static void add_number(struct operators *o, const char *role, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    add_text(o, role, name, text);
}

static void add_own(struct operators *o)
{
    char name[32];
    add_number(o, "supervisor", "restarts", o->s->restarts);
    add_number(o, "supervisor", "violations_role", o->s->violations);
    for (int r = 0; r < ROLE_COUNT; r++) {
        snprintf(name, sizeof(name), "crashes_%s", all_roles[r]->name);
        if (o->s->crashes[r] > 0)
            add_number(o, "supervisor", name, o->s->crashes[r]);
    }
}

/* A door outside of the tree is not asked: what it has on, it said when it was met. */
static void add_door(struct operators *o)
{
    const struct doorway *door = &o->s->doorway;
    if (door->path == NULL)
        return;
    add_number(o, "door", "pid", (uint64_t)door->pid);
    add_text(o, "door", "service", door->path);
    add_number(o, "door", "landlock_abi", door->landlock_abi);
    add_text(o, "door", "mdwe", door->mdwe ? "yes" : "no");
}

/* Nothing when there is more than a frame holds. */
static void answer_metrics(struct operators *o)
{
    struct ipc_peer *web = o->s->child[ROLE_WEB].control;
    struct wire_out rows = wire_out(o->buf, sizeof(o->buf));
    if (wire_out_ok(&o->cells))
        rows.len = o->cells.len;
    if (web != NULL)
        ipc_peer_send(web, CT_METRICS_REPLY, 0, &rows, -1);
}

static void answer_operator(struct operators *o, struct ipc_peer *peer, bool all)
{
    static uint8_t frame[IPC_MAX_PAYLOAD];
    struct wire_out out = wire_out(frame, sizeof(frame));
    wire_put_u8(&out, SP_OK);
    wire_put_str(&out, all ? "" : "some roles did not answer");
    wire_put_u16(&out, 3);
    wire_put_u32(&out, o->rows);
    wire_put_bytes(&out, o->cells.at, o->cells.len);
    ipc_peer_send_flags(peer, CC_TABLE, CC_LAST, 0, &out, -1);
    ipc_peer_free(peer);
}

/* --- rounds --- */

static void begin_round(struct operators *o)
{
    struct asker *first = &o->queue[0];
    struct wire_out body = {.at = first->body, .len = first->len, .cap = first->len};
    o->asked = first->type;
    o->waiting = o->missing = 0;
    o->rows = 0;
    o->round++;
    o->cells = wire_out(o->buf, sizeof(o->buf));
    add_text(o, "role", "name", "value");
    add_own(o);
    add_door(o);
    for (size_t i = 0; i < o->n_queue; i++)
        o->queue[i].heard = i == 0 || (o->asked == CT_STATUS && o->queue[i].type == CT_STATUS);
    for (int r = 0; r < ROLE_COUNT; r++) {
        struct ipc_peer *role = o->s->child[r].control;
        if (!(first->roles >> r & 1) || !supervisor_has(o->s, r))
            continue;
        if (role != NULL && ipc_peer_send(role, o->asked, o->round, &body, -1) == SP_OK)
            o->waiting |= 1u << r;
        else
            o->missing |= 1u << r;
    }
    const struct timeval wait = {.tv_sec = o->waiting != 0 ? STATUS_SECONDS : 0};
    event_add(o->deadline, &wait);
}

/* Whoever it was that asked: when all roles have answered, all are alive. */
static void end_round(struct operators *o)
{
    size_t kept = 0;
    bool all = o->waiting == 0 && o->missing == 0;
    if (all && o->asked == CT_STATUS)
        notify_say("WATCHDOG=1");
    for (size_t i = 0; i < o->n_queue; i++) {
        const struct asker *a = &o->queue[i];
        if (!a->heard)
            o->queue[kept++] = *a;
        else if (a->who == WEB)
            answer_metrics(o);
        else if (a->who == OPERATOR)
            answer_operator(o, a->peer, all);
    }
    o->n_queue = kept;
    o->asked = 0;
    o->waiting = 0;
    event_del(o->deadline);
    if (o->n_queue > 0)
        begin_round(o);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    end_round(arg);
}

/* SP_ERR_LIMIT: too many wait already. The watchdog and web have a place each. */
static enum sp_err ask(struct operators *o, const struct asker *asker)
{
    if (o->n_queue >= (asker->who == OPERATOR ? ASKERS - 2 : ASKERS))
        return SP_ERR_LIMIT;
    o->queue[o->n_queue++] = *asker;
    if (o->asked == 0)
        begin_round(o);
    return SP_OK;
}

static bool is_queued(const struct operators *o, enum who who)
{
    size_t i = 0;
    while (i < o->n_queue && o->queue[i].who != who)
        i++;
    return i < o->n_queue;
}

static void replied(struct operators *o, enum role_id r)
{
    o->waiting &= ~(1u << r);
    if (o->waiting == 0)
        end_round(o);
}

static void add_pairs(struct operators *o, enum role_id r, struct ipc_frame *frame)
{
    char pid[16];
    snprintf(pid, sizeof(pid), "%d", (int)o->s->child[r].pid);
    add_text(o, all_roles[r]->name, "pid", pid);
    while (frame->body.left > 0) {
        size_t name_len, value_len;
        const uint8_t *name = wire_get_b16(&frame->body, 256, &name_len);
        const uint8_t *value = wire_get_b16(&frame->body, 4096, &value_len);
        if (name != NULL && value != NULL)
            add_row(o, all_roles[r]->name, name, name_len, value, value_len);
    }
}

enum sp_err operators_status_reply(struct supervisor *s, enum role_id from, struct ipc_frame *frame)
{
    struct operators *o = s->operators;
    if (from >= ROLE_COUNT || frame->id != o->round || !(o->waiting >> from & 1)) {
        frame->body.left = 0; /* too late */
        return SP_OK;
    }
    if (frame->type == CT_STATUS_REPLY) {
        add_pairs(o, from, frame);
    } else {
        char value[16];
        snprintf(value, sizeof(value), "%u", wire_get_u32(&frame->body));
        add_text(o, all_roles[from]->name, "result", value);
    }
    replied(o, from);
    return SP_OK;
}

void operators_role_gone(struct supervisor *s, enum role_id r)
{
    struct operators *o = s->operators;
    if (o == NULL || !(o->waiting >> r & 1))
        return;
    add_text(o, all_roles[r]->name, "state", "died");
    o->missing |= 1u << r;
    replied(o, r);
}

/* --- what operators ask --- */

static enum sp_err on_store(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct operators *o = ctx;
    struct ipc_peer *store = o->s->child[ROLE_STORE].control;
    (void)frame;
    if (store == NULL)
        return SP_ERR_STATE;
    enum sp_err err = ipc_peer_send(store, CT_ADMIN, 0, NULL, ipc_peer_socket(peer));
    ipc_peer_free(peer);
    return err;
}

static void say_to(struct ipc_peer *peer, enum sp_err status, const char *text)
{
    uint8_t frame[512];
    struct wire_out out = wire_out(frame, sizeof(frame));
    wire_put_u8(&out, (uint8_t)status);
    wire_put_str(&out, text);
    ipc_peer_send_flags(peer, CC_TABLE, CC_LAST, 0, &out, -1);
    ipc_peer_free(peer);
}

/* The answer ends the connection: nothing else comes on it. */
static enum sp_err ask_for(struct operators *o, struct ipc_peer *peer, struct asker asker)
{
    ipc_permit_only(peer, 0);
    asker.who = OPERATOR;
    asker.peer = peer;
    if (ask(o, &asker) != SP_OK)
        say_to(peer, SP_ERR_LIMIT, "too many ask at once; try again");
    return SP_OK;
}

static enum sp_err on_status(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    (void)frame;
    return ask_for(ctx, peer, (struct asker){.type = CT_STATUS, .roles = ~0u});
}

static enum sp_err on_rotate(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct operators *o = ctx;
    (void)frame;
    ipc_permit_only(peer, 0);
    enum sp_err err = o->rotator == NULL ? rotation_begin(o->s) : SP_ERR_STATE;
    if (err == SP_OK)
        o->rotator = peer;
    else
        say_to(peer, err, err == SP_ERR_STATE ? "a rotation is under way" : "");
    return SP_OK;
}

void operators_rotated(struct supervisor *s, enum sp_err err, uint64_t last)
{
    struct operators *o = s->operators;
    char text[300] = "";
    if (o == NULL || o->rotator == NULL)
        return;
    if (err == SP_OK)
        snprintf(text, sizeof(text), "%.200s.%012llu", s->config->audit_log,
                 (unsigned long long)last);
    say_to(o->rotator, err, text);
    o->rotator = NULL;
}

/* --- web, and the watchdog --- */

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void on_metrics_due(evutil_socket_t fd, short what, void *arg)
{
    struct operators *o = arg;
    (void)fd;
    (void)what;
    o->metrics_ms = now_ms();
    ask(o, &(struct asker){.who = WEB, .type = CT_STATUS, .roles = ~0u});
}

enum sp_err operators_metrics(struct supervisor *s)
{
    struct operators *o = s->operators;
    uint64_t due = o->metrics_ms + METRICS_MS, now = now_ms(), ms = due > now ? due - now : 0;
    const struct timeval wait = {.tv_sec = (time_t)(ms / 1000),
                                 .tv_usec = (long)(ms % 1000) * 1000};
    if (!is_queued(o, WEB) && !event_pending(o->metrics_due, EV_TIMEOUT, NULL))
        event_add(o->metrics_due, &wait);
    return SP_OK;
}

void operators_watchdog(struct supervisor *s)
{
    struct operators *o = s->operators;
    if (!is_queued(o, WATCHDOG))
        ask(o, &(struct asker){.who = WATCHDOG, .type = CT_STATUS, .roles = ~0u});
}

#ifdef SEALPOST_TEST
/* Of a test: the rest of the frame goes to these roles. */
static enum sp_err hand_on(struct operators *o, struct ipc_peer *peer, struct ipc_frame *frame,
                           uint16_t type, unsigned roles)
{
    struct asker asker = {.type = type, .roles = roles, .len = frame->body.left};
    if (asker.len > sizeof(asker.body))
        return SP_ERR_FORMAT;
    wire_get_copy(&frame->body, asker.body, asker.len);
    return ask_for(o, peer, asker);
}

static enum sp_err on_scan(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    return hand_on(ctx, peer, frame, CT_SCAN, ~0u);
}

/* u8 role, b16 action */
static enum sp_err on_probe(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    uint8_t role = wire_get_u8(&frame->body);
    return role < ROLE_COUNT ? hand_on(ctx, peer, frame, CT_PROBE, 1u << role) : SP_ERR_FORMAT;
}
#endif

static const struct ipc_rule rules[] = {
    {CC_STORE, false, true, 0, 0, on_store},   {CC_STATUS, false, true, 0, 0, on_status},
    {CC_ROTATE, false, true, 0, 0, on_rotate},
#ifdef SEALPOST_TEST
    {CC_SCAN, false, true, 3, 64, on_scan},    {CC_PROBE, false, true, 4, 64, on_probe},
#endif
};

static void on_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct operators *o = ctx;
    size_t kept = 0;
    (void)why;
    for (size_t i = 0; i < o->n_queue; i++)
        if (o->queue[i].peer != peer)
            o->queue[kept++] = o->queue[i];
    o->n_queue = kept;
    if (o->rotator == peer)
        o->rotator = NULL;
    ipc_peer_free(peer);
}

static const struct ipc_rules operator_rules = {rules, sizeof(rules) / sizeof(rules[0]), UINT64_MAX,
                                                on_gone};

static void on_connection(evutil_socket_t listener, short what, void *arg)
{
    struct operators *o = arg;
    struct ucred who = {.uid = (uid_t)-1};
    socklen_t len = sizeof(who);
    (void)what;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0 || who.uid != geteuid())
        close(fd);
    else
        ipc_peer_new(o->s->base, fd, &operator_rules, o); /* owns fd, even if it fails */
}

enum sp_err operators_start(struct supervisor *s)
{
    struct operators *o = calloc(1, sizeof(*o));
    if (o == NULL)
        return SP_ERR_MEMORY;
    o->s = s;
    s->operators = o;
    o->listener = event_new(s->base, s->res.control, EV_READ | EV_PERSIST, on_connection, o);
    o->deadline = event_new(s->base, -1, EV_TIMEOUT, on_deadline, o);
    o->metrics_due = event_new(s->base, -1, EV_TIMEOUT, on_metrics_due, o);
    if (o->listener == NULL || o->deadline == NULL || o->metrics_due == NULL ||
        event_add(o->listener, NULL) != 0)
        return SP_ERR_MEMORY;
    return SP_OK;
}
