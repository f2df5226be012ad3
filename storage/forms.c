/* Forms under way. Users fill them, by way of web: how much of this process's memory one of them,
 * or all, may take is bounded here. */
#include "storage/forms.h"
#include "daemon/messages.h"

#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define FIRST 4096u

struct entry {
    TAILQ_ENTRY(entry) next; /* longest untouched first */
    uint64_t user;
    uint8_t id[ID_SIZE];
    bool held, dropped;
    unsigned ticks; /* since it was touched */
    uint8_t *bytes;
    size_t len, cap;
};

struct forms {
    TAILQ_HEAD(, entry) entries;
    size_t total; /* of all cap */
};

struct forms *forms_new(void)
{
    struct forms *f = calloc(1, sizeof(*f));
    if (f != NULL)
        TAILQ_INIT(&f->entries);
    return f;
}

static struct entry *find(const struct forms *f, uint64_t user, const uint8_t id[ID_SIZE])
{
    struct entry *e;
    TAILQ_FOREACH(e, &f->entries, next)
    if (e->user == user && memcmp(e->id, id, ID_SIZE) == 0 && !e->dropped)
        return e;
    return NULL;
}

static void wipe(struct forms *f, struct entry *e)
{
    TAILQ_REMOVE(&f->entries, e, next);
    f->total -= e->cap;
    if (e->bytes != NULL)
        sodium_memzero(e->bytes, e->cap);
    free(e->bytes);
    free(e);
}

void forms_free(struct forms *f)
{
    if (f == NULL)
        return;
    while (!TAILQ_EMPTY(&f->entries))
        wipe(f, TAILQ_FIRST(&f->entries));
    free(f);
}

/* Forms that nobody has touched for longest go first. */
static enum sp_err make_room(struct forms *f, const struct entry *keep, size_t bytes)
{
    struct entry *e, *after;
    for (e = TAILQ_FIRST(&f->entries); e != NULL && f->total + bytes > FORMS_TOTAL; e = after) {
        after = TAILQ_NEXT(e, next);
        if (!e->held && e != keep)
            wipe(f, e);
    }
    return f->total + bytes <= FORMS_TOTAL ? SP_OK : SP_ERR_NO_SPACE;
}

static size_t of_user(const struct forms *f, uint64_t user)
{
    const struct entry *e;
    size_t sum = 0;
    TAILQ_FOREACH(e, &f->entries, next)
    if (e->user == user)
        sum += e->cap;
    return sum;
}

static enum sp_err grow(struct forms *f, struct entry *e, size_t len)
{
    size_t cap = e->cap > 0 ? e->cap : FIRST;
    if (len > FORM_MAX)
        return SP_ERR_LIMIT;
    while (cap < len)
        cap *= 2;
    if (cap == e->cap)
        return SP_OK;
    if (of_user(f, e->user) - e->cap + cap > FORMS_OF_USER)
        return SP_ERR_LIMIT;
    enum sp_err err = make_room(f, e, cap); /* the old bytes are there until they are copied */
    uint8_t *bytes = err == SP_OK ? malloc(cap) : NULL;
    if (bytes == NULL)
        return err != SP_OK ? err : SP_ERR_MEMORY;
    if (e->bytes != NULL) {
        memcpy(bytes, e->bytes, e->len);
        sodium_memzero(e->bytes, e->cap);
        free(e->bytes);
    }
    f->total += cap - e->cap;
    e->bytes = bytes;
    e->cap = cap;
    return SP_OK;
}

static struct entry *add(struct forms *f, uint64_t user, const uint8_t id[ID_SIZE])
{
    struct entry *e = calloc(1, sizeof(*e));
    if (e == NULL)
        return NULL;
    e->user = user;
    memcpy(e->id, id, ID_SIZE);
    TAILQ_INSERT_TAIL(&f->entries, e, next);
    return e;
}

enum sp_err forms_put(struct forms *f, uint64_t user, const uint8_t id[ID_SIZE], uint64_t offset,
                      const uint8_t *bytes, size_t len)
{
    struct entry *e = find(f, user, id);
    if (e != NULL && e->held)
        return SP_ERR_STATE;
    if (offset != 0 && (e == NULL || e->len != offset))
        return SP_ERR_STATE;
    if (e == NULL)
        e = add(f, user, id);
    if (e == NULL)
        return SP_ERR_MEMORY;
    if (offset == 0)
        e->len = 0;
    enum sp_err err = grow(f, e, e->len + len);
    if (err != SP_OK) {
        if (e->len == 0)
            wipe(f, e);
        return err;
    }
    memcpy(e->bytes + e->len, bytes, len);
    e->len += len;
    e->ticks = 0;
    TAILQ_REMOVE(&f->entries, e, next);
    TAILQ_INSERT_TAIL(&f->entries, e, next);
    return SP_OK;
}

size_t forms_length(const struct forms *f, uint64_t user, const uint8_t id[ID_SIZE])
{
    const struct entry *e = find(f, user, id);
    return e != NULL ? e->len : 0;
}

enum sp_err forms_hold(struct forms *f, uint64_t user, const uint8_t id[ID_SIZE],
                       const uint8_t **bytes, size_t *len)
{
    struct entry *e = find(f, user, id);
    if (e == NULL)
        return SP_ERR_NOT_FOUND;
    if (e->held)
        return SP_ERR_STATE;
    e->held = true;
    *bytes = e->bytes;
    *len = e->len;
    return SP_OK;
}

void forms_release(struct forms *f, uint64_t user, const uint8_t id[ID_SIZE])
{
    struct entry *e;
    TAILQ_FOREACH(e, &f->entries, next)
    if (e->user == user && e->held && memcmp(e->id, id, ID_SIZE) == 0)
        break;
    if (e == NULL)
        return;
    e->held = false;
    if (e->dropped)
        wipe(f, e);
}

void forms_tick(struct forms *f)
{
    struct entry *e, *after;
    for (e = TAILQ_FIRST(&f->entries); e != NULL; e = after) {
        after = TAILQ_NEXT(e, next);
        if (++e->ticks > FORMS_TICKS && !e->held)
            wipe(f, e);
    }
}

void forms_drop(struct forms *f, uint64_t user, const uint8_t id[ID_SIZE])
{
    struct entry *e = find(f, user, id);
    if (e == NULL)
        return;
    if (e->held)
        e->dropped = true;
    else
        wipe(f, e);
}
