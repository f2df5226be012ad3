#ifndef SEALPOST_WEB_PARSE_H
#define SEALPOST_WEB_PARSE_H
/*
 * What comes out of an HTTP request by the client's choice: target, query, Range, Authorization.
 * Pure functions over hostile text, so that a fuzzer and a test can call them alone.
 */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PARSE_MAX_TARGET  2048u /* bytes of a request target */
#define PARSE_MAX_ADDRESS 255u  /* as FORMAT.md section 8 and the store take it */
#define PARSE_TOKEN       32u
#define PARSE_WORD        31u
#define PARSE_LIST_MAX    500u /* entries of a list in one frame (messages.h, SW_LIST) */

/* The values of a pattern's placeholders. */
struct path_args {
    uint8_t id[16];
    uint16_t piece;
    uint16_t address_len;
    char address[PARSE_MAX_ADDRESS]; /* percent-decoded, no controls; not NUL-terminated */
    char build[PARSE_WORD + 1], asset[PARSE_WORD + 1];
};

/* Cuts a request target in origin form (RFC 9112 3.2.1) in two: path_len bytes of path, and the
 * query behind "?" (NULL without one). SP_ERR_LIMIT: too long. SP_ERR_FORMAT: another form, a
 * fragment, a byte outside printable ASCII. */
enum sp_err target_split(const char *target, size_t *path_len, const char **query);

/* True if a header field can be read in one way alone: its name is a token (RFC 9110 5.6.2:
 * "Content-Length :" is somebody else's Content-Length), a Content-Length holds digits and nothing
 * else, a Host names a host and perhaps a port (RFC 9112 3.2). */
bool field_is_plain(const char *name, const char *value);

/* True if the path has the pattern's form: literal segments, and {id} 32 hex digits (either case),
 * {piece} 0..65535 in decimal without leading zeros, {address} percent-encoded UTF-8, {link} an id
 * in 22 digits of base64url, {exposed} the same with "%23" or "%2523" and anything behind, {other}
 * what is neither, {build} and {asset} words of a-z 0-9 . - _. Nothing is normalised: "." and ".."
 * are segments like others, and an empty segment matches nothing. */
bool path_match(const char *pattern, const char *path, size_t len, struct path_args *args);

enum query_key {
    QUERY_AFTER = 1u,
    QUERY_LIMIT = 2u,
    QUERY_OFFSET = 4u,
    QUERY_ANY = 64u,    /* whatever it is: it is not looked at */
    QUERY_MARKED = 128u /* any in which a "#" was rewritten: see query_is_marked */
};

struct query {
    uint64_t after, offset; /* 0 when absent */
    uint32_t limit;         /* PARSE_LIST_DEFAULT when absent; 1 to PARSE_LIST_MAX - 1 */
};
#define PARSE_LIST_DEFAULT 100u

/* The keys in the bit mask allowed, each at most once, with decimal values; text may be NULL.
 * A larger limit than we serve counts as the largest. SP_ERR_FORMAT for anything else. */
enum sp_err query_parse(const char *text, unsigned allowed, struct query *out);

/* True if it holds "%23" or "%2523": mail filters add queries of their own to a link, and those
 * that rewrite its "#" as well put its secret behind them. text may be NULL. */
bool query_is_marked(const char *text);

/* One range of bytes (RFC 9110 14.1.2). */
enum range_kind { RANGE_NONE, RANGE_CLOSED, RANGE_FROM, RANGE_SUFFIX };

struct range {
    enum range_kind kind;
    uint64_t first; /* SUFFIX: bytes wanted from the end */
    uint64_t last;  /* CLOSED: inclusive */
};

/* header may be NULL. What we do not serve (another unit, several ranges, a malformed one) is
 * RANGE_NONE, which means the whole piece (RFC 9110 14.2). */
struct range range_parse(const char *header);
/* Where in total bytes it lies. SP_ERR_NOT_FOUND: it cannot be satisfied (416). */
enum sp_err range_apply(const struct range *range, uint64_t total, uint64_t *first,
                        uint64_t *count);

#define AUTH_SESSION "Sealpost-Session"
#define AUTH_GATE    "Sealpost-Gate"

/* "<scheme> <b64u(token)>", scheme in any case, one space. header may be NULL. On SP_ERR_AUTH token
 * is zeros. */
enum sp_err auth_parse(const char *header, const char *scheme, uint8_t token[PARSE_TOKEN]);

/* {"error": "text"} into out; *len without a NUL. SP_ERR_LIMIT, SP_ERR_FORMAT (no UTF-8). */
enum sp_err error_json(const char *text, char *out, size_t cap, size_t *len);

#endif
