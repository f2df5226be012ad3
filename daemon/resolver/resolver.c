/* Resolver: DNS for deliveries, validated. The supervisor is trusted; the relay, smtp and their
 * children may have been taken over; every answer of the network is hostile. */
#include "daemon/resolver/resolver.h"
#include "daemon/door/door.h"
#include "daemon/door/sockets.h"
#include "daemon/messages.h"
#include "daemon/resolver/context.h"
#include "daemon/resolver/senders.h"

#include <arpa/nameser.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unbound.h>
#include <unbound-event.h>
#include <unistd.h>

#define FD_RESOLV_CONF FD_EXTRA
#define FD_ANCHORS     (FD_EXTRA + 1)
#define FILE_MAX       65536u

#define LEAVING_MAX     8u
#define LEAVING_SECONDS 1

#define DELIVERIES_SLACK 16u /* ended ones whose channel's end was not read yet */

static struct resolver {
    struct role *role;
    struct context *context;              /* that is asked */
    struct context *leaving[LEAVING_MAX]; /* that were asked before, and owe answers; NULL */
    struct event *leaving_tick;           /* looks after them */
    char *anchors;                        /* as text */
    struct ipc_peer *relay;
    LIST_HEAD(, asker) deliveries;
    uint64_t n_deliveries;
    const char *validation; /* what is known of it, for status */
} resolver;

/* --- deliveries --- */

static void forget(struct asker *d)
{
    LIST_REMOVE(d, next);
    resolver.n_deliveries--;
    questions_orphan(d);
    ipc_peer_free(d->channel);
    free(d);
}

/* A delivery has ended, or has done what it may not: its channel goes, nothing else. */
static void on_delivery_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct asker *d = ctx;
    (void)peer;
    if (why != SP_ERR_PEER)
        role_log("delivery %u loses its channel: %s", d->id, sp_err_text(why));
    forget(d);
}

static enum sp_err on_mx(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    (void)peer;
    return questions_ask(ctx, QUESTION_MX, frame);
}

static enum sp_err on_address(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    (void)peer;
    return questions_ask(ctx, QUESTION_ADDRESS, frame);
}

static const struct ipc_rule delivery_rule[] = {
    {RD_MX, false, false, 2, 2 + QUESTION_NAME_MAX, on_mx},
    {RD_ADDRESS, false, false, 2, 2 + QUESTION_NAME_MAX, on_address},
};
static const struct ipc_rules delivery_rules = {delivery_rule, 2, UINT64_MAX, on_delivery_gone};

static struct asker *find_delivery(uint32_t id)
{
    struct asker *d = LIST_FIRST(&resolver.deliveries);
    while (d != NULL && d->id != id)
        d = LIST_NEXT(d, next);
    return d;
}

static enum sp_err on_delivery(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    (void)ctx;
    (void)peer;
    uint32_t id = wire_get_u32(&frame->body);
    (void)wire_get_u64(&frame->body); /* the lease: nothing to us */
    if (!wire_in_done(&frame->body) || find_delivery(id) != NULL)
        return SP_ERR_FORMAT;
    struct asker *d = NULL;
    if (resolver.n_deliveries < 2 * resolver.role->config->deliveries + DELIVERIES_SLACK)
        d = calloc(1, sizeof(*d));
    if (d == NULL) {
        role_log("delivery %u gets no channel: there are too many", id);
        return SP_OK; /* the descriptor is closed, the delivery fails and is tried again */
    }
    *d = (struct asker){.id = id, .at_once = QUESTIONS_EACH};
    d->channel = ipc_peer_new(resolver.role->base, frame->fd, &delivery_rules, d);
    frame->fd = -1;
    if (d->channel == NULL) {
        free(d);
        return SP_OK;
    }
    LIST_INSERT_HEAD(&resolver.deliveries, d, next);
    resolver.n_deliveries++;
    return SP_OK;
}

static const struct ipc_rule relay_rule[] = {
    {RP_DELIVERY, true, false, 4 + 8, 4 + 8, on_delivery},
};

