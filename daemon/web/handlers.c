/* Bodies of requests into frames, replies into bodies. Clients are hostile; the store is trusted
 * to be right, not to keep to its format. */
#include "daemon/web/web.h"

#include "envelope/sigchain.h"

#include <event2/buffer.h>
#include <jansson.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define OCTETS "application/octet-stream"

static enum sp_err answer_bytes(struct exchange *x, const char *type, const void *bytes, size_t len)
{
    struct evbuffer *body = evbuffer_new();
    if (body == NULL || evbuffer_add(body, bytes, len) != 0) {
        if (body != NULL)
            evbuffer_free(body);
        exchange_fail(x, SP_ERR_MEMORY);
    } else {
        exchange_answer(x, 200, type, body);
    }
    return SP_OK;
}

enum sp_err answer_json(struct exchange *x, json_t *object)
{
    char *text = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (text == NULL)
        exchange_fail(x, SP_ERR_MEMORY);
    else
        answer_bytes(x, "application/json", text, strlen(text));
    free(text);
    return SP_OK;
}

/* --- answered here --- */

enum sp_err start_health(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    (void)body, (void)frame;
    return answer_bytes(x, "text/plain", "ok", 2);
}

enum sp_err start_info(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    const struct config *c = x->web->role->config;
    (void)body, (void)frame;
    json_t *domains = json_array();
    for (size_t i = 0; i < c->domain.count; i++)
        json_array_append_new(domains, json_string(c->domain.item[i]));
    return answer_json(x,
                       json_pack("{s:s,s:s,s:s?,s:o,s:I}", "version", SEALPOST_VERSION, "url",
                                 c->web_url != NULL ? c->web_url : "", "hostname", c->hostname,
                                 "domains", domains, "max_expiry", (json_int_t)c->web_max_expiry));
}

/* --- questions --- */

enum sp_err start_nothing(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    (void)x, (void)body, (void)frame;
    return SP_OK;
}

enum sp_err start_enroll(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    size_t address_len, code_len, wire_len;
    (void)x;
    const uint8_t *address = wire_get_b16(body, PARSE_MAX_ADDRESS, &address_len);
    const uint8_t *code = wire_get_b16(body, WEB_MAX_CODE, &code_len);
    const uint8_t *wire = wire_get_b32(body, SIGCHAIN_MAX_WIRE, &wire_len);
    if (!wire_in_done(body))
        return SP_ERR_FORMAT;
    wire_put_b16(frame, address, address_len);
    wire_put_b16(frame, code, code_len);
    wire_put_b32(frame, wire, wire_len);
    return SP_OK;
}

enum sp_err start_login(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    const size_t len = 16 + 16 + 32 + 64;
    const uint8_t *bytes = wire_get_bytes(body, len);
    (void)x;
    if (bytes == NULL)
        return SP_ERR_FORMAT;
    wire_put_bytes(frame, bytes, len);
    return SP_OK;
}

static void put_chain_get(const struct exchange *x, struct wire_out *frame)
{
    bool by_address = x->args.address_len > 0;
    wire_put_u8(frame, by_address ? 0 : 1);
    if (by_address)
        wire_put_b16(frame, x->args.address, x->args.address_len);
    else
        wire_put_b16(frame, x->args.id, sizeof(x->args.id));
    wire_put_u32(frame, x->chain_after);
}

enum sp_err start_chain_get(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    (void)body;
    if (x->query.after > UINT32_MAX)
        return SP_ERR_FORMAT;
    x->chain_after = (uint32_t)x->query.after;
    put_chain_get(x, frame);
    return SP_OK;
}

enum sp_err start_chain_add(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    size_t len = body->left;
    const uint8_t *wire = wire_get_bytes(body, len);
    (void)x;
    if (len == 0)
        return SP_ERR_FORMAT;
    wire_put_b32(frame, wire, len);
    return SP_OK;
}

/* One more than the client wants tells whether there are more. */
enum sp_err start_list(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    (void)body;
    wire_put_u64(frame, x->query.after);
    wire_put_u16(frame, (uint16_t)(x->query.limit + 1));
    return SP_OK;
}

enum sp_err start_id(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    (void)body;
    wire_put_bytes(frame, x->args.id, sizeof(x->args.id));
    return SP_OK;
}

/* --- replies --- */

enum sp_err finish_nothing(struct exchange *x, struct wire_in *reply)
{
    if (!wire_in_done(reply))
        return SP_ERR_FORMAT;
    exchange_answer(x, 204, NULL, NULL);
    return SP_OK;
}

