/* The parsers of the web role: what they take, and above all what they do not. */
#include "daemon/web/parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define ID       "0123456789abcdefABCDEF0123456789"
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void test_target(void **state)
{
    size_t len;
    const char *query;
    char longest[PARSE_MAX_TARGET + 2];
    (void)state;
    assert_int_equal(target_split("/healthz", &len, &query), SP_OK);
    assert_int_equal(len, 8);
    assert_null(query);
    assert_int_equal(target_split("/a?b?c", &len, &query), SP_OK);
    assert_int_equal(len, 2);
    assert_string_equal(query, "b?c");
    static const char *const bad[] = {"",     "*",     "http://h/x", "h:1",   "/a b",
                                      "/a#b", "/\x01", "/\xc3",      "/a\x7f"};
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_int_equal(target_split(bad[i], &len, &query), SP_ERR_FORMAT);
    memset(longest, '/', sizeof(longest));
    longest[PARSE_MAX_TARGET] = '\0';
    assert_int_equal(target_split(longest, &len, &query), SP_OK);
    longest[PARSE_MAX_TARGET] = '/';
    longest[PARSE_MAX_TARGET + 1] = '\0';
    assert_int_equal(target_split(longest, &len, &query), SP_ERR_LIMIT);
}

static bool match(const char *pattern, const char *path, struct path_args *args)
{
    return path_match(pattern, path, strlen(path), args);
}

static void test_path(void **state)
{
    static const char piece[] = "/v1/message/{id}/piece/{piece}";
    static const char *const bad[] = {
        "",
        "/",
        "/v1/message/" ID,
        "/v1/message/" ID "/piece/",
        "/v1/message/" ID "/piece/00",
        "/v1/message/" ID "/piece/-1",
        "/v1/message/" ID "/piece/+1",
        "/v1/message/" ID "/piece/65536",
        "/v1/message/" ID "/piece/1/",
        "/v1/message/" ID "0/piece/1",
        "/v1//message/" ID "/piece/1",
        "/V1/message/" ID "/piece/1",
        "/v1/message/0123456789abcdefABCDEF012345678g/piece/1",
        "v1/message/" ID "/piece/1",
    };
    static const uint8_t id[16] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
                                   0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89};
    struct path_args args;
    (void)state;
    assert_true(match(piece, "/v1/message/" ID "/piece/65535", &args));
    assert_memory_equal(args.id, id, sizeof(id));
    assert_int_equal(args.piece, 65535);
    assert_true(match(piece, "/v1/message/" ID "/piece/0", &args));
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(match(piece, bad[i], &args));
    assert_true(match("/healthz", "/healthz", &args));
    assert_false(match("/healthz", "/healthz/", &args));
    assert_false(match("/healthz", "/healthzz", &args));
    assert_false(match("/healthz", "/health%7a", &args)); /* nothing is normalised */
}

static void test_address(void **state)
{
    static const char pattern[] = "/v1/sigchain/{address}";
    static const char *const bad[] = {
        "/v1/sigchain/",      "/v1/sigchain/a%",    "/v1/sigchain/a%4",   "/v1/sigchain/a%4x",
        "/v1/sigchain/a%00b", "/v1/sigchain/a%0ab", "/v1/sigchain/a%7fb", "/v1/sigchain/a/b"};
    char longest[32 + PARSE_MAX_ADDRESS + 2] = "/v1/sigchain/";
    struct path_args args;
    (void)state;
    assert_true(match(pattern, "/v1/sigchain/a.b+c%40ex%C3%A4mple.org", &args));
    assert_int_equal(args.address_len, 18);
    assert_memory_equal(args.address, "a.b+c@ex\xc3\xa4mple.org", 18);
    assert_true(match(pattern, "/v1/sigchain/a%2Fb", &args)); /* a slash within, encoded */
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(match(pattern, bad[i], &args));
    memset(longest + 13, 'x', PARSE_MAX_ADDRESS);
    assert_true(match(pattern, longest, &args));
    longest[13 + PARSE_MAX_ADDRESS] = 'x';
    assert_false(match(pattern, longest, &args));
}

