#ifndef SEALPOST_CLIENT_FORM_H
#define SEALPOST_CLIENT_FORM_H
/* The form that goes with an upload (daemon/messages.h): envelope, boxes, sent copy. And the sent
 * copy by itself, which only this user can read:
 *
 *   u32 puk_generation || Cake(puk symmetric key,
 *       "SPST" u8 version=1 || b32 bcc_header || commitment_key[32]
 *       || u16 n, n x (u8 kind, b16 recipient_id, u32 generation, b16 recipient_pk, b16 context,
 *                      u16 m, m x b16 address)
 *       || recipient list signature[64])                              (FORMAT.md 4.6) */
#include "client/keyfile.h"
#include "client/letter.h"

/* Seals a box for each reader, for each link and for the relay, signs each box and each recipient
 * outside as this device, and puts the form into l->form in place of an older one; its own
 * signature is still to be made. SP_ERR_NO_KEY: no seed of the sender's own generation. */
enum sp_err form_make(struct letter *l, const struct keyring *keys);
/* Signs the form for the letter's upload, for which alone it is good then. SP_ERR_STATE: there is
 * none yet. */
enum sp_err form_sign(struct letter *l, const struct keyring *keys);

/* A sent copy, opened. */
struct sent_box {
    struct box box; /* without `sealed` */
    uint32_t n;
    char (*address)[ADDRLIST_MAX + 1];
};
struct sent {
    char *bcc; /* NUL-terminated */
    uint32_t n;
    struct sent_box *box;
};

/* Opens a sent copy, and checks its list against the envelope of the message: the BCC commitment,
 * and this device's, or sign_pk's, signature over all boxes. SP_ERR_FORMAT, SP_ERR_NO_KEY,
 * SP_ERR_AUTH. sent_free after either result. */
enum sp_err sent_open(const uint8_t *bytes, size_t len, const struct keyring *keys,
                      const struct envelope *e, struct sent *out);
void sent_free(struct sent *s);

#endif
