#ifndef SEALPOST_KEEPER_CREDENTIALS_H
#define SEALPOST_KEEPER_CREDENTIALS_H
/* The file that [relay] smarthost_auth names: one line, "user:password", which may end in a line
 * break; the user has no colon. */
#include "envelope/error.h"

#include <stddef.h>

#define CREDENTIALS_MAX 255u /* bytes of each */

/* Leads into the caller's text. */
struct credentials {
    const char *user, *password;
    size_t user_len, password_len; /* 1 to CREDENTIALS_MAX */
};

/* SP_ERR_FORMAT: it is not of that form; SP_ERR_LIMIT: a part is too long. */
enum sp_err credentials_parse(const char *text, size_t len, struct credentials *out);

#endif
