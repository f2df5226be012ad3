/* Links as the web role serves them, against a store that knows a few (web_role.h), and writes down
 * what it was asked. */
#include "tests/unit/web_role.h"

#include <sys/mman.h>

#define TOTAL    150001u /* bytes of an envelope's answer and of a piece */
#define KNOWN    "/m/F6yeHQOA3mkJBaXRk3ft-g"
#define UNKNOWN  "/m/AAAAAAAAAAAAAAAAAAAAAA"
#define FOREIGN  "/m/IiIiIiIiIiIiIiIiIiIiIg" /* its sender's address is UTF-8 */
#define EXPIRING "/m/MzMzMzMzMzMzMzMzMzMzMw" /* while its piece is being fetched */
#define FULL     "/m/RERERERERERERERERERERA" /* the store has no room for its visit */
#define FAILING  "/m/VVVVVVVVVVVVVVVVVVVVVQ"
#define SLOW     "/m/3d3d3d3d3d3d3d3d3d3d3Q"
#define GATE     "Authorization: Sealpost-Gate AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\r\n"
#define WRONG    "Authorization: Sealpost-Gate AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI\r\n"

/* What the store was asked, shared with the process that plays it. */
static struct asked {
    volatile unsigned n, malformed;
    volatile enum { HONEST, LONG_PAGE, SHORT_ENVELOPE } store;
    struct question {
        uint16_t type;
        uint8_t id[16], gate[32];
        char client[64], agent[LINK_AGENT + 1];
        uint64_t offset;
        uint16_t piece;
        uint32_t bytes;
        uint8_t first;
    } list[64];
} * asked;

/* --- the store --- */

static uint8_t byte_at(uint64_t i)
{
    return (uint8_t)(i ^ i >> 8 ^ i >> 16);
}

static void put_block(struct wire_out *out, uint64_t offset, uint32_t n)
{
    static uint8_t block[65536];
    for (uint32_t i = 0; i < n; i++)
        block[i] = byte_at(offset + i);
    wire_put_bytes(out, block, n);
}

static uint32_t rest(uint64_t offset, uint32_t bytes)
{
    uint64_t left = offset < TOTAL ? TOTAL - offset : 0;
    return left < bytes ? (uint32_t)left : bytes;
}

static void read_question(uint16_t type, struct wire_in *body, struct question *q)
{
    size_t len;
    bool gated = type == SW_LINK_ENVELOPE || type == SW_LINK_PIECE;
    *q = (struct question){.type = type};
    wire_get_copy(body, q->id, sizeof(q->id));
    if (gated)
        wire_get_copy(body, q->gate, sizeof(q->gate));
    const uint8_t *name = wire_get_b16(body, sizeof(q->client) - 1, &len);
    if (name != NULL)
        memcpy(q->client, name, len);
    if (!gated) {
        const uint8_t *agent = wire_get_b16(body, LINK_AGENT, &len);
        if (agent != NULL)
            memcpy(q->agent, agent, len);
    }
    if (type == SW_LINK_ENVELOPE)
        q->offset = wire_get_u32(body);
    if (type == SW_LINK_PIECE) {
        q->piece = wire_get_u16(body);
        q->offset = wire_get_u64(body);
        q->bytes = wire_get_u32(body);
        q->first = wire_get_u8(body);
    }
    if (!wire_in_done(body) ||
        (type == SW_LINK_PIECE && (q->bytes > PART_MAX || (q->bytes == 0 && !q->first))))
        asked->malformed++;
}

static enum sp_err judge(const struct question *q)
{
    static const uint8_t good[32] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                     1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    bool gated = q->type == SW_LINK_ENVELOPE || q->type == SW_LINK_PIECE;
    if (q->id[0] == 0 || (q->id[0] == 0x33 && q->offset > 0) || q->piece > 1)
        return SP_ERR_NOT_FOUND;
    if (q->id[0] == 0x44 || q->id[0] == 0x55)
        return q->id[0] == 0x44 ? SP_ERR_NO_SPACE : SP_ERR_SYSTEM;
    return gated && memcmp(q->gate, good, sizeof(good)) != 0 ? SP_ERR_AUTH : SP_OK;
}

