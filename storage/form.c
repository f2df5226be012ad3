/* Decoder of the form (storage/form.h). The bytes are a client's, by way of web: an enrolled user
 * may have written them by hand to reach other users' mail, other servers' SMTP, or this process.
 */
#include "storage/form.h"
#include "daemon/messages.h"
#include "envelope/utf8.h"
#include "envelope/wire.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FORM_MAGIC   "SPSB"
#define FORM_VERSION 1u
#define LABEL        63u /* bytes of a label; a U-label of that many is refused by DNS later */
#define LOCAL        64u /* RFC 5321 4.5.3.1.1 */
#define DOMAIN       253u

/* --- addresses --- */

static bool is_alnum(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c >= 0x80;
}

/* Words of the given characters with dots between. */
static bool is_dotted(const uint8_t *text, size_t len, const char *others, size_t word_max)
{
    size_t word = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '.') {
            if (word == 0)
                return false;
            word = 0;
            continue;
        }
        if (!is_alnum(text[i]) && (text[i] == '\0' || strchr(others, text[i]) == NULL))
            return false;
        if (++word > word_max)
            return false;
    }
    return word > 0;
}

bool form_address(const uint8_t *text, size_t len)
{
    const uint8_t *at = len > 0 ? memchr(text, '@', len) : NULL;
    if (at == NULL || len > FORM_ADDRESS || !utf8_is_text(text, len))
        return false;
    size_t local = (size_t)(at - text), domain = len - local - 1;
    char normal[STORE_MAX_ADDRESS];
    return store_address(text, len, false, normal) == SP_OK && local <= LOCAL && domain <= DOMAIN &&
           is_dotted(text, local, "!#$%&'*+-/=?^_`{|}~", LOCAL) &&
           is_dotted(at + 1, domain, "-", LABEL) && at[1] != '-' && at[domain] != '-';
}

static struct store_text domain_of(const struct store_text *address)
{
    const uint8_t *at = memchr(address->bytes, '@', address->len);
    return (struct store_text){at, (size_t)(address->bytes + address->len - at)};
}

/* By domain without case, then by local part with it. */
static int compare(const void *left, const void *right)
{
    const struct store_text *a = &((const struct store_outsider *)left)->address,
                            *b = &((const struct store_outsider *)right)->address;
    struct store_text x = domain_of(a), y = domain_of(b);
    size_t n = x.len < y.len ? x.len : y.len;
    int order = strncasecmp((const char *)x.bytes, (const char *)y.bytes, n);
    if (order == 0 && x.len != y.len)
        order = x.len < y.len ? -1 : 1;
    size_t m = a->len - x.len, k = b->len - y.len;
    if (order == 0)
        order = memcmp(a->bytes, b->bytes, m < k ? m : k);
    return order != 0 ? order : (m > k) - (m < k);
}

/* --- boxes --- */

static const uint8_t *get_secret(struct wire_in *in)
{
    size_t len;
    const uint8_t *at = wire_get_b16(in, KEYS_SECRET_BOX, &len);
    if (len != KEYS_SECRET_BOX)
        wire_in_fail(in);
    return at;
}

static void get_address(struct wire_in *in, struct store_text *out)
{
    out->bytes = wire_get_b16(in, FORM_ADDRESS, &out->len);
    if (out->bytes == NULL || !form_address(out->bytes, out->len))
        wire_in_fail(in);
}

static enum sp_err get_relay(struct form *f, struct wire_in *in, const uint8_t *bytes, size_t len,
                             const struct box *box, size_t max)
{
    if (f->relay)
        return SP_ERR_FORMAT;
    f->relay = true;
    f->relay_bytes = bytes;
    f->relay_len = len;
    f->relay_box = *box;
    f->relay_secret = get_secret(in);
    f->n_outside = wire_get_u16(in);
    if (in->bad || f->n_outside == 0)
        return SP_ERR_FORMAT;
    if (f->n_outside > max)
        return SP_ERR_LIMIT;
    f->outside = calloc(f->n_outside, sizeof(*f->outside));
    if (f->outside == NULL)
        return SP_ERR_MEMORY;
    for (size_t i = 0; i < f->n_outside; i++) {
        get_address(in, &f->outside[i].address);
        f->outside[i].order = wire_get_bytes(in, SIGN_SIZE);
    }
    if (in->bad)
        return SP_ERR_FORMAT;
    qsort(f->outside, f->n_outside, sizeof(*f->outside), compare);
    for (size_t i = 1; i < f->n_outside; i++)
        if (compare(&f->outside[i - 1], &f->outside[i]) == 0)
            return SP_ERR_FORMAT;
    return SP_OK;
}

