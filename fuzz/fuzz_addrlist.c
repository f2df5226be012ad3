/* libs: */
/* Address lists out of header fields: what is handed on is one address, clean and bounded. */
#include "client/addrlist.c"
#include "envelope/utf8.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum sp_err check(void *ctx, const char *address)
{
    unsigned *n = ctx;
    size_t len = strlen(address);
    const char *at = strchr(address, '@');
    if (len == 0 || len > ADDRLIST_MAX || at == NULL || at == address || at[1] == '\0' ||
        strchr(at + 1, '@') != NULL || strpbrk(address, " \t\r\n<>(),;:\"\\[]") != NULL ||
        !utf8_is_text((const uint8_t *)address, len))
        abort();
    return ++*n < 100 ? SP_OK : SP_ERR_LIMIT;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned n = 0;
    addrlist_each(data, size, check, &n);
    return 0;
}
