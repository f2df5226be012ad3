/* libs: -lcrypto -lsodium */
/* A link that is taken is made again to the same text; any other leaves nothing. */
#include "envelope/keys.c"
#include "envelope/link.c"
#include "envelope/wire.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void try_base64(const char *text, size_t len)
{
    uint8_t bytes[64];
    char again[B64U_LEN(sizeof(bytes)) + 1];
    size_t n = len * 3 / 4;
    if (n > sizeof(bytes) || b64u_decode(text, len, bytes, n) != SP_OK)
        return;
    b64u_encode(bytes, n, again);
    require(strlen(again) == len && memcmp(again, text, len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char base[LINK_TEXT_MAX], again[LINK_TEXT_MAX];
    struct link l;
    char *text = malloc(size + 1);
    if (text == NULL)
        return 0;
    if (size > 0)
        memcpy(text, data, size);
    text[size] = 0;
    try_base64(text, size);
    if (link_parse(text, &l, base, sizeof(base)) == SP_OK) {
        require(link_format(base, &l, again, sizeof(again)) == SP_OK);
        require(strcmp(again, text) == 0);
    } else {
        require(sodium_is_zero((const uint8_t *)&l, sizeof(l)) && base[0] == 0);
    }
    free(text);
    return 0;
}
