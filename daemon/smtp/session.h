#ifndef SEALPOST_SMTP_SESSION_H
#define SEALPOST_SMTP_SESSION_H
/*
 * One SMTP or LMTP connection, in a process of its own. session.c runs the dialogue, commands.c the
 * verbs, paths.c MAIL and RCPT, chunk.c BDAT, transfer.c the content.
 */
#include "daemon/config.h"
#include "daemon/smtp/address.h"
#include "daemon/smtp/command.h"
#include "daemon/smtp/lines.h"
#include "daemon/smtp/sender.h"
#include "daemon/smtp/stream.h"
#include "daemon/smtp/transfer.h"
#include "daemon/smtp/upstream.h"

#include <openssl/types.h>
#include <stdbool.h>
#include <stdint.h>

#define SESSION_IN     16384u
#define SESSION_OUT    4096u
#define SESSION_CLIENT 64u /* an address as text */

/* Why a session was ended by us: the exit status of its process, which is all that its parent
 * learns of it. A session that was taken over can hide this; it cannot hide a crash. */
enum session_end {
    END_WELL, /* QUIT, or the connection is over */
    END_ERRORS,
    END_RECIPIENTS,
    END_TRANSACTIONS,
    END_EARLY, /* talked before the greeting, or ahead of EHLO */
    END_HTTP,
    END_SLOW,
    END_COUNT
};

/* Where BDAT stands (RFC 3030). */
enum chunks {
    CHUNKS_NONE,
    CHUNKS_OPEN,  /* some of the message has come; transfer.open */
    CHUNKS_DROP,  /* it was refused: what of it is still on its way is read and dropped */
    CHUNKS_SPOILT /* DATA came among them: nothing but RSET or a hello helps */
};

struct session {
    const struct config *config;
    SSL_CTX *tls; /* NULL: STARTTLS is not there */
    int keeper;
    uint32_t id;
    char client[SESSION_CLIENT]; /* "192.0.2.1" or "IPv6:2001:db8::1" */
    bool lmtp;

    struct stream stream;
    struct upstream upstream;
    struct sender sender;
    struct lines lines;
    uint8_t in[SESSION_IN]; /* read and not yet used: in[in_at..in_len) */
    size_t in_at, in_len;
    char out[SESSION_OUT]; /* replies that wait to be written */
    size_t out_len;
    bool quit;
    enum session_end end;
    enum sp_err failed; /* of the connection */
    unsigned errors, refused, beyond, transactions, messages;

    /* What the client said; forgotten at STARTTLS. */
    char helo[256];
    bool extended; /* EHLO or LHLO */
    bool offered;  /* PIPELINING, at any time since */

    /* The transaction. */
    bool mail, smtputf8;
    struct address from;
    unsigned recipients;
    char first_rcpt[ADDRESS_MAX_TEXT];
    struct transfer transfer;
    enum chunks chunks;
    unsigned owed; /* replies to the last chunk of a message that was refused before it (LMTP) */
};

/* Runs to its end; the process exits with session->end afterwards. */
void session_run(struct session *x);

/* Adds one reply line "CODE text\r\n"; a final one (code, a space) or one of many (code, a hyphen).
 */
void session_reply(struct session *x, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Writes what waits. */
enum sp_err session_flush(struct session *x);
/* Reads more; SP_OK with at least one byte in x->in. */
enum sp_err session_fill(struct session *x);
/* A reply to a command in error; too many of them end the session. */
void session_error(struct session *x, const char *text);
/* A last reply (text follows the code and our name), and why there is no further one. */
void session_cut(struct session *x, enum session_end why, const char *code, const char *text);
/* The connection failed: nothing more is read. */
void session_fail(struct session *x, enum sp_err err);
void session_forget_transaction(struct session *x);

/* commands.c: one command line, without its CRLF. */
void command_run(struct session *x, char *line, size_t len);
/* paths.c */
void paths_mail(struct session *x, const struct command *c);
void paths_rcpt(struct session *x, const struct command *c);
/* chunk.c: BDAT; wrong: NULL, or why it may not come now. */
void chunk_run(struct session *x, const struct command *c, const char *wrong);
/* trace.c: Return-Path and Received (RFC 5321 4.4); bytes written. */
size_t trace_header(const struct session *x, char *out, size_t cap);

#ifdef SEALPOST_TEST
/* testverbs.c: true if the line was one of the tests' own. */
bool session_test_verb(struct session *x, const char *line);
#endif

#endif
