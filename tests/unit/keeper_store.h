#ifndef SEALPOST_TEST_KEEPER_STORE_H
#define SEALPOST_TEST_KEEPER_STORE_H
/* The store's side of the keeper's edge, for tests: frames as storage/edge_keeper.c sends them. */
#include "daemon/audit/events.h"
#include "daemon/keeper/vault.h"
#include "envelope/envelope.h"
#include "envelope/keys.h"
#include "tests/unit/keeper_tree.h"

#include <sodium.h>

static uint8_t store_buf[IPC_HEADER + IPC_MAX_PAYLOAD];

/* What the store has of one secret or box. */
struct filed {
    struct vault_id id;
    uint32_t slot;
    uint8_t wrapped[VT_BOX_WRAPPED_MAX];
    size_t len;
};

/* The reply to the request with this id; its status. SP_ERR_PEER: the edge is gone. */
static enum sp_err store_reply(struct tree *t, uint16_t type, uint32_t id, struct wire_in *in)
{
    struct ipc_frame f;
    if (ipc_recv(t->store, store_buf, sizeof(store_buf), &f) != SP_OK)
        return SP_ERR_PEER;
    assert_int_equal(f.type, type | 0x80);
    assert_int_equal(f.id, id);
    enum sp_err status = wire_get_u8(&f.body);
    *in = f.body;
    if (status != SP_OK)
        assert_int_equal(in->left, 0);
    return status;
}

static void store_send(struct tree *t, uint16_t type, uint32_t id, const struct wire_out *out)
{
    assert_true(wire_out_ok(out));
    ipc_send_fd(t->store, type, id, out->at, out->len, -1); /* the edge may be gone */
}

static enum sp_err store_ask(struct tree *t, uint16_t type, const struct wire_out *out,
                             struct wire_in *in)
{
    static uint32_t last;
    store_send(t, type, ++last, out);
    return store_reply(t, type, last, in);
}

static enum sp_err store_begin(struct tree *t, const uint32_t *slots, size_t n,
                               uint8_t keeper_pk[KEY_SIZE])
{
    uint8_t buf[1 + 4 * 64];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct wire_in in;
    wire_put_u8(&out, 0);
    for (size_t i = 0; i < n; i++)
        wire_put_u32(&out, slots[i]);
    enum sp_err err = store_ask(t, VT_SLOTS, &out, &in);
    if (err == SP_OK)
        wire_get_copy(&in, keeper_pk, KEY_SIZE);
    if (err == SP_OK)
        assert_true(wire_in_done(&in));
    return err;
}

static void put_id(struct wire_out *out, const struct vault_id *id, bool with_kind)
{
    wire_put_bytes(out, id->message_id, ID_SIZE);
    if (with_kind)
        wire_put_u8(out, id->kind);
    wire_put_bytes(out, id->recipient_id, ID_SIZE);
}

static void take_wrapped(struct wire_in *in, struct filed *f)
{
    f->slot = wire_get_u32(in);
    const uint8_t *bytes = wire_get_b16(in, sizeof(f->wrapped), &f->len);
    assert_true(wire_in_done(in));
    memcpy(f->wrapped, bytes, f->len);
}

/* VT_SECRET of these sealed bytes. */
static enum sp_err store_secret(struct tree *t, struct filed *f, const uint8_t *sealed, size_t len)
{
    static uint8_t buf[IPC_MAX_PAYLOAD];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct wire_in in;
    put_id(&out, &f->id, true);
    wire_put_b16(&out, sealed, len);
    enum sp_err err = store_ask(t, VT_SECRET, &out, &in);
    if (err == SP_OK)
        take_wrapped(&in, f);
    return err;
}

static void new_id(struct vault_id *id, uint8_t kind)
{
    id->kind = kind;
    randombytes_buf(id->message_id, ID_SIZE);
    randombytes_buf(id->recipient_id, ID_SIZE);
}

/* A secret that a client sealed for this keeper, filed. */
static void file_secret(struct tree *t, const uint8_t keeper_pk[KEY_SIZE], uint8_t kind,
                        const uint8_t secret[KEY_SIZE], struct filed *f)
{
    uint8_t sealed[KEYS_SECRET_BOX];
    new_id(&f->id, kind);
    assert_int_equal(keys_secret_seal(keeper_pk, kind, f->id.recipient_id, secret, sealed), SP_OK);
    assert_int_equal(store_secret(t, f, sealed, sizeof(sealed)), SP_OK);
    assert_int_equal(f->len, VAULT_SECRET);
}

static enum sp_err store_erase(struct tree *t, const struct filed *f, uint64_t received_ms,
                               const char *why)
{
    uint8_t buf[256];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct wire_in in;
    wire_put_u32(&out, f->slot);
    put_id(&out, &f->id, true);
    wire_put_u64(&out, received_ms);
    wire_put_str(&out, why);
    return store_ask(t, VT_ERASE, &out, &in);
}

/* The next event; its fields stay in *in. */
static enum audit_event next_event(struct tree *t, struct wire_in *in)
{
    static uint8_t buf[IPC_HEADER + 4096];
    struct ipc_frame f;
    assert_int_equal(ipc_recv(t->audit, buf, sizeof(buf), &f), SP_OK);
    assert_int_equal(f.type, AU_EVENT);
    *in = f.body;
    return wire_get_u16(in);
}

static void expect_text(struct wire_in *in, const char *text)
{
    size_t len;
    const char *got = (const char *)wire_get_b16(in, 512, &len);
    assert_non_null(got);
    assert_int_equal(len, strlen(text));
    assert_memory_equal(got, text, len);
}

static void expect_received(struct tree *t, const struct filed *f, const char *kind)
{
    struct wire_in in;
    assert_int_equal(next_event(t, &in), AUDIT_SECRET_RECEIVED);
    assert_memory_equal(wire_get_bytes(&in, ID_SIZE), f->id.message_id, ID_SIZE);
    expect_text(&in, kind);
    assert_memory_equal(wire_get_bytes(&in, ID_SIZE), f->id.recipient_id, ID_SIZE);
    assert_true(wire_in_done(&in));
}

#endif
