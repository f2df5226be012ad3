/* Uploads. The server is asked what it has, never assumed to have it: after an answer that got
 * lost, the state of the upload, or of the message itself, tells what happened. */
#include "client/upload.h"
#include "client/form.h"
#include "client/outbox.h"
#include "client/recipients.h"
#include "client/report.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TRIES      8u /* without progress */
#define PAUSE_MS   500u
#define PAUSE_MAX  15000u
#define KEYS_TRIES 3u /* recipients may change their keys while we send, but hardly that often */
#define FORGOTTEN  3u /* uploads that a server may lose */

struct uploading {
    struct client *c;
    struct letter *l;
    uint64_t there[ENVELOPE_MAX_PIECES], form;
    uint64_t done, total; /* bytes, for the bar */
    bool progress;        /* since the last failure */
    bool said;            /* a failure has been reported */
    unsigned busy;
    unsigned keys, forgotten;
    uint8_t *part;
};

static enum sp_err sent_already(struct uploading *u, bool *sent)
{
    json_t *j;
    enum sp_err err = server_sent_status(u->c->server, u->l->hex, &j);
    json_decref(j);
    *sent = err == SP_OK;
    return err == SP_ERR_NOT_FOUND ? SP_OK : err;
}

/* An upload's id is kept before a byte is sent, so that a client that was killed finds it again. */
static enum sp_err begin(struct uploading *u)
{
    struct letter *l = u->l;
    enum sp_err err = server_upload_begin(u->c->server, l->piece_length, l->n_pieces, l->upload);
    if (err != SP_OK)
        return err;
    l->has_upload = true;
    err = outbox_save(u->c->state, u->c->keys, l);
    u->said = err != SP_OK;
    return err;
}

/* A failure that only words of our own explain. */
static enum sp_err explain(struct uploading *u, enum sp_err err, const char *text)
{
    u->said = true;
    return report_plain(err, "message %s: %s", u->l->hex, text);
}

/* Where the upload stands, or a new one. *sent: there is nothing left to do. */
static enum sp_err find(struct uploading *u, bool *sent)
{
    struct letter *l = u->l;
    *sent = false;
    enum sp_err err = SP_ERR_NOT_FOUND;
    if (l->has_upload)
        err = server_upload_state(u->c->server, l->upload, l->n_pieces, u->there, &u->form);
    if (err != SP_ERR_NOT_FOUND)
        return err;
    if (l->has_upload) { /* it became a message, or the server forgot it */
        err = sent_already(u, sent);
        if (err != SP_OK || *sent)
            return err;
        if (++u->forgotten > FORGOTTEN)
            return explain(u, SP_ERR_STATE, "the server keeps losing its upload");
    }
    memset(u->there, 0, sizeof u->there);
    u->form = 0;
    return begin(u);
}

static enum sp_err put(struct uploading *u, uint32_t piece, uint64_t offset, const uint8_t *bytes,
                       size_t len)
{
    enum sp_err err = server_upload_put(u->c->server, u->l->upload, piece, offset, bytes, len);
    if (err == SP_OK) {
        u->done += len;
        u->progress = true;
        report_progress("sending", u->done, u->total);
    }
    return err;
}

/* One piece, which stands at base of its file, from where the server has it. */
static enum sp_err put_piece(struct uploading *u, uint32_t i, int fd, uint64_t base)
{
    uint64_t length = u->l->piece_length[i];
    enum sp_err err = u->there[i] <= length ? SP_OK : SP_ERR_FORMAT;
    for (uint64_t at = u->there[i]; err == SP_OK && at < length;) {
        size_t n = length - at < UPLOAD_PART ? (size_t)(length - at) : UPLOAD_PART;
        err = file_pread(fd, u->part, n, base + at);
        if (err == SP_OK)
            err = put(u, i, at, u->part, n);
        at += n;
    }
    return err;
}

