#ifndef SEALPOST_RELAY_ROUTE_H
#define SEALPOST_RELAY_ROUTE_H
/* Whom to connect to for a destination (RFC 5321 5.1, RFC 7505), as the resolver knows it. */
#include "daemon/config.h"
#include "daemon/relay/dialog.h"
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROUTE_HOSTS     16u /* the best ones */
#define ROUTE_ADDRESSES 16u /* of one host */
#define ROUTE_NOBODY    SIZE_MAX

struct route_address {
    uint8_t bytes[16];
    size_t len; /* 4 or 16 */
};

struct route_host {
    char name[256];
    uint16_t preference;
    uint32_t dice;                /* the order among equals */
    struct route_address literal; /* len 0: the name is to be looked up */
    enum remote_tls tls;          /* of the last connection there */
};

struct route {
    size_t n;
    struct route_host host[ROUTE_HOSTS]; /* in the order to be tried */
    uint16_t port;
};

/* A verdict of ours when there is nobody: why is set and r->n is 0. SP_ERR_PEER: the resolver is
 * gone. */
enum sp_err route_find(const struct config *config, int resolver, const char *destination,
                       struct route *r, struct dialog_verdict *why);
/* The host's addresses, in the order to be tried; *n 0: why is set. */
enum sp_err route_addresses(int resolver, const struct route_host *host,
                            struct route_address out[ROUTE_ADDRESSES], size_t *n,
                            struct dialog_verdict *why);

/* Keeps those that are the Internet's (outside.h), n of them in all; *n 0: why is set. */
void route_keep_outside(const struct route_host *host, struct route_address *address, size_t *n,
                        struct dialog_verdict *why);

/* An MX list: drops what is no better than ourselves, puts the rest in order. False: we were in it,
 * and nobody better (5.4.6). */
bool route_order(struct route *r, const char *self);
/* "HOST:PORT", the host a name or a numeric address (IPv6 in brackets). */
bool route_smarthost(const char *text, struct route *r);

#endif
