#ifndef SEALPOST_CLIENT_CHAIN_H
#define SEALPOST_CLIENT_CHAIN_H
/*
 * Sigchains as this client has seen them (FORMAT.md section 8). All links of a chain are kept in
 * chains/, one file a user, so that a server that takes links back, shows others, or gives one
 * user's chain for another's is found out: an error that names the chain, never mended silently.
 *
 *   chains/<SHA-256 of the lower-case address, 32 hex digits of it>:
 *   "SPCH" u8 version=1 b16 address, then the wires
 */
#include "client/server.h"
#include "client/state.h"
#include "envelope/sigchain.h"

struct chain {
    struct sigchain now; /* after the newest link */
    char address[ACCOUNT_MAX_ADDRESS + 1];
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

/* The remembered chain of a user id. SP_ERR_NOT_FOUND without a word. */
enum sp_err chain_by_user(struct state *s, const uint8_t user_id[ID_SIZE], struct chain **out);

#endif
