#ifndef SEALPOST_ASIDE_H
#define SEALPOST_ASIDE_H
/* A look at something secret, or hard to parse, by a process that does nothing else and ends: its
 * caller never holds what was parsed. */
#include "envelope/error.h"

/* Runs look(ctx) in a fork of this process; its result. What it allocates need not be freed.
 * SP_ERR_SYSTEM: there was no process to be had, or it crashed. */
enum sp_err aside(enum sp_err (*look)(void *ctx), void *ctx);

#endif
