#ifndef SEALPOST_CLIENT_MESSAGE_H
#define SEALPOST_CLIENT_MESSAGE_H
/* A message, fetched and opened in the order of FORMAT.md section 5. Every failure is reported
 * once, with the step's name, and nothing of the plaintext has left then. */
#include "client/client.h"
#include "client/spool.h"
#include "envelope/envelope.h"
#include "envelope/manifest.h"

/* Who vouches for a message. */
struct signer {
    bool there;   /* a user signed it; else the appliance sealed it as it came in */
    bool own;     /* this user */
    bool revoked; /* by a device that is revoked by now */
    bool gone;    /* the server has no such user any more: checked by what is remembered */
    bool moved;   /* a tracked contact, whose fingerprint changed since it was compared */
    char address[ACCOUNT_MAX_ADDRESS + 1];
    char fingerprint[SIGCHAIN_FINGERPRINT];
};

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
    struct signer signer;
    struct spool spool;
};

/* Takes b32(envelope) b32(box), free()d by message_free, and cuts them apart; not decoded yet. id:
 * the message's, or "" when only the envelope says it. message_free after either result. */
enum sp_err message_take(struct message *m, const char *id, uint8_t *bytes, size_t len);
/* The same, fetched from the mailbox.
 */
enum sp_err message_fetch(struct client *c, const char id[ID_HEX + 1], struct message *m);
void message_free(struct message *m);
/* Step 1: decodes envelope and box, and sees that they are this message's. */
enum sp_err message_decode(struct message *m);
/* Opens m->envelope.manifest with the shared key, and compares lengths: step 4. */
enum sp_err message_manifest(struct message *m, const uint8_t shared_key[KEY_SIZE]);
/* Steps 1 to 4; c->own is there. */
enum sp_err message_open(struct client *c, struct message *m);
/* Step 5 for every piece: fetched, hash compared over the whole ciphertext, each chunk's tag tried.
 */
enum sp_err message_pieces(struct message *m, struct state *s, const struct spool_source *from);
/* The rejoined message to a sink, whose failure ends it; nothing is reported. After message_pieces.
 */
enum sp_err message_join(const struct message *m,
                         enum sp_err (*write)(void *ctx, const uint8_t *bytes, size_t len),
                         void *ctx);
/* The message, byte for byte, to a descriptor; name: what it is, for errors. After message_pieces.
 */
enum sp_err message_write(const struct message *m, int fd, const char *name);

/* Whether going on with other messages makes sense after a failure: this one's own, or everybody's.
 */
bool message_stops(enum sp_err err);

/* All of the above. */
enum sp_err message_read(struct client *c, const char id[ID_HEX + 1], struct message *m);

#endif
