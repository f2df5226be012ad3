/* The verbs of SMTP and LMTP: a table of who may say what when, and a function for each but the
 * larger ones. Arguments come from anybody. */
#include "daemon/smtp/command.h"
#include "daemon/smtp/session.h"
#include "daemon/tls.h"
#include "sandbox/lockmem.h"

#include <string.h>

#define HANDSHAKE_SECONDS 60u

static void on_hello(struct session *x, const struct command *c)
{
    if (c->arg_len == 0 || c->arg_len >= sizeof(x->helo)) {
        session_error(x, "501 5.5.4 Give your name");
        return;
    }
    session_forget_transaction(x);
    memcpy(x->helo, c->arg, c->arg_len + 1);
    x->extended = c->verb != CMD_HELO;
    if (!x->extended) {
        session_reply(x, "250 %s", x->config->hostname);
        return;
    }
    session_reply(x, "250-%s", x->config->hostname);
    session_reply(x, "250-PIPELINING");
    x->offered = true;
    session_reply(x, "250-SIZE %llu", (unsigned long long)x->config->max_message);
    if (x->tls != NULL && x->stream.ssl == NULL)
        session_reply(x, "250-STARTTLS");
    session_reply(x, "250-8BITMIME");
    session_reply(x, "250-SMTPUTF8");
    session_reply(x, "250-CHUNKING");
    session_reply(x, "250 ENHANCEDSTATUSCODES");
}

/* DATA among chunks: nobody can tell what is meant, so the message is gone (RFC 3030 2). */
static void spoil(struct session *x)
{
    if (x->transfer.open)
        transfer_abort(x, "bad-order");
    x->mail = true; /* MAIL must wait for RSET, too */
    x->chunks = CHUNKS_SPOILT;
    session_error(x, "503 5.5.1 Not among chunks; say RSET");
}

/* LMTP answers once a recipient (RFC 2033 4.2). */
static void answer_content(struct session *x, const char *text, unsigned recipients)
{
    for (unsigned i = 0; i < (x->lmtp ? recipients : 1); i++)
        session_reply(x, "%s", text);
}

static void take_content(struct session *x)
{
    unsigned recipients = x->recipients;
    const char *wrong = transfer_begin(x, CONTENT_DATA);
    if (wrong != NULL) {
        session_reply(x, "%s", wrong);
        return;
    }
    session_reply(x, "354 End with a dot alone on a line");
    enum sp_err err = session_flush(x);
    if (err == SP_OK)
        err = transfer_read_data(x);
    if (err == SP_OK)
        answer_content(x, transfer_finish(x), recipients);
    else
        session_fail(x, err);
    session_forget_transaction(x);
}

static void on_data(struct session *x, const struct command *c)
{
    if (c->arg_len > 0)
        session_error(x, "501 5.5.4 DATA takes no argument");
    else if (x->chunks == CHUNKS_OPEN || x->chunks == CHUNKS_SPOILT)
        spoil(x);
    else if (!x->mail)
        session_error(x, "503 5.5.1 MAIL first");
    else if (x->recipients == 0)
        session_error(x,
                      x->lmtp ? "503 5.5.1 No valid recipients" : "554 5.5.1 No valid recipients");
    else
        take_content(x);
    if (x->upstream.failed != SP_OK)
        x->quit = true; /* without the sealer there is nothing left to do here */
}

static void on_rset(struct session *x, const struct command *c)
{
    if (c->arg_len > 0) {
        session_error(x, "501 5.5.4 RSET takes no argument");
        return;
    }
    session_forget_transaction(x);
    session_reply(x, "250 2.0.0 Forgotten");
}

static void on_noop(struct session *x, const struct command *c)
{
    (void)c;
    session_reply(x, "250 2.0.0 Ok");
}

static void on_vrfy(struct session *x, const struct command *c)
{
    (void)c;
    session_reply(x, "252 2.0.0 Send it and see");
}

static void on_expn(struct session *x, const struct command *c)
{
    (void)c;
    session_error(x, "502 5.5.1 Lists are not expanded here");
}

static void on_help(struct session *x, const struct command *c)
{
    (void)c;
    session_reply(x, "214 2.0.0 RFC 5321; mail is sealed for its recipient as it comes in");
}

static void on_quit(struct session *x, const struct command *c)
{
    if (c->arg_len > 0) {
        session_error(x, "501 5.5.4 QUIT takes no argument");
        return;
    }
    session_reply(x, "221 2.0.0 %s Bye", x->config->hostname);
    x->quit = true;
}

