#ifndef SEALPOST_MIMENAME_H
#define SEALPOST_MIMENAME_H
/*
 * The file name of a MIME part, out of its "filename" or "name" parameters: plain, with charset and
 * percent signs, or in numbered sections (RFC 2231 3 and 4), and with encoded words (RFC 2047),
 * which many senders put there although they may not. What is not understood for sure gives no
 * name: nothing is guessed. Nothing is allocated, and the names are not copied to the stack.
 */
#include "envelope/mimeparam.h"

#define MIMENAME_SECTIONS 64u

struct mimename_part {
    const uint8_t *at; /* NULL: not there */
    size_t len;
    bool extended; /* has percent signs */
};

/* The parameters of one field, as far as they make up a name; pointers into the field. */
struct mimename {
    struct mimename_part plain;                      /* name=     */
    struct mimename_part extended;                   /* name*=    */
    struct mimename_part section[MIMENAME_SECTIONS]; /* name*0=, name*1*=, ... */
    size_t sections;                                 /* how many were seen */
    bool doubt;                                      /* one of them twice, or malformed */
};

/* Takes p if it belongs to the name: base is "filename" or "name". Start from an all-zero struct.
 */
void mimename_add(struct mimename *name, const char *base, const struct mimeparam *p);

/* Writes the name as UTF-8 without path and controls; returns its length, 0 if there is none, if it
 * is in doubt, or longer than cap. Best first: name*=, sections, plain. */
size_t mimename_decode(const struct mimename *name, char *out, size_t cap);

#endif
