/* The memory for sigchains. The server is not trusted: what it shows must continue what was seen.
 * The files are the user's own, and are verified again at each reading all the same. */
#include "client/chain.h"
#include "client/mend.h"
#include "client/report.h"
#include "envelope/utf8.h"
#include "envelope/wire.h"

#include <ctype.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CHAIN_NAME 40u
#define CHAIN_MAX  (16u * 1024u * 1024u)
#define CHAIN_HEAD (4u + 1u + 2u + ACCOUNT_MAX_ADDRESS + 1u + HASH_SIZE)
/* Where a wire holds its user id: behind its length, magic, version and type (section 8). */
#define WIRE_USER_ID (4u + 4u + 1u + 1u)

static enum sp_err file_name(const char *address, char out[CHAIN_NAME])
{
    char lower[ACCOUNT_MAX_ADDRESS + 1], hex[33];
    uint8_t hash[HASH_SIZE];
    size_t n = strlen(address);
    if (n >= sizeof lower)
        return SP_ERR_LIMIT;
    for (size_t i = 0; i < n; i++)
        lower[i] = (char)tolower((unsigned char)address[i]);
    enum sp_err err = keys_sha256(lower, n, hash);
    snprintf(out, CHAIN_NAME, "chains/%s", sodium_bin2hex(hex, sizeof hex, hash, 16));
    return err;
}

/* Applies a row of wires to a state. */
static enum sp_err apply_all(struct sigchain *to, const uint8_t *wires, size_t len)
{
    enum sp_err err = SP_OK;
    while (err == SP_OK && len > 0) {
        size_t n = 0;
        err = sigchain_next(wires, len, &n);
        if (err == SP_OK)
            err = sigchain_apply(to, wires, n);
        wires += n;
        len -= n;
    }
    return err;
}

static enum sp_err append(struct chain *c, const uint8_t *wires, size_t len)
{
    if (len == 0)
        return SP_OK;
    uint8_t *more = len <= CHAIN_MAX - CHAIN_HEAD - c->len ? realloc(c->wires, c->len + len) : NULL;
    if (more == NULL)
        return report_fail(SP_ERR_MEMORY, "sigchain of %s", c->address);
    memcpy(more + c->len, wires, len);
    c->wires = more;
    c->len += len;
    return SP_OK;
}

/* Everything in front of the wires; *in is left at them. Version 1 knew no tracking. */
static enum sp_err decode_head(struct wire_in *in, struct chain *c)
{
    size_t n;
    const uint8_t *magic = wire_get_bytes(in, 4);
    uint8_t version = wire_get_u8(in), tracked = 0;
    const uint8_t *address = wire_get_b16(in, ACCOUNT_MAX_ADDRESS, &n);
    if (version == 2) {
        tracked = wire_get_u8(in);
        wire_get_copy(in, c->tracked_head, HASH_SIZE);
    }
    if (address == NULL || in->bad || memcmp(magic, "SPCH", 4) != 0 || version < 1 || version > 2 ||
        tracked > 1)
        return SP_ERR_FORMAT;
    memcpy(c->address, address, n);
    c->address[n] = '\0';
    c->tracked = tracked == 1;
    return SP_OK;
}

static enum sp_err decode(struct chain *c, const uint8_t *bytes, size_t len)
{
    struct wire_in in = wire_in(bytes, len);
    enum sp_err err = decode_head(&in, c);
    if (err == SP_OK)
        err = apply_all(&c->now, in.at, in.left);
    return err == SP_OK ? append(c, in.at, in.left) : err;
}

static enum sp_err load_file(struct state *s, const char *name, struct chain *c)
{
    uint8_t *bytes;
    size_t len;
    enum sp_err err = state_read(s, name, CHAIN_MAX, &bytes, &len);
    if (err != SP_OK)
        return err;
    err = decode(c, bytes, len);
    if (err != SP_OK)
        report_fail(err, "the remembered sigchain %s/%s", state_path(s), name);
    free(bytes);
    return err;
}

static struct chain *chain_new(void)
{
    struct chain *c = calloc(1, sizeof *c);
    if (c == NULL)
        report_fail(SP_ERR_MEMORY, "sigchain");
    else
        sigchain_init(&c->now);
    return c;
}

