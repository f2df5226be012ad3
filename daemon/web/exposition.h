#ifndef SEALPOST_WEB_EXPOSITION_H
#define SEALPOST_WEB_EXPOSITION_H
/* Prometheus' text format, version 0.0.4, out of what the roles say in their status. */
#include "envelope/wire.h"

struct evbuffer;

/* rows: b16 role, b16 name, b16 value, and so on, as CT_METRICS_REPLY has them. Names, labels and
 * help come from a table here; of the rows nothing is taken over but numbers, the first of each
 * name. docs/metrics.md describes them. */
void exposition_write(struct wire_in rows, struct evbuffer *out);

#endif
