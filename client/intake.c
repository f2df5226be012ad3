/* Line ends. The input is the user's own mail program; a stray CR in it would be a line end to some
 * servers and text to others ("SMTP smuggling"), so that it is refused rather than guessed at. */
#include "client/intake.h"
#include "client/secret.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define BUFFER 65536u

/* What a line begins with, as long as it may be a lone dot. */
enum start { START, DOT, TEXT };

struct work {
    struct intake *in;
    enum sp_err (*write)(void *ctx, const uint8_t *bytes, size_t len);
    void *ctx;
    size_t len; /* bytes in out */
    enum start start;
    bool cr;    /* the byte before was a CR */
    bool ended; /* by a lone dot */
    uint8_t raw[BUFFER], out[BUFFER];
};

static enum sp_err flush(struct work *w)
{
    enum sp_err err = w->len > 0 ? w->write(w->ctx, w->out, w->len) : SP_OK;
    w->len = 0;
    return err;
}

static enum sp_err emit(struct work *w, const uint8_t *bytes, size_t n)
{
    enum sp_err err = n > BUFFER - w->len ? flush(w) : SP_OK;
    if (err == SP_OK) {
        memcpy(w->out + w->len, bytes, n);
        w->len += n;
    }
    return err;
}

/* A line is over; a dot that was held back was either text or the end. */
static enum sp_err end_line(struct work *w)
{
    enum start was = w->start;
    w->cr = false;
    w->start = START;
    w->in->line++;
    if (was == DOT && !w->in->dots) {
        w->ended = true;
        return SP_OK;
    }
    return emit(w, (const uint8_t *)".\r\n" + (was == DOT ? 0 : 1), was == DOT ? 3 : 2);
}

/* Text without CR and LF. */
static enum sp_err text(struct work *w, const uint8_t *bytes, size_t n)
{
    enum sp_err err = SP_OK;
    if (w->start == START && n == 1 && *bytes == '.') {
        w->start = DOT;
        return SP_OK;
    }
    if (w->start == DOT)
        err = emit(w, (const uint8_t *)".", 1);
    w->start = TEXT;
    return err == SP_OK ? emit(w, bytes, n) : err;
}

static enum sp_err take(struct work *w, const uint8_t *bytes, size_t len)
{
    enum sp_err err = SP_OK;
    while (err == SP_OK && len > 0 && !w->ended) {
        if (*bytes == '\n' || w->cr) {
            if (*bytes != '\n')
                return SP_ERR_FORMAT;
            err = end_line(w);
            bytes++, len--;
            continue;
        }
        const uint8_t *end = memchr(bytes, '\n', len);
        size_t n = end != NULL ? (size_t)(end - bytes) : len;
        const uint8_t *cr = memchr(bytes, '\r', n);
        if (cr != NULL)
            n = (size_t)(cr - bytes);
        if (n > 0)
            err = text(w, bytes, n);
        w->cr = cr != NULL;
        n += cr != NULL ? 1 : 0;
        bytes += n;
        len -= n;
    }
    return err;
}

static enum sp_err run(struct work *w, int fd)
{
    ssize_t n = 1;
    enum sp_err err = SP_OK;
    w->in->line = 1;
    while (err == SP_OK && n > 0 && !w->ended) {
        do {
            n = read(fd, w->raw, BUFFER);
        } while (n < 0 && errno == EINTR);
        if (n < 0)
            return SP_ERR_SYSTEM;
        err = take(w, w->raw, (size_t)n);
    }
    if (err == SP_OK && w->cr)
        return SP_ERR_FORMAT;
    if (err == SP_OK && w->start != START && !w->ended)
        err = end_line(w);
    return err == SP_OK ? flush(w) : err;
}

enum sp_err intake_run(struct intake *in, int fd,
                       enum sp_err (*write)(void *ctx, const uint8_t *bytes, size_t len), void *ctx)
{
    struct work *w = secret_alloc(sizeof *w);
    if (w == NULL)
        return SP_ERR_MEMORY;
    w->in = in;
    w->write = write;
    w->ctx = ctx;
    enum sp_err err = run(w, fd);
    secret_free(w);
    return err;
}
