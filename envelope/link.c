/* Links to a mail for someone outside, and the gate in front of it (FORMAT.md section 6). A link
 * that is parsed was typed or pasted by anyone; one that is made holds a password. */
#include "envelope/link.h"

#include <sodium.h>
#include <stdbool.h>
#include <string.h>

#define B64U_VARIANT sodium_base64_VARIANT_URLSAFE_NO_PADDING
#define ID_TEXT      B64U_LEN(ID_SIZE)
#define KEY_TEXT     B64U_LEN(KEY_SIZE)
#define FRAGMENT     (KEY_TEXT + 1u + KEY_TEXT) /* password "." digest */

void b64u_encode(const uint8_t *in, size_t len, char *out)
{
    sodium_bin2base64(out, B64U_LEN(len) + 1, in, len, B64U_VARIANT); /* in constant time */
}

/* libsodium 1.0.18 computes with the character as a signed number, and takes some bytes above 0x7f
 * for digits. Looks at all bytes alike, since they may be a secret's. */
static bool is_ascii(const char *s, size_t len)
{
    unsigned all = 0;
    for (size_t i = 0; i < len; i++)
        all |= (uint8_t)s[i];
    return all < 0x80;
}

enum sp_err b64u_decode(const char *in, size_t len, uint8_t *out, size_t out_len)
{
    size_t got = 0;
    /* libsodium refuses stray bits, padding, and (as it is given no place to report an early end)
     * any other character. */
    if (len == B64U_LEN(out_len) && is_ascii(in, len) &&
        sodium_base642bin(out, out_len, in, len, NULL, &got, NULL, B64U_VARIANT) == 0 &&
        got == out_len)
        return SP_OK;
    sodium_memzero(out, out_len);
    return SP_ERR_FORMAT;
}

/* An http or https URL with a host, without query, fragment, user or trailing slash (RFC 3986). */
static bool base_ok(const char *base, size_t len)
{
    static const char *const schemes[] = {"https://", "http://"};
    size_t host = 0;
    for (size_t i = 0; i < 2 && host == 0; i++) {
        if (strncmp(base, schemes[i], strlen(schemes[i])) == 0)
            host = strlen(schemes[i]);
    }
    if (host == 0 || len <= host || base[host] == '/' || base[len - 1] == '/')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (base[i] <= 0x20 || base[i] >= 0x7f || strchr("?#@\"<>\\^`{|}", base[i]) != NULL)
            return false;
    }
    return true;
}

enum sp_err link_format(const char *base_url, const struct link *l, char *out, size_t cap)
{
    size_t base = strlen(base_url);
    if (cap > 0)
        out[0] = 0;
    if (!base_ok(base_url, base))
        return SP_ERR_FORMAT;
    if (cap < base + 3 + ID_TEXT + 1 + FRAGMENT + 1)
        return SP_ERR_LIMIT;
    memcpy(out, base_url, base);
    out += base;
    memcpy(out, "/m/", 3);
    b64u_encode(l->id, ID_SIZE, out + 3);
    out += 3 + ID_TEXT;
    *out++ = '#';
    b64u_encode(l->password, KEY_SIZE, out);
    out += KEY_TEXT;
    *out++ = '.';
    b64u_encode(l->digest, HASH_SIZE, out);
    return SP_OK;
}

/* "<id>#<password>.<digest>", its length known to be right. */
static enum sp_err parse_tail(const char *s, struct link *l)
{
    const char *password = s + ID_TEXT + 1;
    const char *digest = password + KEY_TEXT + 1;
    if (s[ID_TEXT] != '#' || password[KEY_TEXT] != '.')
        return SP_ERR_FORMAT;
    enum sp_err err = b64u_decode(s, ID_TEXT, l->id, ID_SIZE);
    if (err == SP_OK)
        err = b64u_decode(password, KEY_TEXT, l->password, KEY_SIZE);
    if (err == SP_OK)
        err = b64u_decode(digest, KEY_TEXT, l->digest, HASH_SIZE);
    return err;
}

enum sp_err link_parse(const char *text, struct link *l, char *base_url, size_t cap)
{
    const size_t tail = ID_TEXT + 1 + FRAGMENT;
    size_t len = strnlen(text, LINK_TEXT_MAX);
    memset(l, 0, sizeof(*l));
    if (cap > 0)
        base_url[0] = 0;
    if (len >= LINK_TEXT_MAX)
        return SP_ERR_LIMIT;
    if (len < 3 + tail)
        return SP_ERR_FORMAT;
    /* From the end: all behind the base has a fixed length. */
    size_t base = len - tail - 3;
    if (memcmp(text + base, "/m/", 3) != 0 || !base_ok(text, base))
        return SP_ERR_FORMAT;
    if (base >= cap)
        return SP_ERR_LIMIT;
    enum sp_err err = parse_tail(text + base + 3, l);
    if (err != SP_OK) {
        sodium_memzero(l, sizeof(*l));
        return err;
    }
    memcpy(base_url, text, base);
    base_url[base] = 0;
    return SP_OK;
}

enum sp_err link_gate(const uint8_t password[KEY_SIZE], uint8_t gate[HASH_SIZE])
{
    static const char label[] = "sealpost/1 gate";
    return keys_hmac(password, label, sizeof(label) - 1, gate);
}
