/* libs: -lcrypto -lsodium */
/* Any manifest that is taken obeys the rules and encodes to the same bytes; any other leaves
 * nothing. */
#include "envelope/manifest.c"
#include "envelope/utf8.c"
#include "envelope/wire.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct piece pieces[MANIFEST_MAX_PIECES];
    static uint8_t again[MANIFEST_MAX];
    struct manifest m;
    size_t len = 0;
    if (manifest_decode(data, size, pieces, &m) != SP_OK) {
        require(sodium_is_zero((const uint8_t *)&m, sizeof(m)));
        require(sodium_is_zero((const uint8_t *)pieces, sizeof(pieces)));
        return 0;
    }
    require(m.n_pieces >= 1 && m.n_pieces <= MANIFEST_MAX_PIECES && m.pieces == pieces);
    for (uint32_t i = 1; i < m.n_pieces; i++) {
        require(pieces[i].splice_at >= pieces[i - 1].splice_at);
        require(pieces[i].splice_at <= pieces[0].length);
    }
    require(manifest_encode(&m, again, sizeof(again), &len) == SP_OK);
    require(len == size && memcmp(again, data, size) == 0);
    return 0;
}
