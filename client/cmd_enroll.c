/* sealpost enroll. What is made here is on disk before the server hears of it, so that a lost
 * answer loses no key; the server is believed when it shows our own root link. A server that was
 * restored from a backup without this user takes the same root, and the links behind it, anew. */
#include "client/client.h"
#include "client/maildir.h"
#include "client/report.h"
#include "client/secret.h"
#include "envelope/sigchain.h"

#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static enum sp_err make_root(struct client *c)
{
    uint8_t wire[SIGCHAIN_MAX_WIRE], puk_pk[KEY_SIZE];
    size_t len = 0;
    struct chain_device device = {.revoked = false};
    const struct chain_signer by = {
        .device_id = c->keys->device_id, .sign_sk = c->keys->sign_sk, .time_ms = now_ms()};
    memcpy(device.id, c->keys->device_id, ID_SIZE);
    memcpy(device.sign_pk, keyring_sign_pk(c->keys), KEY_SIZE);
    enum sp_err err = keys_x25519_public(c->keys->box_sk, device.box_pk);
    if (err == SP_OK)
        err = keys_puk(c->keys->seeds[0].seed, NULL, puk_pk, NULL);
    if (err == SP_OK)
        err = sigchain_make_root(c->keys->user_id, &by, &device, puk_pk, c->account.address, wire,
                                 &len);
    if (err != SP_OK)
        return report_fail(err, "making the root link");
    return chain_add(c->own, wire, len);
}

/* A key file without an account belongs to something that went wrong: never written over. */
static enum sp_err refuse_stray_keys(struct client *c)
{
    uint8_t *bytes = NULL;
    size_t len;
    enum sp_err err = state_read(c->state, KEYFILE_NAME, SIZE_MAX / 2, &bytes, &len);
    free(bytes);
    if (err == SP_ERR_NOT_FOUND)
        return SP_OK;
    return err != SP_OK
               ? err
               : report_plain(SP_ERR_EXISTS,
                              "%s holds keys, but no account: keep them safe elsewhere and "
                              "remove %s/%s to start anew",
                              state_path(c->state), state_path(c->state), KEYFILE_NAME);
}

static enum sp_err make_keys(struct client *c)
{
    struct passphrase *p;
    enum sp_err err = refuse_stray_keys(c);
    if (err == SP_OK)
        err = secret_passphrase(true, &p);
    if (err != SP_OK)
        return err;
    if (p->len == 0)
        report_note("no passphrase: the key file is only as safe as %s", state_path(c->state));
    err = keyring_create(p, &c->keys);
    secret_free(p);
    if (err != SP_OK)
        return report_fail(err, "making keys");
    err = chain_load(c->state, c->account.address, &c->own);
    if (err == SP_OK && c->own->now.seq > 0)
        err = report_plain(SP_ERR_EXISTS, "%s already knows a sigchain of %s", state_path(c->state),
                           c->account.address);
    return err == SP_OK ? make_root(c) : err;
}

static enum sp_err load_keys(struct client *c)
{
    enum sp_err err = keyfile_load(c->state, &c->keys);
    if (err == SP_OK)
        err = chain_load(c->state, c->account.address, &c->own);
    if (err == SP_OK && c->own->now.seq == 0)
        err =
            report_plain(SP_ERR_NOT_FOUND, "the unfinished enrolment in %s has lost its root link",
                         state_path(c->state));
    return err;
}

static enum sp_err enrolled_already(const struct client *c)
{
    return report_plain(SP_ERR_EXISTS,
                        "%s is enrolled already, as %s at %s: set SEALPOST_HOME to another "
                        "directory for another account",
                        state_path(c->state), c->account.address, c->account.url);
}

/* Finds out whether this is a first try or goes on with one that got no answer. */
static enum sp_err begin(struct client *c, bool *again)
{
    struct account typed;
    enum sp_err err = account_set(&typed, c->args->words[0], c->args->words[1]);
    if (err != SP_OK)
        return err;
    err = account_load(c->state, &c->account);
    *again = err == SP_OK;
    if (err == SP_ERR_NOT_FOUND) {
        c->account = typed;
        return make_keys(c);
    }
    if (err != SP_OK)
        return err;
    bool same = strcmp(c->account.url, typed.url) == 0 &&
                strcasecmp(c->account.address, typed.address) == 0;
    if (c->account.enrolled && !same)
        return enrolled_already(c);
    if (!same)
        return report_plain(SP_ERR_EXISTS,
                            "an enrolment of %s at %s is unfinished here: finish it, "
                            "or set SEALPOST_HOME to another directory",
                            c->account.address, c->account.url);
    return load_keys(c);
}

/* All on disk, the account last: it says that the others are there. */
static enum sp_err save(struct client *c)
{
    enum sp_err err = keyfile_save(c->state, c->keys);
    if (err == SP_OK)
        err = chain_save(c->own, c->state);
    return err == SP_OK ? account_save(c->state, &c->account) : err;
}

/* After a clear no to a first try nobody knows these keys. */
static void forget(struct client *c)
{
    account_forget(c->state);
    chain_forget(c->own, c->state);
    state_remove(c->state, KEYFILE_NAME);
}

static enum sp_err ask_server(struct client *c, bool again)
{
    size_t root = 0;
    bool known = c->account.enrolled;
    /* The answer that got lost may have been a yes. */
    enum sp_err err = again ? server_login(c->server) : SP_ERR_NOT_FOUND;
    if (err == SP_OK)
        return known ? enrolled_already(c) : SP_OK;
    if (known && err != SP_ERR_DENIED)
        return server_refuse(c->server, err, "login");
    /* The mailbox will be another one: what is remembered of its numbers would hide mail. */
    err = known ? progress_forget(c->state) : SP_OK;
    if (err == SP_OK)
        err = sigchain_next(c->own->wires, c->own->len, &root);
    if (err == SP_OK)
        err = server_enroll(c->server, c->args->words[2], c->own->wires, root);
    if (err == SP_OK)
        return SP_OK;
    if (server_refused(c->server) && !again)
        forget(c);
    else
        report_note("the keys are kept in %s: run the same command again", state_path(c->state));
    return err;
}

static void print_done(const struct client *c)
{
    char fingerprint[SIGCHAIN_FINGERPRINT];
    sigchain_fingerprint(&c->own->now, fingerprint);
    if ((c->args->given & OPT_JSON) == 0) {
        printf("enrolled %s\nfingerprint %s\n", c->account.address, fingerprint);
        return;
    }
    json_t *j = json_pack("{s:s, s:s, s:s}", "address", c->account.address, "url", c->account.url,
                          "fingerprint", fingerprint);
    json_dumpf(j, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(j);
}

enum sp_err cmd_enroll(struct client *c)
{
    bool again = false;
    enum sp_err err = begin(c, &again);
    if (err == SP_OK)
        err = server_open(&c->account, c->keys, c->args->ca, &c->server);
    if (err == SP_OK)
        err = server_check_url(c->server);
    if (err == SP_OK && !again)
        err = save(c);
    if (err == SP_OK)
        err = ask_server(c, again);
    if (err != SP_OK)
        return err;
    err = client_keeper(c);
    if (err != SP_OK && err != SP_ERR_NOT_FOUND)
        return err;
    c->account.enrolled = true;
    err = account_save(c->state, &c->account);
    /* Fetching the chain compares the server's root with ours, and settles generation 1. */
    chain_free(c->own);
    c->own = NULL;
    if (err == SP_OK)
        err = client_own_chain(c);
    if (err == SP_OK)
        print_done(c);
    return err;
}
