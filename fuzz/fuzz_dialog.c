/* libs: -lcrypto */
/* A whole SMTP client against a hostile server: the input is all that the server ever says. A model
 * of an honest reader holds the client to its part: only CRLF ends its lines, commands come in
 * order and one answer is owed to each, AUTH goes over verified TLS alone, content arrives as it is
 * or without its end, every recipient gets a verdict, and SENT takes a 2xx behind all of the
 * content. */
#define clean  reply_clean
#define number reply_number
#include "daemon/relay/reply.c"
#undef clean
#undef number
#include "daemon/relay/dialog_io.c"
#define lost  dialog_c_lost
#define login dialog_c_login
#include "daemon/relay/dialog.c"
#undef lost
#undef login
#include "daemon/relay/login.c"
#define lost transaction_lost
#include "daemon/relay/transaction.c"
#undef lost
#include "daemon/relay/octets.c"
#include "daemon/relay/content.c"
#include "envelope/error.c"

#include <stdlib.h>

#define HEAD_BYTES 4u /* of the input that choose the world */
#define MAX_SAID   (1u << 20)
#define MAX_MAIL   (255u * 400u + 1u)
#define MAILS      3u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REQUIRE = 1, NEVER = 2, AUTH = 4, VERIFIES = 8, HANDSHAKE_FAILS = 16, LOOPS = 32 };
enum {
    UTF8 = 1,
    EIGHT_BIT = 2,
    BAD_BYTES = 4,
    SOURCE_FAILS = 8,
    NO_END = 16,
    DOTS = 32,
    MANY = 64
};

static struct {
    uint8_t how, mail, cut, size;
    const uint8_t *in; /* the server's part */
    size_t left;
    bool tls_failed;
    char said[MAX_SAID]; /* the client's */
    size_t len, tls_at;  /* tls_at: where in said TLS began; 0: never */
    size_t replies_used;
} world;

static struct remote remote;
static struct dialog dialog;

void lockmem_wipe(void *at, size_t len)
{
    memset(at, 0, len);
}

static void insist(bool good)
{
    if (!good)
        abort();
}

/* --- the connection --- */

void remote_step(struct remote *r, uint64_t ms)
{
    (void)r;
    insist(ms > 0);
}

void remote_hold(struct remote *r, bool on)
{
    r->hold = on;
}

/* A line at a time, as honest servers speak; one that ends with '+' brings the next along. */
static size_t whole_lines(void)
{
    size_t n = 0;
    do {
        const uint8_t *lf = memchr(world.in + n, '\n', world.left - n);
        n = lf != NULL ? (size_t)(lf - world.in) + 1 : world.left;
    } while (n < world.left && n >= 3 && world.in[n - 3] == '+');
    return n;
}

enum sp_err remote_fill(struct remote *r)
{
    size_t n = 1u + world.cut % 61u;
    insist(r->at == r->len);
    if (world.left == 0) {
        r->end = REMOTE_CLOSED;
        return SP_ERR_PEER;
    }
    if (world.cut < 128)
        n = whole_lines();
    n = n < world.left ? n : world.left;
    n = n < sizeof(r->in) ? n : sizeof(r->in);
    memcpy(r->in, world.in, n);
    r->at = 0;
    r->len = n;
    world.in += n;
    world.left -= n;
    return SP_OK;
}

enum sp_err remote_early(struct remote *r, bool *came)
{
    *came = r->at < r->len;
    return SP_OK;
}

enum sp_err remote_write(struct remote *r, const void *bytes, size_t len)
{
    insist(r->end == REMOTE_OPEN || r->end == REMOTE_CLOSED);
    insist(r->at == r->len); /* we do not speak while there is something to hear */
    insist(len <= MAX_SAID - world.len);
    memcpy(world.said + world.len, bytes, len);
    world.len += len;
    return SP_OK;
}

enum sp_err remote_start_tls(struct remote *r, SSL_CTX *ctx, const char *name, bool must_verify)
{
    insist(ctx != NULL && strcmp(name, "mx.test") == 0 && world.tls_at == 0);
    insist(must_verify == ((world.how & (REQUIRE | AUTH)) != 0));
    if (r->at < r->len)
        return SP_ERR_FORMAT;
    if (world.how & HANDSHAKE_FAILS)
        return SP_ERR_CRYPTO;
    if (must_verify && !(world.how & VERIFIES))
        return SP_ERR_AUTH;
    r->tls = world.how & VERIFIES ? REMOTE_VERIFIED : REMOTE_ENCRYPTED;
    world.tls_at = world.len;
    return SP_OK;
}

/* --- the mail --- */

struct mail {
    uint8_t bytes[MAX_MAIL];
    size_t len, at;
    unsigned reads;
};
static struct mail mail;

