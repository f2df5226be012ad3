/* Opens what the settings say that is listened on: by the supervisor, or by the door where that is
 * a service of its own. The settings are the operator's. */
#include "daemon/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG    512
#define BIND_TRIES 30 /* 100 ms apart */

static void say(const char *what, const char *why)
{
    dprintf(STDERR_FILENO, "sealpostd: %s: %s\n", what, why);
}

/* The roles of a tree that was just killed may take a moment to let go of the address. */
static bool bind_patiently(int fd, const struct addrinfo *ai)
{
    static const struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
    for (int tries = 0; tries < BIND_TRIES; tries++) {
        if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0)
            return true;
        if (errno != EADDRINUSE)
            return false;
        nanosleep(&pause, NULL);
    }
    errno = EADDRINUSE;
    return false;
}

static enum sp_err listen_on(const char *text, int *out)
{
    struct addrinfo *ai = config_address(text);
    *out = -1;
    if (ai == NULL) {
        say(text, "not an address; write 192.0.2.1:25 or [2001:db8::1]:25");
        return SP_ERR_CONFIG;
    }
    int one = 1, fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (fd >= 0 && ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    bool ok = fd >= 0 && bind_patiently(fd, ai) && listen(fd, BACKLOG) == 0;
    enum sp_err err = ok ? SP_OK : SP_ERR_SYSTEM;
    if (!ok)
        say(text, strerror(errno));
    freeaddrinfo(ai);
    if (ok)
        *out = fd;
    else if (fd >= 0)
        close(fd);
    return err;
}

const struct config_list *listen_addresses(const struct config *c, enum listen_for what)
{
    const struct config_list *const lists[LISTEN_COUNT] = {[LISTEN_SMTP] = &c->smtp_listen,
                                                           [LISTEN_LMTP] = &c->lmtp_listen,
                                                           [LISTEN_WEB] = &c->web_listen,
                                                           [LISTEN_METRICS] = &c->metrics_listen};
    return lists[what];
}

enum sp_err listen_all(const struct config *c, struct listening *out)
{
    enum sp_err err = SP_OK;
    for (int what = 0; what < LISTEN_COUNT; what++) {
        const struct config_list *list = listen_addresses(c, (enum listen_for)what);
        for (size_t i = 0; err == SP_OK && i < list->count; i++)
            err = listen_on(list->item[i], &out->fd[what][i]);
    }
    return err;
}
