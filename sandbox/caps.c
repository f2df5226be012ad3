/* Capabilities by hand, without libcap: the sets of this process, and the bits that would let them
 * come back. Runs before a process meets anything hostile. */
#include "sandbox/steps.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOCKED_BITS                                                                                \
    (SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |                               \
     SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |       \
     SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED)

struct cap_sets {
    uint64_t effective, permitted, inheritable;
};

static int get_caps(struct cap_sets *sets)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}};
    if (syscall(SYS_capget, &head, data) != 0)
        return -1;
    sets->effective = data[0].effective | (uint64_t)data[1].effective << 32;
    sets->permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
    sets->inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
    return 0;
}

static int set_caps(const struct cap_sets *sets)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    for (unsigned i = 0; i < 2; i++) {
        data[i].effective = (uint32_t)(sets->effective >> (32 * i));
        data[i].permitted = (uint32_t)(sets->permitted >> (32 * i));
        data[i].inheritable = (uint32_t)(sets->inheritable >> (32 * i));
    }
    return syscall(SYS_capset, &head, data) == 0 ? 0 : -1;
}

/* The kernel may know more capabilities than our headers: it says EINVAL past its last. */
static int drop_bounding(uint64_t keep)
{
    for (int cap = 0; cap < 64; cap++) {
        int has = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (has < 0)
            return errno == EINVAL && cap > CAP_MAC_ADMIN ? 0 : -1;
        if (has == 1 && (keep >> cap & 1) == 0 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0)
            return -1;
    }
    return 0;
}

static bool only_kept(uint64_t keep, bool lock_securebits)
{
    struct cap_sets now;
    if (get_caps(&now) != 0 || now.inheritable != 0)
        return false;
    if ((now.effective & ~keep) != 0 || (now.permitted & ~keep) != 0)
        return false;
    for (int cap = 0; cap < 64; cap++) {
        if ((keep >> cap & 1) == 0 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1)
            return false;
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1)
            return false;
    }
    return !lock_securebits || prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) == LOCKED_BITS;
}

/* Reduces every set to keep, as far as this process had it. SETPCAP is needed on the way. */
enum sp_err caps_limit(uint64_t keep, bool lock_securebits)
{
    struct cap_sets sets;
    if (get_caps(&sets) != 0)
        return SP_ERR_SYSTEM;
    uint64_t setpcap = UINT64_C(1) << CAP_SETPCAP;
    sets.effective = sets.permitted & (keep | setpcap);
    if (set_caps(&sets) != 0 || drop_bounding(keep) != 0)
        return SP_ERR_SYSTEM;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
        return SP_ERR_SYSTEM;
    if (lock_securebits && prctl(PR_SET_SECUREBITS, LOCKED_BITS, 0, 0, 0) != 0)
        return SP_ERR_SYSTEM;
    sets.permitted &= keep;
    sets.effective = sets.permitted;
    sets.inheritable = 0;
    if (set_caps(&sets) != 0)
        return SP_ERR_SYSTEM;
    if (only_kept(keep, lock_securebits))
        return SP_OK;
    errno = EPERM;
    return SP_ERR_SYSTEM;
}

enum sp_err caps_drop(void)
{
    const struct cap_sets none = {0, 0, 0};
    struct cap_sets now;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 || set_caps(&none) != 0 ||
        get_caps(&now) != 0)
        return SP_ERR_SYSTEM;
    if ((now.effective | now.permitted | now.inheritable) == 0)
        return SP_OK;
    errno = EPERM;
    return SP_ERR_SYSTEM;
}

/* In user mode a capability is one inside the user namespace only, where CAP_IPC_LOCK does nothing.
 */
enum sp_err step_capabilities(const struct policy *row, const struct cage *cage)
{
    return caps_limit(cage->user_mode ? 0 : row->caps, true);
}
