/* Where an existing log stands. Whoever had the machine before may have written to the file: what
 * we go on from must parse, and must be the line that its own hash says. */
#include "daemon/audit/tail.h"

#include <sodium.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOW (256u * 1024u)

struct scan {
    struct audit_tail *tail;
    bool found_key; /* the newest checkpoint, or the log's first line, lies in the window */
    bool whole_line_bad;
    bool changed; /* the hash of a line behind the last good one is not the one of its bytes */
    crypto_hash_sha256_state torn;
};

static void add_torn(struct scan *s, const char *bytes, size_t len, bool ended)
{
    struct audit_tail *t = s->tail;
    if (!t->torn) {
        crypto_hash_sha256_init(&s->torn);
        t->torn_bytes = 0;
    }
    t->torn = true;
    crypto_hash_sha256_update(&s->torn, (const uint8_t *)bytes, len);
    if (ended)
        crypto_hash_sha256_update(&s->torn, (const uint8_t *)"\n", 1);
    t->torn_bytes += len + ended;
    s->whole_line_bad = ended;
}

static void add_event(struct scan *s, const struct audit_line *line)
{
    struct audit_tail *t = s->tail;
    bool checkpoint = audit_line_is(line, "checkpoint");
    t->torn = false;
    s->whole_line_bad = false;
    s->changed = false;
    t->seq = line->seq;
    t->since = checkpoint ? 0 : t->since + 1;
    memcpy(t->prev, line->hash, AUDIT_HASH);
    bool first = line->seq == 1 || audit_line_is(line, "log.rotated");
    if (checkpoint ? audit_line_key(line, "next_key", t->current_key)
                   : first && audit_line_key(line, "audit_key", t->current_key))
        s->found_key = true;
}

/* All lines from offset on, which is the beginning of the file or lies inside a line. */
static enum sp_err scan_from(FILE *log, off_t offset, char *buf, struct scan *s)
{
    struct audit_line line;
    size_t len;
    bool ended;
    if (fseeko(log, offset, SEEK_SET) != 0)
        return SP_ERR_SYSTEM;
    enum sp_err err = offset > 0 ? audit_read_line(log, buf, WINDOW, &len, &ended) : SP_OK;
    while (err == SP_OK && (err = audit_read_line(log, buf, WINDOW, &len, &ended)) == SP_OK) {
        enum sp_err form = audit_line_parse(buf, len, &line);
        if (form == SP_OK)
            add_event(s, &line);
        else
            add_torn(s, buf, len, ended);
        s->tail->unended = !ended;
        s->changed |= form == SP_ERR_AUTH; /* no crash leaves that */
    }
    return err == SP_ERR_NOT_FOUND ? SP_OK : err;
}

/* Windows that double, until the newest checkpoint is in one. */
static enum sp_err find_end(FILE *log, off_t size, char *buf, struct scan *s)
{
    enum sp_err err;
    off_t window = WINDOW / 2;
    do {
        struct audit_tail *tail = s->tail;
        *s = (struct scan){.tail = tail};
        *tail = (struct audit_tail){.bytes = (uint64_t)size};
        window = window > size / 2 ? size : window * 2;
        err = scan_from(log, size - window, buf, s);
    } while (err == SP_OK && !s->found_key && window < size);
    return err;
}

static enum sp_err read_first_key(FILE *log, char *buf, struct audit_tail *tail)
{
    struct audit_line line;
    size_t len;
    bool ended;
    if (fseeko(log, 0, SEEK_SET) != 0)
        return SP_ERR_SYSTEM;
    /* A crash may have torn what came before the first whole line. */
    while (audit_read_line(log, buf, WINDOW, &len, &ended) == SP_OK)
        if (audit_line_parse(buf, len, &line) == SP_OK) {
            bool rotated = audit_line_is(&line, "log.rotated");
            const char *name = rotated ? "first_key" : "audit_key";
            bool named = audit_line_key(&line, name, tail->first_key);
            return named && (rotated || line.seq == 1) ? SP_OK : SP_ERR_FORMAT;
        }
    return SP_ERR_FORMAT;
}

static enum sp_err judge(struct scan *s, FILE *log, char *buf, const char **why)
{
    *why = "the last line of the audit log is not ours: look at it with `sealpostctl audit "
           "verify`, put log and key state aside to begin a new one";
    if (s->whole_line_bad || s->changed || (s->tail->torn && s->tail->torn_bytes > AUDIT_TORN_MAX))
        return SP_ERR_FORMAT;
    if (s->tail->torn)
        crypto_hash_sha256_final(&s->torn, s->tail->torn_hash);
    if (s->tail->seq == 0)
        return SP_OK;
    *why = "the audit log does not begin with a key, or names none since: it was cut";
    if (!s->found_key)
        return SP_ERR_FORMAT;
    return read_first_key(log, buf, s->tail);
}

enum sp_err audit_tail_read(int fd, struct audit_tail *out, const char **why)
{
    struct scan scan = {.tail = out};
    struct stat st;
    enum sp_err err = SP_ERR_SYSTEM;
    *out = (struct audit_tail){0};
    *why = "the audit log cannot be read";
    char *buf = malloc(WINDOW);
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    FILE *log = copy >= 0 ? fdopen(copy, "r") : NULL;
    if (log == NULL && copy >= 0)
        close(copy);
    if (buf != NULL && log != NULL && fstat(fd, &st) == 0)
        err = find_end(log, st.st_size, buf, &scan);
    if (err == SP_OK)
        err = judge(&scan, log, buf, why);
    if (log != NULL)
        fclose(log);
    free(buf);
    return err;
}
