/* The configuration: every key of the manual is taken, every mistake is named with its line, all of
 * them at once, and a role is told its own settings and no other. */
#include "daemon/config.h"
#include "daemon/credential.h"
#include "daemon/role.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char whole[] = "# all there is\n"
                            "[appliance]\n"
                            "hostname = mail.example.org\n"
                            "domain = example.org\n"
                            "domain = example.net\n"
                            "state = /secret/state\n"
                            "audit_log = /secret/audit.log\n"
                            "control = /secret/control.sock\n"
                            "uid_base = 61000\n"
                            "shutdown_grace = 20s\n"
                            "code_expiry = 2d\n"
                            "[tls]\n"
                            "certificate = /secret/fullchain.pem\n"
                            "key = /secret/privkey.pem\n"
                            "[smtp]\n"
                            "listen = 0.0.0.0:25\n"
                            "listen = [::]:25\n"
                            "listen_lmtp = 127.0.0.1:24\n"
                            "tls = require\n"
                            "check_sender = yes\n"
                            "max_message = 25M\n"
                            "max_recipients = 50\n"
                            "max_sessions = 400\n"
                            "max_sessions_per_client = 10\n"
                            "idle = 2m\n"
                            "deadline = 2h\n"
                            "greet_delay = 2s\n"
                            "min_rate = 1K\n"
                            "max_connections_per_minute = 60\n"
                            "max_errors = 5\n"
                            "max_refused_recipients = 20\n"
                            "max_transactions = 30\n"
                            "hold_off = 30s\n"
                            "[web]\n"
                            "listen = 0.0.0.0:8443\n"
                            "url = https://mail.example.org:8443\n"
                            "max_expiry = 30d\n"
                            "send_recipients = 20\n"
                            "send_messages_per_day = 200\n"
                            "send_bytes_per_day = 1G\n"
                            "[relay]\n"
                            "mode = smarthost\n"
                            "smarthost = 127.0.0.1:587\n"
                            "smarthost_auth = /secret/smarthost\n"
                            "ca = /secret/ca.pem\n"
                            "link_template = /secret/link.txt\n"
                            "port = 2525\n"
                            "private_addresses = yes\n"
                            "deliveries = 30\n"
                            "per_destination = 5\n"
                            "tls = require\n"
                            "dkim_selector = sp1\n"
                            "dkim_key = /secret/dkim.pem\n"
                            "retry_for = 5d\n"
                            "[resolver]\n"
                            "server = 127.0.0.1:53\n"
                            "trust_anchor = /etc/sealpost/anchor.key\n"
                            "[storage]\n"
                            "map_size = 16G\n"
                            "slots = accept-cow\n"
                            "[memory]\n"
                            "lock = mlock\n"
                            "[metrics]\n"
                            "listen = 127.0.0.1:9465\n"
                            "[audit]\n"
                            "checkpoint_events = 10\n"
                            "checkpoint_seconds = 1m\n"
                            "rotate_size = 1M\n"
                            "agent = none\n";
static const char least[] = "[appliance]\nhostname = h.example\ndomain = d.example\n";

static char path[] = "/tmp/sealpost-config-XXXXXX";
static char *said; /* what was reported */
static struct config *config;

static enum sp_err read_bytes(const char *text, size_t text_len, bool user_mode)
{
    size_t len;
    FILE *file = fopen(path, "w");
    assert_int_equal(fwrite(text, 1, text_len, file), text_len);
    fclose(file);
    free(said);
    config_free(config);
    FILE *errors = open_memstream(&said, &len);
    enum sp_err err = config_read(path, user_mode, errors, &config);
    fclose(errors);
    assert_int_equal(err == SP_OK, config != NULL);
    assert_int_equal(err == SP_OK, len == 0);
    return err;
}

static enum sp_err read_text(const char *text, bool user_mode)
{
    return read_bytes(text, strlen(text), user_mode);
}

