/* Whether the sender has said that this mail goes to these recipients. The job comes from the
 * store; one that was taken over would send mail to a host or an address of its own. It cannot make
 * an order: those of relay mail are signed with the key that the keeper found in the opened box,
 * those of links are made with the password. */
#include "daemon/relay/delivery.h"
#include "envelope/envelope.h"
#include "envelope/order.h"

#include <string.h>

/* The mail goes to the hosts of the domain that the address itself names. */
static bool is_there(const struct job *job, const char *address)
{
    char theirs[DOMAIN_MAX + 1], ours[DOMAIN_MAX + 1];
    const char *at = strrchr(address, '@');
    if (at == NULL)
        return false;
    return strcmp(at + 1, job->destination) == 0 ||
           (domain_to_ascii(at + 1, theirs) == SP_OK &&
            domain_to_ascii(job->destination, ours) == SP_OK && strcmp(theirs, ours) == 0);
}

static struct order order_of(const struct job *job, size_t i)
{
    return (struct order){.mail_from = {job->from_text, strlen(job->from_text)},
                          .address = {job->to[i], strlen(job->to[i])}};
}

bool orders_relay(const struct job *job, const uint8_t sign_pk[KEY_SIZE],
                  const uint8_t digest[HASH_SIZE])
{
    for (size_t i = 0; i < job->n; i++) {
        struct order o = order_of(job, i);
        memcpy(o.digest, digest, HASH_SIZE);
        memcpy(o.report_pk, job->report_pk, KEY_SIZE);
        if (!is_there(job, job->to[i]) || order_verify(sign_pk, &o, job->order[i]) != SP_OK)
            return false;
    }
    return job->n > 0;
}

bool orders_link(const struct job *job, const uint8_t password[KEY_SIZE])
{
    struct order o = order_of(job, 0);
    o.expiry = job->expires_ms / 1000;
    o.subject = (struct order_text){job->subject, strlen(job->subject)};
    memcpy(o.link_id, job->recipient_id, ID_SIZE);
    memcpy(o.digest, job->digest, HASH_SIZE);
    return job->n == 1 && is_there(job, job->to[0]) &&
           order_verify_mac(password, &o, job->order[0]) == SP_OK;
}

void orders_refused(struct dialog_verdict *why)
{
    delivery_verdict(why, DIALOG_FAILED, 0, "5.7.7",
                     "The message is not sent: it is not as its sender has signed it");
}
