/* Users, their invitations and key histories on LMDB. The callers verify signatures and codes
 * before they write; this file keeps rows that belong together together. */
#include "storage/lmdb.h"

#include <string.h>

#define RECORD_MAX 512u

enum sp_err user_put(struct store *s, const struct store_user *u)
{
    uint8_t buf[RECORD_MAX];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct key key = key_u64(u->no);
    wire_put_u8(&out, (uint8_t)u->state);
    wire_put_bytes(&out, u->user_id, ID_SIZE);
    wire_put_u32(&out, u->chain_seq);
    wire_put_u32(&out, u->generation);
    wire_put_u32(&out, u->devices);
    wire_put_bytes(&out, u->puk_pk, KEY_SIZE);
    wire_put_bytes(&out, u->head, HASH_SIZE);
    wire_put_bytes(&out, u->code_hash, HASH_SIZE);
    wire_put_u64(&out, u->code_expiry_ms);
    wire_put_u8(&out, 0); /* once the number of wrong codes */
    wire_put_str(&out, u->address);
    return wire_out_ok(&out) ? row_append(s, T_USERS, &key, buf, out.len) : SP_ERR_LIMIT;
}

static enum sp_err user_decode(uint64_t no, struct wire_in in, struct store_user *u)
{
    size_t len;
    *u = (struct store_user){.no = no};
    u->state = wire_get_u8(&in);
    wire_get_copy(&in, u->user_id, ID_SIZE);
    u->chain_seq = wire_get_u32(&in);
    u->generation = wire_get_u32(&in);
    u->devices = wire_get_u32(&in);
    wire_get_copy(&in, u->puk_pk, KEY_SIZE);
    wire_get_copy(&in, u->head, HASH_SIZE);
    wire_get_copy(&in, u->code_hash, HASH_SIZE);
    u->code_expiry_ms = wire_get_u64(&in);
    wire_get_u8(&in);
    const uint8_t *address = wire_get_b16(&in, STORE_MAX_ADDRESS - 1, &len);
    if (!wire_in_done(&in))
        return SP_ERR_FORMAT;
    memcpy(u->address, address, len);
    return SP_OK;
}

enum sp_err user_get(struct store *s, MDB_txn *txn, uint64_t no, struct store_user *out)
{
    struct wire_in in;
    struct key key = key_u64(no);
    enum sp_err err = row_get(s, txn, T_USERS, &key, &in);
    *out = (struct store_user){0};
    return err == SP_OK ? user_decode(no, in, out) : err;
}

static enum sp_err number_get(struct store *s, MDB_txn *txn, enum table t, const struct key *key,
                              uint64_t *no)
{
    struct wire_in in;
    enum sp_err err = row_get(s, txn, t, key, &in);
    *no = wire_get_u64(&in);
    return err == SP_OK && !wire_in_done(&in) ? SP_ERR_FORMAT : err;
}

static enum sp_err user_get_by(struct store *s, MDB_txn *txn, enum table t, const void *bytes,
                               size_t len, struct store_user *out)
{
    uint64_t no;
    struct key key = key_bytes(bytes, len);
    enum sp_err err = number_get(s, txn, t, &key, &no);
    *out = (struct store_user){0};
    return err == SP_OK ? user_get(s, txn, no, out) : err;
}

enum sp_err user_no_by_id(struct store *s, MDB_txn *txn, const uint8_t user_id[ID_SIZE],
                          uint64_t *no)
{
    struct key key = key_bytes(user_id, ID_SIZE);
    return number_get(s, txn, T_IDS, &key, no);
}

enum sp_err store_user_by_address(struct store *s, const char *address, struct store_user *out)
{
    MDB_txn *txn;
    enum sp_err err = snapshot(s, &txn);
    return err != SP_OK ? err : user_get_by(s, txn, T_ADDRESSES, address, strlen(address), out);
}

enum sp_err store_user_by_id(struct store *s, const uint8_t user_id[ID_SIZE],
                             struct store_user *out)
{
    MDB_txn *txn;
    enum sp_err err = snapshot(s, &txn);
    return err != SP_OK ? err : user_get_by(s, txn, T_IDS, user_id, ID_SIZE, out);
}

enum sp_err store_user_by_no(struct store *s, uint64_t no, struct store_user *out)
{
    MDB_txn *txn;
    enum sp_err err = snapshot(s, &txn);
    return err != SP_OK ? err : user_get(s, txn, no, out);
}

/* --- inviting --- */

static enum sp_err user_new(struct store *s, struct store_user *u, const char *address)
{
    struct key name = key_bytes(address, strlen(address)), no = key_u64(s->next_user);
    struct wire_in in;
    if (row_get(s, s->write, T_ALIASES, &name, &in) == SP_OK)
        return SP_ERR_EXISTS;
    *u = (struct store_user){.no = s->next_user++, .state = USER_INVITED};
    memcpy(u->address, address, strlen(address) + 1);
    enum sp_err err = row_put(s, T_ADDRESSES, &name, no.bytes, no.len);
    return err == SP_OK ? counts_put(s, u->no, &(struct counts){.next_seq = 1}) : err;
}

