/* A session's side of the channel to the sealer. The sealer is trusted; this process is not, and
 * does not hold anything that would have to be. */
#include "daemon/smtp/upstream.h"
#include "daemon/ipc.h"
#include "sandbox/lockmem.h"

#include <string.h>
#include <unistd.h>

static enum sp_err send_body(struct upstream *u, uint16_t type, const struct wire_out *body)
{
    if (u->failed == SP_OK && !wire_out_ok(body))
        return SP_ERR_LIMIT;
    if (u->failed == SP_OK)
        u->failed = ipc_send_fd(u->sock, type, 0, body->at, body->len, -1);
    return u->failed;
}

/* Waits for one frame of this type; its first byte is a status. */
static enum sp_err answer(struct upstream *u, uint16_t type, void *rest, size_t len, int *fd)
{
    uint8_t buf[IPC_HEADER + 64];
    struct ipc_frame f;
    if (u->failed == SP_OK)
        u->failed = ipc_recv(u->sock, buf, sizeof(buf), &f);
    if (u->failed != SP_OK)
        return u->failed;
    if (f.type != type || (f.fd >= 0 && fd == NULL))
        return u->failed = SP_ERR_PEER;
    if (fd != NULL)
        *fd = f.fd;
    enum sp_err status = (enum sp_err)wire_get_u8(&f.body);
    if (status == SP_OK && len > 0)
        wire_get_copy(&f.body, rest, len);
    if (!wire_in_done(&f.body))
        u->failed = SP_ERR_PEER;
    return u->failed == SP_OK ? status : u->failed;
}

enum sp_err upstream_recipient(struct upstream *u, const char *address)
{
    uint8_t buf[600];
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_str(&body, address);
    enum sp_err err = send_body(u, SE_RCPT, &body);
    return err == SP_OK ? answer(u, SE_RCPT_REPLY, NULL, 0, NULL) : err;
}

enum sp_err upstream_reset(struct upstream *u)
{
    struct wire_out nothing = {0};
    return send_body(u, SE_RESET, &nothing);
}

enum sp_err upstream_refused(struct upstream *u, enum session_refusal what)
{
    uint8_t byte = (uint8_t)what;
    const struct wire_out body = {.at = &byte, .len = 1, .cap = 1};
    return send_body(u, SE_REFUSED, &body);
}

enum sp_err upstream_begin(struct upstream *u)
{
    struct wire_out nothing = {0};
    void *at = NULL;
    int fd = -1;
    u->work = u->park = u->trace = u->held = u->window = 0;
    u->attachment = false;
    enum sp_err err = send_body(u, SE_DATA, &nothing);
    if (err == SP_OK)
        err = answer(u, SE_SLOT, NULL, 0, &fd);
    if (fd >= 0 && lockmem_map(fd, SLOT_SIZE, &at) == SP_OK)
        u->slot = at;
    if (err == SP_OK && u->slot == NULL)
        u->failed = err = SP_ERR_MEMORY;
    return err;
}

void upstream_note(struct upstream *u, size_t held)
{
    u->held = held;
    size_t now = u->work + u->park + held;
    if (now > u->window)
        u->window = now;
}

/* Hands WORK to the sealer and waits until it is wiped. */
static enum sp_err seal(struct upstream *u, bool last)
{
    uint8_t buf[8];
    struct wire_out body = wire_out(buf, sizeof(buf));
    upstream_note(u, u->held);
    wire_put_u8(&body, u->attachment);
    wire_put_u8(&body, last);
    wire_put_u32(&body, (uint32_t)u->work);
    enum sp_err err = send_body(u, SE_SEAL, &body);
    if (err == SP_OK)
        err = answer(u, SE_SEALED, NULL, 0, NULL);
    if (err == SP_OK)
        u->work = 0;
    return err;
}

