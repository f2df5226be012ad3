/* The parts of sending that need no server: line ends, headers, letters on disk and in the form. */
#include "client/draft.h"
#include "client/form.h"
#include "client/header.h"
#include "client/intake.h"
#include "client/outbox.h"
#include "envelope/link.h"
#include "envelope/order.h"
#include "storage/form.h"

#include <sched.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char home[64];

static int make_home(void **state)
{
    (void)state;
    snprintf(home, sizeof home, "/tmp/sealpost-test.XXXXXX");
    assert_non_null(mkdtemp(home));
    setenv("SEALPOST_HOME", home, 1);
    return 0;
}

static int drop_home(void **state)
{
    char path[128];
    (void)state;
    snprintf(path, sizeof path, "%s/outbox", home);
    rmdir(path);
    snprintf(path, sizeof path, "%s/lock", home);
    unlink(path);
    return rmdir(home);
}

/* Line ends */

struct out {
    uint8_t bytes[1u << 20];
    size_t len;
};
static struct out out;

static enum sp_err gather(void *ctx, const uint8_t *bytes, size_t len)
{
    struct out *o = ctx;
    assert_true(len <= sizeof o->bytes - o->len);
    memcpy(o->bytes + o->len, bytes, len);
    o->len += len;
    return SP_OK;
}

/* Through a pipe, `step` bytes at a time, so that reads end anywhere. */
static enum sp_err take_in(const void *text, size_t len, size_t step, bool dots, uint64_t *line)
{
    int fds[2];
    struct intake in = {.dots = dots};
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        for (size_t at = 0; at < len; at += step) {
            size_t n = step < len - at ? step : len - at;
            if (write(fds[1], (const uint8_t *)text + at, n) != (ssize_t)n)
                break;
            sched_yield();
        }
        _exit(0);
    }
    close(fds[1]);
    out.len = 0;
    enum sp_err err = intake_run(&in, fds[0], gather, &out);
    close(fds[0]);
    waitpid(pid, NULL, 0);
    *line = in.line;
    return err;
}

static void lines_end_in_crlf_however_they_come(void **state)
{
    static const struct {
        const char *in, *dots, *no_dots; /* NULL: refused */
    } cases[] = {
        {"", "", ""},
        {"a", "a\r\n", "a\r\n"},
        {"\n\r\n\n", "\r\n\r\n\r\n", "\r\n\r\n\r\n"},
        {"a\n.\nb\n", "a\r\n.\r\nb\r\n", "a\r\n"},
        {"a\r\n.\r\nb", "a\r\n.\r\nb\r\n", "a\r\n"},
        {".", ".\r\n", ""},
        {".\n", ".\r\n", ""},
        {"..\n. \n.a\n", "..\r\n. \r\n.a\r\n", "..\r\n. \r\n.a\r\n"},
        {"a\n.", "a\r\n.\r\n", "a\r\n"},
        {"a\rb", NULL, NULL},
        {"a\r", NULL, NULL},
        {"\r\r\n", NULL, NULL},
        {".\r", NULL, NULL},
        {"a\n.\n\r", NULL, "a\r\n"},
    };
    uint64_t line;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t step = 1; step < 5; step++) {
            for (int dots = 0; dots < 2; dots++) {
                const char *want = dots ? cases[i].dots : cases[i].no_dots;
                enum sp_err err = take_in(cases[i].in, strlen(cases[i].in), step, dots != 0, &line);
                assert_int_equal(err, want != NULL ? SP_OK : SP_ERR_FORMAT);
                if (want != NULL) {
                    assert_int_equal(out.len, strlen(want));
                    assert_memory_equal(out.bytes, want, out.len);
                }
            }
        }
    }
    assert_int_equal(take_in("a\nb\nc\rd\n", 8, 8, true, &line), SP_ERR_FORMAT);
    assert_int_equal(line, 3);
}

/* What comes out has CRLF alone, and is the input again once every CRLF is an LF. */
static void long_input_is_kept(void **state)
{
    static char text[400000];
    uint64_t line;
    (void)state;
    for (size_t i = 0; i < sizeof text; i++) {
        uint32_t r = randombytes_uniform(40);
        text[i] = r == 0 ? '\n' : r == 1 ? '.' : 'x';
    }
    text[sizeof text - 1] = '\n';
    assert_int_equal(take_in(text, sizeof text, 50000, true, &line), SP_OK);
    size_t at = 0;
    for (size_t i = 0; i < out.len; i++) {
        if (out.bytes[i] == '\r') {
            assert_int_equal(out.bytes[i + 1], '\n');
            continue;
        }
        assert_int_equal(out.bytes[i], text[at++]);
    }
    assert_int_equal(at, sizeof text);
}

