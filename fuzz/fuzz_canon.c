/* libs: -lcrypto */
/* A message on its way through DKIM, in two cuts: the same facts, the same hash. The body's
 * canonical form against a naive one that has all of it at hand. A finished field has lines of
 * sensible length, and is, without its signature, what was hashed. */
#include "daemon/relay/octets.c"
#include "daemon/relay/canon.c"
#define put dkim_put
#include "daemon/relay/dkim.c"
#undef put
#define put  field_put
#define fold field_fold
#include "daemon/relay/dkim_field.c"
#undef put
#include "daemon/relay/from.c"
#include "envelope/utf8.c"

#include <stdlib.h>

#define MAX_MESSAGE 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

void lockmem_wipe(void *at, size_t len)
{
    memset(at, 0, len);
}

static void insist(bool good)
{
    if (!good)
        abort();
}

struct bytes {
    uint8_t at[2 * MAX_MESSAGE + 2];
    size_t len;
};

static void collect(void *ctx, const void *bytes, size_t len)
{
    struct bytes *b = ctx;
    insist(len <= sizeof(b->at) - b->len);
    memcpy(b->at + b->len, bytes, len);
    b->len += len;
}

/* RFC 6376 3.4.4, word by word: line by line. */
static void naive_body(const uint8_t *in, size_t len, struct bytes *out)
{
    size_t keep = 0; /* of out: up to behind the last line that is not empty */
    out->len = 0;
    while (len > 0) {
        size_t n = 0, start = out->len;
        while (n < len && !(in[n] == '\r' && n + 1 < len && in[n + 1] == '\n'))
            n++;
        for (size_t i = 0; i < n; i++) {
            bool blank = in[i] == ' ' || in[i] == '\t';
            if (!blank || out->len == start || out->at[out->len - 1] != ' ')
                out->at[out->len++] = blank ? ' ' : in[i];
        }
        if (out->len > start && out->at[out->len - 1] == ' ')
            out->len--;
        bool empty = out->len == start;
        out->at[out->len++] = '\r';
        out->at[out->len++] = '\n';
        keep = empty ? keep : out->len;
        n += n < len ? 2 : 0;
        in += n;
        len -= n;
    }
    out->len = keep;
}

static void check_body(const uint8_t *in, size_t len, size_t step)
{
    static struct bytes naive, got;
    struct canon_body b;
    got.len = 0;
    canon_body_init(&b, collect, &got);
    for (size_t at = 0; at < len; at += step)
        canon_body_push(&b, in + at, step < len - at ? step : len - at);
    canon_body_end(&b);
    naive_body(in, len, &naive);
    insist(naive.len == got.len && memcmp(naive.at, got.at, got.len) == 0);
}

/* What is told of lines, octet by octet. */
static void check_facts(const struct dkim_facts *f, const uint8_t *in, size_t len)
{
    bool bare = false, nul = false, high = false;
    uint64_t line = 0;
    for (size_t i = 0; i < len; i++) {
        bool crlf = in[i] == '\r' && i + 1 < len && in[i + 1] == '\n';
        bare |= (in[i] == '\r' && !crlf) || (in[i] == '\n' && (i == 0 || in[i - 1] != '\r'));
        nul |= in[i] == '\0';
        high |= in[i] >= 0x80;
        line = in[i] == '\n' ? 0 : line + 1;
    }
    insist(f->bare == bare && f->nul == nul && f->eight_bit == high);
    insist(f->unfinished == (line > 0));
}

static void read_all(struct dkim *k, const uint8_t *in, size_t len, size_t step)
{
    insist(dkim_begin(k) == SP_OK);
    for (size_t at = 0; at < len; at += step) {
        size_t n = step < len - at ? step : len - at;
        uint8_t *part = malloc(n);
        memcpy(part, in + at, n);
        insist(dkim_push(k, part, n) == SP_OK);
        free(part);
    }
    insist(dkim_end(k) == SP_OK);
}

/* What a verifier hashes: the fields named, and this one without its signature. */
static void check_hash(const struct dkim *k, const char *field, size_t len, const uint8_t *expected)
{
    char canonical[DKIM_MAX];
    uint8_t hash[DKIM_HASH];
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    size_t b = len;
    while (memcmp(field + b - 3, "\tb=", 3) != 0)
        b--;
    EVP_DigestInit_ex(sha, EVP_sha256(), NULL);
    for (size_t i = k->count; i-- > 0;) {
        EVP_DigestUpdate(sha, k->fields + k->kept[i].at, k->kept[i].len);
        EVP_DigestUpdate(sha, "\r\n", 2);
    }
    EVP_DigestUpdate(sha, canonical, canon_field(field, b, canonical));
    EVP_DigestFinal_ex(sha, hash, NULL);
    EVP_MD_CTX_free(sha);
    insist(memcmp(hash, expected, DKIM_HASH) == 0);
}

static void check_field(const struct dkim *k, const struct dkim_key *key, const uint8_t *hash)
{
    char field[DKIM_MAX];
    uint8_t signature[256];
    size_t len, line = 0;
    memset(signature, 0xa5, sizeof(signature));
    enum sp_err err = dkim_field(k, key, signature, sizeof(signature), field, sizeof(field), &len);
    insist(err == SP_OK || (err == SP_ERR_LIMIT && len == 0));
    for (size_t i = 0; i < len; i++) {
        line = field[i] == '\n' ? 0 : line + 1;
        insist(line <= 90 && (field[i] != '\n' || field[i - 1] == '\r'));
        insist(field[i] >= ' ' || strchr("\r\n\t", field[i]) != NULL);
    }
    if (len > 0)
        check_hash(k, field, len, hash);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct dkim whole, parts;
    struct dkim_key key = {DKIM_RSA_SHA256, "s1", "example.org", 1750000000};
    uint8_t hash[2][DKIM_HASH];
    char from[2][FROM_MAX];
    if (size < 1 || size > MAX_MESSAGE)
        return 0;
    size_t step = 1u + data[0] % 19u;
    data++;
    size--;
    check_body(data, size, step);
    read_all(&whole, data, size, size > 0 ? size : 1);
    read_all(&parts, data, size, step);
    insist(memcmp(&whole.facts, &parts.facts, sizeof(whole.facts)) == 0);
    insist(whole.facts.size == size && whole.facts.header_size <= size);
    check_facts(&whole.facts, data, size);
    enum sp_err err = dkim_hash(&whole, &key, hash[0]);
    insist(err == dkim_hash(&parts, &key, hash[1]));
    insist(memcmp(hash[0], hash[1], DKIM_HASH) == 0);
    insist(dkim_from(&whole, from[0]) == dkim_from(&parts, from[1]));
    insist(strcmp(from[0], from[1]) == 0);
    if (err == SP_OK)
        check_field(&whole, &key, hash[0]);
    dkim_free(&whole);
    dkim_free(&parts);
    return 0;
}
