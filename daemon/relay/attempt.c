/* Connections, one after the other, until every recipient has its answer. The servers are
 * strangers: what they say decides over this mail's recipients, and over nothing else. */
#include "daemon/ipc.h"
#include "daemon/messages.h"
#include "daemon/relay/delivery.h"
#include "daemon/relay/edge.h"
#include "daemon/relay/outside.h"
#include "sandbox/lockmem.h"

#include <errno.h>
#include <string.h>

#define PORT_SUBMISSIONS 465 /* RFC 8314 3.3 */

#define CONNECTIONS 12u /* addresses tried for one mail */
#define SERVERS     2u  /* of them, that would talk to us */

struct attempt {
    struct delivery *d;
    struct dialog_settings settings;
    unsigned connections, servers;
    size_t host;     /* index into the route */
    bool stop;       /* the rest is for another time, or settled */
    bool unreadable; /* the mail itself could not be read to its end */
};

/* --- who is still to be served --- */

struct batch {
    size_t n, who[DIALOG_RCPTS];
    const char *to[DIALOG_RCPTS];
};

static struct dialog_verdict *verdicts; /* of a batch, in locked memory */

/* Up to a transaction's worth of those whom this server has not answered for. */
static void collect(const struct delivery *d, const bool *asked, struct batch *b)
{
    b->n = 0;
    for (size_t i = 0; i < d->job.n && b->n < DIALOG_RCPTS; i++)
        if (!d->to[i].settled && !asked[i]) {
            b->who[b->n] = i;
            b->to[b->n++] = d->job.rcpt[i];
        }
}

/* True if any recipient has its answer now. */
static bool take_verdicts(struct attempt *a, const struct batch *b, bool *asked)
{
    bool progress = false;
    for (size_t i = 0; i < b->n; i++) {
        struct delivery_recipient *to = &a->d->to[b->who[i]];
        const struct dialog_verdict *v = &verdicts[i];
        delivery_take(to, a->host, v);
        to->settled = to->verdict.outcome != DIALOG_DEFERRED;
        asked[b->who[i]] = !v->again;
        progress = progress || !v->again;
    }
    return progress;
}

/* --- transactions --- */

static enum sp_err send_batch(struct attempt *a, const struct batch *b)
{
    struct delivery *d = a->d;
    struct dialog_mail mail = {.from = d->job.from,
                               .to = b->to,
                               .n = b->n,
                               .size = d->front_len + flow_size(&d->flow),
                               .eight_bit = d->mail.eight_bit,
                               .utf8 = d->mail.header_utf8,
                               .source = flow_read,
                               .ctx = &d->flow};
    for (size_t i = 0; i < b->n; i++)
        verdicts[i] = (struct dialog_verdict){.outcome = DIALOG_NONE};
    enum sp_err err = flow_begin(&d->flow, d->front, d->front_len, false);
    a->unreadable = err != SP_OK;
    if (a->unreadable)
        return err;
    enum sp_err sent = dialog_send(&d->vault->in.dialog, &mail, verdicts);
    enum sp_err read = d->flow.failed;
    err = flow_end(&d->flow);
    a->unreadable = read != SP_OK || err != SP_OK;
    return a->unreadable ? (read != SP_OK ? read : err) : sent;
}

/* As many transactions as it takes. *alive: the connection is good for a farewell. */
static enum sp_err transactions(struct attempt *a, bool *alive)
{
    static bool asked[JOB_RECIPIENTS];
    struct delivery *d = a->d;
    struct batch b;
    enum sp_err err = SP_OK;
    bool progress = true;
    *alive = true;
    memset(asked, 0, sizeof(asked));
    for (collect(d, asked, &b); err == SP_OK && *alive && progress && b.n > 0;
         collect(d, asked, &b)) {
        enum sp_err sent = send_batch(a, &b);
        *alive = sent == SP_OK;
        if (a->unreadable)
            return sent; /* nobody else would get it either */
        progress = take_verdicts(a, &b, asked);
        err = outcome_sent(d);
    }
    return err;
}

/* --- connections --- */

static void note(struct attempt *a, const struct dialog_verdict *v)
{
    delivery_all(a->d, a->host, v);
}

/* A connection to one address; *again: it wants to be tried once more in the clear. */
static enum sp_err converse(struct attempt *a, bool *again)
{
    struct vault *v = a->d->vault;
    struct dialog_verdict why = {.outcome = DIALOG_NONE};
    enum sp_err err = SP_OK;
    bool alive = false;
    enum dialog_next next = dialog_open(&v->in.dialog, &v->remote, &a->settings, &why);
    a->d->route.host[a->host].tls = v->remote.tls;
    *again = next == DIALOG_CLEAR;
    if (next == DIALOG_READY) {
        a->servers++;
        err = transactions(a, &alive);
    } else {
        note(a, &why);
        a->stop = next == DIALOG_STOP;
    }
    if (alive && err == SP_OK)
        dialog_quit(&v->in.dialog);
    else
        lockmem_wipe(&v->in.dialog, sizeof(v->in.dialog));
    remote_close(&v->remote);
    return err;
}

