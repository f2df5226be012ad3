/* The verifier over several files, and every way to alter them that somebody who can write them
 * has: nothing gets past the chain, the signatures and the key state together. */
#include "daemon/audit/chain.h"
#include "sandbox/lockmem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N    3u /* files of a log: checkpoints in the middle and at the end of each */
#define MOST 8u

/* Files, and what the key state beside them said. */
struct copy {
    char *text[MOST];
    size_t len[MOST], n;
    struct audit_head head;
};

/* One log, another with other keys, the first one as it was a while before, and what one has made
 * of that who took the key then. */
static struct copy good, other, older, forged;

/* --- making --- */

static void put_event(struct chain *c, const char *event)
{
    struct audit_text *line = chain_begin(c);
    audit_put(line, "\"event\":\"");
    audit_put(line, event);
    audit_put(line, "\",\"why\":\"x\"");
    assert_int_equal(chain_end(c, strcmp(event, "start") == 0), SP_OK);
}

static void put_some(struct chain *c)
{
    put_event(c, "message.refused");
    assert_int_equal(chain_checkpoint(c), SP_OK);
    put_event(c, "message.refused");
    assert_int_equal(chain_flush(c), SP_OK);
}

static void take(struct copy *out, const char *name)
{
    char *text = calloc(1, 65536);
    FILE *f = fopen(name, "r");
    out->len[out->n] = fread(text, 1, 65536, f);
    out->text[out->n++] = text;
    fclose(f);
}

static void take_head(struct audit_head *out, const char *name)
{
    FILE *f = fopen(name, "r");
    assert_int_equal(audit_head_read(f, out), SP_OK);
    fclose(f);
}

