#ifndef SEALPOST_RELAY_FLOW_H
#define SEALPOST_RELAY_FLOW_H
/*
 * The mail as a stream of plaintext: pieces fetched from the store as ciphertext, opened a chunk at
 * a time, attachments spliced in where they stood (FORMAT.md section 4). One chunk of plaintext is
 * all it ever holds: a chunk of the body that waits behind an attachment is opened once more from
 * its ciphertext. The next part of a piece is asked for while the last one is being used.
 */
#include "daemon/ipc.h"
#include "envelope/cake.h"
#include "envelope/error.h"
#include "envelope/manifest.h"

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLOW_CHUNKS 7u /* of a part: as many as SD_PIECE_MAX holds besides the header */
#define FLOW_PART   (CAKE_HEADER + FLOW_CHUNKS * CAKE_SEALED)
#define FLOW_FRAME  (IPC_HEADER + 13u + FLOW_PART)
#define FLOW_ADDED  (CAKE_CHUNK - 1u) /* bytes of added header fields that are sent */

/* Keys and plaintext: the caller's locked memory. Of struct piece no pointer is used. */
struct flow_secret {
    size_t n;
    struct piece piece[MANIFEST_MAX_PIECES];
    /* Added header fields: sealed under a key of our own, so that they are no plaintext while they
     * are not sent. */
    struct piece added;
    uint8_t plain[CAKE_CHUNK];
};

/* A piece on its way. Ciphertext alone. */
struct flow_reader {
    uint16_t number;
    const struct piece *piece;
    struct cake *cake;
    EVP_MD_CTX *hash;
    uint64_t sealed, asked, come; /* ciphertext bytes: of the whole, asked for, received */
    bool local;                   /* all of it is in part[0] */
    bool begun;                   /* its key is in cake */
    unsigned now;                 /* part[now] is being read; the other one may be on its way */
    bool next;                    /* part[!now] is there */
    size_t at;                    /* in part[now]: the current chunk */
    uint64_t chunk;               /* its number */
    size_t used;                  /* its plaintext bytes handed out */
    uint64_t done;                /* plaintext bytes handed out in all */
    struct {
        const uint8_t *bytes;
        size_t len;
        uint8_t *frame; /* FLOW_FRAME bytes */
    } part[2];
};

struct flow {
    int store;
    struct flow_secret *secret;
    const char *front; /* bytes in front of the message */
    size_t front_len;

    /* inner state */
    struct flow_reader *body, *attachment, *added;
    struct flow_reader *opened;   /* whose current chunk is in secret->plain */
    struct flow_reader *asked[2]; /* whose parts are on their way, in order */
    size_t n_asked;
    size_t front_at, next; /* next: the attachment to come */
    bool check, in_attachment, ended;
    enum sp_err failed; /* of flow_read, since flow_begin */
    size_t held, most;  /* plaintext in secret->plain: now, and at most */
};

/* secret: n pieces are set; 0: only what flow_add takes. SP_ERR_CRYPTO. Free with flow_free. */
enum sp_err flow_init(struct flow *s, int store, struct flow_secret *secret);
/* Takes complete header fields that stand in front of the body, at most FLOW_ADDED bytes
 * (SP_ERR_LIMIT): sealed at once, so the caller wipes its own. */
enum sp_err flow_add(struct flow *s, const uint8_t *added, size_t len);
/* The whole ciphertext of piece 0, which is then not asked for; it stays the caller's, and there.
 * SP_ERR_PEER: it is not as long as that. */
enum sp_err flow_bring(struct flow *s, const uint8_t *bytes, size_t len);
/* From the beginning (anew). check: each piece's hash as well, in the first pass. */
enum sp_err flow_begin(struct flow *s, const char *front, size_t front_len, bool check);
/* Up to cap bytes; *n = 0 at the end. SP_ERR_AUTH: a piece is not what the manifest says;
 * SP_ERR_PEER, SP_ERR_STATE: the store failed. */
enum sp_err flow_read(void *flow, uint8_t *buf, size_t cap, size_t *n);
/* Receives what was asked for ahead, so that the channel is free for another question. */
enum sp_err flow_settle(struct flow *s);
/* Breaks off: receives what was asked for, so that the channel is free; wipes what is open. */
enum sp_err flow_end(struct flow *s);
/* Bytes of the message without what stands in front. */
uint64_t flow_size(const struct flow *s);
/* Wipes keys and plaintext too. */
void flow_free(struct flow *s);

#endif
