/* libs: -lsodium */
/* Whole logs. Hashes are mended first, so that the fuzzer gets past them to chain and checkpoints.
 */
#include "envelope/wire.c"
#include "daemon/audit/log.c"

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct audit_report report;
    if (size == 0)
        return 0;
    char *copy = malloc(size);
    memcpy(copy, data, size);
    for (char *at = copy, *end; (end = memchr(at, '\n', (size_t)(copy + size - at))) != NULL;
         at = end + 1)
        mend(at, (size_t)(end - at));
    FILE *log = fmemopen(copy, size, "r");
    enum sp_err err = audit_verify(&log, 1, NULL, &report);
    if ((err == SP_OK) != (report.bad_line == 0) || report.covered > report.events ||
        report.events - (report.first > 0 ? report.first - 1 : 0) > report.lines)
        abort();
    fclose(log);
    free(copy);
    return 0;
}
