/* Sending, by HTTP: bodies cut into frames, in order and none too long; the store's words as JSON
 * and codes; and memory that hostile clients cannot fill. */
#include "tests/unit/web_role.h"

#define AUTH    "Authorization: Sealpost-Session AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\r\n"
#define UPLOAD  "/v1/upload/11111111111111111111111111111111"
#define MESSAGE "/v1/message/11111111111111111111111111111111"
#define LARGE   (256u * 1024u)

static uint8_t large[LARGE + 1];

/* --- the double of the store --- */

static uint8_t pattern(uint64_t i)
{
    return (uint8_t)(i ^ i >> 8 ^ i >> 16);
}

/* Pieces must come in order; there is one for all. id 0x57...: out of space from 100000 on. */
static enum sp_err take_put(struct wire_in *body)
{
    static uint64_t there[2];
    const uint8_t *id = wire_get_bytes(body, 16);
    uint16_t piece = wire_get_u16(body);
    uint64_t offset = wire_get_u64(body);
    size_t n = body->left;
    const uint8_t *bytes = wire_get_bytes(body, n);
    uint64_t *at = &there[piece == FORM_PIECE];
    if (offset == 0)
        *at = 0;
    if (n == 0 || n > PART_MAX || (piece != 3 && piece != FORM_PIECE))
        return SP_ERR_SYSTEM;
    if (id[0] == 0x57 && offset >= 100000)
        return SP_ERR_NO_SPACE;
    if (offset != *at)
        return SP_ERR_STATE;
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != pattern(offset + i))
            return SP_ERR_SYSTEM;
    *at += n;
    return SP_OK;
}

static void put_recipient(struct wire_out *out, const char *address, uint8_t kind, uint8_t state)
{
    wire_put_str(out, address);
    wire_put_u8(out, kind);
    wire_put_u8(out, state);
    wire_put_u64(out, 1700000000001);
    wire_put_u64(out, 1700000000002);
    wire_put_u32(out, 3);
    wire_put_str(out, "450 \"later\"");
    wire_put_u64(out, 4);
    wire_put_u32(out, 5);
    wire_put_u64(out, 6);
}

static void reply_status(struct wire_in *body, struct wire_out *out)
{
    static const char *const addresses[] = {"a@x", "b@x", "\xff@x"};
    const uint8_t *id = wire_get_bytes(body, 16);
    wire_put_u8(out, SP_OK);
    wire_put_u64(out, 1700000000000);
    wire_put_u16(out, 3);
    for (uint8_t i = 0; i < 3; i++)
        put_recipient(out, addresses[i], (uint8_t)(i + 1), (uint8_t)(2 * i));
    (void)id;
}

static void reply_resolve(struct wire_in *body, struct wire_out *out)
{
    size_t len;
    const char *address = (const char *)wire_get_b16(body, 255, &len);
    if (address[0] == 'n') {
        wire_put_u8(out, address[1] == 'k' ? SP_ERR_NO_KEY : SP_ERR_NOT_FOUND);
        return;
    }
    uint16_t n = address[0] == 'o' ? 2 : 0;
    wire_put_u8(out, SP_OK);
    wire_put_u8(out, n > 0);
    wire_put_u16(out, n);
    wire_put_bytes(out, "0123456789abcdefABCDEFGHIJKLMNOP", 16u * n);
}

/* SW_SEND: the id's first byte is the status. */
static void reply_send(struct wire_in *body, struct wire_out *out)
{
    uint8_t status = wire_get_u8(body);
    wire_get_bytes(body, 15);
    wire_put_u8(out, status == 0x11 ? SP_OK : status);
    if (status == 0x11)
        wire_put_bytes(out, "0123456789abcdef", 16);
}

static void reply_state(struct wire_out *out)
{
    wire_put_u8(out, SP_OK);
    wire_put_u16(out, 3);
    for (uint64_t i = 0; i < 3; i++)
        wire_put_u64(out, i << 40);
    wire_put_u64(out, 77);
}

static void reply_upload(struct wire_in *body, struct wire_out *out)
{
    uint16_t n = wire_get_u16(body);
    wire_put_u8(out, n == 256 ? SP_ERR_NO_SPACE : n == 2 ? SP_ERR_LIMIT : SP_OK);
    if (n == 256 || n == 2)
        return;
    wire_put_bytes(out, "0123456789abcdef", 16);
}

