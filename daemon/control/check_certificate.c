/* The certificate: its dates and name, whether it fits its key, and whether the roles serve it.
 * What is on disk is the operator's; which one it serves a role says itself. */
#include "daemon/certificate.h"
#include "daemon/control/check.h"
#include "daemon/credential.h"
#include "daemon/tlspair.h"

#include <limits.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#define HOST      "host"
#define LAYER     "certificate"
#define SOON_DAYS 14

static void check_dates(struct report *r, X509 *cert, const struct config *c)
{
    int days = 0, seconds = 0;
    if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)) != 1)
        return;
    bool over = days < 0 || seconds < 0, soon = days < SOON_DAYS;
    report_row(r, HOST, LAYER,
               over || soon ? "renew it, then SIGHUP (systemctl reload sealpost)" : NULL,
               over ? "expired %d days ago" : "good for %d days", over ? -days : days);
    if (ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(cert), NULL) == 1 &&
        (days < 0 || seconds < 0))
        report_row(r, HOST, LAYER, "is the clock right?", "not good yet");
    bool names = X509_check_host(cert, c->hostname, 0, 0, NULL) == 1;
    report_row(r, HOST, LAYER, names ? NULL : "get one for the host name: clients check it",
               names ? "is for %s" : "is not for %s", c->hostname);
}

static void check_pair(struct report *r, const char *cert, const char *key)
{
    enum sp_err err = tlspair_check_files(cert, key);
    if (err == SP_OK)
        report_row(r, HOST, LAYER, NULL, "fits its key");
    else if (err == SP_ERR_AUTH)
        report_row(r, HOST, LAYER, "renew both together: with these a start fails",
                   "%s is not the key of %s", key, cert);
    else
        report_row(r, HOST, LAYER, "put it there, in PEM form, without a passphrase",
                   "%s cannot be read", key);
}

/* Mail and web get theirs from the supervisor, at its start and at each reload. */
static void check_served(struct report *r, const X509 *cert, const char *path,
                         const struct table *status)
{
    static const char *const roles[] = {"smtp", "web"};
    char want[CERTIFICATE_DIGEST];
    certificate_digest(cert, want);
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        const char *got = check_said(status, roles[i], "tls_certificate");
        bool same = got != NULL && strcmp(got, want) == 0;
        if (got != NULL) /* a role that does not answer has a finding of its own */
            report_row(r, roles[i], LAYER,
                       same ? NULL : "systemctl reload sealpost (restart, for a credential)",
                       same ? "serves %s, it says" : "serves another than %s, it says", path);
    }
}

void check_certificate(struct report *r, const struct config *c, const struct table *status)
{
    char path[PATH_MAX], key[PATH_MAX];
    bool named = c->tls_certificate != NULL && c->tls_key != NULL;
    snprintf(path, sizeof(path), "%s%s", named ? c->tls_certificate : c->state,
             named ? "" : "/self-signed.pem");
    snprintf(key, sizeof(key), "%s%s", named ? c->tls_key : c->state,
             named ? "" : "/self-signed.key");
    FILE *file = fopen(path, "re");
    X509 *cert = file != NULL ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    if (file != NULL)
        fclose(file);
    if (cert == NULL) {
        report_row(r, HOST, LAYER, "put it there, in PEM form", "%s cannot be read%s", path,
                   credential_advice(path));
        return;
    }
    check_dates(r, cert, c);
    check_pair(r, path, key);
    check_served(r, cert, path, status);
    X509_free(cert);
}
