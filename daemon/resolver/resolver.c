/* Resolver: DNS for deliveries, validated. Every answer of the network is hostile. */
#include "daemon/role.h"

static enum sp_err run(struct role *role)
{
    (void)role;
    return SP_OK;
}

/* DNS over TCP, for answers that do not fit a datagram. */
static size_t connect_ports(const struct config *c, uint16_t out[ROLE_MAX_PORTS])
{
    uint16_t port = config_port(c->resolver_server);
    out[0] = port != 0 ? port : 53;
    return 1;
}

const struct role_ops resolver_role = {
    .id = ROLE_RESOLVER,
    .name = "resolver",
    .connect = connect_ports,
    .run = run,
};
