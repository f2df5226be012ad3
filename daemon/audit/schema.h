#ifndef SEALPOST_AUDIT_SCHEMA_H
#define SEALPOST_AUDIT_SCHEMA_H
/* The table of events.h at run time: for those who report, and for the role that writes. */
#include <stdbool.h>
#include <stddef.h>

#define AUDIT_TEXT_MAX  512u /* bytes of a text field */
#define AUDIT_FRAME_MAX (2u + 8u * (2u + AUDIT_TEXT_MAX))

struct audit_schema {
    const char *name;   /* "session.open" */
    unsigned reporters; /* AUDIT_BIT(role) of those who may report it */
    const char *fields; /* "session:u client:s" */
};

struct audit_field {
    const char *name; /* name_len bytes */
    size_t name_len;
    char type; /* 's', 'u', 'x' */
};

/* NULL: there is no such event. */
const struct audit_schema *audit_schema(unsigned event);
/* Walks the fields of an event: *at is its `fields` at first. False at the end. */
bool audit_next_field(const char **at, struct audit_field *out);

#endif
