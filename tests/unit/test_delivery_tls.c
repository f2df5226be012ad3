/* A delivery and what is between it and the server: TLS as the settings want it, the smarthost's
 * password, how much of a mail is in the clear at once, and being told to end. */
#include "tests/unit/delivering.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <time.h>

static SSL_CTX *server_tls;

/* Self-signed for "mx.test"; the client believes it. */
static int make_tls(void **state)
{
    start(state);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"mx.test", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509_set_pubkey(cert, key);
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:mx.test");
    X509_add_ext(cert, names, -1);
    X509_EXTENSION_free(names);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    server_tls = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(server_tls, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(server_tls, key), 1);
    BIO *bio = BIO_new(BIO_s_mem());
    char *pem;
    X509_STORE *believed;
    assert_int_equal(PEM_write_bio_X509(bio, cert), 1);
    long len = BIO_get_mem_data(bio, &pem);
    assert_int_equal(remote_store_new(pem, (size_t)len, &believed), SP_OK);
    SSL_CTX_free(client_tls);
    assert_int_equal(remote_tls_new(believed, &client_tls), SP_OK);
    X509_STORE_free(believed);
    BIO_free(bio);
    X509_free(cert);
    EVP_PKEY_free(key);
    return 0;
}

static int end_tls(void **state)
{
    (void)state;
    SSL_CTX_free(server_tls);
    SSL_CTX_free(client_tls);
    return 0;
}

static void test_verified(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    server.tls = server_tls;
    server_start(&server);
    config.relay_tls = TLS_REQUIRE;
    assert_int_equal(deliver(), SP_OK);
    assert_arrived(0);
    assert_true(server.seen->mail[0].tls);
    assert_int_equal(peers.told[0].state, DELIVERY_SENT);
    assert_int_equal(peers.told[0].tls, REMOTE_VERIFIED);
}

static void test_another_name(void **state)
{
    (void)state;
    for (int require = 0; require < 2; require++) {
        write_mail(header, "body\r\n");
        server.tls = server_tls;
        server_start(&server);
        peers.mx[0].host = "other.test";
        config.relay_tls = require ? TLS_REQUIRE : TLS_MAY;
        assert_int_equal(deliver(), SP_OK);
        assert_int_equal(server.seen->mails, !require);
        assert_int_equal(peers.told[0].state, require ? DELIVERY_DEFERRED : DELIVERY_SENT);
        if (!require)
            assert_int_equal(peers.told[0].tls, REMOTE_ENCRYPTED);
        tear_down(NULL);
        set_up(NULL);
    }
}

static void test_no_tls(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    server_start(&server);
    config.relay_tls = TLS_REQUIRE;
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(server.seen->mails, 0);
    assert_int_equal(peers.told[0].state, DELIVERY_DEFERRED);
}

/* Encryption that fails: in the clear, where it may be, over a new connection. */
static void test_broken_tls(void **state)
{
    (void)state;
    for (int require = 0; require < 2; require++) {
        write_mail(header, "body\r\n");
        server.tls_broken = true;
        server_start(&server);
        config.relay_tls = require ? TLS_REQUIRE : TLS_MAY;
        assert_int_equal(deliver(), SP_OK);
        assert_int_equal(server.seen->connections, require ? 1 : 2);
        assert_int_equal(peers.told[0].state, require ? DELIVERY_DEFERRED : DELIVERY_SENT);
        assert_int_equal(peers.told[0].times, 1);
        tear_down(NULL);
        set_up(NULL);
    }
}

/* --- smarthost --- */

static char smarthost[64];

static void use_smarthost(const char *name)
{
    snprintf(smarthost, sizeof(smarthost), "%s:%u", name, server.port);
    config.relay_mode = RELAY_SMARTHOST;
    config.private_addresses = CONFIG_NO; /* the operator named this host */
    config.smarthost = smarthost;
    config.relay_port = 1;
}

static void test_smarthost(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    server.tls = server_tls;
    server.extensions = "250-AUTH PLAIN\r\n";
    server_start(&server);
    use_smarthost("mx.test");
    peers.user = "user";
    peers.password = "secret";
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(peers.told[0].state, DELIVERY_SENT);
    assert_string_equal(server.seen->auth, "AUTH PLAIN AHVzZXIAc2VjcmV0");
}

/* A password goes nowhere but under verified TLS, whatever [relay] tls says. */
static void test_password_needs_verified_tls(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        write_mail(header, "body\r\n");
        server.tls = tls ? server_tls : NULL;
        server.extensions = "250-AUTH PLAIN LOGIN\r\n";
        server_start(&server);
        use_smarthost("other.test");
        peers.mx[0].host = "other.test";
        peers.user = "user";
        peers.password = "secret";
        assert_int_equal(deliver(), SP_OK);
        assert_string_equal(server.seen->auth, "");
        assert_int_equal(server.seen->mails, 0);
        assert_int_equal(peers.told[0].state, DELIVERY_DEFERRED);
        tear_down(NULL);
        set_up(NULL);
    }
}

/* Port 465: nothing is said in the clear, and there is no way back. */
static void test_implicit_tls(void **state)
{
    static struct remote remote;
    static struct dialog dialog;
    const struct dialog_settings set = {
        .hostname = "mail.example.org", .peer = "mx.test", .implicit = true, .ctx = client_tls};
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct dialog_verdict why = {0};
        server.implicit = tls;
        server.tls = tls ? server_tls : NULL;
        server_start(&server);
        assert_int_equal(
            remote_connect(&remote, (uint8_t[]){127, 0, 0, 1}, 4, server.port, 10000, 0, NULL),
            SP_OK);
        assert_int_equal(dialog_open(&dialog, &remote, &set, &why),
                         tls ? DIALOG_READY : DIALOG_OTHER);
        if (tls) {
            assert_int_equal(remote.tls, REMOTE_VERIFIED);
            dialog_quit(&dialog);
        } else {
            assert_int_equal(why.outcome, DIALOG_DEFERRED);
            assert_true(remote.tls == REMOTE_CLEAR && why.code == 0); /* its 220 is no answer */
        }
        remote_close(&remote);
        tear_down(NULL);
        set_up(NULL);
    }
}

