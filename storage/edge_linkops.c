/* `sealpostctl link`: operators see who has links out, never what is behind them, and can end one.
 */
#include "storage/operator.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define ID_TEXT   (2u * ID_SIZE + 1u)
#define TIME_TEXT 24u
#define PREFIX    6u

static void id_text(const uint8_t id[ID_SIZE], char out[ID_TEXT])
{
    for (size_t i = 0; i < ID_SIZE; i++)
        snprintf(out + 2 * i, 3, "%02x", id[i]);
}

static void time_text(uint64_t ms, char out[TIME_TEXT])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    if (ms == 0)
        out[0] = '\0';
    else
        strftime(out, TIME_TEXT, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static enum sp_err put_link(void *ctx, const struct store_link *link)
{
    static const char *const states[] = {"to be sent", "sent",    "delayed",
                                         "failed",     "revoked", "expired"};
    struct request *q = ctx;
    struct store_recipient r = {0};
    struct store_user sender;
    char id[ID_TEXT], to[STORE_MAX_ADDRESS + 1], created[TIME_TEXT], expires[TIME_TEXT],
        opened[TIME_TEXT], visits[16];
    bool open;
    id_text(link->id, id);
    time_text(link->created_ms, created);
    time_text(link->expires_ms, expires);
    bool known = store_user_by_no(q->role->store, link->user, &sender) == SP_OK;
    if (store_recipient_get(q->role->store, link->no, link->index, &r, &open) != SP_OK)
        r = (struct store_recipient){.state = DELIVERY_SENT};
    snprintf(to, sizeof(to), "%.*s", (int)r.address.len, (const char *)r.address.bytes);
    time_text(r.opened_ms, opened);
    snprintf(visits, sizeof(visits), "%u", r.visits);
    enum store_delivery state = link->ended != DELIVERY_QUEUED ? link->ended : r.state;
    return request_row(q, (const char *const[]){id, known ? sender.address : "", to, states[state],
                                                created, expires, visits, opened});
}

void link_verb_list(struct request *q)
{
    q->columns = 8;
    enum sp_err err = request_row(q, (const char *const[]){"id", "from", "to", "state", "created",
                                                           "expires", "visits", "opened"});
    if (err == SP_OK)
        err = store_links_each(q->role->store, put_link, q);
    if (err != SP_OK)
        request_say(q, err, "the list could not be sent: %s", sp_err_text(err));
}

struct match {
    char prefix[ID_TEXT];
    size_t n;
    uint8_t id[ID_SIZE];
};

static enum sp_err compare(void *ctx, const struct store_link *link)
{
    struct match *m = ctx;
    char id[ID_TEXT];
    id_text(link->id, id);
    if (link->ended != DELIVERY_QUEUED || strncmp(id, m->prefix, strlen(m->prefix)) != 0)
        return SP_OK;
    memcpy(m->id, link->id, ID_SIZE);
    m->n++;
    return SP_OK;
}

void link_verb_revoke(struct request *q)
{
    struct match m = {0};
    const char *arg = q->arg[2];
    size_t len = strlen(arg);
    if (len < PREFIX || len >= ID_TEXT || strspn(arg, "0123456789abcdefABCDEF") != len) {
        request_say(q, SP_ERR_FORMAT,
                    "'%s' is not an id; write the first %u or more characters of one that link "
                    "list shows",
                    arg, PREFIX);
        return;
    }
    for (size_t i = 0; i < len; i++)
        m.prefix[i] = (char)tolower((unsigned char)arg[i]);
    enum sp_err err = store_links_each(q->role->store, compare, &m);
    if (err == SP_OK && m.n != 1) {
        request_say(q, m.n == 0 ? SP_ERR_NOT_FOUND : SP_ERR_FORMAT,
                    m.n == 0 ? "no live link begins with '%s'"
                             : "'%s' is the beginning of several ids; write more of it",
                    arg);
        return;
    }
    if (err == SP_OK)
        err = store_link_end(q->role->store, m.id, DELIVERY_REVOKED, link_now(q->role));
    if (request_kept(q, err))
        link_ended(q->role, m.id, "revoked");
}
