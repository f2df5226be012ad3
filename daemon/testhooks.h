#ifndef SEALPOST_TESTHOOKS_H
#define SEALPOST_TESTHOOKS_H
/* What the tests ask of a role from inside. Compiled into the test binary alone (SEALPOST_TEST). */
#ifdef SEALPOST_TEST
#include "daemon/ipc.h"

/* CT_PROBE: tries an action from inside the cage and says what became of it. */
enum sp_err testhook_probe(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
/* CT_SCAN: counts the distinct markers (prefix followed by 16 hex digits) in this process's own
 * writable memory, secret memory included. */
enum sp_err testhook_scan(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
/* Opens /proc/self/maps before the root directory is gone. Call first. */
void testhook_init(void);
/* In a forked session: does the probe that the environment names (SEALPOST_SESSION_PROBE). */
void testhook_session(void);
#endif
#endif
