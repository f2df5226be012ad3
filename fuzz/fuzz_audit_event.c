/* libs: -lsodium -ljansson */
/* AU_EVENT frames: what is rendered must be one line of JSON that the verifier takes for one of
 * ours. */
#include "envelope/wire.c"
#include "daemon/audit/schema.c"
#include "daemon/audit/render.c"
#undef LABEL
#include "daemon/audit/log.c"
#include "daemon/audit/head.c"

#include <jansson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void finish(struct audit_text *line)
{
    uint8_t hash[AUDIT_HASH] = {0};
    audit_put(line, ",\"prev\":\"");
    audit_put_hex(line, hash, sizeof(hash));
    audit_put(line, "\"");
    crypto_hash_sha256(hash, (const uint8_t *)line->at, line->len);
    audit_put(line, ",\"hash\":\"");
    audit_put_hex(line, hash, sizeof(hash));
    audit_put(line, "\"}");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char buf[AUDIT_LINE_MAX];
    struct audit_text line = {.at = buf, .cap = sizeof(buf)};
    struct audit_line parsed;
    unsigned event;
    if (size == 0)
        return 0;
    audit_put(&line, "{\"seq\":1,\"time\":\"2026-01-31T23:59:59.123456Z\",");
    struct wire_in body = wire_in(data + 1, size - 1);
    if (audit_render(&body, data[0] % (ROLE_COUNT + 1), &line, &event) != SP_OK)
        return 0;
    finish(&line);
    json_t *json = json_loadb(line.at, line.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    if (line.full || json == NULL || memchr(line.at, '\n', line.len) != NULL ||
        audit_line_parse(line.at, line.len, &parsed) != SP_OK)
        abort();
    json_decref(json);
    return 0;
}
