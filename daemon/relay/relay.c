/* Relay: leases mail that is to be sent from the store and forks a delivery for each. */
#include "daemon/role.h"

static enum sp_err run(struct role *role)
{
    (void)role;
    return SP_OK;
}

const struct role_ops relay_role = {
    .id = ROLE_RELAY,
    .name = "relay",
    .run = run,
};