static void cannot_connect(struct attempt *a, enum sp_err err, int system)
{
    struct dialog_verdict why;
    const char *name = a->d->route.host[a->host].name;
    if (err == SP_ERR_EXPIRED)
        delivery_verdict(&why, DIALOG_DEFERRED, 0, "4.4.1", "%s does not answer", name);
    else
        delivery_verdict(&why, DIALOG_DEFERRED, 0, "4.4.1", "Cannot connect to %s: %s", name,
                         strerror(system));
    note(a, &why);
}

static enum sp_err try_address(struct attempt *a, const struct route_address *address)
{
    struct delivery *d = a->d;
    uint64_t now = remote_now_ms();
    bool again = false;
    a->connections++;
    if (now >= d->until_ms || delivery_stop) {
        a->stop = true;
        return SP_OK;
    }
    d->vault->remote.fd = -1;
    enum sp_err err = remote_connect(&d->vault->remote, address->bytes, address->len, d->route.port,
                                     DIALOG_MS_CONNECT, d->until_ms - now, &delivery_stop);
    if (err != SP_OK) {
        cannot_connect(a, err, errno);
        return SP_OK;
    }
    err = converse(a, &again);
    if (err == SP_OK && again) {
        a->settings.tls = DIALOG_TLS_NEVER;
        err = try_address(a, address);
        a->settings.tls = DIALOG_TLS_MAY;
    }
    return err;
}

static bool goes_on(const struct attempt *a)
{
    return !a->stop && !delivery_stop && a->connections < CONNECTIONS && a->servers < SERVERS &&
           delivery_unsettled(a->d) > 0;
}

/* A smarthost was named by the operator; exchangers are whatever their owners say. */
static void stay_outside(const struct attempt *a, const struct route_host *host,
                         struct route_address *address, size_t *n, struct dialog_verdict *why)
{
    const struct config *c = a->d->config;
    bool inside = c->private_addresses == CONFIG_YES || c->relay_mode == RELAY_SMARTHOST ||
                  (c->private_addresses == CONFIG_AUTO && outside_is_inside(c->resolver_server));
    if (!inside)
        route_keep_outside(host, address, n, why);
}

static enum sp_err try_host(struct attempt *a)
{
    struct route_address address[ROUTE_ADDRESSES];
    struct dialog_verdict why = {.outcome = DIALOG_NONE};
    size_t n;
    const struct route_host *host = &a->d->route.host[a->host];
    enum sp_err err = route_addresses(DELIVERY_RESOLVER, host, address, &n, &why);
    a->settings.peer = host->name;
    if (err == SP_OK && n > 0)
        stay_outside(a, host, address, &n, &why);
    if (err == SP_OK && n == 0)
        note(a, &why);
    for (size_t i = 0; err == SP_OK && i < n && goes_on(a); i++)
        err = try_address(a, &address[i]);
    return err;
}

/* --- the whole --- */

/* The smarthost's user and password, if there are any: then nothing goes there but under verified
 * TLS. */
static enum sp_err get_credentials(struct attempt *a)
{
    struct vault *v = a->d->vault;
    uint8_t frame[IPC_HEADER];
    const struct wire_out nothing = {.at = frame + IPC_HEADER};
    struct wire_in in;
    if (!a->d->login)
        return SP_OK;
    enum sp_err err = edge_ask(DELIVERY_KEEPER, KD_AUTH, frame, &nothing, v->remote.in,
                               sizeof(v->remote.in), &in);
    if (err == SP_OK) {
        edge_get_text(&in, v->user, sizeof(v->user));
        edge_get_text(&in, v->password, sizeof(v->password));
        err = wire_in_done(&in) ? SP_OK : SP_ERR_PEER;
    }
    lockmem_wipe(v->remote.in, 1024);
    a->settings.user = v->user;
    a->settings.password = v->password;
    a->settings.tls = DIALOG_TLS_REQUIRE;
    return err;
}

enum sp_err attempt_all(struct delivery *d)
{
    struct dialog_verdict why = {.outcome = DIALOG_NONE};
    struct attempt a = {.d = d,
                        .settings = {.hostname = d->config->hostname,
                                     .loops = d->config->relay_mode == RELAY_MX,
                                     .tls = d->config->relay_tls == TLS_REQUIRE ? DIALOG_TLS_REQUIRE
                                                                                : DIALOG_TLS_MAY,
                                     .ctx = d->tls}};
    size_t n = d->job.n < DIALOG_RCPTS ? d->job.n : DIALOG_RCPTS;
    verdicts = lockheap_malloc(n * sizeof(*verdicts));
    enum sp_err err = verdicts != NULL ? get_credentials(&a) : SP_ERR_MEMORY;
    if (err == SP_OK)
        err = route_find(d->config, DELIVERY_RESOLVER, d->job.destination, &d->route, &why);
    a.settings.implicit =
        d->config->relay_mode == RELAY_SMARTHOST && d->route.port == PORT_SUBMISSIONS;
    if (err == SP_OK && d->route.n == 0)
        delivery_all(d, ROUTE_NOBODY, &why);
    for (a.host = 0; err == SP_OK && a.host < d->route.n && goes_on(&a); a.host++)
        err = try_host(&a);
    lockmem_wipe(d->vault->user, sizeof(d->vault->user));
    lockmem_wipe(d->vault->password, sizeof(d->vault->password));
    lockheap_free(verdicts);
    return err;
}
