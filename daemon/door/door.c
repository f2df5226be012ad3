/* The door as a role of the tree, where no service manager has made it a service of its own. It
 * trusts the supervisor; of all others it knows a descriptor that it writes to. */
#include "daemon/door/door.h"

static enum sp_err prepare(struct role *role)
{
    enum sp_err err = SP_OK;
    (void)role;
    for (size_t i = 0; err == SP_OK && i < DOOR_CHANNELS; i++)
        err = door_bound(FD_EXTRA + (int)i);
    return err;
}

static enum sp_err run(struct role *role)
{
    int ends[DOOR_CHANNELS];
    for (size_t i = 0; i < DOOR_CHANNELS; i++)
        ends[i] = FD_EXTRA + (int)i;
    role->state = door_fill(role->base, ends);
    return role->state != NULL ? SP_OK : SP_ERR_MEMORY;
}

static void status(struct role *role, struct wire_out *pairs)
{
    (void)role;
    role_status_number(pairs, "sockets_made", door_made());
}

const struct role_ops door_role = {
    .id = ROLE_DOOR, .name = "door", .prepare = prepare, .run = run, .status = status};