static void put_reply(const struct question *q, struct wire_out *out)
{
    if (q->type == SW_LINK_ENVELOPE) {
        wire_put_u64(out, 1800000000999u);
        wire_put_str(out, q->id[0] == 0x22 ? "j\xc3\xb6rg%x@example.org\r\nA: b" : "a@example.org");
        wire_put_u32(out, asked->store == SHORT_ENVELOPE ? 1 : TOTAL);
        put_block(out, q->offset, rest(q->offset, PART_MAX));
    } else if (q->type == SW_LINK_PIECE) {
        uint32_t n = rest(q->offset, q->bytes);
        wire_put_u64(out, TOTAL);
        wire_put_u32(out, n);
        put_block(out, q->offset, n);
    } else if (asked->store == LONG_PAGE) {
        wire_put_u8(out, 0);
    }
}

static bool web_store(uint16_t type, struct wire_in *body, struct wire_out *out)
{
    struct question q;
    if (type < SW_LINK_PAGE || type > SW_LINK_EXPOSED) {
        asked->malformed++;
        return false;
    }
    read_question(type, body, &q);
    if (asked->n < sizeof(asked->list) / sizeof(asked->list[0]))
        asked->list[asked->n] = q;
    asked->n++;
    if (q.id[0] == 0xdd)
        usleep(100000);
    enum sp_err err = judge(&q);
    wire_put_u8(out, (uint8_t)err);
    if (err == SP_OK)
        put_reply(&q, out);
    return true;
}

static int begin(void **state)
{
    asked = mmap(NULL, sizeof(*asked), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(asked != MAP_FAILED);
    return set_up(state);
}

static int end(void **state)
{
    int status = tear_down(state);
    status = asked->malformed == 0 ? status : -1;
    munmap(asked, sizeof(*asked));
    return status;
}

/* The one question since the last that was looked at. */
static struct question the_question(uint16_t type)
{
    assert_int_equal(asked->n, 1);
    asked->n = 0;
    assert_int_equal(asked->list[0].type, type);
    assert_string_equal(asked->list[0].client, "127.0.0.1");
    return asked->list[0];
}

static void nothing_was_asked(void)
{
    assert_int_equal(asked->n, 0);
}

/* --- the page --- */

/* The link page: the same for every link, under policies of its own; its parts for ever. */
static void test_page(void **state)
{
    static const char *const policy[] = {
        "Cache-Control: no-store\r\n", "Cross-Origin-Opener-Policy: same-origin\r\n",
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'\r\n",
        "Content-Type: text/html; charset=utf-8\r\n", "Referrer-Policy: no-referrer\r\n"};
    static const char *const same[] = {FOREIGN, KNOWN "?", KNOWN "?utm_source=x&utm=%20",
                                       KNOWN "?after=x", KNOWN "?%24"};
    static const uint8_t id[2] = {0x17, 0xac};
    char path[128], tag[64], first[8192];
    (void)state;
    assert_int_equal(ask("GET " KNOWN REST "\r\n"), 200);
    assert_memory_equal(the_question(SW_LINK_PAGE).id, id, 2);
    for (size_t i = 0; i < sizeof(policy) / sizeof(policy[0]); i++)
        assert_true(has(policy[i]));
    assert_null(strstr(strstr(answer, "Content-Security-Policy") + 1, "Content-Security-Policy"));
    assert_true(strlen(body()) < sizeof(first));
    snprintf(first, sizeof(first), "%s", body());
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        assert_int_equal(ask("GET %s" REST "\r\n", same[i]), 200);
        assert_string_equal(body(), first);
        the_question(SW_LINK_PAGE);
    }
    assert_int_equal(ask("HEAD " KNOWN REST "\r\n"), 200);
    assert_string_equal(body(), "");
    snprintf(tag, sizeof(tag), "Content-Length: %zu\r\n", strlen(first));
    assert_true(has(tag));
    the_question(SW_LINK_PAGE);
    assert_int_equal(ask("POST " KNOWN REST "\r\n"), 405);
    assert_true(has("Allow: GET, HEAD\r\n"));
    nothing_was_asked();

    const char *at = strstr(first, "/page/");
    snprintf(path, sizeof(path), "%.*s/sealed.js", (int)strcspn(at + 6, "/") + 6, at);
    assert_int_equal(ask("GET %s" REST "\r\n", path), 200);
    assert_true(has("immutable\r\n") && has("Content-Type: text/javascript"));
    assert_false(has("no-store"));
    assert_int_equal(sscanf(strstr(answer, "ETag: "), "ETag: %63[^\r]", tag), 1);
    assert_int_equal(ask("GET %s" REST "If-None-Match: %s\r\n\r\n", path, tag), 304);
    assert_string_equal(body(), "");
    assert_int_equal(ask("GET %s" REST "If-None-Match: \"x\"\r\n\r\n", path), 200);
    assert_int_equal(ask("GET %sx" REST "\r\n", path), 404);
    path[7] ^= 1; /* of another build */
    assert_int_equal(ask("GET %s" REST "\r\n", path), 404);
    nothing_was_asked();
}

