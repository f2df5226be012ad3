/* The verbs of SMTP and LMTP: a table of who may say what when, and a function for each. Arguments
 * come from anybody. */
#include "daemon/smtp/command.h"
#include "daemon/smtp/session.h"
#include "daemon/tls.h"
#include "sandbox/lockmem.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

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
    session_reply(x, "250-SIZE %llu", (unsigned long long)x->config->max_message);
    if (x->tls != NULL && x->stream.ssl == NULL)
        session_reply(x, "250-STARTTLS");
    session_reply(x, "250-8BITMIME");
    session_reply(x, "250 ENHANCEDSTATUSCODES");
}

static const char bad_path[] = "501 5.1.7 Malformed address";

/* NULL, or the reply to a MAIL parameter that we do not take. */
static const char *check_mail_parameter(const struct session *x, const struct address_param *p)
{
    unsigned long long size;
    if (strcmp(p->key, "SIZE") == 0) {
        if (address_param_number(p, &size) != SP_OK)
            return "501 5.5.4 SIZE needs a number";
        return size > x->config->max_message ? "552 5.3.4 Message too big" : NULL;
    }
    if (strcmp(p->key, "BODY") == 0)
        return address_param_is(p, "7BIT") || address_param_is(p, "8BITMIME")
                   ? NULL
                   : "501 5.5.4 BODY is 7BIT or 8BITMIME";
    return "555 5.5.4 Unknown parameter";
}

static void on_mail(struct session *x, const struct command *c)
{
    const char *at = c->arg, *wrong = NULL;
    struct address_param p;
    if (x->mail) {
        session_error(x, "503 5.5.1 One MAIL at a time");
        return;
    }
    if (!address_keyword(&at, "FROM:")) {
        session_error(x, "501 5.5.4 MAIL FROM:<address>");
        return;
    }
    enum sp_err err = address_parse(at, ADDRESS_NULL_PATH, &x->from, &at);
    if (err != SP_OK) {
        session_error(x, err == SP_ERR_DENIED ? "550 5.6.7 ASCII addresses alone" : bad_path);
        return;
    }
    while (wrong == NULL && (err = address_param_next(&at, &p)) == SP_OK)
        wrong = x->extended ? check_mail_parameter(x, &p) : "555 5.5.4 Say EHLO first";
    if (wrong == NULL && err != SP_ERR_NOT_FOUND)
        wrong = "501 5.5.4 Malformed parameter";
    if (wrong != NULL) {
        session_error(x, wrong);
        return;
    }
    x->mail = true;
    session_reply(x, "250 2.1.0 Sender ok");
}

/* A domain of ours, or none at all (<Postmaster>). */
static bool is_ours(const struct session *x, const struct address *to)
{
    for (size_t i = 0; i < x->config->domain.count; i++)
        if (strcasecmp(x->config->domain.item[i], to->domain) == 0)
            return true;
    return to->domain[0] == '\0' || strcasecmp(to->domain, x->config->hostname) == 0;
}

static const char *reply_to_recipient(enum sp_err verdict)
{
    static const struct {
        enum sp_err verdict;
        const char *text;
    } replies[] = {
        {SP_OK, "250 2.1.5 Recipient ok"},
        {SP_ERR_NOT_FOUND, "550 5.1.1 No such user here"},
        {SP_ERR_NO_KEY, "450 4.2.1 This user has no key yet; try again later"},
        {SP_ERR_NO_SPACE, "452 4.3.1 No room at the moment"},
        {SP_ERR_LIMIT, "452 4.5.3 Too many recipients"},
    };
    for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++)
        if (replies[i].verdict == verdict)
            return replies[i].text;
    return "451 4.3.0 Cannot tell; try again later";
}

/* NULL, or why this recipient is refused without asking the sealer. */
static const char *refuse_recipient(struct session *x, const char *arg, struct address *to)
{
    struct address_param p;
    if (!address_keyword(&arg, "TO:"))
        return "501 5.5.4 RCPT TO:<address>";
    enum sp_err err = address_parse(arg, ADDRESS_POSTMASTER, to, &arg);
    if (err == SP_ERR_DENIED)
        return "553 5.6.7 ASCII addresses alone";
    if (err != SP_OK)
        return "501 5.1.3 Malformed address";
    err = address_param_next(&arg, &p);
    if (err != SP_ERR_NOT_FOUND)
        return err == SP_OK ? "555 5.5.4 Unknown parameter" : "501 5.5.4 Malformed parameter";
    /* No open relay, in no spelling: what an older mail system would route on is refused too. */
    if (!is_ours(x, to) || strpbrk(to->local, "@%!") != NULL)
        return "550 5.7.1 Not ours to deliver";
    return NULL;
}