enum sp_err store_user_add(struct store *s, const char *address, const uint8_t code_hash[HASH_SIZE],
                           uint64_t expiry_ms)
{
    struct store_user u;
    if (strlen(address) >= STORE_MAX_ADDRESS)
        return SP_ERR_LIMIT;
    enum sp_err err = group_take(s, RECORD_MAX);
    if (err != SP_OK)
        return err;
    err = user_get_by(s, s->write, T_ADDRESSES, address, strlen(address), &u);
    if (err == SP_OK && u.state != USER_INVITED)
        return SP_ERR_EXISTS;
    if (err == SP_ERR_NOT_FOUND)
        err = user_new(s, &u, address);
    if (err != SP_OK)
        return err;
    memcpy(u.code_hash, code_hash, HASH_SIZE);
    u.code_expiry_ms = expiry_ms;
    return user_put(s, &u);
}

/* --- key histories --- */

static struct key chain_key(uint64_t no, uint32_t seq)
{
    uint8_t b[4];
    struct wire_out out = wire_out(b, sizeof(b));
    wire_put_u32(&out, seq);
    return key_u64_bytes(no, b, sizeof(b));
}

/* The first wire: the user gets his id. The code's hash stays: who shows the code again may hear
 * that it is used. */
static enum sp_err enrol(struct store *s, const struct store_user *user, struct store_user *now)
{
    uint64_t other;
    struct key id = key_bytes(user->user_id, ID_SIZE), no = key_u64(user->no);
    if (now->state != USER_INVITED)
        return SP_ERR_STATE;
    if (user_no_by_id(s, s->write, user->user_id, &other) == SP_OK)
        return SP_ERR_EXISTS;
    now->state = USER_ENROLLED;
    memcpy(now->user_id, user->user_id, ID_SIZE);
    return row_put(s, T_IDS, &id, no.bytes, no.len);
}

enum sp_err store_chain_add(struct store *s, const struct store_user *user, const uint8_t *wire,
                            size_t len)
{
    struct store_user now;
    struct key key = chain_key(user->no, user->chain_seq);
    enum sp_err err = group_take(s, RECORD_MAX + len);
    if (err == SP_OK)
        err = user_get(s, s->write, user->no, &now);
    if (err != SP_OK)
        return err;
    if (user->chain_seq != now.chain_seq + 1 || now.state == USER_REMOVED)
        return SP_ERR_STATE;
    if (user->chain_seq == 1)
        err = enrol(s, user, &now);
    if (err != SP_OK)
        return err;
    now.chain_seq = user->chain_seq;
    now.generation = user->generation;
    now.devices = user->devices;
    memcpy(now.puk_pk, user->puk_pk, KEY_SIZE);
    memcpy(now.head, user->head, HASH_SIZE);
    err = row_put(s, T_CHAINS, &key, wire, len);
    return err == SP_OK ? user_put(s, &now) : err;
}

enum sp_err store_chain_get(struct store *s, uint64_t no, uint32_t after_seq, uint8_t *out,
                            size_t cap, size_t *len, bool *more)
{
    MDB_txn *txn;
    struct wire_in in;
    *len = 0;
    *more = false;
    enum sp_err err = snapshot(s, &txn);
    for (uint32_t seq = after_seq; err == SP_OK && seq < UINT32_MAX;) {
        struct key key = chain_key(no, ++seq);
        err = row_get(s, txn, T_CHAINS, &key, &in);
        if (err != SP_OK)
            break;
        if (in.left > cap - *len) {
            *more = true;
            break;
        }
        memcpy(out + *len, in.at, in.left);
        *len += in.left;
    }
    return err == SP_ERR_NOT_FOUND ? SP_OK : err;
}

/* --- removing, walking --- */

enum sp_err store_user_remove(struct store *s, const char *address, char alias[STORE_MAX_ADDRESS])
{
    struct store_user u;
    struct key name = key_bytes(address, strlen(address)), id;
    alias[0] = '\0';
    enum sp_err err = group_open(s);
    if (err == SP_OK)
        err = user_get_by(s, s->write, T_ADDRESSES, address, strlen(address), &u);
    if (err == SP_OK)
        err = alias_naming(s, s->write, address, alias);
    if (err != SP_OK)
        return err;
    if (alias[0] != '\0')
        return SP_ERR_DENIED;
    id = key_bytes(u.user_id, ID_SIZE);
    err = row_delete(s, T_ADDRESSES, &name);
    if (err == SP_OK && u.state == USER_ENROLLED)
        err = row_delete(s, T_IDS, &id);
    for (uint32_t seq = 1; err == SP_OK && seq <= u.chain_seq; seq++) {
        struct key link = chain_key(u.no, seq);
        err = row_delete(s, T_CHAINS, &link);
    }
    u.state = USER_REMOVED;
    s->sweep = true;
    return err == SP_OK ? user_put(s, &u) : err;
}

enum sp_err store_users_each(struct store *s,
                             enum sp_err (*each)(void *ctx, const struct store_user *user,
                                                 const struct store_mailbox *box),
                             void *ctx)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val k, v;
    struct store_user u;
    struct counts c;
    enum sp_err err = snapshot(s, &txn);
    if (err != SP_OK)
        return err;
    if (mdb_cursor_open(txn, s->dbi[T_USERS], &cursor) != 0)
        return SP_ERR_MEMORY;
    while (err == SP_OK && mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
        struct wire_in no = wire_in(k.mv_data, k.mv_size);
        err = user_decode(wire_get_u64(&no), wire_in(v.mv_data, v.mv_size), &u);
        if (err == SP_OK)
            err = counts_get(s, txn, u.no, &c);
        if (err == SP_OK && u.state != USER_REMOVED)
            err = each(ctx, &u, &(struct store_mailbox){c.messages, c.bytes});
    }
    mdb_cursor_close(cursor);
    return err;
}
