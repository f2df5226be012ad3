/* Reading and writing of whole ranges. No trust involved: the callers check what they read. */
#include "client/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum sp_err file_write(int fd, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return SP_ERR_SYSTEM;
        at += n;
        len -= (size_t)n;
    }
    return SP_OK;
}

enum sp_err file_pread(int fd, void *out, size_t len, uint64_t at)
{
    uint8_t *to = out;
    while (len > 0) {
        ssize_t n = pread(fd, to, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return SP_ERR_SYSTEM;
        if (n == 0)
            return SP_ERR_FORMAT;
        to += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return SP_OK;
}

enum sp_err file_pwrite(int fd, const void *bytes, size_t len, uint64_t at)
{
    const uint8_t *from = bytes;
    while (len > 0) {
        ssize_t n = pwrite(fd, from, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return SP_ERR_SYSTEM;
        from += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return SP_OK;
}

enum sp_err file_mkdirs(const char *path)
{
    char part[PATH_MAX];
    int n = snprintf(part, sizeof part, "%s", path);
    if (n <= 0 || (size_t)n >= sizeof part)
        return SP_ERR_LIMIT;
    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char end = *p;
        *p = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return SP_ERR_SYSTEM;
        if (end == '\0')
            return SP_OK;
        *p = end;
    }
}
