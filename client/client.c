/* What commands have in common: state, keys, server, own chain. The user is trusted, the server is
 * not. */
#include "client/client.h"
#include "client/report.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static enum sp_err not_enrolled(void)
{
    return report_plain(SP_ERR_NOT_FOUND,
                        "not enrolled yet: run 'sealpost enroll URL ADDRESS CODE' first (the "
                        "postmaster gives you the three)");
}

static enum sp_err load_account(struct client *c)
{
    enum sp_err err = account_load(c->state, &c->account);
    if (err == SP_ERR_NOT_FOUND)
        return not_enrolled();
    if (err == SP_OK && !c->account.enrolled)
        return report_plain(SP_ERR_STATE,
                            "the enrolment of %s at %s got no answer: run 'sealpost enroll' again, "
                            "with the same URL and address",
                            c->account.address, c->account.url);
    return err;
}

enum sp_err client_open(struct client *c, const struct args *args, enum client_need need)
{
    memset(c, 0, sizeof *c);
    c->args = args;
    enum sp_err err = state_open(need == NEED_STATE, &c->state);
    if (err == SP_ERR_NOT_FOUND)
        return not_enrolled();
    if (err != SP_OK || need == NEED_STATE)
        return err;
    err = load_account(c);
    if (err == SP_OK)
        err = keyfile_load(c->state, &c->keys);
    if (err == SP_OK && need == NEED_SERVER)
        err = server_open(&c->account, c->keys, args->ca, &c->server);
    return err;
}

void client_close(struct client *c, enum sp_err result)
{
    server_close(c->server, result == SP_OK);
    chain_free(c->own);
    contacts_free(&c->contacts);
    keyring_free(c->keys);
    state_close(c->state);
    memset(c, 0, sizeof *c);
}

struct settling {
    struct keyring *keys;
    bool changed;
};

static enum sp_err settle(void *ctx, uint32_t generation, const uint8_t puk_pk[KEY_SIZE])
{
    struct settling *s = ctx;
    return keyring_settle(s->keys, generation, puk_pk, &s->changed);
}

/* The server must not have given our address another identity. */
static enum sp_err check_device(const struct client *c)
{
    const struct sigchain *now = &c->own->now;
    const struct chain_device *d = sigchain_device(now, c->keys->device_id);
    if (memcmp(now->user_id, c->keys->user_id, ID_SIZE) != 0 || d == NULL ||
        memcmp(d->sign_pk, keyring_sign_pk(c->keys), KEY_SIZE) != 0)
        return report_plain(SP_ERR_AUTH, "sigchain of %s: it is your own, but not this device's",
                            c->own->address);
    if (d->revoked)
        report_note("warning: this device has been revoked");
    return SP_OK;
}

enum sp_err client_own_chain(struct client *c)
{
    struct settling s = {.keys = c->keys};
    if (c->own != NULL)
        return SP_OK;
    enum sp_err err = chain_load(c->state, c->account.address, &c->own);
    if (err == SP_OK)
        err = chain_update_own(c->own, c->state, c->server);
    if (err == SP_OK)
        err = check_device(c);
    if (err != SP_OK)
        return err;
    err = chain_puks(c->own, settle, &s);
    if (err != SP_OK)
        return report_fail(err, "sigchain of %s: your keys", c->own->address);
    return s.changed ? keyfile_save(c->state, c->keys) : SP_OK;
}

enum sp_err client_keeper(struct client *c)
{
    uint8_t pk[KEY_SIZE];
    struct account *a = &c->account;
    enum sp_err err = server_keeper(c->server, pk);
    if (err != SP_OK)
        return err;
    if (a->has_keeper && memcmp(a->keeper, pk, KEY_SIZE) != 0)
        return report_plain(
            SP_ERR_AUTH,
            "the appliance's key for secrets (keeper key) is not the one seen before. Either it "
            "was "
            "set up anew, or somebody stands between who would read what you send to recipients "
            "outside. Ask the postmaster over another way; if it was set up anew, remove "
            "\"keeper\" "
            "from %s/account.json",
            state_path(c->state));
    if (a->has_keeper)
        return SP_OK;
    memcpy(a->keeper, pk, KEY_SIZE);
    a->has_keeper = true;
    if (a->enrolled)
        report_note("the appliance's key for secrets is remembered from now on");
    return account_save(c->state, a);
}

enum sp_err client_each_mail(struct client *c, uint64_t after,
                             enum sp_err (*each)(void *ctx, const struct mail *m), void *ctx)
{
    struct mail *page = calloc(MAIL_PAGE, sizeof *page);
    if (page == NULL)
        return report_fail(SP_ERR_MEMORY, "mailbox");
    bool more = true;
    enum sp_err err = SP_OK;
    while (err == SP_OK && more) {
        uint32_t n;
        err = server_mailbox(c->server, after, page, &n, &more);
        for (uint32_t i = 0; err == SP_OK && i < n; i++)
            err = each(ctx, &page[i]);
        if (n > 0)
            after = page[n - 1].seq;
    }
    free(page);
    return err;
}

struct search {
    const char *prefix; /* NULL: too short for one */
    uint64_t number;    /* 0: not a number */
    unsigned found;
    char id[ID_HEX + 1];
};

static enum sp_err look(void *ctx, const struct mail *m)
{
    struct search *s = ctx;
    bool match = s->prefix != NULL && strncmp(m->id, s->prefix, strlen(s->prefix)) == 0;
    if (match || (s->number != 0 && s->number == m->seq)) {
        s->found++;
        memcpy(s->id, m->id, sizeof s->id);
    }
    return SP_OK;
}

enum sp_err client_find_mail(struct client *c, const char *typed, char id[ID_HEX + 1])
{
    char lower[ID_HEX + 1];
    size_t n = strlen(typed);
    for (size_t i = 0; i <= n && n <= ID_HEX; i++)
        lower[i] = (char)tolower((unsigned char)typed[i]);
    bool hex = n > 0 && n <= ID_HEX && strspn(lower, "0123456789abcdef") == n;
    bool number = hex && n < 19 && strspn(lower, "0123456789") == n;
    if (hex && n == ID_HEX) {
        memcpy(id, lower, ID_HEX + 1);
        return SP_OK;
    }
    if (!number && (!hex || n < 6))
        return report_plain(SP_ERR_NOT_FOUND,
                            "no message id: it has 32 hex digits; 6 or more of its first ones will "
                            "do, or the number that 'sealpost list' shows");
    struct search s = {.prefix = n >= 6 ? lower : NULL,
                       .number = number ? strtoull(lower, NULL, 10) : 0};
    enum sp_err err = client_each_mail(c, 0, look, &s);
    if (err != SP_OK)
        return err;
    if (s.found == 0)
        return report_plain(SP_ERR_NOT_FOUND, "no message %s in your mailbox", lower);
    if (s.found > 1)
        return report_plain(SP_ERR_EXISTS,
                            "%s is the beginning of %u messages' ids: give more of it", lower,
                            s.found);
    memcpy(id, s.id, ID_HEX + 1);
    return SP_OK;
}
