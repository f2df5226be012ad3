#ifndef SEALPOST_SMTP_STREAM_H
#define SEALPOST_SMTP_STREAM_H
/*
 * The connection of one session: blocking, with an idle limit (on the socket) and a deadline, in
 * the clear or under TLS. Results: SP_ERR_PEER the connection is over; SP_ERR_EXPIRED it was idle
 * too long or missed its deadline; SP_ERR_STATE the process was told to end.
 */
#include "envelope/error.h"

#include <openssl/types.h>
#include <stddef.h>
#include <stdint.h>

struct stream {
    int fd;
    SSL *ssl;             /* NULL: in the clear */
    uint64_t deadline_ms; /* monotonic; 0: none */
};

uint64_t stream_now_ms(void);
/* Makes SIGTERM interrupt reads and be remembered, and deadlines interrupt them. Once, before the
 * filter. */
void stream_watch_signals(void);
/* From now; 0: none. Holds inside one record of TLS as well, however slowly its bytes drip in. */
void stream_set_deadline(struct stream *s, uint64_t seconds);
enum sp_err stream_read(struct stream *s, void *buf, size_t cap, size_t *n);
enum sp_err stream_write(struct stream *s, const void *buf, size_t len);
/* The server's side of a handshake. SP_ERR_CRYPTO: it failed; the connection is of no use any more.
 */
enum sp_err stream_start_tls(struct stream *s, SSL_CTX *ctx);
void stream_close(struct stream *s);

#endif
