#ifndef SEALPOST_DATE_H
#define SEALPOST_DATE_H
/* Dates as mail has them. */
#include <stddef.h>
#include <stdint.h>

#define DATE_MAX 48u

/* RFC 5322 3.3, in UTC, without the locale; DATE_MAX bytes always do. */
void date_mail(uint64_t seconds, char *out, size_t cap);
/* Milliseconds since 1970. */
uint64_t date_now_ms(void);

#endif
