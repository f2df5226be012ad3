#ifndef SEALPOST_RELAY_OUTSIDE_H
#define SEALPOST_RELAY_OUTSIDE_H
/*
 * Which addresses are the Internet's. Whoever owns a domain chooses where its mail is sent; if that
 * could be this host's loopback or the network behind it, any recipient would be a way to services
 * that trust their neighbours. Source: the IANA special-purpose registries (RFC 6890), and IPv6's
 * one block of global unicast (RFC 4291 2.4).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NULL: globally reachable. Else what it is, in words that fit "a ... address". bytes: 4 or 16, in
 * network order; an IPv4 address that stands in an IPv6 one counts as what it is. */
const char *outside_not(const uint8_t *bytes, size_t len);

/* Whether a name server ("192.0.2.1:53", "[2001:db8::1]:53"; NULL: those of the host's own
 * configuration) was named by the operator and stands inside, as whoever runs names of the inside
 * has it. */
bool outside_is_inside(const char *server);

#endif
