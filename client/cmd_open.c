/* sealpost open: a link without a browser (FORMAT.md sections 5 and 6). The link is trusted: it
 * came from the sender. The server has to show exactly what the link's digest says, or nothing is
 * opened.
 */
#include "client/client.h"
#include "client/http.h"
#include "client/message.h"
#include "client/report.h"
#include "client/save.h"
#include "client/secret.h"
#include "envelope/link.h"
#include "envelope/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_ENVELOPE (2u * 1024u * 1024u)
#define GATE_TEXT    (B64U_LEN(HASH_SIZE) + 1)

/* All of it in locked memory. */
struct opening {
    char text[LINK_TEXT_MAX]; /* as the user gave it, mended */
    char base[LINK_TEXT_MAX];
    struct link link;
    char gate[GATE_TEXT];
    uint8_t shared_key[KEY_SIZE];
    struct http *http;
    struct http_reply reply;
    uint8_t *bytes; /* envelope and box */
    size_t len;
};

/* Mail filters write "%23" or "%2523" for "#": the way back is plain. */
static void mend(char *text)
{
    static const char *const spoilt[] = {"%2523", "%23"};
    for (size_t i = 0; i < 2; i++) {
        char *at = strstr(text, spoilt[i]);
        if (at == NULL)
            continue;
        size_t n = strlen(spoilt[i]);
        *at = '#';
        memmove(at + 1, at + n, strlen(at + n) + 1);
        return;
    }
}

/* The argument, or a line of standard input for "-": other users can see arguments. */
static enum sp_err get_text(struct opening *o, const char *word)
{
    ssize_t n = 0;
    if (strcmp(word, "-") != 0) {
        if (strlen(word) >= sizeof o->text)
            return SP_ERR_LIMIT;
        memcpy(o->text, word, strlen(word) + 1);
        return SP_OK;
    }
    for (size_t len = 0; len < sizeof o->text - 1; len += (size_t)n) {
        n = read(STDIN_FILENO, o->text + len, 1);
        if (n < 0 && errno == EINTR)
            n = 0;
        else if (n < 0)
            return SP_ERR_SYSTEM;
        else if (n == 0 || o->text[len] == '\n') {
            o->text[len] = '\0';
            o->text[strcspn(o->text, "\r \t")] = '\0';
            return SP_OK;
        }
    }
    return SP_ERR_LIMIT;
}

static enum sp_err get_link(struct opening *o, const char *word)
{
    uint8_t gate[HASH_SIZE];
    enum sp_err err = get_text(o, word);
    if (err == SP_OK) {
        mend(o->text);
        err = link_parse(o->text, &o->link, o->base, sizeof o->base);
    }
    if (err != SP_OK)
        return report_fail(err, "this is no whole link (like https://HOST/m/ID#SECRET.DIGEST)");
    if (strncmp(o->base, "https://", 8) != 0)
        return report_plain(SP_ERR_DENIED, "the link does not begin with https://");
    err = link_gate(o->link.password, gate);
    b64u_encode(gate, sizeof gate, o->gate);
    sodium_memzero(gate, sizeof gate);
    return err == SP_OK ? err : report_fail(err, "link");
}

static enum sp_err refused(struct opening *o, enum sp_err err, const char *what)
{
    if (err == SP_OK && o->reply.status == 404)
        return report_plain(SP_ERR_NOT_FOUND,
                            "%s: there is nothing behind this link: it is expired or revoked, or "
                            "not whole",
                            what);
    if (err == SP_OK && o->reply.status >= 300)
        return report_plain(SP_ERR_PEER, "%s: the server answers %ld", what, o->reply.status);
    if (err == SP_ERR_AUTH)
        return report_plain(err,
                            "%s: %s's certificate does not verify (%s); --ca FILE trusts a "
                            "private CA",
                            what, o->base, o->reply.error);
    return report_plain(err, "%s: %s: %s", what, o->base,
                        o->reply.error[0] != '\0' ? o->reply.error : sp_err_text(err));
}

static enum sp_err gather(void *ctx, const uint8_t *bytes, size_t len)
{
    struct opening *o = ctx;
    if (len > MAX_ENVELOPE - o->len)
        return SP_ERR_LIMIT;
    memcpy(o->bytes + o->len, bytes, len);
    o->len += len;
    return SP_OK;
}

