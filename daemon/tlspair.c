/* Do certificate and key belong together? Asked before they are handed out, since one half alone,
 * as a renewal under way leaves it, would end all TLS. The files are the operator's. */
#include "daemon/tlspair.h"

#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int no_passphrase(char *buf, int size, int writing, void *ctx)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

static enum sp_err check(const char *cert, size_t cert_len, const char *key, size_t key_len)
{
    if (cert_len > INT_MAX || key_len > INT_MAX)
        return SP_ERR_FORMAT;
    BIO *cert_bio = BIO_new_mem_buf(cert, (int)cert_len),
        *key_bio = BIO_new_mem_buf(key, (int)key_len);
    X509 *leaf = cert_bio != NULL ? PEM_read_bio_X509(cert_bio, NULL, NULL, NULL) : NULL;
    EVP_PKEY *secret =
        key_bio != NULL ? PEM_read_bio_PrivateKey(key_bio, NULL, no_passphrase, NULL) : NULL;
    if (leaf == NULL)
        return SP_ERR_FORMAT;
    if (secret == NULL)
        return SP_ERR_NO_KEY;
    return X509_check_private_key(leaf, secret) == 1 ? SP_OK : SP_ERR_AUTH;
}

/* Nothing is freed: the process ends, and its memory with it. */
static _Noreturn void run_child(const char *cert, size_t cert_len, const char *key, size_t key_len)
{
    mlockall(MCL_CURRENT | MCL_FUTURE); /* fails where little may be locked: it lives for ms */
    _exit((int)check(cert, cert_len, key, key_len));
}

enum sp_err tlspair_check(const char *cert, size_t cert_len, const char *key, size_t key_len)
{
    int status;
    pid_t got, pid = fork();
    if (pid < 0)
        return SP_ERR_SYSTEM;
    if (pid == 0)
        run_child(cert, cert_len, key, key_len);
    do
        got = waitpid(pid, &status, 0);
    while (got < 0 && errno == EINTR);
    if (got != pid || !WIFEXITED(status) || WEXITSTATUS(status) >= SP_ERR_COUNT)
        return SP_ERR_SYSTEM;
    return (enum sp_err)WEXITSTATUS(status);
}
