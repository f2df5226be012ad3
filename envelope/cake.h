#ifndef SEALPOST_CAKE_H
#define SEALPOST_CAKE_H
/*
 * Cake-AES (FORMAT.md section 2): committing, streaming AES-256-GCM in chunks of 16 KiB.
 * A chunk at a time, in place where the caller likes, nothing allocated per chunk. The one-time key
 * lives inside the OpenSSL context alone; cake_free wipes it.
 */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CAKE_KEY        32u
#define CAKE_NONCE      24u
#define CAKE_COMMITMENT 32u
#define CAKE_HEADER     (CAKE_NONCE + CAKE_COMMITMENT)
#define CAKE_CHUNK      16384u
#define CAKE_TAG        16u
#define CAKE_SEALED     (CAKE_CHUNK + CAKE_TAG) /* a full chunk's ciphertext */

struct cake; /* an encoder or a decoder; may be used again with another key */

/* NULL: no memory, or no AES-256-GCM in OpenSSL. */
struct cake *cake_new(void);
void cake_free(struct cake *cake);

/* Ciphertext bytes of n plaintext bytes (UINT64_MAX if they cannot be counted); the opposite
 * (SP_ERR_FORMAT: no plaintext has that length). */
uint64_t cake_sealed_length(uint64_t n);
enum sp_err cake_plain_length(uint64_t sealed, uint64_t *n);

/* Begins to seal. nonce NULL: a random one (always, outside tests). header: the stream's first
 * bytes. */
enum sp_err cake_seal_begin(struct cake *cake, const uint8_t key[CAKE_KEY], const uint8_t *nonce,
                            uint8_t header[CAKE_HEADER]);
/* Seals the next chunk: exactly CAKE_CHUNK bytes, or fewer (0 too) when last. out gets len +
 * CAKE_TAG bytes and may be equal to in. */
enum sp_err cake_seal_chunk(struct cake *cake, const uint8_t *in, size_t len, bool last,
                            uint8_t *out);

/* Begins to open: checks the commitment in constant time. SP_ERR_AUTH. */
enum sp_err cake_open_begin(struct cake *cake, const uint8_t key[CAKE_KEY],
                            const uint8_t header[CAKE_HEADER]);
/* Opens chunk number index, len bytes with its tag (CAKE_SEALED, or fewer when last). Nothing is in
 * out unless the tag verified; out may be equal to in and gets len - CAKE_TAG bytes. Any order: the
 * caller who starts in the middle authenticates the last chunk first. */
enum sp_err cake_open_chunk(struct cake *cake, uint64_t index, const uint8_t *in, size_t len,
                            bool last, uint8_t *out);

/* Forgets the key at once: for a stream that is broken off, or opened to its end. Sealing the last
 * chunk does it by itself. */
void cake_forget(struct cake *cake);

/* Whole short texts; in and out do not overlap. out: cake_sealed_length(len) bytes. Opening gives
 * *out_len bytes, and wipes out on failure. SP_ERR_LIMIT: cap is too small. */
enum sp_err cake_seal(const uint8_t key[CAKE_KEY], const uint8_t *nonce, const uint8_t *in,
                      size_t len, uint8_t *out);
enum sp_err cake_open(const uint8_t key[CAKE_KEY], const uint8_t *in, size_t len, uint8_t *out,
                      size_t cap, size_t *out_len);
#endif