static enum sp_err put_pieces(struct uploading *u)
{
    const struct letter *l = u->l;
    uint64_t base = 0;
    enum sp_err err = put_piece(u, 0, l->body_fd, 0);
    for (uint32_t i = 1; err == SP_OK && i < l->n_pieces; i++) {
        err = put_piece(u, i, l->parts_fd, base);
        base += l->piece_length[i];
    }
    return err;
}

/* Always all of it: what is there may be of an older form, and the server has it in memory alone.
 * Offset 0 begins it anew. */
static enum sp_err put_form(struct uploading *u)
{
    const struct letter *l = u->l;
    enum sp_err err = form_sign(u->l, u->c->keys);
    for (size_t at = 0; err == SP_OK && at < l->form_len;) {
        size_t n = l->form_len - at < UPLOAD_PART ? l->form_len - at : UPLOAD_PART;
        err = put(u, UPLOAD_FORM, at, l->form + at, n);
        at += n;
    }
    return err;
}

/* A recipient's key, or ours, is newer than the one that was sealed for. */
static enum sp_err new_keys(struct uploading *u)
{
    if (u->keys++ == KEYS_TRIES)
        return explain(u, SP_ERR_STATE,
                       "the server refuses the recipients' keys, though it shows no others");
    enum sp_err err = state_lock(u->c->state);
    if (err == SP_OK) {
        err = recipients_refresh(u->c, u->l);
        state_unlock(u->c->state);
    }
    if (err == SP_OK && (err = form_make(u->l, u->c->keys)) != SP_OK)
        report_fail(err, "message %s: sealing for new keys", u->l->hex);
    if (err == SP_OK)
        err = outbox_save(u->c->state, u->c->keys, u->l);
    u->said = err != SP_OK;
    return err == SP_OK ? SP_ERR_STATE : err;
}

/* A letter that waited for its links' whole lifetime, unsent: they begin anew. */
static enum sp_err renew(struct uploading *u)
{
    struct letter *l = u->l;
    char until[REPORT_TIME];
    if (l->n_links == 0 || (uint64_t)time(NULL) < l->expiry)
        return SP_OK;
    letter_renew(l);
    enum sp_err err = form_make(l, u->c->keys);
    if (err != SP_OK)
        report_fail(err, "message %s: making its links anew", l->hex);
    if (err == SP_OK)
        err = outbox_save(u->c->state, u->c->keys, l);
    u->said = err != SP_OK;
    report_time(l->expiry, until);
    if (err == SP_OK)
        report_note("message %s: its links work until %s now", l->hex, until);
    return err;
}

