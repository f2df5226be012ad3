#ifndef SEALPOST_FUZZ_UNLOCKED_H
#define SEALPOST_FUZZ_UNLOCKED_H
/* For a harness that includes a role's files: memory from malloc() instead of locked memory, and
 * nobody who listens to what is logged. */
#include "daemon/audit/events.h"
#include "daemon/role.h"
#include "daemon/tls.h"
#include "sandbox/lockmem.h"

#include <stdlib.h>
#include <string.h>

void lockmem_wipe(void *at, size_t len)
{
    memset(at, 0, len);
}
enum sp_err lockmem_create(size_t size, int *fd, void **out)
{
    static int next = 6000;
    *fd = next++;
    *out = calloc(1, size);
    return SP_OK;
}
enum sp_err lockmem_alloc(size_t size, void **out)
{
    *out = calloc(1, size);
    return SP_OK;
}
enum sp_err lockmem_init(enum lockmem_kind want, enum lockmem_kind *got)
{
    *got = want;
    return SP_OK;
}
size_t lockmem_limit(void)
{
    return 0;
}
enum sp_err lockheap_init(size_t size, int forked)
{
    (void)size;
    (void)forked;
    return SP_OK;
}
void *lockheap_malloc(size_t n)
{
    return malloc(n);
}
void *lockheap_realloc(void *at, size_t n)
{
    return realloc(at, n);
}
void lockheap_free(void *at)
{
    free(at);
}
size_t lockheap_used(void)
{
    return 0;
}
enum sp_err tls_use_lockheap(void)
{
    return SP_OK;
}
enum lockmem_kind lockmem_wanted(const struct config *c)
{
    (void)c;
    return LOCKMEM_NONE;
}
const char *lockmem_name(enum lockmem_kind kind)
{
    (void)kind;
    return "";
}
void role_status_number(struct wire_out *pairs, const char *name, uint64_t value)
{
    (void)pairs;
    (void)name;
    (void)value;
}
void role_status_count(struct wire_out *pairs, const char *prefix, const char *kind, uint64_t value)
{
    (void)pairs;
    (void)prefix;
    (void)kind;
    (void)value;
}
void role_status_histogram(struct wire_out *pairs, const char *name, const struct histogram *h)
{
    (void)pairs;
    (void)name;
    (void)h;
}
void role_log(const char *format, ...)
{
    (void)format;
}
void audit_emit(enum audit_event event, ...)
{
    (void)event;
}

#endif
