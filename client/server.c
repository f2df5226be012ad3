/* docs/api.md from the client's side. The server is not trusted: what it sends is bounded, its JSON
 * is checked field by field, and keys and messages are verified by others. */
#include "client/server.h"
#include "client/server_calls.h"
#include "client/mailpage.h"
#include "client/report.h"
#include "envelope/link.h"
#include "envelope/wire.h"
#include "sandbox/lockmem.h"

#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TOKEN        32u
#define CHALLENGE    32u
#define MAX_SMALL    4096u
#define MAX_JSON     (1024u * 1024u)
#define APPEND_TRIES 10
#define MAX_CHAIN    (8u * 1024u * 1024u)
#define MAX_MESSAGE  (2u * 1024u * 1024u) /* a manifest of 1 MiB, its envelope and box */

struct session {
    bool open;
    char token[B64U_LEN(TOKEN) + 1];
};

struct server {
    const struct account *account;
    const struct keyring *keys;
    struct http *http;
    struct session *session; /* locked memory */
    struct http_reply reply;
    bool said;  /* why the last call failed has been reported */
    bool login; /* it was the login that failed */
};

enum sp_err server_gather(void *ctx, const uint8_t *bytes, size_t len)
{
    struct gather *g = ctx;
    if (len > g->max - g->len)
        return SP_ERR_LIMIT;
    uint8_t *more = realloc(g->bytes, g->len + len + 1);
    if (more == NULL)
        return SP_ERR_MEMORY;
    memcpy(more + g->len, bytes, len);
    g->bytes = more;
    g->len += len;
    return SP_OK;
}

enum sp_err server_open(const struct account *account, const struct keyring *keys, const char *ca,
                        struct server **out)
{
    *out = NULL;
    struct server *s = calloc(1, sizeof *s);
    if (s == NULL)
        return report_fail(SP_ERR_MEMORY, "server");
    s->account = account;
    s->keys = keys;
    s->session = secret_alloc(sizeof *s->session);
    enum sp_err err = s->session == NULL ? SP_ERR_MEMORY : http_open(account->url, ca, &s->http);
    if (err != SP_OK) {
        report_fail(err, "libcurl");
        server_close(s, false);
        return err;
    }
    *out = s;
    return SP_OK;
}

void server_close(struct server *s, bool polite)
{
    if (s == NULL)
        return;
    if (polite && s->session->open) {
        const struct http_request rq = {
            .method = "DELETE", .path = "/v1/session", .session = s->session->token};
        http_do(s->http, &rq, NULL, NULL, &s->reply); /* if not, it runs out by itself */
    }
    http_close(s->http);
    secret_free(s->session);
    free(s);
}

/* An HTTP status as a result; statuses that are not here are the peer's mistake. */
static const struct {
    long status;
    enum sp_err err;
} statuses[] = {
    {200, SP_OK},
    {204, SP_OK},
    {206, SP_OK},
    {400, SP_ERR_FORMAT},
    {401, SP_ERR_DENIED},
    {403, SP_ERR_DENIED},
    {404, SP_ERR_NOT_FOUND},
    {409, SP_ERR_EXISTS},
    {410, SP_ERR_EXPIRED},
    {413, SP_ERR_LIMIT},
    {416, SP_ERR_LIMIT},
    {422, SP_ERR_FORMAT},
    {429, SP_ERR_LIMIT},
    {507, SP_ERR_NO_SPACE},
};

static enum sp_err status_result(long status)
{
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        if (statuses[i].status == status)
            return statuses[i].err;
    }
    return SP_ERR_PEER;
}

/* One request; nothing is said. SP_OK: a 2xx that is whole. */
static enum sp_err call(struct server *s, const struct http_request *rq, http_sink sink, void *ctx)
{
    s->said = s->login = false;
    enum sp_err err = http_do(s->http, rq, sink, ctx, &s->reply);
    return err == SP_OK ? status_result(s->reply.status) : err;
}

