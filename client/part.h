#ifndef SEALPOST_CLIENT_PART_H
#define SEALPOST_CLIENT_PART_H
/* One MIME part that is a piece of its own: how it is encoded, its decoding, and a name to save it
 * under. Its sender is a stranger. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum part_encoding { PART_IDENTITY, PART_BASE64, PART_QUOTED };

/* From the part's header, which is the end of what stands in front of it in the body: its last
 * PART_HEADER bytes, or all of it. What says nothing, or nothing known, is PART_IDENTITY. */
#define PART_HEADER (16u * 1024u)
enum part_encoding part_encoding(const uint8_t *before, size_t len);

/* RFC 2045 section 6, leniently: what cannot be decoded stays as it stands (quoted-printable), or
 * is left out (base64). */
struct part_decoder {
    enum part_encoding encoding;
    uint32_t bits, held; /* base64: bits that wait, and how many */
    uint8_t escape[3];   /* quoted-printable: "=" and what has come behind it */
    uint8_t n;
};
/* out holds len + 2 bytes; returns those that were written. */
size_t part_decode(struct part_decoder *d, const uint8_t *in, size_t len, uint8_t *out);
/* Nothing comes any more; out holds 2 bytes. */
size_t part_decode_end(struct part_decoder *d, uint8_t *out);

/* A file's name without folders: no separator, no control, nothing invisible or that turns the
 * order of letters round, no dot in front, valid UTF-8. False: nothing is left of it. */
#define PART_NAME 151u /* with its NUL */
bool part_name(const uint8_t *name, size_t len, char out[PART_NAME]);

#endif
