/* Settings that do nothing beside others: no error, but whoever wrote them meant something. */
#include "daemon/config_keys.h"

#include <string.h>

static bool relay_off(const struct config *c, bool user_mode)
{
    (void)user_mode;
    return c->relay_mode == RELAY_OFF;
}

static bool no_smarthost(const struct config *c, bool user_mode)
{
    (void)user_mode;
    return c->relay_mode != RELAY_SMARTHOST;
}

static bool smarthost(const struct config *c, bool user_mode)
{
    (void)user_mode;
    return c->relay_mode == RELAY_SMARTHOST;
}

static bool nothing_asked(const struct config *c, bool user_mode)
{
    (void)user_mode;
    return c->relay_mode == RELAY_OFF && c->check_sender == CONFIG_NO;
}

static bool one_uid(const struct config *c, bool user_mode)
{
    (void)c;
    return user_mode;
}

/* name NULL: the whole section but its mode. The first that fits a key is said. */
static const struct {
    const char *section, *name;
    bool (*unused)(const struct config *c, bool user_mode);
    const char *why;
} rules[] = {
    {"relay", NULL, relay_off, "[relay] mode is off"},
    {"relay", "smarthost", no_smarthost, "[relay] mode is not smarthost"},
    {"relay", "smarthost_auth", no_smarthost, "[relay] mode is not smarthost"},
    {"relay", "port", smarthost, "[relay] mode is smarthost, which names its port"},
    {"relay", "private_addresses", smarthost, "a smarthost may be anywhere"},
    {"resolver", NULL, nothing_asked, "[relay] mode is off, and so is [smtp] check_sender"},
    {"appliance", "uid_base", one_uid, "user mode has one uid"},
};

size_t config_unused(const struct config *config, bool user_mode, const char *path, FILE *out)
{
    size_t n = 0;
    for (size_t i = 0; i < config_key_count; i++) {
        const struct key *k = &config_keys[i];
        for (size_t r = 0; config->named[i] && r < sizeof(rules) / sizeof(rules[0]); r++) {
            if (strcmp(rules[r].section, k->section) != 0 || strcmp(k->name, "mode") == 0 ||
                (rules[r].name != NULL && strcmp(rules[r].name, k->name) != 0) ||
                !rules[r].unused(config, user_mode))
                continue;
            fprintf(out, "%s: [%s] %s is not used: %s\n", path, k->section, k->name, rules[r].why);
            n++;
            break;
        }
    }
    return n;
}
