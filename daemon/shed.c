/* Libraries that a forked process does without. sealpostd is one program, linked against what any
 * of its roles needs; most mappings of a session or a delivery would be code and data of storage,
 * JSON and event loops. Runs in a parent that has met nobody yet. */
#include "daemon/shed.h"

#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct shedding {
    const char *const *unused;
    bool failed;
};

static bool is_unused(const char *const *unused, const char *path)
{
    const char *name = strrchr(path, '/');
    for (size_t i = 0; name != NULL && unused[i] != NULL; i++)
        if (strncmp(name + 1, unused[i], strlen(unused[i])) == 0)
            return true;
    return false;
}

static int on_library(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct shedding *s = arg;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), low = UINTPTR_MAX, high = 0;
    (void)size;
    if (!is_unused(s->unused, info->dlpi_name))
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
        s->failed = true;
    return 0;
}

enum sp_err shed_libraries(const char *const *unused)
{
    struct shedding s = {.unused = unused};
    dl_iterate_phdr(on_library, &s);
    return s.failed ? SP_ERR_SYSTEM : SP_OK;
}