static int open_anew(const char *name)
{
    return open(name, O_RDWR | O_APPEND | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

static const char *const name[N] = {"1", "2", "3"};

static void take_all(struct copy *out)
{
    for (size_t i = 0; i < N; i++)
        take(out, name[i]);
    take_head(&out->head, "key");
}

static int copy_file(const char *from, const char *to, int flags)
{
    char buf[65536];
    FILE *f = fopen(from, "r");
    size_t n = fread(buf, 1, sizeof(buf), f);
    fclose(f);
    int fd = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);
    assert_int_equal(write(fd, buf, n), n);
    return fd;
}

/* Goes on with copies of the last file and the key. */
static void forge(struct copy *out)
{
    struct chain *c;
    const char *why;
    int log = copy_file(name[N - 1], "log", O_APPEND), key = copy_file("key", "stolen", 0);
    assert_int_equal(chain_open(log, key, &c, &why), SP_OK);
    put_event(c, "message.deleted");
    assert_int_equal(chain_checkpoint(c), SP_OK);
    take(out, name[0]);
    take(out, name[1]);
    take(out, "log");
    take_head(&out->head, "stolen");
    chain_free(c);
    close(log);
    close(key);
    unlink("log");
    unlink("stolen");
}

/* before: as it was without its last two lines; fork: what was made of that with its key. */
static void make(struct copy *out, struct copy *before, struct copy *fork)
{
    struct chain *c;
    const char *why;
    uint64_t last;
    int key = open("key", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(chain_open(open_anew(name[0]), key, &c, &why), SP_OK);
    put_event(c, "start");
    put_some(c);
    for (size_t i = 1; i < N; i++) {
        assert_int_equal(chain_rotate(c, open_anew(name[i]), &last), SP_OK);
        put_some(c);
    }
    take_all(before);
    forge(fork);
    put_event(c, "stop");
    assert_int_equal(chain_checkpoint(c), SP_OK);
    take_all(out);
    chain_free(c);
    for (size_t i = 0; i < N; i++)
        unlink(name[i]);
    unlink("key");
    close(key);
}

static void drop(struct copy *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->text[i]);
    *c = (struct copy){0};
}

static int set_up(void **state)
{
    char folder[] = "/tmp/sealpost-audit-files-XXXXXX";
    enum lockmem_kind got;
    (void)state;
    assert_int_equal(lockmem_init(LOCKMEM_NONE, &got), SP_OK);
    if (mkdtemp(folder) == NULL || chdir(folder) != 0)
        return -1;
    struct copy unused[2] = {{.n = 0}, {.n = 0}};
    make(&good, &older, &forged);
    make(&other, &unused[0], &unused[1]);
    drop(&unused[0]);
    drop(&unused[1]);
    return chdir("/") == 0 ? rmdir(folder) : -1;
}

static int tear_down(void **state)
{
    (void)state;
    drop(&good);
    drop(&other);
    drop(&older);
    drop(&forged);
    return 0;
}

/* --- judging --- */

static size_t opened, now_open;

static int close_part(void *cookie)
{
    (void)cookie;
    now_open--;
    return 0;
}

struct part {
    const char *text;
    size_t left;
};

static ssize_t read_part(void *cookie, char *buf, size_t size)
{
    struct part *p = cookie;
    size_t n = size < p->left ? size : p->left;
    memcpy(buf, p->text, n);
    p->text += n;
    p->left -= n;
    return (ssize_t)n;
}

/* One at a time. */
static FILE *open_part(void *ctx, size_t i)
{
    static struct part part;
    struct copy *c = ctx;
    assert_int_equal(now_open, 0);
    now_open++;
    opened++;
    part = (struct part){c->text[i], c->len[i]};
    return fopencookie(&part, "r", (cookie_io_functions_t){.read = read_part, .close = close_part});
}

static enum sp_err verify(struct copy *c, struct audit_report *report)
{
    struct audit_files files = {open_part, c, c->n};
    enum sp_err err = audit_verify(&files, NULL, &c->head, report);
    assert_int_equal(now_open, 0);
    assert_true((err == SP_OK) == (report->why == NULL));
    return err;
}

/* As `audit verify` judges the appliance's own log. */
static bool passes(struct copy *c)
{
    struct audit_report report;
    return verify(c, &report) == SP_OK && audit_head_agrees(&c->head, &c->head, &report);
}

static struct copy duplicate(const struct copy *of)
{
    struct copy out = *of;
    for (size_t i = 0; i < of->n; i++) {
        out.text[i] = calloc(1, 65536);
        memcpy(out.text[i], of->text[i], of->len[i]);
    }
    return out;
}

static void append(struct copy *c, const char *text)
{
    size_t last = c->n - 1;
    memcpy(c->text[last] + c->len[last], text, strlen(text));
    c->len[last] += strlen(text);
}

/* Where the line begins that is `back` lines before the end of a file. */
static size_t line_from_end(const struct copy *c, size_t file, unsigned back)
{
    size_t at = c->len[file];
    for (; back > 0; back--)
        for (at--; at > 0 && c->text[file][at - 1] != '\n'; at--)
            ;
    return at;
}

/* --- tests --- */

static void test_whole(void **state)
{
    struct audit_report report;
    (void)state;
    opened = 0;
    assert_int_equal(verify(&good, &report), SP_OK);
    assert_int_equal(opened, N);
    assert_int_equal(report.first, 1);
    assert_int_equal(report.covered, report.events);
    assert_int_equal(report.checkpoints, 2 * N);
    assert_true(passes(&good) && passes(&other) && passes(&older) && passes(&forged));
}

static void test_every_byte(void **state)
{
    struct copy c = duplicate(&good);
    (void)state;
    for (size_t i = 0; i < c.n; i++)
        for (size_t at = 0; at < c.len[i]; at++) {
            c.text[i][at] ^= (char)(1 << at % 8);
            if (passes(&c))
                fail_msg("file %zu, byte %zu", i, at);
            c.text[i][at] ^= (char)(1 << at % 8);
        }
    drop(&c);
}

/* At a checkpoint too, and between the files. */
static void test_every_cut(void **state)
{
    struct audit_report report;
    struct copy c = duplicate(&good);
    (void)state;
    for (size_t i = 0; i < c.n; i++) {
        size_t whole = c.len[i];
        for (c.len[i] = 0; c.len[i] < whole; c.len[i]++)
            if (passes(&c) || (i + 1 < c.n && verify(&c, &report) == SP_OK))
                fail_msg("file %zu, cut after %zu", i, c.len[i]);
    }
    for (; c.n > 1; free(c.text[--c.n]))
        assert_int_equal(passes(&c), c.n == N);
    drop(&c);
}

static void put_file(struct copy *to, size_t i, const struct copy *from, size_t j)
{
    memcpy(to->text[i], from->text[j], from->len[j]);
    to->len[i] = from->len[j];
}

static void swap_files(struct copy *c)
{
    put_file(c, 0, &good, 1);
    put_file(c, 1, &good, 0);
}

static void repeat_file(struct copy *c)
{
    put_file(c, 1, &good, 0);
}

static void leave_out_file(struct copy *c)
{
    free(c->text[1]);
    c->text[1] = c->text[2];
    c->len[1] = c->len[2];
    c->n = 2;
}

static void splice_file(struct copy *c)
{
    put_file(c, 2, &other, 2);
}

static void splice_first_file(struct copy *c)
{
    put_file(c, 0, &other, 0);
}

static void splice_lines(struct copy *c)
{
    size_t at = line_from_end(c, 2, 2), from = line_from_end(&other, 2, 2);
    c->len[2] = at + other.len[2] - from;
    memcpy(c->text[2] + at, other.text[2] + from, other.len[2] - from);
}

static void repeat_tail(struct copy *c)
{
    size_t from = line_from_end(c, 2, 2), n = c->len[2] - from;
    memcpy(c->text[2] + c->len[2], c->text[2] + from, n);
    c->len[2] += n;
}

static void put_older_tail(struct copy *c)
{
    put_file(c, 2, &older, 2);
}

static void put_forged_tail(struct copy *c)
{
    put_file(c, 2, &forged, 2);
}

static void put_other_log(struct copy *c)
{
    for (size_t i = 0; i < N; i++)
        put_file(c, i, &other, i);
}

static void bytes_between(struct copy *c)
{
    c->text[0][c->len[0]++] = 'x';
}

static void garbage(struct copy *c)
{
    append(c, "not ours\n");
}

static void garbage_and_bytes(struct copy *c)
{
    append(c, "not ours\nx");
}

static void garbage_and_a_later_note(struct copy *c)
{
    append(c, "not ours\n{\"seq\":99,\"time");
}

static void empty_end(struct copy *c)
{
    c->text[c->n++] = calloc(1, 65536);
}

static void unfinished_end(struct copy *c)
{
    empty_end(c);
    append(c, "{\"seq\":");
}

static void empty_middle(struct copy *c)
{
    c->len[1] = 0;
}

/* Each line is right, and follows. */
static void split_file(struct copy *c)
{
    size_t at = line_from_end(c, 2, 2);
    empty_end(c);
    c->len[3] = c->len[2] - at;
    memcpy(c->text[3], c->text[2] + at, c->len[3]);
    c->len[2] = at;
}

static void test_deeds(void **state)
{
    static const struct {
        const char *name;
        void (*deed)(struct copy *c);
        enum sp_err err; /* SP_OK: the key state alone tells */
        size_t bad_file;
        const char *why;
    } deeds[] = {
        {"files swapped", swap_files, SP_ERR_AUTH, 1, "(seq)"},
        {"file repeated", repeat_file, SP_ERR_AUTH, 1, "(seq)"},
        {"file left out", leave_out_file, SP_ERR_AUTH, 1, "(seq)"},
        {"file of another log", splice_file, SP_ERR_AUTH, 2, "(prev)"},
        {"first file of another log", splice_first_file, SP_ERR_AUTH, 1, "(prev)"},
        {"lines of another log", splice_lines, SP_ERR_AUTH, 2, "(prev)"},
        {"tail repeated", repeat_tail, SP_ERR_AUTH, 2, "(seq)"},
        {"an older tail", put_older_tail, SP_OK, 0, NULL},
        {"a tail signed with a key of that time", put_forged_tail, SP_OK, 0, NULL},
        {"another log", put_other_log, SP_OK, 0, NULL},
        {"bytes between files", bytes_between, SP_ERR_FORMAT, 0, "ends in the middle"},
        {"garbage", garbage, SP_ERR_FORMAT, 2, "is not a line"},
        {"garbage and bytes", garbage_and_bytes, SP_ERR_FORMAT, 2, "is not a line"},
        {"garbage, a later note", garbage_and_a_later_note, SP_ERR_FORMAT, 2, "is not a line"},
        {"an empty end", empty_end, SP_ERR_NOT_FOUND, 3, "holds no event"},
        {"an end without an event", unfinished_end, SP_ERR_NOT_FOUND, 3, "holds no event"},
        {"an empty middle", empty_middle, SP_ERR_NOT_FOUND, 1, "holds no event"},
        {"a file split", split_file, SP_ERR_FORMAT, 3, "is no log.rotated"},
    };
    struct audit_report report;
    (void)state;
    for (size_t i = 0; i < sizeof(deeds) / sizeof(deeds[0]); i++) {
        struct copy c = duplicate(&good);
        deeds[i].deed(&c);
        enum sp_err err = verify(&c, &report);
        if (passes(&c) || err != deeds[i].err || report.bad_file != deeds[i].bad_file ||
            (err != SP_OK && strstr(report.why, deeds[i].why) == NULL))
            fail_msg("%s: %s, file %zu, %s", deeds[i].name, sp_err_text(err), report.bad_file,
                     report.why);
        drop(&c);
    }
}

/* What a crash leaves, or one sees who reads while a line is being written, is told and no fault.
 */
static void test_unfinished(void **state)
{
    char note[64];
    struct audit_report report;
    struct copy c = duplicate(&good);
    (void)state;
    assert_int_equal(verify(&c, &report), SP_OK);
    snprintf(note, sizeof(note), "\n{\"seq\":%u,\"time\":\"2026-", (unsigned)report.events + 1);
    append(&c, "{\"seq\":");
    assert_int_equal(verify(&c, &report), SP_OK);
    assert_int_equal(report.unfinished, 7);
    assert_true(passes(&c));
    append(&c, note); /* the note of that, unfinished as well */
    assert_int_equal(verify(&c, &report), SP_OK);
    assert_int_equal(report.unfinished, 7 + strlen(note));
    assert_true(passes(&c));
    drop(&c);
}

/* A line that is whole but for its newline, and was changed: no crash leaves that. */
static void test_changed_without_newline(void **state)
{
    struct audit_report report;
    struct copy c = duplicate(&good);
    (void)state;
    c.len[2]--;
    assert_int_equal(verify(&c, &report), SP_OK);
    assert_int_equal(report.unfinished, c.len[2] - line_from_end(&good, 2, 1));
    *strstr(c.text[2] + line_from_end(&good, 2, 1), "20") = '3';
    assert_int_equal(verify(&c, &report), SP_ERR_AUTH);
    drop(&c);
}

/* The appliance goes on while its log is read: what its key state said before counts. */
static void test_while_it_is_written(void **state)
{
    struct audit_report report;
    struct copy c = duplicate(&older);
    (void)state;
    assert_int_equal(verify(&c, &report), SP_OK); /* read before the checkpoint, or after it */
    assert_true(audit_head_agrees(&older.head, &good.head, &report));
    drop(&c);
    c = duplicate(&good);
    c.head = older.head;
    assert_int_equal(verify(&c, &report), SP_OK);
    assert_true(audit_head_agrees(&older.head, &good.head, &report));
    assert_false(audit_head_agrees(&older.head, &older.head, &report)); /* signed elsewhere */
    c.n--; /* it does not reach what was before */
    assert_int_equal(verify(&c, &report), SP_OK);
    assert_false(audit_head_agrees(&older.head, &good.head, &report));
    free(c.text[c.n]);
    drop(&c);
}

/* Whoever reads the log as JSON, and the report of its verification, is to see the same numbers. */
static void test_numbers(void **state)
{
    char text[1024];
    struct audit_line line;
    static const struct {
        const char *number;
        enum sp_err err; /* SP_ERR_AUTH: well-formed, but the hash is none of it */
    } numbers[] = {{"9007199254740991", SP_ERR_AUTH},
                   {"9007199254740992", SP_ERR_FORMAT},
                   {"18446744073709551615", SP_ERR_FORMAT},
                   {"00", SP_ERR_FORMAT}};
    (void)state;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        int n = snprintf(text, sizeof(text),
                         "{\"seq\":%s,\"time\":\"2026-01-31T23:59:59.123456Z\",\"event\":\"x\","
                         "\"prev\":\"%064d\",\"hash\":\"%064d\"}",
                         numbers[i].number, 0, 0);
        assert_int_equal(audit_line_parse(text, (size_t)n, &line), numbers[i].err);
    }
}

static FILE *open_none(void *ctx, size_t i)
{
    (void)ctx;
    errno = i == 1 ? EACCES : 0;
    return i == 1 ? NULL : open_part(&good, i);
}

static FILE *open_folder(void *ctx, size_t i)
{
    (void)ctx;
    (void)i;
    return fopen("/", "r");
}

static void test_unreadable(void **state)
{
    struct audit_report report;
    struct audit_files files = {open_none, NULL, N}, folder = {open_folder, NULL, 1};
    (void)state;
    assert_int_equal(audit_verify(&files, NULL, NULL, &report), SP_ERR_SYSTEM);
    assert_int_equal(report.bad_file, 1);
    assert_int_equal(errno, EACCES);
    assert_int_equal(audit_verify(&folder, NULL, NULL, &report), SP_ERR_SYSTEM);
    assert_int_equal(report.bad_file, 0);
    assert_int_equal(errno, EISDIR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_deeds),
        cmocka_unit_test(test_unfinished),
        cmocka_unit_test(test_changed_without_newline),
        cmocka_unit_test(test_while_it_is_written),
        cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
