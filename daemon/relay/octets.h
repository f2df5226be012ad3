#ifndef SEALPOST_RELAY_OCTETS_H
#define SEALPOST_RELAY_OCTETS_H
/*
 * What is looked for in every octet of a mail, sixteen octets at a time: line ends that are none,
 * dots that begin a line, what DKIM's canonicalisation would change.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct octets {
    bool bare; /* a CR without LF behind it, or an LF without CR in front, wherever it was cut */
    bool nul;
    bool high;    /* above 127 */
    uint8_t last; /* the octet before; a CR at the very end stands alone, too */
};

/* Zeroed at first; adds what these show. */
void octets_look(struct octets *o, const uint8_t *at, size_t len);

/* Where the first dot behind an LF stands, not at 0; len: there is none. */
size_t octets_dot(const uint8_t *at, size_t len);

/* How many octets from the first on a relaxed body (RFC 6376 3.4.4) has as they stand, if nothing
 * in front of them waits to be dropped, and nothing of them does: the last is no blank, CR or LF.
 * May be fewer than that. */
size_t octets_canonical(const uint8_t *at, size_t len);

#endif
