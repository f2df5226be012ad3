/* The audit log goes on in a new file. The audit role writes the first line of the new file before
 * anything is renamed, so that a crash at any point leaves either the old log, which is gone on
 * with, or both files, and the next start finishes what was begun. */
#include "daemon/supervisor.h"
#include "daemon/messages.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SECRET_MODE 0600

static void name_new(const struct config *c, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s.new", c->audit_log);
}

static enum sp_err fail(const char *path)
{
    dprintf(STDERR_FILENO, "sealpostd: %s: %s\n", path, strerror(errno));
    return SP_ERR_SYSTEM;
}

static enum sp_err sync_folder(const char *path)
{
    char dir[PATH_MAX];
    snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash != NULL)
        slash[slash == dir] = '\0';
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok ? SP_OK : fail(dir);
}

/* The old log gets its number, unless a crash came behind that, and the new one its place. */
static enum sp_err put_in_place(const struct config *c, uint64_t last)
{
    char fresh[PATH_MAX], numbered[PATH_MAX];
    name_new(c, fresh);
    if (snprintf(numbered, sizeof(numbered), "%s.%012" PRIu64, c->audit_log, last) >=
        (int)sizeof(numbered))
        return SP_ERR_LIMIT;
    if (access(c->audit_log, F_OK) == 0 &&
        renameat2(AT_FDCWD, c->audit_log, AT_FDCWD, numbered, RENAME_NOREPLACE) != 0)
        return fail(numbered);
    if (rename(fresh, c->audit_log) != 0)
        return fail(fresh);
    return sync_folder(c->audit_log);
}

/* The number in `{"seq":N,` at the beginning of a file with a whole first line; 0: it has none. */
static uint64_t first_seq(const char *path)
{
    char text[4096];
    uint64_t seq = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (fd >= 0)
        close(fd);
    if (n <= 0 || memchr(text, '\n', (size_t)n) == NULL)
        return 0;
    text[n] = '\0';
    return sscanf(text, "{\"seq\":%" SCNu64 ",", &seq) == 1 ? seq : 0;
}

enum sp_err rotation_finish(const struct config *c)
{
    char fresh[PATH_MAX];
    name_new(c, fresh);
    if (access(fresh, F_OK) != 0)
        return SP_OK;
    uint64_t seq = first_seq(fresh);
    if (seq > 1)
        return put_in_place(c, seq - 1);
    return unlink(fresh) == 0 ? SP_OK : fail(fresh);
}

enum sp_err rotation_begin(struct supervisor *s)
{
    char fresh[PATH_MAX];
    struct ipc_peer *audit = s->child[ROLE_AUDIT].control;
    if (s->fresh_log >= 0 || audit == NULL)
        return SP_ERR_STATE;
    name_new(s->config, fresh);
    s->fresh_log =
        open(fresh, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, SECRET_MODE);
    if (s->fresh_log < 0)
        return fail(fresh);
    return ipc_peer_send(audit, CT_LOG, 0, NULL, s->fresh_log);
}

enum sp_err rotation_end(struct supervisor *s, uint64_t last)
{
    if (s->fresh_log < 0)
        return SP_ERR_STATE;
    enum sp_err err = put_in_place(s->config, last);
    close(s->res.audit_log); /* the next tree gets the new one */
    s->res.audit_log = s->fresh_log;
    s->fresh_log = -1;
    return err;
}

/* The tree died in between. */
void rotation_abandon(struct supervisor *s)
{
    if (s->fresh_log < 0)
        return;
    close(s->fresh_log);
    s->fresh_log = -1;
    if (rotation_finish(s->config) != SP_OK)
        return;
    int log = open(s->config->audit_log, O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
    if (log < 0)
        return;
    close(s->res.audit_log);
    s->res.audit_log = log;
}
