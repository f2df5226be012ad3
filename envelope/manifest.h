#ifndef SEALPOST_MANIFEST_H
#define SEALPOST_MANIFEST_H
/* The manifest's plaintext (FORMAT.md 4.2). Pointers lead into the decoded bytes. */
#include "envelope/error.h"
#include "envelope/keys.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MANIFEST_MAX           (1024u * 1024u)
#define MANIFEST_MAX_PIECES    256u
#define MANIFEST_MAX_NAME      1024u
#define MANIFEST_MAX_ADDED     (256u * 1024u)
#define MANIFEST_SERVER_ACCESS 1u

enum piece_kind { PIECE_BODY = 0, PIECE_ATTACHMENT = 1 };

struct piece {
    uint8_t kind;
    uint8_t key[KEY_SIZE];
    uint8_t hash[HASH_SIZE]; /* SHA-256 of the whole Cake ciphertext */
    uint64_t length;         /* plaintext bytes */
    uint64_t splice_at;
    const char *media_type; /* media_len bytes, not NUL-terminated */
    size_t media_len;
    const char *file_name;
    size_t name_len;
};

struct manifest {
    uint8_t flags;
    uint64_t time_ms;
    uint32_t n_pieces;
    struct piece *pieces; /* n_pieces of them */
    const uint8_t *added; /* complete header fields */
    size_t added_len;
};

/* What the format asks of an attachment's names: "token/token" in lower case (RFC 2045
 * section 5.1); strict UTF-8 without '/', '\\', controls, and not "." or "..", perhaps empty. */
bool manifest_media_type_ok(const char *s, size_t len);
bool manifest_file_name_ok(const char *name, size_t len);

/* *len: bytes written. SP_ERR_LIMIT if cap or a limit of the format does not hold it; SP_ERR_FORMAT
 * if the pieces break the format's rules (kinds, order, offsets, names). */
enum sp_err manifest_encode(const struct manifest *m, uint8_t *out, size_t cap, size_t *len);
/* pieces: room for MANIFEST_MAX_PIECES. On error m and pieces are wiped. */
enum sp_err manifest_decode(const uint8_t *bytes, size_t len, struct piece *pieces,
                            struct manifest *m);
#endif
