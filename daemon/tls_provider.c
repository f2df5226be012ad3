/* An OpenSSL provider for keys that live in another process. It holds public keys alone, has no way
 * to export, and hands each whole input to tls_remote_sign, so that the keeper sees what it signs.
 * OpenSSL is trusted; functions here follow its convention (1: done, 0: failed). */
#include "daemon/tls_provider.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define NAME       "sealpost"
#define PROPERTIES "provider=" NAME

/* A key: counted, as contexts keep it beyond its EVP_PKEY. */
struct key {
    atomic_uint references;
    const char *type;
    EVP_PKEY *public_key; /* of the default provider; NULL before import */
};

struct signing {
    struct key *key;
    const char *digest; /* "" for Ed25519 */
    bool pss;
};

static struct key *key_new(const char *type)
{
    struct key *key = OPENSSL_zalloc(sizeof(*key));
    if (key == NULL)
        return NULL;
    atomic_init(&key->references, 1);
    key->type = type;
    return key;
}

static void *key_new_rsa(void *provctx)
{
    (void)provctx;
    return key_new("RSA");
}

static void *key_new_ec(void *provctx)
{
    (void)provctx;
    return key_new("EC");
}

static void *key_new_ed25519(void *provctx)
{
    (void)provctx;
    return key_new("ED25519");
}

static void key_free(void *keydata)
{
    struct key *key = keydata;
    if (key == NULL || atomic_fetch_sub(&key->references, 1) != 1)
        return;
    EVP_PKEY_free(key->public_key);
    OPENSSL_free(key);
}

/* The private half counts as there: it is, elsewhere. */
static int key_has(const void *keydata, int selection)
{
    const struct key *key = keydata;
    (void)selection;
    return key != NULL && key->public_key != NULL;
}

static int key_match(const void *a, const void *b, int selection)
{
    const struct key *one = a, *other = b;
    (void)selection;
    return one->public_key != NULL && other->public_key != NULL &&
           EVP_PKEY_eq(one->public_key, other->public_key) == 1;
}

static int key_import(void *keydata, int selection, const OSSL_PARAM params[])
{
    struct key *key = keydata;
    (void)selection;
    if (key->public_key != NULL)
        return 0;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, key->type, "provider=default");
    /* fromdata does not write to the parameters; its prototype is merely older than const. */
    int ok = ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
             EVP_PKEY_fromdata(ctx, &key->public_key, EVP_PKEY_PUBLIC_KEY,
                               (OSSL_PARAM *)(uintptr_t)params) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static const OSSL_PARAM *key_import_types(int selection)
{
    static const OSSL_PARAM types[] = {
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
        OSSL_PARAM_END,
    };
    return selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY ? types : NULL;
}

static int key_get_params(void *keydata, OSSL_PARAM params[])
{
    struct key *key = keydata;
    return key->public_key != NULL && EVP_PKEY_get_params(key->public_key, params) == 1;
}

static const OSSL_PARAM *key_gettable_params(void *provctx)
{
    static const OSSL_PARAM gettable[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)provctx;
    return gettable;
}

/* EC keys sign with ECDSA; the others with what they are called themselves. */
static const char *ec_operation(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? "ECDSA" : NULL;
}

static void *signing_new(void *provctx, const char *propq)
{
    (void)provctx;
    (void)propq;
    return OPENSSL_zalloc(sizeof(struct signing));
}

static void signing_free(void *ctx)
{
    struct signing *s = ctx;
    if (s != NULL)
        key_free(s->key);
    OPENSSL_free(s);
}

/* Our own name of a digest; NULL: one that we do not sign with. */
static const char *digest_name(const char *name)
{
    static const char *const known[] = {"SHA256", "SHA384", "SHA512"};
    if (name == NULL || *name == '\0')
        return "";
    EVP_MD *md = EVP_MD_fetch(NULL, name, NULL);
    const char *found = NULL;
    for (size_t i = 0; md != NULL && i < sizeof(known) / sizeof(known[0]); i++)
        if (EVP_MD_is_a(md, known[i]))
            found = known[i];
    EVP_MD_free(md);
    return found;
}

/* The padding as number or name. Salts are always as long as the digest (RFC 8446 section 4.2.3),
 * which is all that libssl asks for. */
static int signing_set_params(void *ctx, const OSSL_PARAM params[])
{
    struct signing *s = ctx;
    const OSSL_PARAM *p =
        params != NULL ? OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE) : NULL;
    int number = 0;
    const char *name = NULL;
    if (p == NULL)
        return 1;
    if (strcmp(s->key->type, "RSA") != 0)
        return 0;
    if (p->data_type == OSSL_PARAM_UTF8_STRING)
        (void)OSSL_PARAM_get_utf8_string_ptr(p, &name);
    else if (!OSSL_PARAM_get_int(p, &number))
        return 0;
    s->pss = number == RSA_PKCS1_PSS_PADDING ||
             (name != NULL && strcmp(name, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0);
    return s->pss || number == RSA_PKCS1_PADDING ||
           (name != NULL && strcmp(name, OSSL_PKEY_RSA_PAD_MODE_PKCSV15) == 0);
}

static const OSSL_PARAM *signing_settable_params(void *ctx, void *provctx)
{
    static const OSSL_PARAM settable[] = {
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)ctx;
    (void)provctx;
    return settable;
}

static int signing_init(void *ctx, const char *digest, void *keydata, const OSSL_PARAM params[])
{
    struct signing *s = ctx;
    struct key *key = keydata;
    if (key == NULL || s->key != NULL || (s->digest = digest_name(digest)) == NULL)
        return 0;
    atomic_fetch_add(&key->references, 1);
    s->key = key;
    return signing_set_params(ctx, params);
}