enum sp_err chain_load(struct state *s, const char *address, struct chain **out)
{
    char name[CHAIN_NAME];
    *out = NULL;
    enum sp_err err = file_name(address, name);
    if (err != SP_OK)
        return report_fail(err, "address %s", address);
    struct chain *c = chain_new();
    if (c == NULL)
        return SP_ERR_MEMORY;
    err = load_file(s, name, c);
    if (err == SP_ERR_NOT_FOUND) {
        snprintf(c->address, sizeof c->address, "%s", address);
        err = SP_OK;
    } else if (err == SP_OK && strcasecmp(c->address, address) != 0) {
        err = report_plain(SP_ERR_FORMAT, "%s/%s holds the sigchain of %s, not %s", state_path(s),
                           name, c->address, address);
    }
    if (err != SP_OK) {
        chain_free(c);
        return err;
    }
    *out = c;
    return SP_OK;
}

void chain_free(struct chain *c)
{
    if (c != NULL)
        free(c->wires);
    free(c);
}

/* The newest link known has to stand first. Steps *wires and *len over it. */
static enum sp_err check_overlap(const struct chain *c, const uint8_t **wires, size_t *len)
{
    uint8_t hash[HASH_SIZE];
    size_t n = 0;
    if (*len == 0)
        return report_plain(SP_ERR_AUTH,
                            "sigchain of %s: the server shows fewer links than it did (seq %u was "
                            "seen): it went backwards. If it was restored from a backup, their own "
                            "device mends that when it next runs: have them run 'sealpost list', "
                            "then try again",
                            c->address, c->now.seq);
    enum sp_err err = sigchain_next(*wires, *len, &n);
    if (err == SP_OK)
        err = keys_sha256(*wires, n, hash);
    if (err != SP_OK)
        return report_fail(err, "sigchain of %s: the server's links", c->address);
    if (sodium_memcmp(hash, c->now.head, sizeof hash) != 0)
        return report_plain(SP_ERR_AUTH,
                            "sigchain of %s: the server shows another link %u than it did: it "
                            "forks. If their device was really set up from an old copy, compare "
                            "fingerprints over another way; 'sealpost fingerprint %s --forget' "
                            "forgets what was seen",
                            c->address, c->now.seq, c->address);
    *wires += n;
    *len -= n;
    return SP_OK;
}

enum sp_err chain_take(struct chain *c, const uint8_t user_id[ID_SIZE], const uint8_t *wires,
                       size_t len)
{
    bool known = c->now.seq > 0;
    enum sp_err err = known ? check_overlap(c, &wires, &len) : SP_OK;
    if (err != SP_OK)
        return err;
    struct sigchain next = c->now;
    err = apply_all(&next, wires, len);
    if (err != SP_OK)
        return report_fail(err, "sigchain of %s: link %u", c->address, next.seq + 1);
    if (next.seq == 0)
        return report_plain(SP_ERR_FORMAT, "sigchain of %s: the server shows no link", c->address);
    if (sodium_memcmp(next.user_id, user_id, ID_SIZE) != 0 ||
        strcasecmp(next.address, c->address) != 0)
        return report_plain(SP_ERR_AUTH, "sigchain of %s: the server shows somebody else's",
                            c->address);
    err = append(c, wires, len);
    if (err == SP_OK)
        c->now = next;
    return err;
}

/* The newest link known, and what is behind it. */
static enum sp_err ask(const struct chain *c, struct server *server, uint8_t user_id[ID_SIZE],
                       uint8_t **wires, size_t *len)
{
    uint32_t after = c->now.seq > 0 ? c->now.seq - 1 : 0;
    enum sp_err err = server_sigchain(server, c->address, after, user_id, wires, len);
    if (err == SP_ERR_NOT_FOUND && c->now.seq > 0)
        return report_plain(SP_ERR_AUTH,
                            "sigchain of %s: the server shows none any more: they were removed, or "
                            "it was restored from a backup and they have to enrol again",
                            c->address);
    return err == SP_ERR_NOT_FOUND ? report_plain(err, "the server knows no user %s", c->address)
                                   : err;
}

