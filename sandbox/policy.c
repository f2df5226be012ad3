/* The table of cages, one row a process, made of the sets in calls.c. Read by a role before it
 * meets anything hostile; nothing here depends on input. */
#include "sandbox/policy.h"

#include <linux/capability.h>
#include <sched.h>
#include <string.h>

#define CAP(c) (UINT64_C(1) << (c))
#define MIB    (1024u * 1024u)
/* Not of control groups: a role sees them nowhere, having an empty root and no call for a path. */
#define ISOLATED (CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS)
/* Of the network the door needs the real one, and nobody else. */
#define CONNECTED (ISOLATED & ~CLONE_NEWNET)
#define NO_LIMIT  RLIM_INFINITY

/* smtp has all that a session has, since a filter can only take away from the one before it.
 * Inherited listeners belong to the network namespace they were made in and go on accepting. */
static const struct policy rows[] = {
    {.name = "smtp",
     .what = "accepts connections, forks a session for each",
     .namespaces = ISOLATED,
     .nofile = 8192,
     .nproc = 8192,
     .fsize = 1 * MIB,
     .sets = {&calls_core, &calls_loop, &calls_memory, &calls_session, &calls_forks, &calls_smtp}},
    {.name = "session",
     .what = "one SMTP connection: TLS, dialogue, MIME",
     .parent = "smtp",
     .root = ROOT_INHERITED,
     .sets = {&calls_core, &calls_memory, &calls_session}},
    {.name = "sealer",
     .what = "encrypts out of shared locked memory",
     .namespaces = ISOLATED,
     .caps = CAP(CAP_IPC_LOCK),
     .nofile = 8192,
     .fsize = 256 * MIB,
     .sets = {&calls_core, &calls_loop, &calls_memory, &calls_locked, &calls_sealer}},
    {.name = "store",
     .what = "ciphertext and public keys, in LMDB",
     .root = ROOT_DATA,
     .namespaces = ISOLATED,
     .nofile = 2048,
     .fsize = NO_LIMIT,
     .sets = {&calls_core, &calls_loop, &calls_memory, &calls_store}},
    {.name = "backup",
     .what = "sealpostctl backup: reads the store's database, and writes the copy of it",
     .root = ROOT_DATA,
     .namespaces = ISOLATED,
     .nofile = 64,
     .nproc = 8192, /* of its user's: in user mode that is everybody */
     .fsize = NO_LIMIT,
     .sets = {&calls_core, &calls_memory, &calls_store, &calls_copying}},
    {.name = "keeper",
     .what = "keys and secrets: signs and opens what it has rebuilt",
     .namespaces = ISOLATED,
     .caps = CAP(CAP_IPC_LOCK),
     .nofile = 8192,
     .fsize = 64 * MIB,
     .sets = {&calls_core, &calls_loop, &calls_memory, &calls_keeper}},
    {.name = "web",
     .what = "HTTPS: ciphertext and public data alone",
     .namespaces = ISOLATED,
     .nofile = 8192,
     .fsize = 64 * MIB,
     .sets = {&calls_core, &calls_loop, &calls_memory, &calls_web}},
    {.name = "audit",
     .what = "the log and its signing key",
     .namespaces = ISOLATED,
     .nofile = 256,
     .fsize = NO_LIMIT,
     .sets = {&calls_core, &calls_loop, &calls_audit}},
    {.name = "relay",
     .what = "leases mail to be sent, forks a delivery for each destination",
     .namespaces = ISOLATED,
     .nofile = 4096,
     .nproc = 4096,
     .fsize = 8 * MIB, /* no file: the image of the deliveries' heap */
     .sets = {&calls_core, &calls_loop, &calls_memory, &calls_forks, &calls_outgoing,
              &calls_locked}},
    {.name = "delivery",
     .what = "one mail to one destination: opens as it sends",
     .parent = "relay",
     .root = ROOT_INHERITED,
     .sets = {&calls_core, &calls_memory, &calls_outgoing}},
    {.name = "resolver",
     .what = "DNS, validated",
     .namespaces = ISOLATED,
     .nofile = 8192,
     .fsize = 1 * MIB,
     .sets = {&calls_core, &calls_loop, &calls_dns}},
    {.name = "door",
     .what = "makes sockets to the outside and hands them on; reads nothing from anyone",
     .namespaces = CONNECTED,
     .nofile = 8192, /* so many of its user's may be under way: in user mode that is everybody */
     .fsize = 1 * MIB,
     .sets = {&calls_core, &calls_loop, &calls_door}},
    {.name = "door-unit",
     .what = "the same as a service of its own, which also hands over the listeners",
     .alone = true,
     .root = ROOT_INHERITED,
     .nofile = 1024,
     .fsize = 1 * MIB,
     .sets = {&calls_core, &calls_loop, &calls_door, &calls_handing}},
    /* Root still, to start a tree again: it parses nothing from the network. What opening sockets
     * and directories took is gone by now. */
    {.name = "supervisor",
     .what = "starts the tree, opens what it hands out",
     .deny = true,
     .root = ROOT_INHERITED,
     .caps = CAP(CAP_SETUID) | CAP(CAP_SETGID) | CAP(CAP_SETPCAP) | CAP(CAP_SYS_CHROOT) |
             CAP(CAP_SYS_ADMIN) | CAP(CAP_IPC_LOCK),
     .sets = {&calls_never}},
};

const struct policy *policy_at(size_t i)
{
    return i < sizeof(rows) / sizeof(*rows) ? &rows[i] : NULL;
}

const struct policy *policy_row(const char *name)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    }
    return NULL;
}
