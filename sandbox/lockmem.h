#ifndef SEALPOST_LOCKMEM_H
#define SEALPOST_LOCKMEM_H
/*
 * Memory that never reaches swap or a core dump: memfd_secret(2), which not even root reads through
 * /proc, else memfd_create + mlock + MADV_DONTDUMP. Every region has an inaccessible guard page on
 * either side. Nothing here ever hands out memory that is not locked.
 */
#include "envelope/error.h"

#include <stddef.h>

enum lockmem_kind { LOCKMEM_NONE, LOCKMEM_MLOCK, LOCKMEM_SECRET };

/* Overwrites with zeros in a way that the compiler keeps. */
void lockmem_wipe(void *at, size_t len);

/* Chooses the kind for this process: LOCKMEM_SECRET insists on memfd_secret, LOCKMEM_MLOCK on the
 * other, LOCKMEM_NONE takes the best there is. SP_ERR_MEMORY if it cannot be had (the reason is in
 * errno). *got: what was chosen. Call once, first. */
enum sp_err lockmem_init(enum lockmem_kind want, enum lockmem_kind *got);

/* Bytes that this process may lock in all, as its limits and capabilities stand. */
size_t lockmem_limit(void);

/* A region that this process alone has (its descriptor is closed again). size is rounded up to
 * pages. Zeroed, every page populated. Ended by lockmem_free, which wipes first. */
enum sp_err lockmem_alloc(size_t size, void **out);
void lockmem_free(void *at, size_t size);

/* Whether processes that are forked from now on have this region too, at the same address and
 * shared with this one; at first they do. SP_ERR_SYSTEM: it stays as it was, so that whoever wanted
 * it kept from the next must not fork. */
enum sp_err lockmem_inherit(void *at, size_t size, int yes);
/* In the forked process, before it puts anything there: a lock of this process's own, since none
 * survives a fork. SP_ERR_MEMORY. */
enum sp_err lockmem_relock(void *at, size_t size);

/* A region to be shared: maps it here and gives the descriptor too (close-on-exec). */
enum sp_err lockmem_create(size_t size, int *fd, void **out);
/* Maps a region that another process created; refuses one of another size; closes fd in any case,
 * so that pidfd_getfd(2) finds nothing. */
enum sp_err lockmem_map(int fd, size_t size, void **out);

#ifdef SEALPOST_TEST
/* For the tests' scan: the i-th region of this process, or NULL past the last. */
const void *lockmem_region(size_t i, size_t *size);
#endif

/* A heap for a library's secrets, made for CRYPTO_set_mem_functions(): small, fixed, wiped on free.
 * forked=0: on one lockmem_alloc region (roles that never fork).
 * forked=1: on private pages that a fork copies; the child must call lockheap_lock() before it
 * puts a secret there (an mlock is not inherited). Call once, before the library is used.
 * When the heap is full, lockheap_malloc returns NULL. For one thread. A broken tag (overflow, a
 * second free) ends the process by abort(). */
enum sp_err lockheap_init(size_t size, int forked);
enum sp_err lockheap_lock(void);
/* forked=1, in the parent, when the library is set up: what the heap holds becomes an image that
 * all children start from, which makes forks cheap as long as the parent leaves the heap alone. No
 * secret may be there yet. SP_ERR_SYSTEM, SP_ERR_MEMORY: the heap must not be used any more. */
enum sp_err lockheap_freeze(void);
void *lockheap_malloc(size_t n);
void *lockheap_realloc(void *at, size_t n);
void lockheap_free(void *at);
/* High-water mark in bytes. */
size_t lockheap_used(void);

#endif
