/* The door as a service of its own, in the host's network while the tree's is empty. It trusts its
 * configuration and, of those who connect, root; it reads nothing from them but that they have
 * gone. */
#include "daemon/door/door.h"
#include "daemon/listen.h"
#include "daemon/messages.h"
#include "daemon/notify.h"
#include "sandbox/sandbox.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SUPERVISORS 4u /* at once: one, and for a moment the one before */
#define MAX_KEEP    (LISTEN_COUNT * CONFIG_MAX_LIST + 2)

struct supervised {
    int sock; /* -1: free */
    struct event *end;
    struct door_filling *filling;
};

static struct unit {
    const struct config *config;
    struct listening listening;
    int entrance, notify;
    struct event_base *base;
    struct event *connection, *stop, *watchdog;
    struct supervised at[SUPERVISORS];
} unit;

static void say(const char *what, const char *why)
{
    dprintf(STDERR_FILENO, "sealpostd[door]: %s: %s\n", what, why);
}

/* --- handing over --- */

static enum sp_err send_listeners(int sock)
{
    uint8_t buf[1 + 2 + CONFIG_MAX_TEXT];
    enum sp_err err = SP_OK;
    for (int what = 0; what < LISTEN_COUNT; what++) {
        const struct config_list *list = listen_addresses(unit.config, (enum listen_for)what);
        for (size_t i = 0; err == SP_OK && i < list->count; i++) {
            struct wire_out body = wire_out(buf, sizeof(buf));
            wire_put_u8(&body, (uint8_t)what);
            wire_put_str(&body, list->item[i]);
            err = ipc_send_fd(sock, DS_LISTENER, 0, body.at, body.len, unit.listening.fd[what][i]);
        }
    }
    return err;
}

/* Our ends stay open, in ends, whatever happens. */
static enum sp_err send_channels(int sock, int ends[DOOR_CHANNELS])
{
    enum sp_err err = SP_OK;
    for (size_t i = 0; err == SP_OK && i < DOOR_CHANNELS; i++) {
        int pair[2];
        const uint8_t place = (uint8_t)i;
        err = ipc_pair(pair);
        if (err != SP_OK)
            break;
        ends[i] = pair[0];
        err = door_bound(pair[0]);
        if (err == SP_OK)
            err = ipc_send_fd(sock, DS_CHANNEL, 0, &place, 1, pair[1]);
        close(pair[1]);
    }
    return err;
}

static enum sp_err send_ready(int sock)
{
    uint8_t buf[5];
    struct sandbox_layers layers;
    struct wire_out body = wire_out(buf, sizeof(buf));
    sandbox_layers(&layers);
    wire_put_u32(&body, (uint32_t)layers.landlock_abi);
    wire_put_u8(&body, layers.mdwe);
    return ipc_send_fd(sock, DS_READY, 0, body.at, body.len, -1);
}

static void let_go(struct supervised *s)
{
    if (s->end != NULL)
        event_free(s->end);
    door_fill_end(s->filling);
    close(s->sock);
    *s = (struct supervised){.sock = -1};
}

/* It has gone; or it says something, which is the end as well. */
static void on_end(evutil_socket_t sock, short what, void *arg)
{
    (void)sock;
    (void)what;
    let_go(arg);
}

static enum sp_err serve(struct supervised *s)
{
    int ends[DOOR_CHANNELS];
    memset(ends, -1, sizeof(ends));
    enum sp_err err = send_listeners(s->sock);
    if (err == SP_OK)
        err = send_channels(s->sock, ends);
    if (err == SP_OK)
        err = send_ready(s->sock);
    if (err == SP_OK) {
        s->filling = door_fill(unit.base, ends);
        s->end = event_new(unit.base, s->sock, EV_READ, on_end, s);
        bool ok = s->filling != NULL && s->end != NULL && event_add(s->end, NULL) == 0;
        return ok ? SP_OK : SP_ERR_MEMORY;
    }
    for (size_t i = 0; i < DOOR_CHANNELS; i++)
        if (ends[i] >= 0)
            close(ends[i]);
    return err;
}

static struct supervised *free_place(void)
{
    for (size_t i = 0; i < SUPERVISORS; i++)
        if (unit.at[i].sock < 0)
            return &unit.at[i];
    return NULL;
}

