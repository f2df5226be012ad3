/* The TLS server side of smtp sessions and web. The certificate comes from the supervisor, each
 * signature from the keeper; the network's side is hostile. */
#include "daemon/tls.h"
#include "daemon/certificate.h"
#include "daemon/ipc.h"
#include "daemon/messages.h"
#include "daemon/tls_provider.h"
#include "sandbox/lockmem.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIGN_TIMEOUT_MS 10000
#define CHAIN_MAX       10

static int keeper = -1;
static bool lost;

static void *heap_malloc(size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return n > 0 ? lockheap_malloc(n) : NULL;
}

static void *heap_realloc(void *at, size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    if (at == NULL)
        return n > 0 ? lockheap_malloc(n) : NULL;
    if (n > 0)
        return lockheap_realloc(at, n);
    lockheap_free(at);
    return NULL;
}

static void heap_free(void *at, const char *file, int line)
{
    (void)file;
    (void)line;
    if (at != NULL)
        lockheap_free(at);
}

enum sp_err tls_use_lockheap(void)
{
    return CRYPTO_set_mem_functions(heap_malloc, heap_realloc, heap_free) == 1 ? SP_OK
                                                                               : SP_ERR_STATE;
}

enum sp_err tls_init(void)
{
    static bool done;
    if (done)
        return SP_OK;
    if (OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
        return SP_ERR_CRYPTO;
    enum sp_err err = tls_provider_load();
    done = err == SP_OK;
    return err;
}

void tls_set_keeper(int fd)
{
    keeper = fd;
    lost = false;
}

bool tls_keeper_lost(void)
{
    return lost;
}

/* --- asking the keeper --- */

static bool ready(short events)
{
    struct pollfd p = {.fd = keeper, .events = events};
    int n;
    do
        n = poll(&p, 1, SIGN_TIMEOUT_MS);
    while (n < 0 && errno == EINTR);
    return n == 1 && (p.revents & events) != 0;
}

static enum sp_err read_reply(struct ipc_frame *frame, uint32_t id, uint8_t *sig, size_t *sig_len)
{
    size_t len = 0;
    if (frame->fd >= 0) {
        close(frame->fd);
        return SP_ERR_PEER;
    }
    if (frame->type != SK_SIGN_REPLY || frame->id != id)
        return SP_ERR_PEER;
    uint8_t status = wire_get_u8(&frame->body);
    if (status != SP_OK)
        return wire_in_done(&frame->body) && status < SP_ERR_COUNT ? (enum sp_err)status
                                                                   : SP_ERR_PEER;
    const uint8_t *made = wire_get_b16(&frame->body, TLS_SIGNATURE_MAX, &len);
    if (!wire_in_done(&frame->body) || len == 0)
        return SP_ERR_PEER;
    memcpy(sig, made, len);
    *sig_len = len;
    return SP_OK;
}

enum sp_err tls_remote_sign(const char *algorithm, const char *digest, const uint8_t *tbs,
                            size_t tbs_len, uint8_t *sig, size_t *sig_len)
{
    static uint32_t id;
    uint8_t request[512], reply[IPC_HEADER + 3 + TLS_SIGNATURE_MAX];
    struct ipc_frame frame;
    struct wire_out out = wire_out(request, sizeof(request));
    *sig_len = 0;
    if (keeper < 0 || lost)
        return SP_ERR_PEER;
    wire_put_str(&out, algorithm);
    wire_put_str(&out, digest);
    wire_put_b32(&out, tbs, tbs_len);
    if (!wire_out_ok(&out))
        return SP_ERR_LIMIT;
    id++;
    enum sp_err err = SP_ERR_PEER;
    if (ready(POLLOUT))
        err = ipc_send_fd(keeper, SK_SIGN, id, request, out.len, -1);
    if (err == SP_OK)
        err = ready(POLLIN) ? ipc_recv(keeper, reply, sizeof(reply), &frame) : SP_ERR_PEER;
    if (err == SP_OK)
        err = read_reply(&frame, id, sig, sig_len);
    /* After silence or nonsense a late answer could be taken for the next one. */
    if (err == SP_ERR_PEER || err == SP_ERR_FORMAT)
        lost = true;
    return err;
}

/* --- contexts --- */

static bool key_is_served(EVP_PKEY *key)
{
    char group[32] = "";
    if (EVP_PKEY_is_a(key, "ED25519"))
        return true;
    if (EVP_PKEY_is_a(key, "RSA"))
        return EVP_PKEY_get_bits(key) >= 2048 && EVP_PKEY_get_bits(key) <= 4096;
    return EVP_PKEY_is_a(key, "EC") &&
           EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1 &&
           (strcmp(group, "prime256v1") == 0 || strcmp(group, "secp384r1") == 0);
}

/* The leaf, and the remote key that stands for its private one. */
static enum sp_err use_leaf(SSL_CTX *ctx, X509 *leaf)
{
    EVP_PKEY *public_key = X509_get0_pubkey(leaf), *key = NULL;
    if (public_key == NULL)
        return SP_ERR_FORMAT;
    if (!key_is_served(public_key))
        return SP_ERR_DENIED;
    enum sp_err err = tls_provider_key(public_key, &key);
    if (err == SP_OK &&
        (SSL_CTX_use_certificate(ctx, leaf) != 1 || SSL_CTX_use_PrivateKey(ctx, key) != 1 ||
         SSL_CTX_check_private_key(ctx) != 1))
        err = SP_ERR_CRYPTO;
    EVP_PKEY_free(key);
    return err;
}

/* Reads certificate after certificate until there is no more; anything broken is an error. */
static enum sp_err use_chain(SSL_CTX *ctx, const char *pem, size_t len)
{
    BIO *bio = len <= INT32_MAX ? BIO_new_mem_buf(pem, (int)len) : NULL;
    enum sp_err err = bio != NULL ? SP_OK : SP_ERR_MEMORY;
    int n = 0;
    while (err == SP_OK) {
        X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (cert == NULL)
            break;
        if (n == 0)
            err = use_leaf(ctx, cert);
        else if (n >= CHAIN_MAX)
            err = SP_ERR_LIMIT;
        else if (SSL_CTX_add1_chain_cert(ctx, cert) != 1)
            err = SP_ERR_CRYPTO;
        X509_free(cert);
        n++;
    }
    if (err == SP_OK && (n == 0 || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE))
        err = SP_ERR_FORMAT;
    BIO_free(bio);
    return err;
}

/* RFC 9325, and nothing older than it recommends; RSA key exchange, CBC and SHA-1 are out. */
static bool set_algorithms(SSL_CTX *ctx)
{
    static const char suites12[] = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
                                   "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                                   "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
    static const char suites13[] =
        "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";
    static const char signatures[] = "ed25519:ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:"
                                     "rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"
                                     "RSA+SHA256:RSA+SHA384:RSA+SHA512";
    bool ok = SSL_CTX_set_cipher_list(ctx, suites12) == 1 &&
              SSL_CTX_set_ciphersuites(ctx, suites13) == 1 &&
              SSL_CTX_set1_sigalgs_list(ctx, signatures) == 1;
    /* The hybrid group is there since OpenSSL 3.5; TLS 1.2 has no use for it. */
    return ok && (SSL_CTX_set1_groups_list(ctx, "X25519MLKEM768:X25519:P-256:P-384") == 1 ||
                  SSL_CTX_set1_groups_list(ctx, "X25519:P-256:P-384") == 1);
}

static bool set_options(SSL_CTX *ctx)
{
    SSL_CTX_set_security_level(ctx, 2);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                 SSL_OP_CLEANSE_PLAINTEXT);
    return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
           SSL_CTX_set_num_tickets(ctx, 0) == 1 && SSL_CTX_set_max_early_data(ctx, 0) == 1;
}

