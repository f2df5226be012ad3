/* libs: */
/* A part's header, its encoded bytes in two cuts, and its name: what is written fits, and a name is
 * a plain file's. */
#include "client/part.c"
#include "envelope/utf8.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t decode(enum part_encoding encoding, const uint8_t *data, size_t size, size_t cut,
                     uint8_t *out)
{
    struct part_decoder d = {.encoding = encoding};
    size_t n = part_decode(&d, data, cut, out);
    if (n > cut + 2)
        abort();
    n += part_decode(&d, data + cut, size - cut, out + n);
    return n + part_decode_end(&d, out + n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[PART_NAME];
    uint8_t *whole = malloc(size + 4), *cut = malloc(size + 4);
    if (whole == NULL || cut == NULL)
        abort();
    part_encoding(data, size);
    for (int e = PART_IDENTITY; e <= PART_QUOTED; e++) {
        size_t n = decode((enum part_encoding)e, data, size, 0, whole);
        size_t at = size > 0 ? data[0] % (size + 1) : 0;
        if (n > size || decode((enum part_encoding)e, data, size, at, cut) != n ||
            memcmp(whole, cut, n) != 0)
            abort();
    }
    if (part_name(data, size, name) &&
        (name[0] == '.' || name[0] == '-' || strpbrk(name, "/\\") != NULL ||
         !utf8_is_text((const uint8_t *)name, strlen(name))))
        abort();
    free(whole);
    free(cut);
    return 0;
}