static void make_mail(void)
{
    static const char line[] = "a line of mail\r\n", dots[] = ".\r\n..\r\n.x\r\n";
    const char *unit = world.mail & DOTS ? dots : line;
    size_t n = strlen(unit), len = (size_t)world.size * (world.size > 200 ? 400u : 3u);
    mail.at = mail.reads = 0;
    for (mail.len = 0; mail.len + n <= len;) {
        memcpy(mail.bytes + mail.len, unit, n);
        mail.len += n;
    }
    if (world.mail & NO_END)
        mail.bytes[mail.len++] = '.';
    if ((world.mail & BAD_BYTES) && mail.len > 0)
        mail.bytes[mail.len / 2] = '\n';
}

static enum sp_err read_mail(void *ctx, uint8_t *buf, size_t cap, size_t *n)
{
    (void)ctx;
    size_t left = mail.len - mail.at, most = 1u + world.cut * 50u;
    insist(cap > 0);
    *n = left < cap ? left : cap;
    *n = *n < most ? *n : most;
    memcpy(buf, mail.bytes + mail.at, *n);
    mail.at += *n;
    mail.reads++;
    return *n == 0 && (world.mail & SOURCE_FAILS) ? SP_ERR_AUTH : SP_OK;
}

/* --- an honest server's reading of what was said --- */

struct reader {
    const char *at, *end;
    bool mail;         /* a transaction is open */
    unsigned rcpts;    /* RCPTs in it */
    unsigned complete; /* contents that came to their end */
};

static bool begins(const struct reader *r, const char *word)
{
    size_t n = strlen(word);
    return (size_t)(r->end - r->at) >= n && memcmp(r->at, word, n) == 0;
}

/* The line at r->at, without its CRLF. */
static size_t command_line(struct reader *r)
{
    const char *lf = memchr(r->at, '\n', (size_t)(r->end - r->at));
    insist(lf != NULL && lf > r->at && lf[-1] == '\r');
    size_t n = (size_t)(lf - 1 - r->at);
    insist(memchr(r->at, '\r', n) == NULL && memchr(r->at, '\0', n) == NULL && n <= 4096);
    return n;
}

/* Content under DATA: only what the mail is may come, dots stuffed, and its end if it has one. */
static void read_data(struct reader *r)
{
    size_t at = 0;
    bool start = true;
    while (r->at < r->end) {
        if (start && *r->at == '.') {
            if (r->end - r->at >= 3 && memcmp(r->at, ".\r\n", 3) == 0 &&
                (at == mail.len || (at == mail.len + 2))) {
                r->at += 3;
                r->complete++;
                return;
            }
            r->at++;
            insist(r->at < r->end && *r->at == '.');
        }
        char expected = at < mail.len ? (char)mail.bytes[at] : "\r\n"[(at - mail.len) & 1];
        insist(at < mail.len + 2 && *r->at == expected);
        start = *r->at == '\n';
        r->at++;
        at++;
    }
}

static void read_bdat(struct reader *r)
{
    size_t at = 0;
    for (;;) {
        size_t n = 0, line = command_line(r);
        insist(sscanf(r->at, "BDAT %zu", &n) == 1 && n <= DIALOG_CHUNK + 2);
        bool last = memcmp(r->at + line - 5, " LAST", 5) == 0;
        r->at += line + 2;
        insist((size_t)(r->end - r->at) >= n);
        for (; n > 0; n--, at++) {
            char expected = at < mail.len ? (char)mail.bytes[at] : "\r\n"[(at - mail.len) & 1];
            insist(at < mail.len + 2 && *r->at++ == expected);
        }
        if (last) {
            insist(at >= mail.len);
            r->complete++;
            return;
        }
        if (!begins(r, "BDAT "))
            return;
    }
}

static void read_command(struct reader *r)
{
    size_t n = command_line(r);
    bool clear = world.tls_at == 0 || (size_t)(r->at - world.said) < world.tls_at;
    if (begins(r, "MAIL FROM:<")) {
        insist(!r->mail);
        r->mail = true;
        r->rcpts = 0;
    } else if (begins(r, "RCPT TO:<")) {
        insist(r->mail);
        r->rcpts++;
    } else if (begins(r, "RSET") || begins(r, "QUIT")) {
        insist(n == 4);
        r->mail = false;
    } else if (begins(r, "DATA")) {
        insist(n == 4 && r->mail && r->rcpts > 0);
    } else if (begins(r, "AUTH ")) {
        insist(!clear && (world.how & VERIFIES) && (world.how & AUTH));
    } else if (begins(r, "STARTTLS")) {
        insist(n == 8 && clear && !(world.how & NEVER));
    } else if (!begins(r, "EHLO us.test") && !begins(r, "HELO us.test")) {
        /* The two lines of LOGIN. */
        insist(!clear && (world.how & AUTH) && memchr(r->at, ' ', n) == NULL);
    }
    r->at += n + 2;
}

