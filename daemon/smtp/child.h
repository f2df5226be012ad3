#ifndef SEALPOST_SMTP_CHILD_H
#define SEALPOST_SMTP_CHILD_H
/* The process of one session, from the fork to its end. */
#include "daemon/config.h"
#include "daemon/smtp/channels.h"

#include <linux/filter.h>
#include <openssl/types.h>
#include <stdbool.h>
#include <stdint.h>

struct child {
    const struct config *config;
    SSL_CTX *tls;
    const struct sock_fprog *filter; /* compiled beforehand */
    uint32_t id;
    const char *client;
    bool lmtp;
    int connection;
    struct channels channels;
};

/* Right after the fork: keeps its own descriptors alone, puts on the filter, runs the session.
 * Exits with its enum session_end, or with a status that is none of them. */
_Noreturn void child_run(const struct child *c);

#endif
