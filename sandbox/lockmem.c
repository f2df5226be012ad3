/* Memory that reaches neither swap nor a core dump, between guard pages. The other side of a shared
 * region is another role: its descriptor is believed only as to its kind and size, which are
 * checked. */
#include "sandbox/lockmem.h"
#ifdef SEALPOST_TEST
#include "sandbox/sandbox.h"
#endif

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MAX_REGION ((size_t)1 << 30)

static enum lockmem_kind kind = LOCKMEM_NONE;

/* The compiler must assume that the memory is read afterwards. */
void lockmem_wipe(void *at, size_t len)
{
    if (len == 0)
        return;
    memset(at, 0, len);
    __asm__ __volatile__("" : : "r"(at) : "memory");
}

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Whole pages, or 0 if size is 0 or absurd. */
static size_t whole_pages(size_t size)
{
    size_t page = page_size();
    return size == 0 || size > MAX_REGION ? 0 : (size + page - 1) / page * page;
}

#ifdef SEALPOST_TEST
#define MAX_NOTED 8192u
static struct {
    void *at;
    size_t size;
} noted[MAX_NOTED];

/* size 0: forget it. */
static void note(void *at, size_t size)
{
    for (size_t i = 0; i < MAX_NOTED; i++)
        if (noted[i].at == (size > 0 ? NULL : at)) {
            noted[i].at = size > 0 ? at : NULL;
            noted[i].size = size;
            return;
        }
}

const void *lockmem_region(size_t i, size_t *size)
{
    for (size_t n = 0; n < MAX_NOTED; n++)
        if (noted[n].at != NULL && i-- == 0) {
            *size = noted[n].size;
            return noted[n].at;
        }
    return NULL;
}
#else
#define note(at, size) ((void)0)
#endif

