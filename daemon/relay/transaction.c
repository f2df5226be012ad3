/* One mail to some recipients: MAIL, RCPT, and what became of each. What the store and the sender's
 * client said (addresses, sizes) is checked again before it becomes part of a command. */
#include "daemon/relay/dialog_io.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PATH                                                                                       \
    254u /* octets of an address, so that <> around it fit into 256 (RFC 5321 4.5.3.1.3)           \
          */

static bool is_ascii(const char *s)
{
    for (; *s != '\0'; s++)
        if ((unsigned char)*s >= 0x80)
            return false;
    return true;
}

/* Nothing that could end the path or the line: what is left the server may judge. */
static bool is_path(const char *s)
{
    bool quoted = false;
    if (strlen(s) > PATH)
        return false;
    for (; *s != '\0'; s++) {
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            return false;
        if (quoted && *s == '\\' && s[1] > ' ' && s[1] < 0x7f)
            s++;
        else if (*s == '"')
            quoted = !quoted;
        else if (!quoted && strchr(" <>\\", *s) != NULL)
            return false;
    }
    return !quoted;
}

/* --- before anything is said --- */

static void rule_all(const struct dialog_mail *mail, struct dialog_verdict *v,
                     const struct dialog_verdict *same)
{
    for (size_t i = 0; i < mail->n; i++)
        v[i] = *same;
}

/* What this server cannot take at all. */
static bool is_impossible(const struct dialog *d, const struct dialog_mail *mail,
                          struct dialog_verdict *v)
{
    if (!is_path(mail->from))
        dialog_rule(v, DIALOG_FAILED, "5.1.7", "the sender's address cannot be sent");
    else if ((mail->utf8 || !is_ascii(mail->from)) && !d->utf8)
        dialog_rule(v, DIALOG_FAILED, "5.6.7", "%s takes no internationalised mail (SMTPUTF8)",
                    d->set->peer);
    else if (mail->eight_bit && !d->eight_bit)
        dialog_rule(v, DIALOG_FAILED, "5.6.3", "%s takes no 8-bit mail (8BITMIME)", d->set->peer);
    else if (d->size_max != 0 && mail->size > d->size_max)
        dialog_rule(v, DIALOG_FAILED, "5.3.4", "%s takes no mail of more than %" PRIu64 " bytes",
                    d->set->peer, d->size_max);
    else
        return false;
    return true;
}

/* A recipient who cannot be named to this server; true if so. */
static bool is_unspeakable(const struct dialog *d, const char *to, struct dialog_verdict *v)
{
    if (!is_path(to) || *to == '\0')
        dialog_rule(v, DIALOG_FAILED, "5.1.3", "the recipient's address cannot be sent");
    else if (!is_ascii(to) && !d->utf8)
        dialog_rule(v, DIALOG_FAILED, "5.6.7", "%s takes no internationalised addresses (SMTPUTF8)",
                    d->set->peer);
    else
        return false;
    return true;
}

/* --- the commands --- */

enum rcpt { RCPT_ASK, RCPT_DECIDED, RCPT_ACCEPTED };

struct transaction {
    struct dialog *d;
    const struct dialog_mail *mail;
    struct dialog_verdict *v;
    size_t accepted;
    uint8_t state[DIALOG_RCPTS]; /* enum rcpt */
};

static bool needs_utf8(const struct transaction *t)
{
    bool utf8 = t->mail->utf8 || !is_ascii(t->mail->from);
    for (size_t i = 0; i < t->mail->n; i++)
        utf8 |= t->state[i] == RCPT_ASK && !is_ascii(t->mail->to[i]);
    return utf8;
}

static enum sp_err put_mail(const struct transaction *t)
{
    char size[32] = "";
    if (t->d->size)
        snprintf(size, sizeof(size), " SIZE=%" PRIu64, t->mail->size);
    return dialog_put(t->d, "MAIL FROM:<%s>%s%s%s", t->mail->from, size,
                      t->mail->eight_bit ? " BODY=8BITMIME" : "", needs_utf8(t) ? " SMTPUTF8" : "");
}

/* Whoever has no verdict of their own yet gets this one. */
static void decide_rest(struct transaction *t, const struct dialog_verdict *same)
{
    for (size_t i = 0; i < t->mail->n; i++) {
        if (t->state[i] == RCPT_DECIDED)
            continue;
        t->v[i] = *same;
        t->state[i] = RCPT_DECIDED;
    }
    t->accepted = 0;
}

static enum sp_err lost(struct transaction *t, enum sp_err err, const char *during)
{
    dialog_lost(t->d, err, during, &t->d->all);
    decide_rest(t, &t->d->all);
    return SP_ERR_PEER;
}

/* 421 is the end, whatever it was the answer to. */
static enum sp_err good_bye(struct transaction *t)
{
    dialog_judge(t->d, &t->d->all);
    t->d->over = true;
    decide_rest(t, &t->d->all);
    return SP_ERR_PEER;
}

/* RFC 5321 4.5.3.1.10: too many for one transaction, not for this recipient. Old servers say 552.
 * A mailbox that is full (x.2.2) is another matter. */
static bool is_too_many(const struct transaction *t, const struct reply *r)
{
    bool said = r->enhanced[0] == '\0' || strcmp(r->enhanced + 1, ".5.3") == 0;
    return t->accepted > 0 && said && (r->code == 452 || r->code == 552);
}

