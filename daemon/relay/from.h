#ifndef SEALPOST_RELAY_FROM_H
#define SEALPOST_RELAY_FROM_H
/*
 * The address in a From field (RFC 5322 3.4, RFC 6532), read so strictly that no other reader can
 * see another address in it: whoever sends is held to their own.
 */
#include "envelope/error.h"

#include <stddef.h>

#define FROM_MAX (64u + 1u + 255u + 1u) /* local@domain and NUL */

/* value: the field's, in canonical form (canon_field), without its name. out: local@domain, quotes
 * removed, ASCII letters of the domain lower-cased; the last '@' is the one between. One mailbox it
 * must be: with a display name (dots in it are taken) or comments if you like. SP_ERR_FORMAT:
 * another (a list, a group, a route, a literal), malformed, or not UTF-8. */
enum sp_err from_parse(const char *value, size_t len, char out[FROM_MAX]);

#endif
