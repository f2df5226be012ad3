/* `sealpostctl audit verify`: finds the files of a log, and says what their verification found. */
#include "daemon/audit/log.h"
#include "daemon/config.h"
#include "daemon/control/ctl.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DIGITS   12u /* of a rotated file's number: see daemon/rotation.c */
#define ATTEMPTS 100u

struct log {
    char **path; /* of `files.n` files, oldest first */
    FILE *live;  /* the last of them, if it is open already */
    struct audit_files files;
};

/* --- what is said --- */

static int complain(const char *path, const char *why)
{
    fprintf(stderr, "sealpostctl: %s: %s\n", path, why);
    return 1;
}

/* A path may be any bytes; JSON is UTF-8. */
static json_t *path_json(const char *path)
{
    char text[PATH_MAX];
    json_t *whole = json_string(path);
    if (whole != NULL)
        return whole;
    snprintf(text, sizeof(text), "%s", path);
    for (char *at = text; *at != '\0'; at++)
        *at = (unsigned char)*at < 0x80 ? *at : '?';
    return json_string(text);
}

static json_t *number(uint64_t n)
{
    return json_integer((json_int_t)n);
}

static void show_json(const struct audit_report *r, const char *path, size_t files, bool compared)
{
    json_t *o =
        json_pack("{so so so so so so so so sb ss ss}", "file", path_json(path), "files",
                  number(files), "first", number(r->first), "events", number(r->events),
                  "checkpoints", number(r->checkpoints), "covered", number(r->covered), "torn",
                  number(r->torn), "unfinished", number(r->unfinished), "end_compared", compared,
                  "first_key", r->first_key, "current_key", r->current_key);
    json_dumpf(o, stdout, 0);
    putchar('\n');
    json_decref(o);
}

static void show_text(const struct audit_report *r, const char *path, size_t files, bool compared)
{
    if (r->first > 1)
        printf("begins with event %" PRIu64 ": files before it are not here, and its word is taken "
               "for them\n",
               r->first);
    if (r->events == 0) {
        printf("%s: holds no event yet: its key has been made, and has signed nothing\n", path);
        return;
    }
    printf("%s: %" PRIu64 " events, each linked to the one before it", path,
           r->events - r->first + 1);
    printf(files > 1 ? ", in %zu files\n" : "\n", files);
    printf("checkpoints: %" PRIu64 "; up to event %" PRIu64
           " a change would be found even after a takeover\n",
           r->checkpoints, r->covered);
    if (r->torn > 0)
        printf("unfinished lines left by crashes, noted in the log: %" PRIu64 "\n", r->torn);
    if (r->unfinished > 0)
        printf("the last %" PRIu64 " bytes are no whole line: one is being written, or a crash "
               "left them and the next start notes them\n",
               r->unfinished);
    if (!compared)
        printf("the end is not compared with the appliance's key state: these files pass even if "
               "they were cut back to an older checkpoint\n");
    printf("first public key: %s\n", r->first_key);
}

static void show(const struct audit_report *r, const struct log *log, bool compared, bool json)
{
    (json ? show_json : show_text)(r, log->path[log->files.n - 1], log->files.n, compared);
}

static int show_finding(const struct audit_report *r, const struct log *log, enum sp_err err)
{
    const char *path = log->path[r->bad_file];
    const char *why = r->why != NULL ? r->why : sp_err_text(err);
    if (err == SP_ERR_SYSTEM)
        return complain(path, strerror(errno));
    if (r->bad_line == 0)
        return complain(path, why);
    fprintf(stderr, "sealpostctl: %s:%" PRIu64 ": %s\n", path, r->bad_line, why);
    return 1;
}

/* --- files that are named --- */

static FILE *open_file(void *ctx, size_t i)
{
    struct log *log = ctx;
    FILE *live = log->live;
    if (i + 1 < log->files.n || live == NULL)
        return fopen(log->path[i], "re");
    log->live = NULL;
    return live;
}

static int verify_named(struct log *log, const char *key, bool json)
{
    struct audit_report report;
    enum sp_err err = audit_verify(&log->files, key, NULL, &report);
    if (err != SP_OK)
        return show_finding(&report, log, err);
    show(&report, log, false, json);
    return 0;
}

/* --- the appliance's own --- */

static enum sp_err read_head(const struct config *c, struct audit_head *out)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/audit.key", c->state);
    FILE *state = fopen(path, "re");
    if (state == NULL) {
        fprintf(stderr,
                "sealpostctl: %s: %s; it belongs to the log, and without it nobody sees whether "
                "that was cut back to an older checkpoint: put it back, or run this as who may "
                "read it (`audit verify FILE...` looks at files alone)\n",
                path, strerror(errno));
        return SP_ERR_SYSTEM;
    }
    enum sp_err err = audit_head_read(state, out);
    fclose(state);
    if (err != SP_OK)
        complain(path, "is not the key state of an audit log: put the one back that belongs to it");
    return err;
}

/* Between two renamings of a rotation, or after a crash there, the log is still called .new. */
static FILE *open_live(const struct config *c, char path[PATH_MAX])
{
    static const char *const ending[] = {"", ".new"};
    FILE *live = NULL;
    for (unsigned i = 0; live == NULL && i < ATTEMPTS && (i == 0 || errno == ENOENT); i++) {
        snprintf(path, PATH_MAX, "%s%s", c->audit_log, ending[i % 2]);
        live = fopen(path, "re");
    }
    if (live == NULL)
        complain(c->audit_log, strerror(errno));
    return live;
}

