/* Rows of mailboxes and messages on LMDB, and their reading. An id finds what is in the asking
 * user's mailbox alone. */
#include "storage/lmdb.h"

/* --- rows --- */

enum sp_err entry_decode(struct wire_in in, struct entry *out)
{
    *out = (struct entry){0};
    out->message = wire_get_u64(&in);
    wire_get_copy(&in, out->e.message_id, ID_SIZE);
    out->e.received_ms = wire_get_u64(&in);
    out->e.bytes = wire_get_u64(&in);
    out->e.pieces = wire_get_u16(&in);
    out->e.generation = wire_get_u32(&in);
    out->e.sent = wire_get_u8(&in) & ENTRY_SENT;
    out->box_len = in.left;
    out->box = wire_get_bytes(&in, in.left);
    return wire_in_done(&in) ? SP_OK : SP_ERR_FORMAT;
}

enum sp_err message_get(struct store *s, MDB_txn *txn, uint64_t no, struct message *m,
                        struct wire_in *row)
{
    struct key key = key_u64(no);
    *m = (struct message){0};
    enum sp_err err = row_get(s, txn, T_MESSAGES, &key, row);
    if (err != SP_OK)
        return err == SP_ERR_NOT_FOUND ? SP_ERR_SYSTEM : err; /* a mailbox says it is there */
    struct wire_in in = *row;
    m->refs = wire_get_u32(&in);
    m->pieces = wire_get_u16(&in);
    m->lengths = wire_get_bytes(&in, (size_t)m->pieces * 8);
    m->envelope_len = in.left;
    m->envelope = wire_get_bytes(&in, in.left);
    return in.bad ? SP_ERR_FORMAT : SP_OK;
}

uint64_t message_length(const struct message *m, uint16_t piece)
{
    struct wire_in in = wire_in(m->lengths + (size_t)piece * 8, 8);
    return wire_get_u64(&in);
}

/* --- reading --- */

enum sp_err store_list(struct store *s, uint64_t user, uint64_t after, struct store_entry *out,
                       size_t max, size_t *n)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    struct entry entry;
    *n = 0;
    if (after == UINT64_MAX)
        return SP_OK;
    struct key key = key_u64_u64(user, after + 1);
    MDB_val k = {.mv_size = key.len, .mv_data = key.bytes}, v;
    enum sp_err err = snapshot(s, &txn);
    if (err != SP_OK)
        return err;
    if (mdb_cursor_open(txn, s->dbi[T_MAILBOXES], &cursor) != 0)
        return SP_ERR_MEMORY;
    for (int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE); rc == 0 && *n < max;
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct wire_in at = wire_in(k.mv_data, k.mv_size);
        if (wire_get_u64(&at) != user)
            break;
        err = entry_decode(wire_in(v.mv_data, v.mv_size), &entry);
        if (err != SP_OK)
            break;
        out[*n] = entry.e;
        out[*n].seq = wire_get_u64(&at);
        (*n)++;
    }
    mdb_cursor_close(cursor);
    return err;
}

enum sp_err entry_find(struct store *s, MDB_txn *txn, uint64_t user,
                       const uint8_t message_id[ID_SIZE], struct entry *out)
{
    struct wire_in in;
    struct key key = key_u64_bytes(user, message_id, ID_SIZE);
    enum sp_err err = row_get(s, txn, T_MAIL_IDS, &key, &in);
    if (err != SP_OK)
        return err;
    uint64_t seq = wire_get_u64(&in);
    key = key_u64_u64(user, seq);
    err = row_get(s, txn, T_MAILBOXES, &key, &in);
    if (err == SP_OK)
        err = entry_decode(in, out);
    out->e.seq = seq;
    return err;
}

enum sp_err store_fetch(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE],
                        const uint8_t **envelope, size_t *envelope_len, const uint8_t **box,
                        size_t *box_len)
{
    MDB_txn *txn;
    struct entry entry = {0};
    struct message m = {0};
    struct wire_in row;
    enum sp_err err = snapshot(s, &txn);
    if (err == SP_OK)
        err = entry_find(s, txn, user, message_id, &entry);
    if (err == SP_OK)
        err = message_get(s, txn, entry.message, &m, &row);
    *envelope = m.envelope;
    *envelope_len = m.envelope_len;
    *box = entry.box;
    *box_len = entry.box_len;
    return err;
}

enum sp_err message_read(struct store *s, MDB_txn *txn, uint64_t no, const struct message *m,
                         uint16_t piece, uint64_t offset, uint8_t *out, size_t len, size_t *got,
                         uint64_t *total)
{
    if (piece >= m->pieces)
        return SP_ERR_NOT_FOUND;
    *total = message_length(m, piece);
    if (offset > *total)
        return SP_ERR_LIMIT;
    *got = len < *total - offset ? len : (size_t)(*total - offset);
    return blocks_read(s, txn, no, piece, offset, out, *got);
}

enum sp_err store_read(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE],
                       uint16_t piece, uint64_t offset, uint8_t *out, size_t len, size_t *got,
                       uint64_t *total)
{
    MDB_txn *txn;
    struct entry entry;
    struct message m;
    struct wire_in row;
    *got = 0;
    *total = 0;
    enum sp_err err = snapshot(s, &txn);
    if (err == SP_OK)
        err = entry_find(s, txn, user, message_id, &entry);
    if (err == SP_OK)
        err = message_get(s, txn, entry.message, &m, &row);
    return err != SP_OK
               ? err
               : message_read(s, txn, entry.message, &m, piece, offset, out, len, got, total);
}
