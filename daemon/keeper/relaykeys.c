/* What deliveries sign and log in with: read from files that the supervisor opened, which are the
 * operator's. A broken new file leaves the old one in use. */
#include "daemon/keeper/keeper.h"
#include "sandbox/lockmem.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The whole file into locked memory. */
static enum sp_err read_file(struct keeper *k, int fd, size_t *len)
{
    struct stat st;
    *len = 0;
    if (fstat(fd, &st) != 0)
        return SP_ERR_SYSTEM;
    if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > (off_t)DKIMKEY_FILE_MAX)
        return SP_ERR_FORMAT;
    ssize_t n = pread(fd, k->locked->file, (size_t)st.st_size, 0);
    *len = n > 0 ? (size_t)n : 0;
    return n == st.st_size ? SP_OK : SP_ERR_SYSTEM;
}

static bool find_selector(const struct config *c, const uint8_t *name, size_t len, size_t *i)
{
    for (*i = 0; *i < c->dkim_selector.count; ++*i)
        if (strlen(c->dkim_selector.item[*i]) == len &&
            memcmp(c->dkim_selector.item[*i], name, len) == 0)
            return true;
    return false;
}

enum sp_err relaykeys_take_dkim(struct keeper *k, struct ipc_frame *frame)
{
    struct dkimkey *key = NULL;
    size_t len, i;
    const uint8_t *name = wire_get_b16(&frame->body, CONFIG_MAX_TEXT, &len);
    if (!wire_in_done(&frame->body) || !find_selector(k->role->config, name, len, &i))
        return SP_ERR_FORMAT;
    enum sp_err err = read_file(k, frame->fd, &len);
    if (err == SP_OK)
        err = dkimkey_load(k->locked->file, len, &key);
    lockmem_wipe(k->locked->file, sizeof(k->locked->file));
    if (err != SP_OK) {
        role_log(
            "the DKIM key of selector %s cannot be used: %s (RSA 2048 to 4096 and Ed25519 can, "
            "as PEM without a passphrase)",
            k->role->config->dkim_selector.item[i], sp_err_text(err));
        return k->dkim[i] != NULL ? SP_OK : err;
    }
    dkimkey_free(k->dkim[i]);
    k->dkim[i] = key;
    return SP_OK;
}

enum sp_err relaykeys_take_auth(struct keeper *k, struct ipc_frame *frame)
{
    struct keeper_locked *locked = k->locked;
    struct credentials c;
    size_t len;
    enum sp_err err = read_file(k, frame->fd, &len);
    if (err == SP_OK)
        err = credentials_parse(locked->file, len, &c);
    if (err == SP_OK) {
        memcpy(locked->user, c.user, c.user_len);
        memcpy(locked->password, c.password, c.password_len);
        k->user_len = c.user_len;
        k->password_len = c.password_len;
    }
    lockmem_wipe(locked->file, sizeof(locked->file));
    if (err == SP_OK)
        return SP_OK;
    role_log("the smarthost's credentials cannot be used: %s (one line, user:password)",
             sp_err_text(err));
    return k->user_len > 0 ? SP_OK : err;
}
