/* Turns a destination into hosts, hosts into addresses. The destination is the sender's word, the
 * answers come from the network by way of the resolver, which has checked their form: hosts are
 * whom the owner of the destination names. */
#include "daemon/relay/route.h"
#include "daemon/ipc.h"
#include "daemon/messages.h"
#include "daemon/relay/delivery.h"
#include "daemon/relay/edge.h"
#include "daemon/relay/outside.h"

#include <arpa/inet.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* RD_MX_REPLY and RD_ADDRESS_REPLY. */
enum found { FOUND, NO_NAME, NO_DATA, LATER, INVALID };

#define REPLY_MAX 65536u

static uint8_t reply[IPC_HEADER + REPLY_MAX];

static enum sp_err ask(int resolver, uint16_t type, const char *name, enum found *found,
                       struct wire_in *rest)
{
    uint8_t frame[IPC_HEADER + 2 + 256];
    struct wire_out body = wire_out(frame + IPC_HEADER, sizeof(frame) - IPC_HEADER);
    wire_put_str(&body, name);
    enum sp_err err = edge_send(resolver, type, frame, &body);
    if (err == SP_OK)
        err = edge_receive(resolver, type, reply, sizeof(reply), rest);
    if (err != SP_OK)
        return err;
    uint8_t result = wire_get_u8(rest);
    wire_get_u8(rest); /* secure: for DANE */
    *found = (enum found)result;
    return result <= INVALID && !rest->bad ? SP_OK : SP_ERR_PEER;
}

static void explain(enum found found, const char *name, struct dialog_verdict *why)
{
    switch (found) {
    case NO_NAME:
        delivery_verdict(why, DIALOG_FAILED, 0, "5.1.2", "There is no host or domain %s", name);
        break;
    case INVALID:
        delivery_verdict(why, DIALOG_DEFERRED, 0, "4.7.5",
                         "The DNS answer for %s does not validate", name);
        break;
    case LATER:
        delivery_verdict(why, DIALOG_DEFERRED, 0, "4.4.3", "The DNS does not answer for %s", name);
        break;
    default:
        delivery_verdict(why, DIALOG_FAILED, 0, "5.4.4", "%s takes no mail: it has no address",
                         name);
    }
}

/* --- order --- */

static int compare(const void *a, const void *b)
{
    const struct route_host *x = a, *y = b;
    if (x->preference != y->preference)
        return x->preference < y->preference ? -1 : 1;
    return x->dice < y->dice ? -1 : x->dice > y->dice;
}

bool route_order(struct route *r, const char *self)
{
    uint32_t limit = UINT16_MAX + 1u;
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (strcasecmp(r->host[i].name, self) == 0 && r->host[i].preference < limit)
            limit = r->host[i].preference;
        r->host[i].dice = randombytes_random();
    }
    for (size_t i = 0; i < r->n; i++)
        if (r->host[i].preference < limit)
            r->host[n++] = r->host[i];
    r->n = n;
    qsort(r->host, n, sizeof(r->host[0]), compare);
    return n > 0;
}

/* Keeps the best when there are more than we would ever try. */
static void add_host(struct route *r, const char *name, uint16_t preference)
{
    struct route_host *worst = &r->host[0];
    for (size_t i = 1; i < r->n; i++)
        if (r->host[i].preference > worst->preference)
            worst = &r->host[i];
    if (r->n < ROUTE_HOSTS)
        worst = &r->host[r->n++];
    else if (worst->preference <= preference)
        return;
    *worst = (struct route_host){.preference = preference};
    snprintf(worst->name, sizeof(worst->name), "%s", name);
}

/* --- kinds of destinations --- */

static bool parse_address(const char *text, struct route_address *out)
{
    out->len = inet_pton(AF_INET, text, out->bytes) == 1    ? 4
               : inet_pton(AF_INET6, text, out->bytes) == 1 ? 16
                                                            : 0;
    return out->len > 0;
}

static bool copy_part(const char *from, size_t len, char *out, size_t cap)
{
    if (len == 0 || len >= cap)
        return false;
    memcpy(out, from, len);
    out[len] = '\0';
    return true;
}

/* [192.0.2.1] or [IPv6:2001:db8::1] (RFC 5321 4.1.3). */
static bool parse_literal(const char *text, struct route_host *host)
{
    char inner[64];
    size_t len = strlen(text), skip = strncasecmp(text, "[IPv6:", 6) == 0 ? 6 : 1;
    if (len < 3 || text[0] != '[' || text[len - 1] != ']' || len - 1 < skip ||
        !copy_part(text + skip, len - 1 - skip, inner, sizeof(inner)) ||
        !parse_address(inner, &host->literal) || (host->literal.len == 16) != (skip == 6))
        return false;
    snprintf(host->name, sizeof(host->name), "%s", inner);
    return true;
}