#define LINK "F6yeHQOA3mkJBaXRk3ft-g"

static void test_link(void **state)
{
    static const uint8_t id[16] = {0x17, 0xac, 0x9e, 0x1d, 0x03, 0x80, 0xde, 0x69,
                                   0x09, 0x05, 0xa5, 0xd1, 0x93, 0x77, 0xed, 0xfa};
    static const char *const exposed[] = {"/m/" LINK "%23", "/m/" LINK "%23secret.digest",
                                          "/m/" LINK "%2523secret.digest", "/m/" LINK "%23%23"};
    static const char *const other[] = {
        "/m/x",           "/m/" LINK "A", "/m/F6yeHQOA3mkJBaXRk3ft-",
        "/m/" LINK "%24", "/m/" LINK "=", "/m/F6yeHQOA3mkJBaXRk3ft-h", /* stray bits */
        "/m/" LINK "%2",  "/m/%23" LINK};
    struct path_args args;
    (void)state;
    assert_true(match("/m/{link}", "/m/" LINK, &args));
    assert_memory_equal(args.id, id, sizeof(id));
    assert_false(match("/m/{exposed}", "/m/" LINK, &args));
    assert_false(match("/m/{other}", "/m/" LINK, &args));
    for (size_t i = 0; i < COUNT(exposed); i++) {
        assert_true(match("/m/{exposed}", exposed[i], &args));
        assert_memory_equal(args.id, id, sizeof(id));
        assert_false(match("/m/{link}", exposed[i], &args));
        assert_false(match("/m/{other}", exposed[i], &args));
    }
    for (size_t i = 0; i < COUNT(other); i++) {
        assert_true(match("/m/{other}", other[i], &args));
        assert_false(match("/m/{link}", other[i], &args));
        assert_false(match("/m/{exposed}", other[i], &args));
    }
    assert_false(match("/m/{other}", "/m/", &args));
    assert_false(match("/m/{other}", "/m/a/b", &args));
}

static void test_link_parts(void **state)
{
    static const char *const bad[] = {"/m/" LINK "/piece/",    "/m/" LINK "/piece/65536",
                                      "/m/" LINK "/piece/x",   "/m/" LINK "%23/piece/1",
                                      "/m/" LINK "/envelope/", "/m//envelope"};
    struct path_args args;
    (void)state;
    assert_true(match("/m/{link}/envelope", "/m/" LINK "/envelope", &args));
    assert_int_equal(args.id[15], 0xfa);
    assert_true(match("/m/{link}/piece/{piece}", "/m/" LINK "/piece/255", &args));
    assert_int_equal(args.piece, 255);
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_false(match("/m/{link}/envelope", bad[i], &args));
        assert_false(match("/m/{link}/piece/{piece}", bad[i], &args));
    }
}

