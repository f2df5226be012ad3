#ifndef SEALPOST_RELAY_DIALOG_IO_H
#define SEALPOST_RELAY_DIALOG_IO_H
/* What the files of the dialog share: commands out, answers in, and what they mean. */
#include "daemon/relay/dialog.h"

/* Adds a command line, without its CRLF, to those that are to be written. SP_ERR_LIMIT. */
enum sp_err dialog_put(struct dialog *d, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Writes them within the step; before the first that anything unasked came is an error
 * (SP_ERR_STATE is remote's; SP_ERR_FORMAT with reply.problem set is ours). */
enum sp_err dialog_flush(struct dialog *d, uint64_t ms);
/* One whole reply into d->reply. SP_ERR_FORMAT: none that can be read (reply.problem). each: NULL,
 * or called for every line, d->reply.line. */
enum sp_err dialog_answer(struct dialog *d, uint64_t ms, void (*each)(struct dialog *d));
/* dialog_put, dialog_flush, dialog_answer in one. The command is a literal or has no % in it. */
enum sp_err dialog_ask(struct dialog *d, const char *command, uint64_t ms);
/* RSET, so that nothing of a transaction without content slips into the next. SP_ERR_PEER: the
 * connection is over, which it may have been before. */
enum sp_err dialog_reset(struct dialog *d);

/* A verdict from d->reply. A reply that is neither 2xx, 4xx nor 5xx is out of order: DEFERRED. */
void dialog_judge(const struct dialog *d, struct dialog_verdict *v);
/* A verdict of our own; enhanced is for DIALOG_DEFERRED, and its class is made to fit. */
void dialog_rule(struct dialog_verdict *v, enum dialog_outcome outcome, const char *enhanced,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));
/* DEFERRED since err ended the connection at this point ("MAIL"); d->over is set. */
void dialog_lost(struct dialog *d, enum sp_err err, const char *during, struct dialog_verdict *v);
/* DEFERRED since the reply is none that may come at this point; d->over is set. */
void dialog_astray(struct dialog *d, const char *during, struct dialog_verdict *v);

#ifdef SEALPOST_TEST
/* testreply.c: a line of the answer to EHLO; then what it says is done. */
void dialog_test_learn(const char *line);
void dialog_test_act(struct dialog *d);
#endif

/* login.c: AUTH. DEFERRED on any refusal: that is for the operator to mend. */
enum sp_err dialog_login(struct dialog *d, struct dialog_verdict *v);

/* content.c: DATA or BDAT for those who were accepted. v is for all of them. Returns as dialog_send
 * does. */
enum sp_err dialog_content(struct dialog *d, const struct dialog_mail *mail,
                           struct dialog_verdict *v);

#endif
