#ifndef SEALPOST_CONFIG_KEYS_H
#define SEALPOST_CONFIG_KEYS_H
/* The table of settings, private to daemon/config*.c. */
#include "daemon/config.h"

#include <stddef.h>

enum type { TEXT, LIST, SIZE, COUNT, DURATION, WORD };

#define CONTROL_ONLY 0u /* the supervisor and sealpostctl alone */

struct key {
    const char *section, *name;
    enum type type;
    size_t offset;
    const char *preset; /* as it would be written; NULL: none */
    unsigned roles;     /* that get to see it */
    const char *words;  /* WORD: the choices, in the order of the enum */
    uint64_t min, max;  /* numbers */
};

extern const struct key config_keys[];
extern const size_t config_key_count;

/* config_listen.c: says which addresses cannot be listened on at once; how many. lines: of the
 * values of each list in the file, 0 for those of a default. */
size_t config_collisions(const struct config *config,
                         const int lines[CONFIG_MAX_KEYS][CONFIG_MAX_LIST], const char *path,
                         FILE *errors);

#endif
