/* Forks a delivery for each lease and buries it. This process passes channels on and opens none: of
 * the mail that its children send it knows a number. */
#include "daemon/relay/deliveries.h"
#include "daemon/audit/events.h"
#include "daemon/door/door.h"
#include "daemon/door/sockets.h"
#include "daemon/forked.h"
#include "daemon/messages.h"
#include "daemon/relay/delivery.h"
#include "sandbox/lockmem.h"

#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whom a delivery talks to, in the order of its channels; the last is left out where the way is
 * known without the DNS. */
static const enum role_id peers[] = {ROLE_STORE, ROLE_KEEPER, ROLE_RESOLVER};
#define N_PEERS (sizeof(peers) / sizeof(peers[0]))
_Static_assert(N_PEERS == DELIVERY_CHANNELS, "one channel for each");

/* --- frames --- */

/* By way of the loop's peer for the store, which has other frames on its way; the others only ever
 * hear of deliveries. */
static enum sp_err tell(struct deliveries *d, enum role_id to, uint16_t type, struct wire_out *body,
                        int fd)
{
    if (to == ROLE_STORE)
        return ipc_peer_send(d->store, type, 0, body, fd);
    return ipc_send_fd(ROLE_FD(to), type, 0, body->at, body->len, fd);
}

static enum sp_err hand_on(struct deliveries *d, enum role_id to, const struct delivery_place *p,
                           int end)
{
    uint8_t buf[12];
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_u32(&body, p->id);
    wire_put_u64(&body, p->lease);
    return tell(d, to, RP_DELIVERY, &body, end);
}

static size_t room(const struct deliveries *d)
{
    size_t taken = d->n_running + d->n_waiting;
    return taken < d->n_places && !d->ending && !d->short_of ? d->n_places - taken : 0;
}

static void tell_ended(struct deliveries *d, uint64_t lease, uint32_t sig)
{
    uint8_t buf[16];
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_u64(&body, lease);
    wire_put_u32(&body, sig);
    wire_put_u32(&body, (uint32_t)room(d));
    if (ipc_peer_send(d->store, SR_ENDED, 0, &body, -1) != SP_OK)
        _exit(1);
}

void deliveries_want(struct deliveries *d)
{
    uint8_t buf[4];
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_u32(&body, (uint32_t)room(d));
    if (ipc_peer_send(d->store, SR_WANT, 0, &body, -1) != SP_OK)
        _exit(1);
}

/* --- start --- */

/* The first touch of a page of locked memory costs as much as forking a small process: so regions
 * are lent again and again. NULL when no more may be locked here: then the delivery makes its own.
 */
static void *lend_vault(struct delivery_place *p)
{
    void *at = NULL;
    if (p->vault == NULL && lockmem_alloc(sizeof(struct vault), &at) == SP_OK)
        p->vault = at; /* children inherit it as yet */
    else if (p->vault != NULL && lockmem_inherit(p->vault, sizeof(struct vault), 1) != SP_OK)
        return NULL;
    return p->vault;
}

/* The next child must not see this one's mail. */
static void keep_vault(const struct delivery_place *p)
{
    if (p->vault != NULL && lockmem_inherit(p->vault, sizeof(struct vault), 0) != SP_OK)
        _exit(1);
}

static _Noreturn void run_child(const struct deliveries *d, void *vault,
                                const int channels[N_PEERS])
{
    const struct delivery_start start = {.config = d->role->config,
                                         .tls = d->tls,
                                         .template = d->template,
                                         .template_len = d->template_len,
                                         .vault = vault};
    static const struct door_source door[] = {{AF_INET, SOCK_STREAM, DELIVERY_TCP4},
                                              {AF_INET6, SOCK_STREAM, DELIVERY_TCP6}};
    const int keep[] = {channels[0], channels[1], DOOR_AT, DOOR_AT + 1, channels[2]};
    delivery_watch_signals();
    forked_keep(keep, d->n_peers + 2);
    door_use(door, sizeof(door) / sizeof(door[0]));
    /* Locked memory is made under the parent's filter; the delivery's own has no call for it. */
    enum sp_err err = delivery_prepare(&start);
    if (err == SP_OK) {
        forked_filter(&d->filter);
        err = delivery_run();
    }
    _exit(err == SP_OK ? 0 : (int)err);
}

/* Channels to all peers, or to none; ours: the delivery's ends. */
static enum sp_err open_channels(struct deliveries *d, const struct delivery_place *p,
                                 int ours[N_PEERS])
{
    size_t n = 0;
    enum sp_err err = SP_OK;
    while (err == SP_OK && n < d->n_peers) {
        int pair[2];
        err = ipc_pair(pair);
        if (err != SP_OK)
            break;
        err = hand_on(d, peers[n], p, pair[1]);
        close(pair[1]);
        if (err == SP_OK)
            ours[n++] = pair[0];
        else
            close(pair[0]);
    }
    while (err != SP_OK && n > 0)
        close(ours[--n]);
    return err;
}

