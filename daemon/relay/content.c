/* The content of a mail, by DATA or BDAT. The mail is the sender's, the server hostile: a line end
 * that is none could end the mail early for the one and not for the other (SMTP smuggling), so that
 * only CRLF goes out. Nothing of the mail stays in out[] when it was sent. */
#include "daemon/relay/dialog_io.h"
#include "daemon/relay/octets.h"
#include "sandbox/lockmem.h"

#include <stdio.h>
#include <string.h>

/* Under DATA raw bytes stand at the end of out[] and are written to its beginning with their dots
 * stuffed. CRLF and a dot become four bytes of three, at worst, and one dot may come first: so what
 * is written never reaches what is not read yet, and leaves room for a line end and the final dot.
 */
#define OUT    (DIALOG_CHUNK + 1024u)
#define RAW    ((OUT - 16u) / 4u * 3u)
#define RAW_AT (OUT - RAW)
_Static_assert(RAW / 3u + 2u <= RAW_AT, "written bytes stay behind those that are read");
_Static_assert(RAW / 3u * 4u + 8u <= OUT, "room for all");
#define HEAD 32u /* in front of a chunk: "BDAT 32768 LAST" CRLF */

struct content {
    struct dialog *d;
    const struct dialog_mail *mail;
    struct dialog_verdict *v;
    struct octets seen; /* of the mail so far, which begins as if behind a line's end */
    bool ended;         /* the source has no more */
    size_t most;        /* bytes at the beginning of out[] in which there may be some of it */
    unsigned owed;      /* answers to BDAT */
};

/* --- from the source --- */

/* Fills the buffer, unless the source ends. */
static enum sp_err take(struct content *c, uint8_t *buf, size_t cap, size_t *len)
{
    *len = 0;
    while (*len < cap && !c->ended) {
        size_t n = 0;
        enum sp_err err = c->mail->source(c->mail->ctx, buf + *len, cap - *len, &n);
        if (err != SP_OK)
            return err;
        if (n > cap - *len)
            return SP_ERR_LIMIT;
        c->ended = n == 0;
        *len += n;
    }
    return SP_OK;
}

/* Of the bytes that come next. */
static bool is_clean(struct content *c, const uint8_t *at, size_t len)
{
    octets_look(&c->seen, at, len);
    return !c->seen.bare && !c->seen.nul;
}

/* RFC 5321 4.5.2. first: the raw bytes begin a line. out may lie below raw, see RAW. Returns the
 * bytes written. */
static size_t stuff_dots(bool first, const uint8_t *raw, size_t len, uint8_t *out)
{
    size_t made = 0;
    bool dot = first && len > 0 && raw[0] == '.';
    while (len > 0) {
        size_t n = octets_dot(raw, len);
        if (dot)
            out[made++] = '.';
        memmove(out + made, raw, n);
        made += n;
        raw += n;
        len -= n;
        dot = true;
    }
    return made;
}

/* A last line without its end gets one; a lone CR at the very end is as bad as anywhere. */
static enum sp_err finish_line(const struct content *c, uint8_t *out, size_t *made)
{
    if (c->seen.last == '\r')
        return SP_ERR_FORMAT;
    if (c->seen.last != '\n') {
        memcpy(out + *made, "\r\n", 2);
        *made += 2;
    }
    return SP_OK;
}

/* --- how it ends --- */

/* The source failed: the server gets no end of the mail. */
static enum sp_err source_failed(struct content *c, enum sp_err err)
{
    c->d->over = true;
    dialog_rule(c->v, DIALOG_DEFERRED, "4.3.0", "the mail could not be read: %s", sp_err_text(err));
    return err == SP_ERR_PEER ? SP_ERR_SYSTEM : err;
}

/* Neither does it of bytes that must not go out. */
static enum sp_err unfit(struct content *c)
{
    c->d->over = true;
    dialog_rule(c->v, DIALOG_FAILED, "5.6.0", "the mail holds a bare CR or LF, or a NUL");
    return SP_ERR_FORMAT;
}

