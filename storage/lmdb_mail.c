/* Mailboxes and messages on LMDB. A message is kept once, counted by the mailboxes that hold it;
 * its rows and those of every mailbox come and go in one group. */
#include "storage/lmdb.h"

#include <stdlib.h>
#include <string.h>

#define ENTRY_BYTES 46u                  /* in front of the box */
#define DELETE_NOW  64u                  /* blocks freed with the message itself; more are swept */
#define MESSAGE_MAX (2u * 1024u * 1024u) /* a row of messages */

/* --- rows --- */

struct entry {
    uint64_t message;
    struct store_entry e;
    const uint8_t *box;
    size_t box_len;
};

static enum sp_err entry_decode(struct wire_in in, struct entry *out)
{
    *out = (struct entry){0};
    out->message = wire_get_u64(&in);
    wire_get_copy(&in, out->e.message_id, ID_SIZE);
    out->e.received_ms = wire_get_u64(&in);
    out->e.bytes = wire_get_u64(&in);
    out->e.pieces = wire_get_u16(&in);
    out->e.generation = wire_get_u32(&in);
    out->box_len = in.left;
    out->box = wire_get_bytes(&in, in.left);
    return wire_in_done(&in) ? SP_OK : SP_ERR_FORMAT;
}

struct message {
    uint32_t refs;
    uint16_t pieces;
    const uint8_t *lengths; /* u64 each */
    const uint8_t *envelope;
    size_t envelope_len;
};

