/* sealpost keys, rotate, fingerprint. The keys go to the user's own output and nowhere else. */
#include "client/client.h"
#include "client/report.h"
#include "client/secret.h"
#include "envelope/sigchain.h"

#include <jansson.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A text that is made in locked memory: secrets pass through no other buffer of ours. */
struct text {
    char *at;
    size_t len, cap;
    bool full;
};

static void put(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(struct text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(t->at + t->len, t->cap - t->len, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= t->cap - t->len)
        t->full = true;
    else
        t->len += (size_t)n;
}

static void put_hex(struct text *t, const char *name, const uint8_t *bytes, size_t n,
                    const char *end)
{
    put(t, "\"%s\": \"", name);
    if (t->full || 2 * n + 1 > t->cap - t->len) {
        t->full = true;
        return;
    }
    sodium_bin2hex(t->at + t->len, t->cap - t->len, bytes, n);
    t->len += 2 * n;
    put(t, "\"%s", end);
}

static void put_string(struct text *t, const char *name, const char *value)
{
    json_t *j = json_string(value);
    char *quoted = j != NULL ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
    put(t, "  \"%s\": %s,\n", name, quoted != NULL ? quoted : "null");
    free(quoted);
    json_decref(j);
}

/* scratch: KEY_SIZE * 2 bytes of locked memory. */
static enum sp_err put_seed(struct text *t, const struct puk_seed *s, uint8_t *scratch, bool last)
{
    enum sp_err err = keys_puk(s->seed, scratch, scratch + KEY_SIZE, NULL);
    put(t, "    {\"generation\": %u, \"pending\": %s, ", s->generation,
        s->pending ? "true" : "false");
    put_hex(t, "seed", s->seed, KEY_SIZE, ", ");
    put_hex(t, "email_sk", scratch, KEY_SIZE, ", ");
    put_hex(t, "email_pk", scratch + KEY_SIZE, KEY_SIZE, last ? "}\n" : "},\n");
    return err;
}

static enum sp_err put_keys(struct text *t, const struct client *c, uint8_t *scratch)
{
    const struct keyring *k = c->keys;
    put(t, "{\n  \"version\": 1,\n");
    put_string(t, "url", c->account.url);
    put_string(t, "address", c->account.address);
    put(t, "  ");
    put_hex(t, "user_id", k->user_id, ID_SIZE, ",\n  \"device\": {");
    put_hex(t, "id", k->device_id, ID_SIZE, ", ");
    put_hex(t, "sign_sk", k->sign_sk, SIGN_SK_SIZE, ", ");
    put_hex(t, "sign_pk", keyring_sign_pk(k), KEY_SIZE, ", ");
    enum sp_err err = keys_x25519_public(k->box_sk, scratch);
    put_hex(t, "box_sk", k->box_sk, KEY_SIZE, ", ");
    put_hex(t, "box_pk", scratch, KEY_SIZE, "},\n  \"puk\": [\n");
    for (uint32_t i = 0; err == SP_OK && i < k->n_seeds; i++)
        err = put_seed(t, &k->seeds[i], scratch, i + 1 == k->n_seeds);
    put(t, "  ]\n}\n");
    return err == SP_OK && t->full ? SP_ERR_LIMIT : err;
}

enum sp_err cmd_keys(struct client *c)
{
    struct text t = {.cap = 4096 + 320u * c->keys->n_seeds};
    enum sp_err err = SP_OK;
    if (isatty(STDIN_FILENO) || isatty(STDOUT_FILENO))
        err = secret_confirm("Print secret keys? Whoever sees them reads all your mail (yes/no): ");
    if (err != SP_OK)
        return err;
    uint8_t *scratch = secret_alloc(2 * KEY_SIZE);
    t.at = secret_alloc(t.cap);
    err = scratch != NULL && t.at != NULL ? put_keys(&t, c, scratch) : SP_ERR_MEMORY;
    if (err == SP_OK)
        err = file_write(STDOUT_FILENO, t.at, t.len);
    if (err != SP_OK)
        report_fail(err, "keys");
    secret_free(t.at);
    secret_free(scratch);
    return err;
}

static enum sp_err make_rotation(struct client *c, const struct puk_seed *seed,
                                 uint8_t wire[SIGCHAIN_MAX_WIRE], size_t *len)
{
    uint8_t puk_pk[KEY_SIZE];
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    const struct chain_signer by = {.device_id = c->keys->device_id,
                                    .sign_sk = c->keys->sign_sk,
                                    .time_ms =
                                        (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000};
    enum sp_err err = keys_puk(seed->seed, NULL, puk_pk, NULL);
    if (err == SP_OK)
        err = sigchain_make_rotate(&c->own->now, &by, puk_pk, wire, len);
    return err == SP_OK ? err : report_fail(err, "making the new link");
}

/* The seed is on disk before anyone can seal for it. If the answer gets lost or is a no, the seed
 * stays pending: the chain, when it is fetched next, tells whether it counts. */
enum sp_err cmd_rotate(struct client *c)
{
    uint8_t wire[SIGCHAIN_MAX_WIRE];
    size_t len = 0;
    bool changed;
    const struct puk_seed *seed = NULL;
    enum sp_err err = client_own_chain(c);
    if (err != SP_OK)
        return err;
    uint32_t generation = c->own->now.puk_generation + 1;
    err = keyring_pending(c->keys, generation, &seed);
    if (err != SP_OK)
        return report_fail(err, "rotate: number of keys");
    err = keyfile_save(c->state, c->keys);
    if (err == SP_OK)
        err = make_rotation(c, seed, wire, &len);
    if (err == SP_OK)
        err = server_append(c->server, wire, len);
    if (err == SP_OK)
        err = chain_add(c->own, wire, len);
    if (err == SP_OK)
        err = chain_save(c->own, c->state);
    if (err == SP_OK)
        err = keyring_settle(c->keys, generation, c->own->now.puk_pk, &changed);
    if (err == SP_OK)
        err = keyfile_save(c->state, c->keys);
    if (err == SP_OK)
        printf("new mail is sealed for key generation %u from now on\n", generation);
    return err;
}

static void print_fingerprint(const struct client *c, const struct chain *chain)
{
    char text[SIGCHAIN_FINGERPRINT];
    sigchain_fingerprint(&chain->now, text);
    if ((c->args->given & OPT_JSON) == 0) {
        puts(text);
        return;
    }
    json_t *j =
        json_pack("{s:s, s:s, s:i, s:i, s:b, s:b}", "address", chain->address, "fingerprint", text,
                  "seq", (int)chain->now.seq, "generation", (int)chain->now.puk_generation,
                  "tracked", (int)chain->tracked, "changed", (int)chain_moved(chain));
    json_dumpf(j, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(j);
}

#define CHANGES (OPT_TRACK | OPT_UNTRACK | OPT_FORGET)

/* One of them at most, and for another user's. */
bool cmd_fingerprint_check(const struct args *a)
{
    unsigned asked = a->given & CHANGES;
    return asked == 0 || (a->n == 1 && (asked & (asked - 1)) == 0);
}

static enum sp_err track(struct client *c, struct chain *other)
{
    if ((c->args->given & (OPT_TRACK | OPT_UNTRACK)) == 0) {
        if (chain_moved(other))
            report_note("WARNING: it changed since you compared it last: compare it again, then "
                        "'sealpost fingerprint %s --track'",
                        other->address);
        return SP_OK;
    }
    other->tracked = (c->args->given & OPT_TRACK) != 0;
    memset(other->tracked_head, 0, HASH_SIZE);
    if (other->tracked)
        memcpy(other->tracked_head, other->now.head, HASH_SIZE);
    return chain_save(other, c->state);
}

/* The server is not asked: what it shows now may be why the old has to go. */
static enum sp_err forget(struct client *c)
{
    struct chain *other;
    enum sp_err err = chain_load(c->state, c->args->words[0], &other);
    if (err != SP_OK)
        return err;
    if (other->now.seq == 0)
        err = report_plain(SP_ERR_NOT_FOUND, "nothing is remembered of %s", other->address);
    else if (memcmp(other->now.user_id, c->keys->user_id, ID_SIZE) == 0)
        err = report_plain(SP_ERR_DENIED, "these are your own keys");
    else
        chain_forget(other, c->state);
    if (err == SP_OK)
        printf("forgot %s\n", other->address);
    chain_free(other);
    return err;
}

enum sp_err cmd_fingerprint(struct client *c)
{
    struct chain *other = NULL;
    if ((c->args->given & OPT_FORGET) != 0)
        return forget(c);
    enum sp_err err = client_own_chain(c);
    if (err == SP_OK && c->args->n == 0) {
        print_fingerprint(c, c->own);
        return SP_OK;
    }
    if (err == SP_OK)
        err = chain_load(c->state, c->args->words[0], &other);
    if (err == SP_OK)
        err = chain_update(other, c->state, c->server);
    if (err == SP_OK)
        err = track(c, other);
    if (err == SP_OK)
        print_fingerprint(c, other);
    chain_free(other);
    return err;
}
