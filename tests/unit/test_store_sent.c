/* Drafts, sent mail and jobs in the backend alone: what ends when, who holds pieces, full maps. */
#include "storage/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define MAP   (16u << 20)
#define DAY   UINT64_C(86400000)
#define PIECE 100000u

struct place {
    char dir[64];
    struct store *s;
    uint64_t ann, bob;
};

static void id_of(uint8_t id[ID_SIZE], uint8_t n)
{
    memset(id, n, ID_SIZE);
}

static uint64_t add_user(struct store *s, const char *address, uint8_t n)
{
    uint8_t hash[HASH_SIZE] = {1};
    struct store_user u;
    assert_int_equal(store_user_add(s, address, hash, 1000), SP_OK);
    assert_int_equal(store_commit(s), SP_OK);
    assert_int_equal(store_user_by_address(s, address, &u), SP_OK);
    id_of(u.user_id, n);
    u.chain_seq = u.generation = 1;
    assert_int_equal(store_chain_add(s, &u, (const uint8_t *)"wire", 4), SP_OK);
    assert_int_equal(store_commit(s), SP_OK);
    return u.no;
}

static int set_up(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    snprintf(p->dir, sizeof(p->dir), "/tmp/sealpost-sent-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    assert_int_equal(store_open(p->dir, MAP, &p->s), SP_OK);
    p->ann = add_user(p->s, "ann@x", 1);
    p->bob = add_user(p->s, "bob@x", 2);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    static const char *const files[] = {"data.mdb", "lock.mdb", "owner.lock"};
    struct place *p = *state;
    char path[128];
    store_close(p->s);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", p->dir, files[i]);
        unlink(path);
    }
    rmdir(p->dir);
    free(p);
    return 0;
}

static const struct store_draft_limits limits = {100, UINT64_C(1) << 40};

