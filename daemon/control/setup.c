/* `sealpostctl setup`: makes the keys that are missing, prints what belongs into DNS, and says what
 * is left to do. It overwrites nothing. */
#include "daemon/control/ctl.h"
#include "daemon/role.h"
#include "daemon/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DKIM_PATH "/etc/sealpost/dkim.pem"

struct setup {
    const struct config *config;
    unsigned left; /* things to do */
};

static bool exists(const char *path)
{
    return path != NULL && access(path, F_OK) == 0;
}

static void made(const char *what, const char *path)
{
    fprintf(stderr, "made     %s: %s\n", what, path);
}

static void to_do(struct setup *s, const char *what, const char *detail)
{
    fprintf(stderr, "to do    %s%s\n", what, detail);
    s->left++;
}

/* Self-signed where there is none at all: other mail servers take it, clients and browsers do not.
 */
static void make_certificate(struct setup *s)
{
    const struct config *c = s->config;
    if (c->tls_certificate == NULL || c->tls_key == NULL) {
        to_do(s, "[tls] certificate and key: name the files, in the configuration", "");
        return;
    }
    if (exists(c->tls_certificate) && exists(c->tls_key))
        return;
    if (exists(c->tls_certificate) || exists(c->tls_key)) {
        to_do(s, "one of certificate and key is missing: ",
              exists(c->tls_key) ? c->tls_certificate : c->tls_key);
        return;
    }
    if (selfsigned_make(c->hostname, c->tls_certificate, c->tls_key) != SP_OK)
        to_do(s, "a certificate cannot be made: ", c->tls_certificate);
    else
        made("a self-signed certificate", c->tls_certificate);
}

static void judge_certificate(struct setup *s)
{
    FILE *file =
        s->config->tls_certificate != NULL ? fopen(s->config->tls_certificate, "re") : NULL;
    X509 *cert = file != NULL ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    if (file != NULL)
        fclose(file);
    if (cert != NULL && X509_NAME_cmp(X509_get_subject_name(cert), X509_get_issuer_name(cert)) == 0)
        to_do(s,
              "the certificate is self-signed: get one from a certification authority (ACME), "
              "then systemctl reload sealpost",
              "");
    X509_free(cert);
}

static void make_dkim_keys(struct setup *s)
{
    const struct config *c = s->config;
    if (c->relay_mode == RELAY_OFF)
        return;
    for (size_t i = 0; i < c->dkim_key.count; i++) {
        if (exists(c->dkim_key.item[i]))
            continue;
        if (dkim_new("rsa", c->dkim_key.item[i]) == 0)
            made("a DKIM key", c->dkim_key.item[i]);
        else
            s->left++;
    }
    if (c->dkim_key.count > 0)
        return;
    if (!exists(DKIM_PATH) && dkim_new("rsa", DKIM_PATH) == 0)
        made("a DKIM key", DKIM_PATH);
    to_do(s, "mail is not signed yet: set [relay] dkim_selector = sp1 and dkim_key = " DKIM_PATH,
          "");
}

static void check_users(struct setup *s)
{
    char name[32];
    if (s->config->uid_base != 0 || geteuid() != 0)
        return;
    for (int r = 0; r < ROLE_COUNT; r++) {
        snprintf(name, sizeof(name), "sealpost-%s", ctl_role_names[r]);
        if (getpwnam(name) == NULL) {
            to_do(s, "system users are missing: systemd-sysusers", "");
            return;
        }
    }
}

/* --- DNS --- */

/* RFC 6698: usage 3 (this very key), selector 1 (the public key), matching 1 (SHA-256). */
static bool tlsa_value(const char *path, char out[80])
{
    unsigned char digest[EVP_MAX_MD_SIZE], *der = NULL;
    unsigned len = 0;
    FILE *file = path != NULL ? fopen(path, "re") : NULL;
    X509 *cert = file != NULL ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    int n = cert != NULL ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der) : -1;
    bool ok = n > 0 && EVP_Digest(der, (size_t)n, digest, &len, EVP_sha256(), NULL) == 1;
    int at = snprintf(out, 80, "3 1 1 ");
    for (unsigned i = 0; ok && i < len; i++)
        at += snprintf(out + at, 80 - (size_t)at, "%02x", digest[i]);
    if (file != NULL)
        fclose(file);
    OPENSSL_free(der);
    X509_free(cert);
    return ok;
}

static void print_records(const struct config *c)
{
    char tlsa[80], id[32];
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(id, sizeof(id), "%Y%m%d%H%M%S", &tm);
    printf("; the host\n%s.  A  <this machine's address; its reverse name must be %s>\n",
           c->hostname, c->hostname);
    if (tlsa_value(c->tls_certificate, tlsa))
        printf("_25._tcp.%s.  TLSA  %s    ; if the zone is signed; publish anew before the key "
               "changes\n",
               c->hostname, tlsa);
    for (size_t i = 0; i < c->domain.count; i++) {
        const char *d = c->domain.item[i];
        printf("\n; %s\n%s.  MX  10 %s.\n", d, d, c->hostname);
        printf("%s.  TXT  \"v=spf1 mx -all\"\n", d);
        printf("_dmarc.%s.  TXT  \"v=DMARC1; p=reject; rua=mailto:postmaster@%s\"\n", d, d);
        printf("_mta-sts.%s.  TXT  \"v=STSv1; id=%s\"\n", d, id);
        printf("_smtp._tls.%s.  TXT  \"v=TLSRPTv1; rua=mailto:postmaster@%s\"\n", d, d);
    }
    printf("\n; MTA-STS needs this policy at https://mta-sts.DOMAIN/.well-known/mta-sts.txt\n"
           ";   version: STSv1\n;   mode: enforce\n;   mx: %s\n;   max_age: 604800\n\n",
           c->hostname);
}

int setup_run(const struct config *config)
{
    struct setup s = {.config = config};
    make_certificate(&s);
    make_dkim_keys(&s);
    print_records(config);
    if (config->relay_mode != RELAY_OFF && config->dkim_selector.count > 0) {
        printf("; DKIM\n");
        fflush(stdout);
        if (dkim_show(config, false) != 0)
            s.left++;
    }
    judge_certificate(&s);
    check_users(&s);
    if (access(config->control, F_OK) != 0)
        to_do(&s,
              "start it: systemctl enable --now sealpost; then sealpostctl user add ADDRESS, "
              "sealpostctl check",
              "");
    if (s.left == 0)
        fprintf(stderr, "nothing is left to do\n");
    return s.left == 0 ? 0 : 1;
}
