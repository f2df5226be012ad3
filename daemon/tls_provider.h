#ifndef SEALPOST_TLS_PROVIDER_H
#define SEALPOST_TLS_PROVIDER_H
/* Inside of tls.c: an OpenSSL provider whose keys have a public half alone, and sign elsewhere. */
#include "envelope/error.h"

#include <openssl/types.h>
#include <stddef.h>
#include <stdint.h>

#define TLS_SIGNATURE_MAX 512u /* RSA 4096 */

/* Makes the provider known to OpenSSL, used for nothing but what tls_provider_key gives. Once. */
enum sp_err tls_provider_load(void);
/* A "private key" for the public key of a certificate. The caller frees (EVP_PKEY_free). */
enum sp_err tls_provider_key(EVP_PKEY *public_key, EVP_PKEY **out);

/* Who signs (tls.c asks the keeper). algorithm: "ECDSA", "RSA", "RSA-PSS", "ED25519"; digest:
 * "SHA256", "SHA384", "SHA512" or "". sig: TLS_SIGNATURE_MAX bytes. */
enum sp_err tls_remote_sign(const char *algorithm, const char *digest, const uint8_t *tbs,
                            size_t tbs_len, uint8_t *sig, size_t *sig_len);

#endif
