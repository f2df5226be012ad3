/* TLS as a client. The server is hostile, and so may be whoever stands between: without a name that
 * must verify, TLS keeps out those alone who merely listen (RFC 7435). */
#include "daemon/relay/remote_tls.h"
#include "daemon/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define NAME_MAX_DNS 255u
#define RECORD       16384u

/* Where the name must verify: RFC 9325. */
static const char strict12[] = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
                               "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                               "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
/* Where the alternative is no encryption: whatever TLS 1.2 has, but for none at all. */
static const char loose12[] = "DEFAULT:!aNULL:!eNULL:@SECLEVEL=0";
static const char suites13[] =
    "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";

/* --- contexts --- */

enum sp_err remote_store_new(const char *pem, size_t len, X509_STORE **out)
{
    *out = NULL;
    BIO *bio = len <= INT_MAX ? BIO_new_mem_buf(pem, (int)len) : NULL;
    X509_STORE *store = X509_STORE_new();
    enum sp_err err = bio != NULL && store != NULL ? SP_OK : SP_ERR_MEMORY;
    X509 *cert = NULL;
    unsigned n = 0;
    ERR_clear_error();
    while (err == SP_OK && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        if (X509_STORE_add_cert(store, cert) != 1)
            err = SP_ERR_CRYPTO;
        X509_free(cert);
        n++;
    }
    if (err == SP_OK && (n == 0 || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE))
        err = SP_ERR_FORMAT;
    ERR_clear_error();
    BIO_free(bio);
    if (err == SP_OK)
        *out = store;
    else
        X509_STORE_free(store);
    return err;
}

/* No session is ever resumed: a ticket would tie one delivery to another. AUTO_RETRY would let a
 * server that floods us with tickets keep OpenSSL from returning to look at the clock. */
static bool set_options(SSL_CTX *ctx)
{
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                 SSL_OP_CLEANSE_PLAINTEXT);
    bool ok = SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
              SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
              SSL_CTX_set_ciphersuites(ctx, suites13) == 1;
    /* The hybrid group is there since OpenSSL 3.5. */
    return ok && (SSL_CTX_set1_groups_list(ctx, "X25519MLKEM768:X25519:P-256:P-384:P-521") == 1 ||
                  SSL_CTX_set1_groups_list(ctx, "X25519:P-256:P-384:P-521") == 1);
}

enum sp_err remote_tls_new(X509_STORE *store, SSL_CTX **out)
{
    *out = NULL;
    enum sp_err err = tls_init();
    if (err != SP_OK)
        return err;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL)
        return SP_ERR_MEMORY;
    bool ok = set_options(ctx);
    ERR_clear_error();
    if (!ok) {
        SSL_CTX_free(ctx);
        return SP_ERR_CRYPTO;
    }
    if (store != NULL)
        SSL_CTX_set1_cert_store(ctx, store);
    *out = ctx;
    return SP_OK;
}

/* --- one connection --- */

static bool is_numeric(const char *name)
{
    uint8_t address[16];
    return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

/* What the certificate must say: a subject alternative name (RFC 9525), never the subject. */
static bool expect_name(SSL *ssl, const char *name)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    if (is_numeric(name))
        return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                               X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    return X509_VERIFY_PARAM_set1_host(param, name, 0) == 1 &&
           SSL_set_tlsext_host_name(ssl, name) == 1;
}

static bool set_strength(SSL *ssl, bool must_verify)
{
    if (must_verify) {
        SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
        SSL_set_security_level(ssl, 2);
        return SSL_set_cipher_list(ssl, strict12) == 1;
    }
    SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
    SSL_set_options(ssl, SSL_OP_LEGACY_SERVER_CONNECT);
    return SSL_set_cipher_list(ssl, loose12) == 1;
}

