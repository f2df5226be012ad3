/* A message on its way through DKIM: its header taken apart, its body hashed, what matters about it
 * noted. The message is the sender's; nothing here trusts its form. */
#include "daemon/relay/dkim.h"
#include "sandbox/lockmem.h"

#include <openssl/evp.h>
#include <string.h>

/* Where in the message the next octet stands. */
enum state {
    LINE,  /* at the start of a line of the header */
    NAME,  /* in a field's name */
    BLANK, /* behind it, before the colon (RFC 5322 4.5) */
    VALUE,
    VALUE_CR, /* a CR in the value */
    LAST_CR,  /* a CR at the start of a line: the header ends */
    BODY,
};

static const char *const signed_names[] = {
    "from",       "sender",       "to",           "cc",
    "subject",    "date",         "message-id",   "in-reply-to",
    "references", "mime-version", "content-type", "content-transfer-encoding",
    "reply-to",
};

static void hash_run(void *ctx, const void *bytes, size_t len)
{
    struct dkim *k = ctx;
    if (EVP_DigestUpdate(k->sha, bytes, len) != 1)
        k->failed = true;
}

enum sp_err dkim_begin(struct dkim *k)
{
    memset(k, 0, offsetof(struct dkim, fields)); /* fields[used..) is never read */
    canon_body_init(&k->body, hash_run, k);
    k->sha = EVP_MD_CTX_new();
    if (k->sha == NULL)
        return SP_ERR_MEMORY;
    return EVP_DigestInit_ex(k->sha, EVP_sha256(), NULL) == 1 ? SP_OK : SP_ERR_CRYPTO;
}

void dkim_skip_body(struct dkim *k)
{
    k->unsigned_body = true;
}

void dkim_free(struct dkim *k)
{
    size_t used = k->most < sizeof(k->fields) ? k->most : sizeof(k->fields);
    EVP_MD_CTX_free(k->sha);
    lockmem_wipe(k->fields, used);
    lockmem_wipe(k, offsetof(struct dkim, fields));
}

/* --- the header --- */

static bool spans(const char *text, size_t len, const char *set)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] == '\0' || strchr(set, text[i]) == NULL)
            return false;
    return true;
}

static bool is_signed(const char *name, size_t len)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
    if (len > 5 && memcmp(name, "list-", 5) == 0)
        return spans(name, len, plain); /* a ';' would end h= */
    for (size_t i = 0; i < sizeof(signed_names) / sizeof(signed_names[0]); i++)
        if (strlen(signed_names[i]) == len && memcmp(name, signed_names[i], len) == 0)
            return true;
    return false;
}

/* What does not fit is dropped with its field; others that follow may fit. */
static void put(struct dkim *k, char ch)
{
    if (!k->keep)
        return;
    if (k->used < sizeof(k->fields)) {
        k->fields[k->used++] = ch;
        k->most = k->used > k->most ? k->used : k->most;
        return;
    }
    k->keep = false;
    k->used = k->field;
    k->facts.too_large = true;
}

/* The colon: is this field wanted? */
static void end_name(struct dkim *k)
{
    size_t len = k->name_len;
    k->facts.from += len == 4 && memcmp(k->name, "from", 4) == 0;
    k->facts.sender += len == 6 && memcmp(k->name, "sender", 6) == 0;
    k->field = k->used;
    k->keep = len <= sizeof(k->name) && is_signed(k->name, len);
    for (size_t i = 0; i < len && k->keep; i++)
        put(k, k->name[i]);
    put(k, ':');
    k->state = VALUE;
}

static void end_field(struct dkim *k)
{
    char *at = k->fields + k->field;
    if (!k->keep)
        return;
    k->keep = false;
    size_t len = canon_field(at, k->used - k->field, at);
    lockmem_wipe(at + len, k->used - k->field - len);
    k->used = k->field;
    if (strncmp(at, "from:", 5) == 0)
        from_parse(at + 5, len - 5, k->from);
    if (strncmp(at, "sender:", 7) == 0)
        from_parse(at + 7, len - 7, k->sender);
    if (k->count == DKIM_COUNT) {
        k->facts.too_large = true;
        return;
    }
    k->kept[k->count].at = (uint16_t)k->field;
    k->kept[k->count].len = (uint16_t)len;
    k->count++;
    k->used += len;
}

