/* libs: */
/* Paths and parameters: what is accepted is within its limits, has no controls, and means the same
 * when it is written and read again. The first byte holds the flags. */
#include "envelope/utf8.c"
#include "daemon/smtp/address.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void must_be_clean(const char *s, size_t max)
{
    must(strlen(s) <= max && utf8_is_text((const uint8_t *)s, strlen(s)));
}

static void read_again(const struct address *a)
{
    char text[ADDRESS_MAX_TEXT + 2];
    struct address b;
    const char *end = NULL;

    text[0] = '<';
    must(address_write(a, text + 1, ADDRESS_MAX_TEXT) == SP_OK);
    const size_t len = strlen(text);
    memcpy(text + len, ">", 2);
    const enum sp_err err = address_parse(text, 7, &b, &end);
    /* Quotes may be needed where backslashes did before, and that may be a few octets more. */
    if (err == SP_ERR_LIMIT && strchr(text, '\\') != NULL)
        return;
    must(err == SP_OK && *end == '\0' && (a->utf8 || !b.utf8));
    b.utf8 = a->utf8; /* a source route that was dropped may be why */
    must(memcmp(a, &b, sizeof b) == 0);
}

static void read_params(const char *at)
{
    struct address_param p;
    unsigned long long n = 0;
    enum sp_err err = SP_OK;

    for (;;) {
        const char *before = at;
        err = address_param_next(&at, &p);
        if (err != SP_OK)
            break;
        must(at > before && p.key[0] != '\0');
        must_be_clean(p.key, ADDRESS_MAX_KEY);
        must(p.value == NULL || (p.value_len > 0 && p.value + p.value_len == at));
        if (address_param_number(&p, &n) != SP_OK)
            must(n == 0);
        address_param_is(&p, "8BITMIME");
    }
    must(err == SP_ERR_FORMAT || (err == SP_ERR_NOT_FOUND && *at == '\0'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct address a;
    const char *end = NULL;

    if (size < 1)
        return 0;
    char *text = malloc(size);
    must(text != NULL);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    const char *at = text;
    (void)(address_keyword(&at, "FROM:") || address_keyword(&at, "TO:"));
    if (address_parse(at, data[0] & 7u, &a, &end) == SP_OK) {
        must((size_t)(end - at) <= ADDRESS_MAX_PATH && (*end == '\0' || *end == ' '));
        must_be_clean(a.local, ADDRESS_MAX_LOCAL);
        must_be_clean(a.domain, ADDRESS_MAX_DOMAIN);
        must(!a.utf8 || (data[0] & ADDRESS_UTF8) != 0);
        must(!a.null || (a.local[0] == '\0' && a.domain[0] == '\0'));
        read_again(&a);
        read_params(end);
    }
    read_params(text);
    free(text);
    return 0;
}