static enum sp_err put(struct upstream *u, const uint8_t *bytes, size_t len)
{
    enum sp_err err = SP_OK;
    while (err == SP_OK && len > 0) {
        size_t n = SLOT_WORK_SIZE - u->work < len ? SLOT_WORK_SIZE - u->work : len;
        memcpy(u->slot + SLOT_WORK + u->work, bytes, n);
        u->work += n;
        bytes += n;
        len -= n;
        if (u->work == SLOT_WORK_SIZE)
            err = seal(u, false);
    }
    return err;
}

enum sp_err upstream_trace(struct upstream *u, const char *text, size_t len)
{
    u->trace += len;
    return put(u, (const uint8_t *)text, len);
}

static enum sp_err on_bytes(void *ctx, const uint8_t *bytes, size_t len)
{
    return put(ctx, bytes, len);
}

/* The body's whole chunks are sealed, its tail is parked while the attachment has WORK. */
static enum sp_err park_body(struct upstream *u)
{
    size_t tail = u->work % SLOT_PARK_SIZE;
    memcpy(u->slot + SLOT_PARK, u->slot + SLOT_WORK + u->work - tail, tail);
    lockmem_wipe(u->slot + SLOT_WORK + u->work - tail, tail);
    u->park = tail;
    u->work -= tail;
    return u->work > 0 ? seal(u, false) : SP_OK;
}

static enum sp_err on_attachment(void *ctx, uint64_t splice_at, const char *media_type,
                                 size_t media_len, const char *file_name, size_t name_len)
{
    struct upstream *u = ctx;
    uint8_t buf[16];
    struct wire_out body = wire_out(buf, sizeof(buf));
    if (media_len + name_len > SLOT_META_SIZE)
        return SP_ERR_LIMIT;
    enum sp_err err = park_body(u);
    if (err != SP_OK)
        return err;
    memcpy(u->slot + SLOT_META, media_type, media_len);
    memcpy(u->slot + SLOT_META + media_len, file_name, name_len);
    u->attachment = true;
    wire_put_u64(&body, splice_at + u->trace);
    wire_put_u16(&body, (uint16_t)media_len);
    wire_put_u16(&body, (uint16_t)name_len);
    return send_body(u, SE_ATTACH, &body);
}

static enum sp_err on_attachment_end(void *ctx)
{
    struct upstream *u = ctx;
    enum sp_err err = seal(u, true);
    u->attachment = false;
    memcpy(u->slot + SLOT_WORK, u->slot + SLOT_PARK, u->park);
    lockmem_wipe(u->slot + SLOT_PARK, u->park);
    u->work = u->park;
    u->park = 0;
    return err;
}

const struct cutter_sink upstream_sink = {
    .body = on_bytes,
    .attachment = on_attachment,
    .bytes = on_bytes,
    .attachment_end = on_attachment_end,
};

enum sp_err upstream_finish(struct upstream *u, uint64_t plaintext_us, uint8_t id[ID_SIZE])
{
    uint8_t buf[16];
    struct wire_out body = wire_out(buf, sizeof(buf));
    upstream_note(u, u->held);
    wire_put_u32(&body, (uint32_t)u->work);
    wire_put_u32(&body, (uint32_t)u->window);
    wire_put_u64(&body, plaintext_us);
    enum sp_err err = send_body(u, SE_FINISH, &body);
    u->work = 0;
    return err == SP_OK ? answer(u, SE_DONE, id, ID_SIZE, NULL) : err;
}

enum sp_err upstream_abort(struct upstream *u, const char *why)
{
    uint8_t buf[64];
    struct wire_out body = wire_out(buf, sizeof(buf));
    lockmem_wipe(u->slot + SLOT_WORK, SLOT_WORK_SIZE);
    lockmem_wipe(u->slot + SLOT_PARK, SLOT_PARK_SIZE);
    lockmem_wipe(u->slot + SLOT_META, SLOT_META_SIZE);
    wire_put_str(&body, why);
    return send_body(u, SE_ABORT, &body);
}
