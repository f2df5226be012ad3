/* The server's list of messages. The server is not trusted: an id becomes a path and a file name
 * here, so that nothing but hex digits may stand in it. */
#include "client/mailpage.h"

#include <jansson.h>
#include <string.h>

static bool get_uint(const json_t *o, const char *name, uint64_t max, uint64_t *out)
{
    const json_t *v = json_object_get(o, name);
    json_int_t n = json_integer_value(v);
    *out = (uint64_t)n;
    return json_is_integer(v) && n >= 0 && (uint64_t)n <= max;
}

static bool get_mail(const json_t *o, uint64_t after, struct mail *m)
{
    uint64_t pieces, generation;
    const char *id = json_string_value(json_object_get(o, "id"));
    if (id == NULL || strlen(id) != ID_HEX || strspn(id, "0123456789abcdef") != ID_HEX)
        return false;
    memcpy(m->id, id, sizeof m->id);
    if (!get_uint(o, "seq", INT64_MAX, &m->seq) || m->seq <= after ||
        !get_uint(o, "received_ms", INT64_MAX, &m->received_ms) ||
        !get_uint(o, "bytes", INT64_MAX, &m->bytes) ||
        !get_uint(o, "pieces", UINT32_MAX, &pieces) ||
        !get_uint(o, "generation", UINT32_MAX, &generation))
        return false;
    m->pieces = (uint32_t)pieces;
    m->generation = (uint32_t)generation;
    return true;
}

static bool read_list(const json_t *list, uint64_t after, struct mail page[MAIL_PAGE])
{
    size_t count = json_array_size(list);
    for (size_t i = 0; i < count; i++) {
        if (!get_mail(json_array_get(list, i), after, &page[i]))
            return false;
        after = page[i].seq;
    }
    return true;
}

enum sp_err mailpage_read(const uint8_t *json, size_t len, uint64_t after,
                          struct mail page[MAIL_PAGE], uint32_t *n, bool *more)
{
    *n = 0;
    *more = false;
    json_t *j = json_loadb((const char *)json, len, JSON_REJECT_DUPLICATES, NULL);
    const json_t *list = json_object_get(j, "messages");
    const json_t *rest = json_object_get(j, "more");
    size_t count = json_array_size(list);
    bool good = json_is_array(list) && json_is_boolean(rest) && count <= MAIL_PAGE &&
                read_list(list, after, page);
    /* A server that promises more and gives nothing would be asked for ever. */
    if (json_is_true(rest) && count == 0)
        good = false;
    if (good) {
        *n = (uint32_t)count;
        *more = json_is_true(rest);
    }
    json_decref(j);
    return good ? SP_OK : SP_ERR_FORMAT;
}
