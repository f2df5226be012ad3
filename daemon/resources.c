/* Sockets, files, users: all that needs privilege, opened once before privilege is dropped. */
#include "daemon/messages.h"
#include "daemon/supervisor.h"
#include "daemon/certificate.h"
#include "daemon/credential.h"
#include "daemon/inplace.h"
#include "daemon/listen.h"
#include "daemon/relay/template.h"
#include "daemon/tlspair.h"
#include "sandbox/lockmem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CONFIG_MAX_FILE (1u << 20)

#define MAX_PEM     65536
#define KEY_REGION  (MAX_PEM + 1)
#define STATE_MODE  0711
#define DATA_MODE   0750 /* root's group: the supervisor opens it, but no file in it */
#define LONE_MODE   0700 /* in user mode, where that group may be anybody's */
#define EMPTY_MODE  0555
#define SECRET_MODE 0600

static void complain(const char *what, const char *why)
{
    dprintf(STDERR_FILENO, "sealpostd: %s: %s\n", what, why);
}

static enum sp_err fail(const char *what)
{
    complain(what, strerror(errno));
    return SP_ERR_SYSTEM;
}

/* Each role's uid: the system user made for it, or a number off uid_base. */
static enum sp_err find_users(struct supervisor *s)
{
    for (int r = 0; r < ROLE_COUNT && !s->user_mode; r++) {
        char name[32];
        snprintf(name, sizeof(name), "sealpost-%s", all_roles[r]->name);
        const struct passwd *pw = s->config->uid_base == 0 ? getpwnam(name) : NULL;
        if (s->config->uid_base == 0 && pw == NULL) {
            complain(name, "no such user; run systemd-sysusers, or set [appliance] uid_base");
            return SP_ERR_CONFIG;
        }
        s->uid[r] = pw != NULL ? pw->pw_uid : (uid_t)(s->config->uid_base + (unsigned)r);
    }
    return SP_OK;
}

/* Changes only what is not so already: where systemd-tmpfiles made it, this needs no capability. */
static bool put_right(int fd, mode_t mode, bool owned, uid_t owner)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || ((st.st_mode & 07777) != mode && fchmod(fd, mode) != 0))
        return false;
    return !owned || (st.st_uid == owner && st.st_gid == 0) || fchown(fd, owner, 0) == 0;
}

static enum sp_err make_dir(const char *path, mode_t mode, bool owned, uid_t owner, int *out)
{
    if (mkdir(path, mode) != 0 && errno != EEXIST)
        return fail(path);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return fail(path);
    if (!put_right(fd, mode, owned, owner)) {
        close(fd);
        return fail(path);
    }
    if (out != NULL)
        *out = fd;
    else
        close(fd);
    return SP_OK;
}

static enum sp_err open_secret_file(const char *path, int flags, int *out)
{
    *out = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, SECRET_MODE);
    return *out >= 0 && fchmod(*out, SECRET_MODE) == 0 ? SP_OK : fail(path);
}

/* Erasing a key means overwriting it (storage/slots.h). Where that does not hold the operator has
 * to say that he knows, and the audit log repeats it. */
static enum sp_err check_slots(struct supervisor *s, const char *path)
{
    struct inplace place;
    inplace_look(s->res.slots, &place);
    snprintf(s->slots, sizeof(s->slots), "%s (%s)%s", place.holds ? "in-place" : "accept-cow",
             place.name, s->slots_new ? ", a new file" : "");
    if (place.holds || s->config->slots == SLOTS_ACCEPT_COW)
        return SP_OK;
    dprintf(
        STDERR_FILENO,
        "sealpostd: %s: lies on %s: %s. Erased keys might be found there. Put [appliance] state "
        "on ext4 (data=ordered), xfs or tmpfs, or accept it with [storage] slots = accept-cow\n",
        path, place.name, place.why);
    return SP_ERR_CONFIG;
}

/* New names are as durable as what they hold. */
static enum sp_err sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    enum sp_err err = ok ? SP_OK : fail(path);
    if (fd >= 0)
        close(fd);
    return err;
}

