/* A certificate's dates and names (certificate.h). The file is the operator's. */
#include "daemon/certificate.h"
#include "daemon/aside.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <unistd.h>

size_t certificate_faults(X509 *leaf, const char *hostname,
                          char faults[CERTIFICATE_FAULTS][CERTIFICATE_FAULT])
{
    size_t n = 0;
    int days = 0, seconds = 0;
    if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(leaf)) != 1)
        snprintf(faults[n++], CERTIFICATE_FAULT, "has no end that can be read; renew it");
    else if (days < 0 || seconds < 0)
        snprintf(faults[n++], CERTIFICATE_FAULT,
                 "expired %d days ago; renew it, then systemctl reload sealpost", -days);
    if (ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(leaf), NULL) == 1 &&
        (days < 0 || seconds < 0))
        snprintf(faults[n++], CERTIFICATE_FAULT,
                 "is not good yet, for another %d days; is the clock right?", -days);
    if (X509_check_host(leaf, hostname, 0, 0, NULL) != 1)
        snprintf(faults[n++], CERTIFICATE_FAULT,
                 "is not for %.80s; get one for the host name: clients check it", hostname);
    return n;
}

struct warning {
    const char *path, *pem, *hostname;
    size_t len;
};

static enum sp_err say_faults(void *ctx)
{
    const struct warning *w = ctx;
    char faults[CERTIFICATE_FAULTS][CERTIFICATE_FAULT];
    BIO *bio = w->len <= INT_MAX ? BIO_new_mem_buf(w->pem, (int)w->len) : NULL;
    X509 *leaf = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    size_t n = leaf != NULL ? certificate_faults(leaf, w->hostname, faults) : 0;
    for (size_t i = 0; i < n; i++)
        dprintf(STDERR_FILENO, "sealpostd: warning: %s: %s\n", w->path, faults[i]);
    return SP_OK;
}

void certificate_warn(const char *path, const char *pem, size_t len, const char *hostname)
{
    struct warning w = {path, pem, hostname, len};
    if (aside(say_faults, &w) != SP_OK)
        dprintf(STDERR_FILENO, "sealpostd: warning: %s: its dates cannot be checked\n", path);
}

void certificate_digest(const X509 *leaf, char hex[CERTIFICATE_DIGEST])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    hex[0] = '\0';
    if (leaf == NULL || X509_digest(leaf, EVP_sha256(), digest, &len) != 1)
        return;
    for (unsigned i = 0; i < len && 2 * i + 2 < CERTIFICATE_DIGEST; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}