static enum sp_err lost(struct content *c, enum sp_err err, const char *during)
{
    dialog_lost(c->d, err, during, c->v);
    return SP_ERR_PEER;
}

/* A reply that came while the mail was going out. A refusal is believed, anything else is not: a
 * server cannot have taken what it has not got. */
static enum sp_err early(struct content *c)
{
    enum sp_err err = dialog_answer(c->d, DIALOG_MS_QUIT, NULL);
    if (err != SP_OK)
        return lost(c, err, "content");
    c->d->over = true;
    if (c->d->reply.code >= 400)
        dialog_judge(c->d, c->v);
    else
        dialog_astray(c->d, "content", c->v);
    return SP_ERR_PEER;
}

/* A server that gives up says why, often, and closes: the words may still be there. */
static enum sp_err write_failed(struct content *c, enum sp_err err)
{
    if (err == SP_ERR_PEER && dialog_answer(c->d, DIALOG_MS_QUIT, NULL) == SP_OK &&
        c->d->reply.code >= 400) {
        c->d->over = true;
        dialog_judge(c->d, c->v);
        return SP_ERR_PEER;
    }
    return lost(c, err, "content");
}

/* The answer to all of it. From here on giving up may send the mail twice (RFC 1047). */
static enum sp_err final_answer(struct content *c)
{
    enum sp_err err = dialog_answer(c->d, DIALOG_MS_FINAL, NULL);
    if (err != SP_OK)
        return lost(c, err, "the answer to the whole mail");
    unsigned code = c->d->reply.code;
    if (code >= 300 && code < 400) {
        dialog_astray(c->d, "the answer to the whole mail", c->v);
        return SP_ERR_PEER;
    }
    dialog_judge(c->d, c->v);
    c->d->over |= code == 421;
    return c->d->over ? SP_ERR_PEER : SP_OK;
}

static enum sp_err write_block(struct content *c, const uint8_t *at, size_t len)
{
    remote_step(c->d->remote, DIALOG_MS_BLOCK);
    return remote_write(c->d->remote, at, len);
}

/* --- DATA --- */

static void keep_most(struct content *c, size_t made)
{
    c->most = made > c->most ? made : c->most;
}

/* The next block in out[0..*made), behind the last one the final dot. False: *done says why. */
static bool prepare_block(struct content *c, size_t *made, enum sp_err *done)
{
    uint8_t *out = c->d->out, *raw = out + RAW_AT;
    size_t len;
    enum sp_err err = take(c, raw, RAW, &len);
    if (err != SP_OK) {
        *done = source_failed(c, err);
        return false;
    }
    bool first = c->seen.last == '\n';
    err = is_clean(c, raw, len) ? SP_OK : SP_ERR_FORMAT;
    *made = stuff_dots(first, raw, len, out);
    if (*made < RAW_AT + len)
        lockmem_wipe(out + *made, RAW_AT + len - *made);
    if (err == SP_OK && c->ended)
        err = finish_line(c, out, made);
    if (err != SP_OK) {
        *done = unfit(c);
        return false;
    }
    if (c->ended) {
        memcpy(out + *made, ".\r\n", 3);
        *made += 3;
    }
    keep_most(c, *made);
    return true;
}

static bool send_block(struct content *c, enum sp_err *done)
{
    size_t made = 0;
    bool came = false;
    if (!prepare_block(c, &made, done))
        return false;
    enum sp_err err = remote_early(c->d->remote, &came);
    if (came) {
        *done = early(c);
        return false;
    }
    remote_hold(c->d->remote, c->ended);
    if (err == SP_OK)
        err = write_block(c, c->d->out, made);
    if (err != SP_OK)
        *done = write_failed(c, err);
    return err == SP_OK;
}

