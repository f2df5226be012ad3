/* Reporting an event to the audit role: encodes by the table of events.h and sends. Linked into
 * every role; the audit role trusts none of them. */
#include "daemon/audit/events.h"
#include "daemon/audit/schema.h"
#include "daemon/role.h"
#include "envelope/keys.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_NO_AUDIT 70

/* Cuts over-long text where a character of UTF-8 begins. */
static void put_text(struct wire_out *out, const char *text)
{
    size_t len = strnlen(text, AUDIT_TEXT_MAX + 1);
    if (len > AUDIT_TEXT_MAX) {
        len = AUDIT_TEXT_MAX;
        while (len > AUDIT_TEXT_MAX - 4 && ((uint8_t)text[len] & 0xc0) == 0x80)
            len--;
    }
    wire_put_b16(out, text, len);
}

static enum sp_err report(enum audit_event event, va_list args)
{
    uint8_t body[AUDIT_FRAME_MAX];
    struct wire_out out = wire_out(body, sizeof(body));
    const struct audit_schema *schema = audit_schema(event);
    struct audit_field field;
    if (schema == NULL)
        abort();
    wire_put_u16(&out, (uint16_t)event);
    for (const char *at = schema->fields; audit_next_field(&at, &field);) {
        if (field.type == 's')
            put_text(&out, va_arg(args, const char *));
        else if (field.type == 'u')
            wire_put_u64(&out, va_arg(args, uint64_t));
        else
            wire_put_bytes(&out, va_arg(args, const uint8_t *), ID_SIZE);
    }
    if (!wire_out_ok(&out))
        return SP_ERR_LIMIT;
    return ipc_send_fd(FD_AUDIT, AU_EVENT, 0, body, out.len, -1);
}

enum sp_err audit_report(enum audit_event event, ...)
{
    va_list args;
    va_start(args, event);
    enum sp_err err = report(event, args);
    va_end(args);
    return err;
}

void audit_emit(enum audit_event event, ...)
{
    va_list args;
    va_start(args, event);
    enum sp_err err = report(event, args);
    va_end(args);
    if (err != SP_OK)
        _exit(EXIT_NO_AUDIT);
}
