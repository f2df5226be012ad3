/* Whom one may send to, and what became of mail that was sent: replies of the store as JSON.
 * Clients are hostile; the store is trusted to be right, not to keep to its format. */
#include "daemon/web/web.h"

#include "storage/store.h"

#include <jansson.h>
#include <sodium.h>

#define MAX_TEXT 1024u /* bytes of an address, or of another server's answer */

/* --- resolving --- */

enum sp_err start_resolve(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    (void)body;
    wire_put_b16(frame, x->args.address, x->args.address_len);
    return SP_OK;
}

enum sp_err finish_resolve(struct exchange *x, struct wire_in *reply)
{
    json_t *users = json_array();
    uint8_t ours = wire_get_u8(reply);
    uint16_t n = wire_get_u16(reply);
    for (uint16_t i = 0; i < n && !reply->bad; i++) {
        uint8_t id[16];
        char hex[2 * sizeof(id) + 1];
        wire_get_copy(reply, id, sizeof(id));
        json_array_append_new(users, json_string(sodium_bin2hex(hex, sizeof(hex), id, sizeof(id))));
    }
    if (!wire_in_done(reply) || ours > 1) {
        json_decref(users);
        return SP_ERR_FORMAT;
    }
    return answer_json(x, json_pack("{s:b,s:o}", "ours", (int)ours, "users", users));
}

/* --- status --- */

/* What is no UTF-8 is left out: it was another server's. */
static json_t *get_text(struct wire_in *reply)
{
    size_t len;
    const char *text = (const char *)wire_get_b16(reply, MAX_TEXT, &len);
    json_t *s = text != NULL ? json_stringn(text, len) : NULL;
    return s != NULL ? s : json_string("");
}

static const char *get_word(struct wire_in *reply, const char *const *words, size_t n)
{
    uint8_t i = wire_get_u8(reply);
    if (i >= n || words[i] == NULL) {
        wire_in_fail(reply);
        return "";
    }
    return words[i];
}

static json_int_t get_ms(struct wire_in *reply)
{
    return (json_int_t)wire_get_u64(reply);
}

static json_t *recipient(struct wire_in *reply)
{
    static const char *const kinds[] = {NULL, "user", "relay", "link"};
    static const char *const states[] = {
        [DELIVERY_QUEUED] = "queued",     [DELIVERY_SENT] = "sent",
        [DELIVERY_DEFERRED] = "deferred", [DELIVERY_FAILED] = "failed",
        [DELIVERY_REVOKED] = "revoked",   [DELIVERY_EXPIRED] = "expired"};
    json_t *address = get_text(reply);
    const char *kind = get_word(reply, kinds, sizeof(kinds) / sizeof(kinds[0]));
    const char *state = get_word(reply, states, sizeof(states) / sizeof(states[0]));
    json_int_t since = get_ms(reply), next = get_ms(reply);
    json_int_t attempts = wire_get_u32(reply);
    json_t *text = get_text(reply);
    json_int_t expires = get_ms(reply), visits = wire_get_u32(reply), opened = get_ms(reply);
    return json_pack("{s:o,s:s,s:s,s:I,s:I,s:I,s:o,s:I,s:I,s:I}", "address", address, "kind", kind,
                     "state", state, "since_ms", since, "next_ms", next, "attempts", attempts,
                     "text", text, "expires_ms", expires, "visits", visits, "opened_ms", opened);
}

enum sp_err finish_status(struct exchange *x, struct wire_in *reply)
{
    json_t *recipients = json_array();
    json_int_t sent = get_ms(reply);
    uint16_t n = wire_get_u16(reply);
    for (uint16_t i = 0; i < n && !reply->bad; i++)
        json_array_append_new(recipients, recipient(reply));
    if (!wire_in_done(reply)) {
        json_decref(recipients);
        return SP_ERR_FORMAT;
    }
    return answer_json(x, json_pack("{s:I,s:o}", "sent_ms", sent, "recipients", recipients));
}

/* --- revoking --- */

enum sp_err start_revoke(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    size_t len;
    const uint8_t *address = wire_get_b16(body, PARSE_MAX_ADDRESS, &len);
    if (!wire_in_done(body))
        return SP_ERR_FORMAT;
    wire_put_bytes(frame, x->args.id, sizeof(x->args.id));
    wire_put_b16(frame, address, len);
    return SP_OK;
}

enum sp_err finish_revoke(struct exchange *x, struct wire_in *reply)
{
    json_int_t n = wire_get_u16(reply);
    if (!wire_in_done(reply))
        return SP_ERR_FORMAT;
    return answer_json(x, json_pack("{s:I}", "concerned", n));
}
