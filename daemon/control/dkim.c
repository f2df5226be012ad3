/* sealpostctl dkim: what belongs into DNS, read from the key files themselves; and new key files.
 * Whoever runs it may read those files anyway. */
#include "daemon/control/ctl.h"
#include "daemon/config.h"
#include "daemon/credential.h"
#include "daemon/keeper/dkimkey.h"
#include "sandbox/lockmem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STRING_MAX 255u /* bytes of one string of a TXT record (RFC 1035 3.3.14) */
#define VALUE_MAX  (DKIMKEY_RECORD + 3u * (DKIMKEY_RECORD / STRING_MAX + 1u))

static int fail(const char *path, const char *why)
{
    fprintf(stderr, "sealpostctl: %s: %s\n", path, why);
    return 1;
}

/* errno says why. */
static int fail_open(const char *path)
{
    fprintf(stderr, "sealpostctl: %s: %s%s\n", path, strerror(errno), credential_advice(path));
    return 1;
}

static enum sp_err load(const char *path, struct dkimkey **key)
{
    char pem[DKIMKEY_FILE_MAX + 1];
    *key = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, pem, sizeof(pem)) : -1;
    enum sp_err err = n < 0 ? SP_ERR_SYSTEM : dkimkey_load(pem, (size_t)n, key);
    lockmem_wipe(pem, sizeof(pem));
    if (fd >= 0)
        close(fd);
    return err;
}

/* As a zone file has it: quoted strings, none too long; for JSON as one. */
static void put_value(const char *record, bool plain, char out[VALUE_MAX])
{
    size_t len = strlen(record), at = 0;
    if (plain) {
        memcpy(out, record, len + 1);
        return;
    }
    for (size_t i = 0; i < len; i += STRING_MAX) {
        size_t n = len - i < STRING_MAX ? len - i : STRING_MAX;
        if (i > 0)
            out[at++] = ' ';
        out[at++] = '"';
        memcpy(out + at, record + i, n);
        at += n;
        out[at++] = '"';
    }
    out[at] = '\0';
}

static bool put_row(char **cell, const char *name, const char *type, const char *value)
{
    cell[0] = strdup(name);
    cell[1] = strdup(type);
    cell[2] = strdup(value);
    return cell[0] != NULL && cell[1] != NULL && cell[2] != NULL;
}

/* A row for each domain: its mail is signed with every key. */
static int add_selector(const struct config *c, size_t i, bool json, struct table *t)
{
    char record[DKIMKEY_RECORD], value[VALUE_MAX], name[CONFIG_MAX_TEXT * 2 + 32];
    struct dkimkey *key;
    const char *path = c->dkim_key.item[i];
    enum sp_err err = load(path, &key);
    if (err == SP_OK)
        err = dkimkey_record(key, record);
    dkimkey_free(key);
    if (err == SP_ERR_SYSTEM)
        return fail_open(path);
    if (err != SP_OK)
        return fail(path, "is not a private key that DKIM takes (PEM, RSA of 2048 to 4096 bits or "
                          "Ed25519)");
    put_value(record, json, value);
    for (size_t d = 0; d < c->domain.count; d++) {
        snprintf(name, sizeof(name), "%s._domainkey.%s%s", c->dkim_selector.item[i],
                 c->domain.item[d], json ? "" : ".");
        if (!put_row(t->cell + t->rows * t->columns, name, "TXT", value))
            return fail(path, "out of memory");
        t->rows++;
    }
    return 0;
}

int dkim_show(const struct config *c, bool json)
{
    struct table t = {.columns = 3};
    int status = 0;
    if (c->dkim_selector.count == 0)
        return fail("[relay] dkim_selector",
                    "there is none; sealpostctl dkim --new rsa FILE makes a key for one");
    mlockall(MCL_CURRENT | MCL_FUTURE); /* as far as it may: it lives for ms */
    t.cell = calloc((1 + c->dkim_selector.count * c->domain.count) * t.columns, sizeof(*t.cell));
    if (t.cell == NULL || !put_row(t.cell, json ? "name" : "; name", "type", "value"))
        status = fail("dkim", "out of memory");
    bool usable = status == 0;
    t.rows = 1;
    for (size_t i = 0; usable && i < c->dkim_selector.count; i++)
        status |= add_selector(c, i, json, &t); /* those of the others are shown all the same */
    if (usable && json)
        table_print_json(&t, stdout);
    else if (usable && t.rows > 1)
        table_print(&t, stdout);
    for (size_t i = 0; t.cell != NULL && i < t.rows * t.columns; i++)
        free(t.cell[i]);
    free(t.cell);
    return status;
}

int dkim_new(const char *kind, const char *path)
{
    bool rsa = strcmp(kind, "rsa") == 0;
    if (!rsa && strcmp(kind, "ed25519") != 0)
        return fail(kind, "no such kind of key: rsa, ed25519");
    mlockall(MCL_CURRENT | MCL_FUTURE);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600); /* never over another */
    if (fd < 0)
        return fail(path, strerror(errno));
    enum sp_err err = dkimkey_make(rsa ? DKIMKEY_RSA_SHA256 : DKIMKEY_ED25519_SHA256, fd);
    if (err == SP_OK && fsync(fd) != 0)
        err = SP_ERR_SYSTEM;
    close(fd);
    if (err == SP_OK)
        return 0;
    unlink(path);
    return fail(path, sp_err_text(err));
}
