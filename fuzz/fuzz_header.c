/* libs: -lsodium */
/* A message's header on its way out: no byte is lost but Bcc's, none is made up, and what is taken
 * in is bounded, however the input is cut. */
#include "client/addrlist.c"
#include "envelope/utf8.c"

#include "client/header.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

void *secret_alloc(size_t size)
{
    return calloc(1, size);
}
void secret_free(void *at)
{
    free(at);
}

static size_t written;

static enum sp_err count(void *ctx, const uint8_t *bytes, size_t len)
{
    (void)ctx;
    (void)bytes;
    written += len;
    return SP_OK;
}

static enum sp_err ignore(void *ctx, const char *address)
{
    (void)ctx;
    (void)address;
    return SP_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct header *h = header_new();
    size_t at = 0, used, rest;
    bool done = false;
    size_t step = size > 0 ? data[0] + 1u : 1;
    if (h == NULL)
        return 0;
    while (at < size && !done) {
        size_t n = step < size - at ? step : size - at;
        if (header_push(h, data + at, n, &used, &done) != SP_OK)
            break;
        if (used > n || (!done && used != n))
            abort();
        at += used;
    }
    written = 0;
    header_write(h, "", count, NULL);
    header_rest(h, &rest);
    if (written > at + 2 || rest > at)
        abort();
    for (int f = HEADER_FROM; f <= HEADER_ID; f++) {
        header_count(h, (enum header_field)f);
        header_addresses(h, (enum header_field)f, ignore, NULL);
    }
    header_free(h);
    return 0;
}