/* "PATH:LINE: ..." with these words is among the findings; line 0: without one. */
static bool found(int line, const char *words)
{
    char start[64];
    if (line > 0)
        snprintf(start, sizeof(start), "%s:%d: ", path, line);
    else
        snprintf(start, sizeof(start), "%s: ", path);
    for (const char *at = said; (at = strstr(at, start)) != NULL; at++) {
        const char *end = strchr(at, '\n'), *hit = strstr(at, words);
        if (hit != NULL && hit < end)
            return true;
    }
    return false;
}

static int findings(void)
{
    int n = 0;
    for (const char *at = said; (at = strchr(at, '\n')) != NULL; at++)
        n++;
    return n;
}

static void takes_every_key(void **state)
{
    (void)state;
    assert_int_equal(read_text(whole, false), SP_OK);
    assert_string_equal(config->hostname, "mail.example.org");
    assert_int_equal(config->domain.count, 2);
    assert_string_equal(config->domain.item[1], "example.net");
    assert_int_equal(config->shutdown_grace, 20);
    assert_int_equal(config->code_expiry, 2 * 86400);
    assert_int_equal(config->smtp_listen.count, 2);
    assert_string_equal(config->smtp_listen.item[1], "[::]:25");
    assert_int_equal(config->smtp_tls, TLS_REQUIRE);
    assert_int_equal(config->check_sender, CONFIG_YES);
    assert_int_equal(config->max_message, 25u << 20);
    assert_int_equal(config->smtp_deadline, 7200);
    assert_int_equal(config->smtp_min_rate, 1024);
    assert_int_equal(config->smtp_max_rate, 60);
    assert_int_equal(config->smtp_max_refused, 20);
    assert_int_equal(config->relay_mode, RELAY_SMARTHOST);
    assert_int_equal(config->private_addresses, CONFIG_YES);
    assert_string_equal(config->trust_anchor, "/etc/sealpost/anchor.key");
    assert_int_equal(config->map_size, UINT64_C(16) << 30);
    assert_int_equal(config->slots, SLOTS_ACCEPT_COW);
    assert_int_equal(config->memory_lock, LOCK_MLOCK);
    assert_int_equal(config->checkpoint_seconds, 60);
    assert_int_equal(config->audit_agent, AGENT_NONE);
}

/* What config_unused() says of this text, into said; how many. */
static size_t unused(const char *text, bool user_mode)
{
    size_t len;
    assert_int_equal(read_text(text, user_mode), SP_OK);
    free(said);
    FILE *out = open_memstream(&said, &len);
    size_t n = config_unused(config, user_mode, path, out);
    fclose(out);
    assert_int_equal(findings(), n);
    return n;
}

static void names_what_has_no_effect(void **state)
{
    char text[4096];
    (void)state;
    assert_int_equal(unused(least, true), 0);
    assert_int_equal(unused(whole, false), 2);
    assert_true(found(0, "[relay] port is not used"));
    assert_true(found(0, "[relay] private_addresses is not used"));
    snprintf(text, sizeof(text),
             "%s\n[relay]\nsmarthost = a:25\n[resolver]\nserver = 127.0.0.1:53\n", least);
    assert_int_equal(unused(text, true), 1);
    assert_true(found(0, "[relay] smarthost is not used: [relay] mode is not smarthost"));
    snprintf(text, sizeof(text),
             "%s\n[relay]\nmode = off\nretry_for = 2d\n[resolver]\nserver = 127.0.0.1:53\n"
             "[appliance]\nuid_base = 70000\n",
             least);
    assert_int_equal(unused(text, true), 3);
    assert_true(found(0, "[relay] retry_for is not used: [relay] mode is off"));
    assert_true(found(0, "[resolver] server is not used"));
    assert_true(found(0, "[appliance] uid_base is not used"));
    size_t end = strlen(text);
    snprintf(text + end, sizeof(text) - end, "[smtp]\ncheck_sender = yes\n");
    assert_int_equal(unused(text, true), 2); /* the resolver is asked after all */
}