static int signing_sign(void *ctx, unsigned char *sig, size_t *sig_len, size_t cap,
                        const unsigned char *tbs, size_t tbs_len)
{
    struct signing *s = ctx;
    uint8_t made[TLS_SIGNATURE_MAX];
    size_t len = 0;
    const char *algorithm = s->key->type;
    if (sig == NULL) {
        *sig_len = (size_t)EVP_PKEY_get_size(s->key->public_key);
        return 1;
    }
    if (strcmp(algorithm, "EC") == 0)
        algorithm = "ECDSA";
    else if (s->pss)
        algorithm = "RSA-PSS";
    if (tls_remote_sign(algorithm, s->digest, tbs, tbs_len, made, &len) != SP_OK || len > cap)
        return 0;
    memcpy(sig, made, len);
    *sig_len = len;
    return 1;
}

#define F(id, function)                                                                            \
    {                                                                                              \
        id, (void (*)(void))function                                                               \
    }
#define KEYMGMT(new_function)                                                                      \
    F(OSSL_FUNC_KEYMGMT_NEW, new_function), F(OSSL_FUNC_KEYMGMT_FREE, key_free),                   \
        F(OSSL_FUNC_KEYMGMT_HAS, key_has), F(OSSL_FUNC_KEYMGMT_MATCH, key_match),                  \
        F(OSSL_FUNC_KEYMGMT_IMPORT, key_import),                                                   \
        F(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, key_import_types),                                       \
        F(OSSL_FUNC_KEYMGMT_GET_PARAMS, key_get_params),                                           \
        F(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, key_gettable_params)

static const OSSL_DISPATCH keymgmt_rsa[] = {KEYMGMT(key_new_rsa), {0, NULL}};
static const OSSL_DISPATCH keymgmt_ec[] = {
    KEYMGMT(key_new_ec), F(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, ec_operation), {0, NULL}};
static const OSSL_DISPATCH keymgmt_ed25519[] = {KEYMGMT(key_new_ed25519), {0, NULL}};
static const OSSL_DISPATCH signature[] = {
    F(OSSL_FUNC_SIGNATURE_NEWCTX, signing_new),
    F(OSSL_FUNC_SIGNATURE_FREECTX, signing_free),
    F(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, signing_init),
    F(OSSL_FUNC_SIGNATURE_DIGEST_SIGN, signing_sign),
    F(OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, signing_set_params),
    F(OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, signing_settable_params),
    {0, NULL},
};
/* The names are those by which libssl knows the key of a certificate. */
static const OSSL_ALGORITHM keymgmts[] = {
    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", PROPERTIES, keymgmt_rsa, NULL},
    {"EC:id-ecPublicKey:1.2.840.10045.2.1", PROPERTIES, keymgmt_ec, NULL},
    {"ED25519:1.3.101.112", PROPERTIES, keymgmt_ed25519, NULL},
    {NULL, NULL, NULL, NULL},
};
static const OSSL_ALGORITHM signatures[] = {
    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", PROPERTIES, signature, NULL},
    {"ECDSA", PROPERTIES, signature, NULL},
    {"ED25519:1.3.101.112", PROPERTIES, signature, NULL},
    {NULL, NULL, NULL, NULL},
};

static const OSSL_ALGORITHM *provider_query(void *provctx, int operation, int *no_store)
{
    (void)provctx;
    *no_store = 0;
    if (operation == OSSL_OP_KEYMGMT)
        return keymgmts;
    return operation == OSSL_OP_SIGNATURE ? signatures : NULL;
}

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                         const OSSL_DISPATCH **out, void **provctx)
{
    static const OSSL_DISPATCH functions[] = {F(OSSL_FUNC_PROVIDER_QUERY_OPERATION, provider_query),
                                              {0, NULL}};
    (void)in;
    *out = functions;
    *provctx = (void *)(uintptr_t)handle;
    return 1;
}

enum sp_err tls_provider_load(void)
{
    static OSSL_PROVIDER *standard, *ours; /* loaded for the life of the process */
    if (ours != NULL)
        return SP_OK;
    /* Loading any provider by hand drops the default one, unless that is loaded by hand too. */
    if (standard == NULL)
        standard = OSSL_PROVIDER_load(NULL, "default");
    if (standard == NULL || OSSL_PROVIDER_add_builtin(NULL, NAME, provider_init) != 1)
        return SP_ERR_CRYPTO;
    ours = OSSL_PROVIDER_load(NULL, NAME);
    if (ours == NULL || EVP_set_default_properties(NULL, "?provider!=" NAME) != 1)
        return SP_ERR_CRYPTO;
    return SP_OK;
}

enum sp_err tls_provider_key(EVP_PKEY *public_key, EVP_PKEY **out)
{
    enum sp_err err = SP_ERR_CRYPTO;
    OSSL_PARAM *params = NULL;
    *out = NULL;
    EVP_PKEY_CTX *ctx =
        EVP_PKEY_CTX_new_from_name(NULL, EVP_PKEY_get0_type_name(public_key), PROPERTIES);
    if (ctx == NULL || EVP_PKEY_todata(public_key, EVP_PKEY_PUBLIC_KEY, &params) != 1)
        goto out;
    if (EVP_PKEY_fromdata_init(ctx) == 1 &&
        EVP_PKEY_fromdata(ctx, out, EVP_PKEY_PUBLIC_KEY, params) == 1)
        err = SP_OK;
out:
    OSSL_PARAM_free(params);
    EVP_PKEY_CTX_free(ctx);
    return err;
}
