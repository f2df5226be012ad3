/* Splicing attachments back into the body. The manifest is authentic but its sender may be anybody:
 * offsets are checked against lengths before a byte is written. */
#include "client/join.h"

/* Kinds, ascending offsets, none behind the body's end. */
static enum sp_err check(const struct manifest *m)
{
    if (m->n_pieces == 0 || m->pieces[0].kind != PIECE_BODY)
        return SP_ERR_FORMAT;
    uint64_t before = 0;
    for (uint32_t i = 1; i < m->n_pieces; i++) {
        const struct piece *p = &m->pieces[i];
        if (p->kind != PIECE_ATTACHMENT || p->splice_at < before ||
            p->splice_at > m->pieces[0].length)
            return SP_ERR_FORMAT;
        before = p->splice_at;
    }
    return SP_OK;
}

/* Exactly len bytes of a piece, from where it stands. */
static enum sp_err copy(const struct join_ends *ends, uint32_t piece, uint64_t len)
{
    while (len > 0) {
        const uint8_t *at = NULL;
        size_t got = 0;
        size_t max = len < SIZE_MAX ? (size_t)len : SIZE_MAX;
        enum sp_err err = ends->read(ends->ctx, piece, max, &at, &got);
        if (err == SP_OK && (got == 0 || got > max))
            err = SP_ERR_FORMAT;
        if (err == SP_OK)
            err = ends->write(ends->ctx, at, got);
        if (err != SP_OK)
            return err;
        len -= got;
    }
    return SP_OK;
}

enum sp_err join_message(const struct manifest *m, const struct join_ends *ends)
{
    enum sp_err err = check(m);
    if (err == SP_OK && m->added_len > 0)
        err = ends->write(ends->ctx, m->added, m->added_len);
    uint64_t at = 0; /* body bytes written */
    for (uint32_t i = 1; err == SP_OK && i < m->n_pieces; i++) {
        const struct piece *p = &m->pieces[i];
        err = copy(ends, 0, p->splice_at - at);
        at = p->splice_at;
        if (err == SP_OK)
            err = copy(ends, i, p->length);
    }
    return err == SP_OK ? copy(ends, 0, m->pieces[0].length - at) : err;
}
