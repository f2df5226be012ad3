#ifndef SEALPOST_DOMAIN_H
#define SEALPOST_DOMAIN_H
/*
 * Domain names in the one form that is compared: A-labels in lower case (RFC 5890 2.3.2.1), so that
 * a name means the same whether it was written in Unicode or not.
 */
#include "envelope/error.h"

#define DOMAIN_MAX 255u /* octets (RFC 5321 4.5.3.1.2) */

/* Unicode labels become A-labels (UTS 46, not transitional); ASCII is lower-cased and else left as
 * it is, address literals too. SP_ERR_FORMAT: no such name can be; SP_ERR_LIMIT: too long. On an
 * error out is "". No I/O. */
enum sp_err domain_to_ascii(const char *domain, char out[DOMAIN_MAX + 1]);

#endif