/* A hole of inaccessible pages for the region and its two guards. */
static uint8_t *reserve(size_t size)
{
    void *hole = mmap(NULL, size + 2 * page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return hole == MAP_FAILED ? NULL : hole;
}

static void release(uint8_t *hole, size_t size)
{
    int why = errno;
    munmap(hole, size + 2 * page_size());
    errno = why;
}

/* memfd_secret pages are locked from birth; mlock() on them says ENOMEM. (mlock2, since the
 * sanitizers turn mlock into nothing.) */
static int make_locked(uint8_t *at, size_t size, bool secret)
{
    if (secret)
        return 0;
#ifdef SEALPOST_TEST
    if (sandbox_break != NULL && strcmp(sandbox_break, "locked memory") == 0)
        return 0;
#endif
    return mlock2(at, size, 0) != 0 || madvise(at, size, MADV_DONTDUMP) != 0 ? -1 : 0;
}

/* Touching each page has it allocated now: later, running out of memory would be a SIGBUS. Who maps
 * what another process made finds its pages there already. */
static void populate(const volatile uint8_t *at, size_t size)
{
    for (size_t i = 0; i < size; i += page_size())
        (void)at[i];
}

/* Maps fd between guard pages. fd stays open. */
static enum sp_err map_guarded(int fd, size_t size, bool secret, void **out)
{
    uint8_t *hole = reserve(size);
    if (hole == NULL)
        return SP_ERR_MEMORY;
    uint8_t *at = hole + page_size();
    if (mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
        make_locked(at, size, secret) != 0) {
        release(hole, size);
        return SP_ERR_MEMORY;
    }
    note(at, size);
    *out = at;
    return SP_OK;
}

static int open_secret(void)
{
#ifdef SYS_memfd_secret
    return (int)syscall(SYS_memfd_secret, O_CLOEXEC);
#else
    errno = ENOSYS;
    return -1;
#endif
}

/* A descriptor of the chosen kind, of this size. A memfd that others will have is sealed against
 * resizing, which would turn our next access into SIGBUS; a secret one cannot be resized once it
 * has a size. */
static int open_sized(size_t size, bool shared)
{
    bool secret = kind == LOCKMEM_SECRET;
    int fd = secret ? open_secret() : memfd_create("sealpost", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    if (ftruncate(fd, (off_t)size) != 0 ||
        (shared && !secret &&
         fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0)) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

/* Tries the kind out on one page. */
static enum sp_err try_kind(enum lockmem_kind candidate)
{
    void *at;
    kind = candidate;
    enum sp_err err = lockmem_alloc(page_size(), &at);
    if (err == SP_OK)
        lockmem_free(at, page_size());
    else
        kind = LOCKMEM_NONE;
    return err;
}

enum sp_err lockmem_init(enum lockmem_kind want, enum lockmem_kind *got)
{
    *got = LOCKMEM_NONE;
    enum sp_err err = SP_ERR_MEMORY;
    if (want != LOCKMEM_MLOCK)
        err = try_kind(LOCKMEM_SECRET);
    if (err != SP_OK && want != LOCKMEM_SECRET)
        err = try_kind(LOCKMEM_MLOCK);
    *got = kind;
    return err;
}

static enum sp_err create(size_t size, bool shared, int *fd, void **out)
{
    *fd = -1;
    *out = NULL;
    if (kind == LOCKMEM_NONE)
        return SP_ERR_STATE;
    size = whole_pages(size);
    if (size == 0)
        return SP_ERR_LIMIT;
    int made = open_sized(size, shared);
    if (made < 0)
        return SP_ERR_MEMORY;
    enum sp_err err = map_guarded(made, size, kind == LOCKMEM_SECRET, out);
    if (err != SP_OK) {
        int why = errno;
        close(made);
        errno = why;
        return err;
    }
    populate(*out, size);
    *fd = made;
    return SP_OK;
}

enum sp_err lockmem_create(size_t size, int *fd, void **out)
{
    return create(size, true, fd, out);
}

enum sp_err lockmem_alloc(size_t size, void **out)
{
    int fd;
    enum sp_err err = create(size, false, &fd, out);
    if (err == SP_OK)
        close(fd);
    return err;
}

/* What a peer's descriptor is: secret memory, which cannot be resized, or a memfd sealed against
 * it; a file on a disk is neither. */
static enum sp_err inspect(int fd, size_t size, bool *secret)
{
    struct stat st;
    struct statfs fs;
    *secret = false;
    if (fstat(fd, &st) != 0 || fstatfs(fd, &fs) != 0)
        return SP_ERR_SYSTEM;
    if (st.st_size < 0 || (uintmax_t)st.st_size != size)
        return SP_ERR_FORMAT;
    *secret = (uintmax_t)fs.f_type == SECRETMEM_MAGIC;
    if (*secret)
        return SP_OK;
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & F_SEAL_SHRINK) != 0 ? SP_OK : SP_ERR_FORMAT;
}

enum sp_err lockmem_map(int fd, size_t size, void **out)
{
    *out = NULL;
    bool secret;
    size = whole_pages(size);
    enum sp_err err = size == 0 ? SP_ERR_LIMIT : inspect(fd, size, &secret);
    if (err == SP_OK)
        err = map_guarded(fd, size, secret, out);
    int why = errno;
    close(fd);
    errno = why;
    return err;
}

/* With its guards, so that nothing else comes to lie beside it in the child. */
enum sp_err lockmem_inherit(void *at, size_t size, int yes)
{
    int advice = yes ? MADV_DOFORK : MADV_DONTFORK;
    size = whole_pages(size) + 2 * page_size();
    return madvise((uint8_t *)at - page_size(), size, advice) == 0 ? SP_OK : SP_ERR_SYSTEM;
}

enum sp_err lockmem_relock(void *at, size_t size)
{
    int rc = make_locked(at, whole_pages(size), kind == LOCKMEM_SECRET);
    return rc == 0 ? SP_OK : SP_ERR_MEMORY;
}

void lockmem_free(void *at, size_t size)
{
    if (at == NULL)
        return;
    size = whole_pages(size);
    lockmem_wipe(at, size);
    note(at, 0);
    release((uint8_t *)at - page_size(), size);
}
