/* The audit role as it runs (all but its cage), and what the verifier finds in a log that somebody
 * has been at. P11: with every key that a thief could have. */
#include "daemon/audit/chain.h"
#include "daemon/audit/events.h"
#include "daemon/audit/keystate.h"
#include "daemon/audit/log.h"
#include "daemon/audit/schema.h"
#include "daemon/role.h"
#include "sandbox/lockmem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOG   "audit.log"
#define STATE "audit.key"

static const uint8_t id[16] = {0xde, 0xad, 0xbe, 0xef};
static const int edges[] = {
    ROLE_FD(ROLE_SMTP), ROLE_FD(ROLE_SEALER), ROLE_FD(ROLE_STORE),    ROLE_FD(ROLE_KEEPER),
    ROLE_FD(ROLE_WEB),  ROLE_FD(ROLE_RELAY),  ROLE_FD(ROLE_RESOLVER), FD_EXTRA};
static const unsigned roles[] = {ROLE_SMTP, ROLE_SEALER, ROLE_STORE,    ROLE_KEEPER,
                                 ROLE_WEB,  ROLE_RELAY,  ROLE_RESOLVER, ROLE_SUPERVISOR};
#define N_EDGES 8

/* --- a running role --- */

static struct role role;

static void on_term(evutil_socket_t sig, short what, void *ctx)
{
    (void)sig;
    (void)what;
    (void)ctx;
    audit_role.stop(&role);
}

static void become_role(int far[N_EDGES])
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    static struct config config = {.checkpoint_events = 10, .checkpoint_seconds = 3600};
    for (int i = 0; i < N_EDGES; i++)
        dup3(far[i], edges[i], O_CLOEXEC);
    for (int i = 0; i < N_EDGES; i++)
        close(far[i]);
    int log = open(LOG, O_RDWR | O_APPEND | O_CREAT, 0600);
    int key = open(STATE, O_RDWR | O_CREAT, 0600);
    dup2(log, FD_EXTRA + 1);
    dup2(key, FD_EXTRA + 2);
    role = (struct role){.ops = &audit_role, .config = &config, .base = event_base_new()};
    struct event *term = evsignal_new(role.base, SIGTERM, on_term, NULL);
    event_add(term, NULL);
    sigprocmask(SIG_SETMASK, &(sigset_t){0}, NULL); /* now it is heard */
    enum sp_err err = audit_role.prepare(&role);
    if (err == SP_OK)
        err = audit_role.run(&role);
    if (err == SP_OK)
        err = ipc_loop(role.base);
    _exit((int)err);
}

static pid_t start_role(int near[N_EDGES])
{
    int pair[2], far[N_EDGES];
    for (int i = 0; i < N_EDGES; i++) {
        assert_int_equal(ipc_pair(pair), SP_OK);
        near[i] = fcntl(pair[0], F_DUPFD_CLOEXEC, 100);
        far[i] = fcntl(pair[1], F_DUPFD_CLOEXEC, 100);
        close(pair[0]);
        close(pair[1]);
    }
    sigset_t term, before;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &before);
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < N_EDGES; i++)
            close(near[i]);
        become_role(far);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    for (int i = 0; i < N_EDGES; i++)
        close(far[i]);
    return pid;
}