static enum sp_err answer_rcpt(struct transaction *t, size_t i)
{
    struct dialog_verdict *v = &t->v[i];
    const struct reply *r = &t->d->reply;
    enum sp_err err = dialog_answer(t->d, DIALOG_MS_COMMAND, NULL);
    if (err != SP_OK)
        return lost(t, err, "RCPT");
    if (r->code == 421)
        return good_bye(t);
    if (r->code >= 300 && r->code < 400) {
        dialog_astray(t->d, "RCPT", v);
        decide_rest(t, v);
        return SP_ERR_PEER;
    }
    dialog_judge(t->d, v);
    t->state[i] = r->code < 300 ? RCPT_ACCEPTED : RCPT_DECIDED;
    t->accepted += r->code < 300;
    if (is_too_many(t, r)) {
        v->outcome = DIALOG_DEFERRED;
        v->enhanced[0] = '4';
        v->again = true;
    }
    return SP_OK;
}

/* The answer to MAIL. SP_ERR_DENIED: refused for all, the connection goes on. */
static enum sp_err answer_mail(struct transaction *t)
{
    struct dialog_verdict *refusal = &t->d->all;
    unsigned code;
    enum sp_err err = dialog_answer(t->d, DIALOG_MS_COMMAND, NULL);
    if (err != SP_OK)
        return lost(t, err, "MAIL");
    code = t->d->reply.code;
    if (code == 421)
        return good_bye(t);
    if (code < 300)
        return SP_OK;
    if (code < 400)
        dialog_astray(t->d, "MAIL", refusal);
    else
        dialog_judge(t->d, refusal);
    if (code >= 400)
        return SP_ERR_DENIED;
    decide_rest(t, refusal);
    return SP_ERR_PEER;
}

/* Answers that are owed and mean nothing. */
static enum sp_err discard(struct transaction *t, size_t n)
{
    struct dialog *d = t->d;
    for (; n > 0 && !d->over; n--)
        d->over = dialog_answer(d, DIALOG_MS_COMMAND, NULL) != SP_OK || d->reply.code == 421;
    return d->over ? SP_ERR_PEER : SP_ERR_DENIED;
}

/* All commands at once, then all answers (RFC 2920). A refused MAIL decides, whatever comes or does
 * not come of the answers to RCPT. */
static enum sp_err ask_in_one(struct transaction *t)
{
    size_t asked = 0;
    enum sp_err err = put_mail(t);
    for (size_t i = 0; err == SP_OK && i < t->mail->n; i++)
        if (t->state[i] == RCPT_ASK) {
            err = dialog_put(t->d, "RCPT TO:<%s>", t->mail->to[i]);
            asked++;
        }
    if (err == SP_OK)
        err = dialog_flush(t->d, DIALOG_MS_COMMAND);
    if (err != SP_OK)
        return lost(t, err, "MAIL");
    err = answer_mail(t);
    if (err == SP_ERR_DENIED) {
        decide_rest(t, &t->d->all);
        return discard(t, asked);
    }
    for (size_t i = 0; err == SP_OK && i < t->mail->n; i++)
        if (t->state[i] == RCPT_ASK)
            err = answer_rcpt(t, i);
    return err;
}

static enum sp_err ask_in_turn(struct transaction *t)
{
    enum sp_err err = put_mail(t);
    if (err == SP_OK)
        err = dialog_flush(t->d, DIALOG_MS_COMMAND);
    if (err != SP_OK)
        return lost(t, err, "MAIL");
    err = answer_mail(t);
    if (err == SP_ERR_DENIED)
        decide_rest(t, &t->d->all);
    for (size_t i = 0; err == SP_OK && i < t->mail->n; i++) {
        if (t->state[i] != RCPT_ASK)
            continue;
        err = dialog_put(t->d, "RCPT TO:<%s>", t->mail->to[i]);
        if (err == SP_OK)
            err = dialog_flush(t->d, DIALOG_MS_COMMAND);
        err = err == SP_OK ? answer_rcpt(t, i) : lost(t, err, "RCPT");
    }
    return err;
}

static enum sp_err send_content(struct transaction *t)
{
    enum sp_err err = dialog_content(t->d, t->mail, &t->d->all);
    for (size_t i = 0; i < t->mail->n; i++)
        if (t->state[i] == RCPT_ACCEPTED)
            t->v[i] = t->d->all;
    return err;
}

enum sp_err dialog_send(struct dialog *d, const struct dialog_mail *mail, struct dialog_verdict *v)
{
    struct dialog_verdict *all = &d->all;
    struct transaction t = {.d = d, .mail = mail, .v = v};
    bool one = false;
    dialog_rule(all, DIALOG_DEFERRED, "4.3.0", "not tried");
    rule_all(mail, v, all);
    if (mail->n == 0 || mail->n > DIALOG_RCPTS)
        return SP_ERR_LIMIT;
    if (d->over)
        return SP_ERR_PEER;
    if (is_impossible(d, mail, all)) {
        rule_all(mail, v, all);
        return SP_OK;
    }
    for (size_t i = 0; i < mail->n; i++) {
        bool no = is_unspeakable(d, mail->to[i], &v[i]);
        t.state[i] = no ? RCPT_DECIDED : RCPT_ASK;
        one |= !no;
    }
    if (!one)
        return SP_OK;
    enum sp_err err = d->pipelining ? ask_in_one(&t) : ask_in_turn(&t);
    if (err == SP_OK && t.accepted > 0)
        return send_content(&t);
    return err == SP_OK || err == SP_ERR_DENIED ? dialog_reset(d) : err;
}
