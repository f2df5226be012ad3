/* How links end: their time is over, their sender takes them back, their notification failed for
 * good. First the row says so, durably; then the keeper overwrites their slots; then what is left
 * of them goes. Time never goes back here, whatever the system's clock does. */
#include "storage/edges.h"

#include <event2/event.h>
#include <string.h>

#define EXPIRE_BUDGET 64u
#define EXPIRE_ROUNDS 8 /* in one turn of the loop; others wait */
#define NOTE_EVERY_MS 60000u
#define REVOKES_MAX   512u

/* --- time --- */

uint64_t link_now(struct store_role *r)
{
    uint64_t now = now_ms();
    if (r->latest_ms == 0)
        store_clock_get(r->store, &r->latest_ms);
    if (now > r->latest_ms)
        r->latest_ms = now;
    return r->latest_ms;
}

static void note_time(struct store_role *r)
{
    uint64_t now = link_now(r);
    if (now - r->noted_ms >= NOTE_EVERY_MS && store_clock_put(r->store, now) == SP_OK) {
        r->noted_ms = now;
        commit_soon(r);
    }
}

void links_schedule(struct store_role *r)
{
    uint64_t at, now = link_now(r), wait = 60000;
    if (r->expiring)
        wait = 0;
    else if (store_timer_next(r->store, &at) == SP_OK && at != UINT64_MAX)
        wait = at <= now ? 1000 : at - now < wait ? at - now : wait; /* it failed just now */
    const struct timeval t = {.tv_sec = (time_t)(wait / 1000),
                              .tv_usec = (suseconds_t)(wait % 1000) * 1000};
    event_add(r->minute, &t);
}

/* --- ending --- */

void link_erase(struct store_role *r, const struct store_link *link, const char *why)
{
    uint64_t no = link->no;
    uint16_t n = link->secret;
    secret_check(r, no, n, why);
    secret_check(r, no, (uint16_t)(n + 1), why);
}

void link_ended(struct store_role *r, const uint8_t id[ID_SIZE], const char *why)
{
    struct store_link link;
    if (store_link_get(r->store, id, &link) != SP_OK)
        return;
    if (link.ended == DELIVERY_REVOKED)
        audit_emit(AUDIT_LINK_REVOKED, link.message_id, link.id);
    link_erase(r, &link, why);
}

struct ending {
    size_t n;
    struct store_link link[EXPIRE_BUDGET];
};

static void collect(void *ctx, const struct store_link *link)
{
    struct ending *e = ctx;
    if (e->n < EXPIRE_BUDGET)
        e->link[e->n++] = *link;
}

/* The jobs of what has ended meanwhile leave the schedule by themselves, when they are leased. */
void links_expire(struct store_role *r)
{
    static struct ending e;
    bool more = true;
    r->expiring = false;
    for (int i = 0; more && i < EXPIRE_ROUNDS; i++) {
        e.n = 0;
        if (store_expire(r->store, link_now(r), EXPIRE_BUDGET, &more, collect, &e) != SP_OK)
            more = false;
        if (group_flush(r) != SP_OK)
            return;
        for (size_t k = 0; k < e.n; k++) {
            audit_emit(AUDIT_LINK_EXPIRED, e.link[k].message_id, e.link[k].id);
            r->links_expired++;
            link_erase(r, &e.link[k], "expired");
        }
    }
    r->expiring = more;
    note_time(r);
}

struct found {
    uint64_t user;
    size_t n;
    uint8_t id[REVOKES_MAX][ID_SIZE];
};

static enum sp_err find(void *ctx, const struct store_link *link)
{
    struct found *f = ctx;
    if (link->user == f->user && link->ended == DELIVERY_QUEUED && f->n < REVOKES_MAX)
        memcpy(f->id[f->n++], link->id, ID_SIZE);
    return SP_OK;
}

_Static_assert(STORE_LINKS <= REVOKES_MAX, "all links of one mail are found at once");

static bool is_for(struct store_role *r, const struct store_link *link, const char *address)
{
    struct store_recipient recipient;
    char name[STORE_MAX_ADDRESS];
    bool open;
    return address == NULL ||
           (store_recipient_get(r->store, link->no, link->index, &recipient, &open) == SP_OK &&
            store_address(recipient.address.bytes, recipient.address.len, false, name) == SP_OK &&
            strcmp(name, address) == 0);
}

/* Those that end are put first. */
static enum sp_err end_one(struct store_role *r, struct found *f, size_t i, size_t *ended)
{
    enum sp_err err = store_link_end(r->store, f->id[i], DELIVERY_REVOKED, link_now(r));
    memmove(f->id[(*ended)++], f->id[i], ID_SIZE);
    return err;
}

enum sp_err links_revoke(struct store_role *r, uint64_t user, uint64_t no, const char *address,
                         const char *why, size_t *n)
{
    static struct found f;
    struct store_link link;
    size_t ended = 0;
    f.user = user;
    f.n = 0;
    *n = 0;
    enum sp_err err = no != 0 ? store_message_links(r->store, no, f.id, REVOKES_MAX, &f.n)
                              : store_links_each(r->store, find, &f);
    for (size_t i = 0; err == SP_OK && i < f.n; i++) {
        err = store_link_get(r->store, f.id[i], &link);
        if (err == SP_ERR_NOT_FOUND) /* its box is being erased */
            err = SP_OK;
        else if (err == SP_OK && link.user == user && link.ended == DELIVERY_QUEUED &&
                 is_for(r, &link, address))
            err = end_one(r, &f, i, &ended);
    }
    if (err == SP_OK)
        err = group_flush(r);
    for (size_t i = 0; err == SP_OK && i < ended; i++)
        link_ended(r, f.id[i], why);
    *n = err == SP_OK ? ended : 0;
    return err;
}

/* Its password's record may be gone by now; its box's is there as long as it lives. */
enum sp_err link_of_job(struct store_role *r, const struct store_job *job, uint8_t id[ID_SIZE])
{
    struct store_secret box;
    bool needed;
    enum sp_err err = job->secret > 0 ? store_secret_get(r->store, job->no,
                                                         (uint16_t)(job->secret + 1), &box, &needed)
                                      : SP_ERR_NOT_FOUND;
    if (err == SP_OK)
        memcpy(id, box.recipient_id, ID_SIZE);
    return err;
}

void link_lost(struct store_role *r, const uint8_t id[ID_SIZE])
{
    struct store_link link;
    enum sp_err err = store_link_end(r->store, id, DELIVERY_EXPIRED, link_now(r));
    if (err == SP_OK)
        err = group_flush(r);
    if (err == SP_OK)
        err = store_link_get(r->store, id, &link);
    if (err != SP_OK)
        return;
    audit_emit(AUDIT_LINK_EXPIRED, link.message_id, link.id);
    r->links_expired++;
    link_erase(r, &link, "expired");
}
