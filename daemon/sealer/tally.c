/* What the sealer counts. Words come from sessions, which may have been taken over: they choose
 * among those of a table here, and no others. */
#include "daemon/sealer/tally.h"
#include "daemon/role.h"

#include <string.h>

static const char *const message_reasons[TALLY_MESSAGE_REASONS] = {
    "size",   "loop",         "bare-cr", "bare-lf",  "nul",   "bad-order", "interrupted",
    "sealer", "forged-frame", "no-slot", "no-space", "store", "other"};
static const char *const recipient_reasons[TALLY_RECIPIENT_REASONS] = {
    "unknown", "no-key", "limit", "no-space", "not-ours", "other"};

void tally_sealed(struct tally *t, uint64_t bytes, uint64_t window, uint64_t plaintext_us)
{
    t->messages++;
    t->bytes += bytes;
    if (window > t->window_most)
        t->window_most = window;
    histogram_add(&t->plaintext_us, plaintext_us);
}

void tally_message_refused(struct tally *t, const char *why)
{
    unsigned i = 0;
    while (i < TALLY_MESSAGE_REASONS - 1 && strcmp(message_reasons[i], why) != 0)
        i++;
    t->message[i]++;
}

void tally_recipient_refused(struct tally *t, enum sp_err status)
{
    static const enum sp_err known[] = {SP_ERR_NOT_FOUND, SP_ERR_NO_KEY, SP_ERR_LIMIT,
                                        SP_ERR_NO_SPACE, SP_ERR_DENIED};
    unsigned i = 0;
    while (i < TALLY_RECIPIENT_REASONS - 1 && known[i] != status)
        i++;
    t->recipient[i]++;
}

void tally_status(const struct tally *t, struct wire_out *pairs)
{
    role_status_number(pairs, "messages_sealed", t->messages);
    role_status_number(pairs, "bytes_sealed", t->bytes);
    role_status_number(pairs, "window_bytes_most", t->window_most);
    role_status_histogram(pairs, "plaintext_us", &t->plaintext_us);
    for (unsigned i = 0; i < TALLY_MESSAGE_REASONS; i++)
        role_status_count(pairs, "messages_refused", message_reasons[i], t->message[i]);
    for (unsigned i = 0; i < TALLY_RECIPIENT_REASONS; i++)
        role_status_count(pairs, "recipients_refused", recipient_reasons[i], t->recipient[i]);
}
