#ifndef SEALPOST_AUDIT_CHAIN_H
#define SEALPOST_AUDIT_CHAIN_H
/*
 * The log being written: lines chained by hash (log.h), gathered in memory, appended with one
 * write(2), checkpoints. No function here ends the process; after any error the caller does.
 *
 * What is on disk when: a line is in the kernel at the end of the turn in which it came; the log is
 * synced at its first line, at each checkpoint and at a clean stop. A power failure may thus take
 * the lines since the newest checkpoint with it; a crash of processes takes none.
 */
#include "daemon/audit/log.h"
#include "daemon/audit/render.h"
#include "envelope/error.h"

#include <stddef.h>
#include <stdint.h>

struct chain;

/* Continues the log in log_fd (O_APPEND) with the keys in key_fd. Both stay the caller's. A torn
 * last line is ended and noted. *why: what is wrong, and what to do, when it fails. */
enum sp_err chain_open(int log_fd, int key_fd, struct chain **out, const char **why);
void chain_free(struct chain *chain);

/* Begins a line; what audit_render appends to the text comes next; then it is ended, or dropped. */
struct audit_text *chain_begin(struct chain *chain);
enum sp_err chain_end(struct chain *chain, bool names_key);
/* Appends to the file what was gathered. */
enum sp_err chain_flush(struct chain *chain);
/* Flushes, signs, replaces the key. */
enum sp_err chain_checkpoint(struct chain *chain);

/* Goes on in an empty file (O_APPEND), which becomes the chain's: a checkpoint ends the old one,
 * log.rotated begins the new one with the keys that it is verified by, and is on disk when this
 * returns. *last: seq of the old file's last line. The old descriptor is closed. */
enum sp_err chain_rotate(struct chain *chain, int fd, uint64_t *last);

struct chain_status {
    uint64_t events, bytes, checkpoints, since; /* since: events after the newest checkpoint */
    char first_key[AUDIT_HEX + 1], current_key[AUDIT_HEX + 1];
};
void chain_status(const struct chain *chain, struct chain_status *out);

#endif
