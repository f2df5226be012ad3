/* Mail that a client sends: pieces and form on their way to the store, which checks all of it. A
 * body goes on in frames, one after the other; the client hears of the last. Clients are hostile.
 */
#include "daemon/web/web.h"

#include <event2/buffer.h>
#include <jansson.h>
#include <sodium.h>

#define MAX_PIECES 256u /* FORMAT.md section 1 */

/* The store checks what the numbers are worth; here that they are as many as announced. */
enum sp_err start_upload(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    (void)x;
    uint16_t n = wire_get_u16(body);
    if (n == 0 || n > MAX_PIECES)
        return SP_ERR_FORMAT;
    wire_put_u16(frame, n);
    for (uint16_t i = 0; i < n; i++)
        wire_put_u64(frame, wire_get_u64(body));
    return body->bad ? SP_ERR_FORMAT : SP_OK;
}

/* --- one part of a piece, or of the form --- */

/* The body's bytes from what was sent on: they lie in one block since start(). */
static void put_part(const struct exchange *x, struct wire_out *frame)
{
    struct evbuffer *body = evhttp_request_get_input_buffer(x->req);
    const uint8_t *bytes = evbuffer_pullup(body, -1);
    size_t at = evbuffer_get_length(body) - (size_t)x->left;
    wire_put_bytes(frame, x->args.id, sizeof(x->args.id));
    wire_put_u16(frame, x->args.piece);
    wire_put_u64(frame, x->offset);
    wire_put_bytes(frame, bytes + at, x->left < PART_MAX ? (size_t)x->left : PART_MAX);
}

static enum sp_err start_put(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    x->offset = x->query.offset;
    x->left = body->left;
    if (x->left == 0 || x->offset > UINT64_MAX - x->left)
        return SP_ERR_FORMAT;
    wire_get_bytes(body, body->left);
    put_part(x, frame);
    return SP_OK;
}

enum sp_err start_put_piece(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    return x->args.piece == FORM_PIECE ? SP_ERR_NOT_FOUND : start_put(x, body, frame);
}

enum sp_err start_put_form(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    x->args.piece = FORM_PIECE;
    return start_put(x, body, frame);
}

void put_next(struct exchange *x)
{
    struct wire_out frame = ask_frame(x);
    put_part(x, &frame);
    ask_or_wait(x, &frame);
}

enum sp_err finish_put(struct exchange *x, struct wire_in *reply)
{
    uint64_t sent = x->left < PART_MAX ? x->left : PART_MAX;
    if (!wire_in_done(reply))
        return SP_ERR_FORMAT;
    x->offset += sent;
    x->left -= sent;
    if (x->left == 0) {
        exchange_answer(x, 204, NULL, NULL);
    } else {
        conn_deadline(x->conn, WEB_DEADLINE_STORE);
        put_next(x);
    }
    return SP_OK;
}

/* --- what is there --- */

enum sp_err finish_upload_state(struct exchange *x, struct wire_in *reply)
{
    json_t *pieces = json_array();
    uint16_t n = wire_get_u16(reply);
    for (uint16_t i = 0; i < n && !reply->bad; i++)
        json_array_append_new(pieces, json_integer((json_int_t)wire_get_u64(reply)));
    json_int_t form = (json_int_t)wire_get_u64(reply);
    if (!wire_in_done(reply)) {
        json_decref(pieces);
        return SP_ERR_FORMAT;
    }
    return answer_json(x, json_pack("{s:o,s:I}", "pieces", pieces, "form", form));
}
