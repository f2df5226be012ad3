/* docs/api.md, what sending takes. The server is not trusted: who an address leads to is compared
 * with what was seen before by others; here its answers are bounded and checked field by field. */
#include "client/report.h"
#include "client/server_calls.h"
#include "envelope/wire.h"

#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_JSON (1024u * 1024u)
#define MAX_COPY (1024u * 1024u)

/* Exactly len bytes; says nothing. */
static enum sp_err get_fixed(struct server *s, struct http_request *rq, uint8_t *out, size_t len)
{
    struct gather g = {.max = len};
    enum sp_err err = server_call(s, rq, server_gather, &g, NULL);
    if (err == SP_OK && g.len != len)
        err = SP_ERR_FORMAT;
    if (err == SP_OK)
        memcpy(out, g.bytes, len);
    free(g.bytes);
    return err;
}

/* A JSON answer; says nothing. */
static enum sp_err get_json(struct server *s, struct http_request *rq, json_t **out)
{
    struct gather g = {.max = MAX_JSON};
    *out = NULL;
    enum sp_err err = server_call(s, rq, server_gather, &g, NULL);
    if (err == SP_OK) {
        *out = json_loadb((const char *)g.bytes, g.len, JSON_REJECT_DUPLICATES, NULL);
        err = json_is_object(*out) ? SP_OK : SP_ERR_FORMAT;
    }
    if (err != SP_OK) {
        json_decref(*out);
        *out = NULL;
    }
    free(g.bytes);
    return err;
}

enum sp_err server_keeper(struct server *s, uint8_t pk[KEY_SIZE])
{
    const struct http_request rq = {.method = "GET", .path = "/v1/keeper"};
    struct gather g = {.max = KEY_SIZE};
    enum sp_err err = server_call_open(s, &rq, &g);
    if (err == SP_OK && g.len != KEY_SIZE)
        err = SP_ERR_FORMAT;
    if (err == SP_OK)
        memcpy(pk, g.bytes, KEY_SIZE);
    free(g.bytes);
    return err == SP_OK || err == SP_ERR_NOT_FOUND
               ? err
               : server_refuse(s, err, "asking for the appliance's key");
}

static enum sp_err read_users(const json_t *list, uint8_t users[RESOLVE_MAX][ID_SIZE], size_t *n)
{
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count > RESOLVE_MAX)
        return SP_ERR_FORMAT;
    for (size_t i = 0; i < count; i++) {
        const char *hex = json_string_value(json_array_get(list, i));
        size_t len = 0;
        if (hex == NULL || strlen(hex) != ID_HEX ||
            sodium_hex2bin(users[i], ID_SIZE, hex, ID_HEX, NULL, &len, NULL) != 0 || len != ID_SIZE)
            return SP_ERR_FORMAT;
    }
    *n = count;
    return SP_OK;
}

enum sp_err server_resolve(struct server *s, const char *address, bool *ours,
                           uint8_t users[RESOLVE_MAX][ID_SIZE], size_t *n)
{
    char path[64 + 3 * ACCOUNT_MAX_ADDRESS];
    json_t *j = NULL;
    *n = 0;
    *ours = false;
    char *name = http_escape(address);
    int len = name != NULL ? snprintf(path, sizeof path, "/v1/resolve/%s", name) : -1;
    free(name);
    if (len < 0 || (size_t)len >= sizeof path)
        return report_fail(SP_ERR_LIMIT, "address %s", address);
    struct http_request rq = {.method = "GET", .path = path};
    enum sp_err err = get_json(s, &rq, &j);
    if (err == SP_ERR_NOT_FOUND)
        return err;
    const json_t *is_ours = json_object_get(j, "ours");
    if (err == SP_OK && !json_is_boolean(is_ours))
        err = SP_ERR_FORMAT;
    if (err == SP_OK)
        err = read_users(json_object_get(j, "users"), users, n);
    *ours = json_is_true(is_ours);
    if (err == SP_OK && *ours == (*n == 0))
        err = SP_ERR_FORMAT;
    json_decref(j);
    return err == SP_OK ? err : server_refuse(s, err, "asking who an address leads to");
}

/* "/v1/upload/ID" and what stands behind it. */
static void upload_path(const uint8_t id[ID_SIZE], const char *rest, char out[128])
{
    char hex[ID_HEX + 1];
    snprintf(out, 128, "/v1/upload/%s%s", sodium_bin2hex(hex, sizeof hex, id, ID_SIZE), rest);
}

enum sp_err server_upload_begin(struct server *s, const uint64_t *length, uint32_t n,
                                uint8_t id[ID_SIZE])
{
    uint8_t body[2 + 8 * 256];
    struct wire_out w = wire_out(body, sizeof body);
    wire_put_u16(&w, (uint16_t)n);
    for (uint32_t i = 0; i < n; i++)
        wire_put_u64(&w, length[i]);
    struct http_request rq = {
        .method = "POST", .path = "/v1/upload", .body = body, .body_len = w.len};
    return wire_out_ok(&w) ? get_fixed(s, &rq, id, ID_SIZE) : SP_ERR_LIMIT;
}

