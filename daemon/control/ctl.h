#ifndef SEALPOST_CTL_H
#define SEALPOST_CTL_H
/* sealpostctl: ctl.c (options, verbs), connection.c (the control socket), table.c (text and JSON).
 */
#include "daemon/config.h"
#include "envelope/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Rows of equally many cells; the first row holds the headings. */
struct table {
    size_t columns, rows; /* rows counts the headings too */
    char **cell;          /* rows * columns, NUL-terminated */
};

/* The answer to one request. */
struct answer {
    enum sp_err status;
    char *message; /* for people; may be empty */
    struct table table;
};

void answer_free(struct answer *a);
/* Connects, sends the first frame and, for CC_STORE, the request, and gathers the answer. What goes
 * wrong is said on stderr. */
enum sp_err ctl_ask(const char *socket_path, uint16_t service, char **args, size_t n_args,
                    struct answer *out);

/* check.c: in the order of enum role_id. */
extern const char *const ctl_role_names[];

/* setup.c: makes keys that are missing, prints DNS records, says what is left to do on stderr; the
 * exit status (1: it could not make something). */
int setup_run(const struct config *config);

/* verify.c: `audit verify`; the exit status. No files: the appliance's own log, all its files, and
 * its end compared with the key state. key: as it was given; one that is no key is wrong usage. */
int verify_run(const struct config *config, char **files, size_t n, const char *key, bool json);

/* backup.c: the database and the keeper's key into a new folder, while the appliance runs; the exit
 * status. */
int backup_run(const struct config *config, const char *to);

/* dkim.c: the DNS records for each selector and domain; a new private key in a new file, kind rsa
 * or ed25519. What goes wrong is said on stderr. The exit status. */
int dkim_show(const struct config *config, bool json);
int dkim_new(const char *kind, const char *path);

void table_print(const struct table *t, FILE *out);
void table_print_json(const struct table *t, FILE *out);

#endif
