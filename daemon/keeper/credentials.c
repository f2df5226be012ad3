/* Credentials for the smarthost. The file is the operator's. */
#include "daemon/keeper/credentials.h"

#include <stdbool.h>
#include <string.h>

/* RFC 4954 and SASL PLAIN carry any text but NUL; a line break is a mistake in the file. */
static bool is_one_line(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return true;
}

enum sp_err credentials_parse(const char *text, size_t len, struct credentials *out)
{
    *out = (struct credentials){0};
    if (len > 0 && text[len - 1] == '\n')
        len--;
    if (len > 0 && text[len - 1] == '\r')
        len--;
    const char *colon = len > 0 ? memchr(text, ':', len) : NULL;
    if (colon == NULL || !is_one_line(text, len))
        return SP_ERR_FORMAT;
    size_t user_len = (size_t)(colon - text), password_len = len - user_len - 1;
    if (user_len == 0 || password_len == 0)
        return SP_ERR_FORMAT;
    if (user_len > CREDENTIALS_MAX || password_len > CREDENTIALS_MAX)
        return SP_ERR_LIMIT;
    *out = (struct credentials){text, colon + 1, user_len, password_len};
    return SP_OK;
}
