#ifndef SEALPOST_CLIENT_MESSAGE_H
#define SEALPOST_CLIENT_MESSAGE_H
/* A message, fetched and opened in the order of FORMAT.md section 5. Every failure is reported
 * once, with the step's name, and nothing of the plaintext has left then. */
#include "client/client.h"
#include "client/spool.h"
#include "envelope/envelope.h"
#include "envelope/manifest.h"

struct message {
    char id[ID_HEX + 1];
    uint8_t *bytes; /* b32(envelope) b32(box), as the server sent it */
    const uint8_t *envelope_bytes, *box_bytes;
    size_t envelope_len, box_len;
    struct envelope envelope;
    struct box box;
    uint8_t *manifest_bytes; /* locked memory, as are the pieces with their keys */
    struct piece *pieces;
    struct manifest manifest;
    struct spool spool;
};

/* Fetches envelope and box and cuts them apart; not decoded yet. message_free after either result.
 */
enum sp_err message_fetch(struct client *c, const char id[ID_HEX + 1], struct message *m);
void message_free(struct message *m);
/* Step 1: decodes envelope and box, and sees that they are this message's. */
enum sp_err message_decode(struct message *m);
/* Steps 1 to 4; c->own is there. */
enum sp_err message_open(struct client *c, struct message *m);
/* Step 5 for every piece: fetched, hash compared over the whole ciphertext, each chunk's tag tried.
 */
enum sp_err message_pieces(struct client *c, struct message *m);
/* The message, byte for byte, to a descriptor; name: what it is, for errors. After message_pieces.
 */
enum sp_err message_write(const struct message *m, int fd, const char *name);

/* All of the above. */
enum sp_err message_read(struct client *c, const char id[ID_HEX + 1], struct message *m);

#endif
