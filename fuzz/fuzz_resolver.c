/* libs: -lresolv */
/* The resolver's receivers between an smtp, a relay, their sessions and deliveries, all of them
 * hostile, and a network that answers when and what it likes. The input is a list of moves. The
 * model checks what each hears: a session one bit, which is set by a null MX alone; nobody more
 * answers than questions; no share is exceeded; and that nothing is left in the end. */
#include "daemon/resolver/answers.c"

#include "daemon/ipc.h"
#include "daemon/resolver/resolver.h"

#include <event2/event.h>
#include <unbound.h>
#include <unbound-event.h>

#define reply  questions_reply
#define count  questions_count
#define start  questions_start
#define detach questions_detach
#include "daemon/resolver/questions.c"
#undef reply
#undef count
#undef start
#undef detach
#define forget senders_forget
#include "daemon/resolver/senders.c"
#undef forget
#include "daemon/door/channels.c"
#include "daemon/resolver/resolver.c"
#include "envelope/error.c"
#include "envelope/utf8.c"
#include "envelope/wire.c"

#include <stdarg.h>

#define PEERS   64u
#define LOOKING 4096u
#define EVENTS  4200u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool good)
{
    if (!good)
        abort();
}

/* libunbound is this file's, too, and makes no sockets. */
void door_use(const struct door_source *sources, size_t n)
{
    for (size_t i = 0; i < n; i++)
        insist(sources[i].channel >= DOOR_AT);
}

/* --- the loop --- */

struct event {
    event_callback_fn fn;
    void *arg;
    bool armed;
};

static struct event *events[EVENTS];

struct event *event_new(struct event_base *base, evutil_socket_t fd, short what,
                        event_callback_fn fn, void *arg)
{
    (void)base, (void)fd, (void)what;
    for (size_t i = 0; i < EVENTS; i++)
        if (events[i] == NULL) {
            events[i] = calloc(1, sizeof(struct event));
            *events[i] = (struct event){.fn = fn, .arg = arg};
            return events[i];
        }
    return NULL;
}

int event_add(struct event *e, const struct timeval *after)
{
    (void)after;
    e->armed = true;
    return 0;
}

int event_del(struct event *e)
{
    e->armed = false;
    return 0;
}

void event_free(struct event *e)
{
    for (size_t i = 0; i < EVENTS; i++)
        if (events[i] == e)
            events[i] = NULL;
    free(e);
}

static void fire(size_t i)
{
    struct event *e = events[i % EVENTS];
    if (e == NULL || !e->armed)
        return;
    e->armed = e->fn == on_tick;
    e->fn(-1, EV_TIMEOUT, e->arg);
}

/* --- peers --- */

struct ipc_peer {
    const struct ipc_rules *rules;
    void *ctx;
    unsigned asked, heard;
    bool null; /* the last question may be answered by 1 */
};

static struct ipc_peer *peers[PEERS];

struct ipc_peer *ipc_peer_new(struct event_base *base, int sock, const struct ipc_rules *rules,
                              void *ctx)
{
    (void)base, (void)sock;
    for (size_t i = 0; i < PEERS; i++)
        if (peers[i] == NULL) {
            peers[i] = calloc(1, sizeof(struct ipc_peer));
            *peers[i] = (struct ipc_peer){.rules = rules, .ctx = ctx};
            return peers[i];
        }
    return NULL;
}

void ipc_peer_free(struct ipc_peer *peer)
{
    for (size_t i = 0; i < PEERS; i++)
        if (peers[i] == peer)
            peers[i] = NULL;
    free(peer);
}

enum sp_err ipc_peer_send(struct ipc_peer *peer, uint16_t type, uint32_t id,
                          const struct wire_out *body, int fd)
{
    (void)id;
    insist(fd < 0 && wire_out_ok(body) && ++peer->heard <= peer->asked);
    if (peer->rules == &session_rules)
        insist(type == RD_SENDER_REPLY && body->len == 1 && body->at[0] <= 1);
    else
        insist(type == RD_MX_REPLY || type == RD_ADDRESS_REPLY);
    return SP_OK;
}

