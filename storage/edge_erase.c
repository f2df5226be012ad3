/* How secrets end: the keeper overwrites the slot, then the record goes. The keeper is trusted more
 * than this process; it is asked a bounded number of times at once, however many links end
 * together, and what the list has no room for stands in the database until there is. */
#include "storage/edges.h"
#include "daemon/messages.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#define ERASE_FINAL "finished"

/* --- asking the keeper --- */

static void ask(struct store_role *r, struct erasing *e)
{
    uint8_t buf[4 + 2 * ID_SIZE + 1 + 8 + 2 + sizeof(e->why)];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u32(&out, e->secret.slot);
    wire_put_bytes(&out, e->secret.message_id, ID_SIZE);
    wire_put_u8(&out, e->secret.kind);
    wire_put_bytes(&out, e->secret.recipient_id, ID_SIZE);
    wire_put_u64(&out, e->secret.received_ms);
    wire_put_str(&out, e->why);
    e->id = ++r->keeper_id;
    if (ipc_peer_send(r->keeper, VT_ERASE, e->id, &out, -1) != SP_OK)
        return; /* the keeper is gone, and the tree with it */
    e->state = ERASE_ASKED;
    r->n_erase_asked++;
}

static void ask_more(struct store_role *r)
{
    struct erasing *e;
    LIST_FOREACH(e, &r->erasings, next)
    {
        if (r->keeper == NULL || r->n_erase_asked >= ERASE_FLIGHT)
            return;
        if (e->state == ERASE_WAITING)
            ask(r, e);
    }
}

static void begin(struct store_role *r, uint64_t no, const struct store_secret *secret,
                  const char *why)
{
    struct erasing *e = calloc(1, sizeof(*e));
    if (e == NULL)
        return; /* the next start does it */
    *e = (struct erasing){.no = no, .secret = *secret};
    e->secret.box = NULL; /* it does not outlive the read */
    strncpy(e->why, why, sizeof(e->why) - 1);
    LIST_INSERT_HEAD(&r->erasings, e, next);
    r->n_erasings++;
    if (r->keeper != NULL && r->n_erase_asked < ERASE_FLIGHT)
        ask(r, e);
}

static void end(struct store_role *r, struct erasing *e)
{
    LIST_REMOVE(e, next);
    r->n_erasings--;
    free(e);
}

/* As many as were being wrapped, at most: these slots have no record to be found by. */
void secret_forget(struct store_role *r, const struct store_secret *secret, const char *why)
{
    begin(r, 0, secret, why);
}

static bool is_begun(const struct store_role *r, uint64_t no, uint16_t n)
{
    const struct erasing *e;
    LIST_FOREACH(e, &r->erasings, next)
    if (e->no == no && e->secret.n == n)
        return true;
    return false;
}

void secret_check(struct store_role *r, uint64_t no, uint16_t n, const char *why)
{
    struct store_secret secret;
    bool needed;
    if (!r->keeper_ready) /* then all of them are looked at */
        return;
    if (r->n_erasings >= ERASINGS_MAX)
        r->unfinished = true;
    else if (!is_begun(r, no, n) && store_secret_get(r->store, no, n, &secret, &needed) == SP_OK &&
             !needed)
        begin(r, no, &secret, why);
}

/* --- what was left --- */

struct numbers {
    size_t n;
    struct {
        uint64_t no;
        uint16_t n;
        uint8_t kind, recipient_id[ID_SIZE];
    } at[ERASINGS_MAX];
};

static enum sp_err add_unneeded(void *ctx, uint64_t no, const struct store_secret *secret,
                                bool needed)
{
    struct numbers *list = ctx;
    if (!needed && list->n < ERASINGS_MAX) {
        list->at[list->n].no = no;
        list->at[list->n].n = secret->n;
        list->at[list->n].kind = secret->kind;
        memcpy(list->at[list->n++].recipient_id, secret->recipient_id, ID_SIZE);
    }
    return SP_OK;
}

/* A link that has ended says how; for others the reason is not kept. */
static const char *reason(struct store_role *r, uint8_t kind, const uint8_t id[ID_SIZE])
{
    struct store_link link;
    if ((kind != 0 && kind != BOX_PASSWORD) || store_link_get(r->store, id, &link) != SP_OK)
        return ERASE_FINAL;
    return link.ended == DELIVERY_REVOKED   ? "revoked"
           : link.ended == DELIVERY_EXPIRED ? "expired"
                                            : ERASE_FINAL;
}

void secrets_finish(struct store_role *r)
{
    static struct numbers list;
    list.n = 0;
    store_secrets_each(r->store, add_unneeded, &list);
    r->unfinished = list.n == ERASINGS_MAX;
    for (size_t i = 0; i < list.n; i++)
        secret_check(r, list.at[i].no, list.at[i].n,
                     reason(r, list.at[i].kind, list.at[i].recipient_id));
}

/* --- the record's end --- */

static void record_end(struct store_role *r, struct erasing *e)
{
    enum sp_err err = store_secret_delete(r->store, e->no, e->secret.n);
    if (err == SP_OK && e->secret.kind == 0) {
        err = store_link_delete(r->store, e->secret.recipient_id);
        sweep_soon(r);
    }
    e->state = err == SP_OK ? ERASE_DONE : ERASE_OWED;
    commit_soon(r);
}

void secrets_flushed(struct store_role *r, enum sp_err err)
{
    const struct timeval now = {0};
    struct erasing *e, *after;
    for (e = LIST_FIRST(&r->erasings); e != NULL; e = after) {
        after = LIST_NEXT(e, next);
        if (e->state != ERASE_DONE)
            continue;
        e->state = ERASE_OWED;
        if (err == SP_OK)
            end(r, e);
    }
    if (r->unfinished && LIST_EMPTY(&r->erasings))
        event_add(r->minute, &now); /* not in here: a flush may be anywhere */
}

void secrets_settle(struct store_role *r)
{
    struct erasing *e;
    if (r->unfinished && LIST_EMPTY(&r->erasings))
        secrets_finish(r);
    LIST_FOREACH(e, &r->erasings, next)
    {
        if (e->state == ERASE_FAILED)
            e->state = ERASE_WAITING;
        else if (e->state == ERASE_OWED)
            record_end(r, e);
    }
    ask_more(r);
}

enum sp_err on_secret_erased(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    struct erasing *e;
    (void)peer;
    enum sp_err status = wire_get_u8(&frame->body);
    LIST_FOREACH(e, &r->erasings, next)
    if (e->state == ERASE_ASKED && e->id == frame->id)
        break;
    if (e == NULL)
        return SP_ERR_FORMAT;
    r->n_erase_asked--;
    if (status != SP_OK) {
        role_log("a slot could not be erased: %s; it is tried again", sp_err_text(status));
        e->state = ERASE_FAILED;
    } else if (e->no == 0) {
        end(r, e);
    } else {
        record_end(r, e);
    }
    ask_more(r);
    if (r->unfinished && r->n_erase_asked == 0)
        group_flush(r); /* room for the others */
    return SP_OK;
}
