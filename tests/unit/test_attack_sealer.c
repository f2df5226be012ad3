/* The sealer against sessions that were taken over: the test plays them, their parent and the
 * store. What one of them does must harm itself alone. */
#include "daemon/messages.h"
#include "daemon/role.h"
#include "daemon/sealer/sealer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <event2/event.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#define MAX_MESSAGE (256u * 1024u)
#define SESSIONS    64u

static struct config config = {
    .max_message = MAX_MESSAGE, .max_sessions = SESSIONS, .memory_lock = LOCK_MLOCK};
static struct role role = {.ops = &sealer_role, .config = &config};
static struct sealer *sealer;
static int smtp, store, audit; /* our ends */
static uint32_t last_id;
static uint64_t consumed;

static int edge(int fd)
{
    int pair[2];
    assert_int_equal(ipc_pair(pair), SP_OK);
    int ours = fcntl(pair[0], F_DUPFD_CLOEXEC, 100);
    assert_int_equal(dup2(pair[1], fd), fd);
    close(pair[0]);
    if (pair[1] != fd)
        close(pair[1]);
    assert_int_equal(fcntl(ours, F_SETFL, O_NONBLOCK), 0);
    return ours;
}

static int set_up(void **state)
{
    (void)state;
    for (int fd = 3; fd < FD_EXTRA; fd++) /* fixed numbers, which nothing else may take */
        dup2(0, fd);
    audit = edge(FD_AUDIT);
    smtp = edge(ROLE_FD(ROLE_SMTP));
    store = edge(ROLE_FD(ROLE_STORE));
    role.base = event_base_new();
    assert_int_equal(sealer_role.prepare(&role), SP_OK);
    assert_int_equal(sealer_role.run(&role), SP_OK);
    sealer = role.state;
    return 0;
}

static void turn(void)
{
    for (int i = 0; i < 4; i++)
        event_base_loop(role.base, EVLOOP_NONBLOCK);
    char drop[4096]; /* nobody reads the log here */
    while (recv(audit, drop, sizeof(drop), MSG_DONTWAIT) > 0)
        ;
}

/* The next frame of a channel; type 0: there is none (a frame of this size has a body). */
static uint16_t next(int sock, struct ipc_frame *f)
{
    static uint8_t buf[IPC_HEADER + IPC_MAX_PAYLOAD];
    if (ipc_recv(sock, buf, sizeof(buf), f) != SP_OK)
        return 0;
    if (f->fd >= 0)
        close(f->fd);
    return f->type;
}

/* The same of the store's edge; remembers how far its blocks go. */
static uint16_t next_of_store(struct ipc_frame *f)
{
    uint16_t type = next(store, f);
    if (type == SS_BLOCK) {
        wire_get_bytes(&f->body, 10);
        consumed = wire_get_u64(&f->body);
        consumed += wire_get_u32(&f->body);
    }
    return type;
}

static void say(int sock, uint16_t type, uint32_t id, const struct wire_out *body)
{
    assert_int_equal(ipc_send_fd(sock, type, id, body ? body->at : NULL, body ? body->len : 0, -1),
                     SP_OK);
}

/* The store reads on until it has seen a frame of this type. */
static void store_reads_to(uint16_t type, struct ipc_frame *f)
{
    for (int i = 0; i < 100000; i++) {
        uint16_t got = next_of_store(f);
        if (got == 0)
            turn();
        if (got == type)
            return;
    }
    fail_msg("the store was never sent 0x%04x", type);
}

struct attacker {
    uint32_t id;
    int sock;
};

static struct attacker enter(void)
{
    uint8_t buf[64];
    struct wire_out body = wire_out(buf, sizeof(buf));
    int pair[2];
    struct attacker a = {.id = ++last_id};
    assert_int_equal(ipc_pair(pair), SP_OK);
    wire_put_u32(&body, a.id);
    wire_put_str(&body, "192.0.2.1");
    assert_int_equal(ipc_send_fd(smtp, SP_SESSION, 0, body.at, body.len, pair[1]), SP_OK);
    close(pair[1]);
    a.sock = pair[0];
    assert_int_equal(fcntl(a.sock, F_SETFL, O_NONBLOCK), 0);
    turn();
    return a;
}

