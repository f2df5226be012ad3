#ifndef SEALPOST_CLIENT_CHAIN_H
#define SEALPOST_CLIENT_CHAIN_H
/*
 * Sigchains as this client has seen them (FORMAT.md section 8). All links of a chain are kept in
 * chains/, one file a user, so that a server that takes links back, shows others, or gives one
 * user's chain for another's is found out: an error that names the chain, never mended silently.
 *
 *   chains/<SHA-256 of the lower-case address, 32 hex digits of it>:
 *   "SPCH" u8 version=2 b16 address u8 tracked fingerprint[32], then the wires
 *
 * An address belongs to one user id for good: another user's chain for it is refused, too. A user
 * who compared fingerprints may *track* the contact: what was compared is kept, and nothing is
 * sent to a chain that moved on since (client/contacts.h).
 */
#include "client/server.h"
#include "client/state.h"
#include "envelope/sigchain.h"

struct chain {
    struct sigchain now; /* after the newest link */
    char address[ACCOUNT_MAX_ADDRESS + 1];
    bool tracked;
    uint8_t tracked_head[HASH_SIZE]; /* when it was compared */
    uint8_t *wires;
    size_t len;
};

/* What is remembered of an address; an empty chain (seq 0) when nothing is. Failures are reported.
 */
enum sp_err chain_load(struct state *s, const char *address, struct chain **out);
void chain_free(struct chain *c);

/* Takes in a server's answer: the links above seq - 1, so that the newest one known has to come
 * back (all of them for an empty chain). On failure, which is reported, c is as it was. */
enum sp_err chain_take(struct chain *c, const uint8_t user_id[ID_SIZE], const uint8_t *wires,
                       size_t len);
/* Asks the server and remembers what is new. */
enum sp_err chain_update(struct chain *c, struct state *s, struct server *server);
/* The same for the user's own: links that the server has lost are given back (client/mend.h). */
enum sp_err chain_update_own(struct chain *c, struct state *s, struct server *server);
/* Adds one link that was made here. */
enum sp_err chain_add(struct chain *c, const uint8_t *wire, size_t len);
enum sp_err chain_save(const struct chain *c, struct state *s);
void chain_forget(const struct chain *c, struct state *s);

/* Calls each(ctx, generation, puk_pk) for every PUK generation, oldest first; its failure ends it.
 */
enum sp_err chain_puks(const struct chain *c,
                       enum sp_err (*each)(void *ctx, uint32_t generation,
                                           const uint8_t puk_pk[KEY_SIZE]),
                       void *ctx);

/* A tracked chain moved on since its fingerprint was compared. */
bool chain_moved(const struct chain *c);

/* Asks the server for a user's chain, known here or not, and remembers what is new. *gone: the
 * server has none of this id (any more); *out is what is remembered then, or NULL. */
enum sp_err chain_fetch(struct state *s, struct server *server, const uint8_t user_id[ID_SIZE],
                        bool *gone, struct chain **out);

/* The remembered chain of a user id. SP_ERR_NOT_FOUND without a word. */
enum sp_err chain_by_user(struct state *s, const uint8_t user_id[ID_SIZE], struct chain **out);

#endif