static void reply_revoke(struct wire_in *body, struct wire_out *out)
{
    size_t len;
    wire_get_bytes(body, 16);
    wire_get_b16(body, 255, &len);
    wire_put_u8(out, SP_OK);
    wire_put_u16(out, (uint16_t)(len == 0 ? 300 : len));
}

static void reply(uint16_t type, struct wire_in *body, struct wire_out *out)
{
    if (type == SW_UPLOAD)
        reply_upload(body, out);
    else if (type == SW_UPLOAD_STATE)
        reply_state(out);
    else if (type == SW_UPLOAD_PUT)
        wire_put_u8(out, (uint8_t)take_put(body));
    else if (type == SW_UPLOAD_DROP)
        wire_put_u8(out, SP_OK);
    else if (type == SW_SEND)
        reply_send(body, out);
    else if (type == SW_RESOLVE)
        reply_resolve(body, out);
    else if (type == SW_DELIVERY_STATUS)
        reply_status(body, out);
    else if (type == SW_REVOKE)
        reply_revoke(body, out);
    else
        wire_put_u8(out, SP_ERR_NOT_FOUND);
}

static void reply_sent(struct wire_in *body, struct wire_out *out)
{
    wire_get_bytes(body, 16);
    uint32_t offset = wire_get_u32(body), total = 100001;
    wire_put_u8(out, SP_OK);
    wire_put_u32(out, total);
    for (uint32_t i = offset; i < total && i < offset + PART_MAX; i++)
        wire_put_u8(out, pattern(i));
}

/* The token of AUTH is at the front of the body, and has been taken off it. */
static bool good_token(struct wire_in *body)
{
    const uint8_t *token = wire_get_bytes(body, 32);
    bool good = token != NULL;
    for (int i = 0; i < 32 && good; i++)
        good = token[i] == 1;
    return good;
}

static bool web_store(uint16_t type, struct wire_in *body, struct wire_out *out)
{
    if (type == SW_KEEPER_KEY) {
        wire_put_u8(out, SP_OK);
        wire_put_bytes(out, "0123456789abcdef0123456789abcdef", 32);
    } else if (!good_token(body)) {
        wire_put_u8(out, SP_ERR_DENIED);
    } else if (type == SW_SENT) {
        reply_sent(body, out);
    } else {
        reply(type, body, out);
    }
    return true;
}

/* --- requests with a body of octets --- */

static bool write_all(SSL *ssl, const void *bytes, size_t len)
{
    return len == 0 || SSL_write(ssl, bytes, (int)len) == (int)len;
}

static int send_body(const char *method, const char *target, const void *bytes, size_t len)
{
    char head[512];
    int n = snprintf(head, sizeof(head), "%s %s" REST AUTH "Content-Length: %zu\r\n\r\n", method,
                     target, len);
    SSL *ssl = dial_tls();
    assert_true(write_all(ssl, head, (size_t)n));
    write_all(ssl, bytes, len); /* may be refused before its end */
    read_all(ssl);
    hang_up(ssl);
    return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? atoi(answer + 9) : 0;
}

static int put_at(const char *what, uint64_t offset, size_t len)
{
    static uint8_t bytes[LARGE + 1];
    char target[200];
    for (size_t i = 0; i < len; i++)
        bytes[i] = pattern(offset + i);
    snprintf(target, sizeof(target), "%s?offset=%llu", what, (unsigned long long)offset);
    return send_body("PUT", target, bytes, len);
}

/* --- tests --- */

