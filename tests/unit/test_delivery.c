/* A delivery from its lease to its results: the mail as a client sealed it, a real SMTP server at
 * the other end, store, keeper and resolver played by this test. What arrives is what was written,
 * each recipient is told of once and rightly, the sender hears of failures. */
#include "tests/unit/delivering.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static void test_one_mail(void **state)
{
    (void)state;
    write_mail(header, "Hello\r\n.\r\n..dots\r\n.\r\n");
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(server.seen->mails, 1);
    assert_arrived(0);
    assert_string_equal(server.seen->mail[0].to, "<bob@there.test> ");
    assert_int_equal(peers.told[0].state, DELIVERY_SENT);
    assert_int_equal(peers.told[0].times, 1);
    assert_int_equal(peers.told[0].code, 250);
    assert_string_equal(peers.told[0].enhanced, "2.0.0");
    assert_string_equal(peers.told[0].host, "mx.test");
    assert_int_equal(peers.told[0].tls, 0);
    assert_int_equal(peers.report_len, 0);
}

/* Attachments in the middle of a chunk, at its border, two at one place, at the ends; lengths
 * around a chunk's. */
static void test_splicing(void **state)
{
    static uint8_t text[200000];
    static const char *const extensions[] = {NULL, "250-CHUNKING\r\n250-PIPELINING\r\n"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        size_t head = strlen(header);
        memcpy(text, header, head);
        mail_lines(text + head, 100000, "body");
        mail_piece(&mail, text, head + 100000, 0);
        static const struct {
            size_t len;
            uint64_t at;
        } cut[] = {{16384, 5000}, {0, 5000}, {49152, 16384}, {70001, 40000}, {1, 40001}};
        for (size_t n = 0; n < sizeof(cut) / sizeof(cut[0]); n++) {
            memset(text, 'a' + (int)n, cut[n].len); /* no line ends: it stands inside a line */
            mail_piece(&mail, text, cut[n].len, cut[n].at);
        }
        mail_piece(&mail, "end\r\n", 5, head + 100000);
        mail_seal(&mail);
        server.extensions = extensions[i];
        server_start(&server);
        assert_int_equal(deliver(), SP_OK);
        assert_arrived(0);
        assert_int_equal(peers.told[0].state, DELIVERY_SENT);
        tear_down(NULL);
        set_up(NULL);
    }
}

static void test_added_header(void **state)
{
    (void)state;
    mail.added = "X-Added: yes\r\n";
    write_mail(header, "body\r\n");
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_arrived(0);
}

/* --- what a sender may not do --- */

static void test_from_of_another(void **state)
{
    static const char *const heads[] = {
        "From: eve@example.org\r\n\r\n",
        "From: alice@example.org\r\nFrom: eve@example.org\r\n\r\n",
        "From: alice@example.org, eve@example.org\r\n\r\n",
        "Subject: nobody\r\n\r\n",
        "From: alice@example.org.evil.test\r\n\r\n",
        "From: alic+e@example.org\r\n\r\n",
        "Sender: eve@example.org\r\nFrom: alice@example.org\r\n\r\n",
        "From: alice@example.org\r\nSender: alice@example.org\r\nSender: alice@example.org\r\n\r\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        write_mail(heads[i], "body\r\n");
        server_start(&server);
        assert_int_equal(deliver(), SP_OK);
        assert_int_equal(server.seen->connections, 0);
        assert_int_equal(peers.lookups + peers.signatures, 0);
        assert_int_equal(peers.told[0].state, DELIVERY_FAILED);
        assert_int_equal(peers.told[0].code, 550);
        assert_string_equal(peers.told[0].enhanced, "5.7.1");
        assert_true(peers.report_len > 0 && peers.report_letter_len > 0);
        tear_down(NULL);
        set_up(NULL);
    }
}

static void test_own_address(void **state)
{
    static const char *const heads[] = {
        "From: \"A. B.\" <ALLY@Example.ORG>\r\n\r\n",
        "From: alice+lists@example.org\r\n\r\n",
        "From: alice@example.org\r\nSender: Ally <ally@example.org>\r\n\r\n",
        "From: alice@xn--bcher-kva.example\r\n\r\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        write_mail(heads[i], "body\r\n");
        peers.own[2] = "Alice@b\xc3\xbc"
                       "cher.example";
        server_start(&server);
        assert_int_equal(deliver(), SP_OK);
        assert_int_equal(peers.told[0].state, DELIVERY_SENT);
        tear_down(NULL);
        set_up(NULL);
    }
}