static enum sp_err update_from(struct chain *c, struct state *s, struct server *server, bool own)
{
    uint8_t user_id[ID_SIZE];
    uint8_t *wires;
    size_t len, before = c->len;
    enum sp_err err = ask(c, server, user_id, &wires, &len);
    if (err == SP_OK && own && len == 0 && c->now.seq > 0) {
        free(wires);
        err = mend_chain(c, server);
        if (err == SP_OK)
            err = ask(c, server, user_id, &wires, &len);
    }
    if (err != SP_OK)
        return err;
    err = chain_take(c, user_id, wires, len);
    free(wires);
    return err == SP_OK && c->len > before ? chain_save(c, s) : err;
}

enum sp_err chain_update(struct chain *c, struct state *s, struct server *server)
{
    return update_from(c, s, server, false);
}

enum sp_err chain_update_own(struct chain *c, struct state *s, struct server *server)
{
    return update_from(c, s, server, true);
}

enum sp_err chain_add(struct chain *c, const uint8_t *wire, size_t len)
{
    struct sigchain next = c->now;
    enum sp_err err = sigchain_apply(&next, wire, len);
    if (err != SP_OK)
        return report_fail(err, "sigchain of %s: the new link", c->address);
    err = append(c, wire, len);
    if (err == SP_OK)
        c->now = next;
    return err;
}

enum sp_err chain_save(const struct chain *c, struct state *s)
{
    char name[CHAIN_NAME];
    enum sp_err err = file_name(c->address, name);
    uint8_t *bytes = malloc(CHAIN_HEAD + c->len);
    if (err != SP_OK || bytes == NULL) {
        free(bytes);
        return report_fail(err != SP_OK ? err : SP_ERR_MEMORY, "sigchain of %s", c->address);
    }
    struct wire_out w = wire_out(bytes, CHAIN_HEAD + c->len);
    wire_put_bytes(&w, "SPCH", 4);
    wire_put_u8(&w, 2);
    wire_put_str(&w, c->address);
    wire_put_u8(&w, c->tracked);
    wire_put_bytes(&w, c->tracked_head, HASH_SIZE);
    wire_put_bytes(&w, c->wires, c->len);
    err = state_write(s, name, bytes, w.len);
    free(bytes);
    return err;
}

void chain_forget(const struct chain *c, struct state *s)
{
    char name[CHAIN_NAME];
    if (file_name(c->address, name) == SP_OK)
        state_remove(s, name);
}

enum sp_err chain_puks(const struct chain *c,
                       enum sp_err (*each)(void *ctx, uint32_t generation,
                                           const uint8_t puk_pk[KEY_SIZE]),
                       void *ctx)
{
    struct sigchain walk;
    uint32_t seen = 0;
    sigchain_init(&walk);
    const uint8_t *at = c->wires;
    size_t left = c->len;
    enum sp_err err = SP_OK;
    while (err == SP_OK && left > 0) {
        size_t n = 0;
        err = sigchain_next(at, left, &n);
        if (err == SP_OK)
            err = sigchain_apply(&walk, at, n);
        if (err == SP_OK && walk.puk_generation > seen) {
            seen = walk.puk_generation;
            err = each(ctx, seen, walk.puk_pk);
        }
        at += n;
        left -= n;
    }
    return err;
}

bool chain_moved(const struct chain *c)
{
    return c->tracked && sodium_memcmp(c->tracked_head, c->now.head, HASH_SIZE) != 0;
}

struct search {
    struct state *state;
    const uint8_t *user_id;
    struct chain *found;
};

/* Whose it is stands in the first wire: only the right one is verified. */
static enum sp_err look(void *ctx, const char *entry)
{
    struct search *w = ctx;
    char name[512];
    uint8_t *bytes;
    size_t len;
    snprintf(name, sizeof name, "chains/%s", entry);
    struct chain *c = w->found == NULL ? chain_new() : NULL;
    if (c == NULL)
        return w->found == NULL ? SP_ERR_MEMORY : SP_OK;
    enum sp_err err = state_read(w->state, name, CHAIN_MAX, &bytes, &len);
    struct wire_in in = wire_in(bytes, len);
    if (err == SP_OK && decode_head(&in, c) == SP_OK && in.left >= WIRE_USER_ID + ID_SIZE &&
        memcmp(in.at + WIRE_USER_ID, w->user_id, ID_SIZE) == 0) {
        err = decode(c, bytes, len);
        if (err != SP_OK)
            report_fail(err, "the remembered sigchain %s/%s", state_path(w->state), name);
        else
            w->found = c;
    }
    free(bytes);
    if (w->found != c)
        chain_free(c);
    return err;
}

