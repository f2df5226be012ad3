#ifndef SEALPOST_CLIENT_JOIN_H
#define SEALPOST_CLIENT_JOIN_H
/* Rejoins a message from its pieces (FORMAT.md 4.2): added_headers || body with each attachment's
 * bytes spliced in. No I/O of its own, nothing held: each byte goes from source to sink at once. */
#include "envelope/error.h"
#include "envelope/manifest.h"

#include <stddef.h>
#include <stdint.h>

struct join_ends {
    /* The next plaintext bytes of a piece, 1 to max of them, good until the next call for that
     * piece. *got 0: it ended. */
    enum sp_err (*read)(void *ctx, uint32_t piece, size_t max, const uint8_t **at, size_t *got);
    enum sp_err (*write)(void *ctx, const uint8_t *bytes, size_t len);
    void *ctx;
};

/* SP_ERR_FORMAT, before anything is written, when the manifest's pieces do not fit together; later
 * when a piece ends early; else what read and write return. */
enum sp_err join_message(const struct manifest *m, const struct join_ends *ends);

#endif
