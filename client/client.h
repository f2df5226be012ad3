#ifndef SEALPOST_CLIENT_CLIENT_H
#define SEALPOST_CLIENT_CLIENT_H
/* What a command works with, and the table that it stands in. */
#include "client/account.h"
#include "client/contacts.h"
#include "client/keyfile.h"
#include "client/server.h"
#include "client/state.h"

#include <stdbool.h>

/* Options that were given; a command's row says which of them it takes. */
enum option_bit {
    OPT_JSON = 1u << 0,
    OPT_OUT = 1u << 1,
    OPT_LINK = 1u << 2,
    OPT_EXPIRES = 1u << 3,
    OPT_RESUME = 1u << 4,
    OPT_DROP = 1u << 5,
    OPT_TRACK = 1u << 6,
    OPT_UNTRACK = 1u << 7,
    OPT_FORGET = 1u << 8,
    OPT_HEADER = 1u << 9, /* -t */
    OPT_DOTS = 1u << 10,  /* -i */
    OPT_SUBJECT = 1u << 11,
    OPT_PRINT_LINKS = 1u << 12,
};
#define OPT_FLAGS (OPT_HEADER | OPT_DOTS)

struct args {
    unsigned given;
    const char *ca;      /* --ca or SEALPOST_CA; NULL */
    const char *out;     /* --out; NULL */
    const char *from;    /* -f; NULL */
    const char *expires; /* --expires; NULL */
    const char *subject; /* --subject; NULL */
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
    struct contacts contacts;
};

/* How far client_open goes before a command runs. */
enum client_need { NEED_STATE = 0, NEED_KEYS, NEED_SERVER };

struct command {
    const char *name;
    const char *words; /* arguments, for the usage line */
    const char *help;  /* one line for the list */
    const char *more;  /* the rest of --help */
    int min_words, max_words;
    unsigned options; /* enum option_bit, or'ed: may be given */
    enum client_need need;
    enum sp_err (*run)(struct client *c); /* reports its own failures */
    unsigned needs;                       /* options that have to be given */
    const char *flags;                    /* short options as for getopt; NULL: none */
    bool (*check)(const struct args *a);  /* NULL, or false: a usage error */
};

/* One row a command, ended by a row without a name (commands.c). */
extern const struct command client_commands[];

/* Everything up to need; failures are reported. client_close after either result. */
enum sp_err client_open(struct client *c, const struct args *args, enum client_need need);
void client_close(struct client *c, enum sp_err result);

/* Fetches the user's own sigchain into c->own, checks it against this device and settles pending
 * seeds by it. */
enum sp_err client_own_chain(struct client *c);

/* The appliance's public key for secrets, as it was when it was first seen: another one is refused.
 * SP_ERR_NOT_FOUND without a word: it has none. */
enum sp_err client_keeper(struct client *c);

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
bool cmd_fingerprint_check(const struct args *a);
enum sp_err cmd_delete(struct client *c);
enum sp_err cmd_open(struct client *c);
enum sp_err cmd_send(struct client *c);
bool cmd_send_check(const struct args *a);
enum sp_err cmd_outbox(struct client *c);
enum sp_err cmd_status(struct client *c);
enum sp_err cmd_revoke(struct client *c);

#endif
