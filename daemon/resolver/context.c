/* Sets libunbound up: before the first byte from the network, and again when the system has other
 * servers. Configuration and files are the operator's, and trusted. */
#include "daemon/resolver/context.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unbound.h>
#include <unbound-event.h>

#define SERVERS_MAX 3 /* as many as glibc heeds (MAXNS) */
#define ADDRESS_MAX 128
#define BLANK       " \t\r\n"

static const struct {
    const char *option, *value;
} options[] = {
    /* Many machines run their resolver on the loopback. */
    {"do-not-query-localhost:", "no"},
    /* Ports are random ones of a connected socket, so that only the server asked may answer. */
    {"udp-connect:", "yes"},
    {"outgoing-range:", "256"},
    {"num-queries-per-thread:", "4096"},
    /* Answers alone: what else a server adds is neither needed nor kept. */
    {"minimal-responses:", "yes"},
    {"msg-cache-size:", "4m"},
    {"rrset-cache-size:", "8m"},
    {"key-cache-size:", "4m"},
    {"neg-cache-size:", "1m"},
};

static enum sp_err result(int err)
{
    if (err == UB_NOERROR)
        return SP_OK;
    return err == UB_NOMEM ? SP_ERR_MEMORY : SP_ERR_CONFIG;
}

static enum sp_err add_server(struct context *c, const char *address)
{
    size_t used = strlen(c->servers);
    snprintf(c->servers + used, sizeof(c->servers) - used, "%s%s", used > 0 ? " " : "", address);
    return result(ub_ctx_set_fwd(c->ub, address));
}

/* "192.0.2.1:53" and "[2001:db8::1]:53" are 192.0.2.1@53 and 2001:db8::1@53 to libunbound. */
static enum sp_err configured_server(struct context *c, const char *server)
{
    char address[ADDRESS_MAX];
    const char *colon = strrchr(server, ':');
    if (colon == NULL)
        return SP_ERR_CONFIG;
    size_t len = (size_t)(colon - server);
    if (len >= 2 && server[0] == '[' && server[len - 1] == ']') {
        server++;
        len -= 2;
    }
    int n = snprintf(address, sizeof(address), "%.*s@%s", (int)len, server, colon + 1);
    return n < (int)sizeof(address) ? add_server(c, address) : SP_ERR_CONFIG;
}

/* A line of resolv.conf(5) that names a server we could ask; an address with a scope ("%eth0")
 * cannot be, for lack of the system calls. */
static const char *server_of(char *line)
{
    struct in6_addr any;
    char *rest = NULL, *word = strtok_r(line, BLANK, &rest);
    if (word == NULL || strcmp(word, "nameserver") != 0)
        return NULL;
    word = strtok_r(NULL, BLANK, &rest);
    bool ok = word != NULL &&
              (inet_pton(AF_INET, word, &any) == 1 || inet_pton(AF_INET6, word, &any) == 1);
    return ok ? word : NULL;
}

static enum sp_err servers_of_system(struct context *c, char *text)
{
    enum sp_err err = SP_OK;
    int n = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL && n < SERVERS_MAX && err == SP_OK;
         line = strtok_r(NULL, "\n", &rest)) {
        const char *address = server_of(line);
        if (address != NULL && ++n > 0)
            err = add_server(c, address);
    }
    return err == SP_OK && n == 0 ? add_server(c, "127.0.0.1") : err;
}

/* One record a line; what follows ";" is a comment. */
static enum sp_err add_anchors(struct context *c, char *text)
{
    enum sp_err err = SP_OK;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL && err == SP_OK;
         line = strtok_r(NULL, "\n", &rest)) {
        line[strcspn(line, ";\r")] = '\0';
        if (line[strspn(line, BLANK)] == '\0')
            continue;
        err = result(ub_ctx_add_ta(c->ub, line));
        c->anchors++;
    }
    return err;
}

static void ignore(void *arg, int rcode, void *packet, int len, int secure, char *why, int limited)
{
    (void)arg, (void)rcode, (void)packet, (void)len, (void)secure, (void)why, (void)limited;
}

/* Everything that libunbound makes at its first question it makes now, at start while the filter is
 * not yet on; "localhost" is a name that it answers itself. */
static enum sp_err finish(struct context *c)
{
    /* Whether there is a private "test" domain (RFC 6761 6.2) is the server's to know. */
    enum sp_err err = result(ub_ctx_zone_remove(c->ub, "test."));
    if (err == SP_OK)
        err = result(ub_resolve_event(c->ub, "localhost", ns_t_a, ns_c_in, NULL, ignore, NULL));
    return err;
}

enum sp_err context_make(struct event_base *base, const char *server, char *resolv_conf,
                         char *anchors, struct context *out)
{
    *out = (struct context){.ub = ub_ctx_create_event(base)};
    if (out->ub == NULL)
        return SP_ERR_MEMORY;
    /* Its messages would name whom users write to. */
    enum sp_err err = result(ub_ctx_debugout(out->ub, NULL));
    for (size_t i = 0; err == SP_OK && i < sizeof(options) / sizeof(options[0]); i++)
        err = result(ub_ctx_set_option(out->ub, options[i].option, options[i].value));
    if (err == SP_OK)
        err = server != NULL ? configured_server(out, server) : servers_of_system(out, resolv_conf);
    if (err == SP_OK)
        err = add_anchors(out, anchors);
    return err == SP_OK ? finish(out) : err;
}

void context_free(struct context *c)
{
    ub_ctx_delete(c->ub);
    c->ub = NULL;
}
