/* Plaintext into files, where the user asked for it. All pieces have been verified before; but
 * their sender is a stranger, who chose the names. */
#include "client/save.h"
#include "client/part.h"
#include "client/report.h"
#include "client/secret.h"
#include "client/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SAME_MAX     1000u /* files of one name */
#define NAME_MAX_ALL (PART_NAME + 16u)

/* The buffers are in locked memory. */
struct window {
    size_t len;
    uint8_t before[2 * PART_HEADER]; /* the body in front of the attachment */
    uint8_t out[CAKE_CHUNK + 2];
};

struct saving {
    const struct message *m;
    const char *dir;
    int fd;
    struct spool_reader *body, *attachment;
    uint64_t at; /* body bytes read */
    struct window *w;
};

/* A new file by this name, or by a number and this name. *name: as it is called then. */
static int create(const struct saving *s, const char *wanted, char name[NAME_MAX_ALL])
{
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
    int fd = -1;
    snprintf(name, NAME_MAX_ALL, "%s", wanted);
    for (unsigned i = 2; i <= SAME_MAX; i++) {
        fd = openat(s->fd, name, flags, 0600);
        if (fd >= 0 || errno != EEXIST)
            break;
        snprintf(name, NAME_MAX_ALL, "%u-%s", i, wanted);
    }
    return fd;
}

/* Closes and says where it is; a file that is not whole goes. */
static enum sp_err finish(const struct saving *s, int fd, const char *name, enum sp_err err)
{
    if (close(fd) != 0 && err == SP_OK)
        err = SP_ERR_SYSTEM;
    if (err == SP_OK)
        printf("%s/%s\n", s->dir, name);
    else
        unlinkat(s->fd, name, 0);
    return err;
}

static enum sp_err save_whole(const struct saving *s)
{
    static const char name[] = "message.eml";
    int fd = openat(s->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return report_fail(SP_ERR_SYSTEM, "%s/%s", s->dir, name);
    enum sp_err err = message_write(s->m, fd, name);
    bool said = err != SP_OK;
    err = finish(s, fd, name, err);
    return err == SP_OK || said ? err : report_fail(err, "%s/%s", s->dir, name);
}

/* Reads the body up to where an attachment stands, and keeps the end of it. */
static enum sp_err read_to(struct saving *s, uint64_t splice_at)
{
    struct window *w = s->w;
    enum sp_err err = SP_OK;
    while (err == SP_OK && s->at < splice_at) {
        const uint8_t *at;
        size_t got;
        uint64_t left = splice_at - s->at;
        err =
            spool_reader_next(s->body, left < PART_HEADER ? (size_t)left : PART_HEADER, &at, &got);
        if (err == SP_OK && got == 0)
            err = SP_ERR_FORMAT;
        if (err != SP_OK)
            break;
        if (w->len + got > sizeof w->before) {
            size_t keep = w->len < PART_HEADER ? w->len : PART_HEADER;
            memmove(w->before, w->before + w->len - keep, keep);
            w->len = keep;
        }
        memcpy(w->before + w->len, at, got);
        w->len += got;
        s->at += got;
    }
    return err;
}

static enum sp_err decode_to(struct saving *s, uint32_t i, int fd)
{
    struct window *w = s->w;
    const struct piece *p = &s->m->manifest.pieces[i];
    size_t keep = w->len < PART_HEADER ? w->len : PART_HEADER, got = 1;
    struct part_decoder d = {.encoding = part_encoding(w->before + w->len - keep, keep)};
    enum sp_err err = spool_reader_start(s->attachment, &s->m->spool, i, p->key);
    while (err == SP_OK && got > 0) {
        const uint8_t *at;
        err = spool_reader_next(s->attachment, CAKE_CHUNK, &at, &got);
        if (err == SP_OK)
            err = file_write(fd, w->out, part_decode(&d, at, got, w->out));
    }
    return err == SP_OK ? file_write(fd, w->out, part_decode_end(&d, w->out)) : err;
}

static enum sp_err save_attachment(struct saving *s, uint32_t i)
{
    char wanted[PART_NAME], name[NAME_MAX_ALL];
    const struct piece *p = &s->m->manifest.pieces[i];
    if (!part_name((const uint8_t *)p->file_name, p->name_len, wanted))
        snprintf(wanted, sizeof wanted, "attachment-%u", (unsigned)i);
    enum sp_err err = read_to(s, p->splice_at);
    if (err != SP_OK)
        return report_fail(err, "message %s: reading its body", s->m->id);
    int fd = create(s, wanted, name);
    err = fd >= 0 ? finish(s, fd, name, decode_to(s, i, fd)) : SP_ERR_SYSTEM;
    return err == SP_OK ? err : report_fail(err, "%s/%s", s->dir, name);
}

static enum sp_err save_attachments(struct saving *s)
{
    s->w = secret_alloc(sizeof *s->w);
    enum sp_err err = s->w != NULL ? SP_OK : SP_ERR_MEMORY;
    if (err == SP_OK)
        err = spool_reader_new(&s->body);
    if (err == SP_OK)
        err = spool_reader_new(&s->attachment);
    if (err == SP_OK)
        err = spool_reader_start(s->body, &s->m->spool, 0, s->m->manifest.pieces[0].key);
    if (err != SP_OK)
        report_fail(err, "message %s: its attachments", s->m->id);
    for (uint32_t i = 1; err == SP_OK && i < s->m->manifest.n_pieces; i++)
        err = save_attachment(s, i);
    spool_reader_free(s->body);
    spool_reader_free(s->attachment);
    secret_free(s->w);
    return err;
}

enum sp_err save_message(const struct message *m, const char *dir)
{
    struct saving s = {.m = m, .dir = dir, .fd = -1};
    enum sp_err err = file_mkdirs(dir);
    if (err == SP_OK) {
        s.fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        err = s.fd >= 0 ? SP_OK : SP_ERR_SYSTEM;
    }
    if (err != SP_OK)
        return report_fail(err, "%s", dir);
    err = save_whole(&s);
    if (err == SP_OK && m->manifest.n_pieces > 1)
        err = save_attachments(&s);
    close(s.fd);
    return err;
}
