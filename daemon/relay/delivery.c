/* One mail to one destination, from lease to result. A stranger's server may take this process
 * over: then it has this mail, the three channels of this lease, and nothing of any other. */
#include "daemon/relay/delivery.h"
#include "daemon/date.h"
#include "daemon/ipc.h"
#include "daemon/relay/deliveries.h"
#include "envelope/envelope.h"
#include "sandbox/lockmem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define REST_S 300u /* for what is not the dialogue: peers, a report */
_Static_assert(DELIVERY_TIME + DIALOG_MS_HELD / 1000u + REST_S <= DELIVERY_DEADLINE,
               "a mail that the server has is waited for to the end");

volatile sig_atomic_t delivery_stop;

static struct delivery delivery; /* all zero in the parent, and its pages never touched there */

static void on_sigterm(int sig)
{
    (void)sig;
    delivery_stop = 1;
}

void delivery_watch_signals(void)
{
    struct sigaction act = {.sa_handler = on_sigterm}; /* no SA_RESTART: waits must end */
    sigaction(SIGTERM, &act, NULL);
}

enum sp_err delivery_prepare(const struct delivery_start *start)
{
    void *at = start->vault;
    delivery.config = start->config;
    delivery.tls = start->tls;
    delivery.template = start->template;
    delivery.template_len = start->template_len;
    enum sp_err err = lockheap_lock();
    if (err == SP_OK)
        err = at != NULL ? lockmem_relock(at, sizeof(struct vault))
                         : lockmem_alloc(sizeof(struct vault), &at);
    delivery.vault = at;
    return err;
}

void delivery_verdict(struct dialog_verdict *v, enum dialog_outcome outcome, unsigned code,
                      const char *enhanced, const char *format, ...)
{
    va_list args;
    *v = (struct dialog_verdict){.outcome = outcome, .code = code};
    snprintf(v->enhanced, sizeof(v->enhanced), "%s", enhanced);
    va_start(args, format);
    vsnprintf(v->text, sizeof(v->text), format, args);
    va_end(args);
    for (char *c = v->text; *c != '\0'; c++)
        if (*c < 0x20 || *c > 0x7e)
            *c = '?';
}

void delivery_take(struct delivery_recipient *to, size_t host, const struct dialog_verdict *v)
{
    to->any = true;
    to->host = host;
    to->verdict = *v;
    if (v->outcome == DIALOG_NONE)
        delivery_verdict(&to->verdict, DIALOG_DEFERRED, 0, "4.3.0", "There was no answer");
}

void delivery_all(struct delivery *d, size_t host, const struct dialog_verdict *v)
{
    for (size_t i = 0; i < d->job.n; i++) {
        struct delivery_recipient *to = &d->to[i];
        bool waits = to->any && to->verdict.outcome == DIALOG_DEFERRED;
        if (to->settled || (waits && v->outcome == DIALOG_FAILED))
            continue;
        delivery_take(to, host, v);
    }
}

size_t delivery_unsettled(const struct delivery *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->job.n; i++)
        n += !d->to[i].settled;
    return n;
}

bool delivery_is_ascii(const char *text)
{
    while (*text != '\0' && ((uint8_t)*text & 0x80) == 0)
        text++;
    return *text == '\0';
}

/* Opens, inspects, sends. What is wrong with the mail itself is a verdict for all. */
static enum sp_err deliver(struct delivery *d)
{
    struct dialog_verdict why = {.outcome = DIALOG_NONE};
    enum sp_err err = d->job.kind == BOX_PASSWORD ? notice_open(d, &why) : opening_open(d, &why);
    if (err == SP_OK && why.outcome == DIALOG_NONE)
        err = opening_inspect(d, &why);
    if (err != SP_OK)
        return err;
    if (why.outcome == DIALOG_NONE)
        return attempt_all(d);
    delivery_all(d, ROUTE_NOBODY, &why);
    return SP_OK;
}

/* The lease's secret is of no use any more: the sender is told, and that is all. */
static void give_up(struct delivery *d)
{
    struct dialog_verdict why;
    delivery_verdict(&why, DIALOG_FAILED, 0, "5.3.0", "The message is not sent any more%s%s",
                     d->job.subject[0] != '\0' ? ": " : "", d->job.subject);
    delivery_all(d, ROUTE_NOBODY, &why);
}

/* Each part of the vault was wiped by who used it, as soon as he did; the pages that were not used
 * are not touched for it. The parent wipes all of them anyway. */
static void forget(struct delivery *d)
{
    flow_free(&d->flow);
    lockheap_free(d->to);
    lockmem_wipe(&d->vault->facts, sizeof(d->vault->facts));
}

enum sp_err delivery_run(void)
{
    struct delivery *d = &delivery;
    d->until_ms = remote_now_ms() + DELIVERY_TIME * 1000u;
    enum sp_err err = job_fetch(DELIVERY_STORE, &d->job);
    if (err == SP_OK && d->job.kind == BOX_USER)
        err = SP_ERR_CONFIG;
    if (err == SP_OK) {
        d->to = lockheap_malloc(d->job.n * sizeof(*d->to));
        err = d->to != NULL ? SP_OK : SP_ERR_MEMORY;
    }
    if (err == SP_OK) {
        memset(d->to, 0, d->job.n * sizeof(*d->to));
        if (d->job.kind == 0)
            give_up(d);
        else
            err = deliver(d);
    }
    if (err == SP_OK)
        err = outcome_conclude(d);
    forget(d);
    return err;
}
