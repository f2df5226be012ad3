/* A store that was taken over hands a delivery a job that is not as the sender signed it: another
 * recipient, sender, host, subject, expiry. Nothing is sent, to nobody. And what a delivery does
 * when its key is gone, or the store is full. */
#include "tests/unit/delivering.h"

/* No server has heard of the mail, and the sender is told, without a word of it. */
static void assert_nothing_sent(void)
{
    assert_int_equal(deliver(), SP_OK);
    for (size_t i = 0; i < peers.n_to; i++) {
        assert_int_equal(peers.told[i].state, DELIVERY_FAILED);
        assert_string_equal(peers.told[i].enhanced, "5.7.7");
        assert_int_equal(peers.told[i].times, 1);
    }
    assert_int_equal(server.seen->connections, 0);
    assert_int_equal(peers.lookups, 0);
    assert_int_equal(peers.pieces_asked, 0);
    assert_int_equal(peers.signatures, 0);
    assert_true(peers.report_len > 0);
}

static void again(void)
{
    tear_down(NULL);
    set_up(NULL);
    write_mail(header, "body\r\n");
    server_start(&server);
}

static void other_digest(struct order *o)
{
    o->digest[5] ^= 1;
}

static void test_relay(void **state)
{
    (void)state;
    again();
    peers.signed_to = "bob@there.test";
    peers.to[0] = "mallory@there.test";
    assert_nothing_sent();
    again(); /* one more than was signed: nobody gets it */
    peers.signed_to = "bob@there.test";
    peers.to[1] = "mallory@there.test";
    peers.n_to = 2;
    assert_nothing_sent();
    again(); /* bounces would go there */
    peers.signed_from = "alice@example.org";
    peers.from = "ally@example.org";
    assert_nothing_sent();
    again(); /* another mail's order for the same recipient */
    peers.forge = other_digest;
    assert_nothing_sent();
    again(); /* another device's */
    uint8_t other_pk[KEY_SIZE];
    crypto_sign_keypair(other_pk, mail.sign_sk);
    assert_nothing_sent();
    again(); /* to the right address, at the wrong hosts */
    peers.destination = "evil.test";
    assert_nothing_sent();
    again(); /* the case of the domain is nobody's word */
    peers.destination = "THERE.test";
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(peers.told[0].state, DELIVERY_SENT);
}

/* The store compares addresses in a form of its own; the order is over what the sender wrote. */
static void test_spelling(void **state)
{
    (void)state;
    again();
    peers.from = "Alice@Example.ORG";
    peers.to[0] = "Bob@There.TEST";
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(peers.told[0].state, DELIVERY_SENT);
    assert_string_equal(server.seen->mail[0].to, "<Bob@There.TEST> ");
    assert_string_equal(server.seen->mail[0].from, "MAIL FROM:<alice@example.org>");
}

static void a_link(void)
{
    again();
    peers.kind = BOX_PASSWORD;
    peers.subject = "a subject";
    peers.expires_ms = 4000000000000;
    memset(peers.link_password, 0x5a, sizeof(peers.link_password));
}

static void other_link(struct order *o)
{
    o->link_id[0] ^= 1;
}

static void other_expiry(struct order *o)
{
    o->expiry -= 3600;
}

static void other_subject(struct order *o)
{
    o->subject = (struct order_text){"a subjecT", 9};
}

static void no_subject(struct order *o)
{
    o->subject.len = 0;
}

static void test_link(void **state)
{
    void (*const forged[])(struct order *) = {other_link, other_digest, other_expiry, other_subject,
                                              no_subject};
    (void)state;
    a_link();
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(peers.told[0].state, DELIVERY_SENT);
    assert_non_null(memmem(server.seen->mail[0].content, server.seen->mail[0].len,
                           "Subject: a subject\r\n", 20));
    for (size_t i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
        a_link();
        peers.forge = forged[i];
        assert_nothing_sent();
    }
    a_link();
    peers.signed_to = "bob@there.test";
    peers.to[0] = "mallory@there.test";
    assert_nothing_sent();
    a_link();
    peers.signed_from = "alice@example.org";
    peers.from = "ally@example.org";
    assert_nothing_sent();
    a_link();
    peers.destination = "evil.test";
    assert_nothing_sent();
}

/* The keeper has the secret no more, or it does not open this box: that will be no better, and the
 * sender hears of it at the first attempt. */
static void test_no_key(void **state)
{
    static const enum sp_err refused[] = {SP_ERR_NOT_FOUND, SP_ERR_AUTH};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        if (i < 2)
            again();
        else
            a_link();
        peers.key_refused = refused[i % 2];
        assert_int_equal(deliver(), SP_OK);
        assert_int_equal(peers.told[0].state, DELIVERY_FAILED);
        assert_string_equal(peers.told[0].enhanced, "5.6.0");
        assert_int_equal(server.seen->connections, 0);
        assert_true(peers.report_len > 0);
    }
}

/* A store without room is told again of what was sent, and of a failure that it waits. */
static void test_full_store(void **state)
{
    (void)state;
    again();
    peers.full = 2;
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(peers.full, 0);
    assert_int_equal(peers.told[0].state, DELIVERY_SENT);
    assert_int_equal(peers.told[0].times, 1);
    assert_int_equal(server.seen->mails, 1);
    again();
    peers.full = 1;
    peers.kind = 0;
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(peers.told[0].state, DELIVERY_DEFERRED);
    assert_int_equal(peers.told[0].times, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_relay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_spelling, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_link, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_store, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