/* What was sent in the clear behind STARTTLS must not be taken for what comes under TLS
 * (CVE-2011-0411): a client that does that is cut off. */
static void on_starttls(struct session *x, const struct command *c)
{
    if (c->arg_len > 0) {
        session_error(x, "501 5.5.4 STARTTLS takes no argument");
        return;
    }
    if (x->tls == NULL || x->stream.ssl != NULL) {
        session_error(x, x->stream.ssl != NULL ? "503 5.5.1 TLS is on already"
                                               : "502 5.5.1 No TLS here");
        return;
    }
    if (x->in_at < x->in_len) {
        session_cut(x, END_EARLY, "554 5.5.0", "Nothing may follow STARTTLS");
        return;
    }
    /* The parent closes the keeper's channel when the certificate that we hold is replaced. */
    if (!stream_is_open(x->keeper) || lockheap_lock() != SP_OK) {
        session_reply(x, "454 4.7.0 TLS is not available; try again later");
        return;
    }
    session_reply(x, "220 2.0.0 Go ahead");
    if (session_flush(x) != SP_OK)
        return;
    tls_set_keeper(x->keeper);
    stream_set_deadline(&x->stream, HANDSHAKE_SECONDS);
    enum sp_err err = stream_start_tls(&x->stream, x->tls);
    stream_set_deadline(&x->stream, x->config->smtp_deadline);
    session_forget_transaction(x);
    x->helo[0] = '\0';
    x->extended = x->offered = false;
    lines_init(&x->lines);
    if (err != SP_OK) {
        x->out_len = 0; /* nothing may follow in the clear */
        x->quit = true;
    }
}

static void on_http(struct session *x, const struct command *c)
{
    (void)c;
    session_cut(x, END_HTTP, "421 4.7.0", "This is not a web server");
}

enum where { ANY = 0, SMTP = 1, LMTP = 2, GREETED = 4, BEFORE_TLS = 8 };

static const struct verb {
    enum command_verb verb;
    unsigned
        where; /* in which dialogue; GREETED: after EHLO; BEFORE_TLS: even when TLS is required */
    void (*run)(struct session *x, const struct command *c);
} verbs[] = {
    {CMD_EHLO, SMTP | BEFORE_TLS, on_hello},
    {CMD_HELO, SMTP, on_hello},
    {CMD_LHLO, LMTP | BEFORE_TLS, on_hello},
    {CMD_MAIL, GREETED, paths_mail},
    {CMD_RCPT, GREETED, paths_rcpt},
    {CMD_DATA, GREETED, on_data},
    {CMD_BDAT, GREETED, NULL}, /* chunk_run: even out of place it takes its bytes along */
    {CMD_RSET, ANY, on_rset},
    {CMD_NOOP, BEFORE_TLS, on_noop},
    {CMD_VRFY, ANY, on_vrfy},
    {CMD_EXPN, ANY, on_expn},
    {CMD_HELP, ANY, on_help},
    {CMD_QUIT, BEFORE_TLS, on_quit},
    {CMD_STARTTLS, BEFORE_TLS, on_starttls},
    {CMD_HTTP, BEFORE_TLS, on_http},
};

static const struct verb *find_verb(const struct session *x, enum command_verb verb)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        unsigned dialogue = verbs[i].where & (SMTP | LMTP);
        if (verbs[i].verb == verb && (dialogue == 0 || dialogue == (x->lmtp ? LMTP : SMTP)))
            return &verbs[i];
    }
    return NULL;
}

/* NULL, or why this verb may not come now. */
static const char *check_place(const struct session *x, const struct verb *v)
{
    if (x->config->smtp_tls == TLS_REQUIRE && x->stream.ssl == NULL && !(v->where & BEFORE_TLS))
        return "530 5.7.0 Say STARTTLS first"; /* RFC 3207 4 */
    if ((v->where & GREETED) && x->helo[0] == '\0')
        return x->lmtp ? "503 5.5.1 Say LHLO first" : "503 5.5.1 Say EHLO first";
    return NULL;
}

void command_run(struct session *x, char *line, size_t len)
{
    struct command c;
    const struct verb *v;
    if (command_split(line, len, &c) != SP_OK || (v = find_verb(x, c.verb)) == NULL) {
        session_error(x, "500 5.5.1 Unknown command");
        return;
    }
    const char *wrong = check_place(x, v);
    if (c.verb == CMD_BDAT)
        chunk_run(x, &c, wrong);
    else if (wrong != NULL)
        session_error(x, wrong);
    else
        v->run(x, &c);
}
