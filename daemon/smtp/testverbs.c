/* Test build only: lets a test act from inside a caged session, as one who has taken it over would.
 */
#include "daemon/smtp/session.h"

#ifdef SEALPOST_TEST
#include "daemon/ipc.h"
#include "sandbox/sandbox.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* XPROBE action: tries it, and tells its errno; or dies of it. */
static void probe(struct session *x, const char *action)
{
    session_reply(x, "250 2.0.0 %d", sandbox_probe(action));
}

/* XFORGE sealer|keeper HEX: sends these bytes as a frame, and tells how many bytes came back. */
static void forge(struct session *x, const char *arg)
{
    uint8_t frame[2048], back[2048];
    size_t len = 0;
    int sock = strncmp(arg, "keeper ", 7) == 0 ? x->keeper : x->upstream.sock;
    if (sodium_hex2bin(frame, sizeof(frame), arg + 7, strlen(arg + 7), NULL, &len, NULL) != 0)
        len = 0;
    ssize_t sent = send(sock, frame, len, MSG_NOSIGNAL);
    ssize_t got = recv(sock, back, sizeof(back), 0);
    session_reply(x, "250 2.0.0 sent %zd got %zd", sent, got);
}

bool session_test_verb(struct session *x, const char *line)
{
    if (strncmp(line, "XPROBE ", 7) == 0)
        probe(x, line + 7);
    else if (strncmp(line, "XFORGE ", 7) == 0 && strlen(line) > 14)
        forge(x, line + 7);
    else
        return false;
    return true;
}
#endif
