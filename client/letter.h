#ifndef SEALPOST_CLIENT_LETTER_H
#define SEALPOST_CLIENT_LETTER_H
/*
 * A letter: mail of this user's on its way out. Who it is for, the keys of this one message, and
 * what has been made of it. All that is needed to go on with it another time is kept in outbox/
 * (client/outbox.h).
 */
#include "client/addrlist.h"
#include "client/state.h"
#include "envelope/envelope.h"

#define LETTER_MAX_RECIPIENTS 1000u
#define LETTER_MAX_READERS    1024u /* users that they lead to */
#define LETTER_MAX_LINKS      100u
#define LETTER_SUBJECT_MAX    512u /* bytes of UTF-8 */
#define LETTER_FORM_MAX       (4u << 20)

struct recipient {
    char address[ADDRLIST_MAX + 1];
    bool bcc;     /* neither To nor Cc names it */
    bool outside; /* no user of the appliance: the relay's, or a link's */
};

/* A user who gets a box. The first is always the sender. */
struct reader {
    uint8_t user_id[ID_SIZE];
    uint32_t generation;
    uint8_t puk_pk[KEY_SIZE];
    uint32_t n, room; /* recipients that led to this user */
    uint16_t *of;
};

/* What one recipient outside opens in place of the mail (FORMAT.md section 6). */
struct letter_link {
    uint16_t of; /* which recipient */
    uint8_t id[ID_SIZE];
    uint8_t secret[KEYS_SECRET_BOX]; /* the password, for the keeper alone */
    uint8_t digest[HASH_SIZE];       /* of its box: form_make sets it */
};

/* In locked memory. */
struct letter_secrets {
    uint8_t shared_key[KEY_SIZE];
    uint8_t ephemeral_sk[KEY_SIZE];
    uint8_t commitment_key[KEY_SIZE];
    uint8_t password[LETTER_MAX_LINKS][KEY_SIZE]; /* by link */
};

struct letter {
    uint8_t message_id[ID_SIZE];
    char hex[2 * ID_SIZE + 1]; /* the same as text */
    struct letter_secrets *secret;
    char mail_from[ADDRLIST_MAX + 1];
    uint32_t n_recipients;
    struct recipient *recipient;
    uint32_t n_readers;
    struct reader *reader;
    uint32_t n_links; /* instead of the relay: */
    struct letter_link *link;
    uint64_t lifetime, expiry;            /* of all links: seconds; Unix seconds */
    char subject[LETTER_SUBJECT_MAX + 1]; /* for the notification, which all servers read; "" */
    bool relay;                           /* somebody is outside: */
    uint8_t relay_id[ID_SIZE], relay_pk[KEY_SIZE];
    uint8_t relay_secret[KEYS_SECRET_BOX];
    uint32_t n_pieces;
    uint64_t piece_length[ENVELOPE_MAX_PIECES]; /* ciphertext */
    uint8_t *manifest;                          /* ciphertext */
    size_t manifest_len;
    uint8_t *form; /* daemon/messages.h; NULL until it is made */
    size_t form_len;
    bool has_upload;
    uint8_t upload[ID_SIZE];
    int body_fd, parts_fd; /* ciphertext of the pieces; -1 */
};

/* Fresh keys and id. NULL: no memory. */
struct letter *letter_new(void);
/* Wipes, closes; NULL is fine. */
void letter_free(struct letter *l);

/* Once each, the case of letters aside; *index: which one. SP_ERR_LIMIT, SP_ERR_MEMORY. */
enum sp_err letter_recipient(struct letter *l, const char *address, uint32_t *index);
/* Adds a user, or finds the one that is there, whose key it then replaces. */
enum sp_err letter_reader(struct letter *l, const uint8_t user_id[ID_SIZE], uint32_t generation,
                          const uint8_t puk_pk[KEY_SIZE], struct reader **out);
enum sp_err letter_leads_to(struct reader *r, uint32_t recipient);
/* Some recipient is outside: makes the relay box's key pair, its private key sealed for the keeper
 * and forgotten. */
enum sp_err letter_relay(struct letter *l, const uint8_t keeper_pk[KEY_SIZE]);

/* The same by links: one for each recipient outside, with a password of its own that is sealed for
 * the keeper. SP_ERR_LIMIT: more than LETTER_MAX_LINKS. */
enum sp_err letter_links(struct letter *l, const uint8_t keeper_pk[KEY_SIZE], uint64_t lifetime);
/* They end `lifetime` seconds from now on. */
void letter_renew(struct letter *l);
/* Whether the appliance gets a key to this mail. */
bool letter_server_access(const struct letter *l);

/* The comma-separated addresses of hidden recipients (FORMAT.md 4.3); free() it. NULL: no memory.
 */
char *letter_bcc(const struct letter *l);

#endif
