/* Where credentials are. The environment is the service manager's, the names are the operator's. */
#include "daemon/credential.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "credential:"
/* For those who are not the service (sealpostctl): where systemd puts the service's. */
#define SERVICE_DIRECTORY "/run/credentials/sealpost.service"
#define NAME_MAX_BYTES    100u

static const struct {
    const char *section, *key;
} takes[] = {
    {"tls", "certificate"}, {"tls", "key"}, {"relay", "dkim_key"}, {"relay", "smarthost_auth"}};

static const char *directory(void)
{
    const char *given = getenv("CREDENTIALS_DIRECTORY");
    return given != NULL && given[0] == '/' ? given : SERVICE_DIRECTORY;
}

static bool may_be_one(const char *section, const char *key)
{
    for (size_t i = 0; i < sizeof(takes) / sizeof(takes[0]); i++)
        if (strcmp(takes[i].section, section) == 0 && strcmp(takes[i].key, key) == 0)
            return true;
    return false;
}

/* One component of a path, and not a hidden one. */
static bool is_name(const char *name)
{
    size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return len > 0 && len <= NAME_MAX_BYTES && name[len] == '\0' && name[0] != '.';
}

const char *credential_path(const char *section, const char *key, const char *value,
                            char out[CREDENTIAL_PATH])
{
    const size_t prefix = strlen(PREFIX);
    if (!may_be_one(section, key) || strncmp(value, PREFIX, prefix) != 0)
        return value;
    int n = snprintf(out, CREDENTIAL_PATH, "%s/%s", directory(), value + prefix);
    return is_name(value + prefix) && n > 0 && (unsigned)n < CREDENTIAL_PATH ? out : NULL;
}

const char *credential_advice(const char *path)
{
    const char *in = directory();
    size_t len = strlen(in);
    if (strncmp(path, in, len) != 0 || path[len] != '/')
        return "";
    if (getenv("CREDENTIALS_DIRECTORY") == NULL)
        return " ($CREDENTIALS_DIRECTORY is not set: a setting says credential:, and only the "
               "service manager gives those)";
    return " (a setting says credential:; add LoadCredential=NAME:PATH, or "
           "LoadCredentialEncrypted=, to sealpost.service by systemctl edit)";
}