static void test_smarthost_without_password(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    server_start(&server);
    use_smarthost("127.0.0.1");
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(peers.told[0].state, DELIVERY_SENT);
    assert_int_equal(peers.lookups, 0);
}

/* --- the window --- */

#define MARK "wNdWmArK"

static size_t line_length, most_marks;

/* All that the delivery could read of itself right now. */
static void count_marks(struct peers *p, unsigned count)
{
    static uint8_t buf[1 << 20];
    char path[64], line[512];
    size_t marks = 0;
    (void)p;
    if (count % 3 != 0)
        return;
    kill(child, SIGSTOP);
    assert_int_equal(waitpid(child, NULL, WUNTRACED), child);
    snprintf(path, sizeof(path), "/proc/%d/maps", child);
    FILE *maps = fopen(path, "re");
    snprintf(path, sizeof(path), "/proc/%d/mem", child);
    FILE *mem = fopen(path, "re");
    assert_non_null(maps);
    assert_non_null(mem);
    while (fgets(line, sizeof(line), maps) != NULL) {
        unsigned long from, to;
        char rights[8];
        assert_int_equal(sscanf(line, "%lx-%lx %7s", &from, &to, rights), 3);
        if (rights[1] != 'w' || to - from > (256ul << 20)) /* shadow memory of the sanitizer */
            continue;
        for (unsigned long at = from; at < to; at += sizeof(buf)) {
            size_t want = to - at < sizeof(buf) ? to - at : sizeof(buf);
            if (fseek(mem, (long)at, SEEK_SET) != 0)
                continue;
            size_t got = fread(buf, 1, want, mem);
            for (uint8_t *m = buf; (m = memmem(m, got - (size_t)(m - buf), MARK, 8)) != NULL; m++)
                marks++;
        }
    }
    fclose(maps);
    fclose(mem);
    most_marks = marks > most_marks ? marks : most_marks;
    kill(child, SIGCONT);
}

static void test_window(void **state)
{
    static uint8_t text[1500000];
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        memcpy(text, header, strlen(header));
        mail_lines(text + strlen(header), sizeof(text) - strlen(header), MARK);
        const char *first = (const char *)text + strlen(header);
        line_length = (size_t)(strstr(first, "\r\n") - first) + 2;
        mail_piece(&mail, text, sizeof(text), 0);
        mail_piece(&mail, text + strlen(header), line_length * 6000, strlen(header) + line_length);
        mail_piece(&mail, text + strlen(header), line_length * 500,
                   strlen(header) + line_length * 1000);
        mail_seal(&mail);
        server.tls = tls ? server_tls : NULL;
        server_start(&server);
        peers.on_piece = count_marks;
        most_marks = 0;
        memset(text, 0, sizeof(text));
        assert_int_equal(deliver(), SP_OK);
        assert_arrived(0);
        print_message("window: %zu bytes of the mail at most, %s\n", most_marks * line_length,
                      tls ? "under TLS" : "in the clear");
        assert_true(most_marks > 0);
        assert_true(most_marks * line_length <= 64 * 1024);
        tear_down(NULL);
        set_up(NULL);
    }
}

/* --- being told to end --- */

static void stop_now(struct peers *p, unsigned count)
{
    (void)p;
    if (count == 9)
        kill(child, SIGTERM);
}

static void test_told_to_end_inside_content(void **state)
{
    static uint8_t text[1500000];
    (void)state;
    memcpy(text, header, strlen(header));
    mail_lines(text + strlen(header), sizeof(text) - strlen(header), "body");
    mail_piece(&mail, text, sizeof(text) / 2, 0); /* seven parts */
    mail_seal(&mail);
    server_start(&server);
    peers.on_piece = stop_now;
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(server.seen->mails, 0);
    assert_int_equal(peers.results, 0);
}

static pid_t killer;

static void stop_in_a_moment(struct peers *p, unsigned count)
{
    (void)p;
    if (count != 0)
        return;
    killer = fork();
    if (killer == 0) {
        while (server.seen->commands < 4) /* EHLO, MAIL, RCPT, DATA */
            usleep(1000);
        usleep(300000);
        kill(child, SIGTERM);
        _exit(0);
    }
}

/* The final dot is out: the answer is waited for, and told. */
static void test_told_to_end_before_the_answer(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    server.deaf_final = 2;
    server_start(&server);
    peers.on_piece = stop_in_a_moment;
    assert_int_equal(deliver(), SP_OK);
    waitpid(killer, NULL, 0);
    assert_int_equal(server.seen->mails, 1);
    assert_int_equal(peers.told[0].state, DELIVERY_SENT);
    assert_int_equal(peers.told[0].times, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_verified),
        TEST(test_another_name),
        TEST(test_no_tls),
        TEST(test_broken_tls),
        TEST(test_smarthost),
        TEST(test_password_needs_verified_tls),
        TEST(test_implicit_tls),
        TEST(test_smarthost_without_password),
        TEST(test_window),
        TEST(test_told_to_end_inside_content),
        TEST(test_told_to_end_before_the_answer),
    };
    return cmocka_run_group_tests(tests, make_tls, end_tls);
}