bool route_smarthost(const char *text, struct route *r)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    struct route_host *host = &r->host[0];
    *r = (struct route){.n = 1};
    unsigned long port = colon != NULL ? strtoul(colon + 1, &end, 10) : 0;
    if (port == 0 || port > UINT16_MAX || *end != '\0')
        return false;
    size_t len = (size_t)(colon - text);
    bool brackets = len > 2 && text[0] == '[' && text[len - 1] == ']';
    if (!copy_part(text + brackets, len - 2u * brackets, host->name, sizeof(host->name)))
        return false;
    parse_address(host->name, &host->literal);
    r->port = (uint16_t)port;
    return !brackets || host->literal.len == 16;
}

static enum sp_err read_mx(struct wire_in *in, struct route *r, bool *null)
{
    uint16_t n = wire_get_u16(in);
    *null = false;
    for (uint16_t i = 0; i < n && !in->bad; i++) {
        char name[256];
        uint16_t preference = wire_get_u16(in);
        edge_get_text(in, name, sizeof(name));
        if (name[0] == '\0')
            *null = n == 1; /* beside others it is nobody's name */
        else if (delivery_is_ascii(name))
            add_host(r, name, preference);
    }
    return wire_in_done(in) ? SP_OK : SP_ERR_PEER;
}

static enum sp_err find_mx(const char *domain, int resolver, const char *self, struct route *r,
                           struct dialog_verdict *why)
{
    enum found found;
    struct wire_in in;
    bool null = false;
    enum sp_err err = ask(resolver, RD_MX, domain, &found, &in);
    if (err == SP_OK)
        err = read_mx(&in, r, &null);
    if (err != SP_OK)
        return err;
    if (found == NO_NAME || found == LATER || found == INVALID) {
        r->n = 0;
        explain(found, domain, why);
    } else if (null) {
        delivery_verdict(why, DIALOG_FAILED, 556, "5.1.10", "%s does not accept mail (null MX)",
                         domain);
    } else {
        if (r->n == 0)
            add_host(r, domain, 0); /* RFC 5321 5.1: the domain itself */
        if (!route_order(r, self))
            delivery_verdict(why, DIALOG_FAILED, 0, "5.4.6", "Mail for %s would come back to us",
                             domain);
    }
    return SP_OK;
}

enum sp_err route_find(const struct config *config, int resolver, const char *destination,
                       struct route *r, struct dialog_verdict *why)
{
    *r = (struct route){.port = (uint16_t)config->relay_port};
    if (config->relay_mode == RELAY_SMARTHOST) {
        if (config->smarthost != NULL && route_smarthost(config->smarthost, r))
            return SP_OK;
        r->n = 0;
        delivery_verdict(why, DIALOG_DEFERRED, 0, "4.3.5", "The smarthost is not set up right");
        return SP_OK;
    }
    if (destination[0] == '[') {
        r->n = parse_literal(destination, &r->host[0]);
        if (r->n == 0)
            delivery_verdict(why, DIALOG_FAILED, 0, "5.1.2", "%s is not an address", destination);
        return SP_OK;
    }
    char domain[DOMAIN_MAX + 1];
    if (domain_to_ascii(destination, domain) != SP_OK || strlen(domain) > 253) {
        delivery_verdict(why, DIALOG_FAILED, 0, "5.1.2", "%s is not a domain", destination);
        return SP_OK;
    }
    return find_mx(domain, resolver, config->hostname, r, why);
}

enum sp_err route_addresses(int resolver, const struct route_host *host,
                            struct route_address out[ROUTE_ADDRESSES], size_t *n,
                            struct dialog_verdict *why)
{
    enum found found;
    struct wire_in in;
    *n = 0;
    if (host->literal.len > 0) {
        out[(*n)++] = host->literal;
        return SP_OK;
    }
    enum sp_err err = ask(resolver, RD_ADDRESS, host->name, &found, &in);
    if (err != SP_OK)
        return err;
    uint16_t count = wire_get_u16(&in);
    for (uint16_t i = 0; i < count && !in.bad; i++) {
        size_t len;
        const uint8_t *bytes = wire_get_b16(&in, sizeof(out[0].bytes), &len);
        if (len != 4 && len != 16)
            wire_in_fail(&in);
        if (in.bad || *n == ROUTE_ADDRESSES)
            continue;
        memcpy(out[*n].bytes, bytes, len);
        out[(*n)++].len = len;
    }
    if (*n == 0)
        explain(found == FOUND ? NO_DATA : found, host->name, why);
    return wire_in_done(&in) ? SP_OK : SP_ERR_PEER;
}

void route_keep_outside(const struct route_host *host, struct route_address *address, size_t *n,
                        struct dialog_verdict *why)
{
    size_t kept = 0;
    const char *what = NULL;
    for (size_t i = 0; i < *n; i++) {
        const char *not_outside = outside_not(address[i].bytes, address[i].len);
        if (not_outside == NULL)
            address[kept++] = address[i];
        else
            what = not_outside;
    }
    *n = kept;
    if (kept == 0 && what != NULL)
        delivery_verdict(why, DIALOG_FAILED, 0, "5.4.4",
                         "%s cannot be reached from here: it is at a %s address", host->name, what);
}