static void test_upload(void **state)
{
    uint8_t sizes[2 + 8 * 257] = {0, 3};
    (void)state;
    assert_int_equal(send_body("POST", "/v1/upload", sizes, 2 + 8 * 3), 200);
    assert_string_equal(body(), "0123456789abcdef");
    assert_int_equal(send_body("POST", "/v1/upload", sizes, 2 + 8 * 2), 400);
    assert_int_equal(send_body("POST", "/v1/upload", sizes, 2 + 8 * 4), 400);
    sizes[1] = 0;
    assert_int_equal(send_body("POST", "/v1/upload", sizes, 2), 400);
    sizes[1] = 2;
    assert_int_equal(send_body("POST", "/v1/upload", sizes, 2 + 8 * 2), 429);
    sizes[0] = 1, sizes[1] = 0;
    assert_int_equal(send_body("POST", "/v1/upload", sizes, 2 + 8 * 256), 507);
    sizes[1] = 1;
    assert_int_equal(send_body("POST", "/v1/upload", sizes, 2 + 8 * 257), 413);
    assert_int_equal(ask("GET " UPLOAD REST AUTH "\r\n"), 200);
    assert_string_equal(body(), "{\"pieces\":[0,1099511627776,2199023255552],\"form\":77}");
    assert_int_equal(ask("DELETE " UPLOAD REST AUTH "\r\n"), 204);
    assert_int_equal(ask("POST " UPLOAD REST AUTH "Content-Length: 0\r\n\r\n"), 405);
    assert_true(has("Allow: GET, HEAD, DELETE\r\n"));
    assert_int_equal(ask("GET " UPLOAD REST "\r\n"), 401);
}

static void test_put(void **state)
{
    static const size_t sizes[] = {1, PART_MAX - 1, PART_MAX, PART_MAX + 1, 16u * 1024u, LARGE};
    (void)state;
    uint64_t at = 0;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        assert_int_equal(put_at(UPLOAD "/piece/3", at, sizes[i]), 204);
        at += sizes[i];
    }
    assert_int_equal(put_at(UPLOAD "/piece/3", at + 1, 10), 409);
    assert_int_equal(put_at(UPLOAD "/form", 0, LARGE), 204);
    assert_int_equal(put_at(UPLOAD "/form", LARGE, 5), 204);
    assert_int_equal(put_at(UPLOAD "/piece/3", at, 10), 204); /* the two do not mix */
    assert_int_equal(put_at("/v1/upload/57111111111111111111111111111111/piece/3", 0, LARGE), 507);
    assert_int_equal(put_at(UPLOAD "/piece/65535", 0, 10), 404); /* the form has its own name */
    assert_int_equal(put_at(UPLOAD "/piece/3", at, 0), 400);
    assert_int_equal(put_at(UPLOAD "/piece/3", UINT64_MAX, 2), 400);
    assert_int_equal(put_at(UPLOAD "/piece/3", 0, LARGE + 1), 413);
    assert_int_equal(send_body("PUT", UPLOAD "/piece/3?offset=0&offset=0", "x", 1), 400);
    assert_int_equal(send_body("PUT", UPLOAD "/piece/3?after=0", "x", 1), 400);
    assert_int_equal(send_body("PUT", UPLOAD "/form?offset=x", "x", 1), 400);
    assert_int_equal(send_body("POST", UPLOAD "/form?offset=0", "x", 1), 405);
    assert_true(has("Allow: PUT\r\n"));
    assert_int_equal(
        ask("PUT " UPLOAD "/form?offset=0" REST "Content-Length: 1\r\n\r\n%c", pattern(0)), 401);
}

/* As clients with a keep-alive connection do it, one after the other; never chunked. */
static void test_one_connection(void **state)
{
    static uint8_t bytes[LARGE];
    char head[512];
    (void)state;
    SSL *ssl = dial_tls();
    for (uint64_t at = 0; at < 4 * LARGE; at += LARGE) {
        for (size_t i = 0; i < LARGE; i++)
            bytes[i] = pattern(at + i);
        int n = snprintf(head, sizeof(head),
                         "PUT " UPLOAD "/piece/3?offset=%u HTTP/1.1\r\nHost: test\r\n" AUTH
                         "Content-Length: %u\r\n\r\n",
                         (unsigned)at, LARGE);
        assert_true(write_all(ssl, head, (size_t)n) && write_all(ssl, bytes, LARGE));
        n = SSL_read(ssl, answer, ANSWER - 1);
        assert_true(n > 12);
        assert_memory_equal(answer, "HTTP/1.1 204", 12);
    }
    hang_up(ssl);
    assert_int_equal(ask("PUT " UPLOAD "/form?offset=0" REST AUTH
                         "Transfer-Encoding: chunked\r\n\r\n2\r\n%c%c\r\n0\r\n\r\n",
                         pattern(0), pattern(1)),
                     411);
    assert_true(has("Connection: close\r\n"));
}

