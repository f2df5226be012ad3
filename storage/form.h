#ifndef SEALPOST_STORAGE_FORM_H
#define SEALPOST_STORAGE_FORM_H
/*
 * The form: what a client says about mail it sends (daemon/messages.h, FORM_PIECE). Everything that
 * can be checked without knowing users or settings is checked here.
 */
#include "envelope/envelope.h"
#include "envelope/error.h"
#include "storage/store.h"

#define FORM_BOXES    1024u /* of all kinds */
#define FORM_ADDRESS  254u  /* bytes: RFC 5321 4.5.3.1.3, less the angle brackets */
#define FORM_SUBJECT  512u  /* bytes */
#define FORM_SENT_MIN 60u   /* what an empty Cake and its generation take */

struct form_user {
    const uint8_t *bytes; /* the box as it stands */
    size_t len;
    struct box box;
};

struct form_link {
    const uint8_t *bytes;
    size_t len;
    struct box box;
    const uint8_t *secret; /* KEYS_SECRET_BOX bytes */
    struct store_text address;
    const uint8_t *gate_hash; /* HASH_SIZE bytes */
    struct store_text subject;
    const uint8_t *order; /* HASH_SIZE bytes: envelope/order.h */
};

struct form {
    const uint8_t *envelope_bytes;
    size_t envelope_len;
    struct envelope envelope;
    struct store_text sent_copy;
    char mail_from[STORE_MAX_ADDRESS];      /* in normal form */
    char mail_from_text[STORE_MAX_ADDRESS]; /* as it stands */
    size_t n_users, n_links, n_outside;
    struct form_user *user; /* no user twice */
    struct form_link *link;
    bool relay; /* there is a box for the appliance itself: */
    const uint8_t *relay_bytes;
    size_t relay_len;
    struct box relay_box;
    const uint8_t *relay_secret;    /* KEYS_SECRET_BOX bytes */
    struct store_outsider *outside; /* for it: sorted by domain, none twice, as they stand */
    const uint8_t *signed_bytes;    /* all but the signature */
    size_t signed_len;
    const uint8_t *signature; /* SIGN_SIZE bytes, not verified */
};

/* Decodes all of it, strictly; *out leads into bytes, the caller frees it with form_free. The
 * envelope is a user's, and its message_id a UUID of version 7. SP_ERR_FORMAT, SP_ERR_LIMIT (more
 * than FORM_BOXES boxes or max_recipients others than the sender), SP_ERR_MEMORY. */
enum sp_err form_decode(const uint8_t *bytes, size_t len, size_t max_recipients, struct form **out);
void form_free(struct form *f); /* NULL is ignored */

/* Whether an address of somebody outside may go into an SMTP command: local@domain as plain
 * dot-atom text (RFC 5321 4.1.2, RFC 6531) and a name of DNS, nothing that needs quotes. */
bool form_address(const uint8_t *text, size_t len);

#endif
