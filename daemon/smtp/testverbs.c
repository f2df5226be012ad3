/* Test build only: lets a test act from inside a caged session, as one who has taken it over would.
 */
#include "daemon/smtp/session.h"

#ifdef SEALPOST_TEST
#include "daemon/ipc.h"
#include "sandbox/sandbox.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* XPROBE action: tries it, and tells its errno; or dies of it. */
static void probe(struct session *x, const char *action)
{
    session_reply(x, "250 2.0.0 %d", sandbox_probe(action));
}

/* libsodium is not there in a session (shed.c). */
static size_t from_hex(const char *hex, uint8_t *out, size_t cap)
{
    size_t n = 0;
    for (; n < cap && hex[0] != '\0' && hex[1] != '\0'; hex += 2) {
        const char pair[3] = {hex[0], hex[1], '\0'};
        out[n++] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return n;
}

/* XFORGE sealer|keeper|resolver HEX: sends these bytes as a frame, and tells how many bytes came
 * back. */
static void forge(struct session *x, const char *arg)
{
    uint8_t frame[2048], back[2048];
    const char *hex = strchr(arg, ' ') + 1;
    size_t len = from_hex(hex, frame, sizeof(frame));
    int sock = strncmp(arg, "keeper ", 7) == 0     ? x->keeper
               : strncmp(arg, "resolver ", 9) == 0 ? x->sender.channel
                                                   : x->upstream.sock;
    ssize_t sent = send(sock, frame, len, MSG_NOSIGNAL);
    ssize_t got = recv(sock, back, sizeof(back), 0);
    session_reply(x, "250 2.0.0 sent %zd got %zd", sent, got);
}

bool session_test_verb(struct session *x, const char *line)
{
    if (strncmp(line, "XPROBE ", 7) == 0)
        probe(x, line + 7);
    else if (strncmp(line, "XFORGE ", 7) == 0 && strchr(line + 7, ' ') != NULL)
        forge(x, line + 7);
    else
        return false;
    return true;
}
#endif
