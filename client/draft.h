#ifndef SEALPOST_CLIENT_DRAFT_H
#define SEALPOST_CLIENT_DRAFT_H
/*
 * A message being sealed while it is read (FORMAT.md section 4): cut as the appliance cuts, each
 * piece under its own key, ciphertext alone to two files: the body's, and one with the attachments
 * one after the other. At most one chunk of each is plaintext at a time, in locked memory.
 */
#include "envelope/envelope.h"
#include "envelope/manifest.h"

struct draft;

/* The files are borrowed, and written from their start. NULL: no memory. */
struct draft *draft_new(int body_fd, int parts_fd);
/* Wipes, keys included. */
void draft_free(struct draft *d);

enum sp_err draft_push(struct draft *d, const uint8_t *bytes, size_t len);
/* The message is over: the last chunks are sealed and written. */
enum sp_err draft_finish(struct draft *d);

/* After draft_finish: seals the manifest. *out is free()d by the caller. SP_ERR_LIMIT. */
enum sp_err draft_manifest(struct draft *d, uint64_t time_ms, bool server_access,
                           const uint8_t shared_key[KEY_SIZE], uint8_t **out, size_t *len);
/* Ciphertext bytes of each piece, in the order in which they stand in the files. */
uint32_t draft_lengths(const struct draft *d, uint64_t length[ENVELOPE_MAX_PIECES]);

#endif
