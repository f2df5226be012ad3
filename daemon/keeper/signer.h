#ifndef SEALPOST_KEEPER_SIGNER_H
#define SEALPOST_KEEPER_SIGNER_H
/* The TLS private key at work. Lives in OpenSSL's heap, which the keeper has made locked memory. */
#include "daemon/keeper/signable.h"
#include "envelope/error.h"

#include <stddef.h>
#include <stdint.h>

#define SIGNER_MAX 512u /* bytes of a signature: RSA 4096 */

struct signer;

/* Reads an unencrypted PEM private key. SP_ERR_FORMAT: it is none; SP_ERR_DENIED: none that we
 * serve (RSA 2048 to 4096, P-256, P-384, Ed25519). The caller wipes the PEM. */
enum sp_err signer_load(const char *pem, size_t len, struct signer **out);
void signer_free(struct signer *signer);
enum signable_key signer_key(const struct signer *signer);
const char *signer_name(const struct signer *signer);
/* Signs what signable_decode let through. sig: SIGNER_MAX bytes. SP_ERR_CRYPTO. */
enum sp_err signer_sign(const struct signer *signer, const struct signable_request *request,
                        uint8_t *sig, size_t *len);

#endif
