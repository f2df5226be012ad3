#ifndef SEALPOST_SMTP_TRANSFER_H
#define SEALPOST_SMTP_TRANSFER_H
/*
 * The content of one message: from the connection, by way of the slot's READ, through dots and line
 * ends (content.h), header (header.h) and MIME (envelope/cutter.h) into the slot's WORK. Whatever
 * happens, it is read to its true end, and its end wipes what there is of it.
 */
#include "daemon/smtp/content.h"
#include "daemon/smtp/header.h"
#include "envelope/cutter.h"

#include <stdbool.h>
#include <stdint.h>

struct session;

struct transfer {
    bool open;
    struct content content;
    struct header *header; /* in the slot, and so is this: */
    struct cutter *cutter;
    enum sp_err failed; /* of the cutter or the sealer: the content is read on to its end */
    uint64_t began_us, waited_us, received;
};

/* Borrows a slot and begins; NULL, or a reply that refuses. */
const char *transfer_begin(struct session *x, enum content_mode mode);
/* Reads to the final dot of DATA; SP_OK when it is there, whatever came before it. */
enum sp_err transfer_read_data(struct session *x);
/* Reads this many bytes of BDAT; with no transfer open they are dropped. */
enum sp_err transfer_read_chunk(struct session *x, uint64_t size);
/* NULL, or a reply that refuses what has come so far. */
const char *transfer_refused(const struct session *x);
/* It is complete: stores it, or says why not. The reply; the transfer is over and so is the
 * transaction. */
const char *transfer_finish(struct session *x);
/* Drops it; why is a word for the audit log. The sealer has forgotten the transaction then. */
void transfer_abort(struct session *x, const char *why);

#endif
