/* libs: -lsodium -lcrypto */
/* The plaintext of a sent copy, as if somebody had the key that seals it: what decodes is within
 * its bounds. */
#include "client/sent.c"
#include "envelope/box.c"
#include "envelope/cake.c"
#include "envelope/envelope.c"
#include "envelope/keys.c"
#include "envelope/wire.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

void *secret_alloc(size_t size)
{
    return calloc(1, size);
}
void secret_free(void *at)
{
    free(at);
}
void lockmem_wipe(void *at, size_t len)
{
    memset(at, 0, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct envelope e = {.suite = ENVELOPE_SUITE_X25519};
    struct sent s = {.n = 0};
    if (decode(data, size, &e, &s) == SP_OK)
        abort(); /* a signature would have to verify */
    for (uint32_t i = 0; i < s.n; i++) {
        for (uint32_t a = 0; s.box[i].address != NULL && a < s.box[i].n; a++) {
            if (strlen(s.box[i].address[a]) > ADDRLIST_MAX)
                abort();
        }
    }
    sent_free(&s);
    return 0;
}
