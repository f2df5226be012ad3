/* UTF-8 for names out of hostile mail and commands. Trusts neither side: every byte is checked. */
#include "envelope/utf8.h"

static uint32_t tail(const uint8_t *s, size_t n, uint32_t c)
{
    for (size_t i = 1; i <= n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return UTF8_BAD;
        c = c << 6 | (s[i] & 0x3fu);
    }
    return c;
}

uint32_t utf8_get(const uint8_t *s, size_t len, size_t *used)
{
    /* By bytes in the tail: the least code point that needs them (RFC 3629 section 3). */
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    const uint8_t b = s[0];
    size_t n = 0;

    *used = 1;
    if (b < 0x80)
        return b;
    if (b < 0xc2 || b > 0xf4)
        return UTF8_BAD;
    n = b < 0xe0 ? 1 : b < 0xf0 ? 2 : 3;
    if (len < n + 1)
        return UTF8_BAD;
    const uint32_t c = tail(s, n, b & (0x3fu >> n));
    if (c == UTF8_BAD || c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return UTF8_BAD;
    *used = n + 1;
    return c;
}

size_t utf8_put(uint32_t c, uint8_t out[4])
{
    static const uint8_t mark[] = {0, 0, 0xc0, 0xe0, 0xf0};
    const size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

    if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (uint8_t)(0x80 | (c & 0x3f));
    out[0] = (uint8_t)(mark[n] | c);
    return n;
}

bool utf8_is_text(const uint8_t *s, size_t len)
{
    for (size_t i = 0, used = 0; i < len; i += used) {
        const uint32_t c = utf8_get(s + i, len - i, &used);
        if (c == UTF8_BAD || c < 0x20 || (c >= 0x7f && c <= 0x9f))
            return false;
    }
    return true;
}
