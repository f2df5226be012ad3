/* Commands and answers of one SMTP connection, always in step: nothing is read that nobody asked
 * for, and nothing is asked while an answer is waiting. The server is hostile. */
#include "daemon/relay/dialog_io.h"
#include "sandbox/lockmem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FAREWELL_MS 1000u

enum sp_err dialog_put(struct dialog *d, const char *format, ...)
{
    size_t room = sizeof(d->out) - d->out_len;
    va_list args;
    va_start(args, format);
    int n = vsnprintf((char *)d->out + d->out_len, room, format, args);
    va_end(args);
    if (n < 0 || (size_t)n + 2 >= room)
        return SP_ERR_LIMIT;
    d->out_len += (size_t)n;
    d->out[d->out_len++] = '\r';
    d->out[d->out_len++] = '\n';
    return SP_OK;
}

/* Something came before we spoke. A server may say good-bye at any time (RFC 5321 3.8); any other
 * reply would be taken for the answer to what we are about to say. */
static enum sp_err out_of_turn(struct dialog *d)
{
    enum sp_err err = dialog_answer(d, FAREWELL_MS, NULL);
    if (err == SP_OK && d->reply.code != 421)
        d->reply.problem = "a reply that nobody asked for";
    return err == SP_OK ? SP_ERR_FORMAT : err;
}

enum sp_err dialog_flush(struct dialog *d, uint64_t ms)
{
    bool came = false;
    enum sp_err err = remote_early(d->remote, &came);
    if (came)
        err = out_of_turn(d);
    remote_step(d->remote, ms);
    if (err == SP_OK)
        err = remote_write(d->remote, d->out, d->out_len);
    lockmem_wipe(d->out, d->out_len);
    d->out_len = 0;
    return err;
}

enum sp_err dialog_answer(struct dialog *d, uint64_t ms, void (*each)(struct dialog *d))
{
    struct remote *r = d->remote;
    reply_init(&d->reply);
    remote_step(r, ms);
    for (;;) {
        enum sp_err err = r->at < r->len ? SP_OK : remote_fill(r);
        size_t used = 0;
        if (err != SP_OK)
            return err;
        enum reply_event event = reply_push(&d->reply, r->in + r->at, r->len - r->at, &used);
        r->at += used;
        if (event == REPLY_BAD)
            return SP_ERR_FORMAT;
        if (event != REPLY_MORE && each != NULL)
            each(d);
        if (event == REPLY_DONE)
            return SP_OK;
    }
}

enum sp_err dialog_ask(struct dialog *d, const char *command, uint64_t ms)
{
    enum sp_err err = dialog_put(d, "%s", command);
    if (err == SP_OK)
        err = dialog_flush(d, ms);
    return err == SP_OK ? dialog_answer(d, ms, NULL) : err;
}

/* A server that refused MAIL has no transaction; RSET all the same. */
enum sp_err dialog_reset(struct dialog *d)
{
    if (!d->over && dialog_ask(d, "RSET", DIALOG_MS_COMMAND) != SP_OK)
        d->over = true;
    d->over |= d->reply.code != 250;
    return d->over ? SP_ERR_PEER : SP_OK;
}

/* --- verdicts --- */

static const char class_of[] = {
    [DIALOG_NONE] = '4', [DIALOG_SENT] = '2', [DIALOG_DEFERRED] = '4', [DIALOG_FAILED] = '5'};

void dialog_judge(const struct dialog *d, struct dialog_verdict *v)
{
    const struct reply *r = &d->reply;
    memset(v, 0, sizeof(*v));
    v->outcome = r->code < 300 ? DIALOG_SENT : r->code < 500 ? DIALOG_DEFERRED : DIALOG_FAILED;
    v->code = r->code;
    if (r->enhanced[0] == class_of[v->outcome])
        snprintf(v->enhanced, sizeof(v->enhanced), "%s", r->enhanced);
    else
        snprintf(v->enhanced, sizeof(v->enhanced), "%c.0.0", class_of[v->outcome]);
    snprintf(v->text, sizeof(v->text), "%s", r->text);
}

void dialog_rule(struct dialog_verdict *v, enum dialog_outcome outcome, const char *enhanced,
                 const char *format, ...)
{
    memset(v, 0, sizeof(*v));
    v->outcome = outcome;
    snprintf(v->enhanced, sizeof(v->enhanced), "%s", enhanced);
    v->enhanced[0] = class_of[outcome];
    va_list args;
    va_start(args, format);
    vsnprintf(v->text, sizeof(v->text), format, args);
    va_end(args);
    for (char *at = v->text; *at != '\0'; at++) /* names may come from the DNS */
        *at = *at >= ' ' && *at < 0x7f ? *at : '?';
}

static const char *how_ended(const struct remote *r)
{
    static const char *const words[] = {
        [REMOTE_OPEN] = "connection lost",
        [REMOTE_CLOSED] = "connection closed",
        [REMOTE_CUT] = "connection cut",
        [REMOTE_BROKEN] = "TLS broken",
    };
    return words[r->end];
}

void dialog_lost(struct dialog *d, enum sp_err err, const char *during, struct dialog_verdict *v)
{
    d->over = true;
    if (err == SP_ERR_FORMAT && d->reply.problem != NULL)
        dialog_rule(v, DIALOG_DEFERRED, "4.5.0", "%s, at %s", d->reply.problem, during);
    else if (err == SP_ERR_FORMAT)
        dialog_judge(d, v); /* a 421 that came unasked */
    else if (err == SP_ERR_EXPIRED)
        dialog_rule(v, DIALOG_DEFERRED, "4.4.2", "time is over, at %s", during);
    else if (err == SP_ERR_STATE)
        dialog_rule(v, DIALOG_DEFERRED, "4.3.2", "interrupted here, at %s", during);
    else if (err == SP_ERR_PEER)
        dialog_rule(v, DIALOG_DEFERRED, "4.4.2", "%s, at %s", how_ended(d->remote), during);
    else
        dialog_rule(v, DIALOG_DEFERRED, "4.3.0", "%s, here, at %s", sp_err_text(err), during);
}

void dialog_astray(struct dialog *d, const char *during, struct dialog_verdict *v)
{
    d->over = true;
    dialog_rule(v, DIALOG_DEFERRED, "4.5.0", "answer %u out of order, at %s", d->reply.code,
                during);
}
