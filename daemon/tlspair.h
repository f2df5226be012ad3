#ifndef SEALPOST_TLSPAIR_H
#define SEALPOST_TLSPAIR_H
#include "envelope/error.h"

#include <stddef.h>

/* Whether a PEM private key belongs to the first certificate of a PEM chain. Looked at by a process
 * that does nothing else and ends: its caller never holds a parsed key. SP_OK; SP_ERR_FORMAT: the
 * certificate cannot be read; SP_ERR_NO_KEY: the key cannot; SP_ERR_AUTH: they do not belong
 * together; SP_ERR_SYSTEM: no process could be had. */
enum sp_err tlspair_check(const char *cert, size_t cert_len, const char *key, size_t key_len);

/* The same for two files, which that process reads. SP_ERR_SYSTEM: or one of them cannot be. */
enum sp_err tlspair_check_files(const char *cert, const char *key);

#endif
