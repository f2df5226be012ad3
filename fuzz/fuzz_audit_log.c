/* libs: -lsodium */
/* Whole logs, in several files where there is a form feed. Hashes are mended first, so that the
 * fuzzer gets past them to chain and checkpoints. */
#include "envelope/wire.c"
#include "daemon/audit/log.c"
#include "daemon/audit/head.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void mend(char *line, size_t len)
{
    uint8_t hash[AUDIT_HASH];
    char hex[AUDIT_HEX + 1];
    if (len < HASH_TAIL || memcmp(line + len - HASH_TAIL, ",\"hash\":\"", 9) != 0)
        return;
    crypto_hash_sha256(hash, (const uint8_t *)line, len - HASH_TAIL);
    sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
    memcpy(line + len - 2 - AUDIT_HEX, hex, AUDIT_HEX);
}

static void mend_lines(char *text, size_t size)
{
    for (char *at = text, *end; (end = memchr(at, '\n', (size_t)(text + size - at))) != NULL;
         at = end + 1)
        mend(at, (size_t)(end - at));
}

#define MAX_FILES 8u

struct input {
    char *at[MAX_FILES];
    size_t len[MAX_FILES], n;
};

static FILE *open_part(void *ctx, size_t i)
{
    struct input *in = ctx;
    return fmemopen(in->at[i], in->len[i], "r");
}

static void split(char *text, size_t size, struct input *out)
{
    char *end;
    for (out->n = 1; out->n < MAX_FILES && (end = memchr(text, '\f', size)) != NULL; out->n++) {
        out->at[out->n - 1] = text;
        out->len[out->n - 1] = (size_t)(end - text);
        size -= (size_t)(end + 1 - text);
        text = end + 1;
    }
    out->at[out->n - 1] = text;
    out->len[out->n - 1] = size;
}

/* What holds of every log: a finding has words, and one without a finding holds an event in each
 * file, each at most once. */
static void judge(const struct input *in, enum sp_err err, const struct audit_report *r,
                  size_t size)
{
    uint64_t events = r->events - (r->first > 0 ? r->first - 1 : 0);
    if ((err == SP_OK) != (r->why == NULL) || (err == SP_OK && r->bad_line != 0) ||
        r->bad_file >= in->n || r->covered > r->events || events > size || r->unfinished > size)
        abort();
    if (err == SP_OK && (events < in->n || (r->at_head && !r->reached)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct audit_report report;
    struct input in;
    if (size == 0)
        return 0;
    char *copy = malloc(size);
    memcpy(copy, data, size);
    split(copy, size, &in);
    for (size_t i = 0; i < in.n; i++)
        mend_lines(in.at[i], in.len[i]);
    struct audit_files files = {open_part, &in, in.n};
    judge(&in, audit_verify(&files, NULL, NULL, &report), &report, size);
    free(copy);
    return 0;
}
