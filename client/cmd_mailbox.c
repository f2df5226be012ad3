/* sealpost list, read, raw, delete. The server's list is shown as it says; a message is shown only
 * when all of it is proved (client/message.h). */
#include "client/client.h"
#include "client/message.h"
#include "client/report.h"
#include "client/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void format_date(uint64_t ms, char out[32])
{
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    if (localtime_r(&t, &tm) == NULL || strftime(out, 32, "%Y-%m-%d %H:%M", &tm) == 0)
        snprintf(out, 32, "?");
}

struct listing {
    struct client *client;
    json_t *json; /* NULL: a table */
    bool header_done;
};

/* What the list says of one message, beyond the server's own words. */
struct verdict {
    bool readable; /* this device has the key */
    bool verified; /* opened, and signed by whom it says */
    struct message m;
    char words[TRUST_WORDS];
};

/* Steps 1 to 4 of opening: a message that fails is shown as such, and does not hide the others. */
static enum sp_err judge(struct client *c, const struct mail *mail, struct verdict *v)
{
    v->readable = keyring_has(c->keys, mail->generation);
    v->verified = false;
    if (!v->readable) {
        snprintf(v->words, sizeof v->words, "unreadable: no key of generation %" PRIu32,
                 mail->generation);
        return SP_OK;
    }
    enum sp_err err = message_fetch(c, mail->id, &v->m);
    if (err == SP_OK)
        err = message_open(c, &v->m);
    v->verified = err == SP_OK;
    if (v->verified)
        trust_words(&v->m, v->words);
    else
        snprintf(v->words, sizeof v->words, "DOES NOT VERIFY");
    return message_stops(err) ? err : SP_OK;
}

static json_t *signer_json(const struct verdict *v)
{
    const struct signer *s = &v->m.signer;
    if (!v->verified || !s->there)
        return json_null();
    return json_pack("{s:s, s:s, s:b, s:b, s:b}", "address", s->address, "fingerprint",
                     s->fingerprint, "revoked", (int)s->revoked, "gone", (int)s->gone, "changed",
                     (int)s->moved);
}

static enum sp_err list_json(struct listing *l, const struct mail *m, const struct verdict *v)
{
    json_t *o =
        json_pack("{s:I, s:s, s:I, s:I, s:I, s:I, s:b, s:b, s:b, s:b, s:o}", "seq",
                  (json_int_t)m->seq, "id", m->id, "received_ms", (json_int_t)m->received_ms,
                  "bytes", (json_int_t)m->bytes, "pieces", (json_int_t)m->pieces, "generation",
                  (json_int_t)m->generation, "readable", (int)v->readable, "verified",
                  (int)v->verified, "end_to_end", (int)(v->verified && trust_end_to_end(&v->m)),
                  "sent", (int)(v->verified && v->m.signer.own), "signed_by", signer_json(v));
    if (o == NULL || json_array_append_new(l->json, o) != 0)
        return report_fail(SP_ERR_MEMORY, "list");
    return SP_OK;
}

static void list_row(struct listing *l, const struct mail *m, const struct verdict *v)
{
    char date[32];
    if (!l->header_done)
        printf("%6s  %-32s  %-16s  %12s  %6s  %s\n", "NUMBER", "ID", "DATE", "SIZE", "PIECES",
               "SECURITY");
    l->header_done = true;
    format_date(m->received_ms, date);
    printf("%6" PRIu64 "  %s  %-16s  %12" PRIu64 "  %6" PRIu32 "  %s\n", m->seq, m->id, date,
           m->bytes, m->pieces, v->words);
}

static enum sp_err list_one(void *ctx, const struct mail *m)
{
    struct listing *l = ctx;
    struct verdict v = {.m = {.spool = {.fd = -1}}};
    enum sp_err err = judge(l->client, m, &v);
    if (err == SP_OK && l->json != NULL)
        err = list_json(l, m, &v);
    else if (err == SP_OK)
        list_row(l, m, &v);
    message_free(&v.m);
    return err;
}

