/* Links in the backend alone: what holds what, who ends what, and that time does not go back. */
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
    snprintf(p->dir, sizeof(p->dir), "/tmp/sealpost-links-XXXXXX");
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

#define HOUR UINT64_C(3600000)

/* Ann to herself, one relay recipient, and two by links that end at 1 and 2 hours. */
static uint64_t post(struct place *p, uint8_t n)
{
    static const char *const address[] = {"ann@x"};
    static const uint8_t gate[HASH_SIZE] = {5};
    struct store_box box[1] = {
        {.generation = 1, .bytes = (const uint8_t *)"box", .len = 3, .sent = true}};
    static const uint8_t order[SIGN_SIZE] = {6};
    struct store_outsider outside[1] = {{{(const uint8_t *)"eve@out.example", 15}, order}};
    struct store_secret secret[5] = {{.kind = 2, .slot = 1, .wrapped_len = 1}};
    struct store_link_new link[2];
    struct store_outgoing o = {.user = p->ann,
                               .message = {.received_ms = 1000,
                                           .pieces = 1,
                                           .envelope = (const uint8_t *)"envelope",
                                           .envelope_len = 8,
                                           .box = box,
                                           .boxes = 1},
                               .copy = {(const uint8_t *)"copy", 4},
                               .mail_from = "ann@x",
                               .user_address = address,
                               .outside = outside,
                               .n_outside = 1,
                               .secret = &secret[0],
                               .link = link,
                               .n_links = 2};
    uint64_t no;
    draft(p, n, DAY);
    id_of(o.draft, n);
    id_of(o.message.message_id, n);
    id_of(box[0].user_id, 1);
    for (uint8_t i = 0; i < 2; i++) {
        struct store_secret *password = &secret[1 + 2 * i];
        password[0] = (struct store_secret){
            .n = (uint16_t)(2 * i + 1), .kind = 3, .slot = 10u + i, .wrapped_len = 7};
        password[1] =
            (struct store_secret){.n = (uint16_t)(2 * i + 2), .slot = 20u + i, .wrapped_len = 9};
        id_of(password[0].recipient_id, (uint8_t)(n + 100 + i));
        id_of(password[1].recipient_id, (uint8_t)(n + 100 + i));
        link[i] = (struct store_link_new){.address = {(const uint8_t *)"zoe@Out.example", 15},
                                          .subject = {(const uint8_t *)"hello", 5},
                                          .order = order,
                                          .gate_hash = gate,
                                          .expires_ms = (i + 1u) * HOUR,
                                          .password = &password[0],
                                          .box = &password[1]};
        link[i].digest[0] = (uint8_t)(40 + i);
    }
    assert_int_equal(store_send(p->s, &o, &no), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    return no;
}

static void sweep(struct place *p)
{
    bool more = true;
    while (more) {
        assert_int_equal(store_sweep(p->s, 64, &more), SP_OK);
        assert_int_equal(store_commit(p->s), SP_OK);
    }
}

static struct store_link get(struct place *p, uint8_t n)
{
    struct store_link link;
    uint8_t id[ID_SIZE];
    id_of(id, n);
    assert_int_equal(store_link_get(p->s, id, &link), SP_OK);
    return link;
}

static bool needed(struct place *p, uint64_t no, uint16_t n)
{
    struct store_secret secret;
    bool is;
    assert_int_equal(store_secret_get(p->s, no, n, &secret, &is), SP_OK);
    assert_int_equal(secret.n, n);
    return is;
}

static struct store_totals totals(struct place *p)
{
    struct store_totals t;
    assert_int_equal(store_totals(p->s, &t), SP_OK);
    return t;
}

static enum sp_err first_job(void *ctx, const struct store_job *job)
{
    struct store_job *out = ctx;
    if (out->n == 0 && job->secret == out->secret)
        *out = *job;
    return SP_OK;
}

/* The job that needs a secret. */
static struct store_job job_of(struct place *p, uint64_t no, uint16_t secret)
{
    struct store_job job = {.secret = secret};
    assert_int_equal(store_jobs_each(p->s, no, first_job, &job), SP_OK);
    return job;
}

static void finish(struct place *p, uint64_t no, uint16_t secret, enum store_delivery state)
{
    struct store_job job = job_of(p, no, secret);
    struct store_outcome o = {.index = job.recipient[0], .state = state};
    size_t left;
    assert_int_equal(job.n, 1);
    assert_int_equal(store_job_result(p->s, &job, &o, 1, 2000, &left), SP_OK);
    assert_int_equal(left, 0);
    assert_int_equal(store_commit(p->s), SP_OK);
}

static void delete_link(struct place *p, uint64_t no, uint16_t n, uint8_t id_of_link)
{
    uint8_t id[ID_SIZE];
    id_of(id, id_of_link);
    assert_int_equal(store_secret_delete(p->s, no, n), SP_OK);
    assert_int_equal(store_link_delete(p->s, id), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    sweep(p);
}

static void what_a_link_is(void **state)
{
    struct place *p = *state;
    uint64_t no = post(p, 1), next;
    struct store_link link = get(p, 101);
    assert_int_equal(link.no, no);
    assert_int_equal(link.user, p->ann);
    assert_int_equal(link.secret, 1);
    assert_int_equal(link.index, 2); /* behind ann and eve */
    assert_int_equal(link.expires_ms, HOUR);
    assert_int_equal(link.ended, DELIVERY_QUEUED);
    assert_int_equal(link.digest[0], 40);
    assert_memory_equal(link.subject.bytes, "hello", 5);
    assert_string_equal(job_of(p, no, 1).destination, "out.example");
    assert_int_equal(job_of(p, no, 3).n, 1);
    assert_int_equal(store_timer_next(p->s, &next), SP_OK);
    assert_int_equal(next, HOUR);
    for (uint16_t n = 0; n < 5; n++)
        assert_true(needed(p, no, n));
    struct store_totals t = totals(p);
    assert_int_equal(t.links, 2);
    assert_int_equal(t.secrets, 5);
    assert_int_equal(t.jobs, 3);
}

static enum sp_err see(void *ctx, const struct store_recipient *r)
{
    struct store_recipient *out = ctx;
    out[r->index] = *r;
    return SP_OK;
}

static void sent_then_opened(void **state)
{
    struct place *p = *state;
    uint64_t no = post(p, 1);
    struct store_recipient r[4];
    finish(p, no, 1, DELIVERY_SENT);
    assert_false(needed(p, no, 1)); /* the password may go; the box is what the link is for */
    assert_true(needed(p, no, 2));
    for (uint64_t i = 0; i < 3; i++) {
        struct store_link link = get(p, 101);
        assert_int_equal(store_link_visit(p->s, &link, 5000 + i), SP_OK);
    }
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(store_recipients_each(p->s, no, see, r), SP_OK);
    assert_int_equal(r[2].kind, 3);
    assert_int_equal(r[2].state, DELIVERY_SENT);
    assert_int_equal(r[2].visits, 3);
    assert_int_equal(r[2].opened_ms, 5000);
    assert_int_equal(r[2].expires_ms, HOUR);
    assert_int_equal(r[3].visits, 0);
    assert_int_equal(r[1].expires_ms, 0);
}

struct seen {
    size_t n;
    uint8_t id[8];
};

static void on_expired(void *ctx, const struct store_link *link)
{
    struct seen *seen = ctx;
    assert_int_equal(link->ended, DELIVERY_EXPIRED);
    seen->id[seen->n++] = link->id[0];
}

static void expire(struct place *p, uint64_t now, struct seen *seen)
{
    bool more = true;
    seen->n = 0;
    while (more)
        assert_int_equal(store_expire(p->s, now, 8, &more, on_expired, seen), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
}

static void expiry_ends_all_of_it(void **state)
{
    struct place *p = *state;
    uint64_t no = post(p, 1), next;
    struct store_recipient r[4];
    struct seen seen;
    expire(p, HOUR - 1, &seen);
    assert_int_equal(seen.n, 0);
    expire(p, HOUR, &seen);
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.id[0], 101);
    assert_int_equal(get(p, 101).ended, DELIVERY_EXPIRED);
    assert_int_equal(get(p, 102).ended, DELIVERY_QUEUED);
    assert_false(needed(p, no, 1)); /* its notification is not sent any more */
    assert_false(needed(p, no, 2));
    assert_true(needed(p, no, 4));
    assert_int_equal(job_of(p, no, 1).n, 0);
    assert_int_equal(store_recipients_each(p->s, no, see, r), SP_OK);
    assert_int_equal(r[2].state, DELIVERY_EXPIRED);
    assert_int_equal(r[3].state, DELIVERY_QUEUED);
    expire(p, HOUR + 1, &seen);
    assert_int_equal(seen.n, 0); /* once */
    assert_int_equal(store_timer_next(p->s, &next), SP_OK);
    assert_int_equal(next, 2 * HOUR);
}

/* Pieces go with the last that needs them: mailbox, queue, each link. */
static void pieces_go_with_the_last(void **state)
{
    struct place *p = *state;
    uint64_t no = post(p, 1);
    uint8_t id[ID_SIZE];
    struct seen seen;
    finish(p, no, 0, DELIVERY_SENT);
    finish(p, no, 1, DELIVERY_SENT);
    finish(p, no, 3, DELIVERY_SENT);
    id_of(id, 1);
    assert_int_equal(store_delete(p->s, p->ann, id, DAY), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    sweep(p);
    assert_true(totals(p).bytes >= PIECE);
    id_of(id, 101);
    assert_int_equal(store_link_end(p->s, id, DELIVERY_REVOKED, 3000), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    delete_link(p, no, 2, 101);
    assert_true(totals(p).bytes >= PIECE);
    expire(p, 2 * HOUR, &seen);
    assert_int_equal(seen.n, 1);
    delete_link(p, no, 4, 102);
    assert_int_equal(totals(p).links, 0);
    assert_true(totals(p).bytes < PIECE);
    id_of(id, 102);
    assert_int_equal(store_link_delete(p->s, id), SP_OK); /* a second time: nothing */
}

static void ended_is_ended(void **state)
{
    struct place *p = *state;
    uint64_t no = post(p, 1), ms;
    uint8_t id[ID_SIZE];
    struct seen seen;
    struct store_recipient r[4];
    id_of(id, 101);
    assert_int_equal(store_link_end(p->s, id, DELIVERY_REVOKED, 3000), SP_OK);
    assert_int_equal(store_link_end(p->s, id, DELIVERY_EXPIRED, 4000), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(get(p, 101).ended, DELIVERY_REVOKED);
    expire(p, 3 * HOUR, &seen);
    assert_int_equal(seen.n, 1); /* the other one alone */
    assert_int_equal(store_recipients_each(p->s, no, see, r), SP_OK);
    assert_int_equal(r[2].state, DELIVERY_REVOKED);
    assert_int_equal(r[2].since_ms, 3000);
    id_of(id, 77);
    assert_int_equal(store_link_end(p->s, id, DELIVERY_REVOKED, 1), SP_ERR_NOT_FOUND);
    assert_int_equal(store_clock_get(p->s, &ms), SP_OK);
    assert_int_equal(ms, 0);
    assert_int_equal(store_clock_put(p->s, 12345), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(store_clock_get(p->s, &ms), SP_OK);
    assert_int_equal(ms, 12345);
}

/* A failed notification keeps its word in the status when the link is ended for it. */
static void failed_stays_failed(void **state)
{
    struct place *p = *state;
    uint64_t no = post(p, 1);
    uint8_t id[ID_SIZE];
    struct store_recipient r[4];
    finish(p, no, 1, DELIVERY_FAILED);
    id_of(id, 101);
    assert_int_equal(store_link_end(p->s, id, DELIVERY_EXPIRED, 5000), SP_OK);
    assert_int_equal(store_commit(p->s), SP_OK);
    assert_int_equal(store_recipients_each(p->s, no, see, r), SP_OK);
    assert_int_equal(r[2].state, DELIVERY_FAILED);
    assert_false(needed(p, no, 2));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_a_link_is),          TEST(sent_then_opened), TEST(expiry_ends_all_of_it),
        TEST(pieces_go_with_the_last), TEST(ended_is_ended),   TEST(failed_stays_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