static enum sp_err send_data(struct content *c)
{
    enum sp_err done = SP_OK;
    enum sp_err err = dialog_ask(c->d, "DATA", DIALOG_MS_COMMAND);
    if (err != SP_OK)
        return lost(c, err, "DATA");
    unsigned code = c->d->reply.code;
    if (code < 400 && code != 354) {
        dialog_astray(c->d, "DATA", c->v);
        return SP_ERR_PEER;
    }
    if (code != 354) {
        dialog_judge(c->d, c->v);
        c->d->over = code == 421;
        return dialog_reset(c->d);
    }
    while (!c->ended)
        if (!send_block(c, &done))
            return done;
    return final_answer(c);
}

/* --- BDAT (RFC 3030) --- */

/* The answer to a chunk that is not the last. */
static enum sp_err chunk_answer(struct content *c)
{
    enum sp_err err = dialog_answer(c->d, DIALOG_MS_BLOCK, NULL);
    if (err != SP_OK)
        return lost(c, err, "BDAT");
    c->owed--;
    if (c->d->reply.code < 300)
        return SP_OK;
    c->d->over = true; /* answers to other chunks may be on their way */
    if (c->d->reply.code < 400)
        dialog_astray(c->d, "BDAT", c->v);
    else
        dialog_judge(c->d, c->v);
    return SP_ERR_PEER;
}

/* Answers that are there already, or that must come before more may be sent. */
static enum sp_err settle(struct content *c, unsigned most)
{
    enum sp_err err = SP_OK;
    bool came = true;
    while (err == SP_OK && c->owed > most)
        err = chunk_answer(c);
    while (err == SP_OK && came) {
        /* The end shows again, and with more words, when the chunk is written. */
        if (remote_early(c->d->remote, &came) == SP_OK && came)
            err = c->owed > 0 ? chunk_answer(c) : early(c);
    }
    return err;
}

/* The next chunk in out[HEAD..HEAD + *len). */
static bool prepare_chunk(struct content *c, size_t *len, enum sp_err *done)
{
    uint8_t *at = c->d->out + HEAD;
    enum sp_err err = take(c, at, DIALOG_CHUNK, len);
    if (err != SP_OK) {
        *done = source_failed(c, err);
        return false;
    }
    err = is_clean(c, at, *len) ? SP_OK : SP_ERR_FORMAT;
    if (err == SP_OK && c->ended)
        err = finish_line(c, at, len);
    keep_most(c, HEAD + *len);
    if (err != SP_OK)
        *done = unfit(c);
    return err == SP_OK;
}

static bool send_chunk(struct content *c, enum sp_err *done)
{
    uint8_t *at = c->d->out + HEAD;
    char head[HEAD];
    size_t len;
    if (!prepare_chunk(c, &len, done))
        return false;
    int n = snprintf(head, sizeof(head), "BDAT %zu%s\r\n", len, c->ended ? " LAST" : "");
    memcpy(at - n, head, (size_t)n);
    *done = settle(c, c->d->pipelining ? DIALOG_WINDOW - 1 : 0);
    if (*done != SP_OK)
        return false;
    remote_hold(c->d->remote, c->ended);
    enum sp_err err = write_block(c, at - n, (size_t)n + len);
    if (err != SP_OK)
        *done = write_failed(c, err);
    c->owed += !c->ended;
    return err == SP_OK;
}

static enum sp_err send_chunks(struct content *c)
{
    enum sp_err done = SP_OK;
    while (!c->ended)
        if (!send_chunk(c, &done))
            return done;
    while (c->owed > 0)
        if (chunk_answer(c) != SP_OK)
            return SP_ERR_PEER;
    return final_answer(c);
}

enum sp_err dialog_content(struct dialog *d, const struct dialog_mail *mail,
                           struct dialog_verdict *v)
{
    struct content c = {.d = d, .mail = mail, .v = v, .seen.last = '\n'};
    enum sp_err err = d->chunking ? send_chunks(&c) : send_data(&c);
    remote_hold(d->remote, false);
    lockmem_wipe(d->out, err == SP_OK ? c.most : sizeof(d->out));
    d->out_len = 0;
    return err;
}
