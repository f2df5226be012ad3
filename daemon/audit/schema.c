/* The table of audit events. Written by us; the frames that it describes come from roles that may
 * have been taken over. */
#include "daemon/audit/schema.h"
#include "daemon/audit/events.h"
#include "daemon/role.h"

#include <string.h>

static const struct audit_schema schemas[] = {
#define E(id, name, who, fields) [id] = {name, who, fields},
    AUDIT_EVENTS(E)
#undef E
};

const struct audit_schema *audit_schema(unsigned event)
{
    return event < AUDIT_EVENT_COUNT ? &schemas[event] : NULL;
}

bool audit_next_field(const char **at, struct audit_field *out)
{
    const char *colon = strchr(*at, ':');
    if (colon == NULL)
        return false;
    *out = (struct audit_field){*at, (size_t)(colon - *at), colon[1]};
    *at = colon[2] == ' ' ? colon + 3 : colon + 2;
    return true;
}
