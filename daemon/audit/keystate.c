/* The evolving signing key. Everything secret is in one locked region, and in the two slots of the
 * file; whoever takes the machine over finds the current key there, and none before it. */
#include "daemon/audit/keystate.h"
#include "daemon/audit/log.h"
#include "envelope/wire.h"
#include "sandbox/lockmem.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct key {
    uint64_t generation; /* 0: none */
    uint8_t public_key[KEY_SIZE];
    uint8_t secret_key[crypto_sign_SECRETKEYBYTES];
};

/* key[g % 2] is what slot g % 2 of the file has. */
struct keystate {
    int fd;
    struct key key[2];
    unsigned current;
    uint8_t record[AUDIT_SLOT_RECORD];
};

static off_t offset_of(unsigned slot)
{
    return (off_t)slot * (off_t)AUDIT_SLOT_SIZE;
}

static enum sp_err write_at(int fd, const uint8_t *bytes, size_t len, off_t at)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, bytes, len, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return SP_ERR_SYSTEM;
        bytes += n;
        len -= (size_t)n;
        at += n;
    }
    return SP_OK;
}

/* Overwrites one slot in place with the record, which is wiped, and waits for the disk. */
static enum sp_err write_slot(struct keystate *s, unsigned slot)
{
    enum sp_err err = write_at(s->fd, s->record, sizeof(s->record), offset_of(slot));
    lockmem_wipe(s->record, sizeof(s->record));
    if (err == SP_OK && fdatasync(s->fd) != 0)
        err = SP_ERR_SYSTEM;
    return err;
}

/* In memory and on disk. */
static enum sp_err erase_key(struct keystate *s, unsigned slot)
{
    lockmem_wipe(&s->key[slot], sizeof(s->key[slot]));
    memset(s->record, 0, sizeof(s->record));
    return write_slot(s, slot);
}

/* Real zeros, so that later writes find blocks of their own. */
static enum sp_err fill(int fd)
{
    static const uint8_t zeros[2 * AUDIT_SLOT_SIZE];
    struct stat st;
    if (fstat(fd, &st) != 0)
        return SP_ERR_SYSTEM;
    if (st.st_size == sizeof(zeros))
        return SP_OK;
    if (st.st_size > (off_t)sizeof(zeros))
        return SP_ERR_FORMAT;
    /* Shorter: a crash came between making and filling it, and there is nothing in it yet. */
    enum sp_err err = write_at(fd, zeros, sizeof(zeros), 0);
    return err == SP_OK && fsync(fd) != 0 ? SP_ERR_SYSTEM : err;
}

static enum sp_err read_key(struct keystate *s, unsigned slot)
{
    struct key *key = &s->key[slot];
    ssize_t n = pread(s->fd, s->record, sizeof(s->record), offset_of(slot));
    if (n != (ssize_t)sizeof(s->record))
        return SP_ERR_SYSTEM;
    struct wire_in in = wire_in(s->record, sizeof(s->record));
    key->generation = wire_get_u64(&in);
    if (key->generation != 0)
        crypto_sign_seed_keypair(key->public_key, key->secret_key, s->record + 8);
    lockmem_wipe(s->record, sizeof(s->record));
    return key->generation == 0 || key->generation % 2 == slot ? SP_OK : SP_ERR_FORMAT;
}

/* A new key into its slot; the file has it when this returns. */
static enum sp_err make_key(struct keystate *s, uint64_t generation)
{
    struct key *key = &s->key[generation % 2];
    key->generation = generation;
    crypto_sign_keypair(key->public_key, key->secret_key);
    struct wire_out out = wire_out(s->record, sizeof(s->record));
    wire_put_u64(&out, generation);
    wire_put_bytes(&out, key->secret_key, crypto_sign_SEEDBYTES); /* the seed comes first */
    return write_slot(s, (unsigned)(generation % 2));
}

/* No log yet. A key that has signed nothing may be there, of a start that came no further. */
static enum sp_err start_anew(struct keystate *s)
{
    if (s->key[0].generation > 1 || s->key[1].generation > 1)
        return SP_ERR_EXISTS;
    s->current = 1;
    return make_key(s, 1);
}

/* The key that the log names is current, the other one is erased. */
static enum sp_err resume(struct keystate *s, const uint8_t *current)
{
    for (unsigned slot = 0; slot < 2; slot++)
        if (s->key[slot].generation != 0 &&
            memcmp(s->key[slot].public_key, current, KEY_SIZE) == 0) {
            s->current = slot;
            return erase_key(s, !slot);
        }
    return SP_ERR_AUTH;
}

enum sp_err keystate_open(int fd, const uint8_t *current, struct keystate **out)
{
    struct keystate *s = NULL;
    void *region;
    *out = NULL;
    enum sp_err err = sodium_init() < 0 ? SP_ERR_CRYPTO : lockmem_alloc(sizeof(*s), &region);
    if (err != SP_OK)
        return err;
    s = region;
    s->fd = fd;
    err = fill(fd);
    if (err == SP_OK)
        err = read_key(s, 0);
    if (err == SP_OK)
        err = read_key(s, 1);
    if (err == SP_OK)
        err = current != NULL ? resume(s, current) : start_anew(s);
    if (err == SP_OK)
        *out = s;
    else
        keystate_free(s);
    return err;
}

void keystate_free(struct keystate *state)
{
    if (state != NULL)
        lockmem_free(state, sizeof(*state));
}

const uint8_t *keystate_public(const struct keystate *state)
{
    return state->key[state->current].public_key;
}

enum sp_err keystate_prepare(struct keystate *state, uint8_t next[KEY_SIZE])
{
    enum sp_err err = make_key(state, state->key[state->current].generation + 1);
    memcpy(next, state->key[!state->current].public_key, KEY_SIZE);
    return err;
}

enum sp_err keystate_sign(const struct keystate *state, const uint8_t *message, size_t len,
                          uint8_t signature[SIGN_SIZE])
{
    const struct key *key = &state->key[state->current];
    return crypto_sign_detached(signature, NULL, message, len, key->secret_key) == 0
               ? SP_OK
               : SP_ERR_CRYPTO;
}

enum sp_err keystate_advance(struct keystate *state)
{
    unsigned old = state->current;
    if (state->key[!old].generation == 0)
        return SP_ERR_STATE;
    state->current = !old;
    return erase_key(state, old);
}
