/* account.json. The user is trusted; what was typed is checked for mistakes. */
#include "client/account.h"
#include "client/report.h"

#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ACCOUNT_NAME "account.json"
#define ACCOUNT_MAX  4096u

static bool clean(const char *s)
{
    for (; *s != '\0'; s++) {
        if ((unsigned char)*s <= 0x20 || *s == 0x7f)
            return false;
    }
    return true;
}

static enum sp_err set_url(struct account *a, const char *url)
{
    size_t n = strlen(url);
    while (n > 0 && url[n - 1] == '/')
        n--;
    if (strncasecmp(url, "https://", 8) != 0 || n <= 8 || !clean(url) ||
        strpbrk(url, "?#@\\") != NULL)
        return report_plain(SP_ERR_CONFIG, "the URL has to be like https://mail.example.org");
    if (n > ACCOUNT_MAX_URL)
        return report_plain(SP_ERR_LIMIT, "the URL is too long");
    memcpy(a->url, url, n);
    a->url[n] = '\0';
    return SP_OK;
}

static enum sp_err set_address(struct account *a, const char *address)
{
    const char *at = strrchr(address, '@');
    if (at == NULL || at == address || at[1] == '\0' || !clean(address))
        return report_plain(SP_ERR_CONFIG, "the address has to be like user@example.org");
    if (strlen(address) > ACCOUNT_MAX_ADDRESS)
        return report_plain(SP_ERR_LIMIT, "the address is too long");
    snprintf(a->address, sizeof a->address, "%s", address);
    return SP_OK;
}

enum sp_err account_set(struct account *a, const char *url, const char *address)
{
    memset(a, 0, sizeof *a);
    enum sp_err err = set_url(a, url);
    return err == SP_OK ? set_address(a, address) : err;
}

enum sp_err account_save(struct state *s, const struct account *a)
{
    char hex[2 * KEY_SIZE + 1];
    json_t *j = json_pack("{s:i, s:s, s:s, s:b}", "version", 1, "url", a->url, "address",
                          a->address, "enrolled", a->enrolled);
    if (a->has_keeper) {
        sodium_bin2hex(hex, sizeof hex, a->keeper, KEY_SIZE);
        json_object_set_new(j, "keeper", json_string(hex));
    }
    char *text = j != NULL ? json_dumps(j, JSON_INDENT(2)) : NULL;
    json_decref(j);
    if (text == NULL)
        return report_fail(SP_ERR_MEMORY, ACCOUNT_NAME);
    enum sp_err err = state_write(s, ACCOUNT_NAME, text, strlen(text));
    free(text);
    return err;
}

/* Not there in accounts made by earlier versions, and until it was seen. */
static enum sp_err get_keeper(struct account *a, const json_t *v)
{
    const char *hex = json_string_value(v);
    size_t n = 0;
    if (v == NULL)
        return SP_OK;
    if (hex == NULL || sodium_hex2bin(a->keeper, KEY_SIZE, hex, strlen(hex), NULL, &n, NULL) != 0 ||
        n != KEY_SIZE)
        return SP_ERR_FORMAT;
    a->has_keeper = true;
    return SP_OK;
}

enum sp_err account_load(struct state *s, struct account *a)
{
    uint8_t *bytes;
    size_t len;
    memset(a, 0, sizeof *a);
    enum sp_err err = state_read(s, ACCOUNT_NAME, ACCOUNT_MAX, &bytes, &len);
    if (err != SP_OK)
        return err;
    int version = 0, enrolled = 0;
    const char *url = NULL, *address = NULL;
    json_t *j = json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, NULL);
    if (json_unpack(j, "{s:i, s:s, s:s, s:b}", "version", &version, "url", &url, "address",
                    &address, "enrolled", &enrolled) != 0 ||
        version != 1)
        err = report_fail(SP_ERR_FORMAT, "%s/%s", state_path(s), ACCOUNT_NAME);
    else
        err = account_set(a, url, address);
    a->enrolled = enrolled != 0;
    if (err == SP_OK && (err = get_keeper(a, json_object_get(j, "keeper"))) != SP_OK)
        report_fail(err, "%s/%s: keeper", state_path(s), ACCOUNT_NAME);
    json_decref(j);
    free(bytes);
    return err;
}

void account_forget(struct state *s)
{
    state_remove(s, ACCOUNT_NAME);
}
