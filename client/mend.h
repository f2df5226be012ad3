#ifndef SEALPOST_CLIENT_MEND_H
#define SEALPOST_CLIENT_MEND_H
/* A server that came back from a backup lacks the newest links of chains. It learns nothing new
 * when it is given what it had, and takes each link for its signature alone: so the user's own
 * device, which has kept them all, gives them back. */
#include "client/chain.h"

/* c: the user's own, of which the server shows less than is remembered. What it shows has to be the
 * beginning of that, byte for byte; the rest is given to it, and that is said in one line. Failures
 * are reported; links that were taken before one stay, and the next call goes on behind them. */
enum sp_err mend_chain(const struct chain *c, struct server *server);

#endif
