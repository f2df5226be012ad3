/* Internationalised domain names by way of libidn2. Names come from senders, operators and the
 * configuration; only those with octets above 127 reach the library. */
#include "daemon/domain.h"

#include <idn2.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static bool has_high(const char *s)
{
    for (; *s != '\0'; s++)
        if ((unsigned char)*s > 127)
            return true;
    return false;
}

/* The library drops some of what does not belong into a name instead of refusing it. */
static bool is_clean(const char *s)
{
    static const char may[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.";
    for (; *s != '\0'; s++)
        if ((unsigned char)*s <= 127 && strchr(may, *s) == NULL)
            return false;
    return true;
}

enum sp_err domain_to_ascii(const char *domain, char out[DOMAIN_MAX + 1])
{
    char *ascii = NULL;
    const char *from = domain;
    enum sp_err err = SP_OK;
    out[0] = '\0';
    if (has_high(domain)) {
        const int flags = IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL | IDN2_USE_STD3_ASCII_RULES;
        if (!is_clean(domain) || idn2_to_ascii_8z(domain, &ascii, flags) != IDN2_OK)
            return SP_ERR_FORMAT;
        from = ascii;
    }
    size_t len = strlen(from);
    if (len > DOMAIN_MAX)
        err = SP_ERR_LIMIT;
    else if (ascii != NULL && (from[0] == '.' || strstr(from, "..") != NULL))
        err = SP_ERR_FORMAT; /* a label of characters that are mapped to nothing */
    for (size_t i = 0; err == SP_OK && i <= len; i++)
        out[i] = (char)(from[i] >= 'A' && from[i] <= 'Z' ? from[i] + ('a' - 'A') : from[i]);
    if (ascii != NULL)
        idn2_free(ascii);
    return err;
}
