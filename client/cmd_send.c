/* sealpost send: as a mail program's sendmail, and what became unfinished. */
#include "client/client.h"
#include "client/compose.h"
#include "client/links.h"
#include "client/outbox.h"
#include "client/report.h"
#include "client/upload.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool cmd_send_check(const struct args *a)
{
    bool resume = (a->given & OPT_RESUME) != 0, drop = (a->given & OPT_DROP) != 0;
    bool message =
        (a->given & (OPT_HEADER | OPT_DOTS | OPT_LINK | OPT_EXPIRES | OPT_SUBJECT)) != 0 ||
        a->from != NULL;
    bool print = (a->given & OPT_PRINT_LINKS) != 0;
    if (resume || drop)
        return !message && resume != drop && a->n <= 1 && (resume || (a->n == 1 && !print));
    if ((a->given & OPT_LINK) == 0 && ((a->given & (OPT_EXPIRES | OPT_SUBJECT)) != 0 || print))
        return false;
    if ((a->given & OPT_EXPIRES) != 0 && links_lifetime(a->expires) == 0) {
        report_plain(SP_ERR_FORMAT, "--expires %s: write a time like 7d, 12h, 30m or 90s",
                     a->expires);
        return false;
    }
    return a->n > 0 || (a->given & OPT_HEADER) != 0;
}

static enum sp_err send_one(struct client *c, struct letter *l)
{
    enum sp_err err = upload_run(c, l);
    bool json = (c->args->given & OPT_JSON) != 0, links = (c->args->given & OPT_PRINT_LINKS) != 0;
    if (err != SP_OK)
        return err;
    if (!json)
        puts(l->hex);
    if (links)
        return links_print(c, l);
    if (!json)
        return SP_OK;
    json_t *j = json_pack("{s:s}", "id", l->hex);
    json_dumpf(j, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(j);
    return SP_OK;
}

struct resuming {
    struct client *c;
    const char *wanted; /* the beginning of an id; "": all */
    bool drop;
    unsigned found;
    char (*hex)[2 * ID_SIZE + 1];
};

static enum sp_err gather(void *ctx, const char *hex)
{
    struct resuming *r = ctx;
    if (strncmp(hex, r->wanted, strlen(r->wanted)) != 0)
        return SP_OK;
    void *more = reallocarray(r->hex, r->found + 1, sizeof *r->hex);
    if (more == NULL)
        return report_fail(SP_ERR_MEMORY, "unfinished messages");
    r->hex = more;
    memcpy(r->hex[r->found++], hex, sizeof *r->hex);
    return SP_OK;
}

static enum sp_err drop(struct client *c, struct letter *l)
{
    enum sp_err err = SP_OK;
    if (l->has_upload)
        err = server_upload_drop(c->server, l->upload);
    if (err != SP_OK && err != SP_ERR_NOT_FOUND)
        server_refuse(c->server, err, "dropping the upload (the server drops it by itself later)");
    outbox_remove(c->state, l);
    printf("dropped %s\n", l->hex);
    return SP_OK;
}

static enum sp_err go_on(struct client *c)
{
    struct resuming r = {.c = c,
                         .wanted = c->args->n > 0 ? c->args->words[0] : "",
                         .drop = (c->args->given & OPT_DROP) != 0};
    enum sp_err result = outbox_each(c->state, gather, &r);
    state_unlock(c->state);
    if (result == SP_OK && r.found == 0 && *r.wanted != '\0')
        result = report_plain(SP_ERR_NOT_FOUND, "no unfinished message %s", r.wanted);
    else if (result == SP_OK && r.found > 1 && r.drop)
        result = report_plain(SP_ERR_EXISTS, "%s is the beginning of %u unfinished messages' ids",
                              r.wanted, r.found);
    for (unsigned i = 0; i < r.found && (result == SP_OK || !r.drop); i++) {
        struct letter *l;
        enum sp_err err = outbox_load(c->state, c->keys, r.hex[i], &l);
        if (err == SP_OK)
            err = r.drop ? drop(c, l) : send_one(c, l);
        if (result == SP_OK)
            result = err;
        letter_free(l);
    }
    free(r.hex);
    return result;
}

enum sp_err cmd_send(struct client *c)
{
    struct letter *l = NULL;
    if ((c->args->given & (OPT_RESUME | OPT_DROP)) != 0)
        return go_on(c);
    enum sp_err err = compose(c, &l);
    if (err == SP_OK)
        err = send_one(c, l);
    letter_free(l);
    return err;
}

/* sealpost outbox */

struct showing {
    struct client *c;
    json_t *json;
    unsigned n;
};

static uint64_t letter_bytes(const struct letter *l)
{
    uint64_t sum = l->form_len;
    for (uint32_t i = 0; i < l->n_pieces; i++)
        sum += l->piece_length[i];
    return sum;
}

static enum sp_err show(void *ctx, const char *hex)
{
    struct showing *s = ctx;
    struct letter *l;
    enum sp_err err = outbox_load(s->c->state, s->c->keys, hex, &l);
    if (err == SP_ERR_EXISTS)
        return SP_OK; /* at work */
    if (err != SP_OK)
        return err;
    if (s->json == NULL && s->n++ == 0)
        printf("%-32s  %12s  %s\n", "ID", "SIZE", "RECIPIENTS");
    if (s->json == NULL)
        printf("%s  %12llu  ", l->hex, (unsigned long long)letter_bytes(l));
    json_t *list = json_array();
    for (uint32_t i = 0; i < l->n_recipients; i++) {
        if (s->json == NULL)
            printf("%s%s", i > 0 ? ", " : "", l->recipient[i].address);
        json_array_append_new(list, json_string(l->recipient[i].address));
    }
    if (s->json == NULL)
        putchar('\n');
    else
        json_array_append_new(s->json, json_pack("{s:s, s:I, s:O}", "id", l->hex, "bytes",
                                                 (json_int_t)letter_bytes(l), "recipients", list));
    json_decref(list);
    letter_free(l);
    return SP_OK;
}

enum sp_err cmd_outbox(struct client *c)
{
    struct showing s = {.c = c};
    bool json = (c->args->given & OPT_JSON) != 0;
    if (json && (s.json = json_array()) == NULL)
        return report_fail(SP_ERR_MEMORY, "outbox");
    enum sp_err err = outbox_each(c->state, show, &s);
    if (err == SP_OK && json) {
        json_dumpf(s.json, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    json_decref(s.json);
    return err;
}