enum sp_err server_refuse(struct server *s, enum sp_err err, const char *what)
{
    const char *words = s->reply.error;
    if (s->said)
        return err;
    s->said = true;
    if (s->login)
        what = "login";
    if (err == SP_ERR_AUTH)
        report_plain(err,
                     "%s: %s's certificate does not verify (%s); --ca FILE trusts a private CA",
                     what, s->account->url, words);
    else if (s->login && s->reply.status == 403)
        report_plain(
            err,
            "login: the server answers 403, \"%s\": it does not know this device, or not "
            "any more. If it was restored from a backup that is older than your enrolment, "
            "ask the postmaster for a new code, then run 'sealpost enroll %s %s CODE': "
            "keys and mail that are here stay yours",
            words, s->account->url, s->account->address);
    else if (s->reply.status >= 300 && words[0] != '\0')
        report_plain(err, "%s: the server answers %ld, \"%s\"", what, s->reply.status, words);
    else if (s->reply.status >= 300)
        report_plain(err, "%s: the server answers %ld", what, s->reply.status);
    else if (words[0] != '\0')
        report_plain(err, "%s: %s: %s", what, s->account->url, words);
    else
        report_fail(err, "%s: the server's answer", what);
    return err;
}

bool server_refused(const struct server *s)
{
    return s->reply.status >= 400 && s->reply.status <= 499;
}

long server_answer(const struct server *s)
{
    return s->login ? 0 : s->reply.status;
}

enum sp_err server_call_open(struct server *s, const struct http_request *rq, struct gather *g)
{
    return call(s, rq, server_gather, g);
}

/* An answer of exactly len bytes. */
static enum sp_err call_fixed(struct server *s, const struct http_request *rq, uint8_t *out,
                              size_t len)
{
    struct gather g = {.max = len};
    enum sp_err err = call(s, rq, server_gather, &g);
    if (err == SP_OK && g.len != len)
        err = SP_ERR_FORMAT;
    if (err == SP_OK)
        memcpy(out, g.bytes, len);
    if (g.bytes != NULL)
        lockmem_wipe(g.bytes, g.len); /* it may be a token */
    free(g.bytes);
    return err;
}

/* The login's signed bytes (docs/api.md, below the table). */
static enum sp_err sign_login(const struct server *s, const uint8_t challenge[CHALLENGE],
                              uint8_t body[2 * ID_SIZE + CHALLENGE + SIGN_SIZE])
{
    uint8_t text[64 + ACCOUNT_MAX_URL + CHALLENGE + 2 * ID_SIZE];
    struct wire_out w = wire_out(text, sizeof text);
    wire_put_str(&w, "sealpost/1 session");
    wire_put_str(&w, s->account->url);
    wire_put_bytes(&w, challenge, CHALLENGE);
    wire_put_bytes(&w, s->keys->user_id, ID_SIZE);
    wire_put_bytes(&w, s->keys->device_id, ID_SIZE);
    struct wire_out b = wire_out(body, 2 * ID_SIZE + CHALLENGE + SIGN_SIZE);
    wire_put_bytes(&b, s->keys->user_id, ID_SIZE);
    wire_put_bytes(&b, s->keys->device_id, ID_SIZE);
    wire_put_bytes(&b, challenge, CHALLENGE);
    if (!wire_out_ok(&w) || !wire_out_ok(&b) ||
        crypto_sign_detached(body + b.len, NULL, text, w.len, s->keys->sign_sk) != 0)
        return SP_ERR_CRYPTO;
    return SP_OK;
}

enum sp_err server_login(struct server *s)
{
    uint8_t challenge[CHALLENGE], body[2 * ID_SIZE + CHALLENGE + SIGN_SIZE], answer[TOKEN + 4];
    const struct http_request ask = {.method = "POST", .path = "/v1/challenge"};
    const struct http_request login = {
        .method = "POST", .path = "/v1/session", .body = body, .body_len = sizeof body};
    s->session->open = false;
    enum sp_err err = call_fixed(s, &ask, challenge, sizeof challenge);
    if (err == SP_OK)
        err = sign_login(s, challenge, body);
    if (err == SP_OK)
        err = call_fixed(s, &login, answer, sizeof answer);
    if (err == SP_OK) {
        b64u_encode(answer, TOKEN, s->session->token);
        s->session->open = true;
    }
    lockmem_wipe(answer, sizeof answer);
    return err;
}

enum sp_err server_call(struct server *s, struct http_request *rq, http_sink sink, void *ctx,
                        const char *what)
{
    enum sp_err err = SP_OK;
    for (int fresh = 0;; fresh = 1) {
        if (!s->session->open) {
            err = server_login(s);
            s->login = err != SP_OK;
            fresh = 1;
        }
        if (err != SP_OK)
            break;
        rq->session = s->session->token;
        err = call(s, rq, sink, ctx);
        if (s->reply.status != 401 || fresh)
            break;
        s->session->open = false;
        err = SP_OK;
    }
    return err == SP_OK || what == NULL ? err : server_refuse(s, err, what);
}

