#ifndef SEALPOST_RELAY_REPLY_H
#define SEALPOST_RELAY_REPLY_H
/*
 * Reads the replies of an SMTP server (RFC 5321 4.2, RFC 2034), strictly, since what cannot be read
 * in one way alone desynchronises commands and answers:
 *   - only CRLF ends a line; a CR or LF that stands alone is refused (it is how an answer is
 *     smuggled into another). Servers that end lines with a bare LF are not served.
 *   - "NNN text", "NNN-text" or "NNN" with N from 200 to 599; all lines of a reply bear one code.
 *   - lines of at most REPLY_LINE octets, at most REPLY_LINES of them.
 * Anything else is REPLY_BAD: the caller must close the connection. A plain struct, no allocation.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPLY_LINE  2048u /* octets with CRLF; RFC 5321 4.5.3.1.5 asks for 512 */
#define REPLY_LINES 128u
#define REPLY_TEXT  500u

enum reply_event {
    REPLY_MORE, /* all input was used */
    REPLY_NEXT, /* a line of a reply that goes on: line[] */
    REPLY_DONE, /* its last line: line[], and code, enhanced, text of the whole */
    REPLY_BAD,  /* no reply: problem says why; for good */
};

struct reply {
    unsigned code;     /* 200..599 */
    char enhanced[12]; /* "5.1.1", of the code's class, or empty */
    char text[REPLY_TEXT +
              1];          /* all lines, joined by a space, cut; printable ASCII; codes taken off */
    char line[REPLY_LINE]; /* this line behind code and separator; printable ASCII */
    size_t line_len;
    const char *problem; /* a literal */

    /* inner state */
    bool done, cr;
    unsigned lines;
    size_t len, text_len; /* len: octets of raw so far */
    uint8_t raw[REPLY_LINE];
};

/* Before each reply. */
void reply_init(struct reply *r);
/* Reads up to the end of one line; *used: input consumed, what follows is not looked at. Any cut of
 * the input gives the same events. Bytes that are not printable ASCII become '?' (a tab: a space).
 */
enum reply_event reply_push(struct reply *r, const uint8_t *in, size_t len, size_t *used);

#endif
