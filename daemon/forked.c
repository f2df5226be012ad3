/* The first steps of a process that was forked to meet a stranger. Its parent is caged and holds no
 * secret, but descriptors of other sessions, which must not come along. */
#include "daemon/forked.h"
#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define EXIT_CHANNELS 71
#define EXIT_FILTER   72
#define HIGH          64 /* channels wait here while the low numbers are laid out */

void forked_keep(const int *channels, size_t n)
{
    int high[FORKED_CHANNELS];
    if (n > FORKED_CHANNELS)
        abort();
    signal(SIGCHLD, SIG_DFL); /* the parent's handler would write to its event loop */
    for (size_t i = 0; i < n; i++)
        if ((high[i] = fcntl(channels[i], F_DUPFD_CLOEXEC, HIGH)) < 0)
            _exit(EXIT_CHANNELS);
    for (size_t i = 0; i < n; i++)
        if (dup2(high[i], FORKED_FIRST + (int)i) < 0)
            _exit(EXIT_CHANNELS);
    if (close_range(FORKED_FIRST + (unsigned)n, ~0u, 0) != 0)
        _exit(EXIT_CHANNELS);
}

void forked_filter(const struct sock_fprog *filter)
{
    if (sandbox_install(filter) != SP_OK)
        _exit(EXIT_FILTER);
}

bool forked_is_crash(int signal)
{
    static const int crash[] = {SIGSYS, SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGTRAP};
    for (size_t i = 0; i < sizeof(crash) / sizeof(crash[0]); i++)
        if (crash[i] == signal)
            return true;
    return false;
}