/* Headers */

static enum sp_err join_address(void *ctx, const char *address)
{
    struct out *o = ctx;
    gather(o, (const uint8_t *)address, strlen(address));
    return gather(o, (const uint8_t *)" ", 1);
}

/* Pushes text in two parts, cut at every place; the last time's header is returned. */
static struct header *push(const char *text, size_t cut, size_t *used)
{
    struct header *h = header_new();
    size_t len = strlen(text), first = 0, more = 0;
    bool done = false;
    assert_non_null(h);
    assert_int_equal(header_push(h, (const uint8_t *)text, cut, &first, &done), SP_OK);
    if (!done)
        assert_int_equal(header_push(h, (const uint8_t *)text + first, len - first, &more, &done),
                         SP_OK);
    *used = first + more;
    return h;
}

static void headers_are_read_and_rewritten(void **state)
{
    static const struct {
        const char *in, *out, *rest; /* rest: handed back as body, before what was not taken */
        size_t left;                 /* of the input, not taken */
    } cases[] = {
        {"A: b\r\n\r\nbody", "A: b\r\n\r\n", "", 4},
        {"A: b\r\nBcc: x@y,\r\n z@y\r\nC: d\r\n\r\n", "A: b\r\nC: d\r\n\r\n", "", 0},
        {"bcc : x\r\nResent-BCC: y\r\n\r\n", "\r\n", "", 0},
        {"Bccx: x\r\nX-Bcc: y\r\n\r\n", "Bccx: x\r\nX-Bcc: y\r\n\r\n", "", 0},
        {"\r\nx", "\r\n", "", 1},
        {"hello there\r\nx", "\r\n", "hello there\r\n", 1},
        {"A: b\r\nno field\r\nx", "A: b\r\n\r\n", "no field\r\n", 1},
        {"A: b\r\n folded\r\n\tmore\r\n\r\n", "A: b\r\n folded\r\n\tmore\r\n\r\n", "", 0},
        {" A: b\r\nx", "\r\n", " A: b\r\n", 1},
        {"From me Mon\r\nA: b\r\n\r\n", "A: b\r\n\r\n", "", 0},
        {"A: b\r\nFrom me Mon\r\n", "A: b\r\n\r\n", "From me Mon\r\n", 0},
        {": x\r\n", "\r\n", ": x\r\n", 0},
        {"A: b\r\n", "A: b\r\n\r\n", "", 0},
        {"", "\r\n", "", 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t cut = 0; cut <= strlen(cases[i].in); cut++) {
            size_t used, rest;
            struct header *h = push(cases[i].in, cut, &used);
            out.len = 0;
            assert_int_equal(header_write(h, "", gather, &out), SP_OK);
            assert_int_equal(out.len, strlen(cases[i].out));
            assert_memory_equal(out.bytes, cases[i].out, out.len);
            const uint8_t *at = header_rest(h, &rest);
            assert_int_equal(rest, strlen(cases[i].rest));
            assert_memory_equal(at, cases[i].rest, rest);
            assert_int_equal(used, strlen(cases[i].in) - cases[i].left);
            header_free(h);
        }
    }
}

static void fields_are_found(void **state)
{
    size_t used;
    (void)state;
    struct header *h = push("FROM: a@x\r\nto: b@x,\r\n c@x\r\nTo : d@x\r\nX-To: e@x\r\n"
                            "Date:\r\nSubject: To: f@x\r\n\r\n",
                            3, &used);
    assert_int_equal(header_count(h, HEADER_FROM), 1);
    assert_int_equal(header_count(h, HEADER_TO), 2);
    assert_int_equal(header_count(h, HEADER_CC), 0);
    assert_int_equal(header_count(h, HEADER_DATE), 1);
    out.len = 0;
    assert_int_equal(header_addresses(h, HEADER_TO, join_address, &out), SP_OK);
    assert_memory_equal(out.bytes, "b@x c@x d@x ", out.len);
    assert_int_equal(out.len, 12);
    header_free(h);
}

static void headers_are_bounded(void **state)
{
    static uint8_t long_line[HEADER_MAX + 1];
    size_t used;
    bool done;
    (void)state;
    memset(long_line, 'a', sizeof long_line);
    struct header *h = header_new();
    assert_int_equal(header_push(h, long_line, HEADER_MAX, &used, &done), SP_OK);
    assert_int_equal(header_push(h, long_line, 1, &used, &done), SP_ERR_LIMIT);
    header_free(h);
}

