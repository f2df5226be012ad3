#ifndef SEALPOST_CLIENT_MAILPAGE_H
#define SEALPOST_CLIENT_MAILPAGE_H
/* One page of the mailbox, as the server's JSON tells it (docs/api.md, /v1/mailbox). */
#include "envelope/error.h"
#include "envelope/keys.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ID_HEX    (2u * ID_SIZE) /* a message id as text, without the NUL */
#define MAIL_PAGE 500u           /* messages asked for at once, and the most taken */

struct mail {
    uint64_t seq;
    char id[ID_HEX + 1]; /* lower-case hex digits, and no other character */
    uint64_t received_ms;
    uint64_t bytes;
    uint32_t pieces;
    uint32_t generation;
};

/* Strict: each field there and in range, seq rising from above `after`, at most MAIL_PAGE of them,
 * and no promise of more behind an empty page. On SP_ERR_FORMAT *n is 0. */
enum sp_err mailpage_read(const uint8_t *json, size_t len, uint64_t after,
                          struct mail page[MAIL_PAGE], uint32_t *n, bool *more);

#endif
