/* The content of a message on its way from the network into the shared slot: dots undone, strict
 * about line ends, cut into pieces, never more than a window of it in this process. */
#include "daemon/smtp/transfer.h"
#include "daemon/messages.h"
#include "daemon/smtp/session.h"
#include "sandbox/lockmem.h"

#include <stdalign.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define STACK_WIPE   16384u
#define MAX_RECEIVED 100u /* RFC 5321 6.3: that many mean a loop */
#define RATE_GRACE   10u  /* the lowest rate holds once a tenth of the idle limit is waited */

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static enum sp_err into_cutter(void *ctx, const uint8_t *bytes, size_t len)
{
    return cutter_push(ctx, bytes, len);
}

static enum sp_err on_content(void *ctx, const uint8_t *bytes, size_t len)
{
    struct session *x = ctx;
    struct transfer *t = &x->transfer;
    if (content_bytes(&t->content) + len > x->config->max_message) {
        content_refuse(&t->content, "size");
        return SP_OK;
    }
    t->failed = header_push(t->header, bytes, len);
    if (t->failed != SP_OK)
        content_refuse(&t->content, "sealer");
    else if (header_received(t->header) >= MAX_RECEIVED)
        content_refuse(&t->content, "loop");
    return SP_OK;
}

/* What lies in the slot between messages: the cutter, and behind it the header. */
#define HEADER_AT                                                                                  \
    ((cutter_size() + alignof(struct header) - 1) / alignof(struct header) * alignof(struct header))
#define STATE_SIZE (HEADER_AT + sizeof(struct header))

const char *transfer_begin(struct session *x, enum content_mode mode)
{
    struct transfer *t = &x->transfer;
    char trace[2048];
    enum sp_err err = upstream_begin(&x->upstream);
    if (err == SP_ERR_NO_SPACE)
        return "452 4.3.1 No room at the moment";
    if (err != SP_OK || STATE_SIZE > SLOT_CUTTER_SIZE)
        return "451 4.3.0 Try again later";
    *t = (struct transfer){.open = true, .began_us = now_us()};
    t->cutter = (struct cutter *)(void *)(x->upstream.slot + SLOT_CUTTER);
    t->header = (struct header *)(void *)(x->upstream.slot + SLOT_CUTTER + HEADER_AT);
    cutter_init(t->cutter, &upstream_sink, &x->upstream);
    header_init(t->header, x->config->hostname, into_cutter, t->cutter);
    content_init(&t->content, mode);
    stream_set_deadline(&x->stream, x->config->smtp_deadline);
    t->failed = upstream_trace(&x->upstream, trace, trace_header(x, trace, sizeof(trace)));
    if (t->failed != SP_OK)
        content_refuse(&t->content, "sealer");
    return NULL;
}

/* --- reading --- */

/* A sender that is slow enough holds a slot for as long as it likes: only the time that we wait
 * for it counts, and not what the store needs. */
static enum sp_err read_some(struct session *x, uint8_t *to, size_t cap, size_t *n)
{
    struct transfer *t = &x->transfer;
    uint64_t grace_us = x->config->smtp_idle * 1000000 / RATE_GRACE, before = now_us();
    enum sp_err err = stream_read(&x->stream, to, cap, n);
    t->waited_us += now_us() - before;
    t->received += *n;
    if (err == SP_OK && t->waited_us > grace_us &&
        t->received < x->config->smtp_min_rate * (t->waited_us / 1000000))
        err = SP_ERR_EXPIRED;
    return err;
}

/* Uses up to most bytes of what was read along with a command. */
static enum sp_err use_pipelined(struct session *x, uint64_t most, size_t *used, bool *done)
{
    size_t n = x->in_len - x->in_at;
    n = n < most ? n : (size_t)most;
    enum sp_err err = SP_OK;
    *used = n;
    if (x->transfer.open) {
        upstream_note(&x->upstream, x->in_len - x->in_at);
        err = content_push(&x->transfer.content, x->in + x->in_at, n, used, done, on_content, x);
    }
    lockmem_wipe(x->in + x->in_at, *used);
    x->in_at += *used;
    return err;
}

/* What came behind the final dot is commands. */
static void keep_rest(struct session *x, const uint8_t *rest, size_t len)
{
    _Static_assert(SLOT_READ_SIZE <= SESSION_IN, "the rest of a read fits");
    memcpy(x->in, rest, len);
    x->in_at = 0;
    x->in_len = len;
}

