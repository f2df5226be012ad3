/* Who is connected to whom. An edge that is not in edges[] does not exist as a socket. Each role is
 * a new program image (own address-space layout) in its own PID namespace, with its own descriptors
 * alone. */
#include "daemon/supervisor.h"
#include "daemon/door/door.h"
#include "daemon/messages.h"
#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HIGH_FD 200 /* descriptors wait here while the low numbers are laid out */
#define MAX_MAP 64

const struct role_ops *const all_roles[ROLE_COUNT] = {
    [ROLE_SMTP] = &smtp_role,     [ROLE_SEALER] = &sealer_role,     [ROLE_STORE] = &store_role,
    [ROLE_KEEPER] = &keeper_role, [ROLE_WEB] = &web_role,           [ROLE_AUDIT] = &audit_role,
    [ROLE_RELAY] = &relay_role,   [ROLE_RESOLVER] = &resolver_role, [ROLE_DOOR] = &door_role,
};

static bool checks_senders(const struct config *c)
{
    return c->check_sender == CONFIG_YES;
}

/* wanted: not NULL: whether a setting asks for it. */
static const struct {
    enum role_id a, b;
    bool (*wanted)(const struct config *c);
} edges[] = {
    {ROLE_SMTP, ROLE_SEALER, NULL},
    {ROLE_SMTP, ROLE_KEEPER, NULL},
    {ROLE_SMTP, ROLE_RESOLVER, checks_senders},
    {ROLE_SEALER, ROLE_STORE, NULL},
    {ROLE_WEB, ROLE_STORE, NULL},
    {ROLE_WEB, ROLE_KEEPER, NULL},
    {ROLE_RELAY, ROLE_STORE, NULL},
    {ROLE_RELAY, ROLE_KEEPER, NULL},
    {ROLE_RELAY, ROLE_RESOLVER, NULL},
    {ROLE_STORE, ROLE_KEEPER, NULL},
};

/* Which descriptor of ours becomes which number of a role's. */
struct fd_map {
    size_t n;
    struct {
        int from, to;
    } at[MAX_MAP];
};

struct plan {
    struct fd_map map[ROLE_COUNT];
    int control[ROLE_COUNT]; /* our ends */
    int audit;
};

static void map_fd(struct fd_map *map, int from, int to)
{
    if (map->n == MAX_MAP)
        abort();
    map->at[map->n].from = from;
    map->at[map->n++].to = to;
}

static enum sp_err connect_roles(struct plan *plan, enum role_id a, int fd_of_a, enum role_id b,
                                 int fd_of_b)
{
    int pair[2];
    enum sp_err err = ipc_pair(pair);
    if (err != SP_OK)
        return err;
    map_fd(&plan->map[a], pair[0], fd_of_a);
    map_fd(&plan->map[b], pair[1], fd_of_b);
    return SP_OK;
}

/* Ends of pairs whose other end stays with the supervisor. */
static enum sp_err connect_supervisor(struct fd_map *map, int fd_of_role, int *ours)
{
    int pair[2];
    enum sp_err err = ipc_pair(pair);
    if (err != SP_OK)
        return err;
    map_fd(map, pair[0], fd_of_role);
    *ours = pair[1];
    return SP_OK;
}

/* Ways to take sockets from the door: its other ends are a role's of this tree, or come from it. */
static enum sp_err connect_door(struct supervisor *s, struct plan *plan)
{
    enum sp_err err = SP_OK;
    for (size_t i = 0; err == SP_OK && i < DOOR_CHANNELS; i++) {
        const struct door_channel *c = &door_channels[i];
        if (s->doorway.path == NULL)
            err = connect_roles(plan, ROLE_DOOR, FD_EXTRA + (int)i, c->to, c->at);
        else
            map_fd(&plan->map[c->to], doorway_take(s, i), c->at);
    }
    return err;
}

/* The door has nothing to report, and no way to. */
static bool reports(int r)
{
    return r != ROLE_AUDIT && r != ROLE_DOOR;
}

static enum sp_err make_plan(struct supervisor *s, struct plan *plan)
{
    const struct config *c = s->config;
    enum sp_err err = connect_door(s, plan);
    for (size_t i = 0; err == SP_OK && i < sizeof(edges) / sizeof(edges[0]); i++)
        if (edges[i].wanted == NULL || edges[i].wanted(c))
            err = connect_roles(plan, edges[i].a, ROLE_FD(edges[i].b), edges[i].b,
                                ROLE_FD(edges[i].a));
    for (int r = 0; err == SP_OK && r < ROLE_COUNT; r++) {
        if (supervisor_has(s, r))
            err = connect_supervisor(&plan->map[r], FD_CONTROL, &plan->control[r]);
        if (err == SP_OK && reports(r))
            err = connect_roles(plan, (enum role_id)r, FD_AUDIT, ROLE_AUDIT, ROLE_FD(r));
    }
    if (err == SP_OK)
        err = connect_supervisor(&plan->map[ROLE_AUDIT], FD_EXTRA, &plan->audit);
    return err;
}

/* What is opened once belongs to every tree: duplicates, so that closing a plan leaves it open. */
static void add_resource(struct fd_map *map, int fd, int to)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0)
        abort();
    map_fd(map, copy, to);
}

/* What may have changed since the last tree is opened anew; what is not there stays closed. */
static void add_fresh(struct fd_map *map, int fd, int to)
{
    if (fd >= 0)
        map_fd(map, fd, to);
}

