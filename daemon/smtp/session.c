/* One connection, one process: reads lines, runs commands, writes replies. The client is anybody;
 * what this process can reach is its connection, its sealer channel and one signature of the
 * keeper. */
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

void session_error(struct session *x, const char *text)
{
    session_reply(x, "%s", text);
    if (++x->errors >= SESSION_ERRORS) {
        session_reply(x, "421 4.7.0 %s Too many errors", x->config->hostname);
        x->quit = true;
    }
}

void session_forget_transaction(struct session *x)
{
    if (x->mail)
        upstream_reset(&x->upstream);
    x->mail = false;
    x->recipients = 0;
    x->first_rcpt[0] = '\0';
    memset(&x->from, 0, sizeof(x->from));
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
#ifdef SEALPOST_TEST
        if (session_test_verb(x, line))
            break;
#endif
        command_run(x, line, len);
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

void session_run(struct session *x)
{
    enum sp_err err = SP_OK;
    lines_init(&x->lines);
    /* Anew for each message, and when one is done: who does nothing but NOOP holds a place that
     * others need. */
    stream_set_deadline(&x->stream, x->config->smtp_deadline);
    session_reply(x, "220 %s %s Sealpost", x->config->hostname, x->lmtp ? "LMTP" : "ESMTP");
    while (!x->quit && err == SP_OK) {
        if (x->in_at == x->in_len)
            err = session_fill(x);
        if (err == SP_OK)
            step(x);
    }
    if (err == SP_ERR_EXPIRED)
        session_reply(x, "421 4.4.2 %s Idle too long", x->config->hostname);
    else if (err == SP_ERR_STATE)
        session_reply(x, "421 4.3.2 %s Shutting down", x->config->hostname);
    if (err != SP_ERR_PEER)
        session_flush(x);
    stream_close(&x->stream);
}