static void has_defaults(void **state)
{
    (void)state;
    assert_int_equal(read_text(least, true), SP_OK);
    assert_string_equal(config->state, "/var/lib/sealpost");
    assert_string_equal(config->smtp_listen.item[0], "0.0.0.0:25");
    assert_int_equal(config->lmtp_listen.count, 0);
    assert_int_equal(config->max_message, 50u << 20);
    assert_int_equal(config->smtp_tls, TLS_MAY);
    assert_int_equal(config->check_sender, CONFIG_NO);
    assert_int_equal(config->private_addresses, CONFIG_AUTO);
    assert_int_equal(config->memory_lock, LOCK_BEST);
    assert_string_equal(config->web_url, "https://h.example");
    assert_null(config->tls_key);
}

/* Where systemd puts them for the service, and, asked by another, where it puts the service's. */
static void credentials_have_a_place(void **state)
{
    char text[512];
    (void)state;
    snprintf(text, sizeof(text),
             "%s[tls]\ncertificate = /etc/cert.pem\nkey = credential:tls.key\n[relay]\n"
             "dkim_selector = a\ndkim_key = credential:dkim-1\nsmarthost_auth = credential:s_a\n",
             least);
    assert_int_equal(setenv("CREDENTIALS_DIRECTORY", "/run/elsewhere", 1), 0);
    assert_int_equal(read_text(text, true), SP_OK);
    assert_string_equal(config->tls_certificate, "/etc/cert.pem");
    assert_string_equal(config->tls_key, "/run/elsewhere/tls.key");
    assert_string_equal(config->dkim_key.item[0], "/run/elsewhere/dkim-1");
    assert_string_equal(config->smarthost_auth, "/run/elsewhere/s_a");
    assert_string_equal(credential_advice("/etc/cert.pem"), "");
    assert_non_null(strstr(credential_advice(config->tls_key), "LoadCredential=NAME:PATH"));
    assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
    assert_int_equal(read_text(text, true), SP_OK);
    assert_string_equal(config->tls_key, "/run/credentials/sealpost.service/tls.key");
    assert_non_null(strstr(credential_advice(config->tls_key), "is not set"));
}

static void demands(void **state)
{
    (void)state;
    assert_int_equal(read_text("", false), SP_ERR_CONFIG);
    assert_true(found(0, "[appliance] hostname is missing"));
    assert_true(found(0, "[appliance] domain is missing"));
    assert_true(found(0, "[tls] certificate is missing"));
    assert_true(found(0, "[tls] key is missing"));
    assert_int_equal(findings(), 4);
    assert_int_equal(read_text("", true), SP_ERR_CONFIG);
    assert_int_equal(findings(), 2);
}

/* One wrong line behind three good ones: its number is named, and nothing else. */
static void names_each_mistake(void **state)
{
    static const struct {
        const char *lines, *words;
    } cases[] = {
        {"colour = red", "no such setting"},
        {"[smpt]\nlisten = 1.2.3.4:25", "no such setting"},
        {"[smtp]\nlisten =", "has no value"},
        {"hostname = again.example", "is given twice"},
        {"[smtp]\nmax_message = lots", "needs a number"},
        {"[smtp]\nmax_message = -1", "needs a number"},
        {"[smtp]\nmax_message = 5X", "needs a size such as"},
        {"[smtp]\nmax_message = 5MM", "needs a size such as"},
        {"[smtp]\nmax_message = 5 M", "needs a size such as"},
        {"[smtp]\nmax_message = 1K", "is out of range"},
        {"[smtp]\nmax_message = 99999999999999999999", "is out of range"},
        {"[smtp]\nmax_message = 18446744073709551615T", "is out of range"},
        {"[smtp]\nmax_recipients = 5M", "needs a whole number"},
        {"[smtp]\nmax_recipients = 501", "is out of range"},
        {"[smtp]\nidle = 5x", "needs a time such as"},
        {"[smtp]\nidle = 0", "is out of range"},
        {"[smtp]\ntls = perhaps", "is not one of the choices: may|require"},
        {"[smtp]\ntls = ma", "is not one of the choices"},
        {"[smtp]\ntls = may|require", "is not one of the choices"},
        {"not a setting", "neither a [section] nor a setting"},
        {"[smtp]\nlisten = 127.0.0.1", "is not an address"},
        {"[smtp]\nlisten = localhost:25", "is not an address"},
        {"[resolver]\nserver = 127.0.0.1", "is not an address"},
        {"[resolver]\ntrust_anchor = anchor.key", "needs a path from the root"},
        {"[smtp]\nlisten = 127.0.0.1:99999", "is not an address"},
        {"[smtp]\nlisten_lmtp = 127.0.0.1:-1", "is not an address"},
        {"[web]\nlisten = [127.0.0.1:443", "is not an address"},
        {"[web]\nlisten = :443", "is not an address"},
        {"state = here/state", "needs a path from the root"},
        {"[smtp", "neither a [section] nor a setting"},
        {"[tls]\nkey = credential:", "names no credential"},
        {"[tls]\nkey = credential:../../etc/shadow", "names no credential"},
        {"[tls]\nkey = credential:.hidden", "names no credential"},
        {"[relay]\nca = credential:roots", "needs a path from the root"},
    };
    char text[512];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int line = strchr(cases[i].lines, '\n') != NULL ? 5 : 4;
        snprintf(text, sizeof(text), "%s%s\n", least, cases[i].lines);
        assert_int_equal(read_text(text, true), SP_ERR_CONFIG);
        if (!found(line, cases[i].words) || findings() != 1)
            fail_msg("%s: %s", cases[i].lines, said);
    }
}