static void dates_are_rfc_5322(void **state)
{
    char text[HEADER_DATE_MAX];
    (void)state;
    setenv("TZ", "UTC0", 1);
    tzset();
    header_date(0, text);
    assert_string_equal(text, "Thu, 1 Jan 1970 00:00:00 +0000");
    setenv("TZ", "XXX3:30", 1); /* west of Greenwich */
    tzset();
    header_date(1700000000, text);
    assert_string_equal(text, "Tue, 14 Nov 2023 18:43:20 -0330");
    setenv("TZ", "UTC0", 1);
    tzset();
}

/* Letters */

static struct keyring *make_keys(void)
{
    struct passphrase *p = secret_alloc(sizeof *p);
    struct keyring *k;
    assert_int_equal(keyring_create(p, &k), SP_OK);
    k->seeds[0].pending = false;
    secret_free(p);
    return k;
}

static struct letter *make(struct state *s, const struct keyring *k, bool links)
{
    uint8_t pk[KEY_SIZE], other[ID_SIZE];
    uint32_t i;
    struct reader *r;
    struct letter *l = letter_new();
    assert_non_null(l);
    assert_int_equal(outbox_begin(s, l), SP_OK);
    assert_int_equal(keys_puk(k->seeds[0].seed, NULL, pk, NULL), SP_OK);
    assert_int_equal(letter_reader(l, k->user_id, 1, pk, &r), SP_OK);
    assert_int_equal(letter_recipient(l, "a@out.example", &i), SP_OK);
    l->recipient[i].outside = l->recipient[i].bcc = true;
    assert_int_equal(letter_recipient(l, "b@example.org", &i), SP_OK);
    assert_int_equal(letter_recipient(l, "B@Example.org", &i), SP_OK);
    assert_int_equal(i, 1);
    randombytes_buf(other, sizeof other);
    assert_int_equal(letter_reader(l, other, 7, pk, &r), SP_OK);
    for (int twice = 0; twice < 2; twice++)
        assert_int_equal(letter_leads_to(r, 1), SP_OK);
    assert_int_equal(r->n, 1);
    if (links)
        assert_int_equal(letter_links(l, pk, 60), SP_OK);
    else
        assert_int_equal(letter_relay(l, pk), SP_OK);
    assert_true(letter_server_access(l));
    snprintf(l->mail_from, sizeof l->mail_from, "me@example.org");
    struct draft *d = draft_new(l->body_fd, l->parts_fd);
    assert_non_null(d);
    assert_int_equal(draft_push(d, (const uint8_t *)"A: b\r\n\r\nsecret text\r\n", 21), SP_OK);
    assert_int_equal(draft_finish(d), SP_OK);
    l->n_pieces = draft_lengths(d, l->piece_length);
    assert_int_equal(
        draft_manifest(d, 1, true, l->secret->shared_key, &l->manifest, &l->manifest_len), SP_OK);
    draft_free(d);
    assert_int_equal(form_make(l, k), SP_OK);
    return l;
}

static struct letter *make_letter(struct state *s, const struct keyring *k)
{
    return make(s, k, false);
}

/* Passwords and all: what the link is made of is the same another time, and its form is what the
 * store expects. */
static void links_survive_on_disk(void **state)
{
    struct state *s;
    struct letter *again;
    struct form *f;
    uint8_t gate[HASH_SIZE], hash[HASH_SIZE];
    (void)state;
    struct keyring *k = make_keys();
    assert_int_equal(state_open(false, &s), SP_OK);
    struct letter *l = make(s, k, true);
    snprintf(l->subject, sizeof l->subject,
             "Gr\xc3\xbc\xc3\x9f"
             "e");
    assert_int_equal(form_make(l, k), SP_OK);
    assert_int_equal(outbox_save(s, k, l), SP_OK);
    close(l->body_fd);
    l->body_fd = -1;
    assert_int_equal(outbox_load(s, k, l->hex, &again), SP_OK);
    assert_memory_equal(again->secret, l->secret, sizeof *l->secret);
    assert_int_equal(again->n_links, 1);
    assert_memory_equal(again->link, l->link, sizeof *l->link);
    assert_string_equal(again->subject, l->subject);
    assert_int_equal(again->expiry, l->expiry);
    assert_int_equal(again->lifetime, 60);
    assert_int_equal(form_decode(again->form, again->form_len, 100, &f), SP_OK);
    assert_false(f->relay);
    assert_int_equal(f->n_links, 1);
    assert_memory_equal(f->link[0].box.recipient_id, l->link[0].id, ID_SIZE);
    assert_int_equal(f->link[0].box.expiry, l->expiry);
    assert_memory_equal(f->link[0].secret, l->link[0].secret, KEYS_SECRET_BOX);
    assert_memory_equal(f->link[0].address.bytes, "a@out.example", 13);
    assert_memory_equal(f->link[0].subject.bytes, l->subject, strlen(l->subject));
    assert_int_equal(link_gate(l->secret->password[0], gate), SP_OK);
    assert_int_equal(keys_sha256(gate, sizeof gate, hash), SP_OK);
    assert_memory_equal(f->link[0].gate_hash, hash, sizeof hash);
    struct order o = {.mail_from = {l->mail_from, strlen(l->mail_from)},
                      .address = {"a@out.example", 13},
                      .expiry = l->expiry,
                      .subject = {l->subject, strlen(l->subject)}};
    memcpy(o.link_id, l->link[0].id, ID_SIZE);
    memcpy(o.digest, l->link[0].digest, HASH_SIZE);
    assert_int_equal(order_verify_mac(l->secret->password[0], &o, f->link[0].order), SP_OK);
    form_free(f);
    letter_free(again);
    outbox_remove(s, l);
    letter_free(l);
    keyring_free(k);
    state_close(s);
}

