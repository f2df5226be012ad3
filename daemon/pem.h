#ifndef SEALPOST_PEM_H
#define SEALPOST_PEM_H
#include "envelope/error.h"

#include <openssl/evp.h>
#include <stddef.h>

/* The private key in a PEM text of len bytes, without a passphrase (there is nobody to ask for
 * one). The caller frees it by EVP_PKEY_free(). SP_ERR_FORMAT: no such key can be read.
 * SP_ERR_MEMORY. *out is NULL unless SP_OK. */
enum sp_err pem_private_key(const char *pem, size_t len, EVP_PKEY **out);

#endif
