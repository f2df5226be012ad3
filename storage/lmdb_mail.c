/* Mailboxes and messages on LMDB. A message is kept once, counted by the mailboxes that hold it;
 * its rows and those of every mailbox come and go in one group. */
#include "storage/copied.h"
#include "storage/lmdb.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define ENTRY_BYTES 47u                  /* in front of the box */
#define MESSAGE_MAX (2u * 1024u * 1024u) /* a row of messages */
#define LEAP        1000000u             /* numbers that no mailbox gives out between two backups */
#define APART       256u                 /* two restores by one wrong clock: milliseconds */

/* --- counting --- */

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

/* Clients ask for what is above the last number they saw: one that was given out twice would hide
 * mail. A copy knows neither what was given out since it was made, nor since it came back before;
 * the clock goes on over both, so that numbers go on at its milliseconds, which no mailbox reaches
 * by counting mail. A clock that stands before the copy's own time is not believed, but goes on as
 * well: its time on top of what the copy knows sets the numbers above those of the same copy when
 * it came back before, and where it starts anew with the machine, chance keeps them apart. That
 * takes 2^41 numbers a time of the 2^53 that clients can count. In one group: the mark goes when
 * the numbers are kept. */
enum sp_err numbers_go_on(struct store *s)
{
    struct key mark = key_bytes(COPIED_ROW, sizeof(COPIED_ROW) - 1);
    MDB_txn *txn;
    struct timeval t;
    uint64_t copied = 0;
    enum sp_err err = snapshot(s, &txn);
    if (err == SP_OK)
        err = counter_get(s, txn, COPIED_ROW, &copied);
    if (err != SP_OK || copied == 0)
        return err;
    gettimeofday(&t, NULL);
    uint64_t now = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_usec / 1000;
    uint64_t before = copied > s->first_seq ? copied : s->first_seq;
    s->first_seq = now > before ? now : before + LEAP + now + randombytes_uniform(APART);
    err = counter_put(s, "first_seq", s->first_seq);
    if (err == SP_OK)
        err = row_delete(s, T_META, &mark);
    return err == SP_OK ? store_commit(s) : err;
}

/* --- delivering --- */

static uint64_t message_bytes(const uint64_t *length, const struct store_message *m)
{
    uint64_t bytes = m->envelope_len;
    for (uint16_t i = 0; i < m->pieces; i++)
        bytes += length[i];
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
    wire_put_u8(&out, box->sent ? ENTRY_SENT : 0);
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
    c.next_seq = c.next_seq > s->first_seq ? c.next_seq : s->first_seq;
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

static enum sp_err put_message(struct store *s, uint64_t no, const uint64_t *length,
                               const struct store_message *m, uint32_t refs)
{
    void *space;
    struct key key = key_u64(no);
    size_t len = 4 + 2 + (size_t)m->pieces * 8 + m->envelope_len;
    enum sp_err err = row_reserve(s, T_MESSAGES, &key, len, &space);
    if (err != SP_OK)
        return err;
    struct wire_out out = wire_out(space, len);
    wire_put_u32(&out, refs);
    wire_put_u16(&out, m->pieces);
    for (uint16_t i = 0; i < m->pieces; i++)
        wire_put_u64(&out, length[i]);
    wire_put_bytes(&out, m->envelope, m->envelope_len);
    return SP_OK;
}

enum sp_err message_deliver(struct store *s, uint64_t no, const uint64_t *length,
                            const struct store_message *m, uint32_t others)
{
    uint64_t user[STORE_MAX_BOXES];
    uint64_t bytes = message_bytes(length, m), room = m->envelope_len;
    uint32_t refs;
    for (size_t i = 0; i < m->boxes; i++)
        room += 2 * m->box[i].len + 4 * s->page; /* each may touch leaves of its own */
    enum sp_err err = group_take(s, room);
    if (err == SP_OK)
        err = find_users(s, m, user, &refs);
    for (size_t i = 0; i < m->boxes && err == SP_OK; i++)
        if (user[i] != 0)
            err = deliver_box(s, no, m, &m->box[i], user[i], bytes + m->box[i].len);
    if (err == SP_OK)
        err = put_message(s, no, length, m, refs + others);
    if (err == SP_OK)
        s->bytes += bytes;
    return err;
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

enum sp_err store_upload_deliver(struct store_upload *u, const struct store_message *m)
{
    struct key key = key_u64(u->no);
    enum sp_err err = check_message(u, m);
    if (err == SP_OK)
        err = message_deliver(u->store, u->no, u->length, m, 0);
    if (err == SP_OK && u->listed != 0)
        err = row_delete(u->store, T_LOOSE, &key);
    if (err != SP_OK) {
        store_upload_abort(u);
        return err;
    }
    LIST_REMOVE(u, next);
    free(u);
    return SP_OK;
}

/* --- deleting --- */

/* The last one let go of it: small mail goes at once, large mail with the sweeps. */
static enum sp_err message_drop(struct store *s, uint64_t no)
{
    struct key key = key_u64(no);
    enum sp_err err = row_delete(s, T_MESSAGES, &key);
    return err == SP_OK ? blocks_drop(s, no) : err;
}

/* The row is copied: what LMDB hands out does not live through a write. */
enum sp_err message_unref(struct store *s, uint64_t no)
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

static enum sp_err entry_delete(struct store *s, uint64_t user, const struct entry *entry,
                                uint64_t status_until_ms)
{
    struct counts c;
    struct key at = key_u64_u64(user, entry->e.seq), id = mail_id_key(user, entry->e.message_id);
    uint64_t message = entry->message, bytes = entry->e.bytes;
    bool sent = entry->e.sent;
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
    if (err == SP_OK && sent)
        err = sent_detach(s, user, entry->e.message_id, status_until_ms);
    return err == SP_OK ? counts_put(s, user, &c) : err;
}

enum sp_err store_delete(struct store *s, uint64_t user, const uint8_t message_id[ID_SIZE],
                         uint64_t status_until_ms)
{
    struct entry entry;
    enum sp_err err = group_open(s);
    if (err == SP_OK)
        err = entry_find(s, s->write, user, message_id, &entry);
    return err == SP_OK ? entry_delete(s, user, &entry, status_until_ms) : err;
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
            err = entry_delete(s, user, &entry, 0);
    }
    *done = err == SP_ERR_NOT_FOUND;
    return *done ? SP_OK : err;
}
