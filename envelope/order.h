#ifndef SEALPOST_ORDER_H
#define SEALPOST_ORDER_H
/*
 * Who outside gets a mail is the sender's word alone (docs/api.md, "What the device signs"). The
 * form as a whole is signed for the store, so that web can change nothing of it; and each recipient
 * outside has an order of their own, for the delivery, so that the store cannot either. An order
 * names one recipient and nobody else: a delivery learns of no others.
 */
#include "envelope/error.h"
#include "envelope/keys.h"

/* The form's last field: Ed25519 over
 *     b16("sealpost/1 form") || upload_id[16] || SHA256(all bytes of the form before it)
 * so that it is good for this one upload. form_len counts the form without it. */
enum sp_err order_sign_form(const uint8_t sign_sk[64], const uint8_t upload_id[ID_SIZE],
                            const uint8_t *form, size_t form_len, uint8_t signature[SIGN_SIZE]);
/* SP_ERR_AUTH. */
enum sp_err order_verify_form(const uint8_t sign_pk[KEY_SIZE], const uint8_t upload_id[ID_SIZE],
                              const uint8_t *form, size_t form_len,
                              const uint8_t signature[SIGN_SIZE]);

struct order_text {
    const void *bytes;
    size_t len; /* at most ORDER_TEXT */
};
#define ORDER_TEXT 512u

/* What one recipient outside gets, and from whom; texts as they stand in the form. digest: of the
 * relay's box, or of the link's own (FORMAT.md 4.5), which covers message and sender. */
struct order {
    uint8_t digest[HASH_SIZE];
    struct order_text mail_from, address;
    uint8_t report_pk[KEY_SIZE]; /* the sender's PUK, as in their own box: for which alone a report
                                    may quote the mail. Relay mail's alone */
    /* A link's alone: */
    uint8_t link_id[ID_SIZE];
    uint64_t expiry; /* Unix seconds */
    struct order_text subject;
};

/* Through the relay: Ed25519 by the sender's device over
 *     b16("sealpost/1 relay order") || digest || report_pk || b16(mail_from) || b16(address)
 * SP_ERR_LIMIT: a text is too long. */
enum sp_err order_sign(const uint8_t sign_sk[64], const struct order *o,
                       uint8_t signature[SIGN_SIZE]);
/* SP_ERR_AUTH. */
enum sp_err order_verify(const uint8_t sign_pk[KEY_SIZE], const struct order *o,
                         const uint8_t signature[SIGN_SIZE]);

/* A link's notification: HMAC under the link's password, which but the sender, the keeper, its
 * delivery and at last the recipient nobody knows, over
 *     b16("sealpost/1 link order") || link_id || digest || u64 expiry || b16(mail_from)
 *     || b16(address) || b16(subject) */
enum sp_err order_mac(const uint8_t password[KEY_SIZE], const struct order *o,
                      uint8_t mac[HASH_SIZE]);
/* SP_ERR_AUTH. In constant time. */
enum sp_err order_verify_mac(const uint8_t password[KEY_SIZE], const struct order *o,
                             const uint8_t mac[HASH_SIZE]);

#endif
