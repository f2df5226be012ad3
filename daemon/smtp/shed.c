/* Libraries that a session does without. sealpostd is one program, linked against what any of its
 * roles needs; most mappings of a session would be code and data of storage, JSON and event loops.
 */
#include "daemon/smtp/shed.h"

#include <link.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *const unused[] = {"liblmdb.",    "libjansson.", "libinih.",    "libevent",
                                     "libseccomp.", "libsodium.",  "libpthread.", "libunbound.",
                                     "libresolv.",  "libhogweed.", "libnettle.",  "libgmp."};

static int is_unused(const char *path)
{
    const char *name = strrchr(path, '/');
    for (size_t i = 0; name != NULL && i < sizeof(unused) / sizeof(unused[0]); i++)
        if (strncmp(name + 1, unused[i], strlen(unused[i])) == 0)
            return 1;
    return 0;
}

static int on_library(struct dl_phdr_info *info, size_t size, void *failed)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), low = UINTPTR_MAX, high = 0;
    (void)size;
    if (!is_unused(info->dlpi_name))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + p->p_vaddr;
        if (p->p_type != PT_LOAD)
            continue;
        low = from < low ? from : low;
        high = from + p->p_memsz > high ? from + p->p_memsz : high;
    }
    low &= ~(page - 1);
    high = (high + page - 1) & ~(page - 1);
    if (low < high && madvise((void *)low, high - low, MADV_DONTFORK) != 0)
        *(int *)failed = 1;
    return 0;
}

enum sp_err shed_libraries(void)
{
    int failed = 0;
    dl_iterate_phdr(on_library, &failed);
    return failed ? SP_ERR_SYSTEM : SP_OK;
}