static enum sp_err message_get(struct store *s, MDB_txn *txn, uint64_t no, struct message *m,
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

static uint64_t message_length(const struct message *m, uint16_t piece)
{
    struct wire_in in = wire_in(m->lengths + (size_t)piece * 8, 8);
    return wire_get_u64(&in);
}

enum sp_err counts_get(struct store *s, MDB_txn *txn, uint64_t user, struct counts *c)
{
    struct key key = key_u64(user);
    struct wire_in in;
    enum sp_err err = row_get(s, txn, T_COUNTS, &key, &in);
    *c = (struct counts){0};
    c->next_seq = wire_get_u64(&in);
    c->messages = wire_get_u64(&in);
    c->bytes = wire_get_u64(&in);
    return err == SP_OK && !wire_in_done(&in) ? SP_ERR_FORMAT : err;
}

enum sp_err counts_put(struct store *s, uint64_t user, const struct counts *c)
{
    uint8_t buf[24];
    struct key key = key_u64(user);
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u64(&out, c->next_seq);
    wire_put_u64(&out, c->messages);
    wire_put_u64(&out, c->bytes);
    return row_put(s, T_COUNTS, &key, buf, out.len);
}

static struct key mail_id_key(uint64_t user, const uint8_t message_id[ID_SIZE])
{
    return key_u64_bytes(user, message_id, ID_SIZE);
}

/* --- delivering --- */

static uint64_t message_bytes(const struct store_upload *u, const struct store_message *m)
{
    uint64_t bytes = m->envelope_len;
    for (uint16_t i = 0; i < m->pieces; i++)
        bytes += u->length[i];
    return bytes;
}

/* The users of the boxes, 0 for those to be passed over, before anything is written. */
static enum sp_err find_users(struct store *s, const struct store_message *m, uint64_t *user,
                              uint32_t *found)
{
    struct store_user now;
    struct wire_in in;
    *found = 0;
    for (size_t i = 0; i < m->boxes; i++) {
        enum sp_err err = user_no_by_id(s, s->write, m->box[i].user_id, &user[i]);
        if (err == SP_ERR_NOT_FOUND) {
            user[i] = 0; /* removed since the sealer asked */
            continue;
        }
        if (err == SP_OK)
            err = user_get(s, s->write, user[i], &now);
        if (err != SP_OK)
            return err;
        if (now.generation != m->box[i].generation)
            return SP_ERR_STATE; /* rotated since: a device may have been revoked meanwhile */
        struct key key = mail_id_key(user[i], m->message_id);
        if (row_get(s, s->write, T_MAIL_IDS, &key, &in) == SP_OK)
            return SP_ERR_EXISTS;
        for (size_t j = 0; j < i && user[i] != 0; j++)
            if (user[j] == user[i])
                user[i] = 0; /* a second box for one user opens the same message */
        *found += user[i] != 0;
    }
    return *found > 0 ? SP_OK : SP_ERR_NOT_FOUND;
}

static enum sp_err put_entry(struct store *s, const struct key *key, uint64_t message,
                             const struct store_message *m, const struct store_box *box,
                             uint64_t bytes)
{
    void *space;
    size_t len = ENTRY_BYTES + box->len;
    enum sp_err err = row_reserve(s, T_MAILBOXES, key, len, &space);
    if (err != SP_OK)
        return err;
    struct wire_out out = wire_out(space, len);
    wire_put_u64(&out, message);
    wire_put_bytes(&out, m->message_id, ID_SIZE);
    wire_put_u64(&out, m->received_ms);
    wire_put_u64(&out, bytes);
    wire_put_u16(&out, m->pieces);
    wire_put_u32(&out, box->generation);
    wire_put_bytes(&out, box->bytes, box->len);
    return SP_OK;
}

static enum sp_err deliver_box(struct store *s, uint64_t message, const struct store_message *m,
                               const struct store_box *box, uint64_t user, uint64_t bytes)
{
    struct counts c;
    enum sp_err err = counts_get(s, s->write, user, &c);
    if (err != SP_OK)
        return group_lose(s, MDB_CORRUPTED);
    struct key seq = key_u64(c.next_seq), entry = key_u64_u64(user, c.next_seq),
               id = mail_id_key(user, m->message_id);
    c.next_seq++;
    c.messages++;
    c.bytes += bytes;
    err = put_entry(s, &entry, message, m, box, bytes);
    if (err == SP_OK)
        err = row_append(s, T_MAIL_IDS, &id, seq.bytes, seq.len);
    return err == SP_OK ? counts_put(s, user, &c) : err;
}

static enum sp_err put_message(struct store_upload *u, const struct store_message *m, uint32_t refs)
{
    void *space;
    struct key key = key_u64(u->no);
    size_t len = 4 + 2 + (size_t)m->pieces * 8 + m->envelope_len;
    enum sp_err err = row_reserve(u->store, T_MESSAGES, &key, len, &space);
    if (err != SP_OK)
        return err;
    struct wire_out out = wire_out(space, len);
    wire_put_u32(&out, refs);
    wire_put_u16(&out, m->pieces);
    for (uint16_t i = 0; i < m->pieces; i++)
        wire_put_u64(&out, u->length[i]);
    wire_put_bytes(&out, m->envelope, m->envelope_len);
    return SP_OK;
}

static enum sp_err check_message(const struct store_upload *u, const struct store_message *m)
{
    if (u->failed != SP_OK)
        return u->failed;
    if (m->pieces == 0 || m->pieces > STORE_MAX_PIECES || m->boxes == 0 ||
        m->boxes > STORE_MAX_BOXES || m->envelope_len > MESSAGE_MAX / 2)
        return SP_ERR_LIMIT;
    for (uint16_t i = 0; i < STORE_MAX_PIECES; i++)
        if ((u->length[i] > 0) != (i < m->pieces))
            return SP_ERR_FORMAT; /* a piece without bytes, or bytes without a piece */
    return SP_OK;
}

static enum sp_err deliver(struct store_upload *u, const struct store_message *m)
{
    struct store *s = u->store;
    uint64_t user[STORE_MAX_BOXES];
    uint64_t bytes = message_bytes(u, m), room = m->envelope_len;
    uint32_t refs;
    for (size_t i = 0; i < m->boxes; i++)
        room += 2 * m->box[i].len + 4 * s->page; /* each may touch leaves of its own */
    enum sp_err err = group_take(s, room);
    if (err == SP_OK)
        err = find_users(s, m, user, &refs);
    for (size_t i = 0; i < m->boxes && err == SP_OK; i++)
        if (user[i] != 0)
            err = deliver_box(s, u->no, m, &m->box[i], user[i], bytes + m->box[i].len);
    if (err == SP_OK)
        err = put_message(u, m, refs);
    if (err == SP_OK && u->listed != 0) {
        struct key key = key_u64(u->no);
        err = row_delete(s, T_LOOSE, &key);
    }
    if (err == SP_OK)
        s->bytes += bytes;
    return err;
}

enum sp_err store_upload_deliver(struct store_upload *u, const struct store_message *m)
{
    enum sp_err err = check_message(u, m);
    if (err == SP_OK)
        err = deliver(u, m);
    if (err != SP_OK) {
        store_upload_abort(u);
        return err;
    }
    LIST_REMOVE(u, next);
    free(u);
    return SP_OK;
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

/* One user's mail by its id: an id of somebody else's mail finds nothing. */
static enum sp_err find_entry(struct store *s, MDB_txn *txn, uint64_t user,
                              const uint8_t message_id[ID_SIZE], struct entry *out)
{
    struct wire_in in;
    struct key key = mail_id_key(user, message_id);
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
        err = find_entry(s, txn, user, message_id, &entry);
    if (err == SP_OK)
        err = message_get(s, txn, entry.message, &m, &row);
    *envelope = m.envelope;
    *envelope_len = m.envelope_len;
    *box = entry.box;
    *box_len = entry.box_len;
    return err;
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
        err = find_entry(s, txn, user, message_id, &entry);
    if (err == SP_OK)
        err = message_get(s, txn, entry.message, &m, &row);
    if (err != SP_OK)
        return err;
    if (piece >= m.pieces)
        return SP_ERR_NOT_FOUND;
    *total = message_length(&m, piece);
    if (offset > *total)
        return SP_ERR_LIMIT;
    *got = len < *total - offset ? len : (size_t)(*total - offset);
    return blocks_read(s, txn, entry.message, piece, offset, out, *got);
}

/* --- deleting --- */

/* The last mailbox let go of it: small mail goes at once, large mail with the sweeps. */
static enum sp_err message_drop(struct store *s, uint64_t no)
{
    struct key key = key_u64(no);
    unsigned budget = DELETE_NOW;
    bool done;
    enum sp_err err = row_delete(s, T_MESSAGES, &key);
    if (err == SP_OK)
        err = blocks_delete(s, no, &budget, &done);
    if (err != SP_OK || done)
        return err;
    s->sweep = true;
    return row_put(s, T_LOOSE, &key, NULL, 0);
}

/* One mailbox fewer. The row is copied: what LMDB hands out does not live through a write. */
static enum sp_err message_unref(struct store *s, uint64_t no)
{
    struct message m;
    struct wire_in row;
    struct key key = key_u64(no);
    enum sp_err err = message_get(s, s->write, no, &m, &row);
    if (err != SP_OK || m.refs == 0)
        return group_lose(s, MDB_CORRUPTED);
    if (m.refs == 1) {
        uint64_t bytes = m.envelope_len;
        for (uint16_t i = 0; i < m.pieces; i++)
            bytes += message_length(&m, i);
        s->bytes -= bytes < s->bytes ? bytes : s->bytes;
        return message_drop(s, no);
    }
    size_t len = row.left;
    uint8_t *copy = malloc(len);
    if (copy == NULL)
        return SP_ERR_MEMORY;
    memcpy(copy, row.at, len);
    struct wire_out out = wire_out(copy, len);
    wire_put_u32(&out, m.refs - 1);
    err = row_put(s, T_MESSAGES, &key, copy, len);
    free(copy);
    return err;
}

static enum sp_err entry_delete(struct store *s, uint64_t user, const struct entry *entry)
{
    struct counts c;
    struct key at = key_u64_u64(user, entry->e.seq), id = mail_id_key(user, entry->e.message_id);
    uint64_t message = entry->message, bytes = entry->e.bytes;
    enum sp_err err = counts_get(s, s->write, user, &c);
    if (err != SP_OK)
        return group_lose(s, MDB_CORRUPTED);
    c.messages -= c.messages > 0;
    c.bytes -= bytes < c.bytes ? bytes : c.bytes;
    err = message_unref(s, message);
    if (err == SP_OK)
        err = row_delete(s, T_MAILBOXES, &at);
    if (err == SP_OK)
        err = row_delete(s, T_MAIL_IDS, &id);
    return err == SP_OK ? counts_put(s, user, &c) : err;
}

enum sp_err store_delete(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE])
{
    struct entry entry;
    enum sp_err err = group_open(s);
    if (err == SP_OK)
        err = find_entry(s, s->write, user, message_id, &entry);
    return err == SP_OK ? entry_delete(s, user, &entry) : err;
}

/* The first mail of a mailbox, as the open group has it. */
static enum sp_err first_entry(struct store *s, uint64_t user, struct entry *out)
{
    MDB_cursor *cursor;
    struct key key = key_u64(user);
    MDB_val k = {.mv_size = key.len, .mv_data = key.bytes}, v;
    enum sp_err err = SP_ERR_NOT_FOUND;
    int rc = mdb_cursor_open(s->write, s->dbi[T_MAILBOXES], &cursor);
    if (rc != 0)
        return group_lose(s, rc);
    if (mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE) == 0) {
        struct wire_in at = wire_in(k.mv_data, k.mv_size);
        if (wire_get_u64(&at) == user)
            err = entry_decode(wire_in(v.mv_data, v.mv_size), out);
        out->e.seq = wire_get_u64(&at);
    }
    mdb_cursor_close(cursor);
    return err;
}

enum sp_err mailbox_drain(struct store *s, uint64_t user, unsigned budget, bool *done)
{
    struct entry entry;
    enum sp_err err = group_open(s);
    *done = false;
    for (; err == SP_OK && budget > 0; budget--) {
        err = first_entry(s, user, &entry);
        if (err == SP_OK)
            err = entry_delete(s, user, &entry);
    }
    *done = err == SP_ERR_NOT_FOUND;
    return *done ? SP_OK : err;
}
