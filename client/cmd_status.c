/* sealpost status, revoke. What became of a message is the server's word, and shown as that; whom
 * it was sent to is compared with the list that was signed when it was sent. */
#include "client/client.h"
#include "client/form.h"
#include "client/message.h"
#include "client/report.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 600u

/* One recipient as the server tells it. */
struct row {
    char address[ADDRLIST_MAX + 1], kind[16], state[16], text[TEXT_MAX];
    uint64_t since_ms, next_ms, attempts, expires_ms, visits, opened_ms;
};

static bool get_text(const json_t *o, const char *name, char *out, size_t cap)
{
    const char *text = json_string_value(json_object_get(o, name));
    if (text == NULL || strlen(text) >= cap)
        return false;
    memcpy(out, text, strlen(text) + 1);
    report_clean(out);
    return true;
}

static bool get_number(const json_t *o, const char *name, bool needed, uint64_t *out)
{
    const json_t *v = json_object_get(o, name);
    json_int_t n = json_integer_value(v);
    *out = (uint64_t)n;
    return v == NULL ? !needed : json_is_integer(v) && n >= 0;
}

static bool get_row(const json_t *o, struct row *r)
{
    return get_text(o, "address", r->address, sizeof r->address) &&
           get_text(o, "kind", r->kind, sizeof r->kind) &&
           get_text(o, "state", r->state, sizeof r->state) &&
           get_text(o, "text", r->text, sizeof r->text) &&
           get_number(o, "since_ms", true, &r->since_ms) &&
           get_number(o, "next_ms", false, &r->next_ms) &&
           get_number(o, "attempts", true, &r->attempts) &&
           get_number(o, "expires_ms", false, &r->expires_ms) &&
           get_number(o, "visits", false, &r->visits) &&
           get_number(o, "opened_ms", false, &r->opened_ms);
}

static void print_row(const struct row *r)
{
    char since[REPORT_TIME], next[REPORT_TIME];
    report_time(r->since_ms / 1000, since);
    report_time(r->next_ms / 1000, next);
    printf("%-32s  %-5s  %-8s  %-16s  %-16s  %5" PRIu64 "  %s\n", r->address, r->kind, r->state,
           since, next, r->attempts, r->text);
    if (strcmp(r->kind, "link") == 0) {
        report_time(r->expires_ms / 1000, since);
        report_time(r->opened_ms / 1000, next);
        printf("%-32s  ends %s, %" PRIu64 " visits, opened %s\n", "", since, r->visits, next);
    }
}

static json_t *row_json(const struct row *r)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "address", r->address,
                     "kind", r->kind, "state", r->state, "text", r->text, "since_ms",
                     (json_int_t)r->since_ms, "next_ms", (json_int_t)r->next_ms, "attempts",
                     (json_int_t)r->attempts, "expires_ms", (json_int_t)r->expires_ms, "visits",
                     (json_int_t)r->visits, "opened_ms", (json_int_t)r->opened_ms);
}

/* What the sender signed when it was sent. */
struct record {
    bool there;
    struct sent sent;
};

/* Without the own copy of the message, or the sent copy, there is nothing to compare with. */
static enum sp_err get_record(struct client *c, const char *id, struct record *r)
{
    struct message m;
    uint8_t *copy = NULL;
    size_t len = 0;
    enum sp_err err = server_sent_copy(c->server, id, &copy, &len);
    if (err == SP_ERR_NOT_FOUND)
        return SP_OK;
    if (err != SP_OK)
        return err;
    err = message_fetch(c, id, &m);
    if (err == SP_OK)
        err = message_open(c, &m);
    if (err == SP_OK && !m.signer.own)
        err = report_plain(SP_ERR_AUTH, "message %s: you did not sign it", id);
    if (err == SP_OK) {
        err = sent_open(copy, len, c->keys, &m.envelope, &r->sent);
        r->there = err == SP_OK;
        if (err != SP_OK)
            report_fail(err, "message %s: the list of recipients that you signed", id);
    }
    message_free(&m);
    free(copy);
    return err;
}

static bool signed_for(const struct record *r, enum box_kind kind, const char *address)
{
    for (uint32_t i = 0; i < r->sent.n; i++) {
        const struct sent_box *b = &r->sent.box[i];
        for (uint32_t a = 0; b->box.kind == kind && a < b->n; a++) {
            if (addrlist_same(b->address[a], address))
                return true;
        }
    }
    return false;
}

