/* A self-signed certificate for trying things out: user mode alone makes one, when none is given.
 */
#include "daemon/supervisor.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEN_YEARS (3650L * 86400L)

static int add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    int ok = ext != NULL && X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
    return ok;
}

static int fill_in(X509 *cert, EVP_PKEY *key, const char *hostname)
{
    char names[512];
    uint64_t serial = 1;
    X509_NAME *name = X509_get_subject_name(cert);
    snprintf(names, sizeof(names), "DNS:%s,DNS:localhost,IP:127.0.0.1,IP:::1", hostname);
    return RAND_bytes((unsigned char *)&serial, sizeof(serial)) == 1 &&
           X509_set_version(cert, X509_VERSION_3) &&
           ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1) &&
           X509_gmtime_adj(X509_getm_notBefore(cert), -3600) != NULL &&
           X509_gmtime_adj(X509_getm_notAfter(cert), TEN_YEARS) != NULL &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)hostname,
                                      -1, -1, 0) &&
           X509_set_issuer_name(cert, name) && X509_set_pubkey(cert, key) &&
           add_extension(cert, NID_subject_alt_name, names) &&
           add_extension(cert, NID_basic_constraints, "critical,CA:TRUE") &&
           X509_sign(cert, key, EVP_sha256()) > 0;
}

static FILE *create(const char *path, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    return fd >= 0 ? fdopen(fd, "w") : NULL;
}

static int write_pair(const char *hostname, const char *cert_path, const char *key_path)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    FILE *key_file = create(key_path, 0600), *cert_file = create(cert_path, 0644);
    int ok = key != NULL && cert != NULL && key_file != NULL && cert_file != NULL &&
             fill_in(cert, key, hostname) && PEM_write_X509(cert_file, cert) &&
             PEM_write_PrivateKey(key_file, key, NULL, NULL, 0, NULL, NULL);
    if (key_file != NULL)
        ok = fclose(key_file) == 0 && ok;
    if (cert_file != NULL)
        ok = fclose(cert_file) == 0 && ok;
    X509_free(cert);
    EVP_PKEY_free(key);
    return ok;
}

/* In a child: the supervisor's own memory never holds the key outside locked pages. */
enum sp_err selfsigned_make(const char *hostname, const char *cert_path, const char *key_path)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0)
        _exit(write_pair(hostname, cert_path, key_path) ? 0 : 1);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return SP_ERR_SYSTEM;
    if (status == 0)
        return SP_OK;
    dprintf(STDERR_FILENO, "sealpostd: cannot make a certificate in %s\n", cert_path);
    return SP_ERR_CRYPTO;
}
