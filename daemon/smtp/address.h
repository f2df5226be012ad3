#ifndef SEALPOST_SMTP_ADDRESS_H
#define SEALPOST_SMTP_ADDRESS_H
/*
 * Paths and parameters of MAIL and RCPT (RFC 5321 4.1.2, RFC 6531 3.3). Strict: what the grammar
 * does not allow is refused. No globals, nothing allocated. Strings are NUL-terminated.
 */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>

/* RFC 5321 4.5.3.1: octets as sent; quotes, and for the path <, > and a source route, included. The
 * path may be longer than the 256 that must be taken, so that the longest of both parts fit. */
#define ADDRESS_MAX_LOCAL  64u
#define ADDRESS_MAX_DOMAIN 255u
#define ADDRESS_MAX_PATH   512u
/* The longest that address_write() makes, with its NUL. */
#define ADDRESS_MAX_TEXT (2u * ADDRESS_MAX_LOCAL + 2u + 1u + ADDRESS_MAX_DOMAIN + 1u)

struct address {
    char local[ADDRESS_MAX_LOCAL + 1];   /* quotes and backslashes removed; case as sent */
    char domain[ADDRESS_MAX_DOMAIN + 1]; /* ASCII lower-cased; a literal with its brackets */
    bool null;                           /* <>: both are empty */
    bool literal;                        /* the domain is [1.2.3.4] or [ipv6:...] */
    bool utf8;                           /* holds octets above 127: needs SMTPUTF8 */
};

/* What address_parse() may take, ORed together. */
enum {
    ADDRESS_NULL_PATH = 1,  /* <>, for MAIL */
    ADDRESS_POSTMASTER = 2, /* <Postmaster> in any case, for RCPT: local "postmaster", no domain */
    ADDRESS_UTF8 = 4,       /* RFC 6531: valid UTF-8 without C1 controls */
};

/* "FROM:" or "TO:" in any case at *at, and one tolerated space: moves *at behind them. False, and
 * *at as it was, if it is not there. */
bool address_keyword(const char **at, const char *keyword);

/* Reads the path "<...>" that text begins with. *end: behind its '>' (followed by the end of the
 * text or a space, or it is refused). A source route is read and dropped (RFC 5321 appendix C).
 * SP_ERR_FORMAT: malformed (501 5.1.3 or 5.1.7). SP_ERR_LIMIT: too long. SP_ERR_DENIED: it holds
 * octets above 127 and ADDRESS_UTF8 is not set (550 or 553 5.6.7). On an error *out is all zero.
 * For MAIL, where SMTPUTF8 comes behind the path: allow ADDRESS_UTF8, then look at out->utf8. */
enum sp_err address_parse(const char *text, unsigned allow, struct address *out, const char **end);

/* Writes "local@domain", the local part quoted where it must be ("" for <>); SP_ERR_LIMIT if it
 * does not fit into cap bytes (ADDRESS_MAX_TEXT always do). For Received: and Return-Path:. */
enum sp_err address_write(const struct address *a, char *out, size_t cap);

/* The same for an address kept plainly ("local@domain", its local part unquoted); "" if it cannot
 * be written. For header fields. */
void address_write_text(const char *plain, char out[ADDRESS_MAX_TEXT]);

#define ADDRESS_MAX_KEY 32u

struct address_param {
    char key[ADDRESS_MAX_KEY + 1]; /* upper-cased */
    const char *value;             /* into the text, not NUL-terminated; NULL: no "=" */
    size_t value_len;              /* 1 or more, when there is a value */
};

/* The next ESMTP parameter of what follows a path; *at moves on. SP_ERR_NOT_FOUND: no more of them.
 * SP_ERR_FORMAT: malformed (501 5.5.4). Octets above 127 may stand in values (RFC 6531 3.3) as
 * valid UTF-8. */
enum sp_err address_param_next(const char **at, struct address_param *out);

/* The value is an unsigned decimal of at most 20 digits that fits: SIZE=. */
enum sp_err address_param_number(const struct address_param *p, unsigned long long *out);
/* The value is this word, in any case: BODY=. */
bool address_param_is(const struct address_param *p, const char *word);

#endif