enum sp_err chain_by_user(struct state *s, const uint8_t user_id[ID_SIZE], struct chain **out)
{
    struct search w = {.state = s, .user_id = user_id};
    *out = NULL;
    enum sp_err err = state_each(s, "chains", look, &w);
    if (err != SP_OK) {
        chain_free(w.found);
        return err;
    }
    *out = w.found;
    return w.found != NULL ? SP_OK : SP_ERR_NOT_FOUND;
}

/* The address that a chain's root gives: from a stranger, and about to be shown on terminals. */
static enum sp_err root_address(const uint8_t *wires, size_t len, char out[ACCOUNT_MAX_ADDRESS + 1])
{
    struct sigchain root;
    size_t n = 0;
    sigchain_init(&root);
    enum sp_err err = sigchain_next(wires, len, &n);
    if (err == SP_OK)
        err = sigchain_apply(&root, wires, n);
    if (err == SP_OK && (strlen(root.address) > ACCOUNT_MAX_ADDRESS ||
                         !utf8_is_text((const uint8_t *)root.address, strlen(root.address))))
        err = SP_ERR_FORMAT;
    if (err == SP_OK)
        snprintf(out, ACCOUNT_MAX_ADDRESS + 1, "%s", root.address);
    return err;
}

/* A user who is not known here: the chain has to fit what is remembered of its address. */
static enum sp_err take_stranger(struct state *s, const uint8_t user_id[ID_SIZE],
                                 const uint8_t *wires, size_t len, struct chain **out)
{
    char address[ACCOUNT_MAX_ADDRESS + 1], hex[2 * ID_SIZE + 1];
    struct chain *c = NULL;
    enum sp_err err = root_address(wires, len, address);
    if (err != SP_OK)
        return report_fail(err, "sigchain of user %s: link 1",
                           sodium_bin2hex(hex, sizeof hex, user_id, ID_SIZE));
    err = chain_load(s, address, &c);
    if (err == SP_OK && c->now.seq > 0)
        err = report_plain(SP_ERR_AUTH,
                           "sigchain of %s: the server shows another user by that address than "
                           "it did. If the account was really made anew, compare fingerprints "
                           "over another way; 'sealpost fingerprint %s --forget' forgets the old",
                           address, address);
    if (err == SP_OK)
        err = chain_take(c, user_id, wires, len);
    if (err == SP_OK)
        err = chain_save(c, s);
    if (err == SP_OK)
        *out = c;
    else
        chain_free(c);
    return err;
}

enum sp_err chain_fetch(struct state *s, struct server *server, const uint8_t user_id[ID_SIZE],
                        bool *gone, struct chain **out)
{
    uint8_t *wires = NULL;
    size_t len, before = 0;
    struct chain *c = NULL;
    *out = NULL;
    *gone = false;
    enum sp_err err = chain_by_user(s, user_id, &c);
    if (err != SP_OK && err != SP_ERR_NOT_FOUND)
        return err;
    if (c != NULL)
        before = c->len;
    err = server_sigchain_of(server, user_id, c != NULL ? c->now.seq - 1 : 0, &wires, &len);
    if (err == SP_ERR_NOT_FOUND) {
        *gone = true;
        *out = c;
        return SP_OK;
    }
    if (err == SP_OK && c == NULL)
        err = take_stranger(s, user_id, wires, len, &c);
    else if (err == SP_OK)
        err = chain_take(c, user_id, wires, len);
    if (err == SP_OK && before > 0 && c->len > before)
        err = chain_save(c, s);
    free(wires);
    if (err == SP_OK)
        *out = c;
    else
        chain_free(c);
    return err;
}