static void test_send(void **state)
{
    static const struct {
        enum sp_err status;
        int code;
    } cases[] = {
        {SP_ERR_FORMAT, 422}, {SP_ERR_AUTH, 403},      {SP_ERR_DENIED, 403},   {SP_ERR_STATE, 409},
        {SP_ERR_EXISTS, 409}, {SP_ERR_NOT_FOUND, 404}, {SP_ERR_LIMIT, 429},    {SP_ERR_NO_KEY, 422},
        {SP_ERR_CONFIG, 503}, {SP_ERR_EXPIRED, 401},   {SP_ERR_NO_SPACE, 503}, {SP_ERR_SYSTEM, 500},
    };
    (void)state;
    assert_int_equal(ask("POST " UPLOAD "/send" REST AUTH "Content-Length: 0\r\n\r\n"), 200);
    assert_string_equal(body(), "0123456789abcdef");
    assert_int_equal(ask("POST " UPLOAD "/send" REST AUTH "Content-Length: 1\r\n\r\nx"), 413);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(ask("POST /v1/upload/%02x111111111111111111111111111111/send" REST AUTH
                             "Content-Length: 0\r\n\r\n",
                             cases[i].status),
                         cases[i].code);
}

static void test_about_sent_mail(void **state)
{
    (void)state;
    assert_int_equal(ask("GET /v1/keeper" REST "\r\n"), 200);
    assert_string_equal(body(), "0123456789abcdef0123456789abcdef");
    assert_int_equal(ask("GET " MESSAGE "/sent" REST AUTH "\r\n"), 200);
    assert_true(has("Content-Length: 100001\r\n"));
    for (uint32_t i = 0; i < 100001; i++)
        if ((uint8_t)body()[i] != pattern(i))
            fail_msg("byte %u differs", i);
    assert_int_equal(ask("GET " MESSAGE "/status" REST AUTH "\r\n"), 200);
    assert_true(has("{\"sent_ms\":1700000000000,\"recipients\":["
                    "{\"address\":\"a@x\",\"kind\":\"user\",\"state\":\"queued\","
                    "\"since_ms\":1700000000001,\"next_ms\":1700000000002,\"attempts\":3,"
                    "\"text\":\"450 \\\"later\\\"\",\"expires_ms\":4,\"visits\":5,\"opened_ms\":6},"
                    "{\"address\":\"b@x\",\"kind\":\"relay\",\"state\":\"deferred\","));
    assert_true(has("{\"address\":\"\",\"kind\":\"link\",\"state\":\"revoked\",")); /* no UTF-8 */
    assert_int_equal(send_body("POST", MESSAGE "/revoke", "\0\0", 2), 200);
    assert_string_equal(body(), "{\"concerned\":300}");
    assert_int_equal(send_body("POST", MESSAGE "/revoke", "\0\3a@x", 5), 200);
    assert_string_equal(body(), "{\"concerned\":3}");
    assert_int_equal(send_body("POST", MESSAGE "/revoke", "\0\4a@x", 5), 400);
    assert_int_equal(send_body("POST", MESSAGE "/revoke", "", 0), 400);
    assert_int_equal(ask("GET /v1/resolve/ours%%40x" REST AUTH "\r\n"), 200);
    assert_string_equal(body(), "{\"ours\":true,\"users\":[\"30313233343536373839616263646566\","
                                "\"4142434445464748494a4b4c4d4e4f50\"]}");
    assert_int_equal(ask("GET /v1/resolve/else%%40y" REST AUTH "\r\n"), 200);
    assert_string_equal(body(), "{\"ours\":false,\"users\":[]}");
    assert_int_equal(ask("GET /v1/resolve/nobody%%40x" REST AUTH "\r\n"), 404);
    assert_int_equal(ask("GET /v1/resolve/nk%%40x" REST AUTH "\r\n"), 404);
    assert_true(has("not enrolled"));
}

/* --- clients who announce much and send it slowly, or stop --- */

static long resident_kb(void)
{
    char path[64], line[256];
    long kb = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)role_pid);
    FILE *f = fopen(path, "r");
    while (fgets(line, sizeof(line), f) != NULL)
        if (sscanf(line, "VmRSS: %ld", &kb) == 1)
            break;
    fclose(f);
    return kb;
}

