/* What a sender hears of mail that failed for good: a delivery status notification (RFC 3461 6,
 * 3462, 3464, RFC 6533 where addresses are not ASCII), sealed for the sender's newest key as it is
 * written. Servers' words in it are printable ASCII, and stand where they can end no field. */
#include "daemon/date.h"
#include "daemon/ipc.h"
#include "daemon/messages.h"
#include "daemon/relay/delivery.h"
#include "daemon/relay/edge.h"
#include "daemon/smtp/address.h"
#include "sandbox/lockmem.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define HEADER_MAX (64u * 1024u) /* of the original that goes back */
#define PUT_MAX    2048u         /* of one put(): two addresses and a text of 500 */

_Static_assert(SEALING_MAX_BLOCK <= PART_MAX, "a sealed chunk fits into a frame");

struct report {
    struct delivery *d;
    struct sealing *sealing;
    size_t held; /* plaintext in vault->in.report */
    bool utf8;   /* an address or the original's header is not ASCII */
    char boundary[40];
    enum sp_err err; /* the first; nothing is done after it */
};

/* --- sealing --- */

static void seal(struct report *r, bool last)
{
    static uint8_t frame[IPC_HEADER + SEALING_MAX_BLOCK];
    uint8_t *plain = r->d->vault->in.report, reply[IPC_HEADER + 16];
    struct wire_out body = {.at = frame + IPC_HEADER, .cap = SEALING_MAX_BLOCK};
    struct wire_in in;
    if (r->err == SP_OK)
        r->err = sealing_seal(r->sealing, STREAM_BODY, plain, r->held, last, body.at, &body.len);
    lockmem_wipe(plain, r->held);
    r->held = 0;
    if (r->err == SP_OK)
        r->err = edge_ask(DELIVERY_STORE, SD_REPORT_BYTES, frame, &body, reply, sizeof(reply), &in);
}

static void put_bytes(struct report *r, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    while (r->err == SP_OK && len > 0) {
        size_t n = CAKE_CHUNK - r->held < len ? CAKE_CHUNK - r->held : len;
        memcpy(r->d->vault->in.report + r->held, at, n);
        r->held += n;
        at += n;
        len -= n;
        if (r->held == CAKE_CHUNK)
            seal(r, false);
    }
}

static void put(struct report *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct report *r, const char *format, ...)
{
    char text[PUT_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(text))
        r->err = r->err == SP_OK ? SP_ERR_LIMIT : r->err;
    else
        put_bytes(r, text, (size_t)n);
}

/* --- text --- */

static const char *host_of(const struct report *r, const struct delivery_recipient *to)
{
    return to->host < r->d->route.n ? r->d->route.host[to->host].name : NULL;
}

static bool is_failed(const struct delivery_recipient *to)
{
    return to->any && to->verdict.outcome == DIALOG_FAILED;
}

/* The store says whom a report is sealed for. Of mail it gets nothing but for the key that the
 * order names: who has rotated since has a report without the header, and so has a store that lies.
 */
static bool may_quote(const struct delivery *d)
{
    return d->opened &&
           (d->job.kind != BOX_RELAY || memcmp(d->job.report_pk, d->job.puk_pk, KEY_SIZE) == 0);
}

