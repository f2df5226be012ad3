#ifndef SEALPOST_KEEPER_DKIMKEY_H
#define SEALPOST_KEEPER_DKIMKEY_H
/*
 * Private keys for DKIM: RSA of 2048 to 4096 bits (RFC 6376; RFC 8301 section 3.2) and Ed25519 (RFC
 * 8463), as PEM without a passphrase. The keeper signs with them; --check-config and sealpostctl
 * look at them.
 */
#include "envelope/error.h"
#include "envelope/keys.h"

#include <stddef.h>
#include <stdint.h>

#define DKIMKEY_FILE_MAX  16384u /* bytes of PEM */
#define DKIMKEY_SIGNATURE 512u   /* at most */
#define DKIMKEY_RECORD    1024u  /* bytes of a DNS record with NUL, at most */

/* As KD_DKIM_REPLY has it. */
enum dkimkey_algorithm { DKIMKEY_RSA_SHA256 = 1, DKIMKEY_ED25519_SHA256 = 2 };

struct dkimkey;

/* SP_ERR_FORMAT: no private key in PEM form without a passphrase; SP_ERR_DENIED: of another kind,
 * or RSA of another size. */
enum sp_err dkimkey_load(const char *pem, size_t len, struct dkimkey **out);
void dkimkey_free(struct dkimkey *key); /* NULL is ignored */
enum dkimkey_algorithm dkimkey_algorithm(const struct dkimkey *key);

/* rsa-sha256: PKCS#1 v1.5 over a SHA-256 hash; ed25519-sha256: Ed25519 over its 32 bytes. */
enum sp_err dkimkey_sign(const struct dkimkey *key, const uint8_t hash[HASH_SIZE],
                         uint8_t signature[DKIMKEY_SIGNATURE], size_t *len);

/* What stands in DNS at SELECTOR._domainkey.DOMAIN: "v=DKIM1; k=...; p=..." as a C string. */
enum sp_err dkimkey_record(const struct dkimkey *key, char out[DKIMKEY_RECORD]);

/* Writes a new key as PEM to fd. RSA: 2048 bits, since the record of a longer one is too large for
 * some. */
enum sp_err dkimkey_make(enum dkimkey_algorithm algorithm, int fd);

#endif