static void pause_before(unsigned try)
{
    unsigned ms = PAUSE_MS << (try < 6 ? try : 6);
    ms = ms < PAUSE_MAX ? ms : PAUSE_MAX;
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* All pieces and the form are there. When that cannot be said, they are. */
static bool is_whole(struct uploading *u)
{
    const struct letter *l = u->l;
    bool whole = true;
    if (server_upload_state(u->c->server, l->upload, l->n_pieces, u->there, &u->form) == SP_OK) {
        whole = u->form == l->form_len;
        for (uint32_t i = 0; i < l->n_pieces; i++)
            whole = whole && u->there[i] == l->piece_length[i];
    }
    return whole;
}

/* SP_ERR_STATE: once more, from the beginning. */
static enum sp_err send(struct uploading *u)
{
    uint8_t id[ID_SIZE];
    bool sent;
    enum sp_err err = server_upload_send(u->c->server, u->l->upload, id);
    if (err == SP_ERR_FORMAT) { /* a server that was restarted may have lost some of it */
        if (!is_whole(u))
            return SP_ERR_STATE;
        err = server_upload_send(u->c->server, u->l->upload, id);
    }
    if (err == SP_OK && memcmp(id, u->l->message_id, ID_SIZE) != 0)
        return explain(u, SP_ERR_FORMAT, "the server says that it sent another");
    if (err == SP_ERR_NOT_FOUND) {
        err = server_upload_state(u->c->server, u->l->upload, u->l->n_pieces, u->there, &u->form);
        return err == SP_OK ? explain(u, SP_ERR_NOT_FOUND,
                                      "a recipient's account was removed: send it to the others")
                            : SP_ERR_STATE;
    }
    if (server_answer(u->c->server) == 503 && u->busy++ == 2)
        return SP_ERR_CONFIG; /* not just busy: it does not send outside */
    if (err != SP_ERR_EXISTS)
        return err;
    err = sent_already(u, &sent);
    if (err == SP_OK && !sent) { /* an earlier question of ours may be about to be answered */
        pause_before(0);
        err = sent_already(u, &sent);
    }
    return err == SP_OK && !sent ? new_keys(u) : err;
}

static enum sp_err once(struct uploading *u)
{
    bool sent;
    enum sp_err err = find(u, &sent);
    if (err != SP_OK || sent)
        return err;
    err = renew(u);
    if (err != SP_OK)
        return err;
    u->done = 0;
    for (uint32_t i = 0; i < u->l->n_pieces; i++)
        u->done += u->there[i];
    err = put_pieces(u);
    if (err == SP_OK)
        err = put_form(u);
    report_progress_end();
    return err == SP_OK ? send(u) : err;
}

static enum sp_err run(struct uploading *u)
{
    unsigned failed = 0, again = 0;
    for (;;) {
        u->progress = false;
        enum sp_err err = once(u);
        report_progress_end();
        if (err == SP_OK || u->said)
            return err;
        /* new keys, a lost upload, an offset that is not what is there: looked at anew */
        if ((err == SP_ERR_STATE || err == SP_ERR_EXISTS) && again++ < 2 * TRIES) {
            pause_before(0);
            continue;
        }
        if (err != SP_ERR_PEER)
            return err;
        failed = u->progress ? 1 : failed + 1;
        if (failed == TRIES)
            return err;
        if (failed == 1)
            report_note("message %s: the connection broke; trying again", u->l->hex);
        pause_before(failed - 1);
    }
}

/* The server's clear no to this message. Anything else may be otherwise another time. */
static bool is_refusal(const struct uploading *u, enum sp_err err)
{
    long status = server_answer(u->c->server);
    return !u->said && err != SP_ERR_PEER &&
           (status == 400 || status == 403 || status == 413 || status == 422);
}

static enum sp_err end(struct uploading *u, enum sp_err err)
{
    const struct letter *l = u->l;
    struct client *c = u->c;
    if (err == SP_OK) {
        outbox_remove(c->state, l);
        return err;
    }
    bool refused = is_refusal(u, err);
    if (!u->said)
        server_refuse(c->server, err, "sending");
    if (!refused) {
        report_note("message %s is not sent, and kept: 'sealpost send --resume' goes on with it, "
                    "'sealpost send --drop %s' gives it up",
                    l->hex, l->hex);
        return SP_ERR_PEER;
    }
    if (l->n_links > 0 && server_answer(c->server) == 422)
        report_note(
            "links end at a time that the server's clock has to agree with: is the clock of "
            "this machine right?");
    if (l->has_upload)
        server_upload_drop(c->server, l->upload);
    outbox_remove(c->state, l);
    report_note("message %s was not sent to anybody", l->hex);
    return err;
}

enum sp_err upload_run(struct client *c, struct letter *l)
{
    struct uploading *u = calloc(1, sizeof *u);
    uint8_t *part = malloc(UPLOAD_PART);
    enum sp_err err = SP_ERR_MEMORY;
    if (u == NULL || part == NULL) {
        report_fail(err, "sending");
    } else {
        *u = (struct uploading){.c = c, .l = l, .part = part, .total = l->form_len};
        for (uint32_t i = 0; i < l->n_pieces; i++)
            u->total += l->piece_length[i];
        err = end(u, run(u));
    }
    free(part);
    free(u);
    return err;
}
