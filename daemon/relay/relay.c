/* Relay: leases mail that is to be sent from the store and forks a delivery for each. */
#include "daemon/role.h"

static enum sp_err run(struct role *role)
{
    (void)role;
    return SP_OK;
}

/* Mail exchangers, or the smarthost alone. */
static size_t connect_ports(const struct config *c, uint16_t out[ROLE_MAX_PORTS])
{
    out[0] = c->relay_mode == RELAY_SMARTHOST ? config_port(c->smarthost) : (uint16_t)c->relay_port;
    return c->relay_mode == RELAY_OFF || out[0] == 0 ? 0 : 1;
}

const struct role_ops relay_role = {
    .id = ROLE_RELAY,
    .name = "relay",
    .connect = connect_ports,
    .run = run,
};