static bool get_count(const json_t *v, uint64_t *out)
{
    json_int_t n = json_integer_value(v);
    *out = (uint64_t)n;
    return json_is_integer(v) && n >= 0;
}

enum sp_err server_max_expiry(struct server *s, uint64_t *seconds)
{
    json_t *j;
    struct http_request rq = {.method = "GET", .path = "/v1/info"};
    enum sp_err err = get_json(s, &rq, &j);
    const json_t *most = json_object_get(j, "max_expiry");
    *seconds = 0;
    if (err == SP_OK && most != NULL && !get_count(most, seconds))
        err = SP_ERR_FORMAT;
    json_decref(j);
    return err == SP_OK ? err : server_refuse(s, err, "asking how long links may last");
}

enum sp_err server_upload_state(struct server *s, const uint8_t id[ID_SIZE], uint32_t n,
                                uint64_t *there, uint64_t *form)
{
    char path[128];
    json_t *j;
    upload_path(id, "", path);
    struct http_request rq = {.method = "GET", .path = path};
    enum sp_err err = get_json(s, &rq, &j);
    if (err != SP_OK)
        return err;
    const json_t *pieces = json_object_get(j, "pieces");
    bool good = get_count(json_object_get(j, "form"), form) && json_array_size(pieces) == n;
    for (uint32_t i = 0; good && i < n; i++)
        good = get_count(json_array_get(pieces, i), &there[i]);
    json_decref(j);
    return good ? SP_OK : SP_ERR_FORMAT;
}

enum sp_err server_upload_put(struct server *s, const uint8_t id[ID_SIZE], uint32_t piece,
                              uint64_t offset, const void *bytes, size_t len)
{
    char path[128], rest[64];
    if (piece == UPLOAD_FORM)
        snprintf(rest, sizeof rest, "/form?offset=%" PRIu64, offset);
    else
        snprintf(rest, sizeof rest, "/piece/%" PRIu32 "?offset=%" PRIu64, piece, offset);
    upload_path(id, rest, path);
    struct http_request rq = {.method = "PUT", .path = path, .body = bytes, .body_len = len};
    return server_call(s, &rq, NULL, NULL, NULL);
}

enum sp_err server_upload_drop(struct server *s, const uint8_t id[ID_SIZE])
{
    char path[128];
    upload_path(id, "", path);
    struct http_request rq = {.method = "DELETE", .path = path};
    return server_call(s, &rq, NULL, NULL, NULL);
}

enum sp_err server_upload_send(struct server *s, const uint8_t id[ID_SIZE],
                               uint8_t message_id[ID_SIZE])
{
    char path[128];
    upload_path(id, "/send", path);
    struct http_request rq = {.method = "POST", .path = path};
    return get_fixed(s, &rq, message_id, ID_SIZE);
}

enum sp_err server_sent_status(struct server *s, const char id[ID_HEX + 1], json_t **out)
{
    char path[96];
    snprintf(path, sizeof path, "/v1/message/%s/status", id);
    struct http_request rq = {.method = "GET", .path = path};
    return get_json(s, &rq, out);
}

enum sp_err server_sent_copy(struct server *s, const char id[ID_HEX + 1], uint8_t **out,
                             size_t *len)
{
    char path[96];
    struct gather g = {.max = MAX_COPY};
    *out = NULL;
    *len = 0;
    snprintf(path, sizeof path, "/v1/message/%s/sent", id);
    struct http_request rq = {.method = "GET", .path = path};
    enum sp_err err = server_call(s, &rq, server_gather, &g, NULL);
    if (err != SP_OK) {
        free(g.bytes);
        return err == SP_ERR_NOT_FOUND ? err : server_refuse(s, err, "asking for the sent copy");
    }
    *out = g.bytes;
    *len = g.len;
    return SP_OK;
}

enum sp_err server_revoke(struct server *s, const char id[ID_HEX + 1], const char *address,
                          uint64_t *n)
{
    char path[96];
    uint8_t body[2 + ACCOUNT_MAX_ADDRESS];
    json_t *j = NULL;
    struct wire_out w = wire_out(body, sizeof body);
    wire_put_str(&w, address);
    if (!wire_out_ok(&w))
        return report_fail(SP_ERR_LIMIT, "address %s", address);
    snprintf(path, sizeof path, "/v1/message/%s/revoke", id);
    struct http_request rq = {.method = "POST", .path = path, .body = body, .body_len = w.len};
    enum sp_err err = get_json(s, &rq, &j);
    if (err == SP_OK && !get_count(json_object_get(j, "concerned"), n))
        err = SP_ERR_FORMAT;
    json_decref(j);
    if (err == SP_ERR_NOT_FOUND)
        return report_plain(err, "message %s: you sent none by this id", id);
    return err == SP_OK ? err : server_refuse(s, err, "revoke");
}