static int end_role(pid_t pid, int sig, int near[N_EDGES])
{
    int status;
    kill(pid, sig);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    for (int i = 0; i < N_EDGES; i++)
        close(near[i]);
    close(FD_AUDIT);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void speak_as(int near[N_EDGES], unsigned who)
{
    for (int i = 0; i < N_EDGES; i++)
        if (roles[i] == who)
            assert_int_equal(dup2(near[i], FD_AUDIT), FD_AUDIT);
}

/* How many lines of the log are of this event, a torn one among them. */
static unsigned lines_of(const char *event)
{
    char wanted[64], *line = NULL;
    size_t room = 0;
    unsigned n = 0;
    snprintf(wanted, sizeof(wanted), "\"event\":\"%s\"", event);
    FILE *f = fopen(LOG, "r");
    while (f != NULL && getline(&line, &room, f) > 0)
        n += strstr(line, wanted) != NULL;
    free(line);
    if (f != NULL)
        fclose(f);
    return n;
}

/* Each role has its own way in: what is to come first is waited for. */
static void wait_line_of(const char *event, unsigned before)
{
    for (int tries = 0; tries < 60000 && lines_of(event) == before; tries++)
        usleep(1000);
    assert_int_equal(lines_of(event), before + 1);
}

/* The role has closed the way in of who speaks. */
static void wait_cut_off(void)
{
    struct pollfd fd = {.fd = FD_AUDIT, .events = POLLRDHUP};
    assert_int_equal(poll(&fd, 1, 60000), 1);
}

/* 5 events */
static void some_events(int near[N_EDGES])
{
    unsigned starts = lines_of("start"), opens = lines_of("session.open");
    unsigned refusals = lines_of("message.refused");
    speak_as(near, ROLE_SUPERVISOR);
    audit_emit(AUDIT_START, "1", "mx.\"test\"\\", "secretmem", "in-place (ext4)", "p", "f");
    wait_line_of("start", starts);
    speak_as(near, ROLE_SMTP);
    audit_emit(AUDIT_SESSION_OPEN, (uint64_t)1, "192.0.2.1", "smtp");
    wait_line_of("session.open", opens);
    speak_as(near, ROLE_SEALER);
    audit_emit(AUDIT_SEALED, id, (UINT64_C(1) << 53) - 1, (uint64_t)2, (uint64_t)3, (uint64_t)4,
               (uint64_t)5, (uint64_t)6);
    audit_emit(AUDIT_REFUSED, (uint64_t)1, "\x01\xff\xc0\xaf\xed\xa0\x80 \xe2\x80\xa8\xc3\xa9\x7f");
    wait_line_of("message.refused", refusals);
    speak_as(near, ROLE_STORE);
    audit_emit(AUDIT_FETCHED, id, id);
}

static off_t size_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

/* Events are asynchronous: waits until the log has n lines. */
static void wait_lines(size_t n)
{
    for (int tries = 0; tries < 6000; tries++) {
        FILE *f = fopen(LOG, "r");
        size_t lines = 0;
        for (int ch; f != NULL && (ch = getc(f)) != EOF;)
            lines += ch == '\n';
        if (f != NULL)
            fclose(f);
        if (lines >= n)
            return;
        usleep(10000);
    }
    fail();
}

/* --- files --- */

static int enter_folder(void **state)
{
    static char folder[] = "/tmp/sealpost-audit-XXXXXX";
    enum lockmem_kind got;
    (void)state;
    for (int fd = 3; fd < FD_EXTRA + 3; fd++) /* keep what we open clear of the fixed numbers */
        if (fcntl(fd, F_GETFD) < 0)
            dup2(2, fd);
    assert_int_equal(lockmem_init(LOCKMEM_NONE, &got), SP_OK);
    assert_non_null(mkdtemp(folder));
    return chdir(folder);
}

static int remove_files(void **state)
{
    (void)state;
    unlink(LOG);
    unlink(STATE);
    return 0;
}

static int leave_folder(void **state)
{
    char path[256];
    assert_non_null(getcwd(path, sizeof(path)));
    remove_files(state);
    return chdir("/") == 0 ? rmdir(path) : -1;
}

static char *slurp(const char *path, size_t *len)
{
    *len = (size_t)size_of(path);
    char *text = malloc(*len + 1);
    FILE *f = fopen(path, "r");
    assert_int_equal(fread(text, 1, *len, f), *len);
    text[*len] = '\0';
    fclose(f);
    return text;
}

static void spill(const char *path, const char *text, size_t len)
{
    FILE *f = fopen(path, "w");
    assert_int_equal(fwrite(text, 1, len, f), len);
    fclose(f);
}

static FILE *open_log(void *ctx, size_t i)
{
    (void)i;
    return fopen(ctx, "r");
}

static const struct audit_files files = {open_log, LOG, 1};

static struct audit_head head_now(void)
{
    struct audit_head head;
    FILE *f = fopen(STATE, "r");
    assert_int_equal(audit_head_read(f, &head), SP_OK);
    fclose(f);
    return head;
}

static enum sp_err verify(struct audit_report *report)
{
    return audit_verify(&files, NULL, NULL, report);
}

/* The log as it is against its key state. */
static bool ends_at_head(void)
{
    struct audit_report report;
    struct audit_head head = head_now();
    assert_int_equal(audit_verify(&files, NULL, &head, &report), SP_OK);
    return audit_head_agrees(&head, &head, &report);
}

/* 15 events and their checkpoints, in three runs of the role. */
static void make_log(void)
{
    int near[N_EDGES];
    remove_files(NULL);
    for (int i = 0; i < 3; i++) {
        pid_t pid = start_role(near);
        some_events(near);
        assert_int_equal(end_role(pid, SIGTERM, near), 0);
    }
}

/* --- tests --- */

/* The ten lines of script that INTERFACES promises. */
static void test_chain(void **state)
{
    char prev[65], hash[65], *line, *rest;
    uint8_t digest[32];
    size_t len, n = 0;
    (void)state;
    make_log();
    char *text = slurp(LOG, &len);
    memset(prev, '0', 64);
    prev[64] = '\0';
    for (line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        json_t *json = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(json);
        assert_int_equal(json_integer_value(json_object_get(json, "seq")), ++n);
        assert_string_equal(json_string_value(json_object_get(json, "prev")), prev);
        EVP_Digest(line, (size_t)(strstr(line, ",\"hash\":") - line), digest, NULL, EVP_sha256(),
                   NULL);
        sodium_bin2hex(hash, sizeof(hash), digest, 32);
        assert_string_equal(json_string_value(json_object_get(json, "hash")), hash);
        memcpy(prev, hash, sizeof(prev));
        json_decref(json);
    }
    free(text);
    struct audit_report report;
    assert_int_equal(verify(&report), SP_OK);
    assert_int_equal(report.events, n);
    assert_int_equal(n, 18);
    assert_int_equal(report.checkpoints, 3);
    assert_int_equal(report.covered, n);
    assert_true(ends_at_head());
}

static void test_rendering(void **state)
{
    size_t len;
    (void)state;
    make_log();
    char *text = slurp(LOG, &len);
    assert_non_null(strstr(text, "\"event\":\"start\",\"version\":\"1\",\"hostname\":"
                                 "\"mx.\\\"test\\\"\\\\\",\"memory_lock\":\"secretmem\","
                                 "\"slots\":\"in-place (ext4)\",\"page_sha256\":\"p\","
                                 "\"page_files_sha256\":\"f\","
                                 "\"audit_key\":\""));
    assert_non_null(strstr(text, "\"event\":\"message.sealed\",\"id\":\"deadbeef0000"));
    assert_non_null(strstr(text, "\"session\":9007199254740991,\"recipients\":2,"));
    assert_non_null(strstr(text, "\"why\":\"\\u0001\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                                 "\xef\xbf\xbd\xef\xbf\xbd \\u2028\xc3\xa9\\u007f\""));
    free(text);
}

/* A role that reports what is another's is cut off; the others go on. */
static void test_not_allowed(void **state)
{
    int near[N_EDGES];
    struct audit_report report;
    (void)state;
    remove_files(NULL);
    pid_t pid = start_role(near);
    some_events(near);
    speak_as(near, ROLE_WEB);
    assert_int_equal(audit_report(AUDIT_SEALED, id, (uint64_t)1, (uint64_t)1, (uint64_t)1,
                                  (uint64_t)1, (uint64_t)1, (uint64_t)1),
                     SP_OK);
    wait_lines(5);
    wait_cut_off();
    assert_int_equal(audit_report(AUDIT_STOP, "x"), SP_ERR_PEER);
    speak_as(near, ROLE_STORE);
    ipc_send_fd(FD_AUDIT, AU_EVENT, 0, "\xff\xff", 2, -1);
    wait_cut_off();
    assert_int_equal(audit_report(AUDIT_FETCHED, id, id), SP_ERR_PEER);
    speak_as(near, ROLE_SMTP);
    audit_emit(AUDIT_SESSION_CLOSE, (uint64_t)1, "192.0.2.1", (uint64_t)7);
    assert_int_equal(end_role(pid, SIGTERM, near), 0);
    assert_int_equal(verify(&report), SP_OK);
    assert_int_equal(report.events, 5 + 1 + 1);
}

/* --- a thief at the log --- */

struct log_lines {
    size_t n;
    char *line[64]; /* with newline */
};

static void split(char *text, struct log_lines *out)
{
    out->n = 0;
    for (char *at = text; *at != '\0';) {
        char *end = strchr(at, '\n') + 1;
        out->line[out->n++] = strndup(at, (size_t)(end - at));
        at = end;
    }
}

static void join(struct log_lines *lines)
{
    FILE *f = fopen(LOG, "w");
    for (size_t i = 0; i < lines->n; i++) {
        fputs(lines->line[i], f);
        free(lines->line[i]);
    }
    fclose(f);
}

static void edit(struct log_lines *l)
{
    char *at = strstr(l->line[1], "192.0.2.1");
    at[8] = '9';
}

static void cut(struct log_lines *l)
{
    free(l->line[2]);
    memmove(&l->line[2], &l->line[3], (--l->n - 2) * sizeof(char *));
}

static void cut_head(struct log_lines *l)
{
    free(l->line[0]);
    memmove(&l->line[0], &l->line[1], --l->n * sizeof(char *));
}

static void reorder(struct log_lines *l)
{
    char *swap = l->line[2];
    l->line[2] = l->line[3];
    l->line[3] = swap;
}

static void duplicate(struct log_lines *l)
{
    memmove(&l->line[3], &l->line[2], (l->n++ - 2) * sizeof(char *));
    l->line[2] = strdup(l->line[3]);
}

static void insert_garbage(struct log_lines *l)
{
    duplicate(l);
    l->line[2][5] = '\x02';
}

static void append_garbage(struct log_lines *l)
{
    l->line[l->n++] = strdup("{\"seq\":19}\n");
}

static void empty_line(struct log_lines *l)
{
    l->line[l->n++] = strdup("\n");
}

static void edit_checkpoint(struct log_lines *l)
{
    char *at = strstr(l->line[l->n - 1], "\"time\":\"") + 8;
    *at = '3';
}

/* Makes all hashes fit again, and signs every checkpoint with sk if there is one. */
static void rehash(struct log_lines *l, const uint8_t *sk)
{
    char prev[65];
    uint8_t digest[32], message[AUDIT_SIGNED_MAX], signature[64];
    size_t len;
    memset(prev, '0', 64);
    prev[64] = '\0';
    for (size_t i = 0; i < l->n; i++) {
        char *line = l->line[i], *sig = strstr(line, ",\"signature\":\"");
        memcpy(strstr(line, "\"prev\":\"") + 8, prev, 64);
        if (sig != NULL && sk != NULL) {
            sodium_hex2bin(digest, 32, prev, 64, NULL, NULL, NULL);
            audit_signed_bytes(digest, line, (size_t)(sig - line), message, &len);
            crypto_sign_detached(signature, NULL, message, len, sk);
            char hex[129];
            sodium_bin2hex(hex, sizeof(hex), signature, 64);
            memcpy(sig + 14, hex, 128);
        }
        char *hash = strstr(line, ",\"hash\":\"");
        crypto_hash_sha256(digest, (uint8_t *)line, (size_t)(hash - line));
        sodium_bin2hex(prev, sizeof(prev), digest, 32);
        memcpy(hash + 9, prev, 64);
    }
}

static void rewrite(struct log_lines *l)
{
    edit(l);
    rehash(l, NULL);
}

static void rewrite_checkpoint_time(struct log_lines *l)
{
    edit_checkpoint(l);
    rehash(l, NULL);
}

/* With the current key, out of the state file, that signs where it never did. */
static void rewrite_with_stolen_key(struct log_lines *l)
{
    size_t len;
    uint8_t pk[32], sk[64];
    char *state = slurp(STATE, &len);
    size_t slot = sodium_is_zero((uint8_t *)state, 8) ? AUDIT_SLOT_SIZE : 0;
    crypto_sign_seed_keypair(pk, sk, (uint8_t *)state + slot + 8);
    free(state);
    edit(l);
    rehash(l, sk);
}

static void test_thief(void **state)
{
    static const struct {
        const char *name;
        void (*deed)(struct log_lines *lines);
        uint64_t bad_line;
    } deeds[] = {
        {"edit", edit, 2},
        {"cut", cut, 3},
        {"cut head", cut_head, 1},
        {"reorder", reorder, 3},
        {"duplicate", duplicate, 4},
        {"insert garbage", insert_garbage, 3},
        {"append garbage", append_garbage, 19},
        {"empty line", empty_line, 19},
        {"edit checkpoint", edit_checkpoint, 18},
        {"rewrite", rewrite, 6},
        {"rewrite a checkpoint's time", rewrite_checkpoint_time, 18},
        {"rewrite with stolen key", rewrite_with_stolen_key, 6},
    };
    struct audit_report report;
    struct log_lines lines;
    size_t len;
    (void)state;
    make_log();
    char *good = slurp(LOG, &len);
    for (size_t i = 0; i < sizeof(deeds) / sizeof(deeds[0]); i++) {
        split(good, &lines);
        deeds[i].deed(&lines);
        join(&lines);
        enum sp_err err = verify(&report);
        if (err == SP_OK || report.bad_line != deeds[i].bad_line || report.why == NULL)
            fail_msg("%s: %s, line %u: %s", deeds[i].name, sp_err_text(err),
                     (unsigned)report.bad_line, report.why);
    }
    free(good);
}

/* Cut back to an older checkpoint, a log is whole in itself: the key state tells. And the role does
 * not go on with it. */
static void test_cut_back(void **state)
{
    struct audit_report report;
    struct log_lines lines;
    size_t len;
    int near[N_EDGES];
    (void)state;
    make_log();
    char *good = slurp(LOG, &len);
    split(good, &lines);
    while (lines.n > 12)
        free(lines.line[--lines.n]);
    join(&lines);
    assert_int_equal(verify(&report), SP_OK);
    assert_int_equal(report.covered, 12);
    assert_false(ends_at_head());
    pid_t pid = start_role(near);
    assert_int_equal(end_role(pid, 0, near), SP_ERR_AUTH);
    unlink(LOG); /* gone altogether */
    pid = start_role(near);
    assert_int_equal(end_role(pid, 0, near), SP_ERR_EXISTS);
    spill(LOG, good, len); /* the key state gone */
    unlink(STATE);
    pid = start_role(near);
    assert_int_equal(end_role(pid, 0, near), SP_ERR_AUTH);
    free(good);
}

static void test_first_key(void **state)
{
    struct audit_report report, noted;
    (void)state;
    make_log();
    assert_int_equal(verify(&noted), SP_OK);
    make_log(); /* another log, in its place */
    assert_int_equal(audit_verify(&files, noted.first_key, NULL, &report), SP_ERR_AUTH);
    char *key = strdup(report.first_key);
    assert_int_equal(audit_verify(&files, key, NULL, &report), SP_OK);
    free(key);
}

/* --- crashes --- */

/* A log whose role was killed: 5 events, no checkpoint; cut off after `keep` bytes. */
static char *make_crashed(size_t *len)
{
    int near[N_EDGES];
    remove_files(NULL);
    pid_t pid = start_role(near);
    some_events(near);
    wait_lines(5);
    assert_int_equal(end_role(pid, SIGKILL, near), 1000 + SIGKILL);
    return slurp(LOG, len);
}

/* Where the i-th round cuts this log. Its events come from several senders, so that each log has an
 * order, and lines of a length, of its own. */
enum { N_CUTS = 9 };
static size_t cut_at(const char *whole, size_t len, size_t i)
{
    size_t last = len - 1;
    while (whole[last - 1] != '\n')
        last--;
    const size_t keep[N_CUTS] = {0, 1, 100, last, last + 1, last + 40, len - 2, len - 1, len};
    return keep[i];
}

static void test_torn(void **state)
{
    struct audit_report report;
    int near[N_EDGES];
    (void)state;
    for (size_t i = 0; i < N_CUTS; i++) {
        size_t len;
        char *whole = make_crashed(&len);
        size_t keep = cut_at(whole, len, i);
        bool torn = keep > 0 && whole[keep - 1] != '\n';
        spill(LOG, whole, keep);
        bool begun = memchr(whole, '\n', keep) != NULL;
        assert_int_equal(verify(&report), begun ? SP_OK : SP_ERR_NOT_FOUND);
        assert_int_equal(report.unfinished > 0, torn);
        pid_t pid = start_role(near);
        some_events(near);
        assert_int_equal(end_role(pid, SIGTERM, near), 0);
        if (verify(&report) != SP_OK)
            fail_msg("kept %zu of %zu: line %u %s", keep, len, (unsigned)report.bad_line,
                     report.why);
        /* If the newline alone is missing, the line is whole. */
        assert_int_equal(report.torn, torn && keep != len - 1);
        assert_int_equal(report.unfinished, 0);
        assert_int_equal(report.covered, report.events);
        assert_true(ends_at_head());
        unlink(STATE); /* each round begins with the key that the first one had: make it anew */
        free(whole);
    }
}

/* Torn twice in a row: the note itself was cut off. And what is torn cannot be changed any more. */
static void test_torn_twice(void **state)
{
    struct audit_report report;
    int near[N_EDGES];
    size_t len;
    (void)state;
    char *whole = make_crashed(&len);
    spill(LOG, whole, len - 9);
    free(whole);
    pid_t pid = start_role(near);
    wait_lines(6);
    assert_int_equal(end_role(pid, SIGKILL, near), 1000 + SIGKILL);
    assert_int_equal(truncate(LOG, size_of(LOG) - 20), 0);
    assert_int_equal(verify(&report), SP_OK);
    assert_true(report.unfinished > 0);
    pid = start_role(near);
    some_events(near);
    assert_int_equal(end_role(pid, SIGTERM, near), 0);
    assert_int_equal(verify(&report), SP_OK);
    assert_int_equal(report.torn, 1);
    whole = slurp(LOG, &len);
    struct log_lines lines;
    split(whole, &lines);
    lines.line[4][20] ^= 1;
    join(&lines);
    assert_int_equal(verify(&report), SP_ERR_AUTH);
    assert_int_equal(report.bad_line, 5);
    free(whole);
}

static size_t last_line_len(const char *text, size_t len)
{
    size_t n = 1;
    while (n < len && text[len - n - 1] != '\n')
        n++;
    return n;
}

static void test_refuses_garbage(void **state)
{
    int near[N_EDGES];
    size_t len;
    (void)state;
    char *whole = make_crashed(&len);
    FILE *f = fopen(LOG, "a");
    fputs("not ours\n", f);
    fclose(f);
    pid_t pid = start_role(near);
    assert_int_equal(end_role(pid, 0, near), SP_ERR_FORMAT);
    spill(LOG, whole, len);
    f = fopen(LOG,
              "a"); /* a line that was changed, as no crash does, and what looks like one's rest */
    whole[len - strlen("0\"}\n")] ^= 1;
    fputs(whole + len - last_line_len(whole, len), f);
    fputs("{\"seq\"", f);
    fclose(f);
    pid = start_role(near);
    assert_int_equal(end_role(pid, 0, near), SP_ERR_FORMAT);
    free(whole);
}

/* --- the key at a checkpoint, cut off at each step --- */

static bool state_has(const uint8_t *public_key)
{
    struct audit_head head = head_now();
    return audit_head_has(&head, public_key);
}

static void test_key_steps(void **state)
{
    uint8_t first[32], next[32], other[32];
    struct keystate *keys;
    (void)state;
    remove_files(NULL);
    int fd = open(STATE, O_RDWR | O_CREAT, 0600);
    assert_int_equal(keystate_open(fd, NULL, &keys), SP_OK);
    memcpy(first, keystate_public(keys), 32);
    assert_int_equal(keystate_prepare(keys, next), SP_OK);
    assert_true(state_has(first) && state_has(next));
    keystate_free(keys);
    /* The line was not written: the first key is still current, what was prepared is dropped. */
    assert_int_equal(keystate_open(fd, first, &keys), SP_OK);
    assert_true(state_has(first) && !state_has(next));
    assert_int_equal(keystate_prepare(keys, next), SP_OK);
    keystate_free(keys);
    /* The line was written: the next key is current, the first one is erased. */
    assert_int_equal(keystate_open(fd, next, &keys), SP_OK);
    assert_true(!state_has(first) && state_has(next));
    assert_memory_equal(keystate_public(keys), next, 32);
    assert_int_equal(keystate_prepare(keys, other), SP_OK);
    assert_int_equal(keystate_advance(keys), SP_OK);
    assert_true(!state_has(next) && state_has(other));
    keystate_free(keys);
    assert_int_equal(keystate_open(fd, next, &keys), SP_ERR_AUTH);
    assert_int_equal(keystate_open(fd, NULL, &keys), SP_ERR_EXISTS);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_rendering),
        cmocka_unit_test(test_not_allowed),
        cmocka_unit_test(test_thief),
        cmocka_unit_test(test_cut_back),
        cmocka_unit_test(test_first_key),
        cmocka_unit_test(test_torn),
        cmocka_unit_test(test_torn_twice),
        cmocka_unit_test(test_refuses_garbage),
        cmocka_unit_test(test_key_steps),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
