/* DKIM: the canonicalisations with the examples of RFC 6376 3.4.5, the message of RFC 8463 appendix
 * A (its own two signatures verify over what we canonicalise), any cut of the input, what must be
 * known of a message, From fields good and bad. That others verify what we make is
 * tests/system/test_dkim.py. */
#include "daemon/relay/dkim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))

/* --- canonicalisation --- */

struct collected {
    char bytes[8192];
    size_t len;
};

static void collect(void *ctx, const void *bytes, size_t len)
{
    struct collected *c = ctx;
    assert_true(len <= sizeof(c->bytes) - c->len);
    memcpy(c->bytes + c->len, bytes, len);
    c->len += len;
}

static void expect_body(const char *in, size_t len, const char *out, size_t out_len)
{
    for (size_t cut = 1; cut <= len + 1; cut++) {
        struct collected c = {.len = 0};
        struct canon_body b;
        canon_body_init(&b, collect, &c);
        for (size_t at = 0; at < len; at += cut)
            canon_body_push(&b, in + at, cut < len - at ? cut : len - at);
        canon_body_end(&b);
        assert_int_equal(c.len, out_len);
        assert_memory_equal(c.bytes, out, out_len);
    }
}

static void test_body(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n"}, /* RFC 6376 3.4.5 */
        {"", ""},
        {"\r\n", ""},
        {"\r\n\r\n\r\n", ""},
        {" \t\r\n \r\n", ""},
        {" ", ""},
        {"a", "a\r\n"},
        {"a \t", "a\r\n"},
        {"a\r\n\r\n \r\n", "a\r\n"},
        {"\r\n\r\na\r\n", "\r\n\r\na\r\n"},
        {"a\r\n \t\r\nb", "a\r\n\r\nb\r\n"},
        {"a\t\tb  c\r\n", "a b c\r\n"},
        {"a\rb\r\n", "a\rb\r\n"},
        {"a \r \r\n", "a \r\r\n"},
        {"a\nb", "a\nb\r\n"},
        {"a\r", "a\r\r\n"},
        {"\r\r\n", "\r\r\n"},
    };
    for (size_t i = 0; i < N(cases); i++)
        expect_body(cases[i].in, strlen(cases[i].in), cases[i].out, strlen(cases[i].out));
    expect_body("a\0b \r\n", 6, "a\0b\r\n", 5);
}

static void test_body_of_empty_lines(void **state)
{
    (void)state;
    static const char line[] = "\r\n";
    uint8_t hash[2][32];
    for (int end = 0; end < 2; end++) {
        struct canon_body b;
        struct collected c = {.len = 0};
        canon_body_init(&b, collect, &c);
        for (int i = 0; i < 2000; i++)
            canon_body_push(&b, line, 2);
        if (end)
            canon_body_push(&b, "x", 1);
        canon_body_end(&b);
        assert_int_equal(c.len, end ? 4003 : 0);
        EVP_Digest(c.bytes, c.len, hash[end], NULL, EVP_sha256(), NULL);
    }
    assert_memory_not_equal(hash[0], hash[1], 32);
}

static void test_field(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"A: X\r\n", "a:X"}, /* RFC 6376 3.4.5 */
        {"B : Y\t\r\n\tZ  \r\n", "b:Y Z"},
        {"Subject:no blank", "subject:no blank"},
        {"SUBJect: AbC\r\n", "subject:AbC"},
        {"s:", "s:"},
        {"s: \t \r\n", "s:"},
        {"s:\r\n a\r\n\t b\r\n", "s:a b"},
        {"s: a:b : c", "s:a:b : c"},
        {"s: a\rb\nc", "s:a\rb\nc"},
    };
    char out[64];
    for (size_t i = 0; i < N(cases); i++) {
        size_t n = canon_field(cases[i].in, strlen(cases[i].in), out);
        assert_int_equal(n, strlen(cases[i].out));
        assert_memory_equal(out, cases[i].out, n);
    }
    assert_int_equal(canon_field("no colon", 8, out), 0);
    assert_int_equal(canon_field("", 0, out), 0);
}

