/* The appliance's box key, at rest and in locked memory. The file is the keeper's own; what is
 * wrong with it is the operator's to decide, since mail under way depends on it. */
#include "daemon/keeper/boxkey.h"
#include "sandbox/lockmem.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t magic[8] = {'S', 'P', 'K', 'K', 1, 0, 0, 0};

static enum sp_err make(int fd, struct boxkey *k)
{
    memcpy(k->file, magic, sizeof(magic));
    randombytes_buf(k->file + 8, KEY_SIZE);
    enum sp_err err = keys_x25519_public(k->file + 8, k->file + 8 + KEY_SIZE);
    if (err != SP_OK)
        return err;
    errno = ENOSPC; /* of a write that is cut short */
    if (pwrite(fd, k->file, BOXKEY_FILE, 0) != BOXKEY_FILE || fdatasync(fd) != 0)
        return SP_ERR_SYSTEM;
    return SP_OK;
}

static enum sp_err check(const struct boxkey *k)
{
    uint8_t pk[KEY_SIZE];
    if (memcmp(k->file, magic, sizeof(magic)) != 0)
        return SP_ERR_FORMAT;
    enum sp_err err = keys_x25519_public(boxkey_private(k), pk);
    if (err == SP_OK && memcmp(pk, boxkey_public(k), KEY_SIZE) != 0)
        err = SP_ERR_FORMAT;
    return err;
}

enum sp_err boxkey_load(int fd, struct boxkey *k)
{
    struct stat st;
    enum sp_err err = SP_ERR_FORMAT;
    memset(k, 0, sizeof(*k));
    if (fstat(fd, &st) != 0)
        return SP_ERR_SYSTEM;
    if (S_ISREG(st.st_mode) && st.st_size == 0)
        err = make(fd, k);
    else if (S_ISREG(st.st_mode) && st.st_size == BOXKEY_FILE &&
             pread(fd, k->file, BOXKEY_FILE, 0) == BOXKEY_FILE)
        err = check(k);
    if (err != SP_OK)
        lockmem_wipe(k, sizeof(*k));
    return err;
}
