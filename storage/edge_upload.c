/* Web's edge: uploads of mail that users are about to send. Ciphertext goes to the database as it
 * comes, forms stay in memory (storage/forms.h); every limit is one user's own. */
#include "storage/edges.h"
#include "daemon/messages.h"

#include <sodium.h>
#include <string.h>

#define DRAFTS_MAX    16u /* open at a time, of one user */
#define DRAFT_KEPT_MS UINT64_C(86400000)

static bool has_room(struct store_role *r)
{
    if (!store_has_room(r->store))
        group_flush(r); /* a new group measures anew */
    return store_has_room(r->store);
}

enum sp_err on_upload(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    uint64_t length[STORE_MAX_PIECES];
    uint8_t buf[1 + ID_SIZE], id[ID_SIZE];
    const struct session *s = token_session(r, &frame->body);
    uint16_t n = wire_get_u16(&frame->body);
    if (n == 0 || n > STORE_MAX_PIECES)
        return SP_ERR_FORMAT;
    for (uint16_t i = 0; i < n; i++)
        length[i] = wire_get_u64(&frame->body);
    if (!wire_in_done(&frame->body))
        return SP_ERR_FORMAT;
    const struct store_draft_limits limits = {DRAFTS_MAX, r->role->config->send_bytes};
    enum sp_err err = s == NULL ? SP_ERR_DENIED : has_room(r) ? SP_OK : SP_ERR_NO_SPACE;
    randombytes_buf(id, sizeof(id));
    if (err == SP_OK)
        err =
            store_draft_begin(r->store, s->user, id, length, n, now_ms() + DRAFT_KEPT_MS, &limits);
    if (err != SP_OK)
        return answer(peer, SW_UPLOAD_REPLY, frame->id, err);
    commit_soon(r);
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u8(&out, SP_OK);
    wire_put_bytes(&out, id, ID_SIZE);
    return ipc_peer_send(peer, SW_UPLOAD_REPLY, frame->id, &out, -1);
}

enum sp_err on_upload_state(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    struct store_draft d;
    uint8_t buf[1 + 2 + 8 * STORE_MAX_PIECES + 8];
    const struct session *s = token_session(r, &frame->body);
    const uint8_t *id = wire_get_bytes(&frame->body, ID_SIZE);
    if (id == NULL)
        return SP_ERR_FORMAT;
    enum sp_err err = s != NULL ? store_draft_get(r->store, s->user, id, &d) : SP_ERR_DENIED;
    if (err != SP_OK)
        return answer(peer, SW_UPLOAD_STATE_REPLY, frame->id, err);
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u8(&out, SP_OK);
    wire_put_u16(&out, d.pieces);
    for (uint16_t i = 0; i < d.pieces; i++)
        wire_put_u64(&out, d.there[i]);
    wire_put_u64(&out, forms_length(r->forms, s->user, id));
    return ipc_peer_send(peer, SW_UPLOAD_STATE_REPLY, frame->id, &out, -1);
}

static enum sp_err put_form(struct store_role *r, uint64_t user, const uint8_t id[ID_SIZE],
                            uint64_t offset, const uint8_t *bytes, size_t n)
{
    struct store_draft d;
    enum sp_err err = store_draft_get(r->store, user, id, &d);
    return err == SP_OK ? forms_put(r->forms, user, id, offset, bytes, n) : err;
}

static enum sp_err put_piece(struct store_role *r, uint64_t user, const uint8_t id[ID_SIZE],
                             uint16_t piece, uint64_t offset, const uint8_t *bytes, size_t n)
{
    if (!has_room(r))
        return SP_ERR_NO_SPACE;
    enum sp_err err = store_draft_append(r->store, user, id, piece, offset, bytes, n);
    if (store_pending(r->store) >= GROUP_BYTES)
        group_flush(r);
    else
        commit_soon(r);
    return err;
}

enum sp_err on_upload_put(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    const struct session *s = token_session(r, &frame->body);
    const uint8_t *id = wire_get_bytes(&frame->body, ID_SIZE);
    uint16_t piece = wire_get_u16(&frame->body);
    uint64_t offset = wire_get_u64(&frame->body);
    size_t n = frame->body.left;
    const uint8_t *bytes = wire_get_bytes(&frame->body, n);
    if (frame->body.bad || n == 0 || n > PART_MAX)
        return SP_ERR_FORMAT;
    enum sp_err err = SP_ERR_DENIED;
    if (s != NULL)
        err = piece == FORM_PIECE ? put_form(r, s->user, id, offset, bytes, n)
                                  : put_piece(r, s->user, id, piece, offset, bytes, n);
    return answer(peer, SW_UPLOAD_PUT_REPLY, frame->id, err);
}

enum sp_err on_upload_drop(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct store_role *r = ctx;
    const struct session *s = token_session(r, &frame->body);
    const uint8_t *id = wire_get_bytes(&frame->body, ID_SIZE);
    if (id == NULL)
        return SP_ERR_FORMAT;
    enum sp_err err = s != NULL ? store_draft_drop(r->store, s->user, id) : SP_ERR_DENIED;
    if (err != SP_OK)
        return answer(peer, SW_UPLOAD_DROP_REPLY, frame->id, err);
    forms_drop(r->forms, s->user, id);
    sweep_soon(r);
    return group_answer(
        r, &(struct reply){.peer = peer, .type = SW_UPLOAD_DROP_REPLY, .id = frame->id});
}
