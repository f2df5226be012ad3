#ifndef SEALPOST_CLIENT_REPORT_H
#define SEALPOST_CLIENT_REPORT_H
/* What the user is told, on stderr alone. An error is said once, where it is found; its callers
 * only hand the code on. Nothing printed here comes from a message's plaintext or from a key. */
#include "envelope/error.h"

#include <stdint.h>

/* "sealpost: <text>: <words for err>", errno's words for SP_ERR_SYSTEM. Returns err. */
enum sp_err report_fail(enum sp_err err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The same without the words: the text says it all. */
enum sp_err report_plain(enum sp_err err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void report_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Replaces what a terminal might obey (controls, bytes above ASCII) in text that a server sent. */
void report_clean(char *text);

/* A line that is drawn over, when stderr is a terminal and total is large enough to wait for. */
void report_progress(const char *what, uint64_t done, uint64_t total);
void report_progress_end(void);

/* "2026-07-31 18:05", local time; "-" for 0, or a time that the calendar does not have. */
#define REPORT_TIME 32u
void report_time(uint64_t unix_seconds, char out[REPORT_TIME]);

#endif
