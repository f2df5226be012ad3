/* Octets of a mail, many at a time. The mail is its sender's, who may have written anything;
 * nothing is read outside what the caller names. */
#include "daemon/relay/octets.h"

#include <string.h>

#define AT_ONCE 16u

/* The compiler makes of it what the processor has; a comparison gives all ones where it holds. */
typedef uint8_t block __attribute__((vector_size(AT_ONCE)));

static block load(const uint8_t *at)
{
    block b;
    memcpy(&b, at, sizeof(b));
    return b;
}

static bool any(block b)
{
    uint64_t half[2];
    memcpy(half, &b, sizeof(half));
    return (half[0] | half[1]) != 0;
}

static bool is_split(uint8_t octet, uint8_t next)
{
    return (octet == '\r') != (next == '\n');
}

void octets_look(struct octets *o, const uint8_t *at, size_t len)
{
    block bare = {0}, nul = {0}, high = {0};
    size_t i = 0;
    if (len == 0)
        return;
    o->bare |= is_split(o->last, at[0]);
    for (; i + AT_ONCE < len; i += AT_ONCE) {
        block octet = load(at + i), next = load(at + i + 1);
        bare |= (block)(octet == '\r') ^ (block)(next == '\n');
        nul |= (block)(octet == 0);
        high |= octet;
    }
    o->bare |= any(bare);
    o->nul |= any(nul);
    o->high |= any(high & 0x80);
    for (; i < len; i++) {
        o->bare |= i + 1 < len && is_split(at[i], at[i + 1]);
        o->nul |= at[i] == 0;
        o->high |= at[i] >= 0x80;
    }
    o->last = at[len - 1];
}

size_t octets_dot(const uint8_t *at, size_t len)
{
    size_t i = 0;
    for (; i + AT_ONCE < len; i += AT_ONCE)
        if (any((block)(load(at + i) == '\n') & (block)(load(at + i + 1) == '.')))
            break;
    for (; i + 1 < len; i++)
        if (at[i] == '\n' && at[i + 1] == '.')
            return i + 1;
    return len;
}

/* Blanks become one, those at a line's end and empty lines at the body's end go: all that could
 * begin such a place, and a CR that stands alone. */
static bool is_changed(uint8_t octet, uint8_t next)
{
    return octet == '\t' || (octet == ' ' && (next == ' ' || next == '\t' || next == '\r')) ||
           (octet == '\r' && next != '\n') || (octet == '\n' && next == '\r');
}

static bool are_changed(block octet, block next)
{
    block behind_space = (block)(next == ' ') | (block)(next == '\t') | (block)(next == '\r');
    return any((block)(octet == '\t') | ((block)(octet == ' ') & behind_space) |
               ((block)(octet == '\r') & (block)(next != '\n')) |
               ((block)(octet == '\n') & (block)(next == '\r')));
}

static bool may_be_dropped(uint8_t octet)
{
    return octet == ' ' || octet == '\t' || octet == '\r' || octet == '\n';
}

size_t octets_canonical(const uint8_t *at, size_t len)
{
    size_t n = 0;
    while (n + AT_ONCE < len && !are_changed(load(at + n), load(at + n + 1)))
        n += AT_ONCE;
    while (n + 1 < len && !is_changed(at[n], at[n + 1]))
        n++;
    while (n > 0 && may_be_dropped(at[n - 1]))
        n--;
    return n;
}
