/* Addresses in the one form that the store compares. Text comes from strangers (by way of the
 * sealer), from web and from operators; nothing of it is trusted. */
#include "storage/store.h"
#include "daemon/domain.h"

#include <string.h>

static char lower(uint8_t c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

/* The domain, which begins there, as senders' spellings of it are compared. */
static enum sp_err fold_domain(char out[STORE_MAX_ADDRESS], size_t at)
{
    char ascii[DOMAIN_MAX + 1];
    enum sp_err err = domain_to_ascii(out + at, ascii);
    if (err == SP_OK && at + strlen(ascii) >= STORE_MAX_ADDRESS)
        err = SP_ERR_LIMIT;
    if (err == SP_OK)
        memcpy(out + at, ascii, strlen(ascii) + 1);
    else
        out[0] = '\0';
    return err;
}

enum sp_err store_address(const void *text, size_t len, bool bare, char out[STORE_MAX_ADDRESS])
{
    const uint8_t *in = text;
    out[0] = '\0';
    if (len >= STORE_MAX_ADDRESS)
        return SP_ERR_LIMIT;
    for (size_t i = 0; i < len; i++) {
        if (in[i] < 0x20 || in[i] == 0x7f) {
            out[0] = '\0';
            return SP_ERR_FORMAT;
        }
        out[i] = lower(in[i]);
    }
    out[len] = '\0';
    const char *at = strrchr(out, '@');
    if (at != NULL && at != out && at[1] != '\0')
        return fold_domain(out, (size_t)(at + 1 - out));
    if (bare && strcmp(out, "postmaster") == 0)
        return SP_OK;
    out[0] = '\0';
    return SP_ERR_FORMAT;
}

const char *store_address_domain(const char *address)
{
    const char *at = strrchr(address, '@');
    return at != NULL ? at + 1 : "";
}

bool store_address_base(const char *address, char out[STORE_MAX_ADDRESS])
{
    const char *at = strrchr(address, '@'), *plus = strchr(address, '+');
    out[0] = '\0';
    if (at == NULL || plus == NULL || plus == address || plus > at ||
        strlen(address) >= STORE_MAX_ADDRESS)
        return false;
    size_t local = (size_t)(plus - address);
    memcpy(out, address, local);
    memcpy(out + local, at, strlen(at) + 1);
    return true;
}
