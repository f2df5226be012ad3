/* libs: -lcrypto -lsodium */
/* open(seal(x)) = x; any flipped bit is refused; and chunks of strange making do not open, even
 * behind a header that is good. The first four bytes choose the bit, and how often x is repeated,
 * so that short inputs reach the borders of chunks. */
#include "envelope/cake.c"
#include "envelope/wire.c"

#include <stdlib.h>

#define TEXT_MAX (3u * CAKE_CHUNK)

static const uint8_t key[CAKE_KEY] = {1, 2, 3};
static const uint8_t nonce[CAKE_NONCE] = {4, 5, 6};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* Nothing comes out of what does not open. */
static void refused(const uint8_t *sealed, size_t len)
{
    static uint8_t out[TEXT_MAX + CAKE_CHUNK];
    uint64_t n = 0;
    size_t got = 1;
    require(cake_open(key, sealed, len, out, sizeof(out), &got) != SP_OK && got == 0);
    if (cake_plain_length(len, &n) == SP_OK && n <= sizeof(out))
        require(sodium_is_zero(out, (size_t)n));
}

static void round_trip(const uint8_t *text, size_t n, uint64_t bit)
{
    static uint8_t sealed[TEXT_MAX + CAKE_HEADER + 4 * CAKE_TAG], opened[TEXT_MAX];
    size_t len = (size_t)cake_sealed_length(n), got = 0;
    uint64_t back = 0;
    require(len <= sizeof(sealed));
    require(cake_plain_length(len, &back) == SP_OK && back == n);
    require(cake_seal(key, nonce, text, n, sealed) == SP_OK);
    require(cake_open(key, sealed, len, opened, n, &got) == SP_OK && got == n);
    require(memcmp(opened, text, n) == 0);
    bit %= len * 8;
    sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    refused(sealed, len);
    sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    refused(sealed, (size_t)(bit / 8)); /* cut off there */
}

static void strange_chunks(const uint8_t *data, size_t size)
{
    static uint8_t sealed[TEXT_MAX];
    struct cake *cake = cake_new();
    require(cake != NULL && size <= sizeof(sealed) - CAKE_HEADER);
    require(cake_seal_begin(cake, key, nonce, sealed) == SP_OK);
    cake_free(cake);
    memcpy(sealed + CAKE_HEADER, data, size);
    refused(sealed, CAKE_HEADER + size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t text[TEXT_MAX];
    struct wire_in w = wire_in(data, size);
    size_t times = wire_get_u16(&w) + 1u, n = 0;
    uint64_t bit = wire_get_u16(&w);
    if (w.bad || w.left > CAKE_CHUNK)
        return 0;
    strange_chunks(w.at, w.left);
    for (; w.left > 0 && times > 0 && n + w.left <= sizeof(text); times--, n += w.left)
        memcpy(text + n, w.at, w.left);
    round_trip(text, n, bit * 7);
    return 0;
}