static void names_all_mistakes(void **state)
{
    (void)state;
    assert_int_equal(read_text("[appliance]\ndomain = d\nnonsense\nx = 1\n[tls\n[smtp]\ntls = no\n"
                               "nonsense\n",
                               false),
                     SP_ERR_CONFIG);
    assert_true(found(3, "neither"));
    assert_true(found(4, "no such setting"));
    assert_true(found(5, "neither"));
    assert_true(found(7, "is not one of the choices"));
    assert_true(found(8, "neither"));
    assert_true(found(0, "hostname is missing"));
    assert_true(found(0, "certificate is missing"));
    assert_int_equal(findings(), 8);
}

/* What the library below would cut, skip or join in silence. */
static void nothing_is_guessed(void **state)
{
    char text[2048];
    (void)state;
    snprintf(text, sizeof(text), "%sstate = /%0600d\n[smtp]\ntls = require\n", least, 1);
    assert_int_equal(read_text(text, true), SP_ERR_CONFIG);
    assert_true(found(4, "too long"));
    assert_int_equal(findings(), 1);
    static const char nul[] = "[appliance]\nhostname = a\0b\ndomain = d\n";
    assert_int_equal(read_bytes(nul, sizeof(nul) - 1, true), SP_ERR_CONFIG);
    assert_true(found(2, "NUL"));
    snprintf(text, sizeof(text), "%s[smtp]\nlisten = 1.2.3.4:25\n\ttls = require\n", least);
    assert_int_equal(read_text(text, true), SP_OK);
    assert_int_equal(config->smtp_listen.count, 1); /* an indented line is a line of its own */
    assert_int_equal(config->smtp_tls, TLS_REQUIRE);
}

static void looks_like_text_files_do(void **state)
{
    (void)state;
    assert_int_equal(read_text("\xef\xbb\xbf# hello\r\n\r\n[appliance]\r\nhostname=h\r\n; x\r\n"
                               "  # y\ndomain :  d ; why\nstate = /a b/c=d",
                               true),
                     SP_OK);
    assert_string_equal(config->domain.item[0], "d");
    assert_string_equal(config->state, "/a b/c=d");
}

static void lists_end(void **state)
{
    char text[2048] = "[appliance]\nhostname = h\n";
    (void)state;
    for (int i = 0; i < CONFIG_MAX_LIST; i++)
        strncat(text, "domain = d\n", sizeof(text) - strlen(text) - 1);
    assert_int_equal(read_text(text, true), SP_OK);
    strncat(text, "domain = d\n", sizeof(text) - strlen(text) - 1);
    assert_int_equal(read_text(text, true), SP_ERR_CONFIG);
    assert_true(found(19, "is given too often"));
}