static void reap(const struct attacker *a)
{
    uint8_t buf[4];
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_u32(&body, a->id);
    say(smtp, SP_SESSION_GONE, 0, &body);
    turn();
}

static void leave(struct attacker *a)
{
    close(a->sock);
    reap(a);
}

static void ask_recipient(struct attacker *a)
{
    uint8_t buf[64];
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_str(&body, "ann@example.org");
    say(a->sock, SE_RCPT, 0, &body);
    turn();
}

static void answer_lookup(uint32_t id)
{
    uint8_t buf[128], key[KEY_SIZE];
    struct wire_out body = wire_out(buf, sizeof(buf));
    memset(key, 9, sizeof(key));
    wire_put_u8(&body, SP_OK);
    wire_put_u16(&body, 1);
    wire_put_bytes(&body, key, ID_SIZE);
    wire_put_u32(&body, 1);
    wire_put_bytes(&body, key, sizeof(key));
    say(store, SS_LOOKUP_REPLY, id, &body);
    turn();
}

static void begin_content(struct attacker *a)
{
    struct ipc_frame f;
    ask_recipient(a);
    store_reads_to(SS_LOOKUP, &f);
    assert_int_equal(f.id, a->id);
    answer_lookup(a->id);
    assert_int_equal(next(a->sock, &f), SE_RCPT_REPLY);
    say(a->sock, SE_DATA, 0, NULL);
    turn();
    assert_int_equal(next(a->sock, &f), SE_SLOT);
}

/* What comes back, 0 when nothing does (yet). */
static uint16_t seal(struct attacker *a, uint8_t stream, bool last, uint32_t len)
{
    uint8_t buf[8];
    struct ipc_frame f;
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_u8(&body, stream);
    wire_put_u8(&body, last);
    wire_put_u32(&body, len);
    say(a->sock, SE_SEAL, 0, &body);
    event_base_loop(role.base, EVLOOP_NONBLOCK);
    return next(a->sock, &f);
}

static void attach(struct attacker *a)
{
    uint8_t buf[16];
    struct wire_out body = wire_out(buf, sizeof(buf));
    wire_put_u64(&body, 0);
    wire_put_u16(&body, 0);
    wire_put_u16(&body, 0);
    say(a->sock, SE_ATTACH, 0, &body);
}

