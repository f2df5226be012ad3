/* The sealer: encrypts for the recipients' newest PUKs what SMTP sessions put into shared locked
 * slots. Sessions are not trusted at all, their parent is believed about which of them are dead,
 * the store about PUKs. Holds plaintext 48 KiB at a time, and message keys while a message lasts.
 */
#include "daemon/sealer/sealer.h"
#include "daemon/tls.h"
#include "sandbox/lockmem.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define SLOTS_AT_START 8u
#define HEAP_LARGE     (24u * 1024u * 1024u)
#define HEAP_SMALL     (2u * 1024u * 1024u)

static struct sealer sealer;

/* --- slots --- */

static enum sp_err grow_pool(struct sealer *s)
{
    struct slot *slot = calloc(1, sizeof(*slot));
    void *at;
    if (slot == NULL || s->n_slots == s->max_slots ||
        lockmem_create(SLOT_SIZE, &slot->fd, &at) != SP_OK) {
        free(slot);
        return SP_ERR_NO_SPACE;
    }
    slot->at = at;
    s->n_slots++;
    SLIST_INSERT_HEAD(&s->free_slots, slot, next);
    return SP_OK;
}

struct slot *slot_take(struct sealer *s)
{
    if (SLIST_EMPTY(&s->free_slots) && grow_pool(s) != SP_OK)
        return NULL;
    struct slot *slot = SLIST_FIRST(&s->free_slots);
    SLIST_REMOVE_HEAD(&s->free_slots, next);
    return slot;
}

/* A slot goes back only when its process is dead: until then it may still have it mapped, and would
 * see the next session's mail. */
void session_release(struct session *x)
{
    struct sealer *s = x->sealer;
    if (x->peer != NULL || !x->process_gone || x->asked_store)
        return;
    session_forget(x);
    if (x->slot != NULL) {
        lockmem_wipe(x->slot->at, SLOT_SIZE);
        SLIST_INSERT_HEAD(&s->free_slots, x->slot, next);
    }
    LIST_REMOVE(x, next);
    s->n_sessions--;
    free(x->recipients);
    free(x);
}

/* --- the edge to the smtp parent --- */

static enum sp_err on_session(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    struct sealer *s = ctx;
    size_t len;
    uint32_t id = wire_get_u32(&f->body);
    (void)peer;
    if (wire_get_b16(&f->body, 64, &len) == NULL)
        return SP_ERR_FORMAT;
    int sock = f->fd;
    f->fd = -1;
    return session_start(s, id, sock);
}

static enum sp_err on_session_gone(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    struct sealer *s = ctx;
    struct session *x = session_find(s, wire_get_u32(&f->body));
    (void)peer;
    if (x != NULL) {
        x->process_gone = true;
        session_release(x);
    }
    return SP_OK;
}

static const struct ipc_rule smtp_table[] = {
    {SP_SESSION, true, false, 6, 80, on_session},
    {SP_SESSION_GONE, false, false, 4, 4, on_session_gone},
};

static void on_smtp_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    (void)ctx;
    ipc_peer_free(peer);
    sealer.smtp = NULL;
    if (why != SP_ERR_PEER)
        _exit(1);
}

static const struct ipc_rules smtp_rules = {smtp_table, 2, UINT64_MAX, on_smtp_gone};

/* --- role --- */

static enum lockmem_kind lock_kind;

/* What the system lets us lock decides how many slots there can be. */
static enum sp_err prepare_memory(struct sealer *s)
{
    size_t limit = lockmem_limit();
    size_t heap = limit >= 4u * HEAP_LARGE ? HEAP_LARGE : HEAP_SMALL;
    size_t others = heap + SEALING_MAX_ENVELOPE + 65536u;
    s->max_slots = limit > others ? (limit - others) / (SLOT_SIZE + 8192u) : 0;
    if (s->max_slots > s->role->config->max_sessions)
        s->max_slots = s->role->config->max_sessions;
    enum sp_err err = s->max_slots > 0 ? lockheap_init(heap, 0) : SP_ERR_MEMORY;
    if (err == SP_OK)
        err = tls_use_lockheap();
    return err;
}

static enum sp_err prepare(struct role *role)
{
    struct sealer *s = &sealer;
    s->role = role;
    role->state = s;
    LIST_INIT(&s->sessions);
    TAILQ_INIT(&s->waiting);
    SLIST_INIT(&s->free_slots);
    enum sp_err err = lockmem_init(lockmem_wanted(role->config), &lock_kind);
    if (err == SP_OK)
        err = prepare_memory(s);
    if (err == SP_OK)
        err = sealing_init(NULL);
    for (size_t i = 0; err == SP_OK && i < SLOTS_AT_START && i < s->max_slots; i++)
        err = grow_pool(s);
    if (err == SP_OK)
        err = ring_create(&s->ring);
    return err;
}

static enum sp_err run(struct role *role)
{
    struct sealer *s = role->state;
    s->smtp = ipc_peer_new(role->base, ROLE_FD(ROLE_SMTP), &smtp_rules, s);
    return s->smtp != NULL ? storage_start(s) : SP_ERR_MEMORY;
}

static void status(struct role *role, struct wire_out *pairs)
{
    struct sealer *s = role->state;
    wire_put_str(pairs, "memory_lock");
    wire_put_str(pairs, lockmem_name(lock_kind));
    role_status_number(pairs, "sessions", s->n_sessions);
    tally_status(&s->tally, pairs);
    role_status_number(pairs, "slots", s->n_slots);
    role_status_number(pairs, "slots_most", s->max_slots);
    role_status_number(pairs, "locked_heap_bytes_most", lockheap_used());
}

const struct role_ops sealer_role = {
    .id = ROLE_SEALER, .name = "sealer", .prepare = prepare, .run = run, .status = status};
