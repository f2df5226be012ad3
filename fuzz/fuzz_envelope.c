/* libs: -lcrypto -lsodium */
/* The first byte says what follows: an envelope or a box. What is taken encodes to the same bytes;
 * a box of strange making opens with nothing, against an envelope of our own. */
#include "envelope/box.c"
#include "envelope/cake.c"
#include "envelope/envelope.c"
#include "envelope/keys.c"
#include "envelope/wire.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void try_envelope(const uint8_t *data, size_t size)
{
    static uint8_t again[ENVELOPE_SIZE(ENVELOPE_MAX_PIECES, MANIFEST_SEALED_MAX)];
    uint8_t hash[HASH_SIZE];
    struct envelope e;
    size_t len = 0;
    if (envelope_decode(data, size, &e) != SP_OK) {
        require(sodium_is_zero((const uint8_t *)&e, sizeof(e)));
        return;
    }
    require(e.n_pieces >= 1 && e.n_pieces <= ENVELOPE_MAX_PIECES);
    require(e.manifest >= data && e.manifest + e.manifest_len == data + size);
    require(envelope_encode(&e, again, sizeof(again), &len) == SP_OK);
    require(len == size && memcmp(again, data, size) == 0);
    require(envelope_manifest_hash(&e, hash) == SP_OK);
}

static void try_box(const uint8_t *data, size_t size)
{
    static const uint8_t secret[KEY_SIZE] = {8}, manifest_hash[HASH_SIZE];
    struct envelope e = {.suite = ENVELOPE_SUITE_X25519, .ephemeral_pk = {9}};
    uint8_t again[BOX_MAX], key[KEY_SIZE];
    struct box b;
    size_t len = 0;
    if (box_decode(data, size, &b) != SP_OK) {
        require(sodium_is_zero((const uint8_t *)&b, sizeof(b)));
        return;
    }
    require(box_encode(&b, again, sizeof(again), &len) == SP_OK);
    require(len == size && memcmp(again, data, size) == 0);
    for (int from_user = 0; from_user < 2; from_user++) {
        e.from_user = from_user;
        require(box_open(&e, manifest_hash, &b, secret, key) != SP_OK);
        require(sodium_is_zero(key, sizeof(key)));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] == 'E')
        try_envelope(data + 1, size - 1);
    else
        try_box(data + 1, size - 1);
    return 0;
}
