/* The sealer role as it runs (all but its cage), between hostile sessions and a store played by the
 * test: a frame out of order ends its session alone, a full ring makes a session wait, and whatever
 * dies when, everything of it is freed, and its slot only when nobody can see it any more. */
#include "daemon/audit/events.h"
#include "daemon/messages.h"
#include "daemon/sealer/sealer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <event2/event.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_MESSAGE (64u * 1024u * 1024u)

static struct config config = {
    .max_sessions = 3, .max_recipients = 100, .max_message = MAX_MESSAGE};
static struct role role = {.ops = &sealer_role, .config = &config};
static struct sealer *sealer;
static int to_smtp, to_store, to_audit;
static uint64_t consumed;
static uint32_t next_id = 100;
static uint8_t puk[KEY_SIZE];
static char last_refusal[64];

/* --- the world around it --- */

static void place(int at, int *mine)
{
    int pair[2];
    assert_int_equal(ipc_pair(pair), SP_OK);
    assert_int_equal(dup3(pair[1], at, O_CLOEXEC), at);
    close(pair[1]);
    *mine = pair[0];
}

static void turn(void)
{
    uint8_t buf[1024];
    ssize_t n;
    for (int i = 0; i < 4; i++)
        event_base_loop(role.base, EVLOOP_NONBLOCK);
    while ((n = recv(to_audit, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
        struct wire_in in = wire_in(buf + IPC_HEADER, (size_t)n - IPC_HEADER);
        size_t len = 0;
        if (wire_get_u16(&in) != AUDIT_REFUSED)
            continue;
        wire_get_u64(&in);
        const uint8_t *why = wire_get_b16(&in, sizeof(last_refusal) - 1, &len);
        memset(last_refusal, 0, sizeof(last_refusal));
        memcpy(last_refusal, why, len);
    }
}

/* One frame, if there is one by now. */
static bool get(int sock, struct ipc_frame *f)
{
    static uint8_t buf[IPC_HEADER + IPC_MAX_PAYLOAD];
    turn();
    uint8_t peek;
    if (recv(sock, &peek, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
        return false;
    return ipc_recv(sock, buf, sizeof(buf), f) == SP_OK;
}

static bool is_over(int sock)
{
    uint8_t peek;
    turn();
    return recv(sock, &peek, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static int start(void **state)
{
    struct ipc_frame f;
    (void)state;
    for (int fd = 3; fd <= FD_EXTRA; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            dup2(2, fd);
    place(ROLE_FD(ROLE_SMTP), &to_smtp);
    place(ROLE_FD(ROLE_STORE), &to_store);
    place(FD_AUDIT, &to_audit);
    assert_int_equal(sealer_role.prepare(&role), SP_OK);
    role.base = event_base_new();
    assert_int_equal(sealer_role.run(&role), SP_OK);
    sealer = role.state;
    assert_int_equal(sealer->max_slots, 3);
    assert_true(get(to_store, &f));
    assert_int_equal(f.type, SS_RING);
    assert_int_equal(wire_get_u64(&f.body), RING_SIZE);
    assert_int_equal(mmap(NULL, RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0),
                     MAP_FAILED); /* the store may read */
    close(f.fd);
    uint8_t sk[KEY_SIZE];
    randombytes_buf(sk, sizeof(sk));
    return keys_x25519_public(sk, puk) == SP_OK ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    ipc_peer_free(sealer->smtp);
    ipc_peer_free(sealer->store);
    event_base_free(role.base);
    return 0;
}

static size_t free_slots(void)
{
    struct slot *slot;
    size_t n = 0;
    SLIST_FOREACH(slot, &sealer->free_slots, next)
    n++;
    return n;
}

/* --- sessions --- */

struct client {
    int sock;
    uint32_t id;
    uint8_t *slot;
};

static struct client connect_client(void)
{
    struct client c = {.id = ++next_id};
    uint8_t buf[64];
    int pair[2];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u32(&out, c.id);
    wire_put_str(&out, "192.0.2.1");
    assert_int_equal(ipc_pair(pair), SP_OK);
    assert_int_equal(ipc_send_fd(to_smtp, SP_SESSION, 0, buf, out.len, pair[1]), SP_OK);
    close(pair[1]);
    turn();
    c.sock = pair[0];
    return c;
}

static void process_dies(struct client *c)
{
    uint8_t id[4];
    struct wire_out out = wire_out(id, sizeof(id));
    wire_put_u32(&out, c->id);
    if (c->slot != NULL)
        munmap(c->slot, SLOT_SIZE);
    c->slot = NULL;
    assert_int_equal(ipc_send_fd(to_smtp, SP_SESSION_GONE, 0, id, 4, -1), SP_OK);
    turn();
}

static void channel_ends(struct client *c)
{
    close(c->sock);
    c->sock = -1;
    turn();
}

/* Both, and what the store was told is read away. */
static void leave(struct client *c)
{
    struct ipc_frame f;
    channel_ends(c);
    process_dies(c);
    while (get(to_store, &f))
        ;
}

static void ask(struct client *c, uint16_t type, const struct wire_out *body)
{
    assert_int_equal(ipc_send_fd(c->sock, type, 0, body != NULL ? body->at : NULL,
                                 body != NULL ? body->len : 0, -1),
                     SP_OK);
    turn();
}

static void ask_rcpt(struct client *c)
{
    uint8_t buf[64];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_str(&out, "u@example.org");
    ask(c, SE_RCPT, &out);
}

static void ask_seal(struct client *c, uint8_t stream, uint8_t last, uint32_t len)
{
    uint8_t buf[8];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u8(&out, stream);
    wire_put_u8(&out, last);
    wire_put_u32(&out, len);
    ask(c, SE_SEAL, &out);
}

static void ask_finish(struct client *c, uint32_t len)
{
    uint8_t buf[16];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u32(&out, len);
    wire_put_u32(&out, 1000);
    wire_put_u64(&out, 77);
    ask(c, SE_FINISH, &out);
}

static void ask_attach(struct client *c, uint64_t splice_at, const char *type, const char *name)
{
    uint8_t buf[16];
    struct wire_out out = wire_out(buf, sizeof(buf));
    memcpy(c->slot + SLOT_META, type, strlen(type));
    memcpy(c->slot + SLOT_META + strlen(type), name, strlen(name));
    wire_put_u64(&out, splice_at);
    wire_put_u16(&out, (uint16_t)strlen(type));
    wire_put_u16(&out, (uint16_t)strlen(name));
    ask(c, SE_ATTACH, &out);
}

static void ask_abort(struct client *c, const char *why)
{
    uint8_t buf[64];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_str(&out, why);
    ask(c, SE_ABORT, &out);
}

static void expect(struct client *c, uint16_t type, enum sp_err status)
{
    struct ipc_frame f;
    assert_true(get(c->sock, &f));
    assert_int_equal(f.type, type);
    assert_int_equal(wire_get_u8(&f.body), status);
    if (f.fd >= 0) {
        assert_int_equal(type, SE_SLOT);
        assert_null(c->slot);
        c->slot = mmap(NULL, SLOT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0);
        assert_ptr_not_equal(c->slot, MAP_FAILED);
        close(f.fd);
    }
}

/* --- the store --- */

static uint32_t store_hears(uint16_t type)
{
    struct ipc_frame f;
    assert_true(get(to_store, &f));
    assert_int_equal(f.type, type);
    if (type == SS_BLOCK) {
        wire_get_u64(&f.body);
        wire_get_u16(&f.body);
        uint64_t position = wire_get_u64(&f.body);
        assert_true(position >= consumed);
        consumed = position + wire_get_u32(&f.body);
    }
    return f.id;
}

static void store_says(uint16_t type, uint32_t id, const struct wire_out *body)
{
    assert_int_equal(ipc_send_fd(to_store, type, id, body->at, body->len, -1), SP_OK);
    turn();
}

static void store_status(uint16_t type, uint32_t id, enum sp_err status)
{
    uint8_t byte = (uint8_t)status;
    store_says(type, id, &(struct wire_out){.at = &byte, .len = 1, .cap = 1});
}

static void store_knows(uint32_t id, uint16_t n, uint8_t first)
{
    uint8_t buf[4096], user[ID_SIZE] = {0};
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u8(&out, SP_OK);
    wire_put_u16(&out, n);
    for (uint16_t i = 0; i < n; i++) {
        user[0] = (uint8_t)(first + i);
        wire_put_bytes(&out, user, ID_SIZE);
        wire_put_u32(&out, 1);
        wire_put_bytes(&out, puk, KEY_SIZE);
    }
    store_says(SS_LOOKUP_REPLY, id, &out);
}

static void store_is_done(void)
{
    uint8_t buf[8];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u64(&out, consumed);
    store_says(SS_CONSUMED, 0, &out);
}

/* --- states --- */

enum where { EMPTY, LOOKING, READY, CONTENT, ATTACHING, COMMITTING, STATES };

static void recipient(struct client *c)
{
    ask_rcpt(c);
    store_knows(store_hears(SS_LOOKUP), 1, 1);
    expect(c, SE_RCPT_REPLY, SP_OK);
}

static struct client client_at(enum where where)
{
    struct client c = connect_client();
    if (where == LOOKING) {
        ask_rcpt(&c);
        store_hears(SS_LOOKUP);
    }
    if (where >= READY)
        recipient(&c);
    if (where >= CONTENT) {
        ask(&c, SE_DATA, NULL);
        expect(&c, SE_SLOT, SP_OK);
        memset(c.slot + SLOT_WORK, 's', SLOT_WORK_SIZE); /* a message's bytes, so to speak */
        memset(c.slot + SLOT_PARK, 's', SLOT_PARK_SIZE);
    }
    if (where == ATTACHING)
        ask_attach(&c, 0, "a/b", "name");
    if (where == COMMITTING) {
        ask_finish(&c, 100);
        store_hears(SS_BLOCK);
        store_hears(SS_COMMIT);
    }
    return c;
}

static bool all_zero(const uint8_t *at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (at[i] != 0)
            return false;
    return true;
}

/* --- tests --- */

static void two_messages(void **state)
{
    struct client c = client_at(CONTENT);
    struct ipc_frame f;
    (void)state;
    ask_seal(&c, STREAM_BODY, 0, 2 * CAKE_CHUNK);
    expect(&c, SE_SEALED, SP_OK);
    assert_true(all_zero(c.slot + SLOT_WORK, 2 * CAKE_CHUNK));
    assert_int_equal(c.slot[SLOT_WORK + 2 * CAKE_CHUNK], 's');
    ask_attach(&c, 5, "application/pdf", "a.pdf");
    assert_true(all_zero(c.slot + SLOT_META, SLOT_META_SIZE));
    ask_seal(&c, STREAM_ATTACHMENT, 1, 5);
    expect(&c, SE_SEALED, SP_OK);
    ask_finish(&c, 9);
    for (int i = 0; i < 3; i++)
        store_hears(SS_BLOCK);
    assert_int_equal(store_hears(SS_COMMIT), c.id);
    assert_false(get(c.sock, &f)); /* nothing before the store has it */
    store_status(SS_COMMIT_REPLY, c.id, SP_OK);
    assert_true(get(c.sock, &f));
    assert_int_equal(f.type, SE_DONE);
    assert_int_equal(wire_get_u8(&f.body), SP_OK);
    assert_int_equal(f.body.left, ID_SIZE);
    recipient(&c);
    ask(&c, SE_DATA, NULL);
    expect(&c, SE_SLOT, SP_OK); /* without a descriptor: see expect() */
    ask_finish(&c, 0);
    store_hears(SS_BLOCK);
    store_hears(SS_COMMIT);
    store_status(SS_COMMIT_REPLY, c.id, SP_ERR_NO_SPACE);
    expect(&c, SE_DONE, SP_ERR_NO_SPACE);
    leave(&c);
    assert_int_equal(sealer->n_sessions, 0);
}

static void recipients(void **state)
{
    struct client c = connect_client();
    (void)state;
    ask_rcpt(&c);
    store_status(SS_LOOKUP_REPLY, store_hears(SS_LOOKUP), SP_ERR_NO_KEY);
    expect(&c, SE_RCPT_REPLY, SP_ERR_NO_KEY);
    ask_rcpt(&c);
    store_knows(store_hears(SS_LOOKUP), 0, 0); /* an alias of nobody */
    expect(&c, SE_RCPT_REPLY, SP_ERR_NOT_FOUND);
    ask_rcpt(&c);
    store_knows(store_hears(SS_LOOKUP), 20, 1);
    expect(&c, SE_RCPT_REPLY, SP_OK);
    ask_rcpt(&c);
    store_knows(store_hears(SS_LOOKUP), 20, 11); /* ten of them are there already */
    expect(&c, SE_RCPT_REPLY, SP_OK);
    assert_int_equal(session_find(sealer, c.id)->n_recipients, 30);
    for (unsigned i = 0; i < 5; i++) {
        ask(&c, SE_RESET, NULL);
        assert_int_equal(session_find(sealer, c.id)->n_recipients, 0);
    }
    leave(&c);
}

/* Every frame in every state, well formed. */
static void out_of_order(void **state)
{
    static const unsigned may[STATES] = {
        [EMPTY] = 0x03,   [LOOKING] = 0,      [READY] = 0x07,
        [CONTENT] = 0x78, [ATTACHING] = 0x50, [COMMITTING] = 0,
    };
    static uint8_t bytes[7][16] = {{0, 3, 'u', '@', 'h'}, {0}, {0}, {0}, {0}, {0},
                                   {0, 2, 'o', 'k'}};
    static const size_t size[] = {5, 0, 0, 12, 6, 16, 4};
    struct client other = client_at(READY);
    (void)state;
    for (int where = 0; where < STATES; where++)
        for (unsigned i = 0; i < 7; i++) {
            struct client c = client_at((enum where)where);
            struct wire_out body = {.at = bytes[i], .len = size[i], .cap = 16};
            bytes[4][0] = where == ATTACHING; /* SEAL: of the attachment */
            last_refusal[0] = '\0';
            ask(&c, (uint16_t)(SE_RCPT + i), &body);
            if (is_over(c.sock) == (may[where] >> i & 1))
                fail_msg("state %d, frame %u", where, i);
            if (!(may[where] >> i & 1))
                assert_string_equal(last_refusal, "forged-frame");
            leave(&c);
            if (where == LOOKING)
                store_status(SS_LOOKUP_REPLY, c.id, SP_ERR_NOT_FOUND);
            if (i == 0 && (where == EMPTY || where == READY))
                store_status(SS_LOOKUP_REPLY, c.id, SP_ERR_NOT_FOUND);
            if (where == COMMITTING || (i == 5 && where == CONTENT))
                store_status(SS_COMMIT_REPLY, c.id, SP_OK);
            assert_int_equal(sealer->n_sessions, 1);
            assert_int_equal(free_slots(), sealer->n_slots);
            assert_false(is_over(other.sock));
        }
    recipient(&other);
    leave(&other);
}

/* Frames that are allowed, with what no honest session says. */
static void forged_content(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i++) {
        struct client c = client_at(i < 6 ? CONTENT : ATTACHING);
        switch (i) {
        case 0:
            ask_seal(&c, 2, 0, 0);
            break;
        case 1:
            ask_seal(&c, STREAM_BODY, 1, 5);
            break;
        case 2:
            ask_seal(&c, STREAM_BODY, 0, SLOT_WORK_SIZE + CAKE_CHUNK);
            break;
        case 3:
            ask_seal(&c, STREAM_BODY, 0, 5);
            break;
        case 4:
            ask_seal(&c, STREAM_ATTACHMENT, 1, 5);
            break;
        case 5:
            ask_finish(&c, SLOT_WORK_SIZE + 1);
            break;
        case 6:
            ask_finish(&c, 5);
            break; /* the attachment is open */
        case 7:
            ask_attach(&c, 0, "a/b", "");
            break;
        case 8:
            ask_seal(&c, STREAM_ATTACHMENT, 0, 5);
            break;
        case 9:
            ask_abort(&c, "Not a word");
            break;
        case 10:
            ask_seal(&c, STREAM_ATTACHMENT, 1, 5);
            expect(&c, SE_SEALED, SP_OK);
            ask_attach(&c, 0, "not a type", "");
            ask_seal(&c, STREAM_ATTACHMENT, 1, 5);
            expect(&c, SE_SEALED, SP_OK);
            ask_finish(&c, 5); /* now its manifest is looked at */
            break;
        default:
            ask_seal(&c, STREAM_ATTACHMENT, 1, 5);
            expect(&c, SE_SEALED, SP_OK);
            ask_attach(&c, UINT64_MAX, "a/b", "");
            ask_seal(&c, STREAM_ATTACHMENT, 1, 5);
            expect(&c, SE_SEALED, SP_OK);
            ask_finish(&c, 5);
        }
        if (!is_over(c.sock))
            fail_msg("case %d", i);
        leave(&c);
        assert_int_equal(sealer->n_sessions, 0);
    }
}

static void names_longer_than_their_place(void **state)
{
    struct client c = client_at(CONTENT);
    uint8_t buf[16];
    struct wire_out out = wire_out(buf, sizeof(buf));
    (void)state;
    wire_put_u64(&out, 0);
    wire_put_u16(&out, 0xffff);
    wire_put_u16(&out, 0xffff);
    ask(&c, SE_ATTACH, &out);
    assert_true(is_over(c.sock));
    leave(&c);
}

static void aborts(void **state)
{
    struct client c = client_at(ATTACHING);
    (void)state;
    ask_seal(&c, STREAM_ATTACHMENT, 0, CAKE_CHUNK);
    expect(&c, SE_SEALED, SP_OK);
    ask_abort(&c, "bare-lf");
    assert_string_equal(last_refusal, "bare-lf");
    store_hears(SS_BLOCK);
    store_hears(SS_ABORT);
    recipient(&c); /* and it goes on */
    ask(&c, SE_DATA, NULL);
    expect(&c, SE_SLOT, SP_OK);
    leave(&c);
}

/* The two ends of a session come in any order, with the store's answer anywhere among them. Only
 * the last of them frees it; until then its slot is nobody else's. */
static void dies_in_every_state(void **state)
{
    (void)state;
    for (int where = 0; where < STATES; where++)
        for (int order = 0; order < 6; order++) {
            static const char orders[6][4] = {"cps", "csp", "pcs", "psc", "scp", "spc"};
            struct client c = client_at((enum where)where);
            size_t lent = where >= CONTENT;
            uint8_t *at = lent ? session_find(sealer, c.id)->slot->at : NULL;
            bool asked = where == LOOKING || where == COMMITTING;
            struct ipc_frame f;
            for (int i = 0; i < 3; i++) {
                assert_int_equal(free_slots(), sealer->n_slots - lent);
                assert_int_equal(sealer->n_sessions, 1);
                if (orders[order][i] == 'c')
                    channel_ends(&c);
                else if (orders[order][i] == 'p')
                    process_dies(&c);
                else if (asked)
                    store_status(where == LOOKING ? SS_LOOKUP_REPLY : SS_COMMIT_REPLY, c.id,
                                 SP_ERR_NO_SPACE);
                if (!asked && orders[order][2] == 's' && i == 1)
                    break; /* nothing else is awaited */
            }
            assert_int_equal(sealer->n_sessions, 0);
            assert_int_equal(free_slots(), sealer->n_slots);
            assert_true(at == NULL || all_zero(at, SLOT_SIZE));
            while (get(to_store, &f))
                assert_int_equal(f.type, SS_ABORT);
        }
}

static void slots_run_out(void **state)
{
    struct client c[4];
    struct ipc_frame f;
    (void)state;
    for (int i = 0; i < 3; i++)
        c[i] = client_at(CONTENT);
    c[3] = client_at(READY);
    ask(&c[3], SE_DATA, NULL);
    expect(&c[3], SE_SLOT, SP_ERR_NO_SPACE);
    channel_ends(&c[0]); /* its process may still see its slot */
    ask(&c[3], SE_DATA, NULL);
    expect(&c[3], SE_SLOT, SP_ERR_NO_SPACE);
    process_dies(&c[0]);
    ask(&c[3], SE_DATA, NULL);
    expect(&c[3], SE_SLOT, SP_OK);
    assert_true(all_zero(c[3].slot, SLOT_SIZE));
    for (int i = 1; i < 4; i++)
        leave(&c[i]);
    while (get(to_store, &f))
        ;
}

static void id_in_use(void **state)
{
    struct client c = connect_client();
    (void)state;
    int pair[2];
    assert_int_equal(ipc_pair(pair), SP_OK);
    assert_int_equal(session_start(sealer, c.id, pair[1]), SP_ERR_EXISTS);
    assert_true(is_over(pair[0]));
    close(pair[0]);
    assert_int_equal(sealer->n_sessions, 1);
    leave(&c);
}

/* Seals until there is no answer; the store takes note, but consumes nothing. */
static unsigned fill_ring(struct client *c)
{
    struct ipc_frame f;
    unsigned n = 0;
    for (;; n++) {
        ask_seal(c, STREAM_BODY, 0, SLOT_WORK_SIZE);
        if (!get(c->sock, &f))
            return n;
        assert_int_equal(f.type, SE_SEALED);
        store_hears(SS_BLOCK);
    }
}

static void ring_full(void **state)
{
    struct client a = client_at(CONTENT), b = client_at(CONTENT), c = client_at(CONTENT);
    struct ipc_frame f;
    (void)state;
    store_is_done();
    unsigned n = fill_ring(&a);
    assert_true(n > 500 && n < 800);
    ask_finish(&b, 10);
    ask_seal(&c, STREAM_BODY, 0, CAKE_CHUNK);
    assert_false(get(b.sock, &f));
    assert_false(get(c.sock, &f));
    assert_false(get(to_store, &f));
    leave(&c); /* while it waits */
    store_is_done();
    expect(&a, SE_SEALED, SP_OK);
    store_hears(SS_BLOCK);
    store_hears(SS_BLOCK);
    assert_int_equal(store_hears(SS_COMMIT), b.id);
    store_status(SS_COMMIT_REPLY, b.id, SP_OK);
    expect(&b, SE_DONE, SP_OK);
    ask_seal(&a, STREAM_BODY, 0, SLOT_WORK_SIZE); /* and on it goes */
    expect(&a, SE_SEALED, SP_OK);
    store_hears(SS_BLOCK);
    leave(&a);
    leave(&b);
    assert_int_equal(sealer->n_sessions, 0);
    assert_true(TAILQ_EMPTY(&sealer->waiting));
    store_is_done();
}

/* What it did wrong shows only when its turn has come. */
static void ring_full_and_forged(void **state)
{
    struct client a = client_at(CONTENT), b = client_at(CONTENT);
    struct ipc_frame f;
    (void)state;
    fill_ring(&a);
    ask_seal(&b, STREAM_ATTACHMENT, 1, 5); /* there is no attachment */
    assert_false(is_over(b.sock));
    process_dies(&b);
    store_is_done();
    assert_true(is_over(b.sock));
    expect(&a, SE_SEALED, SP_OK);
    assert_int_equal(sealer->n_sessions, 1);
    close(b.sock);
    leave(&a);
    while (get(to_store, &f))
        ;
    store_is_done();
}

static void larger_than_allowed(void **state)
{
    struct client c = client_at(CONTENT);
    unsigned n = 0;
    (void)state;
    for (; !is_over(c.sock) && n < 2000; n++) {
        struct ipc_frame f;
        ask_seal(&c, STREAM_BODY, 0, SLOT_WORK_SIZE);
        if (!get(c.sock, &f))
            break;
        store_hears(SS_BLOCK);
        store_is_done();
    }
    assert_true(is_over(c.sock));
    assert_int_equal(n, MAX_MESSAGE / SLOT_WORK_SIZE);
    leave(&c);
}

/* --- a store that was taken over: the sealer ends rather than be confused --- */

static void end_by(void (*act)(struct client *), enum where where)
{
    int status;
    struct client c = client_at(where);
    pid_t pid = fork();
    if (pid == 0) {
        event_reinit(role.base);
        act(&c);
        turn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    struct ipc_frame f;
    while (get(to_store, &f))
        ;
    leave(&c);
    if (where == LOOKING)
        store_status(SS_LOOKUP_REPLY, c.id, SP_ERR_NOT_FOUND);
    if (where == COMMITTING)
        store_status(SS_COMMIT_REPLY, c.id, SP_ERR_NO_SPACE);
    assert_int_equal(sealer->n_sessions, 0);
}

static void lookup_unasked(struct client *c)
{
    store_knows(c->id, 1, 1);
}
static void commit_unasked(struct client *c)
{
    store_status(SS_COMMIT_REPLY, c->id, SP_OK);
}
static void nobody(struct client *c)
{
    (void)c;
    store_status(SS_COMMIT_REPLY, 1, SP_OK);
}
static void consumed_the_future(struct client *c)
{
    (void)c;
    consumed += 1u << 30;
    store_is_done();
}
static void ok_and_no_users(struct client *c)
{
    store_status(SS_LOOKUP_REPLY, c->id, SP_OK);
}
static void hostile_store(void **state)
{
    (void)state;
    end_by(lookup_unasked, READY);
    end_by(lookup_unasked, CONTENT);
    end_by(lookup_unasked, COMMITTING);
    end_by(commit_unasked, EMPTY);
    end_by(commit_unasked, LOOKING);
    end_by(commit_unasked, CONTENT);
    end_by(nobody, EMPTY);
    end_by(consumed_the_future, EMPTY);
    end_by(ok_and_no_users, LOOKING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_messages),
        cmocka_unit_test(recipients),
        cmocka_unit_test(out_of_order),
        cmocka_unit_test(forged_content),
        cmocka_unit_test(names_longer_than_their_place),
        cmocka_unit_test(aborts),
        cmocka_unit_test(dies_in_every_state),
        cmocka_unit_test(slots_run_out),
        cmocka_unit_test(id_in_use),
        cmocka_unit_test(ring_full),
        cmocka_unit_test(ring_full_and_forged),
        cmocka_unit_test(larger_than_allowed),
        cmocka_unit_test(hostile_store),
    };
    return cmocka_run_group_tests(tests, start, end);
}