/* Who may connect is the socket's mode; who is served, the kernel's word about the peer. */
static void on_connection(evutil_socket_t entrance, short what, void *arg)
{
    struct ucred who = {.uid = (uid_t)-1};
    socklen_t len = sizeof(who);
    struct supervised *s = free_place();
    (void)what;
    (void)arg;
    int sock = accept4(entrance, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (sock < 0)
        return;
    bool root = getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.uid == 0;
    if (!root || s == NULL) {
        say("a connection is refused", root ? "too many supervisors" : "its uid is not root's");
        close(sock);
        return;
    }
    *s = (struct supervised){.sock = sock};
    enum sp_err err = serve(s);
    if (err == SP_OK)
        return;
    say("a supervisor is not served", sp_err_text(err));
    let_go(s);
}

/* --- start --- */

/* The directory is its own, and its group is root's: the supervisor comes in by that. */
static enum sp_err open_entrance(const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(to.sun_path)) {
        say(path, "too long for a socket's path (107 bytes)");
        return SP_ERR_CONFIG;
    }
    memcpy(to.sun_path, path, strlen(path));
    unit.entrance = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path); /* left over from the one before */
    mode_t mask = umask(0117);
    bool ok = unit.entrance >= 0 && bind(unit.entrance, (struct sockaddr *)&to, sizeof(to)) == 0 &&
              listen(unit.entrance, (int)SUPERVISORS) == 0;
    umask(mask);
    if (!ok)
        say(path, strerror(errno));
    return ok ? SP_OK : SP_ERR_SYSTEM;
}

static void on_stop(evutil_socket_t sig, short what, void *arg)
{
    (void)sig;
    (void)what;
    (void)arg;
    event_base_loopbreak(unit.base);
}

static void tell_manager(const char *state)
{
    if (unit.notify >= 0 && write(unit.notify, state, strlen(state)) < 0)
        say("the service manager", strerror(errno));
}

static void on_watchdog(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg;
    tell_manager("WATCHDOG=1");
}

/* In the cage but for the filter: the loop's own descriptors. */
static enum sp_err prepare(void *ctx)
{
    const struct timeval every = notify_every();
    (void)ctx;
    unit.base = event_base_new();
    if (unit.base == NULL)
        return SP_ERR_MEMORY;
    unit.connection =
        event_new(unit.base, unit.entrance, EV_READ | EV_PERSIST, on_connection, NULL);
    unit.stop = evsignal_new(unit.base, SIGTERM, on_stop, NULL);
    unit.watchdog = event_new(unit.base, -1, EV_PERSIST, on_watchdog, NULL);
    bool ok = unit.connection != NULL && event_add(unit.connection, NULL) == 0 &&
              unit.stop != NULL && event_add(unit.stop, NULL) == 0 && unit.watchdog != NULL;
    if (ok && evutil_timerisset(&every))
        ok = event_add(unit.watchdog, &every) == 0;
    return ok ? SP_OK : SP_ERR_MEMORY;
}

/* As roles have it: nothing to read, and of the places to write to, the service's words alone. */
static enum sp_err let_go_of_terminal(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool ok = null >= 0 && dup2(null, STDIN_FILENO) == STDIN_FILENO &&
              dup2(null, STDOUT_FILENO) == STDOUT_FILENO;
    if (!ok)
        say("/dev/null", strerror(errno));
    return ok ? SP_OK : SP_ERR_SYSTEM;
}

static enum sp_err enter_cage(void)
{
    int keep[MAX_KEEP];
    size_t n = 0;
    const char *step;
    for (int what = 0; what < LISTEN_COUNT; what++)
        for (size_t i = 0; i < listen_addresses(unit.config, (enum listen_for)what)->count; i++)
            keep[n++] = unit.listening.fd[what][i];
    keep[n++] = unit.entrance;
    if (unit.notify >= 0)
        keep[n++] = unit.notify;
    const struct cage cage = {.keep = keep, .n_keep = n, .root = -1, .prepare = prepare};
    enum sp_err err = sandbox_alone(policy_row("door-unit"), &cage, &step);
    if (err != SP_OK)
        dprintf(STDERR_FILENO, "sealpostd[door]: cannot start: step '%s': %s%s%s\n", step,
                sp_err_text(err), errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
    return err;
}

int door_unit_main(const char *path, const struct config *config)
{
    unit = (struct unit){.config = config};
    for (size_t i = 0; i < SUPERVISORS; i++)
        unit.at[i].sock = -1;
    signal(SIGPIPE, SIG_IGN);
    if (geteuid() == 0) {
        say("refuses to be root", "start it as sealpost-door (sealpost-door.service)");
        return 1;
    }
    unit.notify = notify_open();
    if (unit.notify < 0 && errno != 0)
        say("the service manager", strerror(errno));
    enum sp_err err = listen_all(config, &unit.listening);
    if (err == SP_OK)
        err = open_entrance(path);
    if (err == SP_OK)
        err = let_go_of_terminal();
    if (err == SP_OK)
        err = enter_cage();
    if (err != SP_OK)
        return 1;
    tell_manager("READY=1");
    say("ready", path);
    return event_base_dispatch(unit.base) == 0 ? 0 : 1;
}
