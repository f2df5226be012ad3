/* Letters in memory. Everything here is the user's own. */
#include "client/letter.h"
#include "client/secret.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct letter *letter_new(void)
{
    struct timespec t;
    struct letter *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->body_fd = l->parts_fd = -1;
    l->secret = secret_alloc(sizeof *l->secret);
    if (l->secret == NULL) {
        letter_free(l);
        return NULL;
    }
    randombytes_buf(l->secret, sizeof *l->secret);
    clock_gettime(CLOCK_REALTIME, &t);
    keys_uuid7((uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000, l->message_id);
    sodium_bin2hex(l->hex, sizeof l->hex, l->message_id, ID_SIZE);
    return l;
}

void letter_free(struct letter *l)
{
    if (l == NULL)
        return;
    if (l->body_fd >= 0)
        close(l->body_fd);
    if (l->parts_fd >= 0)
        close(l->parts_fd);
    for (uint32_t i = 0; i < l->n_readers; i++)
        free(l->reader[i].of);
    free(l->reader);
    free(l->recipient);
    free(l->link);
    free(l->manifest);
    free(l->form);
    secret_free(l->secret);
    free(l);
}

enum sp_err letter_recipient(struct letter *l, const char *address, uint32_t *index)
{
    for (*index = 0; *index < l->n_recipients; (*index)++) {
        if (addrlist_same(l->recipient[*index].address, address))
            return SP_OK;
    }
    if (l->n_recipients == LETTER_MAX_RECIPIENTS || strlen(address) > ADDRLIST_MAX)
        return SP_ERR_LIMIT;
    struct recipient *more = reallocarray(l->recipient, l->n_recipients + 1, sizeof *more);
    if (more == NULL)
        return SP_ERR_MEMORY;
    l->recipient = more;
    more += l->n_recipients++;
    memset(more, 0, sizeof *more);
    memcpy(more->address, address, strlen(address) + 1);
    return SP_OK;
}

enum sp_err letter_reader(struct letter *l, const uint8_t user_id[ID_SIZE], uint32_t generation,
                          const uint8_t puk_pk[KEY_SIZE], struct reader **out)
{
    struct reader *r = NULL;
    *out = NULL;
    for (uint32_t i = 0; i < l->n_readers && r == NULL; i++) {
        if (memcmp(l->reader[i].user_id, user_id, ID_SIZE) == 0)
            r = &l->reader[i];
    }
    if (r == NULL) {
        if (l->n_readers == LETTER_MAX_READERS)
            return SP_ERR_LIMIT;
        r = reallocarray(l->reader, l->n_readers + 1, sizeof *r);
        if (r == NULL)
            return SP_ERR_MEMORY;
        l->reader = r;
        r += l->n_readers++;
        memset(r, 0, sizeof *r);
        memcpy(r->user_id, user_id, ID_SIZE);
    }
    r->generation = generation;
    memcpy(r->puk_pk, puk_pk, KEY_SIZE);
    *out = r;
    return SP_OK;
}

enum sp_err letter_leads_to(struct reader *r, uint32_t recipient)
{
    for (uint32_t i = 0; i < r->n; i++) {
        if (r->of[i] == recipient)
            return SP_OK;
    }
    if (r->n == r->room) {
        uint32_t room = r->room == 0 ? 4 : r->room * 2;
        uint16_t *more = reallocarray(r->of, room, sizeof *more);
        if (more == NULL)
            return SP_ERR_MEMORY;
        r->of = more;
        r->room = room;
    }
    r->of[r->n++] = (uint16_t)recipient;
    return SP_OK;
}

enum sp_err letter_relay(struct letter *l, const uint8_t keeper_pk[KEY_SIZE])
{
    uint8_t *sk = secret_alloc(KEY_SIZE);
    if (sk == NULL)
        return SP_ERR_MEMORY;
    randombytes_buf(sk, KEY_SIZE);
    randombytes_buf(l->relay_id, sizeof l->relay_id);
    enum sp_err err = keys_x25519_public(sk, l->relay_pk);
    if (err == SP_OK)
        err = keys_secret_seal(keeper_pk, BOX_RELAY, l->relay_id, sk, l->relay_secret);
    secret_free(sk);
    l->relay = err == SP_OK;
    return err;
}

static enum sp_err make_link(struct letter *l, uint32_t recipient,
                             const uint8_t keeper_pk[KEY_SIZE])
{
    struct letter_link *link = &l->link[l->n_links];
    memset(link, 0, sizeof *link);
    link->of = (uint16_t)recipient;
    randombytes_buf(link->id, sizeof link->id);
    return keys_secret_seal(keeper_pk, BOX_PASSWORD, link->id, l->secret->password[l->n_links++],
                            link->secret);
}

/* The passwords are random since letter_new. */
enum sp_err letter_links(struct letter *l, const uint8_t keeper_pk[KEY_SIZE], uint64_t lifetime)
{
    enum sp_err err = SP_OK;
    l->link = calloc(LETTER_MAX_LINKS, sizeof *l->link);
    if (l->link == NULL)
        return SP_ERR_MEMORY;
    for (uint32_t i = 0; err == SP_OK && i < l->n_recipients; i++) {
        if (l->recipient[i].outside)
            err = l->n_links < LETTER_MAX_LINKS ? make_link(l, i, keeper_pk) : SP_ERR_LIMIT;
    }
    l->lifetime = lifetime;
    letter_renew(l);
    return err;
}

void letter_renew(struct letter *l)
{
    l->expiry = (uint64_t)time(NULL) + l->lifetime;
}

/* FORMAT.md 4.2: "or was given a key". A link's password is one: the appliance holds it until the
 * notification is sent, and could open the mail meanwhile. So a mail with links is no more
 * end-to-end encrypted than one that is relayed, and its users' clients and the page say so. */
bool letter_server_access(const struct letter *l)
{
    return l->relay || l->n_links > 0;
}

char *letter_bcc(const struct letter *l)
{
    size_t cap = 1, len = 0;
    for (uint32_t i = 0; i < l->n_recipients; i++)
        cap += l->recipient[i].bcc ? strlen(l->recipient[i].address) + 1 : 0;
    char *out = malloc(cap);
    if (out == NULL)
        return NULL;
    for (uint32_t i = 0; i < l->n_recipients; i++) {
        const struct recipient *r = &l->recipient[i];
        if (!r->bcc)
            continue;
        if (len > 0)
            out[len++] = ',';
        memcpy(out + len, r->address, strlen(r->address));
        len += strlen(r->address);
    }
    out[len] = '\0';
    return out;
}
