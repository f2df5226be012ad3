/* Composing. The message comes from the user's own mail program; the recipients' keys from
 * client/recipients.h. Nothing of the plaintext is written anywhere but into a sealed chunk. */
#include "client/compose.h"
#include "client/draft.h"
#include "client/form.h"
#include "client/header.h"
#include "client/intake.h"
#include "client/links.h"
#include "client/outbox.h"
#include "client/recipients.h"
#include "client/report.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct composing {
    struct client *c;
    struct letter *l;
    struct header *header;
    struct draft *draft; /* NULL while the header is read */
    bool any;            /* there was a byte */
    bool said;           /* a failure has been reported */
};

static enum sp_err add_recipient(void *ctx, const char *address)
{
    struct composing *m = ctx;
    uint32_t index;
    uint32_t before = m->l->n_recipients;
    enum sp_err err = letter_recipient(m->l, address, &index);
    if (m->l->n_recipients > before)
        m->l->recipient[index].bcc = true; /* until To or Cc name it */
    return err;
}

static enum sp_err name_recipient(void *ctx, const char *address)
{
    struct composing *m = ctx;
    for (uint32_t i = 0; i < m->l->n_recipients; i++) {
        if (addrlist_same(m->l->recipient[i].address, address))
            m->l->recipient[i].bcc = false;
    }
    return SP_OK;
}

static enum sp_err from_words(struct composing *m)
{
    const struct args *a = m->c->args;
    for (int i = 0; i < a->n; i++) {
        uint32_t before = m->l->n_recipients;
        enum sp_err err =
            addrlist_each((const uint8_t *)a->words[i], strlen(a->words[i]), add_recipient, m);
        if (err == SP_ERR_LIMIT)
            return report_plain(err, "%s: too long, or more than %u recipients", a->words[i],
                                LETTER_MAX_RECIPIENTS);
        if (err != SP_OK || (before == 0 && m->l->n_recipients == 0))
            return report_plain(SP_ERR_FORMAT, "%s: an address has to be like user@example.org",
                                a->words[i]);
    }
    return SP_OK;
}

static enum sp_err find_recipients(struct composing *m)
{
    static const struct {
        enum header_field field;
        const char *name;
    } lists[] = {{HEADER_TO, "To"}, {HEADER_CC, "Cc"}, {HEADER_BCC, "Bcc"}};
    bool take = (m->c->args->given & OPT_HEADER) != 0;
    enum sp_err err = from_words(m);
    for (size_t i = 0; take && err == SP_OK && i < 3; i++) {
        err = header_addresses(m->header, lists[i].field, add_recipient, m);
        if (err != SP_OK)
            return report_fail(err, "the message's %s field", lists[i].name);
    }
    /* Without -t these two are for people to read: what is odd in them hides nobody. */
    if (err == SP_OK) {
        header_addresses(m->header, HEADER_TO, name_recipient, m);
        header_addresses(m->header, HEADER_CC, name_recipient, m);
    }
    if (err == SP_OK && m->l->n_recipients == 0)
        err = report_plain(SP_ERR_FORMAT, "no recipients: %s",
                           take ? "the message has no To, Cc or Bcc" : "name them, or give -t");
    return err;
}

struct author {
    struct composing *m;
    char first[ADDRLIST_MAX + 1];
};

static enum sp_err check_author(void *ctx, const char *address)
{
    struct author *a = ctx;
    if (a->first[0] == '\0')
        snprintf(a->first, sizeof a->first, "%s", address);
    enum sp_err err = recipients_own(a->m->c, address, "the message's From");
    a->m->said = err != SP_OK;
    return err;
}

static enum sp_err take_address(void *ctx, const char *address)
{
    struct author *a = ctx;
    if (a->first[0] != '\0')
        return SP_ERR_FORMAT;
    snprintf(a->first, sizeof a->first, "%s", address);
    return SP_OK;
}