enum sp_err server_check_url(struct server *s)
{
    const struct http_request rq = {.method = "GET", .path = "/v1/info"};
    struct gather g = {.max = MAX_JSON};
    struct account named;
    enum sp_err err = call(s, &rq, server_gather, &g);
    if (err != SP_OK) {
        free(g.bytes);
        return server_refuse(s, err, "asking the server who it is");
    }
    json_t *j = json_loadb((const char *)g.bytes, g.len, JSON_REJECT_DUPLICATES, NULL);
    const char *url = json_string_value(json_object_get(j, "url"));
    if (url == NULL)
        err = report_plain(SP_ERR_FORMAT, "%s does not look like a Sealpost appliance",
                           s->account->url);
    else
        err = account_set(&named, url, s->account->address);
    if (err == SP_OK && strcmp(named.url, s->account->url) != 0)
        err = report_plain(SP_ERR_CONFIG, "the server calls itself %s, not %s: use that URL",
                           named.url, s->account->url);
    json_decref(j);
    free(g.bytes);
    return err;
}

static const struct {
    enum sp_err err;
    const char *text;
} enroll_refusals[] = {
    {SP_ERR_DENIED,
     "the code is wrong for this address (the newest one counts): check both, or ask "
     "the postmaster for a new one"},
    {SP_ERR_EXPIRED, "the code has expired: ask the postmaster for a new one"},
    {SP_ERR_EXISTS, "this code was used, the address is enrolled already: use the device that is; "
                    "if it is not yours, tell the postmaster"},
};

enum sp_err server_enroll(struct server *s, const char *code, const uint8_t *root, size_t root_len)
{
    uint8_t body[2 * (ACCOUNT_MAX_ADDRESS + 2) + 4 + SIGCHAIN_MAX_WIRE], user_id[ID_SIZE];
    struct wire_out w = wire_out(body, sizeof body);
    wire_put_str(&w, s->account->address);
    wire_put_str(&w, code);
    wire_put_b32(&w, root, root_len);
    const struct http_request rq = {
        .method = "POST", .path = "/v1/enroll", .body = body, .body_len = w.len};
    enum sp_err err = wire_out_ok(&w) ? call_fixed(s, &rq, user_id, sizeof user_id) : SP_ERR_LIMIT;
    lockmem_wipe(body, sizeof body);
    if (err == SP_OK && memcmp(user_id, s->keys->user_id, sizeof user_id) != 0)
        return report_plain(SP_ERR_PEER, "enrol: the server enrolled somebody else's user id");
    for (size_t i = 0; i < sizeof enroll_refusals / sizeof *enroll_refusals; i++) {
        if (err != SP_OK && s->reply.status >= 400 && enroll_refusals[i].err == err)
            return report_plain(err, "enrol: %s", enroll_refusals[i].text);
    }
    return err == SP_OK ? err : server_refuse(s, err, "enrol");
}

static enum sp_err get_sigchain(struct server *s, const char *path, uint8_t user_id[ID_SIZE],
                                uint8_t **wires, size_t *len)
{
    struct gather g = {.max = MAX_CHAIN};
    struct http_request rq = {.method = "GET", .path = path};
    *wires = NULL;
    *len = 0;
    enum sp_err err = server_call(s, &rq, server_gather, &g, NULL);
    if (err == SP_OK && g.len < ID_SIZE)
        err = SP_ERR_FORMAT;
    if (err != SP_OK) {
        free(g.bytes);
        return err == SP_ERR_NOT_FOUND ? err : server_refuse(s, err, "asking for a sigchain");
    }
    memcpy(user_id, g.bytes, ID_SIZE);
    *len = g.len - ID_SIZE;
    memmove(g.bytes, g.bytes + ID_SIZE, *len);
    *wires = g.bytes;
    return SP_OK;
}