/* A reply that goes out as it came; each has one size. */
enum sp_err finish_octets(struct exchange *x, struct wire_in *reply)
{
    static const struct {
        uint16_t ask;
        uint8_t size;
    } sizes[] = {{SW_CHALLENGE, 32},  {SW_LOGIN, 32 + 4}, {SW_ENROLL, 16},
                 {SW_KEEPER_KEY, 32}, {SW_UPLOAD, 16},    {SW_SEND, 16}};
    size_t size = 0;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        if (sizes[i].ask == x->route->ask)
            size = sizes[i].size;
    const uint8_t *bytes = wire_get_bytes(reply, size);
    if (bytes == NULL || !wire_in_done(reply))
        return SP_ERR_FORMAT;
    return answer_bytes(x, OCTETS, bytes, size);
}

/* Wires (FORMAT.md section 8) to the end: how many there are. */
static enum sp_err count_wires(struct wire_in wires, uint32_t *n)
{
    for (*n = 0; wires.left > 0; ++*n) {
        size_t len;
        wire_get_b32(&wires, SIGCHAIN_MAX_WIRE, &len);
        wire_get_bytes(&wires, SIGN_SIZE);
    }
    return wires.bad ? SP_ERR_FORMAT : SP_OK;
}

/* What does not fit one frame is asked for again, so that the client gets one answer. */
enum sp_err finish_chain_get(struct exchange *x, struct wire_in *reply)
{
    uint32_t n;
    const uint8_t *user_id = wire_get_bytes(reply, ID_SIZE);
    uint8_t more = wire_get_u8(reply);
    size_t len = reply->left;
    if (reply->bad || more > 1 || count_wires(*reply, &n) != SP_OK || (more && n == 0))
        return SP_ERR_FORMAT;
    const uint8_t *wires = wire_get_bytes(reply, len);
    if (x->gathered == NULL) {
        x->gathered = evbuffer_new();
        if (x->gathered != NULL)
            evbuffer_add(x->gathered, user_id, ID_SIZE);
    }
    if (x->gathered == NULL || evbuffer_add(x->gathered, wires, len) != 0) {
        exchange_fail(x, SP_ERR_MEMORY);
        return SP_OK;
    }
    x->chain_after += n;
    if (more && evbuffer_get_length(x->gathered) < WEB_MAX_CHAIN) {
        struct wire_out frame = ask_frame(x);
        put_chain_get(x, &frame);
        enum sp_err err = ask_send(x, &frame);
        ask_wipe(&frame);
        if (err != SP_OK)
            exchange_fail(x, err);
        return SP_OK;
    }
    struct evbuffer *body = x->gathered;
    x->gathered = NULL;
    exchange_answer(x, 200, OCTETS, body);
    return SP_OK;
}

static json_t *list_entry(struct wire_in *reply)
{
    char id[2 * 16 + 1];
    uint8_t raw[16];
    json_int_t seq = (json_int_t)wire_get_u64(reply);
    wire_get_copy(reply, raw, sizeof(raw));
    sodium_bin2hex(id, sizeof(id), raw, sizeof(raw));
    json_int_t received = (json_int_t)wire_get_u64(reply);
    json_int_t bytes = (json_int_t)wire_get_u64(reply);
    json_int_t pieces = wire_get_u16(reply);
    json_int_t generation = wire_get_u32(reply);
    int sent = wire_get_u8(reply) & 1;
    return json_pack("{s:I,s:s,s:I,s:I,s:I,s:I,s:b}", "seq", seq, "id", id, "received_ms", received,
                     "bytes", bytes, "pieces", pieces, "generation", generation, "sent", sent);
}

enum sp_err finish_list(struct exchange *x, struct wire_in *reply)
{
    json_t *messages = json_array();
    uint32_t n = wire_get_u16(reply), shown = n < x->query.limit ? n : x->query.limit;
    if (n > x->query.limit + 1)
        wire_in_fail(reply);
    for (uint32_t i = 0; i < n && !reply->bad; i++) {
        json_t *entry = list_entry(reply);
        if (i < shown)
            json_array_append_new(messages, entry);
        else
            json_decref(entry);
    }
    if (!wire_in_done(reply)) {
        json_decref(messages);
        return SP_ERR_FORMAT;
    }
    return answer_json(x, json_pack("{s:o,s:b}", "messages", messages, "more", n > shown));
}
