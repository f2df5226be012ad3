/* Verb and argument of a command line. The line is the sender's and hostile; what comes out is one
 * of the verbs of the table and a string without NUL, CR or LF. */
#include "daemon/smtp/command.h"

#include <string.h>
#include <strings.h>

static const struct {
    const char *word;
    enum command_verb verb;
} verbs[] = {
    {"HELO", CMD_HELO},    {"EHLO", CMD_EHLO},  {"LHLO", CMD_LHLO},    {"MAIL", CMD_MAIL},
    {"RCPT", CMD_RCPT},    {"DATA", CMD_DATA},  {"BDAT", CMD_BDAT},    {"RSET", CMD_RSET},
    {"NOOP", CMD_NOOP},    {"VRFY", CMD_VRFY},  {"EXPN", CMD_EXPN},    {"HELP", CMD_HELP},
    {"QUIT", CMD_QUIT},    {"GET", CMD_HTTP},   {"POST", CMD_HTTP},    {"PUT", CMD_HTTP},
    {"CONNECT", CMD_HTTP}, {"HEAD", CMD_HTTP},  {"OPTIONS", CMD_HTTP}, {"STARTTLS", CMD_STARTTLS},
    {"DELETE", CMD_HTTP},  {"TRACE", CMD_HTTP}, {"PATCH", CMD_HTTP},
};
#define VERBS (sizeof verbs / sizeof verbs[0])

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static enum command_verb look_up(const char *word, size_t len)
{
    for (size_t i = 0; i < VERBS; i++) {
        if (strlen(verbs[i].word) == len && strncasecmp(verbs[i].word, word, len) == 0)
            return verbs[i].verb;
    }
    return CMD_UNKNOWN;
}

enum command_verb command_verb(const char *line)
{
    return look_up(line, strcspn(line, " \t"));
}

enum sp_err command_split(char *line, size_t len, struct command *out)
{
    size_t at = 0;

    *out = (struct command){.verb = CMD_UNKNOWN, .arg = line + len};
    if (strcspn(line, "\r\n") != len)
        return SP_ERR_FORMAT; /* or a NUL before the end */
    while (len > 0 && is_blank(line[len - 1]))
        len--;
    line[len] = '\0';
    while (at < len && !is_blank(line[at]))
        at++;
    out->verb = look_up(line, at);
    while (at < len && is_blank(line[at]))
        at++;
    out->arg = line + at;
    out->arg_len = len - at;
    return SP_OK;
}

const char *command_name(enum command_verb verb)
{
    if (verb == CMD_HTTP)
        return "HTTP";
    for (size_t i = 0; i < VERBS; i++) {
        if (verbs[i].verb == verb)
            return verbs[i].word;
    }
    return "UNKNOWN";
}

enum sp_err command_bdat(const char *arg, uint64_t *size, bool *last)
{
    uint64_t n = 0;
    size_t digits = 0;

    *size = 0;
    *last = false;
    for (; arg[digits] >= '0' && arg[digits] <= '9'; digits++) {
        const uint64_t digit = (uint64_t)(arg[digits] - '0');
        if (n > (INT64_MAX - digit) / 10)
            return SP_ERR_LIMIT;
        n = n * 10 + digit;
    }
    if (digits == 0)
        return SP_ERR_FORMAT;
    const char *rest = arg + digits;
    while (is_blank(*rest))
        rest++;
    if (*rest != '\0' && (rest == arg + digits || strcasecmp(rest, "LAST") != 0))
        return SP_ERR_FORMAT;
    *last = *rest != '\0';
    *size = n;
    return SP_OK;
}