enum sp_err cmd_list(struct client *c)
{
    struct listing l = {.client = c};
    bool json = (c->args->given & OPT_JSON) != 0;
    if (json && (l.json = json_array()) == NULL)
        return report_fail(SP_ERR_MEMORY, "list");
    enum sp_err err = client_own_chain(c);
    if (err == SP_OK)
        err = client_each_mail(c, 0, list_one, &l);
    if (err == SP_OK && json) {
        json_dumpf(l.json, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    json_decref(l.json);
    return err;
}

enum sp_err cmd_read(struct client *c)
{
    char id[ID_HEX + 1];
    struct message m;
    enum sp_err err = client_own_chain(c);
    if (err == SP_OK)
        err = client_find_mail(c, c->args->words[0], id);
    if (err != SP_OK)
        return err;
    err = message_read(c, id, &m);
    if (err == SP_OK)
        err = trust_report(&m, false);
    if (err == SP_OK)
        err = message_write(&m, STDOUT_FILENO, "standard output");
    message_free(&m);
    return err;
}

enum sp_err cmd_delete(struct client *c)
{
    char id[ID_HEX + 1];
    enum sp_err err = client_find_mail(c, c->args->words[0], id);
    if (err == SP_OK)
        err = server_delete(c->server, id);
    if (err == SP_OK)
        printf("deleted %s\n", id);
    return err;
}

/* A new file in a directory, filled from memory or from a range of another file. */
struct raw_file {
    int dir;
    const char *name;
    const void *bytes; /* NULL: from fd */
    int fd;
    uint64_t at;
    uint64_t len;
};

static enum sp_err copy_range(const struct raw_file *f, int to)
{
    uint8_t buffer[16384]; /* ciphertext */
    for (uint64_t done = 0; done < f->len;) {
        uint64_t left = f->len - done;
        size_t n = left < sizeof buffer ? (size_t)left : sizeof buffer;
        enum sp_err err = file_pread(f->fd, buffer, n, f->at + done);
        if (err == SP_OK)
            err = file_write(to, buffer, n);
        if (err != SP_OK)
            return err;
        done += n;
    }
    return SP_OK;
}

static enum sp_err write_raw(const struct raw_file *f)
{
    int to = openat(f->dir, f->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0)
        return report_fail(SP_ERR_SYSTEM, "%s", f->name);
    enum sp_err err =
        f->bytes != NULL ? file_write(to, f->bytes, (size_t)f->len) : copy_range(f, to);
    if (close(to) != 0 && err == SP_OK)
        err = SP_ERR_SYSTEM;
    if (err != SP_OK) {
        report_fail(err, "%s", f->name);
        unlinkat(f->dir, f->name, 0);
    }
    return err;
}

static enum sp_err raw_pieces(struct client *c, struct message *m, int dir)
{
    char name[32];
    const struct spool_source from = spool_mailbox(c->server, m->id);
    enum sp_err err = spool_open(&m->spool, c->state, &m->envelope);
    for (uint32_t i = 0; err == SP_OK && i < m->spool.n; i++) {
        snprintf(name, sizeof name, "piece-%" PRIu32 ".bin", i);
        const struct raw_file file = {.dir = dir,
                                      .name = name,
                                      .fd = m->spool.fd,
                                      .at = m->spool.base[i],
                                      .len = m->spool.len[i]};
        err = spool_fetch(&m->spool, &from, i);
        if (err == SP_OK)
            err = write_raw(&file);
    }
    return err;
}

enum sp_err cmd_raw(struct client *c)
{
    char id[ID_HEX + 1];
    struct message m;
    enum sp_err err = client_find_mail(c, c->args->words[0], id);
    if (err != SP_OK)
        return err;
    if ((err = file_mkdirs(c->args->out)) != SP_OK)
        return report_fail(err, "%s", c->args->out);
    int dir = open(c->args->out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return report_fail(SP_ERR_SYSTEM, "%s", c->args->out);
    err = message_fetch(c, id, &m);
    if (err == SP_OK) {
        const struct raw_file envelope = {
            .dir = dir, .name = "envelope.bin", .bytes = m.envelope_bytes, .len = m.envelope_len};
        const struct raw_file box = {
            .dir = dir, .name = "box.bin", .bytes = m.box_bytes, .len = m.box_len};
        err = write_raw(&envelope);
        if (err == SP_OK)
            err = write_raw(&box);
    }
    if (err == SP_OK)
        err = message_decode(&m);
    if (err == SP_OK)
        err = raw_pieces(c, &m, dir);
    message_free(&m);
    close(dir);
    return err;
}