/* What ipc.c does with a frame. */
static void receive(struct ipc_peer *peer, uint16_t type, const uint8_t *bytes, size_t len)
{
    const struct ipc_rules *r = peer->rules;
    struct ipc_frame f = {.type = type, .id = 1, .body = wire_in(bytes, len), .fd = -1};
    enum sp_err err = SP_ERR_DENIED;
    for (size_t i = 0; i < r->count; i++)
        if (r->rule[i].type == type && len >= r->rule[i].min && len <= r->rule[i].max) {
            f.fd = r->rule[i].fd ? 5000 : -1;
            peer->asked++;
            err = r->rule[i].handle(peer->ctx, peer, &f);
            if (err == SP_OK && !wire_in_done(&f.body))
                err = SP_ERR_FORMAT;
        }
    for (size_t i = 0; err != SP_OK && i < PEERS; i++)
        if (peers[i] == peer) /* it may have been freed meanwhile */
            r->gone(peer->ctx, peer, err);
}

/* --- the network --- */

static struct {
    void *arg;
    ub_event_callback_type fn;
} looking[LOOKING];

static uint64_t refusals;

int ub_resolve_event(struct ub_ctx *ctx, const char *name, int type, int class, void *arg,
                     ub_event_callback_type fn, int *async)
{
    (void)ctx, (void)class, (void)async;
    insist(strcmp(name, ".") == 0 || answers_name_ok(name, strlen(name)));
    insist(type == ns_t_mx || type == ns_t_a || type == ns_t_aaaa || type == ns_t_soa);
    for (size_t i = 0; i < LOOKING; i++)
        if (looking[i].fn == NULL) {
            looking[i].fn = fn;
            looking[i].arg = arg;
            return UB_NOERROR;
        }
    return UB_NOMEM;
}

static void answer(size_t i, int rcode, int security, uint8_t *packet, size_t len)
{
    ub_event_callback_type fn = looking[i % LOOKING].fn;
    looking[i % LOOKING].fn = NULL;
    if (fn != NULL)
        fn(looking[i % LOOKING].arg, rcode, len > 0 ? packet : NULL, (int)len, security, NULL, 0);
}

/* An honest null MX for a lookup of questions.c. */
static void answer_null(size_t i)
{
    uint8_t packet[600] = {0, 1, 0x81, 0x80, 0, 1, 0, 1};
    size_t at = 12;
    if (looking[i % LOOKING].fn != on_answer)
        return;
    const struct lookup *l = looking[i % LOOKING].arg;
    int n = ns_name_pton(l->of->name, packet + at, 255) < 0 ? -1 : 0;
    if (n < 0 || l->type != ANSWER_MX)
        return;
    while (packet[at] != 0)
        at += packet[at] + 1u;
    static const uint8_t rest[] = {0, 0, 15, 0, 1,  0xc0, 12, 0, 15, 0,
                                   1, 0, 0,  0, 60, 0,    3,  0, 0,  0};
    memcpy(packet + at, rest, sizeof(rest));
    answer(i, ns_r_noerror, CONTEXT_SECURE, packet, at + sizeof(rest));
}

void audit_emit(enum audit_event event, ...)
{
    va_list args;
    insist(event == AUDIT_SENDER_REFUSED);
    va_start(args, event);
    (void)va_arg(args, uint64_t);
    const char *domain = va_arg(args, const char *);
    insist(answers_name_ok(domain, strlen(domain)));
    va_end(args);
    refusals++;
}

enum sp_err context_make(struct event_base *base, const char *server, char *resolv_conf,
                         char *anchors, struct context *out)
{
    (void)base, (void)server, (void)resolv_conf, (void)anchors;
    *out = (struct context){.ub = (void *)out, .anchors = 0};
    return SP_OK;
}

void context_free(struct context *c)
{
    insist(c->asked == 0);
}

uint16_t config_port(const char *text)
{
    (void)text;
    return 53;
}

void role_log(const char *format, ...)
{
    (void)format;
}

void role_status_number(struct wire_out *pairs, const char *name, uint64_t value)
{
    (void)pairs, (void)name, (void)value;
}

/* --- moves --- */

