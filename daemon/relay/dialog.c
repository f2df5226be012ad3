/* From the greeting to where mail may be sent: EHLO, STARTTLS, AUTH. The server is hostile, and so
 * is the network until TLS has verified: what is said before may be a lie of somebody else's, so
 * that where verification is asked for it never fails mail for good. */
#include "daemon/relay/dialog.h"
#include "daemon/relay/dialog_io.h"
#include "sandbox/lockmem.h"

#include <string.h>
#include <strings.h>

const char *dialog_tls_name(enum remote_tls tls)
{
    static const char *const names[] = {
        [REMOTE_CLEAR] = "none", [REMOTE_ENCRYPTED] = "encrypted", [REMOTE_VERIFIED] = "verified"};
    return names[tls];
}

/* --- what the server can do --- */

static uint64_t number(const char *text)
{
    uint64_t n = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        if (n > (UINT64_MAX - 9) / 10)
            return 0;
        n = n * 10 + (uint64_t)(*text - '0');
    }
    return *text == '\0' ? n : 0;
}

static void learn_auth(struct dialog *d, const char *words)
{
    while (*words != '\0') {
        size_t n = strcspn(words, " ");
        d->auth_plain |= n == 5 && strncasecmp(words, "PLAIN", n) == 0;
        d->auth_login |= n == 5 && strncasecmp(words, "LOGIN", n) == 0;
        words += n + strspn(words + n, " ");
    }
}

static bool is_word(const char *line, size_t n, const char *word)
{
    return n == strlen(word) && strncasecmp(line, word, n) == 0;
}

/* The server's name in its greeting or its answer to EHLO is ours: we speak to ourselves. */
static void look_for_ourselves(struct dialog *d)
{
    const char *ours = d->set->hostname, *line = d->reply.line;
    if (d->reply.lines == 1 && is_word(line, strcspn(line, " "), ours))
        d->ourselves = true;
}

/* One line of the answer to EHLO (RFC 5321 4.1.1.1). */
static void learn(struct dialog *d)
{
    const char *line = d->reply.line;
    size_t n = strcspn(line, " ");
    const char *rest = line + n + strspn(line + n, " ");
    look_for_ourselves(d);
    if (d->reply.lines == 1)
        return;
    d->pipelining |= is_word(line, n, "PIPELINING");
    d->eight_bit |= is_word(line, n, "8BITMIME");
    d->utf8 |= is_word(line, n, "SMTPUTF8");
    d->chunking |= is_word(line, n, "CHUNKING");
    d->starttls |= is_word(line, n, "STARTTLS");
    if (is_word(line, n, "SIZE")) {
        d->size = true;
        d->size_max = number(rest);
    }
    if (is_word(line, n, "AUTH"))
        learn_auth(d, rest);
#ifdef SEALPOST_TEST
    dialog_test_learn(line);
#endif
}

/* RFC 3207 4.2: what was learned in the clear is void under TLS. */
static void forget(struct dialog *d)
{
    d->extended = d->pipelining = d->size = d->eight_bit = d->utf8 = d->chunking = d->starttls =
        d->auth_plain = d->auth_login = d->ourselves = false;
    d->size_max = 0;
}

/* --- steps: each DIALOG_READY, or what ends the connection, with a verdict --- */

static enum dialog_next lost(struct dialog *d, enum sp_err err, const char *during,
                             struct dialog_verdict *v)
{
    dialog_lost(d, err, during, v);
    return DIALOG_OTHER;
}

/* A refusal, or an answer that is none. */
static enum dialog_next refused(struct dialog *d, const char *during, struct dialog_verdict *v)
{
    d->over = true;
    if (d->reply.code < 400)
        dialog_astray(d, during, v);
    else
        dialog_judge(d, v);
    return DIALOG_OTHER;
}

static bool must_verify(const struct dialog *d)
{
    return d->set->tls == DIALOG_TLS_REQUIRE || d->set->user != NULL;
}

/* Only believed once the server is known, where it has to be. */
static enum dialog_next check_loop(struct dialog *d, struct dialog_verdict *v)
{
    if (!d->ourselves || !d->set->loops || (must_verify(d) && d->remote->tls != REMOTE_VERIFIED))
        return DIALOG_READY;
    d->over = true;
    dialog_rule(v, DIALOG_FAILED, "5.4.6", "mail for this destination comes back to us (%s)",
                d->set->hostname);
    return DIALOG_STOP;
}

static enum dialog_next greeting(struct dialog *d, struct dialog_verdict *v)
{
    enum sp_err err = dialog_answer(d, DIALOG_MS_GREETING, look_for_ourselves);
    if (err != SP_OK)
        return lost(d, err, "greeting", v);
    return d->reply.code == 220 ? check_loop(d, v) : refused(d, "greeting", v);
}

static enum dialog_next hello(struct dialog *d, struct dialog_verdict *v)
{
    enum sp_err err = dialog_put(d, "HELO %s", d->set->hostname);
    if (err == SP_OK)
        err = dialog_flush(d, DIALOG_MS_COMMAND);
    if (err == SP_OK)
        err = dialog_answer(d, DIALOG_MS_COMMAND, look_for_ourselves);
    if (err != SP_OK)
        return lost(d, err, "HELO", v);
    return d->reply.code == 250 ? check_loop(d, v) : refused(d, "HELO", v);
}

