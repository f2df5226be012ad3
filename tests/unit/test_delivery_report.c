/* What a sender hears: the report is opened with the sender's key, as a client does, and read as
 * RFC 3464 has it. It holds the original's header, and nothing of its body. */
#include "tests/unit/delivering.h"

static char text[300000];

/* Opens the report that the store was given (FORMAT.md section 5). */
static void open_report(void)
{
    static uint8_t manifest_plain[100000];
    static struct piece piece[MANIFEST_MAX_PIECES];
    struct wire_in in = wire_in(peers.report_letter, peers.report_letter_len);
    struct envelope e;
    struct box b;
    struct manifest m;
    uint8_t hash[HASH_SIZE], shared[KEY_SIZE];
    size_t n, len;
    const uint8_t *envelope = wire_get_b32(&in, 100000, &n);
    assert_int_equal(envelope_decode(envelope, n, &e), SP_OK);
    const uint8_t *box = wire_get_b32(&in, BOX_MAX, &n);
    assert_true(wire_in_done(&in));
    assert_int_equal(box_decode(box, n, &b), SP_OK);
    assert_false(e.from_user);
    assert_int_equal(b.kind, BOX_USER);
    assert_int_equal(b.puk_generation, 3);
    assert_memory_equal(b.recipient_id, peers.user_id, ID_SIZE);
    assert_memory_not_equal(e.message_id, mail.message_id, ID_SIZE);
    assert_int_equal(envelope_manifest_hash(&e, hash), SP_OK);
    assert_int_equal(box_open(&e, hash, &b, peers.puk_sk, shared), SP_OK);
    assert_int_equal(
        cake_open(shared, e.manifest, e.manifest_len, manifest_plain, sizeof(manifest_plain), &len),
        SP_OK);
    assert_int_equal(manifest_decode(manifest_plain, len, piece, &m), SP_OK);
    assert_int_equal(m.flags, MANIFEST_SERVER_ACCESS);
    assert_int_equal(m.n_pieces, 1);
    assert_int_equal(keys_sha256(peers.report, peers.report_len, hash), SP_OK);
    assert_memory_equal(hash, piece[0].hash, HASH_SIZE);
    assert_int_equal(e.piece_length[0], peers.report_len);
    assert_int_equal(cake_open(piece[0].key, peers.report, peers.report_len, (uint8_t *)text,
                               sizeof(text) - 1, &len),
                     SP_OK);
    text[len] = '\0';
    for (size_t i = 0; i < len; i++) /* nothing that would be refused elsewhere */
        assert_true(text[i] != '\0' && (text[i] != '\n' || text[i - 1] == '\r'));
}

/* Where the part of this type begins, behind its header; *end: the delimiter behind it. */
static const char *part(const char *type, const char **end)
{
    char line[128], boundary[128];
    snprintf(line, sizeof(line), "Content-Type: %s", type);
    const char *b = strstr(text, "boundary=\""), *at = strstr(text, line);
    assert_non_null(b);
    snprintf(boundary, sizeof(boundary), "\r\n--%.*s", (int)strcspn(b + 10, "\""), b + 10);
    if (at == NULL)
        return NULL;
    at = strstr(at, "\r\n\r\n");
    *end = strstr(at, boundary);
    assert_non_null(*end);
    return at + 4;
}

static bool holds(const char *from, const char *end, const char *what)
{
    return memmem(from, (size_t)(end - from), what, strlen(what)) != NULL;
}

static void test_report(void **state)
{
    const char *from, *end;
    (void)state;
    write_mail(header, "the body is nobody's business\r\n");
    peers.to[1] = "carol@there.test";
    peers.n_to = 2;
    server.rcpt[0] = "550-5.1.1 nobody\r\n550 5.1.1 of that name\x07";
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(peers.told[1].state, DELIVERY_SENT);
    open_report();
    assert_null(strstr(text, "business"));
    assert_memory_equal(text, "Return-Path: <>\r\n", 17);
    assert_non_null(strstr(text, "\r\nFrom: Mail Delivery System <MAILER-DAEMON@example.org>\r\n"));
    assert_non_null(strstr(text, "\r\nTo: <alice@example.org>\r\n"));
    assert_non_null(strstr(text, "\r\nAuto-Submitted: auto-replied\r\n"));
    assert_non_null(strstr(text, "\r\nReferences: <one@example.org>\r\n"));
    assert_non_null(strstr(text, "Content-Type: multipart/report; report-type=delivery-status;"));
    from = part("message/delivery-status", &end);
    assert_true(holds(from, end, "Reporting-MTA: dns; mail.example.org\r\nArrival-Date: "));
    assert_true(holds(from, end,
                      "\r\n\r\nFinal-Recipient: rfc822; bob@there.test\r\nAction: failed\r\n"
                      "Status: 5.1.1\r\nRemote-MTA: dns; mx.test\r\n"
                      "Diagnostic-Code: smtp; 550 5.1.1 nobody of that name?\r\n"));
    assert_false(holds(from, end, "carol"));
    from = part("text/rfc822-headers", &end);
    assert_int_equal((size_t)(end - from), strlen(header));
    assert_memory_equal(from, header, strlen(header));
    from = part("text/plain", &end);
    assert_true(holds(from, end, "<bob@there.test>\r\n    mx.test said: 550 5.1.1 nobody"));
    assert_string_equal(text + strlen(text) - 4, "--\r\n");
}