/* Those of two settings, one behind the other. */
static void add_listeners(struct supervisor *s, struct fd_map *map, enum listen_for first,
                          enum listen_for second)
{
    const enum listen_for both[] = {first, second};
    int to = FD_EXTRA;
    for (size_t n = 0; n < 2; n++)
        for (size_t i = 0; i < listen_addresses(s->config, both[n])->count; i++)
            add_resource(map, s->res.listening.fd[both[n]][i], to++);
}

static void add_resources(struct supervisor *s, struct plan *plan)
{
    const struct config *c = s->config;
    const struct resources *res = &s->res;
    add_listeners(s, &plan->map[ROLE_SMTP], LISTEN_SMTP, LISTEN_LMTP);
    add_listeners(s, &plan->map[ROLE_WEB], LISTEN_WEB, LISTEN_METRICS);
    add_fresh(&plan->map[ROLE_RESOLVER], resources_resolv_conf(), FD_EXTRA);
    add_fresh(&plan->map[ROLE_RESOLVER], resources_trust_anchor(c), FD_EXTRA + 1);
    add_resource(&plan->map[ROLE_AUDIT], res->audit_log, FD_EXTRA + 1);
    add_resource(&plan->map[ROLE_AUDIT], res->audit_key, FD_EXTRA + 2);
    if (res->relay_ca >= 0)
        add_resource(&plan->map[ROLE_RELAY], res->relay_ca, FD_EXTRA);
    if (res->link_template >= 0)
        add_resource(&plan->map[ROLE_RELAY], res->link_template, FD_EXTRA + 1);
    add_resource(&plan->map[ROLE_KEEPER], res->keeper_key, FD_EXTRA);
    add_resource(&plan->map[ROLE_KEEPER], res->slots, FD_EXTRA + 1);
    for (int r = 0; r < ROLE_COUNT; r++)
        add_resource(&plan->map[r], r == ROLE_STORE ? res->data_dir : res->empty_dir, FD_ROOT);
}

/* In the child: lays out the descriptors, then becomes the role. */
static void become(struct supervisor *s, const struct fd_map *map, enum role_id r)
{
    char uid[16];
    int high[MAX_MAP], null = open("/dev/null", O_RDWR | O_CLOEXEC);
    sigset_t none;
    /* Or a role's kill(0) would mean the supervisor as well: a process group is one across process
     * namespaces. */
    if (setsid() < 0)
        _exit(71);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (size_t i = 0; i < map->n; i++)
        if ((high[i] = fcntl(map->at[i].from, F_DUPFD_CLOEXEC, HIGH_FD)) < 0)
            _exit(71);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
        _exit(71);
    for (size_t i = 0; i < map->n; i++)
        if (dup2(high[i], map->at[i].to) < 0)
            _exit(71);
    snprintf(uid, sizeof(uid), "%u", (unsigned)s->uid[r]);
    const char *argv[10] = {"sealpostd", "--role", all_roles[r]->name, "--uid", uid};
    size_t n = 5;
    if (s->user_mode)
        argv[n++] = "--user-mode";
#ifdef SEALPOST_TEST
    if (sandbox_break != NULL) {
        argv[n++] = "--break";
        argv[n++] = sandbox_break;
    }
#endif
    char *envp[] = {NULL};
    execve("/proc/self/exe", (char *const *)(uintptr_t)argv, envp);
    _exit(72);
}

static enum sp_err start_role(struct supervisor *s, struct plan *plan, enum role_id r)
{
    unsigned long flags = CLONE_NEWPID | SIGCHLD;
#ifdef SEALPOST_TEST
    if (sandbox_breaks(policy_row(all_roles[r]->name), "process namespace"))
        flags = SIGCHLD;
#endif
    long pid = syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);
    if (pid < 0)
        return SP_ERR_SYSTEM;
    if (pid == 0)
        become(s, &plan->map[r], r);
    s->child[r] = (struct child){.pid = (pid_t)pid};
    return SP_OK;
}

static void close_plan(struct plan *plan)
{
    for (int r = 0; r < ROLE_COUNT; r++)
        for (size_t i = 0; i < plan->map[r].n; i++)
            close(plan->map[r].at[i].from);
}

static enum sp_err send_slice(struct supervisor *s, enum role_id r)
{
    static char text[IPC_MAX_PAYLOAD];
    size_t len;
    enum sp_err err = config_slice(s->config, 1u << r, text, sizeof(text), &len);
    struct wire_out body = {.at = (uint8_t *)text, .len = len, .cap = sizeof(text)};
    if (err == SP_OK)
        err = ipc_peer_send(s->child[r].control, CT_CONFIG, 0, &body, -1);
    return err;
}

enum sp_err wiring_start(struct supervisor *s, const struct ipc_rules *control_rules)
{
    struct plan plan = {.audit = -1};
    enum sp_err err = make_plan(s, &plan);
    if (err == SP_OK)
        add_resources(s, &plan);
    for (int r = 0; err == SP_OK && r < ROLE_COUNT; r++)
        if (supervisor_has(s, r))
            err = start_role(s, &plan, (enum role_id)r);
    close_plan(&plan);
    if (err == SP_OK && dup3(plan.audit, FD_AUDIT, O_CLOEXEC) < 0)
        err = SP_ERR_SYSTEM;
    if (plan.audit >= 0)
        close(plan.audit);
    for (int r = 0; err == SP_OK && r < ROLE_COUNT; r++) {
        if (!supervisor_has(s, r))
            continue;
        s->child[r].control = ipc_peer_new(s->base, plan.control[r], control_rules, s);
        err = s->child[r].control != NULL ? send_slice(s, (enum role_id)r) : SP_ERR_MEMORY;
    }
    return err;
}
