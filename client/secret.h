#ifndef SEALPOST_CLIENT_SECRET_H
#define SEALPOST_CLIENT_SECRET_H
/* Locked memory for secrets, and the passphrase of the key file. */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>

#define PASSPHRASE_MAX 1024u

/* No core dump, no debugger of the same user, libsodium ready. Call first. */
enum sp_err secret_harden(void);

/* Guarded, locked, zeroed memory; secret_free wipes it (NULL is fine). Warns once, on stderr, when
 * the system would not lock it: sodium_malloc itself keeps silent about that. NULL: no memory. */
void *secret_alloc(size_t size);
void secret_free(void *at);

struct passphrase {
    size_t len;
    char text[PASSPHRASE_MAX + 1]; /* NUL-terminated */
};

/* The passphrase from SEALPOST_PASSPHRASE_FILE (its first line), else asked for on the terminal
 * without echo, else empty. fresh: a new one, asked for twice. *out is from secret_alloc; the
 * caller frees it with secret_free. Says what is wrong. */
enum sp_err secret_passphrase(bool fresh, struct passphrase **out);

/* Asks a yes-or-no question on the terminal; SP_ERR_DENIED unless the answer is "yes". */
enum sp_err secret_confirm(const char *question);

#endif