/* A header of more than 64 KiB comes back cut where a line ends; one of many chunks. */
static void test_long_header(void **state)
{
    static char head[200000];
    const char *from, *end;
    size_t at = (size_t)snprintf(head, sizeof(head), "From: alice@example.org\r\n");
    (void)state;
    for (int i = 0; at < 150000; i++)
        at += (size_t)snprintf(head + at, sizeof(head) - at, "X-Filler-%d: %060d\r\n", i, i);
    at += (size_t)snprintf(head + at, sizeof(head) - at, "\r\nbody\r\n");
    mail_piece(&mail, head, at, 0);
    mail_seal(&mail);
    server.mail = "554 5.7.1 no";
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    open_report();
    from = part("text/rfc822-headers", &end);
    assert_true(end - from <= 65536 && end - from > 65000);
    assert_memory_equal(from, head, (size_t)(end - from));
    assert_memory_equal(end - 2, "\r\n", 2);
}

static void test_not_ascii(void **state)
{
    const char *end;
    (void)state;
    write_mail("From: alice@example.org\r\nSubject: \xc3\xa9\r\n\r\n", "body\r\n");
    peers.to[0] = "b\xc3\xb6"
                  "b@there.test";
    server_start(&server);
    assert_int_equal(deliver(), SP_OK); /* it does not offer SMTPUTF8 */
    assert_int_equal(peers.told[0].state, DELIVERY_FAILED);
    assert_string_equal(peers.told[0].enhanced, "5.6.7");
    open_report();
    const char *from = part("message/global-delivery-status", &end);
    assert_non_null(from);
    assert_true(holds(from, end,
                      "Final-Recipient: utf-8; b\xc3\xb6"
                      "b@there.test\r\n"));
    assert_non_null(part("message/global-headers", &end));
}

/* Nothing of the original can be had. */
static void test_without_original(void **state)
{
    const char *end;
    (void)state;
    write_mail(header, "body\r\n");
    peers.kind = 0;
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    open_report();
    assert_non_null(part("message/delivery-status", &end));
    assert_null(part("text/rfc822-headers", &end));
    assert_null(strstr(text, "References:"));
}

/* Many recipients: the report is longer than a chunk, the results than a frame. */
static void test_many_recipients(void **state)
{
    static char names[PEER_RCPTS][80];
    (void)state;
    write_mail(header, "body\r\n");
    for (int i = 0; i < PEER_RCPTS; i++) {
        snprintf(names[i], sizeof(names[i]), "somebody-with-a-long-name-%d@there.test", i);
        peers.to[i] = names[i];
    }
    peers.n_to = PEER_RCPTS;
    peers.mx_result = 1;
    peers.n_mx = 0;
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    open_report();
    assert_true(strlen(text) > 3 * CAKE_CHUNK);
    for (int i = 0; i < PEER_RCPTS; i++) {
        assert_int_equal(peers.told[i].times, 1);
        assert_int_equal(peers.told[i].state, DELIVERY_FAILED);
        assert_non_null(strstr(text, names[i]));
    }
}

/* The key that the store names is not the one in the sender's order: the sender's newer one, or its
 * own, if the store was taken over. The report is made, and quotes nothing. */
static void test_another_key(void **state)
{
    (void)state;
    write_mail(header, "body\r\n");
    peers.rotated = true;
    server.rcpt[0] = "550 5.1.1 nobody";
    server_start(&server);
    assert_int_equal(deliver(), SP_OK);
    assert_int_equal(peers.told[0].state, DELIVERY_FAILED);
    open_report();
    assert_non_null(strstr(text, "Final-Recipient: rfc822; bob@there.test"));
    assert_null(strstr(text, "a test"));
    assert_null(strstr(text, "one@example.org"));
    assert_null(strstr(text, "text/rfc822-headers"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_report),           TEST(test_long_header),     TEST(test_not_ascii),
        TEST(test_without_original), TEST(test_many_recipients), TEST(test_another_key),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
