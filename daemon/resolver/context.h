#ifndef SEALPOST_RESOLVER_CONTEXT_H
#define SEALPOST_RESOLVER_CONTEXT_H
/*
 * libunbound, set up: whom it asks, what it trusts, how much it may keep. No thread, no process of
 * its own, no file: everything runs on the caller's event loop.
 */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>

struct event_base;
struct ub_ctx;

#define CONTEXT_SERVERS_TEXT 256u

/* What libunbound says of an answer beside the answer. */
enum context_security { CONTEXT_INSECURE, CONTEXT_BOGUS, CONTEXT_SECURE };

struct context {
    struct ub_ctx *ub;
    char servers[CONTEXT_SERVERS_TEXT]; /* whom it asks, for people: "192.0.2.1 192.0.2.2" */
    size_t anchors;                     /* trust anchors: 0 means that nothing is validated */
    unsigned asked;                     /* by its users: lookups that it has not answered yet */
};

/* server: "IP:PORT" of the configuration, or NULL: then resolv_conf, the text of that file, says
 * whom to ask (resolv.conf(5): nobody named means the local machine). anchors: lines of DS or
 * DNSKEY records as in a zone file, may be empty. Both texts end in a NUL. SP_ERR_CONFIG: no server
 * or anchor in them can be used. resolv_conf and anchors are written to. */
enum sp_err context_make(struct event_base *base, const char *server, char *resolv_conf,
                         char *anchors, struct context *out);
/* Only when all was answered, and not from within an answer. */
void context_free(struct context *c);

#endif
