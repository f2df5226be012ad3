/* Test build only: lets a test look and act from inside a caged role. */
#include "daemon/testhooks.h"

#ifdef SEALPOST_TEST
#include "daemon/messages.h"
#include "sandbox/lockmem.h"
#include "sandbox/sandbox.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int64_t testhook_clock_ms;

static enum sp_err answer(struct ipc_peer *peer, uint16_t type, uint32_t id, uint32_t value)
{
    uint8_t buf[4];
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_u32(&body, value);
    return ipc_peer_send(peer, type, id, &body, -1);
}

enum sp_err testhook_probe(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    char action[64] = "";
    size_t len;
    (void)ctx;
    const uint8_t *name = wire_get_b16(&frame->body, sizeof(action) - 1, &len);
    if (name == NULL)
        return SP_ERR_FORMAT;
    memcpy(action, name, len);
    if (strncmp(action, "clock ", 6) == 0) {
        testhook_clock_ms = strtoll(action + 6, NULL, 10) * 1000;
        return answer(peer, CT_PROBE_REPLY, frame->id, 0);
    }
    if (strcmp(action, "deaf") == 0) { /* and goes on without its supervisor */
        ipc_peer_pause(peer, true);
        return close(ipc_peer_socket(peer)) == 0 ? SP_OK : SP_ERR_SYSTEM;
    }
    return answer(peer, CT_PROBE_REPLY, frame->id, (uint32_t)sandbox_probe(action));
}

static size_t count_in(const uint8_t *at, size_t size, const uint8_t *marker, size_t len)
{
    size_t found = 0;
    const uint8_t *end = at + size;
    while ((at = memmem(at, (size_t)(end - at), marker, len)) != NULL) {
        found++;
        at += len;
    }
    return found;
}

enum sp_err testhook_scan(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    size_t len, size, found = 0;
    const void *at;
    (void)ctx;
    const uint8_t *marker = wire_get_b16(&frame->body, 63, &len);
    if (marker == NULL || len == 0)
        return SP_ERR_FORMAT;
    for (size_t i = 0; (at = lockmem_region(i, &size)) != NULL; i++)
        found += count_in(at, size, marker, len);
    return answer(peer, CT_SCAN_REPLY, frame->id, (uint32_t)found);
}
#endif
