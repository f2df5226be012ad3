/* Who takes sockets from the door, and of which kind. An edge that is not here does not exist. */
#include "daemon/door/door.h"

#include <sys/socket.h>

const struct door_channel door_channels[DOOR_CHANNELS] = {
    {ROLE_RELAY, DOOR_AT, AF_INET, SOCK_STREAM},
    {ROLE_RELAY, DOOR_AT + 1, AF_INET6, SOCK_STREAM},
    {ROLE_RESOLVER, DOOR_AT, AF_INET, SOCK_DGRAM},
    {ROLE_RESOLVER, DOOR_AT + 1, AF_INET6, SOCK_DGRAM},
    {ROLE_RESOLVER, DOOR_AT + 2, AF_INET, SOCK_STREAM},
    {ROLE_RESOLVER, DOOR_AT + 3, AF_INET6, SOCK_STREAM},
};
