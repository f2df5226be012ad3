/* One connection, one process: reads lines, runs commands, writes replies. The client is anybody;
 * what this process can reach is its connection, its sealer channel, one signature of the keeper
 * and, where senders are checked, the resolver's yes or no. */
#include "daemon/smtp/session.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void session_reply(struct session *x, const char *format, ...)
{
    char line[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof(line) - 2, format, args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof(line) - 2 ? (size_t)n : sizeof(line) - 3;
    line[len++] = '\r';
    line[len++] = '\n';
    if (len > SESSION_OUT - x->out_len && session_flush(x) != SP_OK)
        return;
    memcpy(x->out + x->out_len, line, len);
    x->out_len += len;
}

enum sp_err session_flush(struct session *x)
{
    enum sp_err err = stream_write(&x->stream, x->out, x->out_len);
    x->out_len = 0;
    if (err != SP_OK)
        x->quit = true;
    return err;
}

enum sp_err session_fill(struct session *x)
{
    enum sp_err err = session_flush(x);
    x->in_at = x->in_len = 0;
    return err == SP_OK ? stream_read(&x->stream, x->in, sizeof(x->in), &x->in_len) : err;
}

void session_cut(struct session *x, enum session_end why, const char *code, const char *text)
{
    session_reply(x, "%s %s %s", code, x->config->hostname, text);
    x->end = why;
    x->quit = true;
}

void session_error(struct session *x, const char *text)
{
    session_reply(x, "%s", text);
    if (++x->errors >= x->config->smtp_max_errors)
        session_cut(x, END_ERRORS, "421 4.7.0", "Too many errors");
}

void session_fail(struct session *x, enum sp_err err)
{
    x->failed = err;
    x->quit = true;
}

void session_forget_transaction(struct session *x)
{
    if (x->transfer.open)
        transfer_abort(x, "interrupted");
    if (x->mail)
        upstream_reset(&x->upstream);
    x->mail = x->smtputf8 = false;
    x->recipients = 0;
    x->first_rcpt[0] = '\0';
    x->chunks = CHUNKS_NONE;
    memset(&x->from, 0, sizeof(x->from));
}

/* More came along with a command before EHLO has offered PIPELINING: no client does that, but one
 * who was made to say what it did not mean to does (a browser, a request that was forged
 * elsewhere). Best effort: only what one read brought can be seen. HTTP gets its own answer, and a
 * chunk belongs to its BDAT. */
static bool is_ahead(const struct session *x, const char *line)
{
    enum command_verb verb = command_verb(line);
    return !x->offered && x->in_at < x->in_len && verb != CMD_HTTP && verb != CMD_BDAT;
}

static void run_line(struct session *x, char *line, size_t len)
{
#ifdef SEALPOST_TEST
    if (session_test_verb(x, line))
        return;
#endif
    if (is_ahead(x, line))
        session_cut(x, END_EARLY, "554 5.5.0", "PIPELINING was not offered");
    else
        command_run(x, line, len);
}

/* Runs one line out of what was read. */
static void step(struct session *x)
{
    char *line;
    size_t used = 0, len;
    enum lines_event event =
        lines_push(&x->lines, x->in + x->in_at, x->in_len - x->in_at, &used, &line, &len);
    x->in_at += used;
    switch (event) {
    case LINES_LINE:
        run_line(x, line, len);
        break;
    case LINES_LONG:
        session_error(x, "500 5.5.2 Line too long");
        break;
    case LINES_BARE:
        session_error(x, "500 5.5.2 Lines end with CRLF");
        break;
    case LINES_NUL:
        session_error(x, "501 5.5.2 NUL in a command");
        break;
    case LINES_MORE:
        break;
    }
}

static void greet(struct session *x)
{
    if (stream_talks(&x->stream, x->config->smtp_greet_delay))
        session_cut(x, END_EARLY, "554 5.5.0", "Talking before the greeting");
    else
        session_reply(x, "220 %s %s Sealpost", x->config->hostname, x->lmtp ? "LMTP" : "ESMTP");
}

static void say_why(struct session *x)
{
    if (x->failed == SP_ERR_EXPIRED)
        session_cut(x, END_SLOW, "421 4.4.2", "Idle too long, or too slow");
    else if (x->failed == SP_ERR_STATE)
        session_cut(x, END_WELL, "421 4.3.2", "Shutting down");
}

void session_run(struct session *x)
{
    lines_init(&x->lines);
    /* Anew for each message, and when one is done: who does nothing but NOOP holds a place that
     * others need. */
    stream_set_deadline(&x->stream, x->config->smtp_deadline);
    greet(x);
    while (!x->quit) {
        enum sp_err err = x->in_at == x->in_len ? session_fill(x) : SP_OK;
        if (err != SP_OK)
            session_fail(x, err);
        else
            step(x);
    }
    session_forget_transaction(x); /* what it holds of a message, too */
    say_why(x);
    if (x->failed != SP_ERR_PEER)
        session_flush(x);
    stream_close(&x->stream, x->end != END_WELL);
}
