/* libs: -lcrypto -lsodium */
/* The first byte is 'W': a row of wires, applied to an empty chain; or else a link's type, and what
 * follows is its body, which a device of the chain signs: no signature keeps the fuzzer from what
 * lies behind it. A refusal changes nothing, and what holds of a chain always holds. */
#include "envelope/keys.c"
#include "envelope/sigchain.c"
#include "envelope/wire.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static enum sp_err try_wire(struct sigchain *c, const uint8_t *wire, size_t len)
{
    struct sigchain before;
    char fingerprint[SIGCHAIN_FINGERPRINT];
    memcpy(&before, c, sizeof(before));
    enum sp_err err = sigchain_apply(c, wire, len);
    if (err != SP_OK) {
        require(memcmp(&before, c, sizeof(before)) == 0);
        return err;
    }
    require(c->seq == before.seq + 1 && c->n_devices >= 1 && c->n_devices <= SIGCHAIN_MAX_DEVICES);
    require(c->puk_generation >= before.puk_generation &&
            c->puk_generation <= before.puk_generation + 1);
    require(memchr(c->address, 0, sizeof(c->address)) != NULL);
    sigchain_fingerprint(c, fingerprint);
    require(strlen(fingerprint) == SIGCHAIN_FINGERPRINT - 1);
    return SP_OK;
}

static void try_row(const uint8_t *data, size_t size)
{
    struct sigchain c, again;
    const uint8_t *row = data;
    size_t n = 0;
    sigchain_init(&c);
    sigchain_init(&again);
    while (sigchain_next(data, size, &n) == SP_OK && try_wire(&c, data, n) == SP_OK) {
        data += n;
        size -= n;
    }
    require(sigchain_replay(&again, row, (size_t)(data - row)) == SP_OK);
    require(memcmp(&again, &c, sizeof(c)) == 0);
    (void)sigchain_replay(&again, data, size);
}

static void try_body(uint8_t type, const uint8_t *body, size_t size)
{
    static const uint8_t seed[crypto_sign_SEEDBYTES] = {1}, user_id[ID_SIZE] = {2};
    uint8_t sk[64], wire[SIGCHAIN_MAX_WIRE];
    struct chain_device device = {.id = {3}};
    struct chain_signer by = {device.id, sk, 4};
    struct sigchain c;
    size_t len = 0;
    sigchain_init(&c);
    crypto_sign_seed_keypair(device.sign_pk, sk, seed);
    if (type != CHAIN_ROOT) {
        require(sigchain_make_root(user_id, &by, &device, seed, "a@b", wire, &len) == SP_OK);
        require(try_wire(&c, wire, len) == SP_OK);
    }
    struct wire_out link = begin_link(&c, &by, (enum sigchain_type)type, wire);
    if (type == CHAIN_ROOT)
        wire_put_bytes(&link, device.sign_pk, KEY_SIZE);
    wire_put_bytes(&link, body, size);
    if (end_link(&link, &by, wire, &len) == SP_OK)
        (void)try_wire(&c, wire, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] == 'W')
        try_row(data + 1, size - 1);
    else
        try_body(data[0], data + 1, size - 1);
    return 0;
}
