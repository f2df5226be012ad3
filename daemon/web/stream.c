/* Pieces of ciphertext and messages to clients, a block at a time: the next is asked for when the
 * last is on its way, so that a client, however slow, costs one block of memory. Clients are
 * hostile. */
#include "daemon/web/web.h"

#include <event2/buffer.h>
#include <inttypes.h>
#include <stdio.h>

#define OCTETS "application/octet-stream"

static bool is_piece(const struct exchange *x)
{
    return x->route->ask == SW_PIECE || x->route->ask == SW_LINK_PIECE;
}

/* first: nothing has been asked for this request before. */
static void put_block(const struct exchange *x, uint64_t offset, uint64_t bytes, bool first,
                      struct wire_out *frame)
{
    if (x->route->needs == NEEDS_GATE)
        link_put(x, frame);
    else
        wire_put_bytes(frame, x->args.id, sizeof(x->args.id));
    if (is_piece(x)) {
        wire_put_u16(frame, x->args.piece);
        wire_put_u64(frame, offset);
        wire_put_u32(frame, (uint32_t)(bytes < WEB_BLOCK ? bytes : WEB_BLOCK));
    } else {
        wire_put_u32(frame, (uint32_t)offset); /* below a total that is a u32 */
    }
    if (x->route->ask == SW_LINK_PIECE)
        wire_put_u8(frame, first);
}

/* A range, and the length for HEAD, need the total before anything else: one byte asks for it, and
 * of a link none, behind which the store lets a read begin anywhere (SW_LINK_PIECE). */
enum sp_err start_piece(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    (void)body;
    if (!x->head) /* RFC 9110 14.2: Range means something for GET alone */
        x->range =
            range_parse(evhttp_find_header(evhttp_request_get_input_headers(x->req), "Range"));
    bool probe = x->head || x->range.kind != RANGE_NONE;
    put_block(x, 0, !probe ? WEB_BLOCK : x->route->ask == SW_LINK_PIECE ? 0 : 1, true, frame);
    return SP_OK;
}

enum sp_err start_parts(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    (void)body;
    put_block(x, 0, WEB_BLOCK, true, frame);
    return SP_OK;
}

void stream_next(struct exchange *x)
{
    struct wire_out frame = ask_frame(x);
    put_block(x, x->offset, x->left, false, &frame);
    ask_or_wait(x, &frame);
}

static void finish_stream(struct exchange *x)
{
    struct conn *conn = x->conn;
    struct evhttp_request *req = exchange_end(x);
    conn_finishing(req, conn);
    evhttp_send_reply_end(req);
}

static void on_written(struct evhttp_connection *evcon, void *arg)
{
    struct exchange *x = arg;
    (void)evcon;
    if (x->left == 0)
        finish_stream(x);
    else
        stream_next(x);
}

static void add_number(struct exchange *x, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void add_number(struct exchange *x, const char *name, const char *format, ...)
{
    char value[80];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof(value), format, args);
    va_end(args);
    evhttp_add_header(evhttp_request_get_output_headers(x->req), name, value);
}

/* Decides what is sent of total bytes, and sends the headers. False: it has been answered. */
static bool begin_stream(struct exchange *x, uint64_t total)
{
    uint64_t first, count;
    enum sp_err err = range_apply(&x->range, total, &first, &count);
    if (is_piece(x))
        add_number(x, "Accept-Ranges", "bytes");
    if (err != SP_OK) {
        add_number(x, "Content-Range", "bytes */%" PRIu64, total);
        conn_answer_error(exchange_end(x), 416, "range not satisfiable");
        return false;
    }
    add_number(x, "Content-Length", "%" PRIu64, count);
    if (x->head || count == 0) {
        exchange_answer(x, 200, OCTETS, NULL);
        return false;
    }
    bool whole = x->range.kind == RANGE_NONE;
    if (!whole)
        add_number(x, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, first,
                   first + count - 1, total);
    conn_add_headers(x->req, OCTETS);
    x->offset = first;
    x->left = count;
    x->streaming = true;
    conn_deadline(x->conn, WEB_DEADLINE_BLOCK);
    evhttp_send_reply_start(x->req, whole ? 200 : 206, NULL);
    return true;
}

static void send_block(struct exchange *x, const uint8_t *bytes, size_t len)
{
    struct evbuffer *block = evbuffer_new();
    if (block == NULL || evbuffer_add(block, bytes, len) != 0) {
        exchange_fail(x, SP_ERR_MEMORY);
    } else {
        x->offset += len;
        x->left -= len;
        conn_deadline(x->conn, WEB_DEADLINE_BLOCK);
        evhttp_send_reply_chunk_with_cb(x->req, block, on_written, x);
    }
    if (block != NULL)
        evbuffer_free(block);
}

/* A block that answers the last question. total: of all of it, bytes: from x->offset on. */
static void take_block(struct exchange *x, uint64_t total, const uint8_t *bytes, size_t len)
{
    if (!x->streaming) {
        bool probe = x->range.kind != RANGE_NONE;
        if (!begin_stream(x, total))
            return;
        if (probe) {
            stream_next(x);
            return;
        }
    }
    if (len == 0 || len > x->left)
        exchange_fail(x, SP_ERR_SYSTEM); /* it shrank, or grew: not the same any more */
    else
        send_block(x, bytes, len);
}

enum sp_err finish_piece(struct exchange *x, struct wire_in *reply)
{
    size_t len;
    uint64_t total = wire_get_u64(reply);
    const uint8_t *bytes = wire_get_b32(reply, WEB_BLOCK, &len);
    if (!wire_in_done(reply))
        return SP_ERR_FORMAT;
    take_block(x, total, bytes, len);
    return SP_OK;
}

enum sp_err finish_parts(struct exchange *x, struct wire_in *reply)
{
    uint32_t total = wire_get_u32(reply);
    size_t len = reply->left;
    if (reply->bad || len > total)
        return SP_ERR_FORMAT;
    take_block(x, total, wire_get_bytes(reply, len), len);
    return SP_OK;
}
