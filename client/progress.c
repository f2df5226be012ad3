/* sync.json: how far each Maildir has come. The user's own file, checked for mistakes alone. */
#include "client/maildir.h"
#include "client/report.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define SYNC_NAME "sync.json"
#define SYNC_MAX  (4u * 1024u * 1024u)

static enum sp_err load_json(struct state *s, json_t **out)
{
    uint8_t *bytes;
    size_t len;
    *out = NULL;
    enum sp_err err = state_read(s, SYNC_NAME, SYNC_MAX, &bytes, &len);
    if (err == SP_OK) {
        *out = json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, NULL);
        free(bytes);
    } else if (err == SP_ERR_NOT_FOUND) {
        *out = json_pack("{s:{}}", "maildirs");
        err = SP_OK;
    }
    if (err == SP_OK && !json_is_object(json_object_get(*out, "maildirs"))) {
        json_decref(*out);
        *out = NULL;
        err = report_fail(SP_ERR_FORMAT, "%s/%s (remove it to fetch everything again)",
                          state_path(s), SYNC_NAME);
    }
    return err;
}

static void take(struct progress *p, const json_t *mine)
{
    json_int_t last = json_integer_value(json_object_get(mine, "last"));
    const json_t *retry = json_object_get(mine, "retry");
    p->last = last > 0 ? (uint64_t)last : 0;
    for (size_t i = 0; i < json_array_size(retry) && p->n < PROGRESS_MAX_RETRY; i++) {
        const char *id = json_string_value(json_array_get(retry, i));
        if (id != NULL && strlen(id) == ID_HEX)
            memcpy(p->retry[p->n++], id, ID_HEX + 1);
    }
}

enum sp_err progress_load(struct state *s, const char *path, struct progress *p)
{
    json_t *all = NULL;
    memset(p, 0, sizeof *p);
    p->retry = calloc(PROGRESS_MAX_RETRY, sizeof *p->retry);
    if (p->retry == NULL)
        return report_fail(SP_ERR_MEMORY, SYNC_NAME);
    enum sp_err err = load_json(s, &all);
    if (err == SP_OK)
        take(p, json_object_get(json_object_get(all, "maildirs"), path));
    json_decref(all);
    return err;
}

static json_t *pack(const struct progress *p)
{
    json_t *retry = json_array();
    for (uint32_t i = 0; retry != NULL && i < p->n; i++)
        json_array_append_new(retry, json_string(p->retry[i]));
    return json_pack("{s:I, s:o}", "last", (json_int_t)p->last, "retry", retry);
}

enum sp_err progress_save(struct state *s, const char *path, const struct progress *p)
{
    json_t *all = NULL;
    char *text = NULL;
    enum sp_err err = load_json(s, &all);
    if (err != SP_OK)
        return err;
    if (json_object_set_new(json_object_get(all, "maildirs"), path, pack(p)) != 0 ||
        (text = json_dumps(all, JSON_INDENT(2))) == NULL)
        err = report_fail(SP_ERR_MEMORY, SYNC_NAME);
    if (err == SP_OK)
        err = state_write(s, SYNC_NAME, text, strlen(text));
    free(text);
    json_decref(all);
    return err;
}

enum sp_err progress_forget(struct state *s)
{
    return state_remove(s, SYNC_NAME);
}

void progress_free(struct progress *p)
{
    free(p->retry);
    memset(p, 0, sizeof *p);
}

enum sp_err progress_failed(struct progress *p, const char id[ID_HEX + 1])
{
    for (uint32_t i = 0; i < p->n; i++) {
        if (strcmp(p->retry[i], id) == 0)
            return SP_OK;
    }
    if (p->n == PROGRESS_MAX_RETRY)
        return SP_ERR_LIMIT;
    memcpy(p->retry[p->n++], id, ID_HEX + 1);
    return SP_OK;
}

void progress_done(struct progress *p, const char id[ID_HEX + 1])
{
    for (uint32_t i = 0; i < p->n; i++) {
        if (strcmp(p->retry[i], id) != 0)
            continue;
        p->n--;
        memcpy(p->retry[i], p->retry[p->n], ID_HEX + 1);
        return;
    }
}