/* Acknowledges the end of the handshake. Without tickets there is nothing to send then, and a
 * client that gathers small writes (RFC 896) would keep its next line for the 40 ms of a delayed
 * acknowledgement. */
static void on_state(const SSL *ssl, int where, int ret)
{
    int on = 1;
    (void)ret;
    if ((where & SSL_CB_HANDSHAKE_DONE) != 0)
        setsockopt(SSL_get_fd(ssl), IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

enum sp_err tls_server_new(const char *pem, size_t len, SSL_CTX **out)
{
    *out = NULL;
    enum sp_err err = tls_init();
    if (err != SP_OK)
        return err;
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (ctx == NULL)
        return SP_ERR_MEMORY;
    SSL_CTX_set_info_callback(ctx, on_state);
    err = set_options(ctx) && set_algorithms(ctx) ? use_chain(ctx, pem, len) : SP_ERR_CRYPTO;
    ERR_clear_error();
    if (err == SP_OK)
        *out = ctx;
    else
        SSL_CTX_free(ctx);
    return err;
}

void tls_status(const SSL_CTX *ctx, struct wire_out *pairs)
{
    char hex[CERTIFICATE_DIGEST];
    certificate_digest(ctx != NULL ? SSL_CTX_get0_certificate(ctx) : NULL, hex);
    wire_put_str(pairs, "tls_certificate");
    wire_put_str(pairs, hex[0] != '\0' ? hex : "none");
}
