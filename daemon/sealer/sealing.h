#ifndef SEALPOST_SEALER_SEALING_H
#define SEALPOST_SEALER_SEALING_H
/*
 * One message while it is being sealed (FORMAT.md section 4): its keys, its pieces so far, and at
 * the end its manifest, envelope and boxes. Lives in locked memory; knows nothing of sessions or
 * sockets.
 */
#include "envelope/envelope.h"
#include "envelope/error.h"
#include "envelope/manifest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ciphertext of one call at the most: header, three chunks, an empty last one. */
#define SEALING_MAX_BLOCK (CAKE_HEADER + 3u * CAKE_SEALED + CAKE_TAG)
#define SEALING_MAX_PLAIN (3u * CAKE_CHUNK)
/* The frame that commits a message must hold its envelope and boxes. */
#define SEALING_MAX_ENVELOPE (48u * 1024u)

struct recipient {
    uint8_t user_id[ID_SIZE];
    uint32_t generation;
    uint8_t puk_pk[KEY_SIZE];
};

enum stream { STREAM_BODY = 0, STREAM_ATTACHMENT = 1 };

struct sealing;

/* Once a process, before the first message: fetches algorithms. locked: work space of
 * SEALING_MAX_ENVELOPE bytes, used by sealing_finish alone; NULL: it makes its own. */
enum sp_err sealing_init(uint8_t *locked);

/* NULL: no locked memory is left. */
struct sealing *sealing_new(uint64_t upload);
void sealing_free(struct sealing *s);
uint64_t sealing_upload(const struct sealing *s);
/* The piece that a stream's bytes go to now, its number. */
uint16_t sealing_piece(const struct sealing *s, enum stream stream);

/* An attachment begins (names as in FORMAT.md 4.2, copied). SP_ERR_STATE while another is open. */
enum sp_err sealing_attach(struct sealing *s, uint64_t splice_at, const char *media_type,
                           size_t media_len, const char *file_name, size_t name_len);
/* Seals len bytes (a multiple of CAKE_CHUNK unless last, at most SEALING_MAX_PLAIN) of a stream
 * into out (SEALING_MAX_BLOCK); *out_len bytes of ciphertext follow those of earlier calls. */
enum sp_err sealing_seal(struct sealing *s, enum stream stream, const uint8_t *plain, size_t len,
                         bool last, uint8_t *out, size_t *out_len);
/* All pieces are sealed: makes manifest and envelope. envelope: SEALING_MAX_ENVELOPE bytes. */
enum sp_err sealing_finish(struct sealing *s, uint64_t time_ms, uint8_t *envelope, size_t *len);
/* A box for one user; after sealing_finish. out: BOX_MAX bytes. */
enum sp_err sealing_box(struct sealing *s, const struct recipient *r, uint8_t *out, size_t *len);

const uint8_t *sealing_message_id(const struct sealing *s);
uint16_t sealing_pieces(const struct sealing *s);
uint64_t sealing_bytes(const struct sealing *s);

#endif
