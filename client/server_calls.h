#ifndef SEALPOST_CLIENT_SERVER_CALLS_H
#define SEALPOST_CLIENT_SERVER_CALLS_H
/* What the files that make up client/server.h share. */
#include "client/server.h"

/* A bounded answer in memory; bytes is free()d by whoever set it up. */
struct gather {
    uint8_t *bytes;
    size_t len;
    size_t max;
};
enum sp_err server_gather(void *ctx, const uint8_t *bytes, size_t len);

/* A request that needs the session. A token that ran out meanwhile is renewed once. what: named in
 * the report of a failure; NULL: nothing is said. */
enum sp_err server_call(struct server *s, struct http_request *rq, http_sink sink, void *ctx,
                        const char *what);
/* One that does not; says nothing. */
enum sp_err server_call_open(struct server *s, const struct http_request *rq, struct gather *g);

#endif