enum sp_err transfer_read_data(struct session *x)
{
    uint8_t *at = x->upstream.slot + SLOT_READ;
    size_t n, used, most = 0; /* what was never touched need not be wiped */
    bool done = false;
    enum sp_err err = use_pipelined(x, UINT64_MAX, &used, &done);
    while (err == SP_OK && !done) {
        err = read_some(x, at, SLOT_READ_SIZE, &n);
        most = n > most ? n : most;
        if (err != SP_OK)
            break;
        upstream_note(&x->upstream, n);
        err = content_push(&x->transfer.content, at, n, &used, &done, on_content, x);
        if (done)
            keep_rest(x, at + used, n - used);
    }
    lockmem_wipe(at, most);
    return err;
}

/* No more is read than the chunk has, so that nothing has to be kept. */
enum sp_err transfer_read_chunk(struct session *x, uint64_t size)
{
    bool open = x->transfer.open, done = false;
    uint8_t *at = open ? x->upstream.slot + SLOT_READ : x->in;
    size_t n, used, cap = open ? SLOT_READ_SIZE : SESSION_IN, most = 0;
    enum sp_err err = use_pipelined(x, size, &used, &done);
    size -= used;
    if (err == SP_OK && size > 0)
        err = session_flush(x); /* it may be long before the next reply */
    for (; err == SP_OK && size > 0; size -= n) {
        err = read_some(x, at, size < cap ? (size_t)size : cap, &n);
        most = n > most ? n : most;
        if (err != SP_OK || !open)
            continue;
        upstream_note(&x->upstream, n);
        err = content_push(&x->transfer.content, at, n, &used, &done, on_content, x);
    }
    lockmem_wipe(at, most);
    if (!open && most > 0)
        x->in_at = x->in_len = 0;
    return err;
}

/* --- its end --- */

/* Whatever the compiler and libc left below us on the stack goes too. */
static __attribute__((noinline)) void wipe_stack(void)
{
    volatile uint8_t below[STACK_WIPE];
    lockmem_wipe((void *)(uintptr_t)below, sizeof(below));
}

static void end(struct session *x)
{
    lockmem_wipe(x->transfer.cutter, STATE_SIZE);
    wipe_stack();
    x->transfer.open = false;
    stream_set_deadline(&x->stream, x->config->smtp_deadline);
}

static const char *reply_to_failure(enum sp_err err)
{
    return err == SP_ERR_NO_SPACE ? "452 4.3.1 No room at the moment"
                                  : "451 4.3.0 Could not be stored; try again later";
}

const char *transfer_refused(const struct session *x)
{
    const char *why = content_refused(&x->transfer.content);
    if (why == NULL)
        return NULL;
    if (x->transfer.failed != SP_OK)
        return reply_to_failure(x->transfer.failed);
    if (strcmp(why, "size") == 0)
        return "552 5.3.4 Message too big";
    if (strcmp(why, "loop") == 0)
        return "554 5.4.6 Too many Received fields: a loop";
    return "550 5.5.2 Bare CR, LF or NUL in the message; lines end with CRLF";
}

static enum sp_err finish_pieces(struct transfer *t)
{
    enum sp_err err = header_finish(t->header);
    return err == SP_OK ? cutter_finish(t->cutter) : err;
}

const char *transfer_finish(struct session *x)
{
    static char sealed[64];
    struct transfer *t = &x->transfer;
    uint8_t id[ID_SIZE];
    content_end(&t->content);
    if (content_refused(&t->content) == NULL) {
        upstream_note(&x->upstream, 0);
        t->failed = finish_pieces(t);
        if (t->failed != SP_OK)
            content_refuse(&t->content, "sealer");
    }
    const char *refused = transfer_refused(x);
    if (refused != NULL) {
        transfer_abort(x, content_refused(&t->content));
        return refused;
    }
    end(x);
    x->mail = false; /* the sealer has forgotten the transaction either way */
    enum sp_err err = upstream_finish(&x->upstream, now_us() - t->began_us, id);
    if (err != SP_OK)
        return reply_to_failure(err);
    snprintf(sealed, sizeof(sealed), "250 2.0.0 Sealed %x.%u", x->id, ++x->messages);
    return sealed;
}

void transfer_abort(struct session *x, const char *why)
{
    end(x);
    upstream_abort(&x->upstream, why);
    x->mail = false;
}
