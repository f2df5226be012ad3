/* Private keys as the operator's files hold them: trusted for what they are, not for being whole.
 */
#include "daemon/pem.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>

static int no_passphrase(char *buf, int size, int writing, void *ctx)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

enum sp_err pem_private_key(const char *pem, size_t len, EVP_PKEY **out)
{
    *out = NULL;
    if (len > INT_MAX)
        return SP_ERR_FORMAT;
    BIO *bio = BIO_new_mem_buf(pem, (int)len);
    if (bio == NULL)
        return SP_ERR_MEMORY;
    *out = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
    BIO_free(bio);
    ERR_clear_error();
    return *out != NULL ? SP_OK : SP_ERR_FORMAT;
}
