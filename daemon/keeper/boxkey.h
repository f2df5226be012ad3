#ifndef SEALPOST_KEEPER_BOXKEY_H
#define SEALPOST_KEEPER_BOXKEY_H
/*
 * The appliance's box key: X25519, for crypto_box_seal (FORMAT.md section 7). Clients seal
 * passwords and relay keys for it. File: "SPKK" u8 version=1 zeros[3] private[32] public[32] Made
 * once, at the first start; replaced only where the operator empties the file.
 */
#include "envelope/error.h"
#include "envelope/keys.h"

#include <stddef.h>
#include <stdint.h>

#define BOXKEY_FILE (8u + 2u * KEY_SIZE)

struct boxkey {
    uint8_t file[BOXKEY_FILE]; /* as it is on disk */
};

/* Reads it from fd into *k (locked memory), or makes it, durably, if the file is empty.
 * SP_ERR_FORMAT: there is something else in the file, or the two halves do not belong together; it
 * is left as it is, and *k is zeros. */
enum sp_err boxkey_load(int fd, struct boxkey *k);

static inline const uint8_t *boxkey_private(const struct boxkey *k)
{
    return k->file + 8;
}

static inline const uint8_t *boxkey_public(const struct boxkey *k)
{
    return k->file + 8 + KEY_SIZE;
}

#endif