/* --- RFC 8463 appendix A --- */

static const char message[] = "From: Joe SixPack <joe@football.example.com>\r\n"
                              "To: Suzie Q <suzie@shopping.example.net>\r\n"
                              "Subject: Is dinner ready?\r\n"
                              "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
                              "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
                              "\r\n"
                              "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
static const char body_hash[] = "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=";
static const char ed25519_secret[] = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
static const char ed25519_public[] = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
static const char rsa_public[] =
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16"
    "JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2Ee"
    "C3Ip3G+2kryOTIKT+l/K4w3QIDAQAB";
static const char ed25519_field[] = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
                                    " d=football.example.com; i=@football.example.com;\r\n"
                                    " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
                                    " subject : date : message-id : from : subject : date;\r\n"
                                    " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=";
static const char ed25519_signature[] =
    "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==";
static const char rsa_field[] = "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n"
                                " d=football.example.com; i=@football.example.com;\r\n"
                                " q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n"
                                " date : message-id : from : subject : date;\r\n"
                                " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=";
static const char rsa_signature[] =
    "F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mP"
    "YQTnGdaSGsgeefOsk2JzdA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=";

static size_t decode(const char *base64, uint8_t *out)
{
    int n = EVP_DecodeBlock(out, (const unsigned char *)base64, (int)strlen(base64));
    assert_true(n > 0);
    size_t len = (size_t)n, end = strlen(base64);
    while (base64[--end] == '=')
        len--;
    return len;
}

static bool verifies(EVP_PKEY *key, bool rsa, const uint8_t *hash, const char *signature)
{
    uint8_t sig[512];
    size_t len = decode(signature, sig);
    if (rsa) {
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
        bool ok = EVP_PKEY_verify_init(ctx) == 1 &&
                  EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) == 1 &&
                  EVP_PKEY_verify(ctx, sig, len, hash, 32) == 1;
        EVP_PKEY_CTX_free(ctx);
        return ok;
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
              EVP_DigestVerify(ctx, sig, len, hash, 32) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

/* The header hash as the RFC's own fields ask for it: five fields, and of those named twice nothing
 * more is there. */
static void hash_of_rfc(const char *field, uint8_t hash[32])
{
    char all[4096], *at = all;
    const char *line = message;
    for (int i = 0; i < 5; i++) {
        const char *end = strstr(line, "\r\n") + 2;
        at += canon_field(line, (size_t)(end - line), at);
        memcpy(at, "\r\n", 2);
        at += 2;
        line = end;
    }
    at += canon_field(field, strlen(field), at);
    EVP_Digest(all, (size_t)(at - all), hash, NULL, EVP_sha256(), NULL);
}

static EVP_PKEY *rsa_key(void)
{
    uint8_t der[512];
    const uint8_t *at = der;
    size_t len = decode(rsa_public, der);
    return d2i_PUBKEY(NULL, &at, (long)len);
}

static EVP_PKEY *ed25519_key(bool secret)
{
    uint8_t raw[64];
    size_t len = decode(secret ? ed25519_secret : ed25519_public, raw);
    return secret ? EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, raw, len)
                  : EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, raw, len);
}

static void test_rfc_8463(void **state)
{
    (void)state;
    uint8_t hash[32];
    EVP_PKEY *rsa = rsa_key(), *ed = ed25519_key(false);
    hash_of_rfc(ed25519_field, hash);
    assert_true(verifies(ed, false, hash, ed25519_signature));
    hash[0] ^= 1;
    assert_false(verifies(ed, false, hash, ed25519_signature));
    hash_of_rfc(rsa_field, hash);
    assert_true(verifies(rsa, true, hash, rsa_signature));
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ed);
}

/* --- the whole --- */

static struct dkim *read_message(const char *bytes, size_t len, size_t cut)
{
    struct dkim *k = calloc(1, sizeof(*k));
    assert_int_equal(dkim_begin(k), SP_OK);
    for (size_t at = 0; at < len; at += cut)
        assert_int_equal(dkim_push(k, bytes + at, cut < len - at ? cut : len - at), SP_OK);
    assert_int_equal(dkim_end(k), SP_OK);
    return k;
}