/* Unless it is known that there is none, there is one. */
static bool has_database(const struct supervisor *s)
{
    struct stat st;
    return fstatat(s->res.data_dir, "data.mdb", &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

/* Clients seal for this key and know it: beside a database it is never made anew unasked. An empty
 * file asks for it. */
static enum sp_err open_keeper_key(struct supervisor *s)
{
    char path[PATH_MAX];
    struct stat st;
    bool database = has_database(s);
    snprintf(path, sizeof(path), "%s/keeper.key", s->config->state);
    bool there = lstat(path, &st) == 0;
    if (database && !there && errno == ENOENT) {
        complain(path, "is not there, but the database is. Put it back from a backup. If there is "
                       "none, an empty file of mode 0600 in its place asks for a new key; clients "
                       "then send nothing to recipients outside until their users have accepted "
                       "it (operations.md, \"Backup and restore\")");
        return SP_ERR_CONFIG;
    }
    if (database && there && st.st_size == 0)
        complain(path, "is empty, so a new key is made. Users' clients know the old one and send "
                       "nothing to recipients outside until \"keeper\" is removed from their "
                       "account.json");
    return open_secret_file(path, 0, &s->res.keeper_key);
}

/* It is in no backup, so that a restored appliance has none. */
static enum sp_err open_slots(struct supervisor *s)
{
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof(path), "%s/slots", s->config->state);
    s->slots_new = has_database(s) && (lstat(path, &st) == 0 ? st.st_size == 0 : errno == ENOENT);
    if (s->slots_new)
        complain(path,
                 "is new beside an older database. What waited to be sent, and links, had their "
                 "keys in the file before, and are lost unless that comes back");
    enum sp_err err = open_secret_file(path, 0, &s->res.slots);
    return err == SP_OK ? check_slots(s, path) : err;
}

static enum sp_err open_keeper_files(struct supervisor *s)
{
    enum sp_err err = open_keeper_key(s);
    if (err == SP_OK)
        err = open_slots(s);
    return err == SP_OK ? sync_dir(s->config->state) : err;
}

static enum sp_err open_state(struct supervisor *s)
{
    const struct config *c = s->config;
    char path[PATH_MAX], dir[PATH_MAX];
    enum sp_err err = make_dir(c->state, STATE_MODE, false, 0, NULL);
    snprintf(path, sizeof(path), "%s/data", c->state);
    if (err == SP_OK)
        err = make_dir(path, s->user_mode ? LONE_MODE : DATA_MODE, !s->user_mode,
                       s->uid[ROLE_STORE], &s->res.data_dir);
    snprintf(path, sizeof(path), "%s/empty", c->state);
    if (err == SP_OK)
        err = make_dir(path, EMPTY_MODE, false, 0, &s->res.empty_dir);
    snprintf(path, sizeof(path), "%s/audit.key", c->state);
    if (err == SP_OK)
        err = open_secret_file(path, 0, &s->res.audit_key);
    if (err == SP_OK)
        err = open_keeper_files(s);
    if (err != SP_OK)
        return err;
    snprintf(dir, sizeof(dir), "%s", c->audit_log);
    char *slash = strrchr(dir, '/');
    if (slash != NULL && slash != dir) {
        *slash = '\0';
        if (mkdir(dir, 0750) != 0 && errno != EEXIST)
            return fail(dir);
    }
    err = rotation_finish(c);
    return err == SP_OK ? open_secret_file(c->audit_log, O_APPEND, &s->res.audit_log) : err;
}

/* Whom the relay believes about certificates. Without it nothing can be verified, which is no
 * matter where nothing must be. */
static enum sp_err open_certificates(struct supervisor *s)
{
    const struct config *c = s->config;
    s->res.relay_ca = -1;
    if (c->relay_mode == RELAY_OFF)
        return SP_OK;
    s->res.relay_ca = open(c->relay_ca, O_RDONLY | O_CLOEXEC);
    if (s->res.relay_ca >= 0)
        return SP_OK;
    if (c->relay_tls != TLS_REQUIRE && c->smarthost_auth == NULL) {
        complain(c->relay_ca, "not there; mail goes out without verifying other servers");
        return SP_OK;
    }
    fail(c->relay_ca);
    complain(c->relay_ca, c->relay_tls == TLS_REQUIRE
                              ? "[relay] tls = require cannot be met without it"
                              : "[relay] smarthost_auth cannot be used without it");
    return SP_ERR_CONFIG;
}

/* Words that a notification could not be made of must not be found out by a recipient. */
enum sp_err resources_load_template(struct supervisor *s)
{
    const char *path = s->config->link_template;
    char text[TEMPLATE_MAX + 1];
    s->res.link_template = -1;
    if (path == NULL)
        return SP_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? pread(fd, text, sizeof(text), 0) : -1;
    if (n < 0)
        return fail(path);
    s->res.link_template = fd;
    const char *fault = template_fault(text, (size_t)n);
    if (fault == NULL)
        return SP_OK;
    complain(path, fault);
    return SP_ERR_CONFIG;
}

static enum sp_err open_control(struct supervisor *s)
{
    const char *path = s->config->control;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(to.sun_path)) {
        complain(path, "too long for a socket's path (107 bytes)");
        return SP_ERR_CONFIG;
    }
    memcpy(to.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail(path);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0) {
        complain(path, "another sealpostd answers there");
        close(fd);
        return SP_ERR_EXISTS;
    }
    unlink(path); /* left over from a tree that was killed */
    mode_t mask = umask(0177);
    bool ok = bind(fd, (struct sockaddr *)&to, sizeof(to)) == 0 && listen(fd, 16) == 0;
    umask(mask);
    s->res.control = fd;
    return ok ? SP_OK : fail(path);
}

