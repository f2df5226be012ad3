#ifndef SEALPOST_RELAY_DIALOG_H
#define SEALPOST_RELAY_DIALOG_H
/*
 * The client's side of SMTP (RFC 5321) over one connection: greeting, EHLO, STARTTLS, AUTH, then
 * any number of transactions. Decides what each answer means for the recipients; whom to ask next
 * is the caller's. The server is hostile: it can delay mail, refuse it or lie about having taken
 * it, and nothing else.
 *
 * The caller puts the structs into locked memory: out[] holds up to 32 KiB of the mail.
 */
#include "daemon/relay/remote.h"
#include "daemon/relay/reply.h"
#include "envelope/error.h"

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIALOG_CHUNK  (32u * 1024u) /* of a BDAT */
#define DIALOG_RCPTS  100u          /* of one transaction (RFC 5321 4.5.3.1.8) */
#define DIALOG_WINDOW 8u            /* BDATs whose answers are owed, where pipelining is offered */

/* Milliseconds. RFC 5321 4.5.3.2, shortened where a server that is slower is as good as down; the
 * final reply keeps its ten minutes, since giving up on it sends mail twice (RFC 1047). */
#define DIALOG_MS_CONNECT  30000u
#define DIALOG_MS_GREETING 120000u
#define DIALOG_MS_COMMAND  120000u /* EHLO, STARTTLS, AUTH, MAIL, each RCPT, DATA, RSET */
#define DIALOG_MS_TLS      60000u
#define DIALOG_MS_BLOCK    180000u /* each 24 KiB of content written, each BDAT but the last */
#define DIALOG_MS_FINAL    600000u
#define DIALOG_MS_QUIT     1000u
/* From where the last of the content is written no whole deadline counts (remote_hold): that write,
 * the answers to the chunks before it, and the final one. */
#define DIALOG_MS_HELD (DIALOG_WINDOW * DIALOG_MS_BLOCK + DIALOG_MS_FINAL)

/* NONE is memory that nobody has judged in yet: nothing is believed of it. */
enum dialog_outcome { DIALOG_NONE, DIALOG_SENT, DIALOG_DEFERRED, DIALOG_FAILED };

/* What became of one recipient. Texts are printable ASCII: the server's words, or ours where it
 * said none (then code is 0). */
struct dialog_verdict {
    enum dialog_outcome outcome;
    unsigned code;     /* of the server's reply; 0: our own finding */
    char enhanced[12]; /* never empty, of the outcome's class (2, 4, 5) */
    char text[REPLY_TEXT + 1];
    bool again; /* DEFERRED by the server's limit for one transaction (452, 552 to RCPT behind one
                   that was accepted; RFC 5321 4.5.3.1.10): may be sent on this connection now */
};

enum dialog_tls {
    DIALOG_TLS_MAY,     /* encrypt when it is offered; any certificate */
    DIALOG_TLS_REQUIRE, /* encrypt and verify the peer's name, or fail (4.7.x, 4.7.10) */
    DIALOG_TLS_NEVER,   /* the second attempt after DIALOG_CLEAR */
};

struct dialog_settings {
    const char *hostname; /* ours, for EHLO */
    const char *peer;     /* the server's name: SNI, what is verified */
    bool loops;           /* a server that bears our name is ourselves: FAILED 5.4.6. Off for a
                             smarthost, which may be next door */
    bool implicit;        /* TLS from the first octet (RFC 8314): tls is MAY or REQUIRE */
    enum dialog_tls tls;
    SSL_CTX *ctx;                /* remote_tls_new(); may be NULL with DIALOG_TLS_NEVER */
    const char *user, *password; /* NULL, or AUTH with them, under verified TLS alone */
};

enum dialog_next {
    DIALOG_READY, /* transactions may follow */
    DIALOG_OTHER, /* not here; another address or exchanger may do. If none does, the verdict
                     stands: DEFERRED if any host's was, else FAILED */
    DIALOG_CLEAR, /* TLS was offered and failed, the policy is MAY: connect once more with NEVER.
                     Never after REQUIRE, never with AUTH. The verdict is for when that fails too */
    DIALOG_STOP,  /* the verdict is for all, other hosts or not (a loop) */
};

/* Bytes of the mail as it goes out, CRLF at the end of every line, dots not stuffed; *n of them, at
 * most cap; 0 at the end. An error ends the connection before the mail is complete. */
typedef enum sp_err dialog_source(void *ctx, uint8_t *buf, size_t cap, size_t *n);

struct dialog_mail {
    const char *from; /* local@domain; empty: <> */
    const char *const *to;
    size_t n;       /* 1..DIALOG_RCPTS */
    uint64_t size;  /* what source will yield (SIZE=, RFC 1870) */
    bool eight_bit; /* it holds octets above 127: without 8BITMIME FAILED 5.6.3 */
    bool utf8;      /* header or addresses do: without SMTPUTF8 FAILED 5.6.7. Octets above 127 in
                       from or to are seen without it */
    dialog_source *source;
    void *ctx;
};

struct dialog {
    struct remote *remote;
    const struct dialog_settings *set;
    bool extended; /* EHLO was accepted */
    bool pipelining, size, eight_bit, utf8, chunking, starttls, auth_plain, auth_login;
    uint64_t size_max; /* 0: none stated */
    bool ourselves;    /* it bears our name */
    bool over;         /* of no use any more */
    struct reply reply;
    struct dialog_verdict all; /* on its way to those it is for: servers may quote mail */
    size_t out_len;
    uint8_t out[DIALOG_CHUNK + 1024]; /* wiped by each who has used it, as far as he has */
};

/* From the greeting to where transactions may begin, on a connection that was just made (and stays
 * the caller's to close). v: filled in unless DIALOG_READY. */
enum dialog_next dialog_open(struct dialog *d, struct remote *remote,
                             const struct dialog_settings *set, struct dialog_verdict *v);

/* One mail to all of mail->to; v[mail->n], every one filled in whatever happens. The source is read
 * from its beginning, once, and only if a recipient was accepted.
 * SP_OK: another may follow on this connection. SP_ERR_PEER: the connection is over. Otherwise what
 * the source returned (PEER made SYSTEM), or SP_ERR_FORMAT: it yielded a bare CR or LF or a NUL,
 * which would smuggle; and the connection is over. */
enum sp_err dialog_send(struct dialog *d, const struct dialog_mail *mail, struct dialog_verdict *v);

/* QUIT, waits a second at most for its answer, and wipes d. The connection stays to be closed. */
void dialog_quit(struct dialog *d);

/* "none", "encrypted", "verified". */
const char *dialog_tls_name(enum remote_tls tls);

#endif
