#ifndef SEALPOST_CLIENT_HEADER_H
#define SEALPOST_CLIENT_HEADER_H
/* The header of a message that is about to be sent: gathered in locked memory while it streams in,
 * asked for its addresses, and written out without Bcc and with what was missing. */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEADER_MAX (256u * 1024u)

/* The fields that a sender has to know about. */
enum header_field { HEADER_FROM, HEADER_TO, HEADER_CC, HEADER_BCC, HEADER_DATE, HEADER_ID };

struct header;

/* NULL: no memory. */
struct header *header_new(void);
void header_free(struct header *h); /* wipes */

/* Takes bytes whose lines end in CRLF, and says how many it took: fewer than len once the header is
 * over (*done). It ends at its blank line, which is not kept, or before the first line that is no
 * field, as sendmail has it; such a line is what header_rest gives. SP_ERR_LIMIT: over HEADER_MAX.
 */
enum sp_err header_push(struct header *h, const uint8_t *bytes, size_t len, size_t *used,
                        bool *done);
const uint8_t *header_rest(const struct header *h, size_t *len);

/* How often a field is there. */
unsigned header_count(const struct header *h, enum header_field field);
/* The addresses of all fields of this kind. SP_ERR_FORMAT and others as addrlist_each. */
enum sp_err header_addresses(const struct header *h, enum header_field field,
                             enum sp_err (*each)(void *ctx, const char *address), void *ctx);

/* Writes added (complete fields), the header less Bcc, and the blank line. */
enum sp_err header_write(const struct header *h, const char *added,
                         enum sp_err (*write)(void *ctx, const uint8_t *bytes, size_t len),
                         void *ctx);

/* A Date field's value, local time (RFC 5322 3.3). */
#define HEADER_DATE_MAX 128u
void header_date(int64_t seconds, char out[HEADER_DATE_MAX]);

#endif