static void on_rcpt(struct session *x, const struct command *c)
{
    struct address to;
    char text[ADDRESS_MAX_TEXT];
    const char *wrong = NULL;
    if (!x->mail)
        wrong = "503 5.5.1 MAIL first";
    else if ((wrong = refuse_recipient(x, c->arg, &to)) == NULL &&
             address_write(&to, text, sizeof(text)) != SP_OK)
        wrong = "501 5.1.3 Malformed address";
    if (wrong != NULL) {
        session_error(x, wrong);
        return;
    }
    if (x->recipients >= x->config->max_recipients) {
        session_reply(x, "452 4.5.3 Too many recipients");
        return;
    }
    enum sp_err verdict = upstream_recipient(&x->upstream, text);
    if (verdict == SP_OK && x->recipients++ == 0)
        memcpy(x->first_rcpt, text, sizeof(text));
    session_reply(x, "%s", reply_to_recipient(verdict));
    if (x->upstream.failed != SP_OK)
        x->quit = true;
}

static void on_data(struct session *x, const struct command *c)
{
    if (c->arg_len > 0) {
        session_error(x, "501 5.5.4 DATA takes no argument");
        return;
    }
    if (x->recipients == 0) {
        session_error(x, x->mail ? "554 5.5.1 No valid recipients" : "503 5.5.1 MAIL first");
        return;
    }
    enum sp_err err = upstream_begin(&x->upstream);
    if (err != SP_OK) {
        session_reply(x, err == SP_ERR_NO_SPACE ? "452 4.3.1 No room at the moment"
                                                : "451 4.3.0 Try again later");
        return;
    }
    session_reply(x, "354 End with a dot alone on a line");
    if (session_flush(x) == SP_OK)
        transfer_run(x);
    else
        upstream_abort(&x->upstream, "interrupted"); /* the sealer waits for content */
    x->mail = false; /* the sealer has forgotten the transaction either way */
    session_forget_transaction(x);
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
    session_reply(x, "252 2.1.5 Send it and see");
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
        session_reply(x, "554 5.5.0 Nothing may follow STARTTLS");
        x->quit = true;
        return;
    }
    if (lockheap_lock() != SP_OK) {
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
    x->extended = false;
    lines_init(&x->lines);
    if (err != SP_OK) {
        x->out_len = 0; /* nothing may follow in the clear */
        x->quit = true;
    }
}

static void on_http(struct session *x, const struct command *c)
{
    (void)c;
    session_reply(x, "421 4.7.0 %s This is not a web server", x->config->hostname);
    x->quit = true;
}

enum where { ANY = 0, SMTP = 1, LMTP = 2, GREETED = 4, BEFORE_TLS = 8 };

static const struct verb {
    enum command_verb verb;
    unsigned
        where; /* in which dialogue; GREETED: after EHLO; BEFORE_TLS: even when TLS is required */
    void (*run)(struct session *x, const struct command *c);
} verbs[] = {
    {CMD_EHLO, SMTP | BEFORE_TLS, on_hello},
    {CMD_HELO, SMTP | BEFORE_TLS, on_hello},
    {CMD_LHLO, LMTP | BEFORE_TLS, on_hello},
    {CMD_MAIL, GREETED, on_mail},
    {CMD_RCPT, GREETED, on_rcpt},
    {CMD_DATA, GREETED, on_data},
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

void command_run(struct session *x, char *line, size_t len)
{
    struct command c;
    const struct verb *v;
    if (command_split(line, len, &c) != SP_OK || (v = find_verb(x, c.verb)) == NULL) {
        session_error(x, "500 5.5.1 Unknown command");
        return;
    }
    if (x->config->smtp_tls == TLS_REQUIRE && x->stream.ssl == NULL && !(v->where & BEFORE_TLS))
        session_error(x, "530 5.7.0 Say STARTTLS first");
    else if ((v->where & GREETED) && x->helo[0] == '\0')
        session_error(x, x->lmtp ? "503 5.5.1 Say LHLO first" : "503 5.5.1 Say EHLO first");
    else
        v->run(x, &c);
}
