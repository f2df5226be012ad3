/* Tells the store what became of the recipients: at once of those who were served, since until then
 * a crash would send to them again. */
#include "daemon/date.h"
#include "daemon/ipc.h"
#include "daemon/messages.h"
#include "daemon/relay/delivery.h"
#include "daemon/relay/edge.h"
#include "storage/store.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#define RESULTS  200u /* recipients in one frame: each takes 520 bytes at most */
#define PAUSE_MS 2000 /* between attempts to be heard by a store that is full */

static const uint8_t states[] = {[DIALOG_NONE] = DELIVERY_DEFERRED,
                                 [DIALOG_SENT] = DELIVERY_SENT,
                                 [DIALOG_DEFERRED] = DELIVERY_DEFERRED,
                                 [DIALOG_FAILED] = DELIVERY_FAILED};

static void put_recipient(struct wire_out *out, uint16_t index, const struct dialog_verdict *v)
{
    wire_put_u16(out, index);
    wire_put_u8(out, states[v->outcome]);
    wire_put_u16(out, (uint16_t)v->code);
    wire_put_str(out, v->enhanced);
    wire_put_str(out, v->text);
}

static void put_host(struct wire_out *out, const struct delivery *d, size_t host)
{
    const struct route_host *h = host < d->route.n ? &d->route.host[host] : NULL;
    wire_put_str(out, h != NULL ? h->name : "");
    wire_put_u8(out, h != NULL ? (uint8_t)h->tls : REMOTE_CLEAR);
}

static bool is_due(const struct delivery_recipient *to, enum dialog_outcome outcome, size_t host)
{
    return to->any && !to->told && to->verdict.outcome == outcome && to->host == host;
}

/* A store without room has written nothing down; until it has, mail that is sent would be sent once
 * more. As long as this process has time, it says so again. A failure is not insisted upon: its
 * report is lost with it, and the next attempt makes another. */
static enum sp_err insist(struct delivery *d, uint8_t *frame, const struct wire_out *body,
                          enum dialog_outcome outcome)
{
    uint8_t reply[IPC_HEADER + 16];
    struct wire_in in;
    for (;;) {
        enum sp_err err =
            edge_ask(DELIVERY_STORE, SD_RESULT, frame, body, reply, sizeof(reply), &in);
        if (err != SP_ERR_NO_SPACE || outcome == DIALOG_FAILED || remote_now_ms() >= d->until_ms ||
            (delivery_stop && outcome != DIALOG_SENT))
            return err;
        poll(NULL, 0, PAUSE_MS);
    }
}

/* One frame of those with this outcome, from this host. */
static enum sp_err tell(struct delivery *d, enum dialog_outcome outcome, size_t host)
{
    static uint8_t frame[IPC_HEADER + IPC_MAX_PAYLOAD];
    struct wire_out body = wire_out(frame + IPC_HEADER, IPC_MAX_PAYLOAD);
    uint16_t n = 0;
    for (size_t i = 0; i < d->job.n && n < RESULTS; i++)
        n = (uint16_t)(n + is_due(&d->to[i], outcome, host));
    put_host(&body, d, host);
    wire_put_u16(&body, n);
    for (size_t i = 0, put = 0; i < d->job.n && put < n; i++)
        if (is_due(&d->to[i], outcome, host)) {
            put_recipient(&body, d->job.index[i], &d->to[i].verdict);
            d->to[i].told = true;
            put++;
        }
    return insist(d, frame, &body, outcome);
}

static enum sp_err tell_all(struct delivery *d, enum dialog_outcome outcome)
{
    enum sp_err err = SP_OK;
    for (size_t i = 0; err == SP_OK && i < d->job.n; i++)
        while (err == SP_OK && is_due(&d->to[i], outcome, d->to[i].host))
            err = tell(d, outcome, d->to[i].host);
    return err;
}

enum sp_err outcome_sent(struct delivery *d)
{
    return tell_all(d, DIALOG_SENT);
}

/* Too old to be tried again; the code of the last attempt stays (RFC 3463, X.4.7). */
static void give_up_late(struct delivery *d)
{
    for (size_t i = 0; i < d->job.n; i++) {
        struct delivery_recipient *to = &d->to[i];
        struct dialog_verdict last = to->verdict;
        if (!to->any || to->verdict.outcome != DIALOG_DEFERRED)
            continue;
        delivery_verdict(&to->verdict, DIALOG_FAILED, last.code, last.enhanced,
                         "Given up after many attempts; the last: %.400s", last.text);
    }
}

/* The sender could not be told: then nothing has failed yet. */
static void defer_failed(struct delivery *d)
{
    for (size_t i = 0; i < d->job.n; i++) {
        if (!d->to[i].any || d->to[i].verdict.outcome != DIALOG_FAILED)
            continue;
        d->to[i].told = false;
        delivery_verdict(&d->to[i].verdict, DIALOG_DEFERRED, 0, "4.3.1",
                         "The report of a failure could not be stored");
    }
}

/* Who was never asked about. */
static void fill_in(struct delivery *d)
{
    for (size_t i = 0; i < d->job.n; i++) {
        if (d->to[i].any)
            continue;
        d->to[i].any = true;
        d->to[i].host = ROUTE_NOBODY;
        delivery_verdict(&d->to[i].verdict, DIALOG_DEFERRED, 0, "4.4.5",
                         "There was no time left to try");
    }
}

static bool any_failed(const struct delivery *d)
{
    for (size_t i = 0; i < d->job.n; i++)
        if (d->to[i].any && d->to[i].verdict.outcome == DIALOG_FAILED)
            return true;
    return false;
}

enum sp_err outcome_conclude(struct delivery *d)
{
    enum sp_err err = SP_OK;
    if (!delivery_stop) {
        fill_in(d);
        if (date_now_ms() >= d->job.give_up_ms)
            give_up_late(d);
    }
    if (any_failed(d)) {
        err = report_send(d);
        if (err == SP_ERR_PEER)
            return err;
        if (err != SP_OK)
            defer_failed(d);
    }
    err = tell_all(d, DIALOG_FAILED);
    if (err == SP_ERR_NO_SPACE) {
        defer_failed(d);
        err = SP_OK;
    }
    if (err == SP_OK && !delivery_stop) /* broken off is no answer: the next tree tries at once */
        err = tell_all(d, DIALOG_DEFERRED);
    return err;
}