static enum sp_err start(struct deliveries *d, struct delivery_place *p, uint64_t lease)
{
    const struct timeval most = {.tv_sec = DELIVERY_DEADLINE};
    int ours[N_PEERS] = {-1, -1, -1};
    p->id = ++d->last_id;
    p->lease = lease;
    enum sp_err err = open_channels(d, p, ours);
    if (err != SP_OK)
        return err;
    void *vault = lend_vault(p);
    pid_t pid = fork();
    if (pid == 0)
        run_child(d, vault, ours);
    keep_vault(p);
    for (size_t i = 0; i < d->n_peers; i++)
        close(ours[i]);
    if (pid < 0)
        return SP_ERR_SYSTEM;
    p->pid = pid;
    d->n_running++;
    d->started++;
    event_add(p->deadline, &most);
    return SP_OK;
}

/* Or the whole queue would be tried, and fail here, one after the other. */
static void rest(struct deliveries *d)
{
    const struct timeval second = {.tv_sec = 1};
    d->short_of = true;
    event_add(d->again, &second);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
    struct deliveries *d = arg;
    (void)fd;
    (void)what;
    d->short_of = false;
    deliveries_want(d);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct delivery_place *p = arg;
    (void)fd;
    (void)what;
    if (p->pid != 0)
        kill(p->pid, SIGKILL);
}

static struct delivery_place *free_place(struct deliveries *d)
{
    for (size_t i = 0; i < d->n_places; i++)
        if (d->place[i].pid == 0)
            return &d->place[i];
    return NULL;
}

enum sp_err deliveries_start(struct deliveries *d, uint64_t lease)
{
    struct delivery_place *p = free_place(d);
    if (d->ending)
        return SP_OK; /* leases end with the tree */
    if (p == NULL && d->n_waiting == d->n_places)
        return SP_ERR_LIMIT;
    if (p == NULL) {
        d->waiting[d->n_waiting++] = lease;
    } else if (start(d, p, lease) != SP_OK) {
        role_log("a delivery cannot be started");
        rest(d);
        tell_ended(d, lease, SIGTERM); /* the mail is not to blame: no attempt */
    }
    return SP_OK;
}

static void start_waiting(struct deliveries *d)
{
    while (d->n_waiting > 0 && free_place(d) != NULL) {
        uint64_t lease = d->waiting[0];
        d->n_waiting--;
        for (size_t i = 0; i < d->n_waiting; i++)
            d->waiting[i] = d->waiting[i + 1];
        deliveries_start(d, lease);
    }
}

/* --- end --- */

static void report_end(struct deliveries *d, const struct delivery_place *p, int status)
{
    if (WIFEXITED(status)) {
        if (WEXITSTATUS(status) != 0)
            role_log("delivery %u gave up: %s (%d)", p->id,
                     WEXITSTATUS(status) < SP_ERR_COUNT
                         ? sp_err_text((enum sp_err)WEXITSTATUS(status))
                         : "could not put on its cage",
                     WEXITSTATUS(status));
        return;
    }
    int sig = WTERMSIG(status);
    d->violations += sig == SIGSYS;
    if (sig == SIGSYS)
        audit_emit(AUDIT_VIOLATION, "delivery", p->lease, "");
    else if (!d->ending || forked_is_crash(sig))
        audit_emit(AUDIT_DELIVERY_CRASHED, p->lease, (uint64_t)sig);
    if (forked_is_crash(sig) && ++d->crashed >= DELIVERY_CRASHES) {
        role_log("%u deliveries crashed: a fresh tree gets another address space layout",
                 DELIVERY_CRASHES);
        _exit(1);
    }
}

/* Who was told to end, or killed when the grace was over, has not failed. */
static uint32_t end_signal(const struct deliveries *d, int status)
{
    uint32_t sig = WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0;
    return d->ending && !forked_is_crash((int)sig) ? SIGTERM : sig;
}

static void bury(struct deliveries *d, struct delivery_place *p, int status)
{
    report_end(d, p, status);
    if (p->vault != NULL)
        lockmem_wipe(p->vault, sizeof(struct vault)); /* it may have died before it did so itself */
    event_del(p->deadline);
    p->pid = 0;
    d->n_running--;
    tell_ended(d, p->lease, end_signal(d, status));
}

void deliveries_reap(struct deliveries *d)
{
    int status;
    pid_t pid;
    bool any = false;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (size_t i = 0; i < d->n_places; i++)
            if (d->place[i].pid == pid) {
                bury(d, &d->place[i], status);
                any = true;
            }
    if (any && !d->ending)
        start_waiting(d);
}

void deliveries_signal(const struct deliveries *d, int sig)
{
    for (size_t i = 0; i < d->n_places; i++)
        if (d->place[i].pid != 0)
            kill(d->place[i].pid, sig);
}

enum sp_err deliveries_init(struct deliveries *d, size_t n)
{
    struct route r;
    bool literal = d->role->config->relay_mode == RELAY_SMARTHOST &&
                   route_smarthost(d->role->config->smarthost, &r) && r.host[0].literal.len > 0;
    d->n_peers = literal ? N_PEERS - 1 : N_PEERS;
    d->again = evtimer_new(d->role->base, on_again, d);
    d->place = calloc(n, sizeof(*d->place));
    d->waiting = calloc(n, sizeof(*d->waiting));
    if (d->place == NULL || d->waiting == NULL || d->again == NULL)
        return SP_ERR_MEMORY;
    d->n_places = n;
    for (size_t i = 0; i < n; i++) {
        d->place[i].deadline = evtimer_new(d->role->base, on_deadline, &d->place[i]);
        if (d->place[i].deadline == NULL)
            return SP_ERR_MEMORY;
    }
    return SP_OK;
}
