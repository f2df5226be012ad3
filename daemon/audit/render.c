/* From a frame to JSON text. The role that sent the frame may have been taken over: it gets nothing
 * into the log but values of the fields of the events that are its own to report. */
#include "daemon/audit/render.h"
#include "daemon/audit/events.h"
#include "daemon/audit/log.h"
#include "daemon/audit/schema.h"
#include "envelope/keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void put_bytes(struct audit_text *out, const void *bytes, size_t n)
{
    if (out->full || n > out->cap - out->len) {
        out->full = true;
        return;
    }
    if (n > 0)
        memcpy(out->at + out->len, bytes, n);
    out->len += n;
}

void audit_put(struct audit_text *out, const char *text)
{
    put_bytes(out, text, strlen(text));
}

void audit_put_number(struct audit_text *out, uint64_t v)
{
    char digits[24];
    snprintf(digits, sizeof(digits), "%" PRIu64, v);
    audit_put(out, digits);
}

void audit_put_hex(struct audit_text *out, const uint8_t *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++)
        put_bytes(out, (char[2]){digits[bytes[i] >> 4], digits[bytes[i] & 15]}, 2);
}

/* One character of UTF-8 (RFC 3629): its bytes, and *code; 0 if it is none. */
static size_t decode_utf8(const uint8_t *at, size_t left, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    if (n == 0 || n > left || at[0] > 0xf4)
        return 0;
    *code = n == 1 ? at[0] : at[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (at[i] & 0x3f);
    }
    if (n > 1 && (*code < least[n] || *code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000)))
        return 0;
    return n;
}

static void put_escape(struct audit_text *out, uint32_t code)
{
    audit_put(out, "\\u");
    audit_put_hex(out, (uint8_t[2]){(uint8_t)(code >> 8), (uint8_t)code}, 2);
}

void audit_put_json(struct audit_text *out, const uint8_t *bytes, size_t n)
{
    audit_put(out, "\"");
    for (size_t i = 0; i < n;) {
        uint32_t code = 0xfffd;
        size_t used = decode_utf8(bytes + i, n - i, &code);
        if (used == 0)
            audit_put(out, "\xef\xbf\xbd");
        else if (code == '"' || code == '\\')
            put_bytes(out, (char[2]){'\\', (char)code}, 2);
        else if (code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x2028 || code == 0x2029)
            put_escape(out, code);
        else
            put_bytes(out, bytes + i, used);
        i += used > 0 ? used : 1;
    }
    audit_put(out, "\"");
}

static void put_value(struct audit_text *out, char type, struct wire_in *body)
{
    size_t len;
    const uint8_t *bytes;
    uint64_t number;
    switch (type) {
    case 's':
        bytes = wire_get_b16(body, AUDIT_TEXT_MAX, &len);
        audit_put_json(out, bytes, len);
        break;
    case 'u':
        number = wire_get_u64(body);
        if (number > AUDIT_NUMBER_MAX)
            wire_in_fail(body);
        audit_put_number(out, number);
        break;
    default:
        bytes = wire_get_bytes(body, ID_SIZE);
        audit_put(out, "\"");
        audit_put_hex(out, bytes, bytes != NULL ? ID_SIZE : 0);
        audit_put(out, "\"");
    }
}

enum sp_err audit_render(struct wire_in *body, unsigned reporter, struct audit_text *out,
                         unsigned *event)
{
    struct audit_field field;
    *event = wire_get_u16(body);
    const struct audit_schema *schema = body->bad ? NULL : audit_schema(*event);
    if (schema == NULL)
        return SP_ERR_FORMAT;
    if (!(schema->reporters & AUDIT_BIT(reporter)))
        return SP_ERR_DENIED;
    audit_put(out, "\"event\":\"");
    audit_put(out, schema->name);
    audit_put(out, "\"");
    for (const char *at = schema->fields; audit_next_field(&at, &field);) {
        audit_put(out, ",\"");
        put_bytes(out, field.name, field.name_len);
        audit_put(out, "\":");
        put_value(out, field.type, body);
    }
    if (!wire_in_done(body))
        return SP_ERR_FORMAT;
    return out->full ? SP_ERR_LIMIT : SP_OK;
}
