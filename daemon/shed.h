#ifndef SEALPOST_SHED_H
#define SEALPOST_SHED_H
#include "envelope/error.h"

/* Marks the libraries that the parent needs and the processes that it forks do not as not to be
 * inherited by a fork: less code in the process that parses hostile bytes, and a faster fork.
 * unused: beginnings of their file names, NULL at the end. After it, a child must not call into
 * them, nor leave by exit(3). SP_ERR_SYSTEM: madvise failed. */
enum sp_err shed_libraries(const char *const *unused);

#endif