/* As many as may be, each with all but the last byte of the largest body: most of it stays with the
 * kernel. (16 of one client: 4 MiB.) Others are served, and large ones in turn. */
static void test_hoarders(void **state)
{
    enum { N = 120 };
    static SSL *hoarder[N];
    static const char head[] =
        "PUT " UPLOAD "/piece/3?offset=0" REST AUTH "Content-Length: 262144\r\n\r\n";
    (void)state;
    for (size_t i = 0; i < N; i++) {
        hoarder[i] = dial_tls();
        assert_true(write_all(hoarder[i], head, sizeof(head) - 1));
        assert_true(write_all(hoarder[i], large, 8192));
    }
    assert_int_equal(ask("GET /healthz" REST "\r\n"), 200);
    long before = resident_kb();
    for (size_t i = 0; i < N; i++) {
        SSL_set_mode(hoarder[i], SSL_MODE_ENABLE_PARTIAL_WRITE);
        fcntl(SSL_get_fd(hoarder[i]), F_SETFL, O_NONBLOCK);
        for (int n, left = LARGE - 8193; left > 0; left -= n)
            if ((n = SSL_write(hoarder[i], large, left < 16384 ? left : 16384)) <= 0)
                break; /* the rest does not fit the sockets */
        ERR_clear_error();
    }
    assert_int_equal(ask("GET /healthz" REST "\r\n"), 200);
    assert_int_equal(ask("GET " UPLOAD REST AUTH "\r\n"), 200);
    long grown = resident_kb() - before;
    assert_true(grown < 22 * 1024); /* and not N * 256 */
    for (size_t i = 0; i < N; i++)
        hang_up(hoarder[i]);
    assert_int_equal(put_at(UPLOAD "/piece/3", 0, LARGE), 204);
}

/* Many at once who mean it: all are served, though there is room for 16 of them at a time. */
static void test_crowd(void **state)
{
    enum { N = 40 };
    static SSL *one[N];
    static const char head[] =
        "PUT " UPLOAD "/form?offset=0" REST AUTH "Content-Length: 262144\r\n\r\n";
    size_t at[N] = {0};
    (void)state;
    for (size_t i = 0; i < LARGE; i++)
        large[i] = pattern(i);
    for (size_t i = 0; i < N; i++) {
        one[i] = dial_tls();
        assert_true(write_all(one[i], head, sizeof(head) - 1));
        SSL_set_mode(one[i], SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        fcntl(SSL_get_fd(one[i]), F_SETFL, O_NONBLOCK);
    }
    for (size_t done = 0; done < N;) {
        done = 0;
        for (size_t i = 0; i < N; i++) {
            int n = at[i] < LARGE ? SSL_write(one[i], large + at[i], (int)(LARGE - at[i])) : 0;
            at[i] += n > 0 ? (size_t)n : 0;
            done += at[i] == LARGE;
        }
        ERR_clear_error();
    }
    for (size_t i = 0; i < N; i++) {
        fcntl(SSL_get_fd(one[i]), F_SETFL, 0);
        read_all(one[i]);
        /* The double keeps one form for all: who begins anew spoils it for the others. */
        assert_true(strncmp(answer, "HTTP/1.1 204", 12) == 0 ||
                    strncmp(answer, "HTTP/1.1 409", 12) == 0);
        hang_up(one[i]);
    }
}

static void test_vanish(void **state)
{
    static const char head[] =
        "PUT " UPLOAD "/piece/3?offset=0" REST AUTH "Content-Length: 262144\r\n\r\n";
    (void)state;
    for (int i = 0; i < 30; i++) {
        SSL *ssl = dial_tls();
        write_all(ssl, head, sizeof(head) - 1);
        write_all(ssl, large, (size_t)i * 9000 < LARGE ? (size_t)i * 9000 : LARGE);
        hang_up(ssl);
    }
    assert_int_equal(put_at(UPLOAD "/piece/3", 0, LARGE), 204);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upload),          cmocka_unit_test(test_put),
        cmocka_unit_test(test_one_connection),  cmocka_unit_test(test_send),
        cmocka_unit_test(test_about_sent_mail), cmocka_unit_test(test_hoarders),
        cmocka_unit_test(test_crowd),           cmocka_unit_test(test_vanish),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