/* Bare line ends would smuggle another mail into the next server. */
static void test_smuggling(void **state)
{
    static const char *const bodies[] = {"a\n.\nMAIL FROM:<x@y>\n", "a\r.\r\n", "a\r\n.\n\r\n"};
    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        write_mail(header, bodies[i]);
        server_start(&server);
        assert_int_equal(deliver(), SP_OK);
        assert_int_equal(server.seen->connections, 0);
        assert_int_equal(peers.told[0].state, DELIVERY_FAILED);
        assert_string_equal(peers.told[0].enhanced, "5.6.0");
        tear_down(NULL);
        set_up(NULL);
    }
}

static void test_loop(void **state)
{
    static char head[4096];
    size_t at = 0;
    (void)state;
    for (int i = 0; i < 100; i++)
        at += (size_t)snprintf(head + at, sizeof(head) - at, "Received: by x;\r\n y\r\n");
    snprintf(head + at, sizeof(head) - at, "%s", header);
    mail_piece(&mail, head, strlen(head), 0);
    mail_seal(&mail);
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_string_equal(peers.told[0].enhanced, "5.4.6");
    assert_int_equal(server.seen->connections, 0);
}

/* --- what a store that was taken over may not do --- */

static void test_damaged_piece(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    mail.sealed[0][mail.sealed_len[0] - 3] ^= 1;
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(server.seen->connections, 0);
    assert_int_equal(peers.told[0].state, DELIVERY_FAILED);
    assert_string_equal(peers.told[0].enhanced, "5.6.0");
    assert_true(peers.report_len > 0);
}

/* Each tag is right and the text is the same, but these are not the bytes that the sender has
 * signed. */
static void test_another_ciphertext(void **state)
{
    (void)state;
    mail.sealed_twice = true;
    write_mail(header, "body\r\n");
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(server.seen->connections, 0);
    assert_int_equal(peers.told[0].state, DELIVERY_FAILED);
    assert_string_equal(peers.told[0].enhanced, "5.6.0");
}

/* Between the passes: the last part of the second one. */
static void spoil(struct peers *p, unsigned count)
{
    if (count == 5)
        p->mail->sealed[0][p->mail->sealed_len[0] - 3] ^= 1;
}

static void test_damaged_between_passes(void **state)
{
    static uint8_t text[300000]; /* three parts */
    (void)state;
    memcpy(text, header, strlen(header));
    mail_lines(text + strlen(header), sizeof(text) - strlen(header), "body");
    mail_piece(&mail, text, sizeof(text), 0);
    mail_seal(&mail);
    peers.on_piece = spoil;
    server_start(&server);
    assert_int_equal(deliver(), SP_ERR_AUTH);
    assert_int_equal(server.seen->mails, 0);
    assert_int_equal(peers.results, 0);
}

static void test_wrong_parts(void **state)
{
    (void)state;
    for (int i = 1; i <= 3; i++) {
        write_mail(header, "body\r\n");
        peers.wrong_part = i;
        server_start(&server);
        assert_int_not_equal(deliver(), SP_OK);
        assert_int_equal(server.seen->connections, 0);
        assert_int_equal(peers.results, 0);
        tear_down(NULL);
        set_up(NULL);
    }
}

static void test_box_of_another_mail(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    mail.letter[mail.letter_len - 5] ^= 1;
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_false(peers.opened);
    assert_int_equal(peers.told[0].state, DELIVERY_FAILED);
    assert_string_equal(peers.told[0].enhanced, "5.6.0");
    assert_int_equal(peers.pieces_asked, 0);
}

static void test_nothing_to_open(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    peers.kind = 0;
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(peers.told[0].state, DELIVERY_FAILED);
    assert_string_equal(peers.told[0].enhanced, "5.3.0");
    assert_true(peers.report_len > 0);
    assert_int_equal(peers.pieces_asked, 0);
}

static void test_no_signature(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    peers.dkim_fails = true;
    server_start(&server);
    assert_int_equal(deliver(), SP_ERR_NO_KEY);
    assert_int_equal(server.seen->connections, 0);
    assert_int_equal(peers.results, 0);
}

/* --- recipients --- */

static char names[PEER_RCPTS][40];

static void many(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof(names[i]), "user%zu@there.test", i);
        peers.to[i] = names[i];
    }
    peers.n_to = n;
}

static void test_each_recipient_its_own_answer(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    many(3);
    server.rcpt[1] = "550 5.1.1 nobody of that name";
    server.rcpt[2] = "450 4.2.1 later";
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_arrived(0);
    assert_string_equal(server.seen->mail[0].to, "<user0@there.test> ");
    assert_int_equal(peers.told[0].state, DELIVERY_SENT);
    assert_int_equal(peers.told[1].state, DELIVERY_FAILED);
    assert_int_equal(peers.told[1].code, 550);
    assert_string_equal(peers.told[1].enhanced, "5.1.1");
    assert_non_null(strstr(peers.told[1].text, "nobody of that name"));
    assert_int_equal(peers.told[2].state, DELIVERY_DEFERRED);
    assert_int_equal(peers.told[2].code, 450);
    for (int i = 0; i < 3; i++)
        assert_int_equal(peers.told[i].times, 1);
}

