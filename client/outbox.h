#ifndef SEALPOST_CLIENT_OUTBOX_H
#define SEALPOST_CLIENT_OUTBOX_H
/*
 * Unfinished sends, in outbox/ of the state directory, by message id:
 *
 *   ID.body, ID.parts   ciphertext of the body, and of the attachments one after the other; locked
 *                       (flock) by the client that is at work on it
 *   ID.letter           "SPLT" u8 version=1 nonce[24] b16 secrets nonce[24] b32 rest, each sealed
 *                       with XChaCha20-Poly1305 under HKDF(device box key, "sealpost/1 outbox"),
 *                       so that nothing opens it without the key file
 *
 * The letter is written last, when all ciphertext is on disk: files without one are leftovers.
 */
#include "client/keyfile.h"
#include "client/letter.h"

/* Makes the two empty files for a new letter, and takes leftovers away. Reported. */
enum sp_err outbox_begin(struct state *s, struct letter *l);
/* Writes the letter; the first time only after syncing its files. Reported. */
enum sp_err outbox_save(struct state *s, const struct keyring *keys, const struct letter *l);
/* The letter of this id (32 hex digits), its files open. SP_ERR_EXISTS: another client is at work
 * on it. Reported. */
enum sp_err outbox_load(struct state *s, const struct keyring *keys, const char *hex,
                        struct letter **out);
/* It is sent, or given up. */
void outbox_remove(struct state *s, const struct letter *l);
/* Calls each(ctx, hex) for every letter; its failure ends it. */
enum sp_err outbox_each(struct state *s, enum sp_err (*each)(void *ctx, const char *hex),
                        void *ctx);

#endif
