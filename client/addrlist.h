#ifndef SEALPOST_CLIENT_ADDRLIST_H
#define SEALPOST_CLIENT_ADDRLIST_H
/* The addresses in a header field's list, or in an argument (RFC 5322 section 3.4): display names,
 * groups, comments and folding are stepped over, needless quotes removed. Nothing is allocated. */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADDRLIST_MAX 255u /* bytes of one address, "local@domain" */

/* Calls each(ctx, address) for each one, in order; its failure ends it. SP_ERR_FORMAT: the list, or
 * an address in it, cannot be understood for sure (nothing is guessed); SP_ERR_LIMIT: too long. */
enum sp_err addrlist_each(const uint8_t *text, size_t len,
                          enum sp_err (*each)(void *ctx, const char *address), void *ctx);

/* The same but for the case of ASCII letters. */
bool addrlist_same(const char *a, const char *b);

#endif