static void test_more_than_a_transaction_holds(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    many(230);
    server.rcpt_limit = 60;
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(server.seen->connections, 1);
    unsigned got = 0;
    for (unsigned i = 0; i < server.seen->mails; i++) {
        got += server.seen->mail[i].n_to;
        assert_arrived(i);
    }
    assert_int_equal(got, 230);
    for (int i = 0; i < 230; i++) {
        assert_int_equal(peers.told[i].state, DELIVERY_SENT);
        assert_int_equal(peers.told[i].times, 1);
    }
}

static void test_too_old(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    server.final = "451 4.3.0 not now";
    peers.give_up_ms = 1700000000001;
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(peers.told[0].state, DELIVERY_FAILED);
    assert_int_equal(peers.told[0].code, 451);
    assert_non_null(strstr(peers.told[0].text, "not now"));
    assert_true(peers.report_len > 0);
}

static void test_refused_after_content(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    server.final = "554 5.7.1 spam";
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(peers.told[0].state, DELIVERY_FAILED);
    assert_int_equal(peers.told[0].code, 554);
}

static void test_cut_inside_content(void **state)
{
    static uint8_t text[400000];
    (void)state;
    memcpy(text, header, strlen(header));
    mail_lines(text + strlen(header), sizeof(text) - strlen(header), "body");
    mail_piece(&mail, text, sizeof(text), 0);
    mail_seal(&mail);
    server.drop_after = 100000;
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(server.seen->mails, 0);
    assert_int_equal(peers.told[0].state, DELIVERY_DEFERRED);
    assert_string_equal(peers.told[0].host, "mx.test");
}

/* --- hosts --- */

/* A delivery that has lost its way to the mail when a server is ready for it. */
static enum sp_err attempt_unreadable(void)
{
    static struct delivery d;
    static struct vault vault;
    static struct delivery_recipient to;
    d = (struct delivery){
        .config = &config, .vault = &vault, .to = &to, .until_ms = remote_now_ms() + 60000};
    d.job.n = 1;
    d.job.to[0] = d.job.rcpt[0] = "bob@[127.0.0.1]";
    snprintf(d.job.from, sizeof(d.job.from), "alice@example.org");
    snprintf(d.job.destination, sizeof(d.job.destination), "[127.0.0.1]");
    vault.flow.n = 1;
    vault.flow.piece[0].length = 100;
    enum sp_err err = lockheap_lock();
    if (err == SP_OK)
        err = flow_init(&d.flow, -1, &vault.flow);
    if (err == SP_OK)
        err = attempt_all(&d);
    return err == SP_OK ? outcome_conclude(&d) : err;
}

/* Where nobody has judged, nobody was served: the store hears of nothing. */
static void test_nothing_to_send(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    server_start(&server);
    assert_int_equal(deliver_by(attempt_unreadable), SP_ERR_PEER);
    assert_int_equal(server.seen->connections, 1);
    assert_int_equal(server.seen->mails, 0);
    assert_int_equal(peers.results, 0);
}

static void test_next_exchanger(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    peers.mx[0].host = "down.test";
    peers.mx[0].address[3] = 9; /* nobody listens there */
    peers.mx[1].preference = 20;
    peers.mx[1].host = "mx2.test";
    memcpy(peers.mx[1].address, (uint8_t[]){127, 0, 0, 1}, 4);
    peers.n_mx = 2;
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(peers.told[0].state, DELIVERY_SENT);
    assert_string_equal(peers.told[0].host, "mx2.test");
}

static void test_all_down(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    peers.mx[0].address[3] = 9;
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(peers.told[0].state, DELIVERY_DEFERRED);
    assert_int_equal(peers.told[0].code, 0);
    assert_string_equal(peers.told[0].enhanced, "4.4.1");
    assert_non_null(strstr(peers.told[0].text, "refused"));
}

/* The resolver's answer, and what must become of the mail without any connection. */
static void test_no_way(void **state)
{
    static const struct {
        uint8_t result;
        size_t n;
        uint16_t preference;
        const char *host, *enhanced;
        uint8_t state;
        unsigned code;
    } cases[] = {
        {1, 0, 0, NULL, "5.1.2", DELIVERY_FAILED, 0},
        {3, 0, 0, NULL, "4.4.3", DELIVERY_DEFERRED, 0},
        {4, 0, 0, NULL, "4.7.5", DELIVERY_DEFERRED, 0},
        {0, 1, 0, "", "5.1.10", DELIVERY_FAILED, 556},
        {0, 1, 10, "mail.example.org", "5.4.6", DELIVERY_FAILED, 0},
        {0, 1, 10, "MAIL.Example.ORG", "5.4.6", DELIVERY_FAILED, 0},
        {2, 0, 0, NULL, "5.1.2", DELIVERY_FAILED, 0}, /* neither MX nor address */
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_mail(header, "body\r\n");
        peers.mx_result = cases[i].result;
        peers.n_mx = cases[i].n;
        peers.mx[0].host = cases[i].host;
        peers.mx[0].preference = cases[i].preference;
        server_start(&server);
        assert_int_equal(deliver(), SP_OK);
        assert_int_equal(server.seen->connections, 0);
        assert_int_equal(peers.told[0].state, cases[i].state);
        assert_int_equal(peers.told[0].code, cases[i].code);
        assert_string_equal(peers.told[0].enhanced, cases[i].enhanced);
        tear_down(NULL);
        set_up(NULL);
    }
}

