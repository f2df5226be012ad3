/* The web role against a store that knows one session (web_role.h). Links: test_web_link.c. */
#include "tests/unit/web_role.h"

#define TOTAL   300001u /* bytes of every piece of the double */
#define AUTH    "Authorization: Sealpost-Session AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\r\n"
#define MESSAGE "/v1/message/11111111111111111111111111111111"
#define SLOW    "/v1/message/dd111111111111111111111111111111" /* answered late */
#define NEVER   "/v1/message/ee111111111111111111111111111111"
#define MISSING "/v1/message/44111111111111111111111111111111"

static uint8_t piece_byte(uint64_t i)
{
    return (uint8_t)(i ^ i >> 8 ^ i >> 16);
}

static void reply_piece(struct wire_in *body, struct wire_out *out)
{
    static uint8_t block[65536];
    wire_get_u16(body);
    uint64_t offset = wire_get_u64(body);
    uint32_t n = wire_get_u32(body);
    if (offset + n > TOTAL)
        n = (uint32_t)(TOTAL - offset);
    for (uint32_t i = 0; i < n; i++)
        block[i] = piece_byte(offset + i);
    wire_put_u8(out, SP_OK);
    wire_put_u64(out, TOTAL);
    wire_put_b32(out, block, n);
}

static void reply_list(struct wire_in *body, struct wire_out *out)
{
    uint64_t after = wire_get_u64(body);
    uint16_t n = wire_get_u16(body);
    n = n < 5 ? n : 5;
    wire_put_u8(out, SP_OK);
    wire_put_u16(out, n);
    for (uint16_t i = 1; i <= n; i++) {
        wire_put_u64(out, after + i);
        wire_put_bytes(out, "0123456789abcdef", 16);
        wire_put_u64(out, 1700000000000u);
        wire_put_u64(out, 4711);
        wire_put_u16(out, 2);
        wire_put_u32(out, 1);
        wire_put_u8(out, i & 1);
    }
}

static void put_wire(struct wire_out *out)
{
    static const uint8_t signature[64];
    wire_put_b32(out, "link", 4);
    wire_put_bytes(out, signature, sizeof(signature));
}

/* Two links in a first frame, one in a second. */
static void reply_chain(struct wire_in *body, struct wire_out *out)
{
    size_t len;
    uint8_t by = wire_get_u8(body);
    wire_get_b16(body, 320, &len);
    uint32_t after = wire_get_u32(body);
    wire_put_u8(out, by == (len == 16) ? SP_OK : SP_ERR_FORMAT);
    wire_put_bytes(out, "0123456789abcdef", 16);
    wire_put_u8(out, after == 0);
    put_wire(out);
    if (after == 0)
        put_wire(out);
}

/* Seven bytes a frame: the client gets one answer. */
static void reply_part(struct wire_in *body, struct wire_out *out)
{
    static const char whole[] = "\0\0\0\x08"
                                "envelope\0\0\0\x03"
                                "box";
    const uint32_t total = sizeof(whole) - 1;
    uint32_t offset = wire_get_u32(body), left = total - offset;
    wire_put_u32(out, total);
    wire_put_bytes(out, whole + offset, left < 7 ? left : 7);
}

/* With a token: false: no answer, ever. */
static bool reply_session(uint16_t type, struct wire_in *body, struct wire_out *out)
{
    static const uint8_t good[32] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                     1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const uint8_t *token = wire_get_bytes(body, 32), *id = NULL;
    if (memcmp(token, good, 32) != 0) {
        wire_put_u8(out, SP_ERR_DENIED);
        return true;
    }
    if (type == SW_PIECE || type == SW_MESSAGE || type == SW_DELETE)
        id = wire_get_bytes(body, 16);
    if (id != NULL && id[0] == 0xee)
        return false;
    if (id != NULL && id[0] == 0xdd)
        usleep(100000);
    if (id != NULL && id[0] == 0x44)
        wire_put_u8(out, SP_ERR_NOT_FOUND);
    else if (type == SW_PIECE)
        reply_piece(body, out);
    else if (type == SW_LIST)
        reply_list(body, out);
    else if (type == SW_CHAIN_GET)
        reply_chain(body, out);
    else
        wire_put_u8(out, SP_OK);
    if (type == SW_MESSAGE && id[0] != 0x44)
        reply_part(body, out);
    return true;
}

