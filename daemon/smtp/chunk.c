/* BDAT (RFC 3030). A chunk is read whole before anything is said about it, since what is left of it
 * would be taken for commands: that, and a size that cannot be believed, is how framing is lost.
 * The first reply that refuses ends the transaction; what is still on its way is dropped. */
#include "daemon/smtp/session.h"

/* NULL, or why no chunk may come now. */
static const char *check_order(const struct session *x)
{
    if (x->chunks == CHUNKS_SPOILT)
        return "503 5.5.1 Say RSET first";
    if (x->chunks == CHUNKS_DROP)
        return "503 5.5.1 The message was refused already";
    if (!x->mail)
        return "503 5.5.1 MAIL first";
    if (x->recipients == 0)
        return x->lmtp ? "503 5.5.1 No valid recipients" : "554 5.5.1 No valid recipients";
    return NULL;
}

/* LMTP answers once a recipient, and only to the last chunk (RFC 2033 4.3). */
static void answer(struct session *x, const char *text, bool last, unsigned recipients)
{
    unsigned n = x->lmtp && last && recipients > 0 ? recipients : 1;
    for (unsigned i = 0; i < n; i++)
        session_reply(x, "%s", text);
}

/* The rest of a message that was refused is no fault of a client that pipelines; a chunk out of
 * nowhere is. */
static void refuse(struct session *x, const char *text, bool last)
{
    unsigned owed = x->chunks == CHUNKS_DROP ? x->owed : x->recipients;
    bool spoilt = x->chunks == CHUNKS_SPOILT;
    bool fault = spoilt || (x->chunks == CHUNKS_NONE && !x->mail);
    if (fault)
        session_error(x, text);
    else
        answer(x, text, last, owed);
    if (spoilt)
        return;
    session_forget_transaction(x);
    x->chunks = last ? CHUNKS_NONE : CHUNKS_DROP;
    x->owed = last ? 0 : owed;
}

static void accept_chunk(struct session *x, uint64_t size, bool last)
{
    unsigned recipients = x->recipients;
    const char *refused = transfer_refused(x);
    if (last) {
        answer(x, transfer_finish(x), true, recipients);
        session_forget_transaction(x);
    } else if (refused != NULL) {
        transfer_abort(x, content_refused(&x->transfer.content));
        refuse(x, refused, false);
    } else {
        session_reply(x, "250 2.0.0 %llu octets", (unsigned long long)size);
    }
}

void chunk_run(struct session *x, const struct command *c, const char *wrong)
{
    uint64_t size;
    bool last;
    if (command_bdat(c->arg, &size, &last) != SP_OK) {
        session_cut(x, END_ERRORS, "501 5.5.4", "BDAT needs a size that can be; closing");
        return;
    }
    if (wrong == NULL)
        wrong = check_order(x);
    if (wrong == NULL && x->chunks == CHUNKS_NONE &&
        (wrong = transfer_begin(x, CONTENT_BDAT)) == NULL)
        x->chunks = CHUNKS_OPEN;
    enum sp_err err = transfer_read_chunk(x, size);
    if (err != SP_OK)
        session_fail(x, err);
    else if (wrong != NULL)
        refuse(x, wrong, last);
    else
        accept_chunk(x, size, last);
    if (x->upstream.failed != SP_OK)
        x->quit = true; /* without the sealer there is nothing left to do here */
}
