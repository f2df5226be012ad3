/* What systemd is told. Its socket's path is in the environment that it made itself. */
#include "daemon/notify.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_MS 100

int notify_open(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    errno = 0;
    if (path == NULL || strlen(path) >= sizeof(to.sun_path))
        return -1;
    memcpy(to.sun_path, path, strlen(path));
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    if (to.sun_path[0] == '@')
        to.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, len) != 0) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

/* A manager that does not read is not waited for: the tree needs its supervisor. */
void notify_say(const char *state)
{
    const struct timeval most = {.tv_usec = PATIENCE_MS * 1000};
    int fd = notify_open();
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof(most));
    bool ok = fd >= 0 ? send(fd, state, strlen(state), MSG_NOSIGNAL) >= 0 : errno == 0;
    if (!ok)
        dprintf(STDERR_FILENO, "sealpostd: cannot notify the service manager\n");
    if (fd >= 0)
        close(fd);
}

struct timeval notify_every(void)
{
    const char *text = getenv("WATCHDOG_USEC");
    unsigned long long us = text != NULL ? strtoull(text, NULL, 10) / 2 : 0;
    return (struct timeval){.tv_sec = (time_t)(us / 1000000), .tv_usec = (long)(us % 1000000)};
}
