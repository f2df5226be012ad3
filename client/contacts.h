#ifndef SEALPOST_CLIENT_CONTACTS_H
#define SEALPOST_CLIENT_CONTACTS_H
/* Other users' sigchains during one run: each is fetched once, verified against what is remembered,
 * and remembered. */
#include "client/chain.h"

struct contact {
    uint8_t user_id[ID_SIZE];
    bool gone;           /* the server has no such user any more */
    struct chain *chain; /* NULL: gone, and never seen */
};

struct contacts {
    struct contact *list;
    size_t n;
};

/* *out is good until the next call. Failures are reported, also again for the same user. */
enum sp_err contacts_get(struct contacts *all, struct state *s, struct server *server,
                         const uint8_t user_id[ID_SIZE], const struct contact **out);
/* Also to see everyone's chain anew. */
void contacts_free(struct contacts *all);

#endif