static void draft(struct place *p, uint8_t n, uint64_t until_ms)
{
    static const uint8_t bytes[PIECE] = {7, 8, 9};
    const uint64_t length = PIECE;
    uint8_t id[ID_SIZE];
    id_of(id, n);
    assert_int_equal(store_draft_begin(p->s, p->ann, id, &length, 1, until_ms, &limits), SP_OK);
    assert_int_equal(store_draft_append(p->s, p->ann, id, 0, 0, bytes, 50000), SP_OK);
    assert_int_equal(store_draft_append(p->s, p->ann, id, 0, 50000, bytes + 50000, 50000), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
}

/* Ann to bob, and outside. */
static enum sp_err post(struct place *p, uint8_t n, const char *const *outside, size_t n_outside,
                        uint64_t *no)
{
    static const char *const address[] = {"ann@x", "bob@x"};
    struct store_box box[2] = {{.generation = 1, .bytes = (const uint8_t *)"box", .len = 3},
                               {.generation = 1, .bytes = (const uint8_t *)"box", .len = 3}};
    static const uint8_t order[SIGN_SIZE] = {7};
    struct store_outsider texts[8];
    struct store_secret secret = {
        .kind = 2, .slot = 3, .box = (const uint8_t *)"box", .box_len = 3};
    struct store_outgoing o = {.user = p->ann,
                               .message = {.received_ms = 1000,
                                           .pieces = 1,
                                           .envelope = (const uint8_t *)"envelope",
                                           .envelope_len = 8,
                                           .box = box,
                                           .boxes = 2},
                               .copy = {(const uint8_t *)"copy", 4},
                               .mail_from = "ann@x",
                               .user_address = address,
                               .outside = texts,
                               .n_outside = n_outside,
                               .secret = n_outside > 0 ? &secret : NULL};
    id_of(o.draft, n);
    id_of(o.message.message_id, n);
    id_of(box[0].user_id, 1);
    box[0].sent = true;
    id_of(box[1].user_id, 2);
    for (size_t i = 0; i < n_outside; i++)
        texts[i] =
            (struct store_outsider){{(const uint8_t *)outside[i], strlen(outside[i])}, order};
    enum sp_err err = store_send(p->s, &o, no);
    return err == SP_OK ? store_commit(p->s) : err;
}

static void expire(struct place *p, uint64_t now)
{
    bool more = true;
    while (more) {
        assert_int_equal(store_expire(p->s, now, 1, &more, NULL, NULL), SP_OK);
        assert_int_equal(store_commit(p->s), SP_OK);
    }
    for (more = true; more;) {
        assert_int_equal(store_sweep(p->s, 64, &more), SP_OK);
        assert_int_equal(store_commit(p->s), SP_OK);
    }
}

static struct store_totals totals(struct place *p)
{
    struct store_totals t;
    assert_int_equal(store_totals(p->s, &t), SP_OK);
    return t;
}

static void test_drafts_end(void **state)
{
    struct place *p = *state;
    struct store_draft d;
    uint8_t id[ID_SIZE];
    for (uint8_t n = 1; n <= 4; n++)
        draft(p, n, n * DAY);
    expire(p, 2 * DAY);
    assert_int_equal(totals(p).drafts, 2);
    id_of(id, 2);
    assert_int_equal(store_draft_get(p->s, p->ann, id, &d), SP_ERR_NOT_FOUND);
    id_of(id, 3);
    assert_int_equal(store_draft_get(p->s, p->ann, id, &d), SP_OK);
    assert_int_equal(d.there[0], PIECE);
    assert_int_equal(store_draft_get(p->s, p->bob, id, &d), SP_ERR_NOT_FOUND);
    /* One that was sent does not end with its draft. */
    uint64_t no;
    assert_int_equal(post(p, 3, NULL, 0, &no), SP_OK);
    expire(p, 100 * DAY);
    uint8_t buf[10];
    size_t got;
    uint64_t total;
    assert_int_equal(store_read(p->s, p->bob, id, 0, 0, buf, 3, &got, &total), SP_OK);
    assert_int_equal(total, PIECE);
    assert_int_equal(buf[2], 9);
    assert_int_equal(totals(p).drafts, 0);
}

static void test_status_ends(void **state)
{
    struct place *p = *state;
    struct store_sent sent;
    uint8_t id[ID_SIZE], copy[8];
    uint64_t no;
    size_t got;
    id_of(id, 1);
    draft(p, 1, DAY);
    assert_int_equal(post(p, 1, NULL, 0, &no), SP_OK);
    expire(p, 1000 * DAY); /* as long as it is in his mailbox */
    assert_int_equal(store_sent(p->s, p->ann, id, &sent), SP_OK);
    assert_int_equal(store_sent_copy(p->s, p->ann, id, 1, copy, 8, &got), SP_OK);
    assert_int_equal(got, 3);
    assert_int_equal(store_sent_copy(p->s, p->ann, id, 5, copy, 8, &got), SP_ERR_LIMIT);
    assert_int_equal(store_delete(p->s, p->ann, id, 30 * DAY), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(store_sent_copy(p->s, p->ann, id, 0, copy, 8, &got), SP_ERR_NOT_FOUND);
    expire(p, 30 * DAY - 1);
    assert_int_equal(store_sent(p->s, p->ann, id, &sent), SP_OK);
    expire(p, 30 * DAY);
    assert_int_equal(store_sent(p->s, p->ann, id, &sent), SP_ERR_NOT_FOUND);
    assert_int_equal(totals(p).messages, 1); /* bob has it */
}

/* Mailboxes and queue hold the pieces; the last one lets go. */
static void test_queue_holds(void **state)
{
    struct place *p = *state;
    static const char *const outside[] = {"a@y.example", "b@Y.example", "c@z.example"};
    struct store_job job;
    struct store_secret secret;
    struct store_outcome o[2] = {{2, DELIVERY_SENT, "250 ok"}, {3, DELIVERY_DEFERRED, "450 no"}};
    struct store_sent sent;
    uint8_t id[ID_SIZE], buf[8];
    uint64_t no, total;
    size_t got, left, n;
    bool needed;
    id_of(id, 1);
    draft(p, 1, DAY);
    assert_int_equal(post(p, 1, outside, 3, &no), SP_OK);
    assert_int_equal(totals(p).jobs, 2);
    assert_int_equal(store_delete(p->s, p->ann, id, 1), SP_OK);
    assert_int_equal(store_delete(p->s, p->bob, id, 1), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    expire(p, 10 * DAY);
    assert_int_equal(store_sent(p->s, p->ann, id, &sent),
                     SP_OK); /* the queue is not done with it */
    assert_int_equal(store_queued_read(p->s, no, 0, 1, buf, 2, &got, &total), SP_OK);
    assert_int_equal(buf[1], 9);
    assert_int_equal(store_job_get(p->s, no, 0, &job), SP_OK);
    assert_string_equal(job.destination, "y.example");
    assert_int_equal(job.n, 2);
    assert_int_equal(store_job_result(p->s, &job, o, 2, 5000, &left), SP_OK);
    assert_int_equal(left, 1);
    assert_int_equal(store_job_result(p->s, &job, o, 1, 5000, &left), SP_ERR_STATE);
    o[0].index = 4; /* of the other job */
    assert_int_equal(store_job_result(p->s, &job, o, 1, 5000, &left), SP_ERR_STATE);
    assert_int_equal(store_job_revoke(p->s, &job, "b@y.example", 6000, &n, &left), SP_OK);
    assert_true(n == 1 && left == 0);
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(store_job_get(p->s, no, 0, &job), SP_ERR_NOT_FOUND);
    assert_int_equal(store_secret_get(p->s, no, 0, &secret, &needed), SP_OK);
    assert_true(needed);
    assert_int_equal(store_job_get(p->s, no, 1, &job), SP_OK);
    job.closed = CLOSED_DROPPED;
    assert_int_equal(store_job_put(p->s, &job), SP_OK);
    assert_int_equal(store_secret_get(p->s, no, 0, &secret, &needed), SP_OK);
    assert_false(needed);
    o[0].state = DELIVERY_FAILED;
    assert_int_equal(store_job_result(p->s, &job, o, 1, 7000, &left), SP_OK);
    assert_int_equal(left, 0);
    assert_int_equal(store_secret_delete(p->s, no, 0), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    expire(p, 20 * DAY);
    struct store_totals t = totals(p);
    assert_true(t.messages == 0 && t.jobs == 0 && t.secrets == 0 && t.bytes == 0);
    assert_int_equal(store_sent(p->s, p->ann, id, &sent), SP_ERR_NOT_FOUND);
}

/* The day begins with its first mail, and its counts outlive a restart. */
static void test_usage(void **state)
{
    struct place *p = *state;
    struct store_usage u;
    uint64_t no;
    draft(p, 1, DAY);
    draft(p, 2, DAY);
    assert_int_equal(post(p, 1, NULL, 0, &no), SP_OK);
    assert_int_equal(post(p, 2, NULL, 0, &no), SP_OK);
    store_close(p->s);
    assert_int_equal(store_open(p->dir, MAP, &p->s), SP_OK);
    assert_int_equal(store_usage(p->s, p->ann, 1000 + DAY - 1, &u), SP_OK);
    assert_true(u.messages == 2 && u.bytes == 2 * PIECE);
    assert_int_equal(store_usage(p->s, p->ann, 1000 + DAY, &u), SP_OK);
    assert_true(u.messages == 0 && u.bytes == 0);
    assert_int_equal(store_usage(p->s, p->bob, 1000, &u), SP_OK);
    assert_int_equal(u.messages, 0);
}

/* A full map refuses, loses nothing, and recovers. */
static void test_full(void **state)
{
    struct place *p = *state;
    static const uint8_t bytes[65536] = {1};
    const uint64_t length = UINT64_C(1) << 30;
    uint8_t id[ID_SIZE];
    struct store_draft d;
    uint64_t at = 0, no;
    enum sp_err err = SP_OK;
    draft(p, 1, DAY);
    id_of(id, 9);
    assert_int_equal(store_draft_begin(p->s, p->ann, id, &length, 1, DAY, &limits), SP_OK);
    while (err == SP_OK) {
        err = store_draft_append(p->s, p->ann, id, 0, at, bytes, sizeof(bytes));
        if (err == SP_OK)
            at += sizeof(bytes);
        assert_int_equal(store_commit(p->s), SP_OK);
        assert_true(at < MAP);
    }
    assert_int_equal(err, SP_ERR_NO_SPACE);
    assert_true(at > MAP / 2);
    assert_int_equal(store_draft_get(p->s, p->ann, id, &d), SP_OK);
    assert_int_equal(d.there[0], at);
    assert_int_equal(store_draft_drop(p->s, p->ann, id), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    expire(p, 0);
    assert_int_equal(post(p, 1, NULL, 0, &no), SP_OK);
}

/* What was not committed is not there; and no part of a mail ever is. */
static void test_not_committed(void **state)
{
    struct place *p = *state;
    static const char *const outside[] = {"a@y.example"};
    struct store_draft d;
    uint8_t id[ID_SIZE];
    uint64_t no;
    id_of(id, 1);
    draft(p, 1, DAY);
    assert_int_equal(store_draft_append(p->s, p->ann, id, 0, PIECE, "x", 1), SP_ERR_LIMIT);
    store_close(p->s);
    assert_int_equal(store_open(p->dir, MAP, &p->s), SP_OK);
    id_of(id, 2);
    assert_int_equal(store_draft_begin(p->s, p->ann, id, &(uint64_t){5}, 1, DAY, &limits), SP_OK);
    store_close(p->s);
    assert_int_equal(store_open(p->dir, MAP, &p->s), SP_OK);
    assert_int_equal(store_draft_get(p->s, p->ann, id, &d), SP_ERR_NOT_FOUND);
    assert_int_equal(post(p, 2, outside, 1, &no), SP_ERR_NOT_FOUND);
    assert_int_equal(post(p, 1, outside, 1, &no), SP_OK);
    assert_int_equal(post(p, 1, outside, 1, &no), SP_ERR_NOT_FOUND);
    draft(p, 1, DAY);
    assert_int_equal(post(p, 1, outside, 1, &no), SP_ERR_EXISTS);
    assert_int_equal(totals(p).jobs, 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_drafts_end), T(test_status_ends), T(test_queue_holds),
        T(test_usage),      T(test_full),        T(test_not_committed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
