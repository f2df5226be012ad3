/* Files of the relay's secrets: opened by path, since they are the operator's and root's, looked at
 * in a process aside, handed to the keeper. The supervisor reads no byte of them. */
#include "daemon/aside.h"
#include "daemon/credential.h"
#include "daemon/keeper/credentials.h"
#include "daemon/keeper/dkimkey.h"
#include "daemon/messages.h"
#include "daemon/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void complain(const char *path, const char *why)
{
    dprintf(STDERR_FILENO, "sealpostd: %s: %s\n", path, why);
}

/* In the process aside. */
static enum sp_err read_all(int fd, char text[DKIMKEY_FILE_MAX + 1], size_t *len)
{
    struct stat st;
    *len = 0;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return SP_ERR_SYSTEM;
    ssize_t n = pread(fd, text, DKIMKEY_FILE_MAX + 1, 0);
    if (n < 0)
        return SP_ERR_SYSTEM;
    *len = (size_t)n;
    return *len <= DKIMKEY_FILE_MAX ? SP_OK : SP_ERR_LIMIT;
}

static enum sp_err look_dkim(void *ctx)
{
    char text[DKIMKEY_FILE_MAX + 1];
    struct dkimkey *key;
    size_t len;
    enum sp_err err = read_all(*(const int *)ctx, text, &len);
    return err == SP_OK ? dkimkey_load(text, len, &key) : err;
}

static enum sp_err look_auth(void *ctx)
{
    char text[DKIMKEY_FILE_MAX + 1];
    struct credentials c;
    size_t len;
    enum sp_err err = read_all(*(const int *)ctx, text, &len);
    return err == SP_OK ? credentials_parse(text, len, &c) : err;
}

static const char dkim_words[] = "is not a private key in PEM form without a passphrase";
static const char auth_words[] = "is not one line, user:password";

static enum sp_err open_one(const char *path, enum sp_err (*look)(void *ctx), const char *words,
                            int *fd)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) {
        dprintf(STDERR_FILENO, "sealpostd: %s: %s%s\n", path, strerror(errno),
                credential_advice(path));
        return SP_ERR_CONFIG;
    }
    enum sp_err err = aside(look, fd);
    if (err == SP_ERR_DENIED)
        complain(path,
                 "is of a kind that DKIM does not take: RSA of 2048 to 4096 bits, or Ed25519");
    else if (err == SP_ERR_SYSTEM)
        complain(path, "cannot be read, or is not a file");
    else if (err != SP_OK)
        complain(path, words);
    return err == SP_OK ? SP_OK : SP_ERR_CONFIG;
}

enum sp_err relayfiles_open(struct supervisor *s)
{
    const struct config *c = s->config;
    enum sp_err err = SP_OK;
    s->files_open = true;
    s->auth = -1;
    for (size_t i = 0; i < CONFIG_MAX_LIST; i++)
        s->dkim[i] = -1;
    for (size_t i = 0; i < c->dkim_key.count; i++)
        if (open_one(c->dkim_key.item[i], look_dkim, dkim_words, &s->dkim[i]) != SP_OK)
            err = SP_ERR_CONFIG; /* all of them are looked at */
    if (c->smarthost_auth != NULL &&
        open_one(c->smarthost_auth, look_auth, auth_words, &s->auth) != SP_OK)
        err = SP_ERR_CONFIG;
    return err;
}

enum sp_err relayfiles_give(struct supervisor *s)
{
    uint8_t buf[2 + CONFIG_MAX_TEXT];
    const struct config *c = s->config;
    struct ipc_peer *keeper = s->child[ROLE_KEEPER].control;
    enum sp_err err = SP_OK;
    for (size_t i = 0; err == SP_OK && i < c->dkim_key.count; i++) {
        struct wire_out body = wire_out(buf, sizeof(buf));
        wire_put_str(&body, c->dkim_selector.item[i]);
        err = ipc_peer_send(keeper, CT_DKIM, 0, &body, s->dkim[i]);
    }
    if (err == SP_OK && s->auth >= 0)
        err = ipc_peer_send(keeper, CT_AUTH, 0, NULL, s->auth);
    return err;
}

static void close_one(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void relayfiles_close(struct supervisor *s)
{
    if (!s->files_open)
        return;
    s->files_open = false;
    for (size_t i = 0; i < CONFIG_MAX_LIST; i++)
        close_one(&s->dkim[i]);
    close_one(&s->auth);
}