static struct dkim *read_text(const char *text)
{
    return read_message(text, strlen(text), 4096);
}

static void end_message(struct dkim *k)
{
    dkim_free(k);
    free(k);
}

static const struct dkim_key rfc_key = {.algorithm = DKIM_ED25519_SHA256,
                                        .selector = "brisbane",
                                        .domain = "football.example.com",
                                        .time_s = 1528637909};

static void test_whole(void **state)
{
    (void)state;
    uint8_t first[32], hash[32], sig[64];
    char field[DKIM_MAX + 1];
    size_t sig_len = sizeof(sig), len;
    for (size_t cut = 1; cut < sizeof(message); cut++) {
        struct dkim *k = read_message(message, sizeof(message) - 1, cut);
        char expected[128];
        assert_int_equal(dkim_hash(k, &rfc_key, hash), SP_OK);
        if (cut == 1)
            memcpy(first, hash, sizeof(hash));
        assert_memory_equal(hash, first, sizeof(hash));
        memset(sig, 7, sizeof(sig));
        assert_int_equal(dkim_field(k, &rfc_key, sig, 64, field, DKIM_MAX, &len), SP_OK);
        field[len] = '\0';
        snprintf(expected, sizeof(expected), "bh=%s", body_hash);
        assert_non_null(strstr(field, expected));
        end_message(k);
    }
    EVP_PKEY *key = ed25519_key(true);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, NULL, NULL, key), 1);
    assert_int_equal(EVP_DigestSign(ctx, sig, &sig_len, first, 32), 1);
    struct dkim *k = read_text(message);
    assert_int_equal(dkim_field(k, &rfc_key, sig, sig_len, field, DKIM_MAX, &len), SP_OK);
    field[len] = '\0';
    static const char expected_start[] =
        "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
        "\td=football.example.com; s=brisbane; t=1528637909; h=message-id:\r\n"
        "\tdate:subject:to:from:from;\r\n"
        "\tbh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n"
        "\tb=";
    assert_memory_equal(field, expected_start, sizeof(expected_start) - 1);
    /* Without the folds the signature is as it was. */
    char coded[128] = "";
    for (const char *at = field + sizeof(expected_start) - 1; *at != '\0'; at++)
        if (strchr("\r\n\t", *at) == NULL)
            strncat(coded, at, 1);
    EVP_PKEY *public_key = ed25519_key(false);
    assert_true(verifies(public_key, false, first, coded));
    EVP_PKEY_free(public_key);
    end_message(k);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
}

/* What a change must change, and what it must not. */
static void test_covered(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool same;
    } cases[] = {
        {"From: a@x.org\r\nTo: b@y.org\r\nX-Other: 1\r\n\r\nbody\r\n", true},
        {"From:  a@x.org \r\nX-Other: 2\r\nTO:\r\n b@y.org\r\n\r\nbody \r\n\r\n", true},
        {"Received: by us\r\nFrom: a@x.org\r\nTo: b@y.org\r\n\r\nbody", true},
        {"From: c@x.org\r\nTo: b@y.org\r\n\r\nbody\r\n", false},
        {"From: a@x.org\r\nTo: b@y.org\r\n\r\nBody\r\n", false},
        {"From: a@x.org\r\nTo: b@y.org\r\nCc: c@y.org\r\n\r\nbody\r\n", false},
        {"From: a@x.org\r\nTo: b@y.org\r\nList-Id: l\r\n\r\nbody\r\n", false},
        {"From: a@x.org\r\nTo: b@y.org\r\nSender: l@y.org\r\n\r\nbody\r\n", false},
        {"From: a@x.org\r\nTo: b@y.org\r\nReply-To: l@y.org\r\n\r\nbody\r\n", false},
        {"From: a@x.org\r\nTo: b@y.org\r\nTo: b@y.org\r\n\r\nbody\r\n", false},
        {"To: b@y.org\r\nFrom: a@x.org\r\n\r\nbody\r\n", false},
    };
    const struct dkim_key key = {DKIM_RSA_SHA256, "s", "x.org", 1};
    uint8_t first[32], hash[32];
    for (size_t i = 0; i < N(cases); i++) {
        struct dkim *k = read_text(cases[i].text);
        assert_int_equal(dkim_hash(k, &key, i == 0 ? first : hash), SP_OK);
        if (i > 0)
            assert_int_equal(memcmp(first, hash, 32) == 0, cases[i].same);
        end_message(k);
    }
    struct dkim *k = read_text(cases[0].text);
    struct dkim_key other = key;
    other.algorithm = DKIM_ED25519_SHA256;
    assert_int_equal(dkim_hash(k, &other, hash), SP_OK);
    assert_memory_not_equal(first, hash, 32);
    end_message(k);
}