static void put_header(struct report *r)
{
    const struct delivery *d = r->d;
    const char *domain = d->config->domain.count > 0 ? d->config->domain.item[0] : "localhost";
    char to[ADDRESS_MAX_TEXT], date[DATE_MAX], id[33];
    uint8_t random[16];
    randombytes_buf(random, sizeof(random));
    sodium_bin2hex(id, sizeof(id), random, sizeof(random));
    address_write_text(d->job.from, to);
    date_mail(date_now_ms() / 1000, date, sizeof(date));
    put(r, "Return-Path: <>\r\nDate: %s\r\nFrom: Mail Delivery System <MAILER-DAEMON@%s>\r\n", date,
        domain);
    put(r, "To: <%s>\r\nSubject: Your message could not be delivered\r\n", to);
    put(r, "Message-ID: <%s@%s>\r\n", id, d->config->hostname);
    if (may_quote(d) && d->vault->facts.message_id[0] != '\0')
        put(r, "In-Reply-To: %s\r\nReferences: %s\r\n", d->vault->facts.message_id,
            d->vault->facts.message_id);
    put(r, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n");
    put(r,
        "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"%s\"\r\n\r\n",
        r->boundary);
}

static void put_words(struct report *r)
{
    const struct delivery *d = r->d;
    char date[DATE_MAX];
    date_mail(d->job.queued_ms / 1000, date, sizeof(date));
    put(r, "--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n",
        r->boundary);
    put(r,
        "\r\nThis is %s. Your message of %s\r\ncould not be delivered to the recipients below, and "
        "will not be tried again.\r\n",
        d->config->hostname, date);
    for (size_t i = 0; i < d->job.n; i++) {
        const struct delivery_recipient *to = &d->to[i];
        const char *host = host_of(r, to);
        if (!is_failed(to))
            continue;
        put(r, "\r\n<%s>\r\n", d->job.to[i]);
        if (to->verdict.code != 0 && host != NULL)
            put(r, "    %s said: %u %s %s\r\n", host, to->verdict.code, to->verdict.enhanced,
                to->verdict.text);
        else
            put(r, "    %s (%s)\r\n", to->verdict.text, to->verdict.enhanced);
    }
    put(r, "\r\n");
}

/* RFC 3464 2.3: one group for each. */
static void put_recipient(struct report *r, const char *address,
                          const struct delivery_recipient *to)
{
    const char *host = host_of(r, to);
    char text[ADDRESS_MAX_TEXT];
    address_write_text(address, text);
    put(r, "\r\nFinal-Recipient: %s; %s\r\nAction: failed\r\nStatus: %s\r\n",
        delivery_is_ascii(address) ? "rfc822" : "utf-8", text, to->verdict.enhanced);
    if (host != NULL)
        put(r, "Remote-MTA: dns; %s\r\n", host);
    if (to->verdict.code != 0 && host != NULL)
        put(r, "Diagnostic-Code: smtp; %u %s %s\r\n", to->verdict.code, to->verdict.enhanced,
            to->verdict.text);
    else
        put(r, "Diagnostic-Code: x-sealpost; %s\r\n", to->verdict.text);
}

static void put_status(struct report *r)
{
    const struct delivery *d = r->d;
    char date[DATE_MAX];
    date_mail(d->job.queued_ms / 1000, date, sizeof(date));
    put(r, "--%s\r\nContent-Type: message/%sdelivery-status\r\n", r->boundary,
        r->utf8 ? "global-" : "");
    if (r->utf8)
        put(r, "Content-Transfer-Encoding: 8bit\r\n");
    put(r, "\r\nReporting-MTA: dns; %s\r\nArrival-Date: %s\r\n", d->config->hostname, date);
    for (size_t i = 0; i < d->job.n; i++)
        if (is_failed(&d->to[i]))
            put_recipient(r, d->job.to[i], &d->to[i]);
    put(r, "\r\n");
}

/* Up to the last line that is there as a whole. */
static size_t whole_lines(const uint8_t *bytes, size_t len)
{
    while (len > 0 && bytes[len - 1] != '\n')
        len--;
    return len;
}

/* The original's header, read once more from its beginning: never its body. */
static void put_original(struct report *r)
{
    struct delivery *d = r->d;
    uint8_t *buf = d->vault->remote.in;
    uint64_t size = d->mail.header_size, left = size < HEADER_MAX ? size : HEADER_MAX;
    put(r, "--%s\r\nContent-Type: %s\r\n%s\r\n", r->boundary,
        r->utf8 ? "message/global-headers" : "text/rfc822-headers",
        d->mail.header_utf8 ? "Content-Transfer-Encoding: 8bit\r\n" : "");
    if (r->err == SP_OK)
        r->err = flow_begin(&d->flow, NULL, 0, false);
    while (r->err == SP_OK && left > 0) {
        size_t n;
        r->err = flow_read(&d->flow, buf, left < REMOTE_IN ? (size_t)left : REMOTE_IN, &n);
        if (r->err == SP_OK)
            r->err = flow_settle(&d->flow); /* the same channel takes the report */
        if (r->err != SP_OK || n == 0)
            break;
        left -= n;
        put_bytes(r, buf, left == 0 && size > HEADER_MAX ? whole_lines(buf, n) : n);
    }
    lockmem_wipe(buf, REMOTE_IN);
    enum sp_err err = flow_end(&d->flow);
    r->err = r->err == SP_OK ? err : r->err;
}

static void compose(struct report *r)
{
    struct delivery *d = r->d;
    uint8_t random[16];
    char hex[33];
    randombytes_buf(random, sizeof(random));
    sodium_bin2hex(hex, sizeof(hex), random, sizeof(random));
    snprintf(r->boundary, sizeof(r->boundary), "=_%s", hex);
    r->utf8 = may_quote(d) && d->mail.header_utf8;
    for (size_t i = 0; i < d->job.n; i++)
        r->utf8 = r->utf8 || (is_failed(&d->to[i]) && !delivery_is_ascii(d->job.to[i]));
    put_header(r);
    put_words(r);
    put_status(r);
    if (may_quote(d))
        put_original(r);
    put(r, "\r\n--%s--\r\n", r->boundary);
    seal(r, true);
}

/* --- the whole --- */

/* Envelope and box, as for mail from outside: no sender, one recipient. */
static enum sp_err hand_over(struct delivery *d, struct sealing *s)
{
    static uint8_t frame[IPC_HEADER + 8 + SEALING_MAX_ENVELOPE + BOX_MAX];
    static uint8_t envelope[SEALING_MAX_ENVELOPE];
    struct recipient sender = {.generation = d->job.generation};
    struct wire_out body = wire_out(frame + IPC_HEADER, sizeof(frame) - IPC_HEADER);
    uint8_t box[BOX_MAX], reply[IPC_HEADER + 16];
    struct wire_in in;
    size_t envelope_len, box_len;
    memcpy(sender.user_id, d->job.user_id, ID_SIZE);
    memcpy(sender.puk_pk, d->job.puk_pk, KEY_SIZE);
    enum sp_err err = sealing_finish(s, date_now_ms(), envelope, &envelope_len);
    if (err == SP_OK)
        err = sealing_box(s, &sender, box, &box_len);
    if (err != SP_OK)
        return err;
    wire_put_b32(&body, envelope, envelope_len);
    wire_put_b32(&body, box, box_len);
    return edge_ask(DELIVERY_STORE, SD_REPORT, frame, &body, reply, sizeof(reply), &in);
}

enum sp_err report_send(struct delivery *d)
{
    struct report r = {.d = d, .err = sealing_init(d->vault->in.manifest)};
    if (r.err == SP_OK && (r.sealing = sealing_new(0)) == NULL)
        r.err = SP_ERR_MEMORY;
    if (r.err == SP_OK)
        compose(&r);
    if (r.err == SP_OK)
        r.err = hand_over(d, r.sealing);
    sealing_free(r.sealing);
    return r.err;
}
