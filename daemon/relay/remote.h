#ifndef SEALPOST_RELAY_REMOTE_H
#define SEALPOST_RELAY_REMOTE_H
/*
 * One outgoing TCP connection: to one numeric address, bounded in time at every step, in the clear
 * or (after STARTTLS) under TLS. The other side is hostile. Knows nothing of SMTP.
 *
 * Time: each wait ends with the step that the caller set, or with the whole deadline, whichever
 * comes first. A step's time counts for all of the step, however slowly bytes drip in.
 *
 * Results: SP_ERR_EXPIRED time is over; SP_ERR_PEER the connection is over (remote_end() tells
 * how); SP_ERR_STATE *stop was set; SP_ERR_SYSTEM no connection could be made (errno tells why).
 *
 * What a server says may quote the mail: the caller puts the struct into locked memory and wipes it
 * (remote_close does). SIGPIPE must be ignored.
 */
#include "envelope/error.h"

#include <openssl/types.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As much as one record of TLS brings: nothing stays behind in OpenSSL. */
#define REMOTE_IN 16384u

/* As SD_RESULT has it. */
enum remote_tls { REMOTE_CLEAR = 0, REMOTE_ENCRYPTED = 1, REMOTE_VERIFIED = 2 };

enum remote_end {
    REMOTE_OPEN,   /* not over as far as we know */
    REMOTE_CLOSED, /* closed in order: FIN in the clear, close_notify under TLS */
    REMOTE_CUT,    /* reset, or under TLS an end without close_notify: truncation */
    REMOTE_BROKEN, /* TLS failed: alert, bad record */
};

struct remote {
    int fd; /* -1: none */
    SSL *ssl;
    enum remote_tls tls;
    enum remote_end end;
    uint64_t step_ms, deadline_ms;     /* monotonic; deadline 0: none */
    const volatile sig_atomic_t *stop; /* NULL, or ends waits when set */
    bool hold;                         /* for now stop is not looked at */
    size_t at, len;                    /* read and not yet taken: in[at..len) */
    size_t most;                       /* of in[], so many bytes were ever filled */
    char why[96];                      /* why TLS failed, printable ASCII, or empty */
    uint8_t in[REMOTE_IN];             /* not zeroed at first, nor touched where nothing came */
};

/* Milliseconds, monotonic. */
uint64_t remote_now_ms(void);

/* Connects to address (4 or 16 bytes, network order) and port within timeout_ms. On an error
 * nothing is open. whole_ms: from now, for all that is done with it; 0: no such limit. stop: may be
 * NULL; looked at twice a second. */
enum sp_err remote_connect(struct remote *r, const uint8_t *address, size_t len, uint16_t port,
                           uint64_t timeout_ms, uint64_t whole_ms,
                           const volatile sig_atomic_t *stop);
/* The same on a connected stream socket, which becomes r's. */
void remote_adopt(struct remote *r, int fd, uint64_t whole_ms, const volatile sig_atomic_t *stop);
/* Closes without further ado (under TLS close_notify is sent if that does not block) and wipes r.
 * Safe on what was never connected, if zeroed with fd -1, and twice. */
void remote_close(struct remote *r);

/* The next step may take this long. */
void remote_step(struct remote *r, uint64_t ms);
/* While on, stop is ignored, and the whole deadline does not end before the step: for the final
 * reply, which decides whether mail is sent twice (RFC 1047). */
void remote_hold(struct remote *r, bool on);

/* Reads more into r->in, which must be empty (all of it taken): SP_OK with one byte or more. */
enum sp_err remote_fill(struct remote *r);
/* Looks, without waiting, whether anything came that nobody asked for. SP_ERR_PEER: the end came.
 * *came is also true if something was there before. Reads, never peeks. */
enum sp_err remote_early(struct remote *r, bool *came);
/* Writes all of it. */
enum sp_err remote_write(struct remote *r, const void *bytes, size_t len);

/* --- TLS (1.2 and 1.3) --- */

/* Certificates to believe, from PEM text (what is no certificate is skipped, the rest must parse).
 * The caller frees (X509_STORE_free). SP_ERR_FORMAT: none in it. */
enum sp_err remote_store_new(const char *pem, size_t len, X509_STORE **out);
/* A client's context; made in the parent, good after a fork. store may be NULL: then nothing is
 * ever verified. The reference to store stays the caller's. Calls tls_init(). */
enum sp_err remote_tls_new(X509_STORE *store, SSL_CTX **out);
/* Handshake within the step. name: what the certificate must say (a host name, with SNI; or a
 * numeric address, without). must_verify: SP_ERR_AUTH unless certificate and name verify; otherwise
 * any certificate will do, and r->tls tells whether it verified all the same. r->in must be empty:
 * what came in the clear must not be taken for what comes under TLS (SP_ERR_FORMAT; CVE-2011-0411).
 * SP_ERR_CRYPTO: no agreement. After an error the connection is of no use; r->why has words. */
enum sp_err remote_start_tls(struct remote *r, SSL_CTX *ctx, const char *name, bool must_verify);

#endif