static void test_names(void **state)
{
    (void)state;
    static const char *const bad[] = {"",   ".",   "a..b", ".a",     "a.",
                                      "-a", "a b", "a;b",  "a\r\nb", "b\xc3\xbc"};
    struct dkim *k = read_text(message);
    uint8_t hash[32];
    for (size_t i = 0; i < N(bad); i++) {
        struct dkim_key key = rfc_key;
        key.domain = bad[i];
        assert_int_equal(dkim_hash(k, &key, hash), SP_ERR_FORMAT);
        key = rfc_key;
        key.selector = bad[i];
        assert_int_equal(dkim_hash(k, &key, hash), SP_ERR_FORMAT);
    }
    end_message(k);
}

/* --- limits --- */

static void test_limits(void **state)
{
    (void)state;
    uint8_t hash[32];
    char from[FROM_MAX], field[DKIM_MAX];
    size_t size = 200000, len = 0;
    char *text = malloc(size);
    /* Much that is not signed does no harm. */
    while (len < 100000)
        len += (size_t)snprintf(text + len, size - len, "Received: by %zu\r\n", len);
    len += (size_t)snprintf(text + len, size - len, "From: a@x.org\r\n\r\nbody\r\n");
    struct dkim *k = read_message(text, len, 1000);
    assert_false(k->facts.too_large);
    assert_int_equal(dkim_hash(k, &rfc_key, hash), SP_OK);
    assert_int_equal(dkim_field(k, &rfc_key, hash, 32, field, 100, &len), SP_ERR_LIMIT);
    assert_int_equal(len, 0);
    end_message(k);
    /* Too much that would be: unsigned, and From is known all the same. */
    len = (size_t)snprintf(text, size, "To: a@y.org");
    while (len < 40000)
        len += (size_t)snprintf(text + len, size - len, ",\r\n a%zu@y.org", len);
    len += (size_t)snprintf(text + len, size - len, "\r\nFrom: a@x.org\r\n\r\nbody\r\n");
    k = read_message(text, len, 1000);
    assert_true(k->facts.too_large);
    assert_int_equal(dkim_hash(k, &rfc_key, hash), SP_ERR_LIMIT);
    assert_int_equal(dkim_from(k, from), SP_OK);
    assert_string_equal(from, "a@x.org");
    end_message(k);
    /* Too many. */
    len = 0;
    for (int i = 0; i < 64; i++)
        len += (size_t)snprintf(text + len, size - len, "To: %d@y.org\r\n", i);
    len += (size_t)snprintf(text + len, size - len, "From: a@x.org\r\n\r\nbody\r\n");
    k = read_message(text, len, 1000);
    assert_true(k->facts.too_large);
    assert_int_equal(dkim_from(k, from), SP_OK);
    end_message(k);
    free(text);
}

/* --- facts --- */

