/* DKIM keys and credentials as files: what is taken, what is refused, and what belongs into DNS. */
#include "daemon/keeper/credentials.h"
#include "daemon/keeper/dkimkey.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* RFC 8463 appendix A.2: its private key, and the record that it gives. */
static const char rfc8463_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
    "-----END PRIVATE KEY-----\n";
static const char rfc8463_record[] =
    "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

static char *pem_of(EVP_PKEY *key, const char *passphrase, size_t *len)
{
    char *text, *copy;
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PKCS8PrivateKey(
                         bio, key, passphrase != NULL ? EVP_aes_128_cbc() : NULL, passphrase,
                         passphrase != NULL ? (int)strlen(passphrase) : 0, NULL, NULL),
                     1);
    *len = (size_t)BIO_get_mem_data(bio, &text);
    copy = malloc(*len);
    memcpy(copy, text, *len);
    BIO_free(bio);
    EVP_PKEY_free(key);
    return copy;
}

static enum sp_err load(EVP_PKEY *key, const char *passphrase, struct dkimkey **out)
{
    size_t len;
    char *pem = pem_of(key, passphrase, &len);
    enum sp_err err = dkimkey_load(pem, len, out);
    free(pem);
    return err;
}

static EVP_PKEY *rsa(unsigned bits)
{
    return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)bits);
}

static void test_refused(void **state)
{
    struct dkimkey *key;
    char big[1000];
    (void)state;
    assert_int_equal(load(rsa(1024), NULL, &key), SP_ERR_DENIED);
    assert_null(key);
    assert_int_equal(load(rsa(2040), NULL, &key), SP_ERR_DENIED);
    assert_int_equal(load(EVP_EC_gen("P-256"), NULL, &key), SP_ERR_DENIED);
    assert_int_equal(load(EVP_PKEY_Q_keygen(NULL, NULL, "X25519"), NULL, &key), SP_ERR_DENIED);
    assert_int_equal(load(rsa(2048), "secret", &key), SP_ERR_FORMAT);
    memset(big, 'A', sizeof(big));
    assert_int_equal(dkimkey_load(big, sizeof(big), &key), SP_ERR_FORMAT);
    assert_int_equal(dkimkey_load("", 0, &key), SP_ERR_FORMAT);
    assert_int_equal(dkimkey_load(rfc8463_key, sizeof(rfc8463_key) - 40, &key), SP_ERR_FORMAT);
    dkimkey_free(NULL);
}

static void test_record(void **state)
{
    char record[DKIMKEY_RECORD];
    struct dkimkey *key;
    (void)state;
    assert_int_equal(dkimkey_load(rfc8463_key, strlen(rfc8463_key), &key), SP_OK);
    assert_int_equal(dkimkey_algorithm(key), DKIMKEY_ED25519_SHA256);
    assert_int_equal(dkimkey_record(key, record), SP_OK);
    assert_string_equal(record, rfc8463_record);
    dkimkey_free(key);
    for (unsigned bits = 2048; bits <= 4096; bits += 1024) {
        assert_int_equal(load(rsa(bits), NULL, &key), SP_OK);
        assert_int_equal(dkimkey_record(key, record), SP_OK);
        assert_memory_equal(record, "v=DKIM1; k=rsa; p=MII", 21);
        dkimkey_free(key);
    }
}

static void test_made(void **state)
{
    static const enum dkimkey_algorithm kinds[] = {DKIMKEY_RSA_SHA256, DKIMKEY_ED25519_SHA256};
    char pem[DKIMKEY_FILE_MAX];
    uint8_t hash[HASH_SIZE] = {1}, signature[DKIMKEY_SIGNATURE];
    struct dkimkey *key;
    (void)state;
    for (int i = 0; i < 2; i++) {
        int pipes[2];
        size_t len;
        assert_int_equal(pipe(pipes), 0);
        assert_int_equal(dkimkey_make(kinds[i], pipes[1]), SP_OK);
        ssize_t n = read(pipes[0], pem, sizeof(pem));
        assert_int_equal(dkimkey_load(pem, (size_t)n, &key), SP_OK);
        assert_int_equal(dkimkey_algorithm(key), kinds[i]);
        assert_int_equal(dkimkey_sign(key, hash, signature, &len), SP_OK);
        assert_int_equal(len, i == 0 ? 256 : 64);
        dkimkey_free(key);
        close(pipes[0]);
        close(pipes[1]);
    }
    assert_int_equal(dkimkey_make(DKIMKEY_ED25519_SHA256, -1), SP_ERR_SYSTEM);
}

static void test_credentials(void **state)
{
    static const struct {
        const char *text, *user, *password; /* user NULL: refused */
    } cases[] = {
        {"user:password", "user", "password"},
        {"user:password\n", "user", "password"},
        {"user:password\r\n", "user", "password"},
        {"user@example.org:p:w \xc3\xa9", "user@example.org", "p:w \xc3\xa9"},
        {"", NULL, NULL},
        {"\n", NULL, NULL},
        {"user", NULL, NULL},
        {":password", NULL, NULL},
        {"user:", NULL, NULL},
        {"user:\n", NULL, NULL},
        {"user:pass\nword", NULL, NULL},
        {"user:password\n\n", NULL, NULL},
        {"us\ter:password", NULL, NULL},
    };
    struct credentials c;
    char big[600];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum sp_err err = credentials_parse(cases[i].text, strlen(cases[i].text), &c);
        assert_int_equal(err, cases[i].user != NULL ? SP_OK : SP_ERR_FORMAT);
        if (err != SP_OK)
            continue;
        assert_int_equal(c.user_len, strlen(cases[i].user));
        assert_memory_equal(c.user, cases[i].user, c.user_len);
        assert_int_equal(c.password_len, strlen(cases[i].password));
        assert_memory_equal(c.password, cases[i].password, c.password_len);
    }
    assert_int_equal(credentials_parse("a\0:b", 4, &c), SP_ERR_FORMAT);
    memset(big, 'x', sizeof(big));
    big[255] = ':';
    assert_int_equal(credentials_parse(big, 256 + 255, &c), SP_OK);
    assert_int_equal(credentials_parse(big, 256 + 256, &c), SP_ERR_LIMIT);
    big[255] = 'x';
    big[256] = ':';
    assert_int_equal(credentials_parse(big, 300, &c), SP_ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_record),
        cmocka_unit_test(test_made),
        cmocka_unit_test(test_credentials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
