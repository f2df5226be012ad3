#ifndef SEALPOST_CLIENT_LINKS_H
#define SEALPOST_CLIENT_LINKS_H
/* Links as their sender sees them (FORMAT.md section 6): a password each, that leaves the client
 * sealed for the keeper, or on the sender's own standard output, and in no other way. */
#include "client/client.h"
#include "client/letter.h"

/* "7d", "12h", "30m", "90s": seconds; 0: none of these. */
uint64_t links_lifetime(const char *text);

/* --link: says who gets a link and until when, and makes them. The state is locked by the caller.
 * Reported. */
enum sp_err links_make(struct client *c, struct letter *l);

/* --print-links, once l was sent: a line "ADDRESS LINK" each; with --json, an object with id and
 * links. Reported. */
enum sp_err links_print(struct client *c, const struct letter *l);

#endif