/* A relay that is gone has no deliveries left that could hear an answer. */
static void on_relay_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    struct asker *d;
    (void)ctx;
    if (why != SP_ERR_PEER)
        role_log("relay loses its edge: %s", sp_err_text(why));
    while ((d = LIST_FIRST(&resolver.deliveries)) != NULL)
        forget(d);
    resolver.relay = NULL;
    ipc_peer_free(peer);
}

static const struct ipc_rules relay_rules = {relay_rule, 1, UINT64_MAX, on_relay_gone};

/* --- the role --- */

/* What the supervisor opened, as text; "" if it could not be opened. Closes it. */
static enum sp_err read_text(int fd, char *text)
{
    size_t len = 0;
    ssize_t n = 0;
    while (len < FILE_MAX && (n = read(fd, text + len, FILE_MAX - len)) > 0)
        len += (size_t)n;
    bool absent = n < 0 && errno == EBADF;
    text[absent ? 0 : len] = '\0';
    if (!absent)
        close(fd);
    if (len == FILE_MAX || memchr(text, '\0', len) != NULL)
        return SP_ERR_CONFIG;
    return n < 0 && !absent ? SP_ERR_SYSTEM : SP_OK;
}

/* A context that asks whom this resolv.conf names, or a setting. */
static enum sp_err make_context(int resolv_conf, struct context **out)
{
    struct role *role = resolver.role;
    char *servers = malloc(FILE_MAX + 1), *anchors = strdup(resolver.anchors);
    struct context *c = calloc(1, sizeof(*c));
    *out = NULL;
    enum sp_err err = servers != NULL && anchors != NULL && c != NULL ? SP_OK : SP_ERR_MEMORY;
    if (err == SP_OK)
        err = read_text(resolv_conf, servers);
    if (err == SP_OK)
        err = context_make(role->base, role->config->resolver_server, servers, anchors, c);
    if (err == SP_OK)
        *out = c;
    else if (c != NULL && c->ub != NULL)
        context_free(c);
    if (err != SP_OK)
        free(c);
    free(servers);
    free(anchors);
    return err;
}

/* What libunbound makes of sockets comes from the door: sockets.c says how. */
static void use_door(void)
{
    static struct door_source sources[DOOR_CHANNELS];
    size_t n = 0;
    for (size_t i = 0; i < DOOR_CHANNELS; i++) {
        const struct door_channel *c = &door_channels[i];
        if (c->to == ROLE_RESOLVER)
            sources[n++] = (struct door_source){c->family, c->type, c->at};
    }
    door_use(sources, n);
}

static enum sp_err prepare(struct role *role)
{
    use_door();
    resolver.role = role;
    LIST_INIT(&resolver.deliveries);
    resolver.anchors = malloc(FILE_MAX + 1);
    enum sp_err err =
        resolver.anchors != NULL ? read_text(FD_ANCHORS, resolver.anchors) : SP_ERR_MEMORY;
    return err == SP_OK ? make_context(FD_RESOLV_CONF, &resolver.context) : err;
}

/* The answer to the first question, about the root: whether the servers asked hand on what is
 * needed to validate. Many a router does not, and then nothing that is signed above resolves. */
static void on_first_answer(void *arg, int rcode, void *packet, int len, int security, char *why,
                            int limited)
{
    struct context *asked = arg;
    (void)rcode, (void)packet, (void)len, (void)why, (void)limited;
    asked->asked--;
    if (asked != resolver.context)
        return;
    if (security == CONTEXT_SECURE)
        resolver.validation = "works";
    if (security != CONTEXT_BOGUS)
        return;
    resolver.validation = "fails";
    role_log("answers do not validate: %s may not hand on DNSSEC signatures; name another in "
             "[resolver] server, or no mail can be sent",
             resolver.context->servers);
}

static enum sp_err use(struct context *c)
{
    resolver.context = c;
    questions_use(resolver.role->base, c);
    if (c->anchors == 0) {
        resolver.validation = "off: no trust anchor";
        role_log("no DNSSEC trust anchor: answers are taken as they come and never called secure; "
                 "install dns-root-data, or set [resolver] trust_anchor");
        return SP_OK;
    }
    resolver.validation = "not known yet";
    c->asked++;
    if (ub_resolve_event(c->ub, ".", ns_t_soa, ns_c_in, c, on_first_answer, NULL) == UB_NOERROR)
        return SP_OK;
    c->asked--;
    return SP_ERR_SYSTEM;
}

