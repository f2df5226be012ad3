/* Links, for those who hold one and those who merely came by: asked of the store, request by
 * request, so that the audit log has each with what it got. Clients are hostile; whether a link is
 * there and a gate is right, the store alone knows. No password comes here, but by accident. */
#include "daemon/web/page.h"
#include "daemon/web/web.h"

#include <event2/http_struct.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

static void put_client(const struct exchange *x, struct wire_out *frame)
{
    const char *name = x->conn->guest.name;
    wire_put_str(frame, name[0] != '\0' ? name : "unknown");
}

void link_put(const struct exchange *x, struct wire_out *frame)
{
    wire_put_bytes(frame, x->args.id, sizeof(x->args.id));
    wire_put_bytes(frame, x->token, sizeof(x->token));
    put_client(x, frame);
}

static void wipe(const char *text)
{
    if (text != NULL)
        sodium_memzero((char *)text, strlen(text)); /* ours to write: libevent's copy for us */
}

/* Who says what he is, says it to the log; the store decides how much of it is kept. */
static void put_agent(const struct exchange *x, struct wire_out *frame)
{
    const char *agent = evhttp_find_header(evhttp_request_get_input_headers(x->req), "User-Agent");
    if (agent == NULL)
        agent = "";
    wire_put_b16(frame, agent, strnlen(agent, LINK_AGENT));
}

/* What stands behind a link in path or query may be a password: a mail filter made "#" into "%23"
 * (INTERFACES: HTTP). It came here against everybody's will: forget it where it stands, libevent's
 * buffers being wiped when they are freed (web.c), and let the page mend the address. */
static void wipe_target(struct exchange *x)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(x->req);
    wipe(evhttp_request_get_uri(x->req));
    wipe(evhttp_uri_get_path(uri));
    wipe(evhttp_uri_get_query(uri));
}

enum sp_err start_link_page(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    (void)body;
    wipe_target(x);
    wire_put_bytes(frame, x->args.id, sizeof(x->args.id));
    put_client(x, frame);
    put_agent(x, frame);
    return SP_OK;
}

/* "/m/" with something that is no link: cut on its way, most likely, and read by a person. */
enum sp_err start_link_none(struct exchange *x, struct wire_in *body, struct wire_out *frame)
{
    (void)body, (void)frame;
    wipe_target(x);
    page_answer(x, 404);
    return SP_OK;
}

enum sp_err finish_link_page(struct exchange *x, struct wire_in *reply)
{
    if (!wire_in_done(reply))
        return SP_ERR_FORMAT;
    page_answer(x, 200);
    return SP_OK;
}

/* An address may be UTF-8, a header may not (RFC 9110 5.5): percent-encoded, "%" too. */
static void encode_address(const uint8_t *in, size_t len, char out[3 * PARSE_MAX_ADDRESS + 1])
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < len; i++) {
        if (in[i] > ' ' && in[i] <= '~' && in[i] != '%') {
            *out++ = (char)in[i];
            continue;
        }
        *out++ = '%';
        *out++ = digits[in[i] >> 4];
        *out++ = digits[in[i] & 15];
    }
    *out = '\0';
}

static void add_facts(struct exchange *x, uint64_t expires_ms, const uint8_t *sender, size_t len)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(x->req);
    char text[3 * PARSE_MAX_ADDRESS + 1], seconds[24];
    encode_address(sender, len, text);
    snprintf(seconds, sizeof(seconds), "%" PRIu64, expires_ms / 1000);
    evhttp_add_header(headers, "Sealpost-Sender", text);
    evhttp_add_header(headers, "Sealpost-Expires", seconds);
}

enum sp_err finish_link_envelope(struct exchange *x, struct wire_in *reply)
{
    size_t len;
    uint64_t expires_ms = wire_get_u64(reply);
    const uint8_t *sender = wire_get_b16(reply, PARSE_MAX_ADDRESS, &len);
    if (reply->bad)
        return SP_ERR_FORMAT;
    if (!x->streaming)
        add_facts(x, expires_ms, sender, len);
    return finish_parts(x, reply);
}
