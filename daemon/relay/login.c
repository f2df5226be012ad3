/* AUTH (RFC 4954) with PLAIN (RFC 4616) or LOGIN, towards the operator's own smarthost. The
 * password goes to a server whose name was verified, and to nobody else. */
#include "daemon/relay/dialog_io.h"
#include "sandbox/lockmem.h"

#include <openssl/evp.h>
#include <string.h>

#define CREDENTIAL 512u /* bytes of a name or password, at most */

/* Where both are prepared: out is locked, and commands are short. */
#define BYTES_AT 8192u
#define CODED_AT 16384u

static enum sp_err encode(struct dialog *d, const void *bytes, size_t len)
{
    return EVP_EncodeBlock(d->out + CODED_AT, bytes, (int)len) > 0 ? SP_OK : SP_ERR_CRYPTO;
}

/* One line; the reply to it must have this code. SP_ERR_DENIED: it has another. */
static enum sp_err say(struct dialog *d, const char *before, const void *coded, unsigned expected)
{
    enum sp_err err = dialog_put(d, "%s%s", before, (const char *)coded);
    if (err == SP_OK)
        err = dialog_flush(d, DIALOG_MS_COMMAND);
    if (err == SP_OK)
        err = dialog_answer(d, DIALOG_MS_COMMAND, NULL);
    return err == SP_OK && d->reply.code != expected ? SP_ERR_DENIED : err;
}

static enum sp_err plain(struct dialog *d, size_t user, size_t password)
{
    uint8_t *bytes = d->out + BYTES_AT;
    bytes[0] = '\0'; /* acts as the user it is */
    memcpy(bytes + 1, d->set->user, user + 1);
    memcpy(bytes + 2 + user, d->set->password, password);
    enum sp_err err = encode(d, bytes, 2 + user + password);
    return err == SP_OK ? say(d, "AUTH PLAIN ", d->out + CODED_AT, 235) : err;
}

static enum sp_err login(struct dialog *d, size_t user, size_t password)
{
    enum sp_err err = say(d, "AUTH LOGIN", "", 334);
    if (err == SP_OK)
        err = encode(d, d->set->user, user);
    if (err == SP_OK)
        err = say(d, "", d->out + CODED_AT, 334);
    if (err == SP_OK)
        err = encode(d, d->set->password, password);
    return err == SP_OK ? say(d, "", d->out + CODED_AT, 235) : err;
}

enum sp_err dialog_login(struct dialog *d, struct dialog_verdict *v)
{
    size_t user = strlen(d->set->user), password = strlen(d->set->password);
    enum sp_err err = SP_ERR_CONFIG;
    if (d->remote->tls != REMOTE_VERIFIED) {
        dialog_rule(v, DIALOG_DEFERRED, "4.7.0", "no password without verified TLS");
        err = SP_ERR_AUTH;
    } else if (user == 0 || user > CREDENTIAL || password == 0 || password > CREDENTIAL) {
        dialog_rule(v, DIALOG_DEFERRED, "4.3.5", "name or password is empty or too long");
    } else if (d->auth_plain || d->auth_login) {
        err = d->auth_plain ? plain(d, user, password) : login(d, user, password);
        lockmem_wipe(d->out, sizeof(d->out));
        if (err == SP_ERR_DENIED && d->reply.code >= 400)
            dialog_judge(d, v);
        else if (err == SP_ERR_DENIED)
            dialog_astray(d, "AUTH", v);
        else if (err != SP_OK)
            dialog_lost(d, err, "AUTH", v);
    } else {
        dialog_rule(v, DIALOG_DEFERRED, "4.7.0", "%s offers no AUTH that we know", d->set->peer);
    }
    if (err != SP_OK) {
        d->over = true;
        v->outcome = DIALOG_DEFERRED;
        v->enhanced[0] = '4';
    }
    return err;
}
