#ifndef SEALPOST_CLIENT_ACCOUNT_H
#define SEALPOST_CLIENT_ACCOUNT_H
/* Where this user is enrolled: account.json, public data. */
#include "client/state.h"
#include "envelope/keys.h"

#include <stdbool.h>

#define ACCOUNT_MAX_URL     512u
#define ACCOUNT_MAX_ADDRESS 255u

struct account {
    char url[ACCOUNT_MAX_URL + 1]; /* https, without a trailing slash */
    char address[ACCOUNT_MAX_ADDRESS + 1];
    bool enrolled;   /* false: asked for, the answer never came */
    bool has_keeper; /* the appliance's public key for secrets was seen, and is this: */
    uint8_t keeper[KEY_SIZE];
};

/* Checks and copies what the user typed; says what is wrong with it. */
enum sp_err account_set(struct account *a, const char *url, const char *address);
enum sp_err account_save(struct state *s, const struct account *a);
/* SP_ERR_NOT_FOUND without a word when there is none. */
enum sp_err account_load(struct state *s, struct account *a);
void account_forget(struct state *s);

#endif
