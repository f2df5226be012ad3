#ifndef SEALPOST_TEST_DELIVERING_H
#define SEALPOST_TEST_DELIVERING_H
/* For tests of a delivery: one in a process of its own, its peers played by the test (outgoing.h),
 * a server for it to talk to (smtpserver.h). */
#include "daemon/relay/delivery.h"
#include "daemon/relay/template.h"
#include "daemon/tls.h"
#include "sandbox/lockmem.h"
#include "tests/unit/outgoing.h"
#include "tests/unit/smtpserver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/wait.h>

#define NEVER UINT64_MAX

static struct config config;
static struct server server;
static struct peers peers;
static struct mail mail;
static SSL_CTX *client_tls;

static const char header[] = "From: Alice <alice@example.org>\r\nTo: bob@there.test\r\n"
                             "Subject: a test\r\nMessage-ID: <one@example.org>\r\n"
                             "Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\n";

static inline int start(void **state)
{
    enum lockmem_kind kind;
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(lockmem_init(LOCKMEM_MLOCK, &kind), SP_OK);
    assert_int_equal(lockheap_init(TLS_HEAP_DELIVERY, 1), SP_OK);
    assert_int_equal(tls_use_lockheap(), SP_OK);
    assert_int_equal(tls_init(), SP_OK);
    assert_true(sodium_init() >= 0);
    assert_int_equal(remote_tls_new(NULL, &client_tls), SP_OK);
    return 0;
}

static inline int set_up(void **state)
{
    (void)state;
    memset(&server, 0, sizeof(server));
    memset(&peers, 0, sizeof(peers));
    config = (struct config){.hostname = (char *)(uintptr_t) "mail.example.org",
                             .domain = {1, {(char *)(uintptr_t) "example.org"}},
                             .dkim_selector = {1, {(char *)(uintptr_t) "sp1"}},
                             .relay_mode = RELAY_MX,
                             .private_addresses = CONFIG_YES,
                             .web_url = (char *)(uintptr_t) "https://mail.example.org"};
    peers = (struct peers){.mail = &mail,
                           .kind = BOX_RELAY,
                           .from = "alice@example.org",
                           .destination = "there.test",
                           .own = {"alice@example.org", "ally@example.org"},
                           .to = {"bob@there.test"},
                           .n_to = 1,
                           .give_up_ms = NEVER,
                           .n_mx = 1,
                           .mx = {{10, "mx.test", {127, 0, 0, 1}}},
                           .address_result = 1};
    randombytes_buf(peers.puk_sk, sizeof(peers.puk_sk));
    crypto_sign_keypair(peers.dkim_pk, peers.dkim_sk);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    if (server.pid != 0)
        server_stop(&server);
    free(peers.report);
    mail_free(&mail);
    return 0;
}

static pid_t child;

static inline enum sp_err whole_delivery(void)
{
    const struct delivery_start with = {.config = &config,
                                        .tls = client_tls,
                                        .template = template_built_in,
                                        .template_len = strlen(template_built_in)};
    enum sp_err err = delivery_prepare(&with);
    return err == SP_OK ? delivery_run() : err;
}

/* Does this in a delivery's process; its exit status, or 128 + signal. */
static inline int deliver_by(enum sp_err (*work)(void))
{
    int pair[3][2], status;
    config.relay_port = server.port;
    for (int i = 0; i < 3; i++)
        assert_int_equal(ipc_pair(pair[i]), SP_OK);
    child = fork();
    if (child == 0) {
        /* No door here: sockets are the system's, and its two channels are not used. */
        const int channels[] = {pair[0][1], pair[1][1], 0, 0, pair[2][1]};
        mail_forget(&mail); /* what it has, it has from the store */
        munmap(server.seen, sizeof(*server.seen));
        delivery_watch_signals();
        forked_keep(channels, 5);
        _exit((int)work());
    }
    for (int i = 0; i < 3; i++)
        close(pair[i][1]);
    peers.store = pair[0][0];
    peers.keeper = pair[1][0];
    peers.resolver = pair[2][0];
    peers_serve(&peers);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static inline int deliver(void)
{
    return deliver_by(whole_delivery);
}

/* A short mail of one piece. */
static inline void write_mail(const char *head, const char *body)
{
    char text[4096];
    snprintf(text, sizeof(text), "%s%s", head, body);
    mail_piece(&mail, text, strlen(text), 0);
    mail_seal(&mail);
}

/* What came ends with the mail as it was written; true if in front stand our fields. */
static inline void assert_arrived(unsigned n)
{
    const struct server_mail *m = &server.seen->mail[n];
    assert_true(m->len > mail.whole_len);
    size_t front = m->len - mail.whole_len;
    assert_memory_equal(m->content + front, mail.whole, mail.whole_len);
    assert_memory_equal(m->content, "Received: by mail.example.org with HTTPS\r\n", 42);
    assert_non_null(memmem(m->content, front, "DKIM-Signature: ", 16));
    assert_non_null(memmem(m->content, front, "d=example.org", 13));
    assert_non_null(memmem(m->content, front, "s=sp1", 5));
}

#endif
