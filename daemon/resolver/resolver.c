/* Resolver: DNS for deliveries, validated. Every answer of the network is hostile. */
#include "daemon/role.h"

static enum sp_err run(struct role *role)
{
    (void)role;
    return SP_OK;
}

const struct role_ops resolver_role = {
    .id = ROLE_RESOLVER,
    .name = "resolver",
    .run = run,
};
