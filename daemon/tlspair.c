/* Do certificate and key belong together? Asked before they are handed out, since one half alone,
 * as a renewal under way leaves it, would end all TLS. The files are the operator's. */
#include "daemon/tlspair.h"
#include "daemon/aside.h"
#include "daemon/pem.h"

#include <limits.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#define FILE_MAX 65536u

struct pair {
    const char *cert, *key;
    size_t cert_len, key_len;
};

static enum sp_err check(void *ctx)
{
    const struct pair *p = ctx;
    EVP_PKEY *secret;
    if (p->cert_len > INT_MAX)
        return SP_ERR_FORMAT;
    BIO *bio = BIO_new_mem_buf(p->cert, (int)p->cert_len);
    X509 *leaf = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    if (leaf == NULL)
        return SP_ERR_FORMAT;
    if (pem_private_key(p->key, p->key_len, &secret) != SP_OK)
        return SP_ERR_NO_KEY;
    return X509_check_private_key(leaf, secret) == 1 ? SP_OK : SP_ERR_AUTH;
}

struct paths {
    const char *cert, *key;
};

static size_t read_file(const char *path, char buf[FILE_MAX])
{
    FILE *file = fopen(path, "re");
    size_t len = file != NULL ? fread(buf, 1, FILE_MAX, file) : 0;
    if (file != NULL)
        fclose(file);
    return len;
}

static enum sp_err check_files(void *ctx)
{
    static char cert[FILE_MAX], key[FILE_MAX];
    const struct paths *paths = ctx;
    struct pair p = {cert, key, read_file(paths->cert, cert), read_file(paths->key, key)};
    return p.cert_len > 0 && p.key_len > 0 ? check(&p) : SP_ERR_SYSTEM;
}

enum sp_err tlspair_check_files(const char *cert, const char *key)
{
    struct paths paths = {cert, key};
    return aside(check_files, &paths);
}

enum sp_err tlspair_check(const char *cert, size_t cert_len, const char *key, size_t key_len)
{
    struct pair p = {cert, key, cert_len, key_len};
    return aside(check, &p);
}
