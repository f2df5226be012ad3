/* Challenges, tokens, enrolment codes. Whoever presents one is a stranger until it has been found;
 * web, which carries them, is not trusted to invent any. */
#include "storage/sessions.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define CHALLENGES 65536u /* strangers may ask for them: more than they can in one round trip */
#define SESSIONS   8192u
#define OF_ONE     32u /* sessions of one user */
#define ATTEMPTS   8   /* to find a free place, before an older value gives way */
#define CODE_CHARS 24u

struct challenge {
    uint8_t bytes[SESSION_TOKEN];
    uint64_t until_ms; /* 0: a free place */
};

struct sessions {
    struct challenge challenge[CHALLENGES];
    struct session session[SESSIONS];
};

struct sessions *sessions_new(void)
{
    return sodium_init() >= 0 ? calloc(1, sizeof(struct sessions)) : NULL;
}

void sessions_free(struct sessions *t)
{
    if (t == NULL)
        return;
    sodium_memzero(t, sizeof(*t));
    free(t);
}

/* The place of a value in a table of n. */
static size_t place(const uint8_t bytes[SESSION_TOKEN], size_t n)
{
    return ((size_t)bytes[0] << 8 | bytes[1]) % n;
}

void sessions_challenge(struct sessions *t, uint64_t now_ms, uint8_t challenge[SESSION_TOKEN])
{
    struct challenge *c;
    for (int i = 0; i < ATTEMPTS; i++) {
        randombytes_buf(challenge, SESSION_TOKEN);
        c = &t->challenge[place(challenge, CHALLENGES)];
        if (c->until_ms <= now_ms)
            break;
    }
    c = &t->challenge[place(challenge, CHALLENGES)];
    memcpy(c->bytes, challenge, SESSION_TOKEN);
    c->until_ms = now_ms + CHALLENGE_SECONDS * 1000u;
}

enum sp_err sessions_redeem(struct sessions *t, uint64_t now_ms,
                            const uint8_t challenge[SESSION_TOKEN])
{
    struct challenge *c = &t->challenge[place(challenge, CHALLENGES)];
    if (c->until_ms == 0 || sodium_memcmp(c->bytes, challenge, SESSION_TOKEN) != 0)
        return SP_ERR_AUTH;
    enum sp_err err = c->until_ms > now_ms ? SP_OK : SP_ERR_AUTH;
    sodium_memzero(c, sizeof(*c));
    return err;
}

/* Where a user has too many sessions, his oldest is next to go, and nobody else's. */
static struct session *surplus(struct sessions *t, uint64_t user)
{
    struct session *oldest = NULL;
    size_t n = 0;
    for (size_t i = 0; i < SESSIONS; i++) {
        struct session *s = &t->session[i];
        if (s->user != user)
            continue;
        n++;
        if (oldest == NULL || s->until_ms < oldest->until_ms)
            oldest = s;
    }
    return n >= OF_ONE ? oldest : NULL;
}

const struct session *sessions_open(struct sessions *t, uint64_t now_ms, const struct session *who)
{
    uint8_t token[SESSION_TOKEN];
    struct session *s = surplus(t, who->user);
    if (s != NULL)
        sodium_memzero(s, sizeof(*s));
    for (int i = 0; i < ATTEMPTS; i++) {
        randombytes_buf(token, sizeof(token));
        s = &t->session[place(token, SESSIONS)];
        if (s->user == 0 || s->until_ms <= now_ms)
            break;
    }
    *s = *who;
    memcpy(s->token, token, sizeof(token));
    s->until_ms = now_ms + SESSION_SECONDS * 1000u;
    sodium_memzero(token, sizeof(token));
    return s;
}

static struct session *lookup(struct sessions *t, const uint8_t token[SESSION_TOKEN])
{
    struct session *s = &t->session[place(token, SESSIONS)];
    return s->user != 0 && sodium_memcmp(s->token, token, SESSION_TOKEN) == 0 ? s : NULL;
}

const struct session *sessions_find(struct sessions *t, uint64_t now_ms,
                                    const uint8_t token[SESSION_TOKEN])
{
    struct session *s = lookup(t, token);
    if (s != NULL && s->until_ms <= now_ms) {
        sodium_memzero(s, sizeof(*s));
        s = NULL;
    }
    if (s != NULL)
        s->until_ms = now_ms + SESSION_SECONDS * 1000u;
    return s;
}

void sessions_close(struct sessions *t, const uint8_t token[SESSION_TOKEN])
{
    struct session *s = lookup(t, token);
    if (s != NULL)
        sodium_memzero(s, sizeof(*s));
}

void sessions_revoke(struct sessions *t, uint64_t user, const uint8_t *device_id)
{
    for (size_t i = 0; i < SESSIONS; i++) {
        struct session *s = &t->session[i];
        if (s->user == user && (device_id == NULL || memcmp(s->device_id, device_id, ID_SIZE) == 0))
            sodium_memzero(s, sizeof(*s));
    }
}

/* --- enrolment codes --- */

static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

void enrol_code_make(char text[ENROL_CODE_TEXT])
{
    uint8_t bytes[ENROL_CODE_BYTES];
    size_t n = 0;
    randombytes_buf(bytes, sizeof(bytes));
    for (size_t i = 0; i < CODE_CHARS; i++) {
        size_t bit = i * 5, at = bit / 8;
        unsigned two = (unsigned)bytes[at] << 8 | (at + 1 < sizeof(bytes) ? bytes[at + 1] : 0u);
        if (i > 0 && i % 4 == 0)
            text[n++] = '-';
        text[n++] = base32[two >> (11 - bit % 8) & 31u];
    }
    text[n] = '\0';
    sodium_memzero(bytes, sizeof(bytes));
}

enum sp_err enrol_code_hash(const void *text, size_t len, uint8_t hash[HASH_SIZE])
{
    const char *in = text;
    char code[CODE_CHARS];
    size_t n = 0;
    memset(hash, 0, HASH_SIZE);
    for (size_t i = 0; i < len; i++) {
        char c = (char)(in[i] >= 'a' && in[i] <= 'z' ? in[i] - 'a' + 'A' : in[i]);
        if (c == '-' || c == ' ')
            continue;
        if (n == CODE_CHARS || c == '\0' || strchr(base32, c) == NULL)
            return SP_ERR_FORMAT;
        code[n++] = c;
    }
    if (n != CODE_CHARS)
        return SP_ERR_FORMAT;
    crypto_hash_sha256(hash, (const uint8_t *)code, sizeof(code));
    sodium_memzero(code, sizeof(code));
    return SP_OK;
}
