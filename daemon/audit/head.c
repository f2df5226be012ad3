/* The end of an audit log, as its key state file tells it. */
#include "daemon/audit/log.h"

#include <sodium.h>
#include <string.h>

static enum sp_err read_slot(FILE *file, unsigned slot, uint8_t record[AUDIT_SLOT_RECORD],
                             struct audit_head *out)
{
    uint8_t secret[crypto_sign_SECRETKEYBYTES];
    if (fseek(file, (long)(slot * AUDIT_SLOT_SIZE), SEEK_SET) != 0 ||
        fread(record, 1, AUDIT_SLOT_RECORD, file) != AUDIT_SLOT_RECORD)
        return SP_ERR_FORMAT;
    for (unsigned i = 0; i < 8; i++)
        out->generation[slot] = out->generation[slot] << 8 | record[i];
    if (out->generation[slot] != 0)
        crypto_sign_seed_keypair(out->key[slot], secret, record + 8);
    sodium_memzero(secret, sizeof(secret));
    return SP_OK;
}

enum sp_err audit_head_read(FILE *key_state, struct audit_head *out)
{
    uint8_t record[AUDIT_SLOT_RECORD];
    *out = (struct audit_head){0};
    if (sodium_init() < 0)
        return SP_ERR_CRYPTO;
    setvbuf(key_state, NULL, _IONBF, 0); /* no copies of a seed in buffers */
    enum sp_err err = read_slot(key_state, 0, record, out);
    if (err == SP_OK)
        err = read_slot(key_state, 1, record, out);
    sodium_memzero(record, sizeof(record));
    return err;
}

bool audit_head_has(const struct audit_head *head, const uint8_t key[AUDIT_HASH])
{
    for (unsigned slot = 0; slot < 2; slot++)
        if (head->generation[slot] != 0 && memcmp(head->key[slot], key, AUDIT_HASH) == 0)
            return true;
    return false;
}

bool audit_head_agrees(const struct audit_head *before, const struct audit_head *after,
                       const struct audit_report *report)
{
    return report->at_head || (report->reached && memcmp(before, after, sizeof(*before)) != 0);
}
