#ifndef SEALPOST_SEALER_TALLY_H
#define SEALPOST_SEALER_TALLY_H
/* What the sealer counts for `status` and metrics. */
#include "daemon/histogram.h"
#include "envelope/wire.h"

#define TALLY_MESSAGE_REASONS   13u
#define TALLY_RECIPIENT_REASONS 6u

struct tally {
    uint64_t messages, bytes;
    uint64_t window_most; /* bytes of plaintext of one message at once, as its session says */
    struct histogram plaintext_us;
    uint64_t message[TALLY_MESSAGE_REASONS], recipient[TALLY_RECIPIENT_REASONS];
};

void tally_sealed(struct tally *t, uint64_t bytes, uint64_t window, uint64_t plaintext_us);
/* why: the word of message.refused; one that is not known counts as "other". */
void tally_message_refused(struct tally *t, const char *why);
void tally_recipient_refused(struct tally *t, enum sp_err status);
void tally_status(const struct tally *t, struct wire_out *pairs);

#endif
