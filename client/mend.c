/* Giving a restored server the links of the user's own chain that it has lost. It is not trusted:
 * a chain that it shows differently, in whatever place, is not built upon. */
#include "client/mend.h"
#include "client/report.h"

#include <stdlib.h>
#include <string.h>

/* One answer of the server: has to be what is remembered behind *seq links, which end at *at. Steps
 * over them; *n: bytes of it. */
static enum sp_err compare_page(const struct chain *c, struct server *server, size_t *at,
                                uint32_t *seq, size_t *n)
{
    uint8_t user_id[ID_SIZE];
    uint8_t *wires = NULL;
    size_t one = 0;
    enum sp_err err = server_sigchain(server, c->address, *seq, user_id, &wires, n);
    if (err == SP_ERR_NOT_FOUND)
        return report_plain(SP_ERR_AUTH, "sigchain of %s: the server shows none any more",
                            c->address);
    if (err == SP_OK && (*n > c->len - *at || memcmp(wires, c->wires + *at, *n) != 0))
        err = report_plain(SP_ERR_AUTH,
                           "sigchain of %s: the server shows another link %u or later than it did: "
                           "it forks",
                           c->address, *seq + 1);
    for (size_t left = *n; err == SP_OK && left > 0; left -= one) {
        err = sigchain_next(c->wires + *at, left, &one);
        if (err != SP_OK)
            report_fail(err, "sigchain of %s: the server's links", c->address);
        *at += one;
        ++*seq;
    }
    free(wires);
    return err;
}

/* From byte at, which is behind link seq. */
static enum sp_err give_back(const struct chain *c, struct server *server, size_t at, uint32_t seq)
{
    uint32_t missing = c->now.seq - seq;
    size_t one = 0;
    enum sp_err err = SP_OK;
    for (; err == SP_OK && at < c->len; at += one) {
        err = sigchain_next(c->wires + at, c->len - at, &one);
        if (err == SP_OK)
            err = server_append(server, c->wires + at, one);
    }
    if (err != SP_OK)
        return report_plain(err,
                            "sigchain of %s: the server has lost links of yours (it was restored "
                            "from a backup?) and did not take them again: run this again in a "
                            "minute; if that does not help, tell the postmaster",
                            c->address);
    report_note("your sigchain: the server had lost its newest %u link%s (it was restored from a "
                "backup?); this device has given %s back",
                missing, missing == 1 ? "" : "s", missing == 1 ? "it" : "them");
    return SP_OK;
}

enum sp_err mend_chain(const struct chain *c, struct server *server)
{
    size_t at = 0, n = 0;
    uint32_t seq = 0;
    enum sp_err err;
    do
        err = compare_page(c, server, &at, &seq, &n);
    while (err == SP_OK && n > 0 && at < c->len);
    if (err == SP_OK && seq == 0)
        err = report_plain(SP_ERR_AUTH,
                           "sigchain of %s: the server shows no link any more: it went backwards",
                           c->address);
    return err == SP_OK && at < c->len ? give_back(c, server, at, seq) : err;
}
