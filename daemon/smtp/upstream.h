#ifndef SEALPOST_SMTP_UPSTREAM_H
#define SEALPOST_SMTP_UPSTREAM_H
/*
 * A session's conversation with the sealer: recipients by yes or no, content through the shared
 * slot. No key ever comes this way.
 */
#include "daemon/messages.h"
#include "envelope/cutter.h"
#include "envelope/error.h"
#include "envelope/keys.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct upstream {
    int sock;
    uint8_t *slot;      /* mapped at the first message */
    size_t work;        /* bytes at SLOT_WORK */
    size_t park;        /* the body's bytes at SLOT_PARK while an attachment streams */
    bool attachment;    /* WORK holds the attachment's bytes */
    size_t trace;       /* bytes in front of the message that the cutter does not know of */
    size_t held;        /* plaintext in hand besides: what was read and not yet placed */
    size_t window;      /* most plaintext in hand at once, in this message */
    enum sp_err failed; /* the sealer is gone, or refused: for good */
};

/* Asks whether mail for this address would be taken. SP_OK, SP_ERR_NOT_FOUND, SP_ERR_NO_KEY, ...;
 * SP_ERR_PEER: the sealer is gone. */
enum sp_err upstream_recipient(struct upstream *u, const char *address);
enum sp_err upstream_reset(struct upstream *u);
/* what was refused without asking the sealer: for its counts. No answer comes. */
enum sp_err upstream_refused(struct upstream *u, enum session_refusal what);
/* A message is about to come. SP_ERR_NO_SPACE: no slot is free. */
enum sp_err upstream_begin(struct upstream *u);
/* Bytes of the body, before the cutter's: the trace header. */
enum sp_err upstream_trace(struct upstream *u, const char *text, size_t len);
/* Where the cutter puts its pieces; ctx is the upstream. */
extern const struct cutter_sink upstream_sink;
/* Notes what is in hand now, for the high-water mark. */
void upstream_note(struct upstream *u, size_t held);
/* All of it has come: sealed, stored, synced when this returns SP_OK. */
enum sp_err upstream_finish(struct upstream *u, uint64_t plaintext_us, uint8_t id[ID_SIZE]);
/* Drops it; why is a word of a-z and "-" for the audit log. */
enum sp_err upstream_abort(struct upstream *u, const char *why);

#endif