/* One answer for all that is not there; what is no link at all is not asked about. */
static void test_gone(void **state)
{
    char first[8192];
    (void)state;
    assert_int_equal(ask("GET " UNKNOWN REST "\r\n"), 404);
    the_question(SW_LINK_PAGE);
    assert_true(has("<html") && has("trusted-types 'none'") && has("no-store"));
    assert_true(strlen(answer) < sizeof(first));
    snprintf(first, sizeof(first), "%s", answer);
    static const char *const same[] = {UNKNOWN "?x=y", UNKNOWN "%23secret.digest", KNOWN "x",
                                       "/m/cut?utm=x", "/m/cut%23secret"};
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        assert_int_equal(ask("GET %s" REST "\r\n", same[i]), 404);
        assert_string_equal(body(), strstr(first, "\r\n\r\n") + 4);
        assert_int_equal(strlen(answer), strlen(first));
        assert_int_equal(asked->n, i < 2);
        asked->n = 0;
    }
    assert_int_equal(ask("GET " KNOWN "/" REST "\r\n"), 404);
    assert_int_equal(ask("GET " KNOWN "/x" REST "\r\n"), 404);
    assert_int_equal(ask("GET /m/" REST "\r\n"), 404);
    nothing_was_asked();
}

/* The secret came in path or query: the page all the same, and the store hears that it did. */
static void test_exposed(void **state)
{
    static const char *const exposed[] = {KNOWN "%23secret.digest",
                                          KNOWN "%2523secret.digest",
                                          KNOWN "%23",
                                          KNOWN "?utm=x%23secret.digest",
                                          KNOWN "?%2523s.d",
                                          KNOWN "%23secret.digest?utm_tag=x",
                                          KNOWN "%23s?x%23y"};
    (void)state;
    for (size_t i = 0; i < sizeof(exposed) / sizeof(exposed[0]); i++) {
        assert_int_equal(ask("GET %s" REST "\r\n", exposed[i]), 200);
        assert_true(has("type=\"module\"") && !has("secret"));
        the_question(SW_LINK_EXPOSED);
    }
    assert_int_equal(ask("HEAD %s" REST "\r\n", exposed[0]), 200);
    the_question(SW_LINK_EXPOSED);
}

/* --- ciphertext --- */

static void check_bytes(uint64_t first, uint64_t count)
{
    const uint8_t *b = (const uint8_t *)body();
    char length[64];
    snprintf(length, sizeof(length), "Content-Length: %u\r\n", (unsigned)count);
    assert_true(has(length));
    for (uint64_t i = 0; i < count; i++)
        if (b[i] != byte_at(first + i))
            fail_msg("byte %u differs", (unsigned)i);
}

/* Who has no gate, or another one, gets nothing; the store, and with it the log, hears of all. */
static void test_gate(void **state)
{
    static const char *const parts[] = {"/envelope", "/piece/0"};
    static const uint16_t types[] = {SW_LINK_ENVELOPE, SW_LINK_PIECE};
    static const char *const none[] = {
        "", "Authorization: Sealpost-Session AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\r\n",
        "Authorization: Sealpost-Gate\r\n", "Authorization: Sealpost-Gate AQEB\r\n",
        "Authorization: Basic AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\r\n"};
    static const uint8_t zero[32] = {0}, two[1] = {2};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        for (size_t k = 0; k < sizeof(none) / sizeof(none[0]); k++) {
            assert_int_equal(ask("GET " KNOWN "%s" REST "%s\r\n", parts[i], none[k]), 401);
            assert_true(has("WWW-Authenticate: Sealpost-Gate\r\n") && has("no-store"));
            assert_memory_equal(the_question(types[i]).gate, zero, sizeof(zero));
        }
        assert_int_equal(ask("GET " KNOWN "%s" REST WRONG "\r\n", parts[i]), 403);
        assert_false(has("WWW-Authenticate"));
        assert_memory_equal(the_question(types[i]).gate, two, 1);
        assert_int_equal(ask("GET " UNKNOWN "%s" REST GATE "\r\n", parts[i]), 404);
        the_question(types[i]);
        assert_int_equal(ask("GET " UNKNOWN "%s" REST "\r\n", parts[i]), 404);
        the_question(types[i]);
        assert_int_equal(ask("GET " KNOWN "%s" REST GATE GATE "\r\n", parts[i]), 400);
        assert_int_equal(ask("DELETE " KNOWN "%s" REST GATE "\r\n", parts[i]), 405);
        nothing_was_asked();
    }
}