static void letters_survive_on_disk(void **state)
{
    struct state *s;
    struct letter *again;
    (void)state;
    struct keyring *k = make_keys();
    assert_int_equal(state_open(false, &s), SP_OK);
    struct letter *l = make_letter(s, k);
    randombytes_buf(l->upload, sizeof l->upload);
    assert_int_equal(outbox_save(s, k, l), SP_OK);
    assert_int_equal(outbox_load(s, k, l->hex, &again), SP_ERR_EXISTS); /* at work on it */
    close(l->body_fd);
    l->body_fd = -1;
    assert_int_equal(outbox_load(s, k, l->hex, &again), SP_OK);
    assert_memory_equal(again->secret, l->secret, sizeof *l->secret);
    assert_string_equal(again->mail_from, l->mail_from);
    assert_int_equal(again->n_recipients, 2);
    assert_true(again->recipient[0].bcc && again->recipient[0].outside);
    assert_false(again->recipient[1].bcc || again->recipient[1].outside);
    assert_int_equal(again->n_readers, 2);
    assert_int_equal(again->reader[1].generation, 7);
    assert_int_equal(again->reader[1].of[0], 1);
    assert_int_equal(again->form_len, l->form_len);
    assert_memory_equal(again->form, l->form, l->form_len);
    assert_int_equal(again->manifest_len, l->manifest_len);
    assert_memory_equal(again->relay_secret, l->relay_secret, sizeof l->relay_secret);
    /* another device's keys open nothing */
    struct keyring *other = make_keys();
    letter_free(again);
    assert_int_equal(outbox_load(s, other, l->hex, &again), SP_ERR_AUTH);
    keyring_free(other);
    outbox_remove(s, l);
    assert_int_equal(outbox_load(s, k, l->hex, &again), SP_ERR_NOT_FOUND);
    letter_free(l);
    keyring_free(k);
    state_close(s);
}

/* The client's form is what the store expects. */
static void the_store_takes_the_form(void **state)
{
    struct state *s;
    struct form *f;
    (void)state;
    struct keyring *k = make_keys();
    assert_int_equal(state_open(false, &s), SP_OK);
    struct letter *l = make_letter(s, k);
    assert_int_equal(form_decode(l->form, l->form_len, 100, &f), SP_OK);
    assert_memory_equal(f->envelope.message_id, l->message_id, ID_SIZE);
    assert_memory_equal(f->envelope.sender_sign_pk, keyring_sign_pk(k), KEY_SIZE);
    assert_string_equal(f->mail_from, "me@example.org");
    assert_int_equal(f->n_users, 2);
    assert_memory_equal(f->user[0].box.recipient_id, k->user_id, ID_SIZE);
    assert_true(f->relay);
    assert_memory_equal(f->relay_box.recipient_id, l->relay_id, ID_SIZE);
    assert_memory_equal(f->relay_secret, l->relay_secret, sizeof l->relay_secret);
    assert_int_equal(f->n_outside, 1);
    assert_int_equal(f->outside[0].address.len, 13);
    assert_memory_equal(f->outside[0].address.bytes, "a@out.example", 13);
    uint8_t hash[HASH_SIZE];
    struct order o = {.mail_from = {l->mail_from, strlen(l->mail_from)},
                      .address = {"a@out.example", 13}};
    memcpy(o.report_pk, f->user[0].box.recipient_pk, KEY_SIZE); /* the sender's */
    assert_int_equal(envelope_manifest_hash(&f->envelope, hash), SP_OK);
    assert_int_equal(box_digest(&f->envelope, hash, &f->relay_box, o.digest), SP_OK);
    assert_int_equal(order_verify(keyring_sign_pk(k), &o, f->outside[0].order), SP_OK);
    /* Signed for an upload, and for no other. */
    assert_int_equal(form_sign(l, k), SP_ERR_STATE);
    l->has_upload = true;
    randombytes_buf(l->upload, sizeof l->upload);
    assert_int_equal(form_sign(l, k), SP_OK);
    form_free(f);
    assert_int_equal(form_decode(l->form, l->form_len, 100, &f), SP_OK);
    assert_int_equal(order_verify_form(keyring_sign_pk(k), l->upload, f->signed_bytes,
                                       f->signed_len, f->signature),
                     SP_OK);
    l->upload[3] ^= 1;
    assert_int_equal(order_verify_form(keyring_sign_pk(k), l->upload, f->signed_bytes,
                                       f->signed_len, f->signature),
                     SP_ERR_AUTH);
    form_free(f);
    for (size_t i = 0; i < l->form_len; i += 7)
        assert_int_not_equal(form_decode(l->form, i, 100, &f), SP_OK);
    outbox_remove(s, l);
    letter_free(l);
    keyring_free(k);
    state_close(s);
}