static void test_asset(void **state)
{
    static const char pattern[] = "/page/{build}/{asset}";
    static const char *const bad[] = {"/page/0a/",
                                      "/page//view.js",
                                      "/page/0a/View.js",
                                      "/page/0a/a%2e",
                                      "/page/0a/view/js",
                                      "/page/view.js",
                                      "/page/0a/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    struct path_args args;
    (void)state;
    assert_true(match(pattern, "/page/0a/view.js", &args));
    assert_string_equal(args.build, "0a");
    assert_string_equal(args.asset, "view.js");
    assert_true(match(pattern, "/page/0a/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &args));
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(match(pattern, bad[i], &args));
}

static void test_query(void **state)
{
    static const char *const bad[] = {"",
                                      "after",
                                      "after=",
                                      "after=x",
                                      "after=-1",
                                      "after= 1",
                                      "after=01",
                                      "after=1&",
                                      "&after=1",
                                      "after=1&&limit=1",
                                      "after=1&after=2",
                                      "limit=0",
                                      "other=1",
                                      "AFTER=1",
                                      "after=1&x=2",
                                      "=1",
                                      "after=18446744073709551616",
                                      "after=99999999999999999999999"};
    const unsigned both = QUERY_AFTER | QUERY_LIMIT;
    struct query q;
    (void)state;
    assert_int_equal(query_parse(NULL, 0, &q), SP_OK);
    assert_int_equal(q.limit, PARSE_LIST_DEFAULT);
    assert_int_equal(query_parse("limit=7&after=18446744073709551615", both, &q), SP_OK);
    assert_int_equal(q.limit, 7);
    assert_true(q.after == UINT64_MAX);
    assert_int_equal(query_parse("limit=100000", both, &q), SP_OK);
    assert_int_equal(q.limit, PARSE_LIST_MAX - 1);
    assert_int_equal(query_parse("limit=7", QUERY_AFTER, &q), SP_ERR_FORMAT);
    assert_int_equal(query_parse("offset=18446744073709551615", QUERY_OFFSET, &q), SP_OK);
    assert_int_equal(q.offset, UINT64_MAX);
    assert_int_equal(query_parse(NULL, QUERY_OFFSET, &q), SP_OK);
    assert_int_equal(q.offset, 0);
    assert_int_equal(query_parse("offset=18446744073709551616", QUERY_OFFSET, &q), SP_ERR_FORMAT);
    assert_int_equal(query_parse("offset=1&offset=1", QUERY_OFFSET, &q), SP_ERR_FORMAT);
    assert_int_equal(query_parse("offset=1", both, &q), SP_ERR_FORMAT);
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_int_equal(query_parse(bad[i], both, &q), SP_ERR_FORMAT);
}

/* What a mail filter hangs on a link is not looked at, but for a "#" that it rewrote. */
static void test_query_of_a_link(void **state)
{
    static const char *const plain[] = {NULL, "", "utm_source=x&utm=y", "%2", "%24", "%252", "23"};
    static const char *const marked[] = {"%23", "u=1%23secret.digest", "u=1%2523secret.digest"};
    struct query q;
    (void)state;
    for (size_t i = 0; i < COUNT(plain); i++) {
        assert_int_equal(query_parse(plain[i], QUERY_ANY, &q), SP_OK);
        assert_false(query_is_marked(plain[i]));
    }
    for (size_t i = 0; i < COUNT(marked); i++) {
        assert_int_equal(query_parse(marked[i], QUERY_MARKED, &q), SP_OK);
        assert_true(query_is_marked(marked[i]));
    }
}

static void test_range(void **state)
{
    static const struct {
        const char *header;
        uint64_t total, first, count; /* count 0: cannot be satisfied */
    } good[] = {
        {NULL, 10, 0, 10},
        {"bytes=0-0", 10, 0, 1},
        {"bytes=2-5", 10, 2, 4},
        {"BYTES=9-100", 10, 9, 1},
        {"bytes=4-", 10, 4, 6},
        {"bytes=-3", 10, 7, 3},
        {"bytes=-30", 10, 0, 10},
        {"bytes=0-18446744073709551615", 10, 0, 10},
        {"bytes=10-", 10, 0, 0},
        {"bytes=10-11", 10, 0, 0},
        {"bytes=-0", 10, 0, 0},
        {"bytes=0-", 0, 0, 0},
        {"bytes=5-2", 10, 0, 10},
        {"bytes=", 10, 0, 10}, /* malformed: all of it */
        {"bytes=-", 10, 0, 10},
        {"bytes=1-2,4-5", 10, 0, 10},
        {"bytes= 1-2", 10, 0, 10},
        {"bytes=1 -2", 10, 0, 10},
        {"bytes=01-2", 10, 0, 10},
        {"pieces=1-2", 10, 0, 10},
        {"bytes=1-99999999999999999999", 10, 0, 10},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        uint64_t first, count;
        struct range r = range_parse(good[i].header);
        enum sp_err err = range_apply(&r, good[i].total, &first, &count);
        assert_int_equal(err, good[i].count > 0 ? SP_OK : SP_ERR_NOT_FOUND);
        if (err == SP_OK) {
            assert_int_equal(first, good[i].first);
            assert_int_equal(count, good[i].count);
        }
    }
}

#define TOKEN "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

static void test_auth(void **state)
{
    static const char *const bad[] = {
        NULL,
        "",
        TOKEN,
        "Bearer " TOKEN,
        "Sealpost-Session",
        "Sealpost-Session ",
        "Sealpost-Session  " TOKEN,
        "Sealpost-Session " TOKEN " ",
        "Sealpost-Session " TOKEN "=",
        "Sealpost-Session " TOKEN "A",
        "Sealpost-Session AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9", /* stray bits */
        "Sealpost-Session AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh",
        "Sealpost-Session AAECA\222QFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "Sealpost-Session +AECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "Sealpost-Session:" TOKEN,
        "Sealpost-Gate " TOKEN,
    };
    uint8_t token[PARSE_TOKEN], zero[PARSE_TOKEN] = {0};
    (void)state;
    assert_int_equal(auth_parse("sealpost-session " TOKEN, AUTH_SESSION, token), SP_OK);
    for (size_t i = 0; i < sizeof(token); i++)
        assert_int_equal(token[i], i);
    assert_int_equal(auth_parse("Sealpost-Gate " TOKEN, AUTH_GATE, token), SP_OK);
    assert_int_equal(auth_parse("Sealpost-Session " TOKEN, AUTH_GATE, token), SP_ERR_AUTH);
    for (size_t i = 0; i < COUNT(bad); i++) {
        memset(token, 1, sizeof(token));
        assert_int_equal(auth_parse(bad[i], AUTH_SESSION, token), SP_ERR_AUTH);
        assert_memory_equal(token, zero, sizeof(token));
    }
}

static void test_error(void **state)
{
    char out[32];
    size_t len;
    (void)state;
    assert_int_equal(error_json("not \"found\"", out, sizeof(out), &len), SP_OK);
    assert_int_equal(len, 26);
    assert_memory_equal(out, "{\"error\": \"not \\\"found\\\"\"}", 26);
    assert_int_equal(error_json("much too long to fit", out, sizeof(out), &len), SP_ERR_LIMIT);
    assert_int_equal(error_json("\xff", out, sizeof(out), &len), SP_ERR_FORMAT);
}

static void test_field(void **state)
{
    static const char *const good[][2] = {
        {"Content-Length", "0"},      {"content-length", "999999999999999999"},
        {"Host", "mail.example.org"}, {"host", "[2001:db8::1]:443"},
        {"X-a_b.c~!", "\xff, any:"},  {"Accept", ""}};
    static const char *const bad[][2] = {{"Content-Length ", "0"},
                                         {"Content-Length\t", "0"},
                                         {" Content-Length", "0"},
                                         {"Content-Length", ""},
                                         {"Content-Length", "+5"},
                                         {"Content-Length", " 5"},
                                         {"Content-Length", "-0"},
                                         {"Content-Length", "0x5"},
                                         {"Content-Length", "5, 5"},
                                         {"CONTENT-LENGTH", "5\t"},
                                         {"Host", ""},
                                         {"Host", "a b"},
                                         {"Host", "a/b"},
                                         {"Host", "a@b"},
                                         {"Host", "a\x80"},
                                         {"", "x"},
                                         {"A\x80", "x"},
                                         {"A(b)", "x"},
                                         {"A\"b", "x"},
                                         {"Content-Length", "1000000000000000000"}};
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(field_is_plain(good[i][0], good[i][1]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(field_is_plain(bad[i][0], bad[i][1]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_field),
        cmocka_unit_test(test_target),
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_address),
        cmocka_unit_test(test_link),
        cmocka_unit_test(test_link_parts),
        cmocka_unit_test(test_asset),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_query_of_a_link),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_auth),
        cmocka_unit_test(test_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