/* Without MX records the domain itself; better exchangers than ourselves. */
static void test_other_ways(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    peers.mx_result = 2;
    peers.n_mx = 0;
    peers.mx[0].host = "there.test";
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_string_equal(peers.told[0].host, "there.test");
    assert_int_equal(peers.told[0].state, DELIVERY_SENT);
    tear_down(NULL);
    set_up(NULL);
    write_mail(header, "body\r\n");
    peers.mx[1].preference = 20;
    peers.mx[1].host = "mail.example.org";
    peers.n_mx = 2;
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_string_equal(peers.told[0].host, "mx.test");
    tear_down(NULL);
    set_up(NULL);
    write_mail(header, "body\r\n");
    peers.destination = "[127.0.0.1]";
    peers.to[0] = "bob@[127.0.0.1]";
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(peers.told[0].state, DELIVERY_SENT);
    assert_int_equal(peers.lookups, 0);
}

/* Exchangers at addresses of our own host and network, as anybody's DNS may name them, and one that
 * the sender wrote: nothing connects there. */
static void test_stays_outside(void **state)
{
    static const struct {
        const char *destination;
        uint8_t address[4];
        const char *what;
    } cases[] = {
        {"there.test", {127, 0, 0, 1}, "loopback"},
        {"there.test", {10, 0, 0, 1}, "private"},
        {"there.test", {169, 254, 169, 254}, "link-local"},
        {"[127.0.0.1]", {0}, "loopback"},
        {"[IPv6:::1]", {0}, "loopback"},
        {"[IPv6:::ffff:127.0.0.1]", {0}, "loopback"},
        {"[IPv6:2002:7f00:1::1]", {0}, "loopback"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_mail(header, "body\r\n");
        config.private_addresses = CONFIG_NO;
        char to[64];
        snprintf(to, sizeof(to), "bob@%s", cases[i].destination);
        peers.to[0] = to;
        peers.destination = cases[i].destination;
        memcpy(peers.mx[0].address, cases[i].address, 4);
        server_start(&server);
        assert_int_equal(deliver(), SP_OK);
        assert_int_equal(server.seen->connections, 0);
        assert_int_equal(peers.told[0].state, DELIVERY_FAILED);
        assert_string_equal(peers.told[0].enhanced, "5.4.4");
        assert_non_null(strstr(peers.told[0].text, cases[i].what));
        tear_down(NULL);
        set_up(NULL);
    }
}

/* A domain that is not ASCII goes out in the form that every server takes. */
static void test_foreign_domain(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    peers.destination = "b\xc3\xbc"
                        "cher.test";
    peers.to[0] = "bob@B\xc3\xbc"
                  "cher.test";
    peers.mx_result = 2;
    peers.n_mx = 0;
    peers.mx[0].host = "xn--bcher-kva.test";
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(peers.told[0].state, DELIVERY_SENT);
    assert_string_equal(server.seen->mail[0].to, "<bob@xn--bcher-kva.test> ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_one_mail),
        TEST(test_splicing),
        TEST(test_added_header),
        TEST(test_from_of_another),
        TEST(test_own_address),
        TEST(test_smuggling),
        TEST(test_loop),
        TEST(test_damaged_piece),
        TEST(test_another_ciphertext),
        TEST(test_damaged_between_passes),
        TEST(test_wrong_parts),
        TEST(test_box_of_another_mail),
        TEST(test_nothing_to_open),
        TEST(test_no_signature),
        TEST(test_each_recipient_its_own_answer),
        TEST(test_more_than_a_transaction_holds),
        TEST(test_too_old),
        TEST(test_refused_after_content),
        TEST(test_cut_inside_content),
        TEST(test_nothing_to_send),
        TEST(test_next_exchanger),
        TEST(test_all_down),
        TEST(test_no_way),
        TEST(test_other_ways),
        TEST(test_stays_outside),
        TEST(test_foreign_domain),
    };
    int failed = cmocka_run_group_tests_name("asked for", tests, start, NULL);
    peer_brings = true;
    return failed + cmocka_run_group_tests_name("along with the job", tests, NULL, NULL);
}
