/* The client's requests where the server's ration of signatures is used up. The Makefile's library
 * has no client: its sources are included here, and the connection is stood in for, and time. */
#include <time.h>

static unsigned pauses;

static int pause_for(const struct timespec *pause)
{
    pauses++;
    return pause->tv_sec >= 1 ? 0 : -1;
}
#define nanosleep(pause, left) pause_for(pause)

#include "client/account.c"
#include "client/file.c"
#include "client/mailpage.c"
#include "client/report.c"
#include "client/secret.c"
#include "client/server.c"
#include "client/state.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A server that logs in whoever asks, and answers a link with the next of these, the last for ever.
 */
static struct {
    const long *link;
    unsigned links;
} answers;

static const uint8_t wire[] = "a link";

enum sp_err http_open(const char *url, const char *ca, struct http **out)
{
    (void)url;
    (void)ca;
    *out = NULL;
    return SP_OK;
}

void http_close(struct http *h)
{
    assert_null(h);
}

char *http_escape(const char *text)
{
    return strdup(text);
}

/* Challenge and session, of the length that each has. */
static enum sp_err log_in(const struct http_request *rq, http_sink sink, void *ctx)
{
    static const uint8_t zero[TOKEN + 4];
    bool is_challenge = strcmp(rq->path, "/v1/challenge") == 0;
    assert_true(is_challenge || strcmp(rq->path, "/v1/session") == 0);
    return sink(ctx, zero, is_challenge ? CHALLENGE : sizeof(zero));
}

enum sp_err http_do(struct http *h, const struct http_request *rq, http_sink sink, void *ctx,
                    struct http_reply *reply)
{
    (void)h;
    *reply = (struct http_reply){.status = 200};
    if (strcmp(rq->path, "/v1/sigchain") != 0)
        return log_in(rq, sink, ctx);
    assert_int_equal(rq->body_len, sizeof(wire));
    assert_memory_equal(rq->body, wire, sizeof(wire));
    reply->status = *answers.link;
    if (answers.link[1] != 0)
        answers.link++;
    answers.links++;
    return SP_OK;
}

/* One link given to a server that answers so. */
static enum sp_err append(const long *link)
{
    static const struct account account = {.url = "https://mail.example.org"};
    static const struct keyring keys;
    struct server *s;
    answers.link = link;
    answers.links = pauses = 0;
    assert_int_equal(server_open(&account, &keys, NULL, &s), SP_OK);
    enum sp_err err = server_append(s, wire, sizeof(wire));
    server_close(s, false);
    return err;
}

static void a_link_waits_for_its_ration(void **state)
{
    (void)state;
    assert_int_equal(append((const long[]){204, 0}), SP_OK);
    assert_int_equal(answers.links, 1);
    assert_int_equal(pauses, 0);
    assert_int_equal(append((const long[]){429, 429, 429, 204, 0}), SP_OK);
    assert_int_equal(answers.links, 4);
    assert_int_equal(pauses, 3);
}

static void but_not_for_ever(void **state)
{
    (void)state;
    assert_int_equal(append((const long[]){429, 0}), SP_ERR_LIMIT);
    assert_int_equal(answers.links, 1 + APPEND_TRIES);
    assert_int_equal(pauses, APPEND_TRIES);
}

static void a_no_is_a_no(void **state)
{
    (void)state;
    assert_int_equal(append((const long[]){409, 204, 0}), SP_ERR_EXISTS);
    assert_int_equal(answers.links, 1);
    assert_int_equal(append((const long[]){429, 422, 204, 0}), SP_ERR_FORMAT);
    assert_int_equal(answers.links, 2);
    assert_int_equal(pauses, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_link_waits_for_its_ration),
        cmocka_unit_test(but_not_for_ever),
        cmocka_unit_test(a_no_is_a_no),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
