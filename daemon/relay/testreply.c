/* Test build only: lets a server that a test plays act from inside a delivery, as one who has taken
 * it over would. It says what in its answer to EHLO; what came of it is its next command. */
#include "daemon/relay/dialog_io.h"

#ifdef SEALPOST_TEST
#include "daemon/relay/delivery.h"
#include "sandbox/sandbox.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define BACK 256u /* bytes of an answer that are shown */

static char action[2048];

void dialog_test_learn(const char *line)
{
    if (strncmp(line, "XPROBE ", 7) == 0 || strncmp(line, "XFORGE ", 7) == 0)
        snprintf(action, sizeof(action), "%s", line);
}

/* XFORGE store|keeper|resolver HEX: sends these bytes as a frame; how many came back, and which. */
static void forge(const char *arg, char *said, size_t cap)
{
    uint8_t frame[1024], back[2048] = {0};
    char hex[2 * BACK + 1];
    size_t len = 0;
    const char *bytes = strchr(arg, ' ');
    int sock = strncmp(arg, "keeper ", 7) == 0  ? DELIVERY_KEEPER
               : strncmp(arg, "store ", 6) == 0 ? DELIVERY_STORE
                                                : DELIVERY_RESOLVER;
    if (bytes == NULL ||
        sodium_hex2bin(frame, sizeof(frame), bytes + 1, strlen(bytes + 1), NULL, &len, NULL) != 0)
        return;
    ssize_t sent = send(sock, frame, len, MSG_NOSIGNAL);
    ssize_t got = sent > 0 ? recv(sock, back, sizeof(back), 0) : 0;
    size_t shown = got < 0 ? 0 : (size_t)got < BACK ? (size_t)got : BACK;
    snprintf(said, cap, "got %zd %s", got, sodium_bin2hex(hex, sizeof(hex), back, shown));
}

void dialog_test_act(struct dialog *d)
{
    char said[3 * BACK] = "";
    if (action[0] == '\0')
        return;
    if (action[1] == 'P')
        snprintf(said, sizeof(said), "errno %d", sandbox_probe(action + 7));
    else
        forge(action + 7, said, sizeof(said));
    action[0] = '\0';
    if (dialog_put(d, "XTOLD %s", said) == SP_OK && dialog_flush(d, DIALOG_MS_COMMAND) == SP_OK)
        dialog_answer(d, DIALOG_MS_COMMAND, NULL);
}
#endif