static void test_envelope(void **state)
{
    (void)state;
    assert_int_equal(ask("GET " KNOWN "/envelope" REST GATE "\r\n"), 200);
    assert_true(has("Sealpost-Sender: a@example.org\r\n"));
    assert_true(has("Sealpost-Expires: 1800000000\r\n"));
    assert_true(has("Cache-Control: no-store\r\n") && has("application/octet-stream\r\n"));
    assert_false(has("Accept-Ranges"));
    check_bytes(0, TOTAL);
    assert_int_equal(asked->n, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(asked->list[i].offset, i * PART_MAX);
    asked->n = 0;
    assert_int_equal(ask("HEAD " KNOWN "/envelope" REST GATE "\r\n"), 200);
    assert_true(has("Content-Length: 150001\r\n") && has("Sealpost-Sender: a@example.org\r\n"));
    assert_string_equal(body(), "");
    the_question(SW_LINK_ENVELOPE);
    assert_int_equal(ask("GET " FOREIGN "/envelope?x=y" REST GATE "\r\n"), 200);
    assert_true(has("Sealpost-Sender: j%C3%B6rg%25x@example.org%0D%0AA:%20b\r\n"));
    asked->n = 0;
}

static void test_piece(void **state)
{
    static const struct {
        const char *range;
        int code;
        unsigned first, count, questions;
    } cases[] = {
        {"", 200, 0, TOTAL, 3},
        {"Range: bytes=10-70009\r\n", 206, 10, 70000, 3},
        {"Range: bytes=-5\r\n", 206, TOTAL - 5, 5, 2},
        {"Range: bytes=150000-\r\n", 206, 150000, 1, 2},
        {"Range: bytes=0-1,3-4\r\n", 200, 0, TOTAL, 3},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(ask("GET " KNOWN "/piece/1" REST GATE "%s\r\n", cases[i].range),
                         cases[i].code);
        assert_true(has("Accept-Ranges: bytes\r\n") && has("Cache-Control: no-store\r\n"));
        check_bytes(cases[i].first, cases[i].count);
        assert_int_equal(asked->n, cases[i].questions);
        for (unsigned k = 0; k < asked->n; k++) { /* the log has one event for one request */
            assert_int_equal(asked->list[k].first, k == 0);
            assert_int_equal(asked->list[k].piece, 1);
        }
        asked->n = 0;
    }
    assert_int_equal(ask("GET " KNOWN "/piece/1" REST GATE "Range: bytes=150001-\r\n\r\n"), 416);
    assert_true(has("Content-Range: bytes */150001\r\n"));
    assert_int_equal(the_question(SW_LINK_PIECE).first, 1);
    assert_int_equal(ask("HEAD " KNOWN "/piece/0" REST GATE "\r\n"), 200);
    assert_true(has("Content-Length: 150001\r\n"));
    assert_string_equal(body(), "");
    the_question(SW_LINK_PIECE);
    assert_int_equal(ask("GET " KNOWN "/piece/2" REST GATE "\r\n"), 404);
    the_question(SW_LINK_PIECE);
    assert_int_equal(ask("GET " KNOWN "/piece/65536" REST GATE "\r\n"), 404);
    assert_int_equal(ask("GET " KNOWN "/piece/01" REST GATE "\r\n"), 404);
    nothing_was_asked();
}

/* Whoever visits a link and cannot have its page is told so in words; a script gets JSON. */
static void test_not_now(void **state)
{
    static const struct {
        const char *path;
        int code;
    } cases[] = {{FULL, 503},           {FULL "%23secret", 503}, {FULL "?x=%23y", 503},
                 {FAILING, 500},        {FULL "/envelope", 503}, {FAILING "/envelope", 500},
                 {FULL "/piece/0", 503}};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool page =
            strstr(cases[i].path, "/envelope") == NULL && strstr(cases[i].path, "/piece") == NULL;
        assert_int_equal(ask("GET %s" REST GATE "\r\n", cases[i].path), cases[i].code);
        assert_int_equal(has("Retry-After: 2\r\n"), cases[i].code == 503);
        assert_int_equal(has("<h1>This server is busy</h1>"), page);
        assert_int_equal(has("text/html"), page);
        assert_int_equal(has("\r\n\r\n{\"error\":"), !page);
        assert_false(has("<script") || has("secret"));
        asked->n = 0;
    }
}

