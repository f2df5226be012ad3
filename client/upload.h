#ifndef SEALPOST_CLIENT_UPLOAD_H
#define SEALPOST_CLIENT_UPLOAD_H
/* Getting a letter to the server, through broken connections and restarts of either side, and sent
 * exactly once. */
#include "client/client.h"
#include "client/letter.h"

/* Uploads what is not there yet, and asks the server to send. Connections that break are tried
 * again, for about a minute without progress. SP_OK: sent, and gone from the outbox. SP_ERR_PEER:
 * it is still in the outbox; other errors: it was refused for good, and given up. Reported. */
enum sp_err upload_run(struct client *c, struct letter *l);

#endif
