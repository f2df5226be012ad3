#ifndef SEALPOST_CLIENT_TRUST_H
#define SEALPOST_CLIENT_TRUST_H
/* What may be said of an opened message: who could read it, who signed it, and whether its From
 * field says the same. */
#include "client/message.h"

/* Signed by a user, and no server was given a key. */
bool trust_end_to_end(const struct message *m);

/* A few words for a table: "end-to-end, from bob@example.org, FINGERPRINT". */
#define TRUST_WORDS 400u
void trust_words(const struct message *m, char out[TRUST_WORDS]);

/* Says on stderr what there is to be said; quiet: warnings alone. After message_pieces: reads the
 * beginning of the message for its From. Reported. */
enum sp_err trust_report(const struct message *m, bool quiet);

#endif
