#ifndef SEALPOST_LISTEN_H
#define SEALPOST_LISTEN_H
/* The listening sockets of the tree, in the order of the settings. */
#include "daemon/config.h"

enum listen_for { LISTEN_SMTP, LISTEN_LMTP, LISTEN_WEB, LISTEN_METRICS, LISTEN_COUNT };

struct listening {
    int fd[LISTEN_COUNT][CONFIG_MAX_LIST]; /* as many as there are addresses */
};

const struct config_list *listen_addresses(const struct config *c, enum listen_for what);
/* All are opened, or what fails is said on stderr. Ports below 1024 take CAP_NET_BIND_SERVICE. */
enum sp_err listen_all(const struct config *c, struct listening *out);

#endif
