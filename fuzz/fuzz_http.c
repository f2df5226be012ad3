/* libs: -lsodium -ljansson */
/* The text that clients of the web role send: target, query, Range, Authorization; and errors. The
 * first byte chooses which, so that each has a corpus of its own in one directory. */
#include "daemon/web/parse.c"
#include "envelope/link.c"

#include <assert.h>
#include <stdlib.h>

/* The parts of link.c that are not under test need these. */
enum sp_err keys_hmac(const uint8_t key[KEY_SIZE], const void *msg, size_t len,
                      uint8_t out[HASH_SIZE])
{
    (void)key, (void)msg, (void)len;
    memset(out, 0, HASH_SIZE);
    return SP_OK;
}

static void fuzz_target(const char *text)
{
    static const char *const patterns[] = {"/healthz",
                                           "/v1/sigchain/{address}",
                                           "/v1/message/{id}",
                                           "/v1/message/{id}/piece/{piece}",
                                           "/m/{link}",
                                           "/m/{exposed}",
                                           "/m/{other}",
                                           "/page/{build}/{asset}",
                                           "/m/{link}/envelope",
                                           "/m/{link}/piece/{piece}",
                                           "/v1/sigchain/by-id/{id}",
                                           "/v1/upload/{id}",
                                           "/v1/upload/{id}/form",
                                           "/v1/upload/{id}/piece/{piece}"};
    size_t len;
    const char *query;
    struct path_args args;
    struct query q;
    if (target_split(text, &len, &query) != SP_OK)
        return;
    assert(len <= PARSE_MAX_TARGET && len <= strlen(text));
    unsigned matches = 0;
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
        if (path_match(patterns[i], text, len, &args)) {
            assert(args.address_len <= sizeof(args.address));
            assert(strlen(args.build) <= PARSE_WORD && strlen(args.asset) <= PARSE_WORD);
            matches++;
        }
    assert(matches <= 1);
    if (query_parse(query, QUERY_AFTER | QUERY_LIMIT | QUERY_OFFSET, &q) == SP_OK)
        assert(q.limit >= 1 && q.limit < PARSE_LIST_MAX);
    assert(query == NULL || query_parse(query, 0, &q) != SP_OK);
    assert(query_parse(query, QUERY_ANY, &q) == SP_OK && q.after == 0);
    assert(!query_is_marked(query) || strstr(query, "23") != NULL);
}

static void fuzz_range(const char *text, uint64_t total)
{
    uint64_t first, count;
    struct range r = range_parse(text);
    if (range_apply(&r, total, &first, &count) != SP_OK)
        return;
    assert(first <= total && count <= total - first);
    assert(r.kind == RANGE_NONE || count > 0);
}

/* "NAME:VALUE". What is plain holds nothing that could end a line or a name. */
static void fuzz_field(char *text)
{
    char *colon = strchr(text, ':');
    if (colon == NULL)
        return;
    *colon = '\0';
    if (!field_is_plain(text, colon + 1))
        return;
    assert(strlen(text) > 0 && strpbrk(text, " \t\r\n:") == NULL);
    if (strcasecmp(text, "Content-Length") == 0)
        assert(strtoll(colon + 1, NULL, 10) >= 0);
}

static void fuzz_auth(const char *text, const char *scheme)
{
    uint8_t token[PARSE_TOKEN], zero[PARSE_TOKEN] = {0};
    char again[B64U_LEN(PARSE_TOKEN) + 1];
    if (auth_parse(text, scheme, token) != SP_OK) {
        assert(memcmp(token, zero, sizeof(token)) == 0);
        return;
    }
    b64u_encode(token, sizeof(token), again);
    assert(strcmp(strchr(text, ' ') + 1, again) == 0); /* one spelling a token */
}

static void fuzz_error(const char *text)
{
    char out[128];
    size_t len;
    if (error_json(text, out, sizeof(out), &len) != SP_OK)
        return;
    json_t *back = json_loadb(out, len, 0, NULL);
    assert(back != NULL && strcmp(json_string_value(json_object_get(back, "error")), text) == 0);
    json_decref(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    char *text = malloc(size);
    if (text == NULL)
        return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    switch (data[0]) {
    case 'T':
        fuzz_target(text);
        break;
    case 'A':
        fuzz_auth(text, AUTH_SESSION);
        break;
    case 'G':
        fuzz_auth(text, AUTH_GATE);
        break;
    case 'F':
        fuzz_field(text);
        break;
    case 'E':
        fuzz_error(text);
        break;
    default:
        fuzz_range(text, data[0] < 128 ? data[0] : UINT64_MAX - data[0]);
    }
    free(text);
    return 0;
}
