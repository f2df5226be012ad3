/* The notification of a link: who sent it, the link, until when. The password is here from the
 * keeper's answer until the finished text is sealed under a key of this process's own, which is
 * opened again as it is sent, like any mail. The ciphertext behind the link is not: who takes this
 * process over holds a key and no lock. */
#include "daemon/date.h"
#include "daemon/messages.h"
#include "daemon/relay/delivery.h"
#include "daemon/relay/edge.h"
#include "daemon/relay/template.h"
#include "daemon/smtp/address.h"
#include "envelope/link.h"
#include "sandbox/lockmem.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WORD_BYTES 42u /* of a subject in one encoded word: 75 characters in all (RFC 2047 2) */

/* In locked memory: it has the link in it. */
struct notice {
    char link[LINK_TEXT_MAX];
    struct link parts;
    uint8_t frame[IPC_HEADER + 64];
    size_t len;
    bool full;
    char text[FLOW_ADDED + 1];
};
_Static_assert(sizeof(struct notice) <= SEALING_MAX_ENVELOPE, "it lies where a manifest would");

static void put_bytes(struct notice *n, const char *bytes, size_t len)
{
    if (len > FLOW_ADDED - n->len)
        n->full = true;
    if (n->full)
        return;
    memcpy(n->text + n->len, bytes, len);
    n->len += len;
}

static void put(struct notice *n, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct notice *n, const char *format, ...)
{
    char text[1024]; /* never the link */
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof(text))
        n->full = true;
    else
        put_bytes(n, text, (size_t)len);
}

/* RFC 2047: in base64, cut where a character ends. */
static void put_words(struct notice *n, const char *text)
{
    char word[WORD_BYTES * 2];
    size_t left = strlen(text);
    while (left > 0) {
        size_t len = left < WORD_BYTES ? left : WORD_BYTES;
        while (len < left && len > 1 && ((uint8_t)text[len] & 0xc0) == 0x80)
            len--;
        sodium_bin2base64(word, sizeof(word), (const uint8_t *)text, len,
                          sodium_base64_VARIANT_ORIGINAL);
        put(n, " =?utf-8?B?%s?=\r\n", word);
        text += len;
        left -= len;
    }
}

static void put_subject(struct notice *n, const struct delivery *d)
{
    const char *subject = d->job.subject;
    put(n, "Subject:");
    if (subject[0] == '\0')
        put(n, " A confidential message from %s\r\n", d->job.from);
    else if (delivery_is_ascii(subject) && strlen(subject) < 900)
        put(n, " %s\r\n", subject);
    else
        put_words(n, subject);
}

static void put_part(struct notice *n, const struct delivery *d, bool html,
                     const char *const value[TEMPLATE_VALUES], const char *boundary)
{
    size_t len = 0;
    put(n, "--%s\r\nContent-Type: text/%s; charset=utf-8\r\n", boundary, html ? "html" : "plain");
    put(n, "Content-Transfer-Encoding: 8bit\r\n\r\n");
    if (!n->full && template_render(d->template, d->template_len, html, value, n->text + n->len,
                                    FLOW_ADDED - n->len, &len) != SP_OK)
        n->full = true;
    n->len += len;
    put(n, "\r\n");
}

static void compose(struct notice *n, const struct delivery *d)
{
    char from[ADDRESS_MAX_TEXT], to[ADDRESS_MAX_TEXT], date[DATE_MAX], until[DATE_MAX], hex[33],
        boundary[40];
    uint8_t random[16];
    const char *const value[TEMPLATE_VALUES] = {
        [TEMPLATE_SENDER] = d->job.from,     [TEMPLATE_RECIPIENT] = d->job.to[0],
        [TEMPLATE_SUBJECT] = d->job.subject, [TEMPLATE_LINK] = n->link,
        [TEMPLATE_EXPIRES] = until,          [TEMPLATE_HOST] = d->config->hostname,
        [TEMPLATE_URL] = d->config->web_url,
    };
    address_write_text(d->job.from, from);
    address_write_text(d->job.to[0], to);
    date_mail(d->job.queued_ms / 1000, date, sizeof(date));
    date_mail(d->job.expires_ms / 1000, until, sizeof(until));
    randombytes_buf(random, sizeof(random));
    sodium_bin2hex(hex, sizeof(hex), random, sizeof(random));
    snprintf(boundary, sizeof(boundary), "=_%s", hex);
    put(n, "Date: %s\r\nFrom: <%s>\r\nTo: <%s>\r\n", date, from, to);
    put_subject(n, d);
    put(n, "Message-ID: <%s@%s>\r\nMIME-Version: 1.0\r\n", hex, d->config->hostname);
    put(n, "Content-Type: multipart/alternative; boundary=\"%s\"\r\n\r\n", boundary);
    put_part(n, d, false, value, boundary);
    put_part(n, d, true, value, boundary);
    put(n, "--%s--\r\n", boundary);
}

static enum sp_err fetch_password(struct notice *n, bool *login)
{
    uint8_t frame[IPC_HEADER];
    const struct wire_out nothing = {.at = frame + IPC_HEADER};
    struct wire_in in;
    enum sp_err err =
        edge_ask(DELIVERY_KEEPER, KD_PASSWORD, frame, &nothing, n->frame, sizeof(n->frame), &in);
    if (err != SP_OK)
        return err;
    wire_get_copy(&in, n->parts.password, KEY_SIZE);
    *login = wire_get_u8(&in) != 0;
    lockmem_wipe(n->frame, sizeof(n->frame));
    return wire_in_done(&in) ? SP_OK : SP_ERR_PEER;
}

enum sp_err notice_open(struct delivery *d, struct dialog_verdict *why)
{
    struct vault *v = d->vault;
    struct notice *n = (struct notice *)(void *)v->in.manifest;
    memset(n, 0, sizeof(*n));
    if (d->config->web_url == NULL || d->job.n != 1)
        return SP_ERR_CONFIG;
    if (d->job.expires_ms <= date_now_ms()) {
        delivery_verdict(why, DIALOG_FAILED, 0, "5.4.7",
                         "The link had expired before it could be sent");
        return SP_OK;
    }
    enum sp_err err = fetch_password(n, &d->login);
    if (err == SP_ERR_NOT_FOUND || err == SP_ERR_AUTH) { /* no attempt will ever get it */
        delivery_verdict(why, DIALOG_FAILED, 0, "5.6.0",
                         "The link's password is no longer there: %s", sp_err_text(err));
        return SP_OK;
    }
    memcpy(n->parts.id, d->job.recipient_id, ID_SIZE);
    memcpy(n->parts.digest, d->job.digest, HASH_SIZE);
    if (err == SP_OK && !orders_link(&d->job, n->parts.password)) {
        lockmem_wipe(n, sizeof(*n));
        orders_refused(why);
        return SP_OK;
    }
    if (err == SP_OK)
        err = link_format(d->config->web_url, &n->parts, n->link, sizeof(n->link));
    if (err == SP_OK) {
        compose(n, d);
        err = n->full ? SP_ERR_LIMIT : SP_OK;
    }
    v->flow.n = 0;
    if (err == SP_OK)
        err = flow_init(&d->flow, DELIVERY_STORE, &v->flow);
    if (err == SP_OK)
        err = flow_add(&d->flow, (const uint8_t *)n->text, n->len);
    lockmem_wipe(n, sizeof(*n));
    d->opened = err == SP_OK;
    return err;
}
