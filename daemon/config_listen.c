/* Addresses that cannot be listened on at once: said when the settings are read, not when the
 * second one is bound. */
#include "daemon/config_keys.h"

#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

/* Each is listened on by a socket of one family: IPv6 ones take no IPv4 (daemon/listen.c). */
struct listener {
    const struct key *key;
    const char *text;
    int line;
    sa_family_t family;
    in_port_t port;
    uint32_t scope;
    uint8_t address[16];
};

static bool parse(const char *text, struct listener *l)
{
    struct addrinfo *ai = config_address(text);
    struct sockaddr_in in4 = {0};
    struct sockaddr_in6 in6 = {0};
    if (ai == NULL)
        return false;
    l->family = (sa_family_t)ai->ai_family;
    if (ai->ai_family == AF_INET) {
        memcpy(&in4, ai->ai_addr, sizeof(in4));
        l->port = in4.sin_port;
        memcpy(l->address, &in4.sin_addr, sizeof(in4.sin_addr));
    } else {
        memcpy(&in6, ai->ai_addr, sizeof(in6));
        l->port = in6.sin6_port;
        l->scope = in6.sin6_scope_id;
        memcpy(l->address, &in6.sin6_addr, sizeof(in6.sin6_addr));
    }
    freeaddrinfo(ai);
    return true;
}

static bool is_any(const struct listener *l)
{
    static const uint8_t any[16];
    return memcmp(l->address, any, sizeof(any)) == 0;
}

static bool collide(const struct listener *a, const struct listener *b)
{
    bool same = a->scope == b->scope && memcmp(a->address, b->address, sizeof(a->address)) == 0;
    return a->family == b->family && a->port == b->port && (same || is_any(a) || is_any(b));
}

static size_t list_all(const struct config *c, const int lines[CONFIG_MAX_KEYS][CONFIG_MAX_LIST],
                       struct listener all[4 * CONFIG_MAX_LIST])
{
    size_t n = 0;
    for (size_t i = 0; i < config_key_count; i++) {
        const struct key *k = &config_keys[i];
        if (k->type != LIST || strncmp(k->name, "listen", 6) != 0)
            continue;
        const struct config_list *list = (const void *)((const char *)c + k->offset);
        for (size_t item = 0; item < list->count && n < 4 * CONFIG_MAX_LIST; item++) {
            struct listener l = {.key = k, .text = list->item[item], .line = lines[i][item]};
            if (parse(l.text, &l))
                all[n++] = l;
        }
    }
    return n;
}

/* The later line is the one that is wrong; a default was there before any. */
static void complain(const struct listener *a, const struct listener *b, const char *path,
                     FILE *errors)
{
    const struct listener *late = b->line >= a->line ? b : a, *early = late == b ? a : b;
    char where[16] = "";
    if (late->line > 0)
        snprintf(where, sizeof(where), ":%d", late->line);
    fprintf(errors, "%s%s: [%s] %s: %s cannot be listened on beside [%s] %s = %s%s\n", path, where,
            late->key->section, late->key->name, late->text, early->key->section, early->key->name,
            early->text, early->line == 0 ? ", its default" : "");
}

size_t config_collisions(const struct config *config,
                         const int lines[CONFIG_MAX_KEYS][CONFIG_MAX_LIST], const char *path,
                         FILE *errors)
{
    struct listener all[4 * CONFIG_MAX_LIST];
    size_t n = list_all(config, lines, all), found = 0;
    for (size_t i = 1; i < n; i++)
        for (size_t k = 0; k < i; k++)
            if (collide(&all[k], &all[i])) {
                complain(&all[k], &all[i], path, errors);
                found++;
                break;
            }
    return found;
}
