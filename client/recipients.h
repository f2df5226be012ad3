#ifndef SEALPOST_CLIENT_RECIPIENTS_H
#define SEALPOST_CLIENT_RECIPIENTS_H
/* Who a letter's addresses lead to, and with which keys. The state is locked by the caller. */
#include "client/client.h"
#include "client/letter.h"

/* Makes the sender the first reader, and finds the users behind every recipient, or that it is
 * outside. Their sigchains are verified and remembered; a tracked contact whose fingerprint changed
 * stops the send. Says all that is wrong before it fails, and whom an alias leads to. */
enum sp_err recipients_resolve(struct client *c, struct letter *l);
/* The same readers' newest keys, after the server refused older ones. */
enum sp_err recipients_refresh(struct client *c, struct letter *l);

/* Whether mail may be from this address: the user's own, or an alias that leads to them.
 * SP_ERR_DENIED otherwise. Reported. */
enum sp_err recipients_own(struct client *c, const char *address, const char *what);

#endif
