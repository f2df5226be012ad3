/* Which delivery may have which secret: announced by the store, claimed once. A lease is wrapped
 * bytes; what they hold is unwrapped when it is asked for. */
#include "daemon/keeper/keeper.h"
#include "sandbox/lockmem.h"

#include <stdlib.h>

enum sp_err leases_init(struct keeper *k)
{
    k->max_leases = (size_t)k->role->config->deliveries + KEEPER_SLACK;
    k->leases = calloc(k->max_leases, sizeof(*k->leases));
    return k->leases != NULL ? SP_OK : SP_ERR_MEMORY;
}

struct lease *leases_find(struct keeper *k, uint64_t no)
{
    for (size_t i = 0; i < k->max_leases; i++)
        if (k->leases[i].used && k->leases[i].no == no)
            return &k->leases[i];
    return NULL;
}

struct lease *leases_new(struct keeper *k, uint64_t no)
{
    for (size_t i = 0; i < k->max_leases; i++)
        if (!k->leases[i].used) {
            k->leases[i] = (struct lease){.used = true, .no = no};
            k->n_leases++;
            return &k->leases[i];
        }
    return NULL;
}

void leases_drop(struct keeper *k, struct lease *lease)
{
    lockmem_wipe(lease, sizeof(*lease));
    k->n_leases--;
}
