/* libs: envelope/[a-z]*.c -lcrypto -lsodium */
/* The appliance's decoders as a filter, for fuzz/page.mjs, which asks the page's decoders the same:
 * frames of kind (E envelope, B box, M manifest), length (u32, big-endian) and bytes on stdin, one
 * '1' (taken) or '0' (refused) for each on stdout. */
#include "envelope/envelope.h"
#include "envelope/manifest.h"
#include "envelope/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX (4u << 20)

static bool taken(char kind, const uint8_t *bytes, size_t len)
{
    static struct piece pieces[MANIFEST_MAX_PIECES];
    struct envelope e;
    struct box b;
    struct manifest m;
    if (kind == 'E')
        return envelope_decode(bytes, len, &e) == SP_OK;
    if (kind == 'B')
        return box_decode(bytes, len, &b) == SP_OK;
    return manifest_decode(bytes, len, pieces, &m) == SP_OK;
}

int main(void)
{
    static uint8_t input[INPUT_MAX];
    uint8_t head[5];
    while (fread(head, 1, sizeof(head), stdin) == sizeof(head)) {
        struct wire_in in = wire_in(head + 1, 4);
        uint32_t len = wire_get_u32(&in);
        if (len > sizeof(input) || fread(input, 1, len, stdin) != len)
            return 1;
        uint8_t *exact = malloc(len > 0 ? len : 1); /* the sanitizer sees a read behind the end */
        if (exact == NULL)
            return 1;
        memcpy(exact, input, len);
        if (putchar(taken((char)head[0], exact, len) ? '1' : '0') == EOF)
            return 1;
        free(exact);
        fflush(stdout);
    }
    return 0;
}
