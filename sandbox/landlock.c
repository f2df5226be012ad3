/* Landlock: no file, no TCP, no signal beyond the cage, whatever the filter may have missed. It
 * does not cover stat, connecting to path-name unix sockets, UDP or MSG_FASTOPEN: the filter does.
 */
#include "sandbox/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Debian 12's headers end at ABI 2. */
#define FS_UP_TO_REFER ((UINT64_C(1) << 14) - 1) /* ABI 2: EXECUTE .. REFER */
#define FS_TRUNCATE    (UINT64_C(1) << 14)       /* ABI 3, Linux 6.2 */
#define FS_IOCTL_DEV   (UINT64_C(1) << 15)       /* ABI 5, Linux 6.10 */
#define NET_BIND_TCP   (UINT64_C(1) << 0)        /* ABI 4, Linux 6.7 */
#define NET_CONNECT    (UINT64_C(1) << 1)
#define SCOPE_ABSTRACT (UINT64_C(1) << 0) /* ABI 6, Linux 6.12 */
#define SCOPE_SIGNAL   (UINT64_C(1) << 1)

#define RULE_NET_PORT ((enum landlock_rule_type)2)

#define MIN_ABI 2

/* struct landlock_net_port_attr */
struct net_port {
    uint64_t allowed, port;
};

/* What the store may do below its own directory. */
#define DATA_RIGHTS                                                                                \
    (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_DIR |  \
     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE | FS_TRUNCATE)

/* struct landlock_ruleset_attr as of ABI 6; older kernels take its beginning. */
struct ruleset {
    uint64_t fs, net, scoped;
};

static size_t ruleset_fill(long abi, struct ruleset *rules)
{
    *rules = (struct ruleset){.fs = FS_UP_TO_REFER};
    if (abi >= 3)
        rules->fs |= FS_TRUNCATE;
    if (abi >= 5)
        rules->fs |= FS_IOCTL_DEV;
    if (abi >= 4)
        rules->net = NET_BIND_TCP | NET_CONNECT;
    if (abi >= 6)
        rules->scoped = SCOPE_ABSTRACT | SCOPE_SIGNAL;
    if (abi >= 6)
        return sizeof(*rules);
    return abi >= 4 ? offsetof(struct ruleset, scoped) : offsetof(struct ruleset, net);
}

static enum sp_err grant_root(int set, uint64_t rights)
{
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return SP_ERR_SYSTEM;
    struct landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = root};
    long rc = syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    int why = errno;
    close(root);
    errno = why;
    return rc == 0 ? SP_OK : SP_ERR_SYSTEM;
}

static enum sp_err grant_ports(int set, const struct cage *cage)
{
    for (size_t i = 0; cage != NULL && i < cage->n_connect; i++) {
        struct net_port rule = {.allowed = NET_CONNECT, .port = cage->connect[i]};
        if (syscall(SYS_landlock_add_rule, set, RULE_NET_PORT, &rule, 0) != 0)
            return SP_ERR_SYSTEM;
    }
    return SP_OK;
}

/* Tries what must now fail: listing an empty root; making a directory in a data root. */
static enum sp_err check(const struct policy *row)
{
    if (row->root == ROOT_DATA) {
        if (mkdir("/landlock", 0700) == 0) {
            rmdir("/landlock");
            errno = EPERM;
        }
        return errno == EACCES ? SP_OK : SP_ERR_SYSTEM;
    }
    int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return errno == EACCES ? SP_OK : SP_ERR_SYSTEM;
    close(dir);
    errno = EPERM;
    return SP_ERR_SYSTEM;
}

int landlock_abi(void)
{
    return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

static int in_force; /* set once */

int landlock_in_force(void)
{
    return in_force;
}

enum sp_err step_landlock(const struct policy *row, const struct cage *cage)
{
    int abi = landlock_abi();
    if (abi < 0)
        return SP_ERR_SYSTEM; /* ENOSYS: not built in; EOPNOTSUPP: not enabled at boot (lsm=) */
    if (abi < MIN_ABI) {
        errno = EOPNOTSUPP;
        return SP_ERR_SYSTEM;
    }
    struct ruleset rules;
    size_t size = ruleset_fill(abi, &rules);
    int set = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (set < 0)
        return SP_ERR_SYSTEM;
    enum sp_err err = SP_OK;
    if (row->root == ROOT_DATA)
        err = grant_root(set, DATA_RIGHTS & rules.fs);
    if (err == SP_OK && rules.net != 0)
        err = grant_ports(set, cage);
    if (err == SP_OK && syscall(SYS_landlock_restrict_self, set, 0) != 0)
        err = SP_ERR_SYSTEM;
    int why = errno;
    close(set);
    errno = why;
    if (err == SP_OK)
        err = check(row);
    if (err == SP_OK)
        in_force = abi;
    return err;
}