static enum dialog_next extended_hello(struct dialog *d, struct dialog_verdict *v)
{
    forget(d);
    enum sp_err err = dialog_put(d, "EHLO %s", d->set->hostname);
    if (err == SP_OK)
        err = dialog_flush(d, DIALOG_MS_COMMAND);
    if (err == SP_OK)
        err = dialog_answer(d, DIALOG_MS_COMMAND, learn);
    if (err != SP_OK)
        return lost(d, err, "EHLO", v);
    d->extended = d->reply.code == 250;
#ifdef SEALPOST_TEST
    dialog_test_act(d);
#endif
    if (d->extended)
        return check_loop(d, v);
    forget(d);
    /* Under TLS somebody who knows STARTTLS knows EHLO. */
    bool old = d->reply.code >= 500 && d->remote->tls == REMOTE_CLEAR && !must_verify(d);
    return old ? hello(d, v) : refused(d, "EHLO", v);
}

static enum dialog_next no_tls(struct dialog *d, enum sp_err err, struct dialog_verdict *v)
{
    const char *why = err == SP_ERR_EXPIRED ? "time is over" : sp_err_text(err);
    if (d->remote->why[0] != '\0')
        why = d->remote->why;
    d->over = true;
    if (err == SP_ERR_FORMAT)
        dialog_rule(v, DIALOG_DEFERRED, "4.5.0",
                    "more came in the clear behind the answer to "
                    "STARTTLS");
    else if (err == SP_ERR_STATE)
        return lost(d, err, "STARTTLS", v);
    else
        dialog_rule(v, DIALOG_DEFERRED, "4.7.5", "TLS with %s failed: %s", d->set->peer, why);
    return must_verify(d) || err == SP_ERR_FORMAT ? DIALOG_OTHER : DIALOG_CLEAR;
}

static enum dialog_next start_tls(struct dialog *d, struct dialog_verdict *v)
{
    enum sp_err err = dialog_ask(d, "STARTTLS", DIALOG_MS_COMMAND);
    if (err != SP_OK)
        return lost(d, err, "STARTTLS", v);
    /* Offered, then refused: the connection is as it was. */
    if (d->reply.code != 220)
        return must_verify(d) || d->reply.code < 400 || d->reply.code == 421
                   ? refused(d, "STARTTLS", v)
                   : DIALOG_READY;
    remote_step(d->remote, DIALOG_MS_TLS);
    err = remote_start_tls(d->remote, d->set->ctx, d->set->peer, must_verify(d));
    return err == SP_OK ? extended_hello(d, v) : no_tls(d, err, v);
}

/* Before anything is said. Who is set up for this is never asked without. */
static enum dialog_next implicit_tls(struct dialog *d, struct dialog_verdict *v)
{
    if (!d->set->implicit)
        return DIALOG_READY;
    remote_step(d->remote, DIALOG_MS_TLS);
    enum sp_err err = remote_start_tls(d->remote, d->set->ctx, d->set->peer, must_verify(d));
    if (err == SP_OK)
        return DIALOG_READY;
    no_tls(d, err, v);
    return DIALOG_OTHER;
}

static enum dialog_next secure(struct dialog *d, struct dialog_verdict *v)
{
    if (d->set->implicit)
        return DIALOG_READY;
    if (d->set->ctx != NULL && d->starttls && d->set->tls != DIALOG_TLS_NEVER)
        return start_tls(d, v);
    if (!must_verify(d))
        return DIALOG_READY;
    d->over = true;
    dialog_rule(v, DIALOG_DEFERRED, "4.7.10", "%s offers no TLS, and it is required", d->set->peer);
    return DIALOG_OTHER;
}

enum dialog_next dialog_open(struct dialog *d, struct remote *remote,
                             const struct dialog_settings *set, struct dialog_verdict *v)
{
    memset(d, 0, offsetof(struct dialog, out));
    d->remote = remote;
    d->set = set;
    enum dialog_next next = implicit_tls(d, v);
    if (next == DIALOG_READY)
        next = greeting(d, v);
    if (next == DIALOG_READY)
        next = extended_hello(d, v);
    if (next == DIALOG_READY)
        next = secure(d, v);
    if (next == DIALOG_READY && set->user != NULL && dialog_login(d, v) != SP_OK)
        next = DIALOG_OTHER;
    if (must_verify(d) && remote->tls != REMOTE_VERIFIED && next != DIALOG_READY &&
        v->outcome == DIALOG_FAILED) {
        v->outcome = DIALOG_DEFERRED;
        v->enhanced[0] = '4';
    }
    return next;
}

void dialog_quit(struct dialog *d)
{
    if (d->remote != NULL && !d->over)
        dialog_ask(d, "QUIT", DIALOG_MS_QUIT);
    lockmem_wipe(d, offsetof(struct dialog, out));
}