/* From and the envelope's sender have to be this user's. */
static enum sp_err find_sender(struct composing *m)
{
    struct author author = {.m = m}, envelope = {.m = m};
    const char *from = m->c->args->from;
    enum sp_err err = header_addresses(m->header, HEADER_FROM, check_author, &author);
    if (err != SP_OK && !m->said)
        return report_fail(err, "the message's From field");
    if (err == SP_OK && header_count(m->header, HEADER_FROM) > 0 &&
        (header_count(m->header, HEADER_FROM) > 1 || author.first[0] == '\0'))
        return report_plain(SP_ERR_FORMAT, "the message has to have one From field");
    if (err == SP_OK && from != NULL) {
        err = addrlist_each((const uint8_t *)from, strlen(from), take_address, &envelope);
        if (err != SP_OK || envelope.first[0] == '\0')
            return report_plain(SP_ERR_FORMAT, "-f %s: no address", from);
        err = recipients_own(m->c, envelope.first, "-f");
    }
    if (err == SP_OK)
        snprintf(m->l->mail_from, sizeof m->l->mail_from, "%s",
                 envelope.first[0] != '\0' ? envelope.first
                 : author.first[0] != '\0' ? author.first
                                           : m->c->account.address);
    return err;
}

static enum sp_err make_relay(struct composing *m)
{
    const struct letter *l = m->l;
    uint32_t outside = 0;
    enum sp_err err = letter_relay(m->l, m->c->account.keeper);
    if (err != SP_OK)
        return report_fail(err, "sealing for the appliance");
    for (uint32_t i = 0; i < l->n_recipients; i++) {
        if (!l->recipient[i].outside)
            continue;
        if (outside++ == 0)
            fputs("sealpost: not end-to-end encrypted for:", stderr);
        fprintf(stderr, "%s %s", outside > 1 ? "," : "", l->recipient[i].address);
    }
    fputs(" (the appliance gets a key to this one mail, and gives it to their servers)\n", stderr);
    return SP_OK;
}

/* Some recipient is outside: what that means is said before anything is sent. */
static enum sp_err find_outside(struct composing *m)
{
    bool links = (m->c->args->given & OPT_LINK) != 0, outside = false;
    for (uint32_t i = 0; i < m->l->n_recipients; i++)
        outside = outside || m->l->recipient[i].outside;
    if (!outside && links)
        report_note("all recipients are users of the appliance: nobody gets a link");
    if (!outside)
        return SP_OK;
    enum sp_err err = client_keeper(m->c);
    if (err == SP_ERR_NOT_FOUND)
        return report_plain(err, "this appliance does not send mail outside");
    if (err != SP_OK)
        return err;
    return links ? links_make(m->c, m->l) : make_relay(m);
}

/* The fields that are missing. */
static void add_fields(const struct composing *m, char *out, size_t cap)
{
    char date[HEADER_DATE_MAX], id[33];
    uint8_t random[16];
    size_t n = 0;
    out[0] = '\0';
    if (header_count(m->header, HEADER_DATE) == 0) {
        header_date((int64_t)time(NULL), date);
        n += (size_t)snprintf(out + n, cap - n, "Date: %s\r\n", date);
    }
    if (header_count(m->header, HEADER_FROM) == 0)
        n += (size_t)snprintf(out + n, cap - n, "From: %s\r\n", m->l->mail_from);
    if (header_count(m->header, HEADER_ID) == 0) {
        randombytes_buf(random, sizeof random);
        snprintf(out + n, cap - n, "Message-ID: <%s%s>\r\n",
                 sodium_bin2hex(id, sizeof id, random, sizeof random),
                 strrchr(m->c->account.address, '@'));
    }
}

static enum sp_err to_draft(void *ctx, const uint8_t *bytes, size_t len)
{
    struct composing *m = ctx;
    return draft_push(m->draft, bytes, len);
}

