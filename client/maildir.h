#ifndef SEALPOST_CLIENT_MAILDIR_H
#define SEALPOST_CLIENT_MAILDIR_H
/* Delivering into a Maildir: written in tmp/, synced, then renamed into new/. The message id stands
 * in the file's name, so that nothing comes twice. And how far each Maildir has come, in sync.json:
 *   {"maildirs": {"/path": {"last": seq, "retry": ["message id", ...]}}} */
#include "client/server.h"
#include "client/state.h"

#include <stdbool.h>

struct maildir;

/* Makes the folders that are missing and looks at what is there. Reported. */
enum sp_err maildir_open(const char *path, struct maildir **out);
void maildir_close(struct maildir *d);
const char *maildir_path(const struct maildir *d); /* absolute */
bool maildir_has(const struct maildir *d, const char id[ID_HEX + 1]);

/* A file in tmp/ to write to. */
enum sp_err maildir_begin(struct maildir *d, const char id[ID_HEX + 1], uint64_t received_ms,
                          int *fd);
/* keep: syncs it and moves it to new/; else it is removed. */
enum sp_err maildir_end(struct maildir *d, bool keep);

#define PROGRESS_MAX_RETRY 4096u

struct progress {
    uint64_t last; /* everything up to this seq was tried */
    uint32_t n;
    char (*retry)[ID_HEX + 1]; /* what failed; PROGRESS_MAX_RETRY of them */
};

enum sp_err progress_load(struct state *s, const char *path, struct progress *p);
enum sp_err progress_save(struct state *s, const char *path, const struct progress *p);
/* Of all Maildirs. */
enum sp_err progress_forget(struct state *s);
void progress_free(struct progress *p);
/* Remembers a failure, or takes it back. SP_ERR_LIMIT. */
enum sp_err progress_failed(struct progress *p, const char id[ID_HEX + 1]);
void progress_done(struct progress *p, const char id[ID_HEX + 1]);

#endif
