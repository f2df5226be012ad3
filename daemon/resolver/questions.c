/* What deliveries and sessions have asked and not heard yet. Each may have been taken over: it gets
 * few questions at a time, and names are checked before they go out. Answers are the network's. */
#include "daemon/messages.h"
#include "daemon/resolver/answers.h"
#include "daemon/resolver/context.h"
#include "daemon/resolver/resolver.h"
#include "daemon/resolver/senders.h"

#include <arpa/nameser.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unbound.h>
#include <unbound-event.h>

#define LOOKUPS 2u /* AAAA and A */
#define REPLY_MAX                                                                                  \
    (4u + ANSWERS_MX * (2u + 2u + ANSWERS_NAME) +                                                  \
     ANSWERS_ADDRESSES * (2u + sizeof(struct in6_addr)))

/* One question to libunbound. */
struct lookup {
    struct question *of;
    struct context *context; /* that was asked */
    enum answer_type type;
    bool secure;
    enum answer_result result;
    struct answer_addresses addresses;
};

struct question {
    LIST_ENTRY(question) next;
    struct asker *asker; /* NULL: nobody waits for it any more, or it was answered */
    uint32_t frame;      /* id of the request */
    enum question_kind kind;
    char name[ANSWERS_NAME + 1];
    struct event *deadline;
    unsigned under_way;            /* lookups, and whoever is in the middle of starting them */
    struct lookup lookup[LOOKUPS]; /* IPv6 first; others have the first alone */
    struct answer_mx mx;
};

static struct {
    struct event_base *base;
    struct context *context; /* to be asked */
    struct question_counts counts;
} all;

static unsigned lookups_of(const struct question *q)
{
    return q->kind == QUESTION_ADDRESS ? LOOKUPS : 1;
}

/* --- answers --- */

static void put_mx(struct wire_out *out, const struct answer_mx *mx)
{
    wire_put_u16(out, (uint16_t)mx->n);
    for (size_t i = 0; i < mx->n; i++) {
        wire_put_u16(out, mx->at[i].preference);
        wire_put_str(out, mx->at[i].host);
    }
}

static void put_addresses(struct wire_out *out, const struct question *q)
{
    wire_put_u16(out, (uint16_t)(q->lookup[0].addresses.n + q->lookup[1].addresses.n));
    for (size_t i = 0; i < LOOKUPS; i++)
        for (size_t j = 0; j < q->lookup[i].addresses.n; j++)
            wire_put_b16(out, q->lookup[i].addresses.at[j].bytes, q->lookup[i].addresses.at[j].len);
}

static void count(enum answer_result result, bool secure)
{
    all.counts.secure += secure;
    all.counts.bogus += result == ANSWER_BOGUS;
    all.counts.failed += result == ANSWER_LATER;
}

/* A session hears one bit, and no more of the answer. */
static enum sp_err reply_to_session(struct asker *a, uint32_t id, const struct question *q)
{
    uint8_t buf[1];
    struct wire_out out = wire_out(buf, sizeof(buf));
    bool null = q != NULL && q->lookup[0].result == ANSWER_FOUND && q->mx.n == 1 &&
                q->mx.at[0].host[0] == '\0';
    wire_put_u8(&out, null);
    if (null)
        senders_refused(a, q->name);
    return ipc_peer_send(a->channel, RD_SENDER_REPLY, id, &out, -1);
}

static enum sp_err reply_with(struct asker *d, uint32_t id, enum question_kind kind,
                              enum answer_result result, bool secure, const struct question *q)
{
    static uint8_t buf[REPLY_MAX];
    struct wire_out out = wire_out(buf, sizeof(buf));
    count(result, secure);
    if (kind == QUESTION_SENDER)
        return reply_to_session(d, id, q);
    wire_put_u8(&out, (uint8_t)result);
    wire_put_u8(&out, secure);
    if (result != ANSWER_FOUND)
        wire_put_u16(&out, 0);
    else if (kind == QUESTION_MX)
        put_mx(&out, &q->mx);
    else
        put_addresses(&out, q);
    return ipc_peer_send(d->channel, kind == QUESTION_MX ? RD_MX_REPLY : RD_ADDRESS_REPLY, id, &out,
                         -1);
}

/* "Secure" is said of what is handed on as a whole: each answer that has a part in it validated. */
static bool is_secure(const struct question *q, enum answer_result result)
{
    for (unsigned i = 0; i < lookups_of(q); i++) {
        const struct lookup *l = &q->lookup[i];
        bool part = result != ANSWER_FOUND || l->result == ANSWER_FOUND;
        if (part && !l->secure)
            return false;
    }
    return result <= ANSWER_NO_DATA;
}

static void detach(struct question *q)
{
    q->asker->n_questions--;
    q->asker = NULL;
    LIST_REMOVE(q, next);
}

/* Whoever asked hears what there is by now; what is still under way counts as "try later". */
static void reply(struct question *q)
{
    enum answer_result result = q->lookup[0].result;
    if (lookups_of(q) == LOOKUPS)
        result = answers_join(result, q->lookup[1].result);
    struct asker *d = q->asker;
    detach(q);
    (void)reply_with(d, q->frame, q->kind, result, is_secure(q, result), q);
}