static bool is_name(uint8_t byte)
{
    return byte > ' ' && byte < 0x7f && byte != ':';
}

static void add_to_name(struct dkim *k, uint8_t byte)
{
    char ch = (char)(byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte);
    if (k->name_len < sizeof(k->name))
        k->name[k->name_len] = ch;
    if (k->name_len <= sizeof(k->name))
        k->name_len++; /* one more than fits: too long */
}

static void malformed(struct dkim *k)
{
    end_field(k);
    k->facts.malformed = true;
    k->state = BODY;
}

static void at_line(struct dkim *k, uint8_t byte)
{
    bool blank = byte == ' ' || byte == '\t';
    if (blank && k->facts.header_size > 0) {
        put(k, (char)byte);
        k->state = VALUE;
    } else if (byte == '\r') {
        end_field(k);
        k->state = LAST_CR;
    } else if (is_name(byte)) {
        end_field(k);
        k->name_len = 0;
        add_to_name(k, byte);
        k->state = NAME;
    } else {
        malformed(k);
    }
}

static void in_header(struct dkim *k, uint8_t byte)
{
    bool blank = byte == ' ' || byte == '\t';
    switch ((enum state)k->state) {
    case LINE:
        at_line(k, byte);
        break;
    case NAME:
    case BLANK:
        if (byte == ':')
            end_name(k);
        else if (blank)
            k->state = BLANK;
        else if (k->state == NAME && is_name(byte))
            add_to_name(k, byte);
        else
            malformed(k);
        break;
    case VALUE:
    case VALUE_CR:
        put(k, (char)byte);
        if (k->state == VALUE_CR && byte == '\n')
            k->state = LINE;
        else
            k->state = byte == '\r' ? VALUE_CR : VALUE;
        break;
    case LAST_CR:
        if (byte == '\n')
            k->state = BODY;
        else
            malformed(k);
        break;
    case BODY:
        break;
    }
    k->facts.header_size++;
    k->facts.header_utf8 |= byte >= 0x80;
}

enum sp_err dkim_push(struct dkim *k, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    if (k->ended)
        return SP_ERR_STATE;
    k->facts.size += len;
    octets_look(&k->octets, at, len);
    for (; len > 0 && k->state != BODY; len--)
        in_header(k, *at++);
    if (!k->unsigned_body)
        canon_body_push(&k->body, at, len);
    return k->failed ? SP_ERR_CRYPTO : SP_OK;
}

enum sp_err dkim_end(struct dkim *k)
{
    if (k->ended)
        return SP_ERR_STATE;
    k->ended = true;
    if (k->state == NAME || k->state == BLANK || k->state == LAST_CR)
        malformed(k);
    end_field(k);
    k->facts.bare = k->octets.bare || k->octets.last == '\r';
    k->facts.nul = k->octets.nul;
    k->facts.eight_bit = k->octets.high;
    k->facts.unfinished = k->facts.size > 0 && k->octets.last != '\n';
    canon_body_end(&k->body);
    if (k->failed || EVP_DigestFinal_ex(k->sha, k->body_hash, NULL) != 1)
        return SP_ERR_CRYPTO;
    return SP_OK;
}

/* The address of a field that stands there n times. */
static enum sp_err only_address(const struct dkim *k, unsigned n, const char *address,
                                char out[FROM_MAX])
{
    out[0] = '\0';
    if (!k->ended || n != 1 || k->facts.malformed || address[0] == '\0')
        return SP_ERR_FORMAT;
    memcpy(out, address, FROM_MAX);
    return SP_OK;
}

enum sp_err dkim_from(const struct dkim *k, char out[FROM_MAX])
{
    return only_address(k, k->facts.from, k->from, out);
}

enum sp_err dkim_sender(const struct dkim *k, char out[FROM_MAX])
{
    enum sp_err err = only_address(k, k->facts.sender, k->sender, out);
    bool none = k->ended && !k->facts.malformed && k->facts.sender == 0;
    return none ? SP_ERR_NOT_FOUND : err;
}