static enum sp_err get_link(struct form_link *l, struct wire_in *in)
{
    l->secret = get_secret(in);
    get_address(in, &l->address);
    l->gate_hash = wire_get_bytes(in, HASH_SIZE);
    l->subject.bytes = wire_get_b16(in, FORM_SUBJECT, &l->subject.len);
    l->order = wire_get_bytes(in, HASH_SIZE);
    return !in->bad && utf8_is_text(l->subject.bytes, l->subject.len) ? SP_OK : SP_ERR_FORMAT;
}

static enum sp_err get_box(struct form *f, struct wire_in *in, size_t max)
{
    size_t len;
    struct box box;
    const uint8_t *bytes = wire_get_b32(in, BOX_MAX, &len);
    if (bytes == NULL || box_decode(bytes, len, &box) != SP_OK)
        return SP_ERR_FORMAT;
    if (box.kind == BOX_RELAY)
        return get_relay(f, in, bytes, len, &box, max);
    if (box.kind == BOX_PASSWORD) {
        f->link[f->n_links] = (struct form_link){.bytes = bytes, .len = len, .box = box};
        return get_link(&f->link[f->n_links++], in);
    }
    for (size_t i = 0; i < f->n_users; i++)
        if (memcmp(f->user[i].box.recipient_id, box.recipient_id, ID_SIZE) == 0)
            return SP_ERR_FORMAT;
    f->user[f->n_users++] = (struct form_user){bytes, len, box};
    return SP_OK;
}

/* --- the whole --- */

static bool is_uuid7(const uint8_t id[ID_SIZE])
{
    return (id[6] & 0xf0) == 0x70 && (id[8] & 0xc0) == 0x80;
}

static enum sp_err get_start(struct form *f, struct wire_in *in)
{
    size_t len;
    const uint8_t *magic = wire_get_bytes(in, 4);
    uint8_t version = wire_get_u8(in);
    f->envelope_bytes = wire_get_b32(in, FORM_MAX, &f->envelope_len);
    f->sent_copy.bytes = wire_get_b32(in, SENT_MAX, &f->sent_copy.len);
    const uint8_t *from = wire_get_b16(in, STORE_MAX_ADDRESS, &len);
    if (in->bad || memcmp(magic, FORM_MAGIC, 4) != 0 || version != FORM_VERSION ||
        f->sent_copy.len < FORM_SENT_MIN)
        return SP_ERR_FORMAT;
    if (envelope_decode(f->envelope_bytes, f->envelope_len, &f->envelope) != SP_OK ||
        !f->envelope.from_user || !is_uuid7(f->envelope.message_id))
        return SP_ERR_FORMAT;
    if (store_address(from, len, false, f->mail_from) != SP_OK || !form_address(from, len))
        return SP_ERR_FORMAT;
    memcpy(f->mail_from_text, from, len);
    return SP_OK;
}

static enum sp_err decode(struct form *f, struct wire_in *in, size_t max)
{
    f->signed_bytes = in->at;
    enum sp_err err = get_start(f, in);
    size_t n = wire_get_u16(in);
    if (err != SP_OK || in->bad || n == 0)
        return SP_ERR_FORMAT;
    if (n > FORM_BOXES)
        return SP_ERR_LIMIT;
    f->user = calloc(n, sizeof(*f->user));
    f->link = calloc(n, sizeof(*f->link));
    if (f->user == NULL || f->link == NULL)
        return SP_ERR_MEMORY;
    for (size_t i = 0; err == SP_OK && i < n; i++)
        err = get_box(f, in, max);
    if (err != SP_OK)
        return err;
    f->signed_len = (size_t)(in->at - f->signed_bytes);
    f->signature = wire_get_bytes(in, SIGN_SIZE);
    if (!wire_in_done(in))
        return SP_ERR_FORMAT;
    return f->n_users + f->n_links + f->n_outside <= max + 1 ? SP_OK : SP_ERR_LIMIT;
}

enum sp_err form_decode(const uint8_t *bytes, size_t len, size_t max_recipients, struct form **out)
{
    struct wire_in in = wire_in(bytes, len);
    struct form *f = calloc(1, sizeof(*f));
    *out = NULL;
    if (f == NULL)
        return SP_ERR_MEMORY;
    enum sp_err err = len <= FORM_MAX ? decode(f, &in, max_recipients) : SP_ERR_FORMAT;
    if (err != SP_OK) {
        form_free(f);
        return err;
    }
    *out = f;
    return SP_OK;
}

void form_free(struct form *f)
{
    if (f == NULL)
        return;
    free(f->user);
    free(f->link);
    free(f->outside);
    free(f);
}