/* What bind(2) would refuse, at line 5 or later. */
static void listeners_do_not_collide(void **state)
{
    static const struct {
        const char *lines;
        int line; /* of the finding; 0: there is none */
        const char *words;
    } cases[] = {
        {"[smtp]\nlisten = 127.0.0.1:2525\n[metrics]\nlisten = 127.0.0.1:2525", 7,
         "[metrics] listen: 127.0.0.1:2525 cannot be listened on beside [smtp] listen = 127."},
        {"[smtp]\nlisten = 127.0.0.1:25\nlisten = 127.0.0.1:25", 6, "beside [smtp] listen"},
        {"[web]\nlisten = 127.0.0.1:24\n[smtp]\nlisten_lmtp = 0.0.0.0:24", 7,
         "[smtp] listen_lmtp: 0.0.0.0:24 cannot be listened on beside [web] listen = 127.0.0.1:24"},
        {"[smtp]\nlisten_lmtp = 0.0.0.0:24\n[web]\nlisten = 127.0.0.1:24", 7, "[web] listen"},
        {"[smtp]\nlisten = 127.0.0.1:24\nlisten_lmtp = 127.0.0.1:0024", 6, "[smtp] listen_lmtp"},
        {"[smtp]\nlisten = [::1]:24\nlisten_lmtp = [0:0::1]:24", 6, "[smtp] listen_lmtp"},
        {"[smtp]\nlisten = [::]:24\nlisten_lmtp = [::1]:24", 6, "[smtp] listen_lmtp"},
        {"[metrics]\nlisten = 127.0.0.1:443", 5, "[web] listen = 0.0.0.0:443, its default"},
        {"[smtp]\nlisten = [::]:24\nlisten = 0.0.0.0:24", 0, ""},
        {"[smtp]\nlisten = 127.0.0.1:24\nlisten = 127.0.0.2:24\nlisten = 127.0.0.1:25", 0, ""},
    };
    char text[512];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(text, sizeof(text), "%s%s\n", least, cases[i].lines);
        assert_int_equal(read_text(text, true), cases[i].line == 0 ? SP_OK : SP_ERR_CONFIG);
        assert_int_equal(findings(), cases[i].line == 0 ? 0 : 1);
        assert_true(cases[i].line == 0 || found(cases[i].line, cases[i].words));
    }
}

static void names_are_checked(void **state)
{
    (void)state;
    assert_int_equal(read_text("[appliance]\nhostname = H.example\ndomain = B\xc3\xbc"
                               "cher.example\n",
                               true),
                     SP_OK);
    assert_string_equal(config->hostname, "h.example");
    assert_string_equal(config->domain.item[0], "xn--bcher-kva.example");
    assert_int_equal(read_text("[appliance]\nhostname = a b\ndomain = x@y\n", true), SP_ERR_CONFIG);
    assert_true(found(0, "hostname is not a domain name"));
    assert_true(found(0, "domain is not a domain name"));
    assert_int_equal(
        read_text("[appliance]\nhostname = h\ndomain = d\n[web]\nurl = http://h\n", true),
        SP_ERR_CONFIG);
    assert_true(found(0, "[web] url"));
    assert_int_equal(
        read_text("[appliance]\nhostname = h\ndomain = d\n[web]\nurl = https://h/\n", true),
        SP_ERR_CONFIG);
}

