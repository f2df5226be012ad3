#ifndef SEALPOST_CLIENT_STATE_H
#define SEALPOST_CLIENT_STATE_H
/*
 * The state directory: $SEALPOST_HOME, else $XDG_CONFIG_HOME/sealpost, else ~/.config/sealpost.
 * Mode 0700, files 0600, each replaced as a whole (temporary file, fsync, rename, fsync of the
 * directory), and one process at a time in it.
 *
 *   lock           held while a client works here
 *   account.json   where the user is enrolled (client/account.h)
 *   keys           device keys and PUK seeds, encrypted (client/keyfile.h)
 *   chains/        every sigchain seen, own and others' (client/chain.h)
 *   sync.json      how far each Maildir has come (client/maildir.h)
 *   outbox/        unfinished sends, encrypted (client/outbox.h)
 */
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct state;

/* create: makes the directory if it is not there; else SP_ERR_NOT_FOUND without a word. Waits a
 * while for another client to finish. Every other failure has been reported. */
enum sp_err state_open(bool create, struct state **out);
void state_close(struct state *s);
/* Lets others work here for a while (during long transfers), and waits for the lock again, however
 * long that takes. What was read before may have changed. */
void state_unlock(struct state *s);
enum sp_err state_lock(struct state *s);
const char *state_path(const struct state *s);

/* A whole file: *out is the caller's to free(), NUL-terminated beyond *len. SP_ERR_NOT_FOUND
 * without a word, SP_ERR_LIMIT over max bytes. name may lead into a subdirectory. */
enum sp_err state_read(struct state *s, const char *name, size_t max, uint8_t **out, size_t *len);
enum sp_err state_write(struct state *s, const char *name, const void *bytes, size_t len);
/* A file to work in, mode 0600, made anew (create) or opened. */
enum sp_err state_file(struct state *s, const char *name, bool create, int *fd);
/* Not being there is fine. */
enum sp_err state_remove(struct state *s, const char *name);
/* Calls each(ctx, name) for the files of a subdirectory (its failure ends it); none is fine. */
enum sp_err state_each(struct state *s, const char *folder,
                       enum sp_err (*each)(void *ctx, const char *name), void *ctx);
/* A nameless file for ciphertext: gone when it is closed, whatever happens. */
enum sp_err state_spool(struct state *s, int *fd);

/* All of it, through interruptions and short counts. SP_ERR_SYSTEM; SP_ERR_FORMAT: the file ended.
 */
enum sp_err file_write(int fd, const void *bytes, size_t len);
enum sp_err file_pread(int fd, void *out, size_t len, uint64_t at);
enum sp_err file_pwrite(int fd, const void *bytes, size_t len, uint64_t at);
/* mkdir with all its parents. */
enum sp_err file_mkdirs(const char *path);

#endif
