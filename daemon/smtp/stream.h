#ifndef SEALPOST_SMTP_STREAM_H
#define SEALPOST_SMTP_STREAM_H
/*
 * The connection of one session: blocking, with an idle limit (on the socket) and a deadline, in
 * the clear or under TLS. Results: SP_ERR_PEER the connection is over; SP_ERR_EXPIRED it was idle
 * too long or missed its deadline; SP_ERR_STATE the process was told to end.
 */
#include "envelope/error.h"

#include <openssl/types.h>
#include <stdbool.h>
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
/* Whether somebody is at the other end of this socket. */
bool stream_is_open(int fd);
/* Waits this long, and tells whether the other side said something meanwhile. In the clear. */
bool stream_talks(struct stream *s, uint64_t seconds);
/* hasty: something may be unread; a bounded part of it is read and dropped, since the kernel would
 * answer it with a reset that can overtake our last reply (RFC 9293 3.10.7.1). */
void stream_close(struct stream *s, bool hasty);

#endif
