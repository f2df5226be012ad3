#ifndef SEALPOST_CLIENT_CLIENT_H
#define SEALPOST_CLIENT_CLIENT_H
/* What a command works with, and the table that it stands in. */
#include "client/account.h"
#include "client/chain.h"
#include "client/keyfile.h"
#include "client/server.h"
#include "client/state.h"

#include <stdbool.h>

/* Options that were given; a command's row says which of them it takes. */
enum option_bit { OPT_JSON = 1u << 0, OPT_OUT = 1u << 1 };

struct args {
    unsigned given;
    const char *ca;  /* --ca or SEALPOST_CA; NULL */
    const char *out; /* --out */
    int n;
    char **words; /* what is not an option */
};

struct client {
    const struct args *args;
    struct state *state;
    struct account account;
    struct keyring *keys;
    struct server *server;
    struct chain *own; /* NULL until client_own_chain */
};

/* How far client_open goes before a command runs. */
enum client_need { NEED_STATE, NEED_KEYS, NEED_SERVER };

struct command {
    const char *name;
    const char *words; /* arguments, for the usage line */
    const char *help;  /* one line for the list */
    const char *more;  /* the rest of --help */
    int min_words, max_words;
    unsigned options; /* enum option_bit, or'ed */
    enum client_need need;
    enum sp_err (*run)(struct client *c); /* reports its own failures */
};

/* One row a command, ended by a row without a name (commands.c). */
extern const struct command client_commands[];

/* Everything up to need; failures are reported. client_close after either result. */
enum sp_err client_open(struct client *c, const struct args *args, enum client_need need);
void client_close(struct client *c, enum sp_err result);

/* Fetches the user's own sigchain into c->own, checks it against this device and settles pending
 * seeds by it. */
enum sp_err client_own_chain(struct client *c);

/* All messages, oldest first: each(ctx, mail), whose failure ends it. */
enum sp_err client_each_mail(struct client *c, uint64_t after,
                             enum sp_err (*each)(void *ctx, const struct mail *m), void *ctx);
/* A message by what the user typed: 32 hex digits, an unambiguous beginning of at least 6 of them,
 * or the number that list shows. */
enum sp_err client_find_mail(struct client *c, const char *typed, char id[ID_HEX + 1]);

enum sp_err cmd_enroll(struct client *c);
enum sp_err cmd_list(struct client *c);
enum sp_err cmd_read(struct client *c);
enum sp_err cmd_sync(struct client *c);
enum sp_err cmd_raw(struct client *c);
enum sp_err cmd_keys(struct client *c);
enum sp_err cmd_rotate(struct client *c);
enum sp_err cmd_fingerprint(struct client *c);
enum sp_err cmd_delete(struct client *c);

#endif
