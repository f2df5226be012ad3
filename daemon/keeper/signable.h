#ifndef SEALPOST_KEEPER_SIGNABLE_H
#define SEALPOST_KEEPER_SIGNABLE_H
/*
 * What the TLS key may sign: a TLS server's proof in a handshake, and nothing else in the world.
 * Pure functions over bytes that come from a process which may have been taken over.
 */
#include "envelope/error.h"
#include "envelope/wire.h"

#include <stddef.h>
#include <stdint.h>

enum signable_form { SIGNABLE_TLS13, SIGNABLE_TLS12 };
enum signable_key { SIGNABLE_RSA, SIGNABLE_P256, SIGNABLE_P384, SIGNABLE_ED25519 };

/* Checks a whole to-be-signed input, to its exact end. SIGNABLE_TLS13: a server CertificateVerify
 * (RFC 8446 section 4.4.3); SIGNABLE_TLS12: an ECDHE ServerKeyExchange (RFC 8422 section 5.4) with
 * x25519, secp256r1 or secp384r1. SP_ERR_DENIED: anything else. */
enum sp_err signable_check(const uint8_t *in, size_t len, enum signable_form *form);

struct signable_request {
    const char *algorithm; /* static, one of those in messages.h at SK_SIGN */
    const char *digest;    /* static; NULL: none (Ed25519) */
    const uint8_t *input;  /* in the frame */
    size_t input_len;
};

/* Decodes the body of SK_SIGN and checks all of it: form of the input, and an algorithm that fits
 * key and form (RFC 8446 section 4.2.3). SP_ERR_FORMAT or SP_ERR_DENIED: no honest peer sends that;
 * SP_ERR_NO_KEY: not with this key, as may happen while a certificate is being replaced. */
enum sp_err signable_decode(struct wire_in *body, enum signable_key key,
                            struct signable_request *out);

#endif
