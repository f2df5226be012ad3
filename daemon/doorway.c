/* The supervisor's way to a door outside of its tree. The door is less trusted than the supervisor:
 * it makes no socket of its own choice (it gives what the settings name, in their order), and what
 * it gives has to be of the kind that it is said to be. */
#include "daemon/supervisor.h"
#include "daemon/messages.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_SECONDS 10
#define FRAME          (IPC_HEADER + 1 + 2 + CONFIG_MAX_TEXT)

static enum sp_err fail(const struct supervisor *s, const char *why)
{
    dprintf(STDERR_FILENO, "sealpostd: the door at %s %s\n", s->doorway.path, why);
    return SP_ERR_PEER;
}

static void let_go(struct doorway *d)
{
    if (d->sock < 0)
        return;
    event_free(d->end);
    close(d->sock);
    d->end = NULL;
    d->sock = -1;
    for (size_t i = 0; i < DOOR_CHANNELS; i++)
        if (d->channel[i] >= 0)
            close(d->channel[i]);
}

static bool is_socket(int fd, int family, int type, int listening)
{
    const int names[] = {SO_DOMAIN, SO_TYPE, SO_ACCEPTCONN}, want[] = {family, type, listening};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        int got = -1;
        socklen_t len = sizeof(got);
        if (getsockopt(fd, SOL_SOCKET, names[i], &got, &len) != 0 || got != want[i])
            return false;
    }
    return true;
}

/* The next frame must be this one; its descriptor, or -1, is the caller's. */
static enum sp_err expect(struct supervisor *s, uint16_t type, uint8_t buf[FRAME],
                          struct ipc_frame *frame)
{
    enum sp_err err = ipc_recv(s->doorway.sock, buf, FRAME, frame);
    if (err != SP_OK)
        return fail(s, "does not answer as it should");
    if (frame->type == type && (frame->fd >= 0) == (type != DS_READY))
        return SP_OK;
    if (frame->fd >= 0)
        close(frame->fd);
    return fail(s, "has other listeners than the configuration: restart it, too");
}

/* One that is meant for this setting: the door may have been started before it was changed. */
static enum sp_err take_listener(struct supervisor *s, enum listen_for what, size_t i)
{
    uint8_t buf[FRAME];
    struct ipc_frame frame;
    const char *want = listen_addresses(s->config, what)->item[i];
    enum sp_err err = expect(s, DS_LISTENER, buf, &frame);
    if (err != SP_OK)
        return err;
    size_t len = 0;
    uint8_t list = wire_get_u8(&frame.body);
    const uint8_t *text = wire_get_b16(&frame.body, CONFIG_MAX_TEXT, &len);
    bool same = wire_in_done(&frame.body) && list == what && text != NULL && len == strlen(want) &&
                memcmp(text, want, len) == 0;
    if (same && is_socket(frame.fd, want[0] == '[' ? AF_INET6 : AF_INET, SOCK_STREAM, 1)) {
        int *place = &s->res.listening.fd[what][i];
        if (*place > 0)
            close(*place);
        *place = frame.fd;
        return SP_OK;
    }
    close(frame.fd);
    return fail(s, same ? "gives no listening socket where there should be one"
                        : "has other listeners than the configuration: restart it, too");
}

static enum sp_err take_channel(struct supervisor *s, size_t i)
{
    uint8_t buf[FRAME];
    struct ipc_frame frame;
    enum sp_err err = expect(s, DS_CHANNEL, buf, &frame);
    if (err != SP_OK)
        return err;
    s->doorway.channel[i] = frame.fd;
    bool right = wire_get_u8(&frame.body) == i && wire_in_done(&frame.body) &&
                 is_socket(frame.fd, AF_UNIX, SOCK_SEQPACKET, 0);
    return right ? SP_OK : fail(s, "gives no channel where there should be one");
}

static enum sp_err take_all(struct supervisor *s)
{
    uint8_t buf[FRAME];
    struct ipc_frame frame;
    enum sp_err err = SP_OK;
    for (int what = 0; what < LISTEN_COUNT; what++)
        for (size_t i = 0; i < listen_addresses(s->config, (enum listen_for)what)->count; i++)
            if (err == SP_OK)
                err = take_listener(s, (enum listen_for)what, i);
    for (size_t i = 0; err == SP_OK && i < DOOR_CHANNELS; i++)
        err = take_channel(s, i);
    if (err == SP_OK)
        err = expect(s, DS_READY, buf, &frame);
    if (err != SP_OK)
        return err;
    s->doorway.landlock_abi = wire_get_u32(&frame.body);
    s->doorway.mdwe = wire_get_u8(&frame.body) != 0;
    return wire_in_done(&frame.body) ? SP_OK : fail(s, "does not say what its cage is of");
}

/* Whoever put a socket of his own there would stand between the appliance and the world. */
static enum sp_err check_peer(struct supervisor *s)
{
    struct ucred who = {.uid = (uid_t)-1};
    socklen_t len = sizeof(who);
    if (getsockopt(s->doorway.sock, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0 ||
        who.uid != s->uid[ROLE_DOOR])
        return fail(s, "does not run as sealpost-door: it is not believed");
    s->doorway.pid = who.pid;
    return SP_OK;
}

static enum sp_err knock(struct supervisor *s)
{
    const struct timeval most = {.tv_sec = ANSWER_SECONDS};
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t len = strlen(s->doorway.path);
    int sock = s->doorway.sock;
    if (len >= sizeof(to.sun_path))
        return fail(s, "has too long a path (107 bytes)");
    memcpy(to.sun_path, s->doorway.path, len);
    if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof(most)) != 0 ||
        connect(sock, (struct sockaddr *)&to, sizeof(to)) != 0) {
        int why = errno;
        fail(s, "does not open; is sealpost-door.service running?");
        errno = why;
        return SP_ERR_SYSTEM;
    }
    return check_peer(s);
}

enum sp_err doorway_open(struct supervisor *s, void (*gone)(evutil_socket_t, short, void *))
{
    struct doorway *d = &s->doorway;
    let_go(d);
    memset(d->channel, -1, sizeof(d->channel));
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return SP_ERR_SYSTEM;
    d->end = event_new(s->base, sock, EV_READ | EV_PERSIST, gone, s);
    if (d->end == NULL) {
        close(sock);
        return SP_ERR_MEMORY;
    }
    d->sock = sock;
    enum sp_err err = knock(s);
    if (err == SP_OK)
        err = take_all(s);
    if (err == SP_OK && event_add(d->end, NULL) != 0)
        err = SP_ERR_MEMORY;
    return err;
}

int doorway_take(struct supervisor *s, size_t i)
{
    int channel = s->doorway.channel[i];
    s->doorway.channel[i] = -1;
    return channel;
}