static void relay_settings_agree(void **state)
{
    static const struct {
        const char *lines, *finding; /* NULL: none */
    } cases[] = {
        {"dkim_selector = a\ndkim_key = /k\ndkim_selector = b.c-_1\ndkim_key = /l\n", NULL},
        {"dkim_selector = a\n", "as many of each"},
        {"dkim_key = /k\n", "as many of each"},
        {"dkim_selector = a b\ndkim_key = /k\n", "not a DNS name"},
        {"dkim_selector = .a\ndkim_key = /k\n", "not a DNS name"},
        {"dkim_selector = a..b\ndkim_key = /k\n", "not a DNS name"},
        {"dkim_selector = a\ndkim_key = /k\ndkim_selector = A\ndkim_key = /l\n", "given twice"},
        {"mode = smarthost\n", "needs smarthost"},
        {"mode = smarthost\nsmarthost = mail.example.org:587\n", NULL},
        {"mode = smarthost\nsmarthost = [2001:db8::1]:587\n", NULL},
        {"mode = smarthost\nsmarthost = mail.example.org\n", "HOST:PORT"},
        {"smarthost = :587\n", "HOST:PORT"},
        {"smarthost = mail.example.org:0\n", "HOST:PORT"},
    };
    char text[1024];
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(text, sizeof(text), "%s[relay]\n%s", least, cases[i].lines);
        assert_int_equal(read_text(text, true), cases[i].finding != NULL ? SP_ERR_CONFIG : SP_OK);
        if (cases[i].finding != NULL)
            assert_true(found(0, cases[i].finding));
        assert_int_equal(findings(), cases[i].finding != NULL);
    }
}

static void no_file(void **state)
{
    (void)state;
    struct config *none = NULL;
    size_t len;
    char *text = NULL;
    FILE *errors = open_memstream(&text, &len);
    assert_int_equal(config_read("/nowhere/at/all", true, errors, &none), SP_ERR_CONFIG);
    assert_int_equal(config_read("/tmp", true, errors, &none), SP_ERR_CONFIG);
    fclose(errors);
    assert_null(none);
    assert_non_null(strstr(text, "/nowhere/at/all: cannot be read: No such file"));
    assert_non_null(strstr(text, "/tmp: cannot be read to its end"));
    free(text);
}

/* --- slices --- */

static char slice[8192];

static void slice_of(enum role_id role)
{
    size_t len;
    assert_int_equal(read_text(whole, false), SP_OK);
    assert_int_equal(config_slice(config, 1u << role, slice, sizeof(slice) - 1, &len), SP_OK);
    slice[len] = '\0';
}

/* Each line of the slice is one of these settings, and each of these is there. */
static void only(const char *const *names)
{
    size_t lines = 0, expected = 0;
    for (const char *at = slice; *at != '\0'; at = strchr(at, '\n') + 1) {
        bool known = false;
        for (size_t i = 0; names[i] != NULL; i++)
            known |= strncmp(at, names[i], strlen(names[i])) == 0 && at[strlen(names[i])] == '=';
        if (!known)
            fail_msg("not its own: %.*s", (int)strcspn(at, "\n"), at);
        lines++;
    }
    for (; names[expected] != NULL; expected++)
        if (strstr(slice, names[expected]) == NULL)
            fail_msg("missing: %s", names[expected]);
    assert_true(lines >= expected);
}

