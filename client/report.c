/* Words for the user on stderr. Text that came from a server is cleaned by the caller with
 * report_clean before it gets here. */
#include "client/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROGRESS_FROM (1u << 20) /* bytes: below this nobody waits */

static bool progress_shown;
static unsigned progress_last;

static void say(const char *fmt, va_list args)
{
    report_progress_end();
    fputs("sealpost: ", stderr);
    vfprintf(stderr, fmt, args);
}

enum sp_err report_fail(enum sp_err err, const char *fmt, ...)
{
    const char *why = err == SP_ERR_SYSTEM ? strerror(errno) : sp_err_text(err);
    va_list args;
    va_start(args, fmt);
    say(fmt, args);
    va_end(args);
    fprintf(stderr, ": %s\n", why);
    return err;
}

enum sp_err report_plain(enum sp_err err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say(fmt, args);
    va_end(args);
    fputc('\n', stderr);
    return err;
}

void report_note(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say(fmt, args);
    va_end(args);
    fputc('\n', stderr);
}

void report_clean(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < 0x20 || *text > 0x7e)
            *text = '?';
    }
}

void report_time(uint64_t unix_seconds, char out[REPORT_TIME])
{
    time_t t = (time_t)unix_seconds;
    struct tm tm;
    if (unix_seconds == 0 || unix_seconds > INT64_MAX || localtime_r(&t, &tm) == NULL ||
        strftime(out, REPORT_TIME, "%Y-%m-%d %H:%M", &tm) == 0)
        snprintf(out, REPORT_TIME, "-");
}

void report_progress(const char *what, uint64_t done, uint64_t total)
{
    if (total < PROGRESS_FROM || !isatty(STDERR_FILENO))
        return;
    unsigned percent = (unsigned)((double)done * 100 / (double)total);
    if (progress_shown && percent == progress_last)
        return;
    progress_shown = true;
    progress_last = percent;
    fprintf(stderr, "\r%s: %3u%% of %.1f MB", what, percent, (double)total / 1e6);
}

void report_progress_end(void)
{
    if (progress_shown)
        fputs("\r\033[K", stderr);
    progress_shown = false;
}