/* It ended half-way: what is missing can be seen. */
static void test_expires_while_fetched(void **state)
{
    static const char *const parts[] = {"/piece/0", "/envelope"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(ask("GET " EXPIRING "%s" REST GATE "\r\n", parts[i]), 200);
        assert_true(has("Content-Length: 150001\r\n"));
        const char *end_of_header = strstr(answer, "\r\n\r\n");
        assert_non_null(end_of_header);
        assert_int_equal(asked->n, 2);
        asked->n = 0;
    }
}

/* Clients that go at any time, and requests upon requests. */
static void test_vanish(void **state)
{
    static const char *const requests[] = {
        "GET " SLOW REST "\r\n", "GET " SLOW "/envelope" REST GATE "\r\n",
        "GET " SLOW "/piece/0" REST GATE "\r\n", "GET " KNOWN "/piece/0" REST GATE "\r\n",
        "GET " SLOW "%23secret" REST "\r\n"};
    (void)state;
    for (int i = 0; i < 40; i++) {
        const char *request = requests[i % 5];
        SSL *ssl = dial_tls();
        SSL_write(ssl, request, (int)strlen(request));
        if (i % 5 == 3)
            SSL_read(ssl, answer, 1000); /* in the middle of a stream */
        hang_up(ssl);
    }
    assert_int_equal(ask("GET " SLOW REST "\r\n"), 200);
    asked->n = 0;
    assert_int_equal(
        ask("GET " UNKNOWN " HTTP/1.1\r\nHost: x\r\n\r\nGET " KNOWN "/envelope" REST GATE "\r\n"),
        404);
    assert_true(has("HTTP/1.1 200 OK") && has("Sealpost-Sender"));
    asked->n = 0;
}

static void test_malformed(void **state)
{
    char big[3000];
    (void)state;
    memset(big, 'x', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    assert_int_equal(ask("GET " KNOWN "?%s" REST "\r\n", big), 414);
    assert_int_equal(ask("GET " KNOWN "?\x80" REST "\r\n"), 400);
    assert_int_equal(ask("GET " KNOWN REST "Content-Length: 3\r\n\r\nabc"), 413);
    assert_int_equal(ask("GET " KNOWN "/envelope" REST GATE "Content-Length: 3\r\n\r\nabc"), 413);
    assert_int_equal(ask("GET /M/F6yeHQOA3mkJBaXRk3ft-g" REST "\r\n"), 404);
    assert_int_equal(ask("GET /m/../m/F6yeHQOA3mkJBaXRk3ft-g" REST "\r\n"), 404);
    nothing_was_asked();
}

/* A store that does not keep to its format: the edge ends, and nothing of it goes out. */
static void test_broken_store(void **state)
{
    static const char *const requests[] = {"", KNOWN, KNOWN "/envelope"};
    (void)state;
    for (int store = LONG_PAGE; store <= SHORT_ENVELOPE; store++) {
        assert_int_equal(begin(state), 0);
        asked->store = store;
        assert_int_equal(ask("GET %s" REST GATE "\r\n", requests[store]), 0);
        assert_int_equal(end(state), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page),      cmocka_unit_test(test_gone),
        cmocka_unit_test(test_exposed),   cmocka_unit_test(test_gate),
        cmocka_unit_test(test_envelope),  cmocka_unit_test(test_piece),
        cmocka_unit_test(test_vanish),    cmocka_unit_test(test_expires_while_fetched),
        cmocka_unit_test(test_malformed), cmocka_unit_test(test_not_now),
    };
    const struct CMUnitTest broken[] = {cmocka_unit_test(test_broken_store)};
    int failed = cmocka_run_group_tests(tests, begin, end);
    return failed + cmocka_run_group_tests(broken, NULL, NULL);
}