enum sp_err server_sigchain(struct server *s, const char *address, uint32_t after,
                            uint8_t user_id[ID_SIZE], uint8_t **wires, size_t *len)
{
    char path[64 + 3 * ACCOUNT_MAX_ADDRESS];
    char *name = http_escape(address);
    *wires = NULL;
    *len = 0;
    if (name == NULL)
        return report_fail(SP_ERR_MEMORY, "sigchain");
    int n = snprintf(path, sizeof path, "/v1/sigchain/%s?after=%" PRIu32, name, after);
    free(name);
    if (n < 0 || (size_t)n >= sizeof path)
        return report_fail(SP_ERR_LIMIT, "sigchain of %s", address);
    return get_sigchain(s, path, user_id, wires, len);
}

enum sp_err server_sigchain_of(struct server *s, const uint8_t user_id[ID_SIZE], uint32_t after,
                               uint8_t **wires, size_t *len)
{
    char path[96], hex[ID_HEX + 1];
    uint8_t shown[ID_SIZE];
    snprintf(path, sizeof path, "/v1/sigchain/by-id/%s?after=%" PRIu32,
             sodium_bin2hex(hex, sizeof hex, user_id, ID_SIZE), after);
    enum sp_err err = get_sigchain(s, path, shown, wires, len);
    if (err == SP_OK && memcmp(shown, user_id, ID_SIZE) != 0) {
        free(*wires);
        *wires = NULL;
        return report_plain(SP_ERR_AUTH, "sigchain of user %s: the server shows somebody else's",
                            hex);
    }
    return err;
}

/* Links in a row use up the server's ration of signatures for one user, which fills again. */
enum sp_err server_append(struct server *s, const uint8_t *wire, size_t len)
{
    const struct timespec pause = {.tv_sec = 1};
    struct http_request rq = {
        .method = "POST", .path = "/v1/sigchain", .body = wire, .body_len = len};
    enum sp_err err = server_call(s, &rq, NULL, NULL, NULL);
    for (int i = 0; err == SP_ERR_LIMIT && i < APPEND_TRIES; i++) {
        nanosleep(&pause, NULL);
        err = server_call(s, &rq, NULL, NULL, NULL);
    }
    if (err == SP_ERR_EXISTS)
        return report_plain(err,
                            "another device changed your sigchain at the same time: try again");
    return err == SP_OK ? err : server_refuse(s, err, "adding to the sigchain");
}

enum sp_err server_message(struct server *s, const char id[ID_HEX + 1], uint8_t **out, size_t *len)
{
    char path[64];
    struct gather g = {.max = MAX_MESSAGE};
    *out = NULL;
    *len = 0;
    snprintf(path, sizeof path, "/v1/message/%s", id);
    struct http_request rq = {.method = "GET", .path = path};
    enum sp_err err = server_call(s, &rq, server_gather, &g, NULL);
    if (err != SP_OK) {
        free(g.bytes);
        if (err == SP_ERR_NOT_FOUND)
            return report_plain(err, "message %s: there is none in your mailbox", id);
        return server_refuse(s, err, "asking for a message");
    }
    *out = g.bytes;
    *len = g.len;
    return SP_OK;
}

enum sp_err server_piece(struct server *s, const char id[ID_HEX + 1], uint32_t piece, uint64_t from,
                         http_sink sink, void *ctx)
{
    char path[96];
    snprintf(path, sizeof path, "/v1/message/%s/piece/%" PRIu32, id, piece);
    struct http_request rq = {.method = "GET", .path = path, .from = from};
    return server_call(s, &rq, sink, ctx, NULL);
}

enum sp_err server_delete(struct server *s, const char id[ID_HEX + 1])
{
    char path[64];
    snprintf(path, sizeof path, "/v1/message/%s", id);
    struct http_request rq = {.method = "DELETE", .path = path};
    return server_call(s, &rq, NULL, NULL, "delete");
}

enum sp_err server_mailbox(struct server *s, uint64_t after, struct mail page[MAIL_PAGE],
                           uint32_t *n, bool *more)
{
    char path[96];
    struct gather g = {.max = MAX_JSON};
    *n = 0;
    *more = false;
    snprintf(path, sizeof path, "/v1/mailbox?after=%" PRIu64 "&limit=%u", after, MAIL_PAGE);
    struct http_request rq = {.method = "GET", .path = path};
    enum sp_err err = server_call(s, &rq, server_gather, &g, "asking for the mailbox");
    if (err == SP_OK && mailpage_read(g.bytes, g.len, after, page, n, more) != SP_OK)
        err = report_plain(SP_ERR_FORMAT, "the server's list of messages is malformed");
    free(g.bytes);
    return err;
}