static void release(struct question *q)
{
    if (--q->under_way > 0)
        return;
    if (q->asker != NULL)
        reply(q);
    all.counts.waiting--;
    all.counts.of_sessions -= q->kind == QUESTION_SENDER;
    event_free(q->deadline);
    free(q);
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct question *q = arg;
    (void)fd;
    (void)what;
    if (q->kind == QUESTION_SENDER)
        all.counts.unheard++;
    if (q->asker != NULL)
        reply(q);
}

/* On an error of libunbound's own there is no packet. */
static void on_answer(void *arg, int rcode, void *packet, int len, int security, char *why,
                      int limited)
{
    struct lookup *l = arg;
    struct question *q = l->of;
    l->context->asked--;
    (void)why;
    (void)limited;
    if (rcode == ns_r_noerror || rcode == ns_r_nxdomain)
        all.counts.unheard = 0;
    if (security == CONTEXT_BOGUS)
        l->result = ANSWER_BOGUS;
    else if (rcode == ns_r_noerror && packet != NULL && len > 0 && q->kind != QUESTION_ADDRESS)
        l->result = answers_read_mx(packet, (size_t)len, q->name, &q->mx);
    else if (rcode == ns_r_noerror && packet != NULL && len > 0)
        l->result = answers_read_addresses(packet, (size_t)len, q->name, l->type, &l->addresses);
    else
        l->result = rcode == ns_r_nxdomain ? ANSWER_NO_NAME : ANSWER_LATER;
    l->secure = security == CONTEXT_SECURE && l->result <= ANSWER_NO_DATA;
    release(q);
}

/* --- questions --- */

static bool has_room(enum question_kind kind)
{
    const struct question_counts *c = &all.counts;
    uint64_t most = c->unheard < QUESTIONS_UNHEARD ? QUESTIONS_OF_SESSIONS : 1;
    return c->waiting < QUESTIONS_MAX && (kind != QUESTION_SENDER || c->of_sessions < most);
}

static struct question *question_new(struct asker *d, enum question_kind kind, uint32_t frame,
                                     const uint8_t *name, size_t len)
{
    const struct timeval patience = {.tv_sec = kind == QUESTION_SENDER ? SENDER_SECONDS
                                                                       : QUESTION_SECONDS};
    struct question *q = has_room(kind) ? calloc(1, sizeof(*q)) : NULL;
    if (q == NULL)
        return NULL;
    q->deadline = event_new(all.base, -1, 0, on_deadline, q);
    if (q->deadline == NULL || event_add(q->deadline, &patience) != 0) {
        if (q->deadline != NULL)
            event_free(q->deadline);
        free(q);
        return NULL;
    }
    q->asker = d;
    q->kind = kind;
    q->frame = frame;
    memcpy(q->name, name, len);
    LIST_INSERT_HEAD(&d->questions, q, next);
    d->n_questions++;
    all.counts.waiting++;
    all.counts.of_sessions += kind == QUESTION_SENDER;
    return q;
}

/* What libunbound knows already it answers before ub_resolve_event() returns. */
static void start(struct question *q)
{
    static const enum answer_type types[3][LOOKUPS] = {
        [QUESTION_MX] = {ANSWER_MX},
        [QUESTION_SENDER] = {ANSWER_MX},
        [QUESTION_ADDRESS] = {ANSWER_AAAA, ANSWER_A}};
    q->under_way = 1;
    for (unsigned i = 0; i < lookups_of(q); i++) {
        struct lookup *l = &q->lookup[i];
        *l = (struct lookup){
            .of = q, .context = all.context, .type = types[q->kind][i], .result = ANSWER_LATER};
        q->under_way++;
    }
    for (unsigned i = 0; i < lookups_of(q); i++) {
        struct lookup *l = &q->lookup[i];
        l->context->asked++;
        if (ub_resolve_event(l->context->ub, q->name, (int)l->type, ns_c_in, l, on_answer, NULL) ==
            UB_NOERROR)
            continue;
        l->context->asked--;
        release(q);
    }
    release(q);
}

enum sp_err questions_ask(struct asker *d, enum question_kind kind, struct ipc_frame *frame)
{
    size_t len;
    const uint8_t *name = wire_get_b16(&frame->body, QUESTION_NAME_MAX, &len);
    if (!wire_in_done(&frame->body))
        return SP_ERR_FORMAT;
    if (d->n_questions == d->at_once)
        return SP_ERR_LIMIT;
    all.counts.asked++;
    if (!answers_name_ok((const char *)name, len)) /* DNS can hold no such host */
        return reply_with(d, frame->id, kind, ANSWER_NO_NAME, false, NULL);
    struct question *q = question_new(d, kind, frame->id, name, len);
    if (q == NULL)
        return reply_with(d, frame->id, kind, ANSWER_LATER, false, NULL);
    start(q);
    return SP_OK;
}

void questions_orphan(struct asker *d)
{
    while (!LIST_EMPTY(&d->questions))
        detach(LIST_FIRST(&d->questions));
}

struct question_counts questions_counts(void)
{
    return all.counts;
}

void questions_use(struct event_base *base, struct context *context)
{
    all.base = base;
    all.context = context;
}