static bool are_named(const struct config *c)
{
    return c->tls_certificate != NULL && c->tls_key != NULL;
}

static void name_tls_files(const struct config *c, char *cert, char *key, size_t cap)
{
    if (are_named(c)) {
        snprintf(cert, cap, "%s", c->tls_certificate);
        snprintf(key, cap, "%s", c->tls_key);
    } else {
        snprintf(cert, cap, "%s/self-signed.pem", c->state);
        snprintf(key, cap, "%s/self-signed.key", c->state);
    }
}

/* User mode may make its own certificate, once. */
static enum sp_err find_tls_files(struct supervisor *s, char *cert, char *key, size_t cap)
{
    name_tls_files(s->config, cert, key, cap);
    if (are_named(s->config) || (access(cert, R_OK) == 0 && access(key, R_OK) == 0))
        return SP_OK;
    return selfsigned_make(s->config->hostname, cert, key);
}

static enum sp_err read_pem(const char *path, char *buf, size_t *len)
{
    *len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        dprintf(STDERR_FILENO, "sealpostd: %s: %s%s\n", path, strerror(errno),
                credential_advice(path));
        return SP_ERR_SYSTEM;
    }
    ssize_t n;
    while (*len <= MAX_PEM && (n = read(fd, buf + *len, MAX_PEM + 1 - *len)) > 0)
        *len += (size_t)n;
    close(fd);
    if (*len > 0 && *len <= MAX_PEM)
        return SP_OK;
    complain(path, *len == 0 ? "is empty" : "is too large for a PEM file");
    return SP_ERR_CONFIG;
}

static enum sp_err check_pair(const struct supervisor *s, const char *cert, const char *key)
{
    enum sp_err err = tlspair_check(s->certificate, s->certificate_len, s->key, s->key_len);
    if (err == SP_ERR_AUTH)
        complain(key, "is not the key of the certificate; was one of them renewed alone?");
    else if (err == SP_ERR_FORMAT)
        complain(cert, "is not a certificate in PEM form");
    else if (err == SP_ERR_NO_KEY)
        complain(key, "is not a private key in PEM form without a passphrase");
    else if (err != SP_OK)
        complain(key, "cannot be checked");
    return err == SP_OK ? SP_OK : SP_ERR_CONFIG;
}