/* When the server's answer to DATA was 354 is its own affair; we see that content follows. */
static unsigned read_said(void)
{
    struct reader r = {.at = world.said, .end = world.said + world.len};
    while (r.at < r.end) {
        if (begins(&r, "BDAT ")) {
            insist(r.mail && r.rcpts > 0);
            read_bdat(&r);
            r.mail = false;
            continue;
        }
        bool data = begins(&r, "DATA\r\n");
        read_command(&r);
        bool refused = begins(&r, "RSET\r\n") || begins(&r, "QUIT\r\n");
        if (data && !refused && r.at < r.end) {
            read_data(&r);
            r.mail = false;
        }
    }
    return r.complete;
}

/* --- one run --- */

static void insist_verdict(const struct dialog_verdict *v)
{
    static const char classes[] = {
        [DIALOG_SENT] = '2', [DIALOG_DEFERRED] = '4', [DIALOG_FAILED] = '5'};
    insist(v->outcome != DIALOG_NONE && v->outcome <= DIALOG_FAILED &&
           v->enhanced[0] == classes[v->outcome]);
    insist(v->enhanced[1] == '.' && strlen(v->enhanced) >= 5);
    insist(v->code == 0 || (v->code >= 200 && v->code <= 599));
    insist(strlen(v->text) <= REPLY_TEXT);
    for (const char *at = v->text; *at != '\0'; at++)
        insist(*at >= ' ' && *at < 0x7f);
    insist(!v->again || v->outcome == DIALOG_DEFERRED);
}

/* True if the connection goes on. */
static bool send_one(unsigned *sent)
{
    static const char *const to[] = {"a@x.test", "b\r\nDATA@x.test", "\xc3\xbc@x.test", "c@x.test"};
    struct dialog_verdict v[4];
    struct dialog_mail m = {.from = "me@us.test",
                            .to = to,
                            .n = world.mail & MANY ? 4 : 1,
                            .utf8 = (world.mail & UTF8) != 0,
                            .eight_bit = (world.mail & EIGHT_BIT) != 0,
                            .source = read_mail};
    bool any = false;
    make_mail();
    m.size = mail.len;
    memset(v, 0x5a, sizeof(v));
    enum sp_err err = dialog_send(&dialog, &m, v);
    for (size_t i = 0; i < m.n; i++) {
        insist_verdict(&v[i]);
        any |= v[i].outcome == DIALOG_SENT;
    }
    insist(!any || (v[1].outcome == DIALOG_FAILED || m.n == 1));
    insist(err == SP_OK || err == SP_ERR_PEER || mail.reads > 0);
    insist(!any || (mail.at == mail.len && !(world.mail & SOURCE_FAILS) && err == SP_OK));
    insist(!remote.hold && (err == SP_OK) == !dialog.over);
    *sent += any;
    return err == SP_OK;
}

static void open_and_send(void)
{
    struct dialog_settings set = {.hostname = "us.test",
                                  .peer = "mx.test",
                                  .loops = (world.how & LOOPS) != 0,
                                  .tls = world.how & REQUIRE ? DIALOG_TLS_REQUIRE
                                         : world.how & NEVER ? DIALOG_TLS_NEVER
                                                             : DIALOG_TLS_MAY,
                                  .ctx = (SSL_CTX *)&world};
    struct dialog_verdict v;
    unsigned sent = 0;
    if (world.how & AUTH)
        set.user = set.password = "secret";
    memset(&v, 0x5a, sizeof(v));
    enum dialog_next next = dialog_open(&dialog, &remote, &set, &v);
    bool secure = world.how & (REQUIRE | AUTH);
    if (next != DIALOG_READY) {
        insist_verdict(&v);
        insist(v.outcome != DIALOG_SENT && dialog.over);
        insist(next != DIALOG_CLEAR || !(world.how & (REQUIRE | AUTH | NEVER)));
        insist(!secure || remote.tls == REMOTE_VERIFIED || v.outcome == DIALOG_DEFERRED);
    } else {
        insist(!secure || remote.tls == REMOTE_VERIFIED);
        for (unsigned i = 0; i < MAILS && send_one(&sent); i++)
            ;
    }
    dialog_quit(&dialog);
    insist(read_said() >= sent);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD_BYTES)
        return 0;
    memset(&remote, 0, sizeof(remote));
    world.how = data[0];
    if ((world.how & REQUIRE) != 0)
        world.how &= (uint8_t)~NEVER;
    world.mail = data[1];
    world.cut = data[2];
    world.size = data[3];
    world.in = data + HEAD_BYTES;
    world.left = size - HEAD_BYTES;
    world.len = world.tls_at = 0;
    open_and_send();
    return 0;
}
