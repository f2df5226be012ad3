/* Questions of a delivery to store, keeper and resolver. They are trusted more than it is; a
 * delivery that was taken over can ask for nothing but what its lease stands for. */
#include "daemon/relay/edge.h"

#include <string.h>
#include <unistd.h>

#define REPLY(type) ((uint16_t)((type) | 0x80))

enum sp_err edge_send(int sock, uint16_t type, uint8_t *frame, const struct wire_out *body)
{
    if (!wire_out_ok(body))
        return SP_ERR_LIMIT;
    return ipc_send_frame(sock, type, 0, frame, body->len);
}

enum sp_err edge_receive(int sock, uint16_t type, void *buf, size_t cap, struct wire_in *body)
{
    struct ipc_frame frame;
    *body = (struct wire_in){.bad = true};
    if (ipc_recv(sock, buf, cap, &frame) != SP_OK)
        return SP_ERR_PEER;
    if (frame.fd >= 0)
        close(frame.fd);
    if (frame.fd >= 0 || frame.type != REPLY(type))
        return SP_ERR_PEER;
    *body = frame.body;
    return SP_OK;
}

enum sp_err edge_status(struct wire_in *body)
{
    uint8_t status = wire_get_u8(body);
    if (body->bad || status >= SP_ERR_COUNT || (status != SP_OK && !wire_in_done(body)))
        return SP_ERR_PEER;
    return (enum sp_err)status;
}

enum sp_err edge_ask(int sock, uint16_t type, uint8_t *frame, const struct wire_out *body,
                     void *buf, size_t cap, struct wire_in *reply)
{
    enum sp_err err = edge_send(sock, type, frame, body);
    if (err == SP_OK)
        err = edge_receive(sock, type, buf, cap, reply);
    return err == SP_OK ? edge_status(reply) : err;
}

void edge_get_text(struct wire_in *body, char *out, size_t cap)
{
    size_t len;
    const uint8_t *text = wire_get_b16(body, cap - 1, &len);
    out[0] = '\0';
    for (size_t i = 0; i < len; i++)
        if (text[i] < 0x20 || text[i] == 0x7f)
            wire_in_fail(body);
    if (body->bad)
        return;
    memcpy(out, text, len);
    out[len] = '\0';
}