/* Everything that needs the state or the server, before the body is read. */
static enum sp_err look_at_header(struct composing *m)
{
    enum sp_err err = state_lock(m->c->state);
    if (err != SP_OK)
        return err;
    err = client_own_chain(m->c);
    if (err == SP_OK)
        err = find_sender(m);
    if (err == SP_OK)
        err = find_recipients(m);
    if (err == SP_OK)
        err = recipients_resolve(m->c, m->l);
    if (err == SP_OK)
        err = find_outside(m);
    state_unlock(m->c->state);
    m->said = err != SP_OK;
    return err;
}

static enum sp_err end_header(struct composing *m)
{
    char added[3 * (ADDRLIST_MAX + 64)];
    size_t rest_len;
    enum sp_err err = look_at_header(m);
    if (err != SP_OK)
        return err;
    m->draft = draft_new(m->l->body_fd, m->l->parts_fd);
    if (m->draft == NULL)
        return SP_ERR_MEMORY;
    add_fields(m, added, sizeof added);
    err = header_write(m->header, added, to_draft, m);
    const uint8_t *rest = header_rest(m->header, &rest_len);
    return err == SP_OK && rest_len > 0 ? draft_push(m->draft, rest, rest_len) : err;
}

static enum sp_err on_bytes(void *ctx, const uint8_t *bytes, size_t len)
{
    struct composing *m = ctx;
    size_t used = 0;
    bool done = false;
    enum sp_err err = SP_OK;
    m->any = true;
    if (m->draft == NULL) {
        err = header_push(m->header, bytes, len, &used, &done);
        if (err == SP_ERR_LIMIT) {
            m->said = true;
            return report_plain(err, "the message's header is longer than %u KiB",
                                HEADER_MAX / 1024);
        }
    }
    if (err == SP_OK && done)
        err = end_header(m);
    return err == SP_OK && used < len ? draft_push(m->draft, bytes + used, len - used) : err;
}

static enum sp_err read_message(struct composing *m)
{
    struct intake in = {.dots = (m->c->args->given & OPT_DOTS) != 0};
    enum sp_err err = intake_run(&in, STDIN_FILENO, on_bytes, m);
    if (err == SP_ERR_FORMAT && !m->said)
        return report_plain(err,
                            "line %llu of the message has a CR without LF: end lines with LF or "
                            "CRLF alone",
                            (unsigned long long)in.line);
    if (err == SP_OK && !m->any) {
        m->said = true;
        return report_plain(SP_ERR_FORMAT, "there is no message on standard input");
    }
    if (err == SP_OK && m->draft == NULL)
        err = end_header(m);
    if (err == SP_OK)
        err = draft_finish(m->draft);
    if (err != SP_OK && !m->said)
        report_fail(err, "sealing the message");
    return err;
}

static enum sp_err finish(struct composing *m)
{
    struct timespec t;
    struct letter *l = m->l;
    clock_gettime(CLOCK_REALTIME, &t);
    l->n_pieces = draft_lengths(m->draft, l->piece_length);
    enum sp_err err = draft_manifest(
        m->draft, (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000,
        letter_server_access(l), l->secret->shared_key, &l->manifest, &l->manifest_len);
    if (err == SP_OK)
        err = form_make(l, m->c->keys);
    return err == SP_OK ? outbox_save(m->c->state, m->c->keys, l)
                        : report_fail(err, "sealing the message");
}

enum sp_err compose(struct client *c, struct letter **out)
{
    struct composing m = {.c = c, .l = letter_new(), .header = header_new()};
    *out = NULL;
    enum sp_err err = SP_OK;
    if (m.l == NULL || m.header == NULL)
        err = report_fail(SP_ERR_MEMORY, "sending");
    if (err == SP_OK)
        err = outbox_begin(c->state, m.l);
    state_unlock(c->state);
    if (err == SP_OK)
        err = read_message(&m);
    if (err == SP_OK)
        err = finish(&m);
    draft_free(m.draft);
    header_free(m.header);
    if (err == SP_OK) {
        *out = m.l;
        return SP_OK;
    }
    if (m.l != NULL)
        outbox_remove(c->state, m.l);
    letter_free(m.l);
    return err;
}
