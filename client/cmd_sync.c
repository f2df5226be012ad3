/* sealpost sync: new mail into a Maildir. One message that does not verify is reported and kept for
 * the next time; it does not keep the others away. */
#include "client/client.h"
#include "client/maildir.h"
#include "client/message.h"
#include "client/report.h"
#include "client/trust.h"

#include <stdio.h>
#include <string.h>

#define SAVE_EVERY 50u /* messages: after a crash, names in the Maildir tell what came since */

struct syncing {
    struct client *client;
    struct maildir *maildir;
    struct progress progress;
    unsigned fetched, failed, unsaved;
};

/* One message; its failure has been reported. */
static enum sp_err deliver(struct syncing *s, const char id[ID_HEX + 1], uint64_t received_ms)
{
    struct message m;
    int fd;
    enum sp_err err = message_read(s->client, id, &m);
    if (err == SP_OK)
        err = trust_report(&m, true);
    if (err == SP_OK)
        err = maildir_begin(s->maildir, id, received_ms, &fd);
    if (err == SP_OK) {
        err = message_write(&m, fd, maildir_path(s->maildir));
        enum sp_err end = maildir_end(s->maildir, err == SP_OK);
        err = err == SP_OK ? end : err;
    }
    message_free(&m);
    return err;
}

static enum sp_err sync_one(void *ctx, const struct mail *m)
{
    struct syncing *s = ctx;
    enum sp_err err = SP_OK;
    bool there = maildir_has(s->maildir, m->id);
    if (!there)
        err = deliver(s, m->id, m->received_ms);
    if (message_stops(err))
        return err; /* `last` stays: it comes again */
    if (err != SP_OK) {
        s->failed++;
        if (progress_failed(&s->progress, m->id) != SP_OK)
            return report_plain(SP_ERR_LIMIT, "too many messages that cannot be read: giving up");
    } else {
        s->fetched += there ? 0 : 1;
    }
    s->progress.last = m->seq;
    if (++s->unsaved < SAVE_EVERY)
        return SP_OK;
    s->unsaved = 0;
    return progress_save(s->client->state, maildir_path(s->maildir), &s->progress);
}

/* Finds what failed before in the list, for its date; what is gone from the server is forgotten. */
struct retrying {
    struct syncing *sync;
    struct progress old;
};

static enum sp_err retry_one(void *ctx, const struct mail *m)
{
    struct retrying *r = ctx;
    struct syncing *s = r->sync;
    uint32_t before = r->old.n;
    if (m->seq > s->progress.last)
        return SP_OK;
    progress_done(&r->old, m->id);
    if (r->old.n == before)
        return SP_OK;
    enum sp_err err = maildir_has(s->maildir, m->id) ? SP_OK : deliver(s, m->id, m->received_ms);
    if (err == SP_OK) {
        s->fetched++;
        progress_done(&s->progress, m->id);
    } else {
        s->failed++;
    }
    return message_stops(err) ? err : SP_OK;
}

static enum sp_err retry(struct syncing *s)
{
    struct retrying r = {.sync = s};
    if (s->progress.n == 0)
        return SP_OK;
    enum sp_err err = progress_load(s->client->state, maildir_path(s->maildir), &r.old);
    if (err == SP_OK)
        err = client_each_mail(s->client, 0, retry_one, &r);
    /* Those still in the old list are not in the mailbox any more. */
    for (uint32_t i = 0; err == SP_OK && i < r.old.n; i++)
        progress_done(&s->progress, r.old.retry[i]);
    progress_free(&r.old);
    return err;
}

enum sp_err cmd_sync(struct client *c)
{
    struct syncing s = {.client = c};
    enum sp_err err = client_own_chain(c);
    if (err == SP_OK)
        err = maildir_open(c->args->words[0], &s.maildir);
    if (err != SP_OK)
        return err;
    err = progress_load(c->state, maildir_path(s.maildir), &s.progress);
    if (err == SP_OK) {
        err = retry(&s);
        if (err == SP_OK)
            err = client_each_mail(c, s.progress.last, sync_one, &s);
        enum sp_err saved = progress_save(c->state, maildir_path(s.maildir), &s.progress);
        err = err == SP_OK ? saved : err;
        printf("%u new\n", s.fetched);
    }
    if (err == SP_OK && s.failed > 0)
        err = report_plain(SP_ERR_AUTH, "%u could not be read; they are tried again next time",
                           s.failed);
    progress_free(&s.progress);
    maildir_close(s.maildir);
    return err;
}
