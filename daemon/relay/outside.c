/* Addresses that mail for the outside is not sent to. They come from the DNS, or from a sender who
 * wrote one; nobody is trusted here but the tables. */
#include "daemon/relay/outside.h"

#include <arpa/inet.h>
#include <string.h>

struct block {
    uint8_t bytes[16];
    unsigned bits;
    const char *what;
};

static const struct block four[] = {
    {{0}, 8, "unspecified"},
    {{10}, 8, "private"},
    {{100, 64}, 10, "shared"}, /* carriers' own, RFC 6598 */
    {{127}, 8, "loopback"},
    {{169, 254}, 16, "link-local"},
    {{172, 16}, 12, "private"},
    {{192, 0, 0}, 24, "reserved"},
    {{192, 0, 2}, 24, "documentation"},
    {{192, 88, 99}, 24, "reserved"},
    {{192, 168}, 16, "private"},
    {{198, 18}, 15, "benchmarking"},
    {{198, 51, 100}, 24, "documentation"},
    {{203, 0, 113}, 24, "documentation"},
    {{224}, 4, "multicast"},
    {{240}, 4, "reserved"},
};

static const struct block six[] = {
    {{[15] = 0}, 128, "unspecified"},
    {{[15] = 1}, 128, "loopback"},
    {{0xfc}, 7, "private"},
    {{0xfe, 0x80}, 10, "link-local"},
    {{0xfe, 0xc0}, 10, "private"}, /* site-local, RFC 3879 */
    {{0xff}, 8, "multicast"},
    {{0x20, 0x01, 0x0d, 0xb8}, 32, "documentation"},
    {{0x3f, 0xff}, 20, "documentation"},
    {{0x20, 0x01, 0}, 23, "reserved"}, /* protocols' own, Teredo among them */
};

/* Where an IPv4 address stands in an IPv6 one. */
static const struct {
    struct block in;
    unsigned at;
} embedded[] = {
    {{{[10] = 0xff, [11] = 0xff}, 96, NULL}, 12}, /* RFC 4291 2.5.5.2 */
    {{{0x00, 0x64, 0xff, 0x9b}, 96, NULL}, 12},   /* NAT64, RFC 6052 */
    {{{0x20, 0x02}, 16, NULL}, 2},                /* 6to4, RFC 3056 */
};

static const struct block global = {{0x20}, 3, NULL};

static bool is_in(const uint8_t *address, const struct block *b)
{
    unsigned whole = b->bits / 8, rest = b->bits % 8;
    if (memcmp(address, b->bytes, whole) != 0)
        return false;
    return rest == 0 || (address[whole] ^ b->bytes[whole]) >> (8 - rest) == 0;
}

static const char *find(const struct block *blocks, size_t n, const uint8_t *address)
{
    for (size_t i = 0; i < n; i++)
        if (is_in(address, &blocks[i]))
            return blocks[i].what;
    return NULL;
}

static const char *not_four(const uint8_t *address)
{
    return find(four, sizeof(four) / sizeof(four[0]), address);
}

const char *outside_not(const uint8_t *bytes, size_t len)
{
    if (len == 4)
        return not_four(bytes);
    if (len != 16)
        return "malformed";
    for (size_t i = 0; i < sizeof(embedded) / sizeof(embedded[0]); i++)
        if (is_in(bytes, &embedded[i].in))
            return not_four(bytes + embedded[i].at);
    const char *what = find(six, sizeof(six) / sizeof(six[0]), bytes);
    return what != NULL || is_in(bytes, &global) ? what : "reserved";
}

bool outside_is_inside(const char *server)
{
    char host[INET6_ADDRSTRLEN] = "";
    uint8_t bytes[16];
    const char *end = server != NULL ? strrchr(server, ':') : NULL;
    if (end == NULL)
        return false;
    bool bracketed = server[0] == '[' && end > server + 1 && end[-1] == ']';
    size_t skip = bracketed ? 1 : 0, len = (size_t)(end - server) - 2 * skip;
    if (len >= sizeof(host))
        return false;
    memcpy(host, server + skip, len);
    return inet_pton(bracketed ? AF_INET6 : AF_INET, host, bytes) == 1 &&
           outside_not(bytes, bracketed ? 16 : 4) != NULL;
}