enum sp_err resources_load_tls(struct supervisor *s)
{
    char cert[PATH_MAX], key[PATH_MAX];
    void *region = NULL;
    enum sp_err err = find_tls_files(s, cert, key, sizeof(cert));
    if (err == SP_OK && s->certificate == NULL && (s->certificate = malloc(MAX_PEM + 1)) == NULL)
        err = SP_ERR_MEMORY;
    if (err == SP_OK)
        err = lockmem_alloc(KEY_REGION, &region);
    s->key = region;
    if (err == SP_OK)
        err = read_pem(cert, s->certificate, &s->certificate_len);
    if (err == SP_OK)
        err = read_pem(key, s->key, &s->key_len);
    return err == SP_OK ? check_pair(s, cert, key) : err;
}

void resources_judge_certificate(const struct supervisor *s)
{
    char cert[PATH_MAX], key[PATH_MAX];
    name_tls_files(s->config, cert, key, sizeof(cert));
    certificate_warn(cert, s->certificate, s->certificate_len, s->config->hostname);
}

void resources_forget_key(struct supervisor *s)
{
    if (s->key != NULL)
        lockmem_free(s->key, KEY_REGION);
    s->key = NULL;
    s->key_len = 0;
}

int resources_resolv_conf(void)
{
    return open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

void resources_give_resolv_conf(struct supervisor *s)
{
    int fd = s->config->resolver_server == NULL ? resources_resolv_conf() : -1;
    if (fd < 0)
        return;
    if (ipc_peer_send(s->child[ROLE_RESOLVER].control, CT_RESOLV_CONF, 0, NULL, fd) != SP_OK)
        dprintf(STDERR_FILENO, "sealpostd: /etc/resolv.conf cannot be handed on\n");
    close(fd);
}

/* Where Debian's dns-root-data puts the root's keys, and where unbound keeps them up to date. */
int resources_trust_anchor(const struct config *c)
{
    static const char *const places[] = {"/usr/share/dns/root.key", "/var/lib/unbound/root.key"};
    if (c->trust_anchor != NULL)
        return open(c->trust_anchor, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int fd = -1;
    for (size_t i = 0; fd < 0 && i < sizeof(places) / sizeof(places[0]); i++)
        fd = open(places[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return fd;
}

/* A file that is named must be there: without it nothing would be validated. */
static enum sp_err check_trust_anchor(const struct config *c)
{
    int fd = resources_trust_anchor(c);
    if (fd < 0)
        return c->trust_anchor != NULL ? fail(c->trust_anchor) : SP_OK;
    close(fd);
    return SP_OK;
}

/* For the audit log: so that a setting which was changed for a while shows. */
enum sp_err resources_config_digest(struct supervisor *s)
{
    uint8_t hash[HASH_SIZE], *bytes = malloc(CONFIG_MAX_FILE);
    FILE *f = bytes != NULL ? fopen(s->config_path, "re") : NULL;
    enum sp_err err = f != NULL ? SP_OK : SP_ERR_SYSTEM;
    size_t len = f != NULL ? fread(bytes, 1, CONFIG_MAX_FILE, f) : 0;
    if (err == SP_OK && (ferror(f) || len == CONFIG_MAX_FILE))
        err = ferror(f) ? SP_ERR_SYSTEM : SP_ERR_LIMIT;
    if (err == SP_OK)
        err = keys_sha256(bytes, len, hash);
    if (err == SP_OK)
        sodium_bin2hex(s->config_sha256, sizeof(s->config_sha256), hash, sizeof(hash));
    if (f != NULL)
        fclose(f);
    free(bytes);
    return err;
}

enum sp_err resources_open(struct supervisor *s)
{
    const struct config *c = s->config;
    enum sp_err err = find_users(s);
    if (err == SP_OK && s->doorway.path == NULL)
        err = listen_all(c, &s->res.listening);
    if (err == SP_OK)
        err = open_state(s);
    if (err == SP_OK)
        err = check_trust_anchor(c);
    if (err == SP_OK)
        err = open_certificates(s);
    if (err == SP_OK)
        err = resources_load_template(s);
    if (err == SP_OK)
        err = open_control(s);
    return err;
}
