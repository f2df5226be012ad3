#ifndef SEALPOST_CLIENT_COMPOSE_H
#define SEALPOST_CLIENT_COMPOSE_H
/* A message from standard input to a letter that is ready for its upload: header looked at and
 * completed, recipients resolved, pieces sealed while they are read. */
#include "client/client.h"
#include "client/letter.h"

/* Options as sendmail has them, in c->args. Called with the state locked; it is unlocked while the
 * message is read, and unlocked at the end. *out, on success, is in the outbox. Reported. */
enum sp_err compose(struct client *c, struct letter **out);

#endif
