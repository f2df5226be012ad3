/* A session's one question to the resolver: does this domain take mail? The resolver is trusted to
 * say yes or no, and not to be there in time. */
#include "daemon/smtp/sender.h"
#include "daemon/ipc.h"
#include "daemon/messages.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

/* The answer, SP_ERR_EXPIRED if it does not come in time (a signal ends the wait, too: a deadline,
 * or the end of the service). */
static enum sp_err hear(const struct sender *s, bool *null)
{
    struct pollfd ready = {.fd = s->channel, .events = POLLIN};
    uint8_t buf[IPC_HEADER + 1];
    struct ipc_frame f;
    if (poll(&ready, 1, SENDER_PATIENCE_MS) <= 0)
        return SP_ERR_EXPIRED;
    enum sp_err err = ipc_recv(s->channel, buf, sizeof(buf), &f);
    if (err != SP_OK)
        return err;
    if (f.fd >= 0)
        close(f.fd);
    *null = wire_get_u8(&f.body) == 1;
    return f.type == RD_SENDER_REPLY && f.fd < 0 && f.id == s->asked && wire_in_done(&f.body)
               ? SP_OK
               : SP_ERR_PEER;
}

static enum sp_err ask(struct sender *s, const char *domain, bool *null)
{
    uint8_t buf[2 + DOMAIN_MAX];
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_str(&body, domain);
    s->asked++;
    enum sp_err err = ipc_send_fd(s->channel, RD_SENDER, s->asked, body.at, body.len, -1);
    return err == SP_OK ? hear(s, null) : err;
}

bool sender_has_null_mx(struct sender *s, const char *domain)
{
    bool null = false;
    if (strcmp(domain, s->domain) == 0)
        return s->null;
    if (s->channel < 0 || s->asked == SENDER_QUESTIONS || strlen(domain) > DOMAIN_MAX)
        return false;
    enum sp_err err = ask(s, domain, &null);
    if (err != SP_OK) { /* a late answer would be taken for the next one's */
        close(s->channel);
        s->channel = -1;
        return false;
    }
    s->null = null;
    memcpy(s->domain, domain, strlen(domain) + 1);
    return null;
}
