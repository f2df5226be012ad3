/* libs: -ljansson */
/* The server's JSON list of messages: whatever is taken from it keeps what mailpage.h promises. */
#include "client/mailpage.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mail page[MAIL_PAGE];
    uint32_t n;
    bool more;
    uint64_t after = 3;
    if (mailpage_read(data, size, after, page, &n, &more) != SP_OK) {
        if (n != 0 || more)
            abort();
        return 0;
    }
    if (n > MAIL_PAGE || (more && n == 0))
        abort();
    for (uint32_t i = 0; i < n; i++) {
        if (page[i].seq <= after || page[i].seq > INT64_MAX ||
            strspn(page[i].id, "0123456789abcdef") != ID_HEX || page[i].id[ID_HEX] != '\0')
            abort();
        after = page[i].seq;
    }
    return 0;
}