static void test_facts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        struct dkim_facts facts;
    } cases[] = {
        {"From: a@x.org\r\n\r\nhi\r\n", 0, {.header_size = 17, .from = 1}},
        {"From: a@x.org\r\n\r\nhi", 0, {.header_size = 17, .from = 1, .unfinished = true}},
        {"From: a@x.org\r\n\r\n", 0, {.header_size = 17, .from = 1}},
        {"From: a@x.org\r\n", 0, {.header_size = 15, .from = 1}},
        {"From: a@x.org\r\n\r\nlong long long line\r\n", 0, {.header_size = 17, .from = 1}},
        {"From : a\r\nfrom:b\r\n\r\n", 0, {.header_size = 20, .from = 2}},
        {"\r\nbody\r\n", 0, {.header_size = 2}},
        {"a: \xc3\xbc\r\n\r\n", 0, {.header_size = 9, .eight_bit = true, .header_utf8 = true}},
        {"a: b\r\n\r\n\xff\r\n", 0, {.header_size = 8, .eight_bit = true}},
        {"a: b\r\n\r\nc\rd\r\n", 0, {.header_size = 8, .bare = true}},
        {"a: b\r\n\r\nc\nd\r\n", 0, {.header_size = 8, .bare = true}},
        {"a: b\r\n\r\nc\r\r\n", 0, {.header_size = 8, .bare = true}},
        {"a: b\r\n\r\n\n\r\n", 0, {.header_size = 8, .bare = true}},
        {"a: b\r\n\r\ncdefg\r", 0, {.header_size = 8, .bare = true, .unfinished = true}},
        {"a: b\nc: d\r\n\r\n", 0, {.header_size = 13, .bare = true}},
        {"a: b\r\n\r\nc\0d\r\n", 13, {.header_size = 8, .nul = true}},
    };
    for (size_t i = 0; i < N(cases); i++) {
        size_t len = cases[i].len > 0 ? cases[i].len : strlen(cases[i].text);
        for (size_t cut = 1; cut <= len; cut++) {
            struct dkim *k = read_message(cases[i].text, len, cut);
            const struct dkim_facts *want = &cases[i].facts, *got = &k->facts;
            assert_int_equal(got->size, len);
            assert_int_equal(got->header_size, want->header_size);
            assert_int_equal(got->eight_bit, want->eight_bit);
            assert_int_equal(got->header_utf8, want->header_utf8);
            assert_int_equal(got->bare, want->bare);
            assert_int_equal(got->nul, want->nul);
            assert_int_equal(got->malformed, want->malformed);
            assert_int_equal(got->unfinished, want->unfinished);
            assert_int_equal(got->from, want->from);
            end_message(k);
        }
    }
}

static void test_sender(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum sp_err err;
    } cases[] = {
        {"From: a@x.org\r\n\r\nSender: b@x.org\r\n", SP_ERR_NOT_FOUND},
        {"From: a@x.org\r\nSENDER : B <b@x.org>\r\n\r\n", SP_OK},
        {"From: a@x.org\r\nSender: a@x.org, b@x.org\r\n\r\n", SP_ERR_FORMAT},
        {"From: a@x.org\r\nSender:\r\n\r\n", SP_ERR_FORMAT},
        {"Sender: b@x.org\r\nSender: b@x.org\r\n\r\n", SP_ERR_FORMAT},
        {"Sender: b@x.org\r\nno field\r\n\r\n", SP_ERR_FORMAT},
        {"no field\r\n\r\n", SP_ERR_FORMAT},
    };
    for (size_t i = 0; i < N(cases); i++) {
        char out[FROM_MAX];
        struct dkim *k = read_text(cases[i].text);
        assert_int_equal(dkim_sender(k, out), cases[i].err);
        assert_string_equal(out, cases[i].err == SP_OK ? "b@x.org" : "");
        end_message(k);
    }
}

static void test_malformed(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "no field\r\nFrom: a@x.org\r\n\r\n",
        "From: a@x.org\r\nno field\r\n\r\n",
        " From: a@x.org\r\n\r\n",
        "From: a@x.org\r\n: empty\r\n\r\n",
        "From: a@x.org\r\n\rx",
        "From: a@x.org\r\nX y: z\r\n\r\n",
        "From: a@x.org\r\n\xc3\xbc: z\r\n",
        "From: a@x.org\r\nTo",
        "From: a@x.org\r\n\r",
    };
    char from[FROM_MAX];
    uint8_t hash[32];
    for (size_t i = 0; i < N(bad); i++) {
        struct dkim *k = read_text(bad[i]);
        assert_true(k->facts.malformed);
        assert_int_equal(dkim_from(k, from), SP_ERR_FORMAT);
        assert_int_equal(dkim_hash(k, &rfc_key, hash), SP_ERR_FORMAT);
        end_message(k);
    }
}