static bool web_store(uint16_t type, struct wire_in *body, struct wire_out *out)
{
    if (type != SW_CHALLENGE && type != SW_LOGIN && type != SW_ENROLL)
        return reply_session(type, body, out);
    bool refused = type == SW_LOGIN && body->at[0] != 'u';
    wire_put_u8(out, refused ? SP_ERR_AUTH : SP_OK);
    if (!refused)
        wire_put_bytes(out, "0123456789abcdef0123456789abcdef0123",
                       type == SW_CHALLENGE ? 32
                       : type == SW_LOGIN   ? 36
                                            : 16);
    return true;
}

static void test_simple(void **state)
{
    (void)state;
    assert_int_equal(ask("GET /healthz" REST "\r\n"), 200);
    assert_string_equal(body(), "ok");
    static const char *const always[] = {
        "Cache-Control: no-store", "X-Content-Type-Options: nosniff",
        "Strict-Transport-Security: ", "no-referrer", "default-src 'none'"};
    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++)
        assert_true(has(always[i]));
    assert_false(has("Server:"));
    assert_int_equal(ask("HEAD /healthz" REST "\r\n"), 200);
    assert_string_equal(body(), "");
    assert_true(has("Content-Length: 2\r\n"));
    assert_int_equal(ask("GET /v1/info" REST "\r\n"), 200);
    assert_true(has("\"domains\":[\"example.org\"]"));
    assert_true(has("\"url\":\"https://mail.example.org\""));
    assert_int_equal(ask("GET /" REST "\r\n"), 404);
    assert_true(has("default-src 'none'"));
    assert_int_equal(ask("GET /healthz?x=1" REST "\r\n"), 400);
}

static void test_methods(void **state)
{
    (void)state;
    assert_int_equal(ask("POST /healthz" REST "\r\n"), 405);
    assert_true(has("Allow: GET, HEAD\r\n"));
    assert_int_equal(ask("PUT " MESSAGE REST "\r\n"), 405);
    assert_true(has("Allow: GET, HEAD, DELETE\r\n"));
    assert_int_equal(ask("BREW /v1/challenge" REST "\r\n"), 405);
    assert_true(has("Allow: POST\r\n"));
    assert_int_equal(ask("BREW /" REST "\r\n"), 404);
    assert_int_equal(ask("OPTIONS *" REST "\r\n"), 400);
    assert_int_equal(ask("GET http://other/healthz" REST "\r\n"), 400);
}

