#ifndef SEALPOST_SMTP_LINES_H
#define SEALPOST_SMTP_LINES_H
/*
 * Reads command lines off the network, strictly: only CRLF ends a line (RFC 5321 2.3.8). A line
 * that is too long or holds what it must not is swallowed whole and reported once, so that no part
 * of it is ever run as a command. A plain struct, nothing allocated.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINES_MAX 4096u /* octets, with the CRLF (RFC 5321 4.5.3.1.4 and extensions) */

enum lines_event {
    LINES_MORE, /* no line is complete: all input was used */
    LINES_LINE, /* a line, NUL-terminated, without its CRLF */
    LINES_LONG, /* the end of a line that was too long: 500 5.5.2 */
    LINES_BARE, /* ... that held a bare CR or LF: 500 5.5.2 */
    LINES_NUL,  /* ... that held a NUL: 501 5.5.2 */
};

struct lines {
    size_t len; /* octets of the line so far, in buf or (when too long) dropped */
    bool cr;    /* the last octet was a CR */
    bool bare;  /* a bare CR or LF was seen */
    bool nul;   /* a NUL was seen */
    char buf[LINES_MAX];
};

void lines_init(struct lines *l);

/* Reads up to the end of one line. *used: input consumed; what follows it is not looked at. On
 * LINES_LINE *line and *line_len are the line, which is in l, may be written to, and is good until
 * the next call. Any cut of the input gives the same events. */
enum lines_event lines_push(struct lines *l, const uint8_t *in, size_t len, size_t *used,
                            char **line, size_t *line_len);

/* True if an unfinished line is waiting for its rest (what was sent behind STARTTLS:
 * CVE-2011-0411). */
bool lines_pending(const struct lines *l);

#endif
