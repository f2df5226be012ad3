#ifndef SEALPOST_CLIENT_SPOOL_H
#define SEALPOST_CLIENT_SPOOL_H
/* A message's pieces as ciphertext in one nameless file, and reading them decrypted, a chunk of
 * 16 KiB at a time. Plaintext is held in locked memory, one chunk for each open reader. */
#include "client/server.h"
#include "client/state.h"
#include "envelope/envelope.h"
#include "envelope/manifest.h"

struct spool {
    int fd;
    uint32_t n;
    uint64_t base[ENVELOPE_MAX_PIECES];
    uint64_t len[ENVELOPE_MAX_PIECES];
};

/* Makes room for pieces of the lengths that the envelope states. SP_ERR_LIMIT. Reported. */
enum sp_err spool_open(struct spool *sp, struct state *s, const struct envelope *e);
void spool_close(struct spool *sp);

/* Where pieces come from: as server_piece and server_refuse have it. */
struct spool_source {
    enum sp_err (*piece)(const struct spool_source *from, uint32_t i, uint64_t at, http_sink sink,
                         void *ctx);
    enum sp_err (*refuse)(const struct spool_source *from, enum sp_err err, const char *what);
    void *ctx;
    const char *id; /* the message's, for errors */
};
struct spool_source spool_mailbox(struct server *server, const char id[ID_HEX + 1]);

/* Downloads piece i as a whole; an interrupted download goes on where it stopped, three tries in
 * all. Reported, as step 5. */
enum sp_err spool_fetch(struct spool *sp, const struct spool_source *from, uint32_t i);
/* SHA-256 of a whole piece's ciphertext; not reported. */
enum sp_err spool_hash(const struct spool *sp, uint32_t i, uint8_t out[HASH_SIZE]);

struct spool_reader;
/* Opens a piece for reading from its start; SP_ERR_AUTH: the key is not this piece's. The reader
 * may be used for one piece after another. */
enum sp_err spool_reader_new(struct spool_reader **out);
void spool_reader_free(struct spool_reader *r);
enum sp_err spool_reader_start(struct spool_reader *r, const struct spool *sp, uint32_t i,
                               const uint8_t key[KEY_SIZE]);
/* Up to max bytes, as join_ends.read has it. Nothing leaves a chunk before its tag verified. */
enum sp_err spool_reader_next(struct spool_reader *r, size_t max, const uint8_t **at, size_t *got);

#endif
