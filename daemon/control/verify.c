/* `sealpostctl audit verify`: finds the files of a log, and says what their verification found. */
#include "daemon/audit/log.h"
#include "daemon/config.h"
#include "daemon/control/ctl.h"

#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILES 10000u

static void show_report(const struct audit_report *r, const char *path, size_t files, bool json)
{
    if (json) {
        printf("{\"file\": \"%s\", \"files\": %zu, \"first\": %" PRIu64 ", \"events\": %" PRIu64
               ", \"checkpoints\": %" PRIu64 ", \"covered\": %" PRIu64 ", \"torn\": %" PRIu64
               ", \"first_key\": \"%s\", \"current_key\": \"%s\"}\n",
               path, files, r->first, r->events, r->checkpoints, r->covered, r->torn, r->first_key,
               r->current_key);
        return;
    }
    if (r->first > 1)
        printf("begins with event %" PRIu64 ": files before it are not here, and its word is taken "
               "for them\n",
               r->first);
    printf("%s: %" PRIu64 " events, each linked to the one before it", path,
           r->events - r->first + (r->events > 0));
    printf(files > 1 ? ", in %zu files\n" : "\n", files);
    printf("checkpoints: %" PRIu64 "; up to event %" PRIu64
           " a change would be found even after a takeover\n",
           r->checkpoints, r->covered);
    if (r->torn > 0)
        printf("unfinished lines left by crashes, noted in the log: %" PRIu64 "\n", r->torn);
    printf("first public key: %s\n", r->first_key);
}

/* Only the appliance's own log can be compared with its key state. */
static enum sp_err check_head(const struct config *c, const struct audit_report *r)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/audit.key", c->state);
    FILE *state = fopen(path, "re");
    if (state == NULL) {
        fprintf(stderr, "sealpostctl: %s: %s; the log's end is not compared with it\n", path,
                strerror(errno));
        return SP_OK;
    }
    enum sp_err err = audit_verify_head(state, r);
    fclose(state);
    if (err != SP_OK)
        fprintf(stderr, "sealpostctl: the log ends before its newest checkpoint: it was cut, or "
                        "is not this appliance's\n");
    return err;
}

/* The verdict on files that are open; path: what they are called together. */
static int verify_open(const struct config *own, FILE **log, char **paths, size_t n,
                       const char *key, bool json)
{
    struct audit_report report;
    enum sp_err err = audit_verify(log, n, key, &report);
    if (err != SP_OK) {
        fprintf(stderr, "sealpostctl: %s:%" PRIu64 ": %s\n", paths[report.bad_file],
                report.bad_line, report.why != NULL ? report.why : sp_err_text(err));
        return 1;
    }
    if (own != NULL && check_head(own, &report) != SP_OK)
        return 1;
    show_report(&report, paths[n - 1], n, json);
    return 0;
}

static int verify_files(const struct config *own, char **paths, size_t n, const char *key,
                        bool json)
{
    FILE **log = calloc(n + 1, sizeof(FILE *));
    size_t open = 0;
    int status = 1;
    while (log != NULL && open < n && (log[open] = fopen(paths[open], "re")) != NULL)
        open++;
    if (log != NULL && open == n)
        status = verify_open(own, log, paths, n, key, json);
    else
        fprintf(stderr, "sealpostctl: %s: %s\n", paths[open], strerror(errno));
    while (open > 0)
        fclose(log[--open]);
    free(log);
    return status;
}

int verify_run(const struct config *config, char **files, size_t n, const char *key, bool json)
{
    char pattern[PATH_MAX];
    glob_t found;
    if (n > 0)
        return verify_files(NULL, files, n, key, json);
    /* The names sort by age: see daemon/rotation.c. */
    snprintf(pattern, sizeof(pattern),
             "%s.[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]", config->audit_log);
    int rc = glob(pattern, 0, NULL, &found);
    if ((rc != 0 && rc != GLOB_NOMATCH) || found.gl_pathc > MAX_FILES) {
        fprintf(stderr, "sealpostctl: %s: cannot be listed\n", pattern);
        return 1;
    }
    size_t count = rc == 0 ? found.gl_pathc : 0;
    char **paths = calloc(count + 1, sizeof(char *));
    int status = 1;
    if (paths != NULL) {
        for (size_t i = 0; i < count; i++)
            paths[i] = found.gl_pathv[i];
        paths[count] = config->audit_log;
        status = verify_files(config, paths, count + 1, key, json);
    }
    free(paths);
    if (rc == 0)
        globfree(&found);
    return status;
}