/* Outside, the server's addresses are the ones that were typed; a user it may name by another. */
static void compare(const char *id, const struct record *r, const struct row *row)
{
    enum box_kind kind = strcmp(row->kind, "relay") == 0  ? BOX_RELAY
                         : strcmp(row->kind, "link") == 0 ? BOX_PASSWORD
                                                          : BOX_USER;
    if (r->there && kind != BOX_USER && !signed_for(r, kind, row->address))
        report_note("WARNING: message %s: %s is not on the list of recipients that you signed", id,
                    row->address);
}

/* The sender's own copy, which he did not address to himself. */
static bool is_own_copy(const struct client *c, const struct record *r, const struct row *row)
{
    if (strcmp(row->kind, "user") != 0 || !addrlist_same(row->address, c->account.address))
        return false;
    for (uint32_t i = 0; r->there && i < r->sent.n; i++) {
        const struct sent_box *b = &r->sent.box[i];
        if (b->box.kind == BOX_USER && b->n > 0 &&
            memcmp(b->box.recipient_id, c->keys->user_id, ID_SIZE) == 0)
            return false;
    }
    return true;
}

static enum sp_err show(struct client *c, const char *id, const json_t *answer,
                        const struct record *record)
{
    uint64_t sent_ms;
    char when[REPORT_TIME];
    const json_t *list = json_object_get(answer, "recipients");
    json_t *out = json_array();
    bool json = (c->args->given & OPT_JSON) != 0;
    bool good = json_is_array(list) && get_number(answer, "sent_ms", true, &sent_ms);
    struct row *rows = calloc(json_array_size(list) + 1, sizeof *rows);
    size_t n = json_array_size(list);
    for (size_t i = 0; good && rows != NULL && i < n; i++)
        good = get_row(json_array_get(list, i), &rows[i]);
    if (!good || rows == NULL || out == NULL) {
        json_decref(out);
        free(rows);
        return report_plain(SP_ERR_FORMAT, "message %s: the server's status is malformed", id);
    }
    report_time(sent_ms / 1000, when);
    if (!json)
        printf("sent %s\n%-32s  %-5s  %-8s  %-16s  %-16s  %5s  %s\n", when, "RECIPIENT", "KIND",
               "STATE", "SINCE", "NEXT TRY", "TRIES", "ANSWER");
    for (size_t i = 0; i < n; i++) {
        if (is_own_copy(c, record, &rows[i]))
            continue;
        compare(id, record, &rows[i]);
        if (json)
            json_array_append_new(out, row_json(&rows[i]));
        else
            print_row(&rows[i]);
    }
    if (json) {
        json_t *all = json_pack(
            "{s:s, s:I, s:O, s:s?, s:b}", "id", id, "sent_ms", (json_int_t)sent_ms, "recipients",
            out, "bcc", record->there ? record->sent.bcc : NULL, "signed", (int)record->there);
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(all);
    } else if (record->there && record->sent.bcc[0] != '\0') {
        printf("bcc: %s\n", record->sent.bcc);
    }
    json_decref(out);
    free(rows);
    return SP_OK;
}

enum sp_err cmd_status(struct client *c)
{
    char id[ID_HEX + 1];
    json_t *answer = NULL;
    struct record record = {.there = false};
    enum sp_err err = client_own_chain(c);
    if (err == SP_OK)
        err = client_find_mail(c, c->args->words[0], id);
    if (err != SP_OK)
        return err;
    err = server_sent_status(c->server, id, &answer);
    if (err == SP_ERR_NOT_FOUND)
        return report_plain(err, "message %s: you sent none by this id", id);
    if (err != SP_OK)
        return server_refuse(c->server, err, "asking for the status");
    err = get_record(c, id, &record);
    if (err == SP_OK)
        err = show(c, id, answer, &record);
    sent_free(&record.sent);
    json_decref(answer);
    return err;
}

enum sp_err cmd_revoke(struct client *c)
{
    char id[ID_HEX + 1];
    uint64_t n = 0;
    const char *address = c->args->n > 1 ? c->args->words[1] : "";
    enum sp_err err = client_find_mail(c, c->args->words[0], id);
    if (err == SP_OK)
        err = server_revoke(c->server, id, address, &n);
    if (err == SP_OK && n == 0)
        err = report_plain(SP_ERR_NOT_FOUND,
                           "message %s: nothing to revoke%s%s: it went out already, or ended", id,
                           *address != '\0' ? " for " : "", address);
    if (err == SP_OK)
        printf("revoked for %" PRIu64 " recipient%s\n", n, n == 1 ? "" : "s");
    return err;
}