static bool is_rotated(const char *name, const char *log)
{
    size_t n = strlen(log);
    return strncmp(name, log, n) == 0 && name[n] == '.' && strlen(name + n + 1) == DIGITS &&
           strspn(name + n + 1, "0123456789") == DIGITS;
}

static bool same_file(const char *path, FILE *live)
{
    struct stat a, b;
    return stat(path, &a) == 0 && fstat(fileno(live), &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

static enum sp_err add_path(struct log *log, const char *path)
{
    log->path[log->files.n] = strdup(path);
    if (log->path[log->files.n] == NULL)
        return SP_ERR_MEMORY;
    log->files.n++;
    return SP_OK;
}

/* The rotated files, by age as their names sort. If the one that is open got its number since,
 * those from there on are not part of what is looked at. */
static enum sp_err add_rotated(struct log *log, const char *folder, const char *name,
                               struct dirent **entry, int n)
{
    char path[PATH_MAX];
    enum sp_err err = SP_OK;
    for (int i = 0; i < n && err == SP_OK; i++) {
        if (!is_rotated(entry[i]->d_name, name))
            continue;
        if (snprintf(path, sizeof(path), "%s%s", folder, entry[i]->d_name) >= (int)sizeof(path))
            return SP_ERR_LIMIT;
        if (same_file(path, log->live))
            break;
        err = add_path(log, path);
    }
    return err;
}

/* live_path: what is open already, the last one. SP_ERR_SYSTEM: errno. */
static enum sp_err list_files(const char *audit_log, const char *live_path, struct log *log)
{
    char folder[PATH_MAX];
    struct dirent **entry;
    const char *slash = strrchr(audit_log, '/');
    size_t len = slash != NULL ? (size_t)(slash + 1 - audit_log) : 0;
    snprintf(folder, sizeof(folder), "%.*s", (int)len, audit_log);
    int n = scandir(len > 0 ? folder : ".", &entry, NULL, alphasort);
    if (n < 0)
        return SP_ERR_SYSTEM;
    log->path = calloc((size_t)n + 1, sizeof(char *));
    enum sp_err err = log->path != NULL ? SP_OK : SP_ERR_MEMORY;
    if (err == SP_OK)
        err = add_rotated(log, folder, audit_log + len, entry, n);
    if (err == SP_OK)
        err = add_path(log, live_path);
    while (n > 0)
        free(entry[--n]);
    free(entry);
    return err;
}

/* A log that was only made: the role writes its first key before its first line. */
static bool is_new(const struct audit_head *head, const struct log *log, const char *key)
{
    return log->files.n == 1 && key == NULL && head->generation[0] == 0 && head->generation[1] == 1;
}

static int verify_own(const struct config *c, const struct audit_head *before, struct log *log,
                      const char *key, bool json)
{
    struct audit_report report;
    struct audit_head after;
    enum sp_err err = audit_verify(&log->files, key, before, &report);
    bool empty = err == SP_ERR_NOT_FOUND && is_new(before, log, key);
    if (err != SP_OK && !empty)
        return show_finding(&report, log, err);
    if (read_head(c, &after) != SP_OK)
        return 1;
    if (!empty && !audit_head_agrees(before, &after, &report))
        return complain(c->audit_log, "ends before its newest checkpoint: it was cut, or is not "
                                      "this appliance's");
    show(&report, log, true, json);
    return 0;
}

/* What the key state says first is what the log, opened and listed after that, has to reach. */
static int find_own(const struct config *c, const char *key, bool json)
{
    char live_path[PATH_MAX];
    struct audit_head before;
    struct log log = {.files = {open_file, &log, 0}};
    int status = 1;
    if (read_head(c, &before) != SP_OK || (log.live = open_live(c, live_path)) == NULL)
        return 1;
    enum sp_err err = list_files(c->audit_log, live_path, &log);
    if (err == SP_OK)
        status = verify_own(c, &before, &log, key, json);
    else
        complain(c->audit_log, err == SP_ERR_SYSTEM ? strerror(errno) : sp_err_text(err));
    if (log.live != NULL)
        fclose(log.live);
    while (log.files.n > 0)
        free(log.path[--log.files.n]);
    free(log.path);
    return status;
}

/* 64 hex digits, as they stand in a log. */
static bool read_key(const char *text, char out[AUDIT_HEX + 1])
{
    size_t n = 0;
    for (; n < AUDIT_HEX && isxdigit((unsigned char)text[n]); n++)
        out[n] = (char)tolower((unsigned char)text[n]);
    out[n] = '\0';
    return n == AUDIT_HEX && text[n] == '\0';
}

int verify_run(const struct config *config, char **files, size_t n, const char *key, bool json)
{
    char noted[AUDIT_HEX + 1];
    struct log named = {.path = files, .files = {open_file, &named, n}};
    if (key != NULL && !read_key(key, noted)) {
        fprintf(stderr, "sealpostctl: --key: wanted are the 64 hex digits of the first public key, "
                        "as `sealpostctl status` shows them (audit_first_key)\n");
        return 2;
    }
    key = key != NULL ? noted : NULL;
    return n > 0 ? verify_named(&named, key, json) : find_own(config, key, json);
}
