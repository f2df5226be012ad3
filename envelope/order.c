/* What a sender's device says of whom its mail goes to, and how others check it. The signer is the
 * client; the store verifies a form that came through web, a delivery what came through the store.
 */
#include "envelope/order.h"
#include "envelope/wire.h"

#include <sodium.h>
#include <stdbool.h>

#define FORM_CONTEXT  "sealpost/1 form"
#define RELAY_CONTEXT "sealpost/1 relay order"
#define LINK_CONTEXT  "sealpost/1 link order"

#define FORM_TEXT (2u + sizeof(FORM_CONTEXT) - 1u + ID_SIZE + HASH_SIZE)
#define TEXT_MAX  (64u + ID_SIZE + HASH_SIZE + KEY_SIZE + 3u * (2u + ORDER_TEXT))

static enum sp_err form_text(const uint8_t upload_id[ID_SIZE], const uint8_t *form, size_t len,
                             uint8_t out[FORM_TEXT])
{
    uint8_t hash[HASH_SIZE];
    struct wire_out w = wire_out(out, FORM_TEXT);
    enum sp_err err = keys_sha256(form, len, hash);
    wire_put_str(&w, FORM_CONTEXT);
    wire_put_bytes(&w, upload_id, ID_SIZE);
    wire_put_bytes(&w, hash, sizeof(hash));
    return err == SP_OK && w.len != FORM_TEXT ? SP_ERR_LIMIT : err;
}

enum sp_err order_sign_form(const uint8_t sign_sk[64], const uint8_t upload_id[ID_SIZE],
                            const uint8_t *form, size_t form_len, uint8_t signature[SIGN_SIZE])
{
    uint8_t text[FORM_TEXT];
    enum sp_err err = form_text(upload_id, form, form_len, text);
    if (err == SP_OK && crypto_sign_detached(signature, NULL, text, sizeof(text), sign_sk) != 0)
        err = SP_ERR_CRYPTO;
    return err;
}

enum sp_err order_verify_form(const uint8_t sign_pk[KEY_SIZE], const uint8_t upload_id[ID_SIZE],
                              const uint8_t *form, size_t form_len,
                              const uint8_t signature[SIGN_SIZE])
{
    uint8_t text[FORM_TEXT];
    enum sp_err err = form_text(upload_id, form, form_len, text);
    if (err == SP_OK && crypto_sign_verify_detached(signature, text, sizeof(text), sign_pk) != 0)
        err = SP_ERR_AUTH;
    return err;
}

static void put_text(struct wire_out *w, const struct order_text *text)
{
    wire_put_b16(w, text->bytes, text->len);
}

/* The bytes that are signed, or that the password's HMAC covers. */
static enum sp_err order_text(const struct order *o, bool link, uint8_t out[TEXT_MAX], size_t *len)
{
    struct wire_out w = wire_out(out, TEXT_MAX);
    *len = 0;
    if (o->mail_from.len > ORDER_TEXT || o->address.len > ORDER_TEXT ||
        (link && o->subject.len > ORDER_TEXT))
        return SP_ERR_LIMIT;
    wire_put_str(&w, link ? LINK_CONTEXT : RELAY_CONTEXT);
    if (link)
        wire_put_bytes(&w, o->link_id, ID_SIZE);
    wire_put_bytes(&w, o->digest, HASH_SIZE);
    if (link)
        wire_put_u64(&w, o->expiry);
    else
        wire_put_bytes(&w, o->report_pk, KEY_SIZE);
    put_text(&w, &o->mail_from);
    put_text(&w, &o->address);
    if (link)
        put_text(&w, &o->subject);
    *len = w.len;
    return wire_out_ok(&w) ? SP_OK : SP_ERR_LIMIT;
}

enum sp_err order_sign(const uint8_t sign_sk[64], const struct order *o,
                       uint8_t signature[SIGN_SIZE])
{
    uint8_t text[TEXT_MAX];
    size_t len;
    enum sp_err err = order_text(o, false, text, &len);
    if (err == SP_OK && crypto_sign_detached(signature, NULL, text, len, sign_sk) != 0)
        err = SP_ERR_CRYPTO;
    return err;
}

enum sp_err order_verify(const uint8_t sign_pk[KEY_SIZE], const struct order *o,
                         const uint8_t signature[SIGN_SIZE])
{
    uint8_t text[TEXT_MAX];
    size_t len;
    enum sp_err err = order_text(o, false, text, &len);
    if (err == SP_OK && crypto_sign_verify_detached(signature, text, len, sign_pk) != 0)
        err = SP_ERR_AUTH;
    return err;
}

enum sp_err order_mac(const uint8_t password[KEY_SIZE], const struct order *o,
                      uint8_t mac[HASH_SIZE])
{
    uint8_t text[TEXT_MAX];
    size_t len;
    enum sp_err err = order_text(o, true, text, &len);
    return err == SP_OK ? keys_hmac(password, text, len, mac) : err;
}

enum sp_err order_verify_mac(const uint8_t password[KEY_SIZE], const struct order *o,
                             const uint8_t mac[HASH_SIZE])
{
    uint8_t ours[HASH_SIZE];
    enum sp_err err = order_mac(password, o, ours);
    if (err == SP_OK && sodium_memcmp(ours, mac, HASH_SIZE) != 0)
        err = SP_ERR_AUTH;
    sodium_memzero(ours, sizeof(ours));
    return err;
}
