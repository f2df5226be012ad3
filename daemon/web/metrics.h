#ifndef SEALPOST_WEB_METRICS_H
#define SEALPOST_WEB_METRICS_H
/* GET /metrics on a listener of its own, without TLS: for loopback, or a network of monitoring. */
#include "daemon/ipc.h"

struct web;

/* The listeners of [metrics] listen lie at first_fd and up. */
enum sp_err metrics_start(struct web *web, int first_fd);
/* CT_METRICS_REPLY. */
enum sp_err metrics_reply(struct ipc_frame *frame);

#endif