/* A sent copy opens, says whom it was for, and no bit of it may change. */
static void sent_copy_is_verified(bool links)
{
    struct state *s;
    struct envelope e;
    struct sent sent;
    struct keyring *k = make_keys();
    assert_int_equal(state_open(false, &s), SP_OK);
    struct letter *l = make(s, k, links);
    uint32_t n = (uint32_t)l->form[5] << 24 | (uint32_t)l->form[6] << 16 |
                 (uint32_t)l->form[7] << 8 | l->form[8];
    assert_int_equal(envelope_decode(l->form + 9, n, &e), SP_OK);
    uint8_t *copy = l->form + 9 + n + 4;
    uint32_t len = (uint32_t)copy[-2] << 8 | copy[-1];
    assert_int_equal(sent_open(copy, len, k, &e, &sent), SP_OK);
    assert_string_equal(sent.bcc, "a@out.example");
    assert_int_equal(sent.n, 3);
    assert_int_equal(sent.box[2].box.kind, links ? BOX_PASSWORD : BOX_RELAY);
    assert_int_equal(sent.box[2].box.expiry, l->expiry);
    assert_string_equal(sent.box[2].address[0], "a@out.example");
    assert_string_equal(sent.box[1].address[0], "b@example.org");
    assert_int_equal(sent.box[0].n, 0);
    sent_free(&sent);
    for (uint32_t i = 0; i < len; i++) {
        copy[i] ^= 1;
        assert_int_not_equal(sent_open(copy, len, k, &e, &sent), SP_OK);
        sent_free(&sent);
        copy[i] ^= 1;
    }
    for (uint32_t i = 0; i < len; i++) {
        assert_int_not_equal(sent_open(copy, i, k, &e, &sent), SP_OK);
        sent_free(&sent);
    }
    /* another message's envelope: its commitment, its digests */
    e.bcc_commitment[0] ^= 1;
    assert_int_equal(sent_open(copy, len, k, &e, &sent), SP_ERR_AUTH);
    sent_free(&sent);
    e.bcc_commitment[0] ^= 1;
    e.message_id[0] ^= 1;
    assert_int_equal(sent_open(copy, len, k, &e, &sent), SP_ERR_AUTH);
    sent_free(&sent);
    outbox_remove(s, l);
    letter_free(l);
    keyring_free(k);
    state_close(s);
}

static void sent_copies_are_verified(void **state)
{
    (void)state;
    sent_copy_is_verified(false);
    sent_copy_is_verified(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_in_crlf_however_they_come),
        cmocka_unit_test(long_input_is_kept),
        cmocka_unit_test(headers_are_read_and_rewritten),
        cmocka_unit_test(fields_are_found),
        cmocka_unit_test(headers_are_bounded),
        cmocka_unit_test(dates_are_rfc_5322),
        cmocka_unit_test_setup_teardown(letters_survive_on_disk, make_home, drop_home),
        cmocka_unit_test_setup_teardown(links_survive_on_disk, make_home, drop_home),
        cmocka_unit_test_setup_teardown(the_store_takes_the_form, make_home, drop_home),
        cmocka_unit_test_setup_teardown(sent_copies_are_verified, make_home, drop_home),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
