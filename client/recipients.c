/* Addresses to keys. The server says who an address leads to, and is not trusted: an address that
 * was a user's own stays that user's, keys come from verified sigchains alone, and aliases, which
 * cannot be verified, are said. */
#include "client/recipients.h"
#include "client/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum sp_err add_own(struct client *c, struct letter *l, struct reader **out)
{
    enum sp_err err = client_own_chain(c);
    if (err == SP_OK)
        err = letter_reader(l, c->own->now.user_id, c->own->now.puk_generation, c->own->now.puk_pk,
                            out);
    return err;
}

/* The keys that mail for this user may be sealed with now. address: as the sender wrote it. */
static enum sp_err user_chain(struct client *c, const uint8_t user_id[ID_SIZE], const char *address,
                              const struct chain **out)
{
    const struct contact *who;
    *out = c->own;
    if (memcmp(user_id, c->keys->user_id, ID_SIZE) == 0)
        return SP_OK;
    enum sp_err err = contacts_get(&c->contacts, c->state, c->server, user_id, &who);
    if (err != SP_OK)
        return err;
    if (who->gone)
        return report_plain(SP_ERR_NO_KEY,
                            "%s: a user it leads to has no keys (not enrolled, or removed)",
                            address);
    *out = who->chain;
    if (chain_moved(who->chain)) {
        char text[SIGCHAIN_FINGERPRINT];
        sigchain_fingerprint(&who->chain->now, text);
        return report_plain(SP_ERR_AUTH,
                            "%s: the fingerprint of %s changed since you compared it; it is %s "
                            "now. Compare it with them over another way, then 'sealpost "
                            "fingerprint %s --track'",
                            address, who->chain->address, text, who->chain->address);
    }
    return SP_OK;
}

/* An address that was seen as a user's own has to lead to that user still. */
static enum sp_err check_remembered(struct client *c, const char *address, uint8_t users[][ID_SIZE],
                                    size_t n)
{
    struct chain *known;
    bool there = false;
    enum sp_err err = chain_load(c->state, address, &known);
    if (err != SP_OK)
        return err;
    for (size_t i = 0; i < n; i++)
        there = there || memcmp(users[i], known->now.user_id, ID_SIZE) == 0;
    if (known->now.seq > 0 && !there)
        err = report_plain(SP_ERR_AUTH,
                           "%s: this was a user's own address, and the server leads it to %s now. "
                           "If that is so, 'sealpost fingerprint %s --forget' forgets the user",
                           address, n > 0 ? "others" : "the outside", address);
    chain_free(known);
    return err;
}

/* "alias: team@x leads to a@x, b@x", for an address that is no user's own. */
static void say_alias(const char *address, const struct chain *const *chains, size_t n)
{
    char text[1024];
    size_t len = 0;
    if (n == 1 && addrlist_same(chains[0]->address, address))
        return;
    for (size_t i = 0; i < n && len < sizeof text - 1; i++) {
        int more =
            snprintf(text + len, sizeof text - len, "%s%s", i > 0 ? ", " : "", chains[i]->address);
        len += more > 0 ? (size_t)more : 0;
    }
    report_note("%s leads to %s%s, as the server says", address, text,
                len >= sizeof text ? "..." : "");
}

static enum sp_err add_users(struct client *c, struct letter *l, uint32_t index,
                             uint8_t users[][ID_SIZE], size_t n)
{
    const char *address = l->recipient[index].address;
    const struct chain *chains[RESOLVE_MAX];
    enum sp_err err = SP_OK;
    for (size_t i = 0; i < n && err == SP_OK; i++) {
        struct reader *r;
        err = user_chain(c, users[i], address, &chains[i]);
        if (err == SP_OK)
            err = letter_reader(l, users[i], chains[i]->now.puk_generation, chains[i]->now.puk_pk,
                                &r);
        if (err == SP_OK)
            err = letter_leads_to(r, index);
        if (err == SP_ERR_LIMIT || err == SP_ERR_MEMORY)
            report_fail(err, "%s: number of users", address);
    }
    if (err == SP_OK)
        say_alias(address, chains, n);
    return err;
}

static enum sp_err resolve_one(struct client *c, struct letter *l, uint32_t index)
{
    uint8_t users[RESOLVE_MAX][ID_SIZE];
    size_t n = 0;
    bool ours = false;
    const char *address = l->recipient[index].address;
    enum sp_err err = server_resolve(c->server, address, &ours, users, &n);
    if (err == SP_ERR_NOT_FOUND)
        return report_plain(err, "%s: there is nobody by this address", address);
    if (err == SP_OK)
        err = check_remembered(c, address, users, n);
    if (err != SP_OK)
        return err;
    l->recipient[index].outside = !ours;
    return ours ? add_users(c, l, index, users, n) : SP_OK;
}

/* What concerns one address alone does not hide what is wrong with others. */
static bool goes_on(enum sp_err err)
{
    return err == SP_ERR_NOT_FOUND || err == SP_ERR_NO_KEY || err == SP_ERR_AUTH;
}

enum sp_err recipients_resolve(struct client *c, struct letter *l)
{
    struct reader *own;
    enum sp_err result = add_own(c, l, &own);
    if (result != SP_OK)
        return result;
    for (uint32_t i = 0; i < l->n_recipients; i++) {
        enum sp_err err = resolve_one(c, l, i);
        if (err != SP_OK)
            result = err;
        if (err != SP_OK && !goes_on(err))
            break;
    }
    return result;
}

enum sp_err recipients_refresh(struct client *c, struct letter *l)
{
    contacts_free(&c->contacts);
    chain_free(c->own);
    c->own = NULL;
    enum sp_err err = client_own_chain(c);
    for (uint32_t i = 0; i < l->n_readers && err == SP_OK; i++) {
        struct reader *r = &l->reader[i];
        const struct chain *chain;
        const char *address = r->n > 0 ? l->recipient[r->of[0]].address : c->account.address;
        err = user_chain(c, r->user_id, address, &chain);
        if (err == SP_OK)
            err = letter_reader(l, r->user_id, chain->now.puk_generation, chain->now.puk_pk, &r);
    }
    return err;
}

enum sp_err recipients_own(struct client *c, const char *address, const char *what)
{
    uint8_t users[RESOLVE_MAX][ID_SIZE];
    size_t n = 0;
    bool ours = false, own = addrlist_same(address, c->account.address);
    enum sp_err err = own ? SP_OK : server_resolve(c->server, address, &ours, users, &n);
    if (err != SP_OK && err != SP_ERR_NOT_FOUND)
        return err;
    for (size_t i = 0; i < n; i++)
        own = own || memcmp(users[i], c->keys->user_id, ID_SIZE) == 0;
    return own ? SP_OK
               : report_plain(SP_ERR_DENIED,
                              "%s %s is not yours: mail is from %s, or from an alias that leads to "
                              "you",
                              what, address, c->account.address);
}
