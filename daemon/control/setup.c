/* `sealpostctl setup`: makes the keys that are missing, prints what belongs into DNS, and says what
 * is left to do. It overwrites nothing. */
#include "daemon/certificate.h"
#include "daemon/control/ctl.h"
#include "daemon/credential.h"
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
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define DKIM_PATH "/etc/sealpost/dkim.pem"

struct setup {
    const struct config *config;
    unsigned left;   /* things to do */
    unsigned failed; /* that it should have done */
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

static void failed(struct setup *s, const char *what, const char *detail)
{
    fprintf(stderr, "failed   %s%s\n", what, detail);
    s->failed++;
}

/* A credential is in no file of this process's: nothing can be said of it, nor made in its place.
 */
static bool is_unseen(const char *path)
{
    return path != NULL && !exists(path) && credential_advice(path)[0] != '\0';
}

static void unseen(const char *what, const char *path)
{
    fprintf(stderr, "unseen   %s: %s%s\n", what, path, credential_advice(path));
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
    if (is_unseen(c->tls_certificate))
        unseen("the certificate", c->tls_certificate);
    if (is_unseen(c->tls_key))
        unseen("the certificate's key", c->tls_key);
    bool certificate = exists(c->tls_certificate) || is_unseen(c->tls_certificate);
    bool key = exists(c->tls_key) || is_unseen(c->tls_key);
    if (certificate && key)
        return;
    if (certificate || key) {
        to_do(s, "one of certificate and key is missing: ", key ? c->tls_certificate : c->tls_key);
        return;
    }
    if (selfsigned_make(c->hostname, c->tls_certificate, c->tls_key) != SP_OK)
        failed(s, "a certificate cannot be made: ", c->tls_certificate);
    else
        made("a self-signed certificate", c->tls_certificate);
}

/* The caller frees (X509_free). NULL: there is none that can be read. */
static X509 *read_certificate(const struct config *c)
{
    FILE *file = c->tls_certificate != NULL ? fopen(c->tls_certificate, "re") : NULL;
    X509 *cert = file != NULL ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    if (file != NULL)
        fclose(file);
    return cert;
}

/* Or none at all: nobody but a user who was told can verify it. */
static bool self_signed(const struct config *c)
{
    X509 *cert = read_certificate(c);
    bool self =
        cert == NULL || X509_NAME_cmp(X509_get_subject_name(cert), X509_get_issuer_name(cert)) == 0;
    X509_free(cert);
    return self;
}

static void judge_certificate(struct setup *s)
{
    const struct config *c = s->config;
    char faults[CERTIFICATE_FAULTS][CERTIFICATE_FAULT];
    X509 *cert = read_certificate(c);
    size_t n = cert != NULL ? certificate_faults(cert, c->hostname, faults) : 0;
    if (cert == NULL && exists(c->tls_certificate))
        to_do(s, "the certificate cannot be read; put one there in PEM form: ", c->tls_certificate);
    for (size_t i = 0; i < n; i++)
        to_do(s, "the certificate ", faults[i]);
    if (cert != NULL && self_signed(c))
        to_do(s,
              "the certificate is self-signed: get one from a certification authority (ACME), "
              "then systemctl reload sealpost",
              "");
    X509_free(cert);
}

/* RFC 2606 section 3: the names of the configuration as it comes. */
static bool is_example(const char *name)
{
    static const char *const examples[] = {"example.org", "example.com", "example.net"};
    size_t len = strlen(name), n = strlen(examples[0]);
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++)
        if (len >= n && strcasecmp(name + len - n, examples[i]) == 0 &&
            (len == n || name[len - n - 1] == '.'))
            return true;
    return false;
}

static void judge_names(struct setup *s)
{
    const struct config *c = s->config;
    if (is_example(c->hostname))
        to_do(s, "[appliance] hostname is an example's: ", c->hostname);
    for (size_t i = 0; i < c->domain.count; i++)
        if (is_example(c->domain.item[i]))
            to_do(s, "[appliance] domain is an example's: ", c->domain.item[i]);
}