/* SP_OK: a 200 or 206 came whole. */
static enum sp_err get(struct opening *o, const char *rest, uint64_t from, http_sink sink,
                       void *ctx)
{
    char path[96], id[B64U_LEN(ID_SIZE) + 1];
    b64u_encode(o->link.id, ID_SIZE, id);
    snprintf(path, sizeof path, "/m/%s/%s", id, rest);
    const struct http_request rq = {.method = "GET", .path = path, .gate = o->gate, .from = from};
    return http_do(o->http, &rq, sink, ctx, &o->reply);
}

static enum sp_err fetch_envelope(struct opening *o, struct message *m)
{
    o->bytes = malloc(MAX_ENVELOPE);
    if (o->bytes == NULL)
        return report_fail(SP_ERR_MEMORY, "link");
    enum sp_err err = get(o, "envelope", 0, gather, o);
    if (err != SP_OK || o->reply.status != 200) {
        free(o->bytes);
        return refused(o, err, "fetching the envelope");
    }
    return message_take(m, "", o->bytes, o->len);
}

/* Step 1, before anything else is done with the box: it is the one that the sender made the link
 * for. */
static enum sp_err check_digest(const struct opening *o, const struct message *m,
                                uint8_t manifest_hash[HASH_SIZE])
{
    uint8_t digest[HASH_SIZE];
    enum sp_err err = envelope_manifest_hash(&m->envelope, manifest_hash);
    if (err == SP_OK)
        err = box_digest(&m->envelope, manifest_hash, &m->box, digest);
    if (err != SP_OK)
        return report_fail(err, "message %s: step 1, the digest", m->id);
    if (sodium_memcmp(digest, o->link.digest, HASH_SIZE) != 0)
        return report_plain(SP_ERR_AUTH,
                            "step 1: the server shows something else than the link was made for "
                            "(its digest differs)");
    if (m->box.kind != BOX_PASSWORD || memcmp(m->box.recipient_id, o->link.id, ID_SIZE) != 0)
        return report_plain(SP_ERR_AUTH, "step 1: the box is not a link's");
    return SP_OK;
}

static void say(const struct message *m)
{
    char when[REPORT_TIME];
    report_time(m->box.expiry, when);
    report_note("message %s: the link ends %s; %s", m->id, when,
                m->envelope.from_user
                    ? "signed with its sender's key, which a link cannot tie to a name"
                    : "its sender did not sign it");
}

static enum sp_err open_box(struct opening *o, struct message *m)
{
    uint8_t manifest_hash[HASH_SIZE];
    enum sp_err err = message_decode(m);
    if (err == SP_OK)
        err = check_digest(o, m, manifest_hash);
    if (err != SP_OK)
        return err;
    err = box_open(&m->envelope, manifest_hash, &m->box, o->link.password, o->shared_key);
    if (err != SP_OK)
        return report_fail(err, "message %s: step 3, opening the box", m->id);
    say(m);
    return message_manifest(m, o->shared_key);
}

static enum sp_err link_piece(const struct spool_source *from, uint32_t i, uint64_t at,
                              http_sink sink, void *ctx)
{
    char rest[32];
    struct opening *o = from->ctx;
    snprintf(rest, sizeof rest, "piece/%" PRIu32, i);
    enum sp_err err = get(o, rest, at, sink, ctx);
    if (err == SP_OK && o->reply.status >= 300)
        return o->reply.status >= 500 ? SP_ERR_PEER : SP_ERR_DENIED;
    return err;
}

static enum sp_err link_refuse(const struct spool_source *from, enum sp_err err, const char *what)
{
    struct opening *o = from->ctx;
    return refused(o, o->reply.status >= 300 ? SP_OK : err, what);
}

enum sp_err cmd_open(struct client *c)
{
    struct message m = {.spool = {.fd = -1}};
    struct opening *o = secret_alloc(sizeof *o);
    if (o == NULL)
        return report_fail(SP_ERR_MEMORY, "link");
    const struct spool_source from = {
        .piece = link_piece, .refuse = link_refuse, .ctx = o, .id = m.id};
    enum sp_err err = get_link(o, c->args->words[0]);
    if (err == SP_OK && (err = http_open(o->base, c->args->ca, &o->http)) != SP_OK)
        report_fail(err, "libcurl");
    if (err == SP_OK)
        err = fetch_envelope(o, &m);
    if (err == SP_OK)
        err = open_box(o, &m);
    if (err == SP_OK)
        err = message_pieces(&m, c->state, &from);
    if (err == SP_OK)
        err = c->args->out != NULL ? save_message(&m, c->args->out)
                                   : message_write(&m, STDOUT_FILENO, "standard output");
    message_free(&m);
    http_close(o->http);
    secret_free(o);
    return err;
}
