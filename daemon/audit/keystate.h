#ifndef SEALPOST_AUDIT_KEYSTATE_H
#define SEALPOST_AUDIT_KEYSTATE_H
/*
 * The signing key of checkpoints, which is replaced and erased at each (layout of its file: log.h).
 * At a checkpoint, in this order, each step on disk before the next:
 *     keystate_prepare   the next key into the other slot
 *     (the line, signed with the current key and naming the next one; the log synced)
 *     keystate_advance   the current key's slot overwritten; the next one is current
 * A crash in between leaves two keys, and the log says which is current: the one that its newest
 * checkpoint names. The other is erased at the next start.
 */
#include "envelope/error.h"
#include "envelope/keys.h"

#include <stddef.h>
#include <stdint.h>

struct keystate;

/* current: the key that the log names, NULL for a log without a line. The file stays the caller's.
 * SP_ERR_AUTH: the file does not have that key (the log was cut back, or is another's);
 * SP_ERR_EXISTS: there is no log, but the key has been used for one; SP_ERR_SYSTEM, _MEMORY. */
enum sp_err keystate_open(int fd, const uint8_t *current, struct keystate **out);
void keystate_free(struct keystate *state);
const uint8_t *keystate_public(const struct keystate *state);
enum sp_err keystate_prepare(struct keystate *state, uint8_t next[KEY_SIZE]);
enum sp_err keystate_sign(const struct keystate *state, const uint8_t *message, size_t len,
                          uint8_t signature[SIGN_SIZE]);
enum sp_err keystate_advance(struct keystate *state);

#endif