static void check_all(void)
{
    const struct question_counts c = questions_counts();
    insist(c.of_sessions <= c.waiting && c.of_sessions <= QUESTIONS_OF_SESSIONS);
    insist(senders.n_sessions <= senders.role->config->max_sessions + SLACK);
    for (const struct asker *a = LIST_FIRST(&senders.sessions); a != NULL; a = LIST_NEXT(a, next))
        insist(a->n_questions <= 1 && a->asked <= SENDER_QUESTIONS);
    for (const struct asker *a = LIST_FIRST(&resolver.deliveries); a != NULL;
         a = LIST_NEXT(a, next))
        insist(a->n_questions <= QUESTIONS_EACH);
}

static void session_comes(uint8_t id)
{
    const uint8_t body[] = {0, 0, 0, id, 0, 1, 'x'};
    if (senders.smtp != NULL)
        receive(senders.smtp, SP_SESSION, body, sizeof(body));
}

static void delivery_comes(uint8_t id)
{
    const uint8_t body[12] = {0, 0, 0, id};
    if (resolver.relay != NULL)
        receive(resolver.relay, RP_DELIVERY, body, sizeof(body));
}

/* An honest question for one of a few names. */
static void ask(struct ipc_peer *peer, uint8_t what)
{
    uint8_t body[] = {0, 6, 'a', '.', 't', 'e', 's', 't'};
    body[2] = (uint8_t)('a' + what % 8);
    receive(peer,
            peer->rules == &session_rules ? RD_SENDER
            : what & 8                    ? RD_MX
                                          : RD_ADDRESS,
            body, sizeof(body));
}

static void move(struct wire_in *in)
{
    static uint8_t packet[1024];
    uint8_t what = wire_get_u8(in), which = wire_get_u8(in);
    struct ipc_peer *peer = peers[which % PEERS];
    size_t len = what >> 3;
    if (len > in->left)
        len = in->left;
    switch (what % 8) {
    case 0:
        session_comes(which);
        break;
    case 1:
        delivery_comes(which);
        break;
    case 2:
        if (peer != NULL && (peer->rules == &session_rules || peer->rules == &delivery_rules))
            ask(peer, what >> 3);
        break;
    case 3: {
        uint16_t type = wire_get_u16(in);
        len = len > in->left ? in->left : len;
        const uint8_t *bytes = wire_get_bytes(in, len);
        if (peer != NULL && bytes != NULL)
            receive(peer, type, bytes, len);
        break;
    }
    case 4:
        answer_null(which);
        break;
    case 5:
        if (len > 0)
            memcpy(packet, wire_get_bytes(in, len), len);
        answer(which, what & 8 ? ns_r_noerror : ns_r_servfail, what & 3, packet, len);
        break;
    case 6:
        fire(which);
        break;
    default:
        if (peer != NULL && peer->rules != &smtp_rules && peer->rules != &relay_rules)
            peer->rules->gone(peer->ctx, peer, SP_ERR_PEER);
    }
    check_all();
}

static void end(void)
{
    const uint8_t gone[1] = {0};
    if (senders.smtp != NULL)
        receive(senders.smtp, 1, gone, 1);
    if (resolver.relay != NULL)
        receive(resolver.relay, 1, gone, 1);
    for (size_t i = 0; i < LOOKING; i++)
        answer(i, ns_r_servfail, CONTEXT_INSECURE, NULL, 0);
    insist(questions_counts().waiting == 0 && questions_counts().of_sessions == 0);
    insist(senders.n_sessions == 0 && resolver.n_deliveries == 0);
    for (size_t i = 0; i < PEERS; i++)
        insist(peers[i] == NULL);
    event_free(senders.tick);
    event_free(resolver.leaving_tick);
    for (size_t i = 0; i < EVENTS; i++)
        insist(events[i] == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config config = {.check_sender = CONFIG_YES, .max_sessions = 8, .deliveries = 4};
    static struct context context;
    struct role role = {.config = &config};
    struct wire_in in = wire_in(data, size);
    memset(&senders, 0, sizeof(senders));
    memset(&all, 0, sizeof(all));
    role.base = (void *)&role;
    resolver = (struct resolver){.role = &role, .context = &context};
    context = (struct context){.ub = (void *)&context};
    LIST_INIT(&resolver.deliveries);
    insist(run(&role) == SP_OK);
    while (in.left > 0 && !in.bad)
        move(&in);
    end();
    insist(context.asked == 0);
    return 0;
}