static void test_malformed(void **state)
{
    char big[9000];
    (void)state;
    memset(big, 'x', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    assert_int_equal(ask("GET /healthz" REST "X: %s\r\n\r\n", big), 400);
    int code = ask("GET /%s" REST "\r\n", big);
    assert_true(code == 0 || code == 400 || code == 413 || code == 414);
    big[3000] = '\0';
    assert_int_equal(ask("GET /%s" REST "\r\n", big), 414);
    assert_true(has("Connection: close"));
    assert_int_equal(ask("GET /healthz" REST "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
                     400);
    assert_int_equal(ask("POST /v1/challenge" REST "Content-Length: 5\r\n\r\nhello"), 413);
    assert_int_equal(ask("POST /v1/challenge" REST "Content-Length: 99999999\r\n\r\n"), 413);
    assert_int_equal(ask("POST /v1/challenge" REST "Content-Length: -1\r\n\r\n"), 400);
    assert_int_equal(ask("GARBAGE\r\n\r\n"), 400);
}

static void test_public(void **state)
{
    (void)state;
    char login[129];
    memset(login, 'u', 128);
    login[128] = '\0';
    assert_int_equal(ask("POST /v1/challenge" REST "Content-Length: 0\r\n\r\n"), 200);
    assert_string_equal(body(), "0123456789abcdef0123456789abcdef");
    assert_int_equal(ask("POST /v1/session" REST "Content-Length: 128\r\n\r\n%s", login), 200);
    assert_int_equal(strlen(body()), 36);
    login[0] = 'x';
    assert_int_equal(ask("POST /v1/session" REST "Content-Length: 128\r\n\r\n%s", login), 403);
    assert_int_equal(ask("POST /v1/session" REST "Content-Length: 127\r\n\r\n%.127s", login), 400);
    assert_int_equal(ask("POST /v1/session" REST
                         "Transfer-Encoding: chunked\r\n\r\n80\r\n%s\r\n0\r\n\r\n",
                         login),
                     411);
    assert_int_equal(ask("POST /v1/enroll" REST "Content-Length: 2\r\n\r\nxx"), 400);
}

static void test_token(void **state)
{
    (void)state;
    assert_int_equal(ask("GET /v1/mailbox" REST "\r\n"), 401);
    assert_true(has("WWW-Authenticate: Sealpost-Session\r\n"));
    assert_int_equal(ask("GET /v1/mailbox" REST AUTH AUTH "\r\n"), 400);
    assert_int_equal(ask("GET /v1/mailbox" REST "Authorization: Sealpost-Session "
                         "AAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\r\n\r\n"),
                     401);
    assert_int_equal(ask("GET /v1/mailbox?limit=2&after=9" REST AUTH "\r\n"), 200);
    assert_true(has("\"seq\":11") && !has("\"seq\":12") && has("\"more\":true"));
    assert_true(has("\"id\":\"30313233343536373839616263646566\""));
    assert_int_equal(ask("GET /v1/mailbox" REST AUTH "\r\n"), 200);
    assert_true(has("\"seq\":5") && has("\"more\":false"));
    assert_true(has("\"seq\":1,") && has("\"sent\":true}") && has("\"sent\":false}"));
    assert_int_equal(ask("GET " MESSAGE REST AUTH "\r\n"), 200);
    assert_true(has("Content-Length: 19\r\n"));
    assert_memory_equal(body(),
                        "\0\0\0\x08"
                        "envelope\0\0\0\x03"
                        "box",
                        19);
    assert_int_equal(ask("HEAD " MESSAGE REST AUTH "\r\n"), 200);
    assert_true(has("Content-Length: 19\r\n"));
    assert_string_equal(body(), "");
    assert_int_equal(ask("GET " MISSING REST AUTH "\r\n"), 404);
    assert_int_equal(ask("DELETE " MESSAGE REST AUTH "\r\n"), 204);
    assert_int_equal(ask("DELETE /v1/session" REST AUTH "\r\n"), 204);
    assert_int_equal(ask("GET /v1/sigchain/a%%40example.org" REST AUTH "\r\n"), 200);
    assert_true(has("Content-Length: 232\r\n")); /* 16 + 3 * 72: two frames, one answer */
    assert_int_equal(
        ask("GET /v1/sigchain/by-id/0123456789abcdef0123456789abcdef" REST AUTH "\r\n"), 200);
    assert_true(has("Content-Length: 232\r\n"));
    assert_int_equal(ask("GET /v1/sigchain/by-id/0123456789" REST AUTH "\r\n"), 404);
    assert_int_equal(ask("POST /v1/sigchain" REST AUTH "Content-Length: 4\r\n\r\nwire"), 204);
}

static void check_piece(uint64_t first, uint64_t count)
{
    const uint8_t *b = (const uint8_t *)body();
    char length[64];
    snprintf(length, sizeof(length), "Content-Length: %u\r\n", (unsigned)count);
    assert_true(has(length));
    for (uint64_t i = 0; i < count; i++)
        if (b[i] != piece_byte(first + i))
            fail_msg("byte %u differs", (unsigned)i);
}

static void test_piece(void **state)
{
    (void)state;
    assert_int_equal(ask("GET " MESSAGE "/piece/0" REST AUTH "\r\n"), 200);
    assert_true(has("Accept-Ranges: bytes\r\n"));
    check_piece(0, TOTAL);
    assert_int_equal(ask("GET " MESSAGE "/piece/0" REST AUTH "Range: bytes=10-70009\r\n\r\n"), 206);
    assert_true(has("Content-Range: bytes 10-70009/300001\r\n"));
    check_piece(10, 70000);
    assert_int_equal(ask("GET " MESSAGE "/piece/0" REST AUTH "Range: bytes=-5\r\n\r\n"), 206);
    check_piece(TOTAL - 5, 5);
    assert_int_equal(ask("GET " MESSAGE "/piece/0" REST AUTH "Range: bytes=300001-\r\n\r\n"), 416);
    assert_true(has("Content-Range: bytes */300001\r\n"));
    assert_int_equal(ask("HEAD " MESSAGE "/piece/0" REST AUTH "\r\n"), 200);
    assert_true(has("Content-Length: 300001\r\n"));
    assert_string_equal(body(), "");
    assert_int_equal(ask("GET " MISSING "/piece/0" REST AUTH "\r\n"), 404);
}

/* Two requests in one write, answered in order on one connection. */
static void test_pipeline(void **state)
{
    (void)state;
    assert_int_equal(
        ask("GET " MISSING " HTTP/1.1\r\nHost: x\r\n" AUTH "\r\nGET /healthz" REST "\r\n"), 404);
    assert_true(has("HTTP/1.1 200 OK"));
    assert_int_equal(ask("GET " MISSING " HTTP/1.1\r\n\r\n"), 400); /* no Host: RFC 9112 3.2 */
}

static void test_vanish(void **state)
{
    static const char *const requests[] = {
        "GET " SLOW "/piece/0" REST AUTH "\r\n",
        "GET " MESSAGE "/piece/0" REST AUTH "\r\n",
        "GET " SLOW REST AUTH "\r\n",
        "GET /healthz HTTP/1.1\r\nX: ",
    };
    (void)state;
    for (int i = 0; i < 40; i++) {
        const char *request = requests[i % 4];
        SSL *ssl = dial_tls();
        SSL_write(ssl, request, (int)strlen(request));
        if (i % 8 == 1)
            SSL_read(ssl, answer, 1000); /* in the middle of a stream */
        hang_up(ssl);
    }
    assert_int_equal(ask("GET /healthz" REST "\r\n"), 200);
    assert_int_equal(ask("GET " SLOW REST AUTH "\r\n"), 200);
}

/* ... and whose refusal was to be late: nothing is left of it when its time comes. */
static void test_vanish_before_a_refusal(void **state)
{
    static const char login[] = "POST /v1/session" REST "Content-Length: 128\r\n\r\n";
    char proof[128];
    (void)state;
    memset(proof, 'x', sizeof(proof));
    for (int i = 0; i < 8; i++) {
        SSL *ssl = dial_tls();
        SSL_write(ssl, login, sizeof(login) - 1);
        SSL_write(ssl, proof, sizeof(proof));
        assert_int_equal(ask("GET " MESSAGE REST AUTH "\r\n"),
                         200); /* the store has answered both */
        hang_up(ssl);
    }
    usleep(500000);
    assert_int_equal(ask("GET /healthz" REST "\r\n"), 200);
}

static void test_garbage(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        int fd = dial();
        if (i % 2 == 0)
            assert_true(write(fd, "GET / HTTP/1.1\r\n\r\n", 18) == 18);
        else
            assert_true(write(fd, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11) == 11);
        close(fd);
    }
    assert_int_equal(ask("GET /healthz" REST "\r\n"), 200);
}

static void test_alpn(void **state)
{
    static const uint8_t both[] = "\x02h2\x08http/1.1", other[] = "\x02h2";
    const unsigned char *got;
    unsigned len;
    (void)state;
    SSL *ssl = SSL_new(client);
    SSL_set_alpn_protos(ssl, both, sizeof(both) - 1);
    SSL_set_fd(ssl, dial());
    assert_int_equal(SSL_connect(ssl), 1);
    SSL_get0_alpn_selected(ssl, &got, &len);
    assert_int_equal(len, 8);
    hang_up(ssl);
    ssl = SSL_new(client);
    SSL_set_alpn_protos(ssl, other, sizeof(other) - 1);
    SSL_set_fd(ssl, dial());
    assert_int_not_equal(SSL_connect(ssl), 1);
    hang_up(ssl);
    ssl = SSL_new(client);
    SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
    SSL_set_fd(ssl, dial());
    assert_int_equal(SSL_connect(ssl), 1);
    hang_up(ssl);
    ERR_clear_error();
}

/* The store never answers 256 questions: the next one is told to come again. */
static void test_busy(void **state)
{
    static SSL *waiting[256];
    (void)state;
    for (size_t i = 0; i < 256; i++) {
        waiting[i] = dial_tls();
        static const char request[] = "GET " NEVER REST AUTH "\r\n";
        assert_int_equal(SSL_write(waiting[i], request, sizeof(request) - 1), sizeof(request) - 1);
    }
    int code = 0;
    for (int i = 0; i < 100 && code != 503; i++) {
        usleep(10000); /* until the last of them has arrived */
        code = ask("GET " MISSING REST AUTH "\r\n");
    }
    assert_int_equal(code, 503);
    assert_true(has("Retry-After: 2\r\n") && has("{\"error\""));
    /* To a person, in words, on a page that runs no script. */
    assert_int_equal(ask("GET /m/F6yeHQOA3mkJBaXRk3ft-g" REST "\r\n"), 503);
    assert_true(has("Retry-After: 2\r\n") && has("Content-Type: text/html") && has("no-store"));
    assert_true(has("<h1>This server is busy</h1>") && !has("<script"));
    assert_int_equal(ask("GET /healthz" REST "\r\n"), 200);
    for (size_t i = 0; i < 256; i++)
        hang_up(waiting[i]);
    assert_int_equal(ask("GET /healthz" REST "\r\n"), 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_simple),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_public),
        cmocka_unit_test(test_token),
        cmocka_unit_test(test_piece),
        cmocka_unit_test(test_pipeline),
        cmocka_unit_test(test_vanish),
        cmocka_unit_test(test_vanish_before_a_refusal),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_alpn),
        cmocka_unit_test(test_busy),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