/* --- From --- */

static void test_from_good(void **state)
{
    (void)state;
    static const struct {
        const char *value, *address;
    } cases[] = {
        {"a@x.org", "a@x.org"},
        {"<a@x.org>", "a@x.org"},
        {" Joe <a@x.org> ", "a@x.org"},
        {"Joe Q. Public <a.b+c@X.ORG>", "a.b+c@x.org"},
        {"\"b@y.org\" <a@x.org>", "a@x.org"},
        {"\"a\\\"b\" c <a@x.org>", "a@x.org"},
        {"a@x.org (Joe <b@y.org>)", "a@x.org"},
        {"(c(d)\\)) Joe (e) <a@x.org> (f)", "a@x.org"},
        {"\"a b\"@x.org", "a b@x.org"},
        {"=?utf-8?q?J=C3=BC?= <a@x.org>", "a@x.org"},
        {"J\xc3\xbcrgen <j\xc3\xbc@b\xc3\xbc"
         "cher.example>",
         "j\xc3\xbc@b\xc3\xbc"
         "cher.example"},
    };
    for (size_t i = 0; i < N(cases); i++) {
        char out[FROM_MAX];
        assert_int_equal(from_parse(cases[i].value, strlen(cases[i].value), out), SP_OK);
        assert_string_equal(out, cases[i].address);
    }
}

static void test_from_bad(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "Joe",
        "a@x.org, b@y.org",
        "a@x.org b@y.org",
        "b@y.org <a@x.org>",
        "<a@x.org> <b@y.org>",
        "<a@x.org",
        "a@x.org>",
        "<<a@x.org>>",
        "Group: a@x.org;",
        "<@y.org:a@x.org>",
        "<@y.org,@z.org:a@x.org>",
        "a@[192.0.2.1]",
        "a@",
        "@x.org",
        "a..b@x.org",
        ".a@x.org",
        "a.@x.org",
        "a@x..org",
        "a@.x.org",
        "a@x.org.",
        "a @x.org",
        "a@ x.org",
        "a(c)@x.org",
        "\"a@x.org",
        "\"\"@x.org",
        "(a@x.org",
        "a@x.org (",
        "a@x.org \\",
        "a@x.org\n",
        "a\r@x.org",
        "a@x.org\x7f",
        "\xff <a@x.org>",
        "<a@x.org>,",
        "Joe; <a@x.org>",
        "Joe, Mary <a@x.org>",
        "a@b@x.org",
    };
    char out[FROM_MAX], longer[512];
    for (size_t i = 0; i < N(bad); i++) {
        assert_int_equal(from_parse(bad[i], strlen(bad[i]), out), SP_ERR_FORMAT);
        assert_int_equal(out[0], 0);
    }
    assert_int_equal(from_parse("a\0@x.org", 8, out), SP_ERR_FORMAT);
    memset(longer, 'a', sizeof(longer));
    memcpy(longer + 65, "@x.org", 6);
    assert_int_equal(from_parse(longer, 71, out), SP_ERR_FORMAT);
    assert_int_equal(from_parse(longer + 1, 70, out), SP_OK);
    longer[1] = '@';
    memset(longer + 2, 'b', 300);
    assert_int_equal(from_parse(longer, 2 + 255, out), SP_OK);
    assert_int_equal(from_parse(longer, 2 + 256, out), SP_ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_body),     cmocka_unit_test(test_body_of_empty_lines),
        cmocka_unit_test(test_field),    cmocka_unit_test(test_rfc_8463),
        cmocka_unit_test(test_whole),    cmocka_unit_test(test_covered),
        cmocka_unit_test(test_names),    cmocka_unit_test(test_limits),
        cmocka_unit_test(test_facts),    cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_sender),   cmocka_unit_test(test_from_good),
        cmocka_unit_test(test_from_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