/* --- other servers --- */

static void on_leaving(evutil_socket_t fd, short what, void *arg)
{
    bool any = false;
    (void)fd, (void)what, (void)arg;
    for (size_t i = 0; i < LEAVING_MAX; i++) {
        struct context *c = resolver.leaving[i];
        if (c != NULL && c->asked == 0) {
            context_free(c);
            free(c);
            resolver.leaving[i] = NULL;
        }
        any = any || resolver.leaving[i] != NULL;
    }
    if (!any)
        event_del(resolver.leaving_tick);
}

static struct context **find_leaving_place(void)
{
    for (size_t i = 0; i < LEAVING_MAX; i++)
        if (resolver.leaving[i] == NULL)
            return &resolver.leaving[i];
    return NULL;
}

/* The system's servers may have changed. libunbound cannot be told of others: a new context is
 * asked from now on, and the old one goes when it has answered what it was asked. */
static enum sp_err take_servers(int resolv_conf)
{
    static const struct timeval often = {.tv_sec = LEAVING_SECONDS};
    struct context *c, **place = find_leaving_place();
    if (place == NULL || resolver.role->config->resolver_server != NULL) {
        close(resolv_conf);
        return place == NULL ? SP_ERR_LIMIT : SP_OK;
    }
    enum sp_err err = make_context(resolv_conf, &c);
    if (err != SP_OK)
        return err;
    if (strcmp(c->servers, resolver.context->servers) == 0) {
        context_free(c);
        free(c);
        return SP_OK; /* what was learned so far stays */
    }
    *place = resolver.context;
    event_add(resolver.leaving_tick, &often);
    role_log("servers of the system: %s", c->servers);
    return use(c);
}

static enum sp_err control(struct role *role, struct ipc_frame *frame)
{
    (void)role;
    if (frame->type != CT_RESOLV_CONF)
        return SP_ERR_DENIED;
    enum sp_err err = take_servers(frame->fd);
    frame->fd = -1;
    if (err != SP_OK)
        role_log("resolv.conf was not taken over: %s", sp_err_text(err));
    return SP_OK;
}

static enum sp_err run(struct role *role)
{
    enum sp_err err = SP_OK;
    resolver.leaving_tick = event_new(role->base, -1, EV_PERSIST, on_leaving, NULL);
    resolver.relay = ipc_peer_new(role->base, ROLE_FD(ROLE_RELAY), &relay_rules, NULL);
    if (role->config->check_sender == CONFIG_YES)
        err = senders_init(role, ROLE_FD(ROLE_SMTP));
    if (err != SP_OK || resolver.relay == NULL || resolver.leaving_tick == NULL)
        return SP_ERR_MEMORY;
    return use(resolver.context);
}

/* DNS over TCP, for answers that do not fit a datagram. */
static size_t connect_ports(const struct config *c, uint16_t out[ROLE_MAX_PORTS])
{
    uint16_t port = config_port(c->resolver_server);
    out[0] = port != 0 ? port : 53;
    return 1;
}

static void status(struct role *role, struct wire_out *pairs)
{
    struct question_counts counts = questions_counts();
    (void)role;
    wire_put_str(pairs, "servers");
    wire_put_str(pairs, resolver.context->servers);
    role_status_number(pairs, "trust_anchors", resolver.context->anchors);
    wire_put_str(pairs, "validation");
    wire_put_str(pairs, resolver.validation);
    role_status_number(pairs, "delivery_channels", resolver.n_deliveries);
    role_status_number(pairs, "asked", counts.asked);
    role_status_number(pairs, "waiting", counts.waiting);
    role_status_number(pairs, "secure", counts.secure);
    role_status_number(pairs, "bogus", counts.bogus);
    role_status_number(pairs, "failed", counts.failed);
    senders_status(pairs);
}

const struct role_ops resolver_role = {
    .id = ROLE_RESOLVER,
    .name = "resolver",
    .connect = connect_ports,
    .prepare = prepare,
    .run = run,
    .status = status,
    .control = control,
};