static void make_dkim_keys(struct setup *s)
{
    const struct config *c = s->config;
    if (c->relay_mode == RELAY_OFF)
        return;
    for (size_t i = 0; i < c->dkim_key.count; i++) {
        const char *path = c->dkim_key.item[i];
        if (exists(path) || is_unseen(path)) /* dkim_show() names the latter */
            continue;
        if (dkim_new("rsa", path) == 0)
            made("a DKIM key", path);
        else
            failed(s, "a DKIM key cannot be made: ", path);
    }
    if (c->dkim_key.count > 0)
        return;
    if (!exists(DKIM_PATH) && dkim_new("rsa", DKIM_PATH) == 0)
        made("a DKIM key", DKIM_PATH);
    if (!exists(DKIM_PATH)) {
        failed(s, "a DKIM key cannot be made: ", DKIM_PATH);
        return;
    }
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
static bool tlsa_value(const struct config *c, char out[80])
{
    unsigned char digest[EVP_MAX_MD_SIZE], *der = NULL;
    unsigned len = 0;
    X509 *cert = read_certificate(c);
    int n = cert != NULL ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der) : -1;
    bool ok = n > 0 && EVP_Digest(der, (size_t)n, digest, &len, EVP_sha256(), NULL) == 1;
    int at = snprintf(out, 80, "3 1 1 ");
    for (unsigned i = 0; ok && i < len; i++)
        at += snprintf(out + at, 80 - (size_t)at, "%02x", digest[i]);
    OPENSSL_free(der);
    X509_free(cert);
    return ok;
}

/* RFC 8461 sections 3.1 and 3.2. The id changes with the policy and with nothing else. Senders that
 * enforce it want a certificate that they can verify: until there is one, they only report. */
static void print_policy(const struct config *c)
{
    char policy[CONFIG_MAX_TEXT + 128], id[2 * EVP_MAX_MD_SIZE + 1] = "";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    bool testing = self_signed(c);
    int n = snprintf(policy, sizeof(policy),
                     ";   version: STSv1\n;   mode: %s\n;   mx: %s\n;   max_age: 604800\n",
                     testing ? "testing" : "enforce", c->hostname);
    if (EVP_Digest(policy, (size_t)n, digest, &len, EVP_sha256(), NULL) != 1)
        return;
    for (unsigned i = 0; i < 10; i++)
        snprintf(id + 2 * i, 3, "%02x", digest[i]);
    printf(
        "\n; MTA-STS: this policy at https://mta-sts.DOMAIN/.well-known/mta-sts.txt, which any web "
        "server may serve\n%s",
        policy);
    if (testing)
        printf("; mode: enforce is for a certificate from a certification authority; then run "
               "this again\n");
    for (size_t i = 0; i < c->domain.count; i++)
        printf("_mta-sts.%s.  TXT  \"v=STSv1; id=%s\"\n", c->domain.item[i], id);
}

static void print_records(const struct config *c)
{
    char tlsa[80];
    printf("; the host\n%s.  A  <this machine's address; its reverse name must be %s>\n",
           c->hostname, c->hostname);
    if (tlsa_value(c, tlsa))
        printf("_25._tcp.%s.  TLSA  %s    ; if the zone is signed; publish anew before the key "
               "changes\n",
               c->hostname, tlsa);
    for (size_t i = 0; i < c->domain.count; i++) {
        const char *d = c->domain.item[i];
        printf("\n; %s\n%s.  MX  10 %s.\n", d, d, c->hostname);
        printf("%s.  TXT  \"v=spf1 mx -all\"%s\n", d,
               c->relay_mode == RELAY_MX ? "" : "    ; name those who send for it instead of mx");
        printf("_dmarc.%s.  TXT  \"v=DMARC1; p=reject; rua=mailto:postmaster@%s\"\n", d, d);
        printf("_smtp._tls.%s.  TXT  \"v=TLSRPTv1; rua=mailto:postmaster@%s\"\n", d, d);
    }
    print_policy(c);
}

/* Of the keys that can be read. */
static void print_dkim(struct setup *s)
{
    const struct config *c = s->config;
    if (c->relay_mode == RELAY_OFF || c->dkim_selector.count == 0)
        return;
    bool hidden = false;
    for (size_t i = 0; i < c->dkim_key.count; i++)
        hidden |= is_unseen(c->dkim_key.item[i]);
    printf("\n; DKIM\n");
    fflush(stdout);
    if (dkim_show(c, false) == 0)
        return;
    if (hidden)
        to_do(s, "run this again while the service runs: a DKIM key is a credential", "");
    else
        failed(s, "the DKIM records cannot be made", "");
}

int setup_run(const struct config *config)
{
    struct setup s = {.config = config};
    make_certificate(&s);
    make_dkim_keys(&s);
    print_records(config);
    print_dkim(&s);
    judge_names(&s);
    judge_certificate(&s);
    check_users(&s);
    if (access(config->control, F_OK) != 0)
        to_do(&s,
              "start it: systemctl enable --now sealpost; then sealpostctl user add ADDRESS, "
              "sealpostctl check",
              "");
    if (s.left == 0 && s.failed == 0)
        fprintf(stderr, "nothing is left to do\n");
    return s.failed == 0 ? 0 : 1;
}