enum sp_err remote_tls_begin(struct remote *r, SSL_CTX *ctx, const char *name, bool must_verify)
{
    char bare[NAME_MAX_DNS + 1];
    size_t len = strlen(name);
    if (len > 0 && name[len - 1] == '.')
        len--;
    if (len == 0 || len > NAME_MAX_DNS)
        return SP_ERR_FORMAT;
    memcpy(bare, name, len);
    bare[len] = '\0';
    ERR_clear_error();
    r->ssl = SSL_new(ctx);
    bool ok = r->ssl != NULL && SSL_set_fd(r->ssl, r->fd) == 1 && expect_name(r->ssl, bare) &&
              set_strength(r->ssl, must_verify);
    ERR_clear_error();
    return ok ? SP_OK : SP_ERR_CRYPTO;
}

/* What a call on r->ssl returned; errno was 0 before it. */
static enum remote_try result_of(struct remote *r, int result, short *events)
{
    switch (SSL_get_error(r->ssl, result)) {
    case SSL_ERROR_NONE:
        return TRY_DONE;
    case SSL_ERROR_WANT_READ:
        *events = POLLIN;
        return TRY_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        *events = POLLOUT;
        return TRY_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        r->end = REMOTE_CLOSED;
        return TRY_OVER;
    case SSL_ERROR_SYSCALL:
        r->end = REMOTE_CUT;
        return TRY_OVER;
    default:
        /* An end without close_notify may be a truncation. */
        r->end = ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING
                     ? REMOTE_CUT
                     : REMOTE_BROKEN;
        return TRY_OVER;
    }
}

enum remote_try remote_tls_handshake(struct remote *r, short *events)
{
    errno = 0;
    ERR_clear_error();
    enum remote_try tried = result_of(r, SSL_connect(r->ssl), events);
    if (tried != TRY_DONE)
        return tried;
    X509 *cert = SSL_get0_peer_certificate(r->ssl);
    bool verified = cert != NULL && SSL_get_verify_result(r->ssl) == X509_V_OK;
    r->tls = verified ? REMOTE_VERIFIED : REMOTE_ENCRYPTED;
    return TRY_DONE;
}

enum sp_err remote_tls_why(struct remote *r)
{
    long verify = SSL_get_verify_result(r->ssl);
    bool refused = verify != X509_V_OK && (SSL_get_verify_mode(r->ssl) & SSL_VERIFY_PEER) != 0;
    const char *words =
        refused ? X509_verify_cert_error_string(verify) : ERR_reason_error_string(ERR_peek_error());
    if (words == NULL)
        words = r->end == REMOTE_BROKEN ? "handshake failed" : "connection closed in the handshake";
    snprintf(r->why, sizeof(r->why), "%s", words);
    ERR_clear_error();
    if (refused)
        return SP_ERR_AUTH;
    return r->end == REMOTE_BROKEN ? SP_ERR_CRYPTO : SP_ERR_PEER;
}

enum remote_try remote_tls_read(struct remote *r, short *events)
{
    errno = 0;
    ERR_clear_error();
    int n = SSL_read(r->ssl, r->in, (int)sizeof(r->in));
    enum remote_try tried = result_of(r, n, events);
    if (tried == TRY_DONE)
        r->len = (size_t)n;
    ERR_clear_error();
    return tried;
}

enum remote_try remote_tls_write(struct remote *r, const uint8_t *at, size_t len, size_t *put,
                                 short *events)
{
    errno = 0;
    ERR_clear_error();
    int n = SSL_write(r->ssl, at, (int)(len < RECORD ? len : RECORD));
    enum remote_try tried = result_of(r, n, events);
    *put = tried == TRY_DONE ? (size_t)n : 0;
    ERR_clear_error();
    return tried;
}

void remote_tls_end(struct remote *r)
{
    if (r->ssl == NULL)
        return;
    if (r->end == REMOTE_OPEN || r->end == REMOTE_CLOSED)
        SSL_shutdown(r->ssl);
    SSL_free(r->ssl);
    ERR_clear_error();
    r->ssl = NULL;
}
