/* The content of a message on its way from the network into the shared slot: dots undone, strict
 * about line ends, cut into pieces, never more than a window of it in this process. */
#include "daemon/messages.h"
#include "daemon/smtp/content.h"
#include "daemon/smtp/session.h"
#include "sandbox/lockmem.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define STACK_WIPE 16384u

struct transfer {
    struct session *session;
    struct content content;
    struct cutter *cutter;
    enum sp_err
        failed; /* of the cutter or the sealer: the content is read on to its end all the same */
    uint64_t began_us;
};

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static enum sp_err on_content(void *ctx, const uint8_t *bytes, size_t len)
{
    struct transfer *t = ctx;
    if (content_bytes(&t->content) + len > t->session->config->max_message) {
        content_refuse(&t->content, "size");
        return SP_OK;
    }
    t->failed = cutter_push(t->cutter, bytes, len);
    if (t->failed != SP_OK)
        content_refuse(&t->content, "sealer");
    return SP_OK;
}

/* What came in one packet with DATA is content already. */
static enum sp_err use_pipelined(struct transfer *t, bool *done)
{
    struct session *x = t->session;
    size_t used = 0;
    upstream_note(&x->upstream, x->in_len - x->in_at);
    enum sp_err err = content_push(&t->content, x->in + x->in_at, x->in_len - x->in_at, &used, done,
                                   on_content, t);
    lockmem_wipe(x->in + x->in_at, used);
    x->in_at += used;
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

static enum sp_err read_content(struct transfer *t)
{
    struct session *x = t->session;
    uint8_t *at = x->upstream.slot + SLOT_READ;
    size_t most = 0; /* what was never touched need not be wiped */
    bool done = false;
    enum sp_err err = use_pipelined(t, &done);
    while (err == SP_OK && !done) {
        size_t n, used = 0;
        err = stream_read(&x->stream, at, SLOT_READ_SIZE, &n);
        if (err != SP_OK)
            break;
        most = n > most ? n : most;
        upstream_note(&x->upstream, n);
        err = content_push(&t->content, at, n, &used, &done, on_content, t);
        if (done)
            keep_rest(x, at + used, n - used);
    }
    lockmem_wipe(at, most);
    return err;
}

/* Whatever the compiler and libc left below us on the stack goes too. */
static __attribute__((noinline)) void wipe_stack(void)
{
    volatile uint8_t below[STACK_WIPE];
    lockmem_wipe((void *)(uintptr_t)below, sizeof(below));
}

static void wipe_traces(struct transfer *t)
{
    lockmem_wipe(t->cutter, cutter_size());
    wipe_stack();
}

static const char *reply_for(struct transfer *t, enum sp_err err)
{
    const char *why = content_refused(&t->content);
    if (why != NULL && strcmp(why, "size") == 0)
        return "552 5.3.4 Message too big";
    if (why != NULL && t->failed == SP_OK)
        return "550 5.5.2 Bare CR, LF or NUL in the message; lines end with CRLF";
    if (err == SP_ERR_NO_SPACE)
        return "452 4.3.1 No room at the moment";
    return "451 4.3.0 Could not be stored; try again later";
}

/* LMTP answers once a recipient (RFC 2033 4.2). */
static void answer(struct session *x, const char *text)
{
    unsigned n = x->lmtp ? x->recipients : 1;
    for (unsigned i = 0; i < n; i++)
        session_reply(x, "%s", text);
}

static void conclude(struct transfer *t)
{
    struct session *x = t->session;
    uint8_t id[ID_SIZE];
    const char *refused = content_refused(&t->content);
    enum sp_err err = t->failed;
    if (refused == NULL) {
        upstream_note(&x->upstream, 0);
        err = cutter_finish(t->cutter);
    }
    wipe_traces(t);
    if (refused == NULL && err == SP_OK)
        err = upstream_finish(&x->upstream, now_us() - t->began_us, id);
    else
        upstream_abort(&x->upstream, refused != NULL ? refused : "sealer");
    if (refused == NULL && err == SP_OK) {
        char text[64];
        snprintf(text, sizeof(text), "250 2.0.0 Sealed %x.%u", x->id, x->messages + 1);
        x->messages++;
        answer(x, text);
    } else {
        answer(x, reply_for(t, err));
    }
    if (x->upstream.failed != SP_OK)
        x->quit = true; /* without the sealer there is nothing left to do here */
}

void transfer_run(struct session *x)
{
    struct transfer t = {.session = x, .began_us = now_us()};
    char trace[2048];
    if (cutter_size() > SLOT_CUTTER_SIZE) {
        session_reply(x, "451 4.3.0 Misbuilt");
        return;
    }
    t.cutter = (struct cutter *)(void *)(x->upstream.slot + SLOT_CUTTER);
    cutter_init(t.cutter, &upstream_sink, &x->upstream);
    content_init(&t.content, CONTENT_DATA);
    stream_set_deadline(&x->stream, x->config->smtp_deadline);
    t.failed = upstream_trace(&x->upstream, trace, trace_header(x, trace, sizeof(trace)));
    if (t.failed != SP_OK)
        content_refuse(&t.content, "sealer");
    enum sp_err err = read_content(&t);
    stream_set_deadline(&x->stream, x->config->smtp_deadline);
    if (err == SP_OK) {
        conclude(&t);
        return;
    }
    wipe_traces(&t);
    upstream_abort(&x->upstream, "interrupted");
    if (err == SP_ERR_EXPIRED)
        session_reply(x, "421 4.4.2 %s Too slow, closing", x->config->hostname);
    else if (err == SP_ERR_STATE)
        session_reply(x, "421 4.3.2 %s Shutting down", x->config->hostname);
    x->quit = true;
}
