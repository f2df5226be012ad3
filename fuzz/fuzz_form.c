/* libs: -lcrypto -lsodium -lidn2 */
/* The form that a client uploads, byte by byte as the store decodes it: whatever it takes must keep
 * what storage/form.h promises. */
#include "envelope/wire.c"
#include "envelope/error.c"
#include "envelope/utf8.c"
#include "envelope/keys.c"
#include "envelope/cake.c"
#include "envelope/envelope.c"
#include "envelope/box.c"
#include "daemon/domain.c"
#include "storage/address.c"
#include "storage/form.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool good)
{
    if (!good)
        abort();
}

static void inside(const uint8_t *data, size_t size, const uint8_t *at, size_t len)
{
    insist(at >= data && len <= size && (size_t)(at - data) <= size - len);
}

static void check_addresses(const struct form *f, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < f->n_outside; i++) {
        const struct store_text *a = &f->outside[i].address;
        inside(data, size, f->outside[i].order, SIGN_SIZE);
        inside(data, size, a->bytes, a->len);
        insist(a->len > 2 && a->len <= FORM_ADDRESS && memchr(a->bytes, '@', a->len) != NULL);
        for (size_t k = 0; k < a->len; k++)
            insist(a->bytes[k] > 0x20 && a->bytes[k] != 0x7f &&
                   strchr("<>\"\\,", a->bytes[k]) == NULL);
        insist(i == 0 || compare(&f->outside[i - 1], &f->outside[i]) < 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MOST = 8 };
    struct form *f;
    if (form_decode(data, size, MOST, &f) != SP_OK) {
        insist(f == NULL);
        return 0;
    }
    insist(f->envelope.from_user && f->n_users + f->n_links + f->n_outside <= MOST + 1);
    insist(strlen(f->mail_from) > 2 && (f->envelope.message_id[6] & 0xf0) == 0x70);
    inside(data, size, f->envelope_bytes, f->envelope_len);
    /* Nothing of it is left out of what is signed but the signature. */
    insist(f->signed_bytes == data && f->signed_len + SIGN_SIZE == size &&
           f->signature == data + f->signed_len);
    inside(data, size, f->sent_copy.bytes, f->sent_copy.len);
    for (size_t i = 0; i < f->n_users; i++) {
        inside(data, size, f->user[i].bytes, f->user[i].len);
        insist(f->user[i].box.kind == BOX_USER);
        for (size_t k = 0; k < i; k++)
            insist(memcmp(f->user[i].box.recipient_id, f->user[k].box.recipient_id, ID_SIZE) != 0);
    }
    for (size_t i = 0; i < f->n_links; i++) {
        inside(data, size, f->link[i].secret, KEYS_SECRET_BOX);
        inside(data, size, f->link[i].gate_hash, HASH_SIZE);
        inside(data, size, f->link[i].order, HASH_SIZE);
        insist(form_address(f->link[i].address.bytes, f->link[i].address.len));
    }
    insist(f->relay == (f->n_outside > 0));
    if (f->relay)
        inside(data, size, f->relay_secret, KEYS_SECRET_BOX);
    check_addresses(f, data, size);
    form_free(f);
    return 0;
}