static bool ended(const struct attacker *a)
{
    uint8_t byte;
    return recv(a->sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* Everything that was said to the store is read, and consumed. */
static void store_catches_up(void)
{
    uint8_t buf[8];
    struct ipc_frame f;
    struct wire_out body = wire_out(buf, sizeof(buf));
    for (int i = 0; i < 8; i++) {
        while (next_of_store(&f) != 0)
            ;
        turn();
    }
    wire_put_u64(&body, consumed);
    say(store, SS_CONSUMED, 0, &body);
    turn();
}

/* --- the attacks --- */

/* The store is busy for a while: whoever sends it small blocks must wait, not use up the queue that
 * other sessions' questions go through. */
static void fill_with_small_blocks(void)
{
    for (uint32_t n = 0; n < SESSIONS / 2; n++) {
        struct attacker a = enter();
        /* Content is begun before the store stops to read. */
        begin_content(&a);
        for (int i = 0; i < 200; i++) {
            attach(&a);
            if (seal(&a, 1, true, 0) != SE_SEALED)
                break;
        }
        leave(&a);
    }
}

static void one_session_cannot_fill_the_way_to_the_store(void **state)
{
    struct ipc_frame f;
    struct attacker many[16];
    (void)state;
    for (size_t n = 0; n < 16; n++) {
        many[n] = enter();
        begin_content(&many[n]);
    }
    struct attacker other = enter();
    for (size_t n = 0; n < 16; n++)
        for (int i = 0; i < 255 && !ended(&many[n]); i++) {
            attach(&many[n]);
            if (seal(&many[n], 1, true, 0) != SE_SEALED)
                break; /* it waits: rightly */
        }
    ask_recipient(&other);
    assert_false(ended(&other));
    for (size_t n = 0; n < 16; n++)
        assert_false(ended(&many[n]));
    store_reads_to(SS_LOOKUP, &f);
    assert_int_equal(f.id, other.id);
    answer_lookup(other.id);
    assert_int_equal(next(other.sock, &f), SE_RCPT_REPLY);
    for (size_t n = 0; n < 16; n++)
        leave(&many[n]);
    leave(&other);
    store_catches_up();
    assert_int_equal(sealer->n_sessions, 0);
}

static void slots_come_back_whatever_happened(void **state)
{
    (void)state;
    store_catches_up();
    fill_with_small_blocks();
    store_catches_up();
    assert_int_equal(sealer->n_sessions, 0);
    size_t free_slots = 0;
    struct slot *slot;
    SLIST_FOREACH(slot, &sealer->free_slots, next)
    free_slots++;
    assert_int_equal(free_slots, sealer->n_slots);
}

/* It waits for the ring with a frame that will turn out to be impossible, and is dead by then. */
static void a_dead_session_may_wait_for_the_ring(void **state)
{
    (void)state;
    struct attacker full[16], bad = enter(), after = enter();
    begin_content(&bad);
    begin_content(&after);
    for (size_t n = 0; n < 16; n++) {
        full[n] = enter();
        begin_content(&full[n]);
    }
    bool waits = false;
    for (size_t n = 0; n < 16; n++)
        for (int i = 0; i < 255 && !waits; i++) {
            attach(&full[n]);
            waits = seal(&full[n], 1, true, 0) != SE_SEALED;
        }
    assert_true(waits);
    assert_int_equal(seal(&bad, 1, true, 0), 0); /* no attachment is open */
    assert_int_equal(seal(&after, 0, false, CAKE_CHUNK), 0);
    reap(&bad); /* its channel's end is noticed later */
    store_catches_up();
    store_catches_up();
    assert_true(ended(&bad));
    assert_false(ended(&after));
    for (size_t n = 0; n < 16; n++)
        leave(&full[n]);
    leave(&after);
    close(bad.sock);
    store_catches_up();
    assert_int_equal(sealer->n_sessions, 0);
}

static void no_session_stores_more_than_a_message_may_have(void **state)
{
    (void)state;
    struct attacker a = enter();
    begin_content(&a);
    size_t sent = 0;
    while (sent < 8 * MAX_MESSAGE && seal(&a, 0, false, SLOT_WORK_SIZE) == SE_SEALED)
        sent += SLOT_WORK_SIZE;
    assert_in_range(sent, MAX_MESSAGE - SLOT_WORK_SIZE, MAX_MESSAGE + 4096);
    turn();
    assert_true(ended(&a));
    leave(&a);
    store_catches_up();
}

/* Each abort is a line in the log: without a message there is nothing to abort. */
static void the_log_cannot_be_flooded_with_aborts(void **state)
{
    uint8_t buf[16];
    struct wire_out body = wire_out(buf, sizeof(buf));
    (void)state;
    struct attacker a = enter();
    wire_put_str(&body, "size");
    say(a.sock, SE_ABORT, 0, &body);
    turn();
    assert_true(ended(&a));
    leave(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_session_cannot_fill_the_way_to_the_store),
        cmocka_unit_test(slots_come_back_whatever_happened),
        cmocka_unit_test(a_dead_session_may_wait_for_the_ring),
        cmocka_unit_test(no_session_stores_more_than_a_message_may_have),
        cmocka_unit_test(the_log_cannot_be_flooded_with_aborts),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
