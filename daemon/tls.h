#ifndef SEALPOST_TLS_H
#define SEALPOST_TLS_H
/*
 * TLS for the roles that face the network, with the private key in another process: the key of the
 * certificate is an object of a built-in OpenSSL provider that knows its public half alone, and
 * each signature is asked of the keeper (SK_SIGN, messages.h).
 */
#include "envelope/error.h"

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>

struct wire_out;

/* Makes OpenSSL's heap the locked, wiping one of sandbox/lockmem.h. After lockheap_init() and
 * before anything else of OpenSSL is called: SP_ERR_STATE if it is too late. */
enum sp_err tls_use_lockheap(void);

/* Heap sizes for lockheap_init(). Measured with OpenSSL 3.0, RSA-4096 and P-256, TLS 1.2 and 1.3:
 * the parent's context 450 kB, a second one while reloading 490 kB, a session at its end 550 kB (a
 * hostile ClientHello may add 260 kB); the keeper with a key in use and its successor 430 kB. Pages
 * that are never touched are never locked. A delivery with the 140 certificates of Debian's
 * bundle: 1.5 MB; the rest is for longer lists of the operator's, and for a hostile server's. */
#define TLS_HEAP_SESSION  (2u * 1024u * 1024u)
#define TLS_HEAP_KEEPER   (1u * 1024u * 1024u)
#define TLS_HEAP_DELIVERY (6u * 1024u * 1024u)

/* Prepares OpenSSL without reading any file: no configuration, no modules. Called by
 * tls_server_new; to be called by itself where only the library is used. May be repeated. */
enum sp_err tls_init(void);

/* A server context from a PEM chain, leaf first: TLS 1.2 (ECDHE with AEAD suites) and 1.3, no
 * tickets, no session cache, no renegotiation, no compression. Made in the parent, used after a
 * fork as well. The caller frees (SSL_CTX_free); an older context may go on being used beside a
 * newer one. SP_ERR_FORMAT: not a PEM chain; SP_ERR_DENIED: a kind of key that we do not serve
 * (RSA 2048 to 4096, P-256, P-384, Ed25519 are); SP_ERR_CRYPTO. At the end of a handshake a
 * connection's process sets TCP_QUICKACK, which its filter has to allow. */
enum sp_err tls_server_new(const char *pem, size_t len, SSL_CTX **out);

/* For a role's status: which certificate it serves ("none" with ctx NULL). Not a number, so that it
 * is no metric. */
void tls_status(const SSL_CTX *ctx, struct wire_out *pairs);

/* The channel that this process asks for signatures: a session's own after the fork, or the web
 * role's edge to the keeper. Stays the caller's. -1: none, every handshake fails. */
void tls_set_keeper(int fd);
/* True once the channel has failed (end of file, timeout, nonsense): a session says good-bye, a
 * role ends. */
bool tls_keeper_lost(void);

#endif
