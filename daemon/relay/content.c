/* The content of a mail, by DATA or BDAT. The mail is the sender's, the server hostile: a line end
 * that is none could end the mail early for the one and not for the other (SMTP smuggling), so that
 * only CRLF goes out. Nothing of the mail stays in out[] when it was sent. */
#include "daemon/relay/dialog_io.h"
#include "sandbox/lockmem.h"

#include <stdio.h>
#include <string.h>

#define BLOCK  16384u                 /* written at once under DATA, dots stuffed */
#define RAW    (BLOCK / 4u * 3u - 8u) /* "\n." is 3 bytes of CRLF, dot: at worst 4 come of 3 */
#define RAW_AT (DIALOG_CHUNK + 1024u - RAW)
#define HEAD   32u /* in front of a chunk: "BDAT 32768 LAST" CRLF */
#define WINDOW 8u  /* BDATs whose answers are owed, where pipelining is offered */

struct content {
    struct dialog *d;
    const struct dialog_mail *mail;
    struct dialog_verdict *v;
    bool mid_line; /* the last byte was not the LF of a CRLF */
    bool cr;       /* ... but a CR */
    bool ended;    /* the source has no more */
    unsigned owed; /* answers to BDAT */
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

/* One line or the part of one that is at hand, with the LF that ends it, if it does. */
static bool is_clean(const struct content *c, const uint8_t *at, size_t n)
{
    bool whole = at[n - 1] == '\n';
    size_t inner = whole ? n - 1 : n; /* before the LF */
    const uint8_t *cr = memchr(at, '\r', inner);
    if (memchr(at, '\0', n) != NULL || (c->cr && at[0] != '\n'))
        return false;
    if (whole && inner == 0)
        return c->cr;
    return cr == NULL ? !whole : cr == at + inner - 1;
}

/* Goes over raw bytes line by line; writes them with dots stuffed to out, unless that is NULL. */
static enum sp_err pass_lines(struct content *c, const uint8_t *raw, size_t len, uint8_t *out,
                              size_t *made)
{
    *made = 0;
    while (len > 0) {
        const uint8_t *lf = memchr(raw, '\n', len);
        size_t n = lf != NULL ? (size_t)(lf - raw) + 1 : len;
        if (!is_clean(c, raw, n))
            return SP_ERR_FORMAT;
        if (out != NULL) {
            if (!c->mid_line && raw[0] == '.')
                out[(*made)++] = '.';
            memcpy(out + *made, raw, n);
            *made += n;
        }
        c->cr = raw[n - 1] == '\r';
        c->mid_line = lf == NULL;
        raw += n;
        len -= n;
    }
    return SP_OK;
}

/* A last line without its end gets one; a lone CR at the very end is as bad as anywhere. */
static enum sp_err finish_line(const struct content *c, uint8_t *out, size_t *made)
{
    if (c->cr)
        return SP_ERR_FORMAT;
    if (c->mid_line) {
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
    err = pass_lines(c, raw, len, out, made);
    lockmem_wipe(raw, len);
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
    size_t ignored;
    enum sp_err err = take(c, at, DIALOG_CHUNK, len);
    if (err != SP_OK) {
        *done = source_failed(c, err);
        return false;
    }
    err = pass_lines(c, at, *len, NULL, &ignored);
    if (err == SP_OK && c->ended)
        err = finish_line(c, at, len);
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
    *done = settle(c, c->d->pipelining ? WINDOW - 1 : 0);
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
    struct content c = {.d = d, .mail = mail, .v = v};
    enum sp_err err = d->chunking ? send_chunks(&c) : send_data(&c);
    remote_hold(d->remote, false);
    lockmem_wipe(d->out, sizeof(d->out));
    d->out_len = 0;
    return err;
}
