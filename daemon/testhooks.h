#ifndef SEALPOST_TESTHOOKS_H
#define SEALPOST_TESTHOOKS_H
/* What the tests ask of a role from inside. Compiled into the test binary alone (SEALPOST_TEST). */
#ifdef SEALPOST_TEST
#include "daemon/ipc.h"

/* CT_PROBE: tries an action from inside the cage and says what became of it. "clock SECONDS": this
 * process takes the time of day for so much later (or earlier) than it is. */
enum sp_err testhook_probe(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
/* CT_SCAN: counts a marker in this process's locked memory, which not even root can read from
 * outside. */
enum sp_err testhook_scan(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame);
extern int64_t testhook_clock_ms;
#else
typedef int testhooks_are_for_tests_alone;
#endif
#endif
