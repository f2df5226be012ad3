/* Sigchains of others, asked for once a run. The server is not trusted (client/chain.h). */
#include "client/contacts.h"
#include "client/report.h"

#include <stdlib.h>
#include <string.h>

enum sp_err contacts_get(struct contacts *all, struct state *s, struct server *server,
                         const uint8_t user_id[ID_SIZE], const struct contact **out)
{
    struct contact found = {.gone = false};
    *out = NULL;
    for (size_t i = 0; i < all->n; i++) {
        if (memcmp(all->list[i].user_id, user_id, ID_SIZE) == 0) {
            *out = &all->list[i];
            return SP_OK;
        }
    }
    memcpy(found.user_id, user_id, ID_SIZE);
    enum sp_err err = chain_fetch(s, server, user_id, &found.gone, &found.chain);
    if (err != SP_OK)
        return err;
    struct contact *more = reallocarray(all->list, all->n + 1, sizeof *more);
    if (more == NULL) {
        chain_free(found.chain);
        return report_fail(SP_ERR_MEMORY, "sigchains");
    }
    all->list = more;
    all->list[all->n] = found;
    *out = &all->list[all->n++];
    return SP_OK;
}

void contacts_free(struct contacts *all)
{
    for (size_t i = 0; i < all->n; i++)
        chain_free(all->list[i].chain);
    free(all->list);
    memset(all, 0, sizeof *all);
}