static void slices_hold_no_more(void **state)
{
    static const char *const roles[ROLE_COUNT][24] = {
        [ROLE_SMTP] = {"appliance.hostname",
                       "appliance.domain",
                       "appliance.shutdown_grace",
                       "smtp.listen",
                       "smtp.listen_lmtp",
                       "smtp.tls",
                       "smtp.check_sender",
                       "smtp.max_message",
                       "smtp.max_recipients",
                       "smtp.max_sessions",
                       "smtp.max_sessions_per_client",
                       "smtp.idle",
                       "smtp.hold_off",
                       "smtp.deadline",
                       "memory.lock",
                       "smtp.greet_delay",
                       "smtp.min_rate",
                       "smtp.max_connections_per_minute",
                       "smtp.max_errors",
                       "smtp.max_refused_recipients",
                       "smtp.max_transactions"},
        [ROLE_SEALER] = {"smtp.max_message", "smtp.max_recipients", "smtp.max_sessions",
                         "memory.lock"},
        [ROLE_STORE] = {"appliance.domain", "appliance.code_expiry", "web.url", "web.max_expiry",
                        "storage.map_size", "smtp.max_message", "web.send_recipients",
                        "web.send_messages_per_day", "web.send_bytes_per_day", "relay.mode",
                        "relay.deliveries", "relay.per_destination", "relay.retry_for",
                        "audit.agent"},
        [ROLE_KEEPER] = {"smtp.max_sessions", "memory.lock", "relay.mode", "relay.deliveries",
                         "relay.dkim_selector"},
        [ROLE_RELAY] = {"web.url", "appliance.hostname", "appliance.domain",
                        "appliance.shutdown_grace", "relay.mode", "relay.smarthost", "relay.tls",
                        "relay.port", "relay.private_addresses", "relay.deliveries",
                        "relay.dkim_selector", "memory.lock", "resolver.server"},
        [ROLE_RESOLVER] = {"relay.deliveries", "resolver.server", "smtp.max_sessions",
                           "smtp.check_sender"},
        [ROLE_WEB] = {"appliance.hostname", "appliance.domain", "appliance.shutdown_grace",
                      "web.listen", "web.url", "web.max_expiry", "web.max_connections_per_client",
                      "metrics.listen"},
        [ROLE_AUDIT] = {"memory.lock", "audit.checkpoint_events", "audit.checkpoint_seconds",
                        "audit.rotate_size"},
    };
    (void)state;
    for (int r = 0; r < ROLE_COUNT; r++) {
        slice_of((enum role_id)r);
        only(roles[r]);
        assert_null(strstr(slice, "/secret")); /* no role opens a path */
    }
}

static void slices_come_back(void **state)
{
    struct config *c = NULL;
    (void)state;
    slice_of(ROLE_SMTP);
    assert_int_equal(config_from_slice(slice, strlen(slice), &c), SP_OK);
    assert_string_equal(c->hostname, "mail.example.org");
    assert_int_equal(c->domain.count, 2);
    assert_string_equal(c->smtp_listen.item[1], "[::]:25");
    assert_int_equal(c->smtp_tls, TLS_REQUIRE);
    assert_int_equal(c->max_message, 25u << 20);
    assert_int_equal(c->smtp_idle, 120);
    assert_int_equal(c->memory_lock, LOCK_MLOCK);
    assert_null(c->tls_key);
    config_free(c);
}

static void slices_that_do_not_fit(void **state)
{
    size_t len;
    (void)state;
    slice_of(ROLE_SMTP);
    size_t need = strlen(slice);
    assert_int_equal(config_slice(config, 1u << ROLE_SMTP, slice, need + 1, &len), SP_OK);
    for (size_t cap = 0; cap <= need; cap += 7)
        assert_int_equal(config_slice(config, 1u << ROLE_SMTP, slice, cap, &len), SP_ERR_LIMIT);
}

static void broken_slices(void **state)
{
    static const char *const bad[] = {
        "x",  "smtp.tls=may",   "smtp.tls\n", "smtp=x\n",     "smtp.tls=\n", "smtp.none=x\n",
        "\n", "smtp.idle=no\n", ".=\n",       "smtp.tls.=x\n"};
    struct config *c;
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(config_from_slice(bad[i], strlen(bad[i]), &c), SP_ERR_CONFIG);
        assert_null(c);
    }
}

static int start(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd >= 0 ? close(fd) : -1;
}

static int end(void **state)
{
    (void)state;
    free(said);
    config_free(config);
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_every_key),
        cmocka_unit_test(names_what_has_no_effect),
        cmocka_unit_test(has_defaults),
        cmocka_unit_test(demands),
        cmocka_unit_test(credentials_have_a_place),
        cmocka_unit_test(names_each_mistake),
        cmocka_unit_test(names_all_mistakes),
        cmocka_unit_test(relay_settings_agree),
        cmocka_unit_test(nothing_is_guessed),
        cmocka_unit_test(looks_like_text_files_do),
        cmocka_unit_test(lists_end),
        cmocka_unit_test(listeners_do_not_collide),
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(no_file),
        cmocka_unit_test(slices_hold_no_more),
        cmocka_unit_test(slices_come_back),
        cmocka_unit_test(slices_that_do_not_fit),
        cmocka_unit_test(broken_slices),
    };
    return cmocka_run_group_tests(tests, start, end);
}
