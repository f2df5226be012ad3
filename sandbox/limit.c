/* How much memory the system lets this process lock. */
#include "sandbox/lockmem.h"

#include <linux/capability.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int has_ipc_lock(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    return syscall(SYS_capget, &head, data) == 0 && (data[0].effective >> CAP_IPC_LOCK & 1);
}

size_t lockmem_limit(void)
{
    struct rlimit limit;
    if (has_ipc_lock())
        return SIZE_MAX / 2;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return 0;
    return limit.rlim_cur > SIZE_MAX / 2 ? SIZE_MAX / 2 : limit.rlim_cur;
}
