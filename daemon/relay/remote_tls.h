#ifndef SEALPOST_RELAY_REMOTE_TLS_H
#define SEALPOST_RELAY_REMOTE_TLS_H
/* Between remote.c, which waits, and remote_tls.c, which never does. */
#include "daemon/relay/remote.h"

enum remote_try {
    TRY_DONE,
    TRY_AGAIN, /* when *events (of poll(2)) are there */
    TRY_OVER,  /* r->end tells how */
};

/* Makes r->ssl for a server of this name. SP_ERR_FORMAT: no name; SP_ERR_CRYPTO. */
enum sp_err remote_tls_begin(struct remote *r, SSL_CTX *ctx, const char *name, bool must_verify);
/* TRY_DONE: r->tls is set. */
enum remote_try remote_tls_handshake(struct remote *r, short *events);
/* After the handshake came to TRY_OVER: SP_ERR_AUTH, SP_ERR_CRYPTO or SP_ERR_PEER; r->why is set.
 */
enum sp_err remote_tls_why(struct remote *r);
/* One record at most, into r->in. */
enum remote_try remote_tls_read(struct remote *r, short *events);
/* One record at most. After TRY_AGAIN it must be called with the same bytes. */
enum remote_try remote_tls_write(struct remote *r, const uint8_t *at, size_t len, size_t *put,
                                 short *events);
/* Says good-bye if it can, frees. */
void remote_tls_end(struct remote *r);

#endif
