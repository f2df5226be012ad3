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
#include <unistd.h>

#define STATUS_SECONDS 5

/* One question is answered at a time; the table grows as roles reply. */
struct operators {
    struct supervisor *s;
    struct event *listener, *deadline;
    struct ipc_peer *asker, *rotator;
    bool watchdog;    /* it is the watchdog that asks: are all alive? */
    bool metrics;     /* it is web that asks */
    unsigned waiting; /* roles that have not replied */
    uint32_t question;
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
    o->metrics = false;
    if (wire_out_ok(&o->cells))
        rows.len = o->cells.len;
    if (web != NULL)
        ipc_peer_send(web, CT_METRICS_REPLY, 0, &rows, -1);
}

static void answer(struct operators *o)
{
    static uint8_t frame[IPC_MAX_PAYLOAD];
    struct wire_out out = wire_out(frame, sizeof(frame));
    wire_put_u8(&out, SP_OK);
    wire_put_str(&out, o->waiting == 0 ? "" : "some roles did not answer");
    wire_put_u16(&out, 3);
    wire_put_u32(&out, o->rows);
    wire_put_bytes(&out, o->cells.at, o->cells.len);
    if (o->watchdog) {
        o->watchdog = false;
        if (o->waiting == 0)
            notify_say("WATCHDOG=1");
    } else if (o->metrics) {
        answer_metrics(o);
    } else if (o->asker != NULL) {
        ipc_peer_send_flags(o->asker, CC_TABLE, CC_LAST, 0, &out, -1);
        ipc_peer_free(o->asker);
    }
    o->asker = NULL;
    o->waiting = 0;
    event_del(o->deadline);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    answer(arg);
}

/* Sends a question to all roles; their replies come to operators_status_reply. */
static enum sp_err ask_roles(struct operators *o, struct ipc_peer *asker, uint16_t type,
                             const struct wire_out *body, unsigned roles)
{
    struct timeval wait = {.tv_sec = STATUS_SECONDS};
    if (o->asker != NULL || o->metrics || o->watchdog)
        return SP_ERR_STATE;
    o->asker = asker;
    o->waiting = 0;
    o->rows = 0;
    o->question++;
    o->cells = wire_out(o->buf, sizeof(o->buf));
    add_text(o, "role", "name", "value");
    add_own(o);
    add_door(o);
    for (int r = 0; r < ROLE_COUNT; r++)
        if ((roles >> r & 1) && o->s->child[r].control != NULL &&
            ipc_peer_send(o->s->child[r].control, type, o->question, body, -1) == SP_OK)
            o->waiting |= 1u << r;
    event_add(o->deadline, &wait);
    return SP_OK;
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
    if (from >= ROLE_COUNT || frame->id != o->question || !(o->waiting >> from & 1)) {
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
    o->waiting &= ~(1u << from);
    if (o->waiting == 0)
        answer(o);
    return SP_OK;
}

void operators_role_gone(struct supervisor *s, enum role_id r)
{
    struct operators *o = s->operators;
    if (o == NULL || !(o->waiting >> r & 1))
        return;
    add_text(o, all_roles[r]->name, "state", "died");
    o->waiting &= ~(1u << r);
    if (o->waiting == 0)
        answer(o);
}

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

static enum sp_err on_status(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    (void)frame;
    return ask_roles(ctx, peer, CT_STATUS, NULL, ~0u);
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

static enum sp_err on_rotate(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct operators *o = ctx;
    (void)frame;
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

enum sp_err operators_metrics(struct supervisor *s)
{
    struct operators *o = s->operators;
    struct ipc_peer *web = s->child[ROLE_WEB].control;
    if (ask_roles(o, NULL, CT_STATUS, NULL, ~0u) != SP_OK)
        return ipc_peer_send(web, CT_METRICS_REPLY, 0, NULL, -1);
    o->metrics = true;
    return SP_OK;
}

/* Whoever else asks sees to it that all are alive as well; the next turn will tell. */
void operators_watchdog(struct supervisor *s)
{
    if (ask_roles(s->operators, NULL, CT_STATUS, NULL, ~0u) == SP_OK)
        s->operators->watchdog = true;
}

#ifdef SEALPOST_TEST
static enum sp_err on_scan(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct wire_out body = {.at = (uint8_t *)(uintptr_t)frame->body.at,
                            .len = frame->body.left,
                            .cap = frame->body.left};
    wire_get_bytes(&frame->body, frame->body.left);
    return ask_roles(ctx, peer, CT_SCAN, &body, ~0u);
}

/* u8 role, b16 action */
static enum sp_err on_probe(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    uint8_t role = wire_get_u8(&frame->body);
    struct wire_out body = {.at = (uint8_t *)(uintptr_t)frame->body.at,
                            .len = frame->body.left,
                            .cap = frame->body.left};
    wire_get_bytes(&frame->body, frame->body.left);
    return role < ROLE_COUNT ? ask_roles(ctx, peer, CT_PROBE, &body, 1u << role) : SP_ERR_FORMAT;
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
    (void)why;
    if (o->asker == peer)
        o->asker = NULL;
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
    if (o->listener == NULL || o->deadline == NULL || event_add(o->listener, NULL) != 0)
        return SP_ERR_MEMORY;
    return SP_OK;
}
