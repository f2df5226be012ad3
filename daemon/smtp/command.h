#ifndef SEALPOST_SMTP_COMMAND_H
#define SEALPOST_SMTP_COMMAND_H
/* Splits a command line into verb and argument (RFC 5321 4.1.1, 2.4: verbs in any case). */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum command_verb {
    CMD_UNKNOWN, /* 500 5.5.1 */
    CMD_HELO,
    CMD_EHLO,
    CMD_LHLO,
    CMD_MAIL,
    CMD_RCPT,
    CMD_DATA,
    CMD_BDAT,
    CMD_RSET,
    CMD_NOOP,
    CMD_VRFY,
    CMD_EXPN,
    CMD_HELP,
    CMD_QUIT,
    CMD_STARTTLS,
    CMD_HTTP, /* a browser was talked into talking to us: 421 and close */
    CMD_COUNT
};

struct command {
    enum command_verb verb;
    char *arg; /* NUL-terminated, blanks around it removed; "" if there is none. Into the line */
    size_t arg_len; /* its length */
};

/* Splits a line of len bytes without its CRLF; line[len] must be NUL; the line is written to
 * (blanks at its end are cut off, RFC 5321 4.1.1). SP_ERR_FORMAT if it holds a NUL, CR or LF. An
 * unknown or missing verb is SP_OK with CMD_UNKNOWN. */
enum sp_err command_split(char *line, size_t len, struct command *out);

/* The verb that a line begins with, however it goes on. */
enum command_verb command_verb(const char *line);

/* The verb's name in capitals, for the log; "UNKNOWN", "HTTP". */
const char *command_name(enum command_verb verb);

/* The argument of BDAT: "SIZE" or "SIZE LAST" (RFC 3030 2). SP_ERR_FORMAT when it is anything else,
 * so that framing is lost; SP_ERR_LIMIT when the size is over 2^63 - 1. */
enum sp_err command_bdat(const char *arg, uint64_t *size, bool *last);

#endif
