/* The store's process as its peers see it: a child runs the role over socket pairs, the test plays
 * sealer, web, operators and the audit role, honestly and not. */
#include "daemon/audit/events.h"
#include "daemon/messages.h"
#include "daemon/role.h"
#include "envelope/envelope.h"
#include "envelope/sigchain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define RING    (1u << 20)
#define URL     "https://mail.example.org"
#define ADDRESS "ann@example.org"
#define BODY    5000u
#define TOKEN   32u

struct tree {
    char dir[64];
    pid_t pid;
    int sealer, web, control, audit;
    int ring_fd;
    uint8_t *ring;
    uint64_t head;
};

/* --- the child --- */

static enum sp_err on_control(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct role *role = ctx;
    uint8_t buf[4096];
    struct wire_out pairs = wire_out(buf, sizeof(buf));
    if (frame->type == CT_ADMIN)
        return role->ops->control(role, frame);
    if (frame->type == CT_STOP)
        role->ops->stop(role);
    role->ops->status(role, &pairs);
    return ipc_peer_send(peer, CT_STATUS_REPLY, frame->id, &pairs, -1);
}

static void on_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    (void)ctx;
    (void)peer;
    (void)why;
    _exit(0);
}

static const struct ipc_rule control_rules[] = {
    {CT_ADMIN, true, false, 0, 0, on_control},
    {CT_STATUS, false, false, 0, 0, on_control},
    {CT_STOP, false, false, 0, 0, on_control},
};
static const struct ipc_rules control = {control_rules, 3, UINT64_MAX, on_gone};

static void child(const char *dir, int sealer, int web, int ctl, int audit)
{
    static char domain[] = "example.org", url[] = URL;
    struct config config = {.map_size = 32u << 20, .code_expiry = 3600, .web_url = url};
    struct role role = {.ops = &store_role, .config = &config};
    config.domain.count = 1;
    config.domain.item[0] = domain;
    int from[] = {sealer, web, ctl, audit},
        to[] = {ROLE_FD(ROLE_SEALER), ROLE_FD(ROLE_WEB), FD_CONTROL, FD_AUDIT};
    for (size_t i = 0; i < 4; i++) /* out of the way first */
        from[i] = fcntl(from[i], F_DUPFD, 50);
    for (int fd = 3; fd < 50; fd++)
        close(fd);
    for (size_t i = 0; i < 4; i++)
        dup2(from[i], to[i]);
    closefrom(20);
    role.base = event_base_new();
    if (chdir(dir) != 0 || store_role.prepare(&role) != SP_OK)
        _exit(3);
    role.supervisor = ipc_peer_new(role.base, FD_CONTROL, &control, &role);
    if (store_role.run(&role) != SP_OK)
        _exit(4);
    ipc_loop(role.base);
    _exit(0);
}

/* --- the tree around it --- */

static void start(struct tree *t)
{
    int sealer[2], web[2], ctl[2], audit[2];
    assert_int_equal(ipc_pair(sealer), SP_OK);
    assert_int_equal(ipc_pair(web), SP_OK);
    assert_int_equal(ipc_pair(ctl), SP_OK);
    assert_int_equal(ipc_pair(audit), SP_OK);
    t->pid = fork();
    assert_true(t->pid >= 0);
    if (t->pid == 0)
        child(t->dir, sealer[1], web[1], ctl[1], audit[1]);
    close(sealer[1]);
    close(web[1]);
    close(ctl[1]);
    close(audit[1]);
    t->sealer = sealer[0];
    t->web = web[0];
    t->control = ctl[0];
    t->audit = audit[0];
    t->head = 0;
}

static void send_ring(struct tree *t)
{
    uint8_t buf[8];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u64(&out, RING);
    assert_int_equal(ipc_send_fd(t->sealer, SS_RING, 0, buf, 8, t->ring_fd), SP_OK);
}

static void end(struct tree *t, int signal_number)
{
    int status;
    kill(t->pid, signal_number);
    assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
    close(t->sealer);
    close(t->web);
    close(t->control);
    close(t->audit);
}

static int set_up(void **state)
{
    struct tree *t = calloc(1, sizeof(*t));
    snprintf(t->dir, sizeof(t->dir), "/tmp/sealpost-role-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    t->ring_fd = memfd_create("ring", MFD_CLOEXEC);
    assert_int_equal(ftruncate(t->ring_fd, RING), 0);
    t->ring = mmap(NULL, RING, PROT_READ | PROT_WRITE, MAP_SHARED, t->ring_fd, 0);
    start(t);
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    static const char *const files[] = {"data.mdb", "lock.mdb", "owner.lock"};
    struct tree *t = *state;
    char path[128];
    end(t, SIGKILL);
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", t->dir, files[i]);
        unlink(path);
    }
    rmdir(t->dir);
    munmap(t->ring, RING);
    close(t->ring_fd);
    free(t);
    return 0;
}

static uint8_t received[IPC_HEADER + IPC_MAX_PAYLOAD];

/* The next frame, SS_CONSUMED passed over; fails after five seconds. */
static struct ipc_frame next(int sock)
{
    struct ipc_frame f;
    do {
        struct pollfd p = {.fd = sock, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 5000), 1);
        assert_int_equal(ipc_recv(sock, received, sizeof(received), &f), SP_OK);
    } while (f.type == SS_CONSUMED);
    return f;
}

static void expect_end(int sock)
{
    struct ipc_frame f;
    enum sp_err err;
    do {
        struct pollfd p = {.fd = sock, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 5000), 1);
        err = ipc_recv(sock, received, sizeof(received), &f);
    } while (err == SP_OK);
    assert_int_equal(err, SP_ERR_PEER);
}

/* Sends a frame; the status of the answer, whose other fields are left in *body. */
static enum sp_err ask(int sock, uint16_t type, const struct wire_out *out, struct wire_in *body)
{
    assert_int_equal(ipc_send_fd(sock, type, 7, out->at, out->len, -1), SP_OK);
    struct ipc_frame f = next(sock);
    assert_int_equal(f.type, type == SS_LOOKUP ? SS_LOOKUP_REPLY : type | 0x80);
    assert_int_equal(f.id, 7);
    *body = f.body;
    return wire_get_u8(body);
}

static void expect_event(struct tree *t, enum audit_event event)
{
    struct ipc_frame f = next(t->audit);
    assert_int_equal(f.type, AU_EVENT);
    assert_int_equal(wire_get_u16(&f.body), event);
}

/* --- operators --- */

static enum sp_err operate(struct tree *t, const char *const *words, size_t n, char text[1024],
                           uint32_t *rows)
{
    uint8_t buf[4096];
    int pair[2];
    size_t len;
    struct wire_out out = wire_out(buf, sizeof(buf));
    assert_int_equal(ipc_pair(pair), SP_OK);
    assert_int_equal(ipc_send_fd(t->control, CT_ADMIN, 0, NULL, 0, pair[1]), SP_OK);
    close(pair[1]);
    wire_put_u16(&out, (uint16_t)n);
    for (size_t i = 0; i < n; i++)
        wire_put_str(&out, words[i]);
    assert_int_equal(ipc_send_fd(pair[0], CC_REQUEST, 9, buf, out.len, -1), SP_OK);
    struct ipc_frame f = next(pair[0]);
    close(pair[0]);
    assert_int_equal(f.type, CC_TABLE);
    assert_int_equal(f.flags, CC_LAST);
    enum sp_err err = wire_get_u8(&f.body);
    const uint8_t *message = wire_get_b16(&f.body, 1023, &len);
    memcpy(text, message, len);
    text[len] = '\0';
    wire_get_u16(&f.body);
    *rows = wire_get_u32(&f.body);
    return err;
}

#define OPERATE(t, text, rows, ...)                                                                \
    operate(t, (const char *const[]){__VA_ARGS__},                                                 \
            sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *), text, rows)

/* --- a client --- */

struct client {
    struct chain_device device;
    uint8_t sign_sk[64], user_id[ID_SIZE], token[TOKEN];
    struct sigchain chain;
};

static struct chain_signer signer(const struct client *c)
{
    return (struct chain_signer){c->device.id, c->sign_sk, 1000};
}

static void make_root(struct client *c, const char *address, uint8_t *wire, size_t *len)
{
    uint8_t puk[KEY_SIZE];
    randombytes_buf(puk, sizeof(puk));
    randombytes_buf(c->user_id, ID_SIZE);
    randombytes_buf(c->device.id, ID_SIZE);
    randombytes_buf(c->device.box_pk, KEY_SIZE);
    crypto_sign_keypair(c->device.sign_pk, c->sign_sk);
    struct chain_signer by = signer(c);
    assert_int_equal(sigchain_make_root(c->user_id, &by, &c->device, puk, address, wire, len),
                     SP_OK);
    sigchain_init(&c->chain);
    assert_int_equal(sigchain_apply(&c->chain, wire, *len), SP_OK);
}

static enum sp_err enrol(struct tree *t, const char *address, const char *code, const uint8_t *wire,
                         size_t len)
{
    uint8_t buf[4096];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct wire_in in;
    wire_put_str(&out, address);
    wire_put_str(&out, code);
    wire_put_b32(&out, wire, len);
    return ask(t->web, SW_ENROLL, &out, &in);
}

/* signature_by: the key that signs; url: the one that is signed. */
static enum sp_err login(struct tree *t, struct client *c, const char *url,
                         const uint8_t *challenge)
{
    uint8_t text[512], buf[256], fresh[TOKEN], signature[SIGN_SIZE];
    struct wire_out none = wire_out(buf, 0), out = wire_out(buf, sizeof(buf)),
                    sign = wire_out(text, sizeof(text));
    struct wire_in in;
    if (challenge == NULL) {
        assert_int_equal(ask(t->web, SW_CHALLENGE, &none, &in), SP_OK);
        wire_get_copy(&in, fresh, TOKEN);
        challenge = fresh;
    }
    wire_put_str(&sign, "sealpost/1 session");
    wire_put_str(&sign, url);
    wire_put_bytes(&sign, challenge, TOKEN);
    wire_put_bytes(&sign, c->user_id, ID_SIZE);
    wire_put_bytes(&sign, c->device.id, ID_SIZE);
    crypto_sign_detached(signature, NULL, text, sign.len, c->sign_sk);
    wire_put_bytes(&out, c->user_id, ID_SIZE);
    wire_put_bytes(&out, c->device.id, ID_SIZE);
    wire_put_bytes(&out, challenge, TOKEN);
    wire_put_bytes(&out, signature, SIGN_SIZE);
    enum sp_err err = ask(t->web, SW_LOGIN, &out, &in);
    if (err == SP_OK) {
        wire_get_copy(&in, c->token, TOKEN);
        assert_int_equal(wire_get_u32(&in), 900);
    }
    return err;
}

/* An enrolled user who is logged in. */
static void new_client(struct tree *t, struct client *c, const char *address)
{
    uint8_t wire[SIGCHAIN_MAX_WIRE];
    char code[1024];
    uint32_t rows;
    size_t len;
    memset(c, 0, sizeof(*c));
    assert_int_equal(OPERATE(t, code, &rows, "user", "add", address), SP_OK);
    expect_event(t, AUDIT_USER_ADDED);
    make_root(c, address, wire, &len);
    assert_int_equal(enrol(t, address, code, wire, len), SP_OK);
    expect_event(t, AUDIT_USER_ENROLLED);
    assert_int_equal(login(t, c, URL, NULL), SP_OK);
}

/* --- the sealer --- */

static enum sp_err lookup(struct tree *t, const char *address, struct wire_in *in)
{
    uint8_t buf[512];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_str(&out, address);
    return ask(t->sealer, SS_LOOKUP, &out, in);
}

static void send_block_at(struct tree *t, uint64_t upload, uint16_t piece, uint64_t position,
                          uint32_t n)
{
    uint8_t buf[64];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u64(&out, upload);
    wire_put_u16(&out, piece);
    wire_put_u64(&out, position);
    wire_put_u32(&out, n);
    assert_int_equal(ipc_send_fd(t->sealer, SS_BLOCK, 0, buf, out.len, -1), SP_OK);
}

static void send_block(struct tree *t, uint64_t upload, uint16_t piece, uint32_t n)
{
    if (RING - t->head % RING < n)
        t->head += RING - t->head % RING;
    for (uint32_t i = 0; i < n; i++)
        t->ring[t->head % RING + i] = (uint8_t)(upload + i);
    send_block_at(t, upload, piece, t->head, n);
    t->head += n;
}

/* says: the piece's length in the envelope. */
static void send_commit(struct tree *t, uint64_t upload, uint8_t mark, const struct client *c,
                        uint64_t says)
{
    uint8_t e_buf[1024], b_buf[512], buf[2048], manifest[200] = {0}, sealed[72] = {0};
    size_t e_len, b_len;
    struct envelope e = {.suite = ENVELOPE_SUITE_X25519,
                         .n_pieces = 1,
                         .piece_length = {says},
                         .manifest = manifest,
                         .manifest_len = cake_sealed_length(100)};
    struct box b = {.kind = BOX_USER, .puk_generation = 1, .sealed = sealed, .sealed_len = 72};
    memset(e.message_id, mark, ID_SIZE);
    e.message_id[6] = 0x70;
    e.message_id[8] = 0x80;
    memset(e.ephemeral_pk, 9, KEY_SIZE);
    memset(b.recipient_pk, 9, KEY_SIZE);
    memcpy(b.recipient_id, c->user_id, ID_SIZE);
    assert_int_equal(envelope_encode(&e, e_buf, sizeof(e_buf), &e_len), SP_OK);
    assert_int_equal(box_encode(&b, b_buf, sizeof(b_buf), &b_len), SP_OK);
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u64(&out, upload);
    wire_put_bytes(&out, e.message_id, ID_SIZE);
    wire_put_u64(&out, 12345);
    wire_put_u16(&out, 1);
    wire_put_b32(&out, e_buf, e_len);
    wire_put_u16(&out, 1);
    wire_put_bytes(&out, c->user_id, ID_SIZE);
    wire_put_b32(&out, b_buf, b_len);
    assert_int_equal(ipc_send_fd(t->sealer, SS_COMMIT, (uint32_t)upload, buf, out.len, -1), SP_OK);
}

static enum sp_err commit_status(struct tree *t, uint64_t upload)
{
    struct ipc_frame f = next(t->sealer);
    assert_int_equal(f.type, SS_COMMIT_REPLY);
    assert_int_equal(f.id, upload);
    return wire_get_u8(&f.body);
}

static uint16_t list(struct tree *t, const struct client *c, uint8_t id[ID_SIZE])
{
    uint8_t buf[64];
    struct wire_out out = wire_out(buf, sizeof(buf));
    struct wire_in in;
    wire_put_bytes(&out, c->token, TOKEN);
    wire_put_u64(&out, 0);
    wire_put_u16(&out, 500);
    assert_int_equal(ask(t->web, SW_LIST, &out, &in), SP_OK);
    uint16_t n = wire_get_u16(&in);
    wire_get_u64(&in);
    wire_get_copy(&in, id, ID_SIZE);
    return n;
}

/* --- tests --- */

static void test_operators(void **state)
{
    struct tree *t = *state;
    char text[1024];
    uint32_t rows;
    assert_int_equal(OPERATE(t, text, &rows, "user", "add", "Ann@Example.org"), SP_OK);
    assert_int_equal(strlen(text), 29);
    expect_event(t, AUDIT_USER_ADDED);
    assert_int_equal(OPERATE(t, text, &rows, "user", "add", "x@elsewhere.org"), SP_ERR_DENIED);
    assert_int_equal(OPERATE(t, text, &rows, "user", "add", "nobody"), SP_ERR_FORMAT);
    assert_int_equal(OPERATE(t, text, &rows, "user", "add"), SP_ERR_CONFIG);
    assert_int_equal(OPERATE(t, text, &rows, "dance"), SP_ERR_CONFIG);
    assert_non_null(strstr(text, "alias add ALIAS ADDRESS..."));
    assert_int_equal(OPERATE(t, text, &rows, "alias", "add", "all@example.org", ADDRESS), SP_OK);
    expect_event(t, AUDIT_ALIAS_CHANGED);
    assert_int_equal(OPERATE(t, text, &rows, "alias", "list"), SP_OK);
    assert_int_equal(rows, 2);
    assert_int_equal(OPERATE(t, text, &rows, "user", "list"), SP_OK);
    assert_int_equal(rows, 2);
    assert_int_equal(OPERATE(t, text, &rows, "user", "remove", ADDRESS), SP_ERR_DENIED);
    assert_int_equal(OPERATE(t, text, &rows, "alias", "remove", "all@example.org"), SP_OK);
    expect_event(t, AUDIT_ALIAS_CHANGED);
    assert_int_equal(OPERATE(t, text, &rows, "user", "remove", ADDRESS), SP_OK);
    expect_event(t, AUDIT_USER_REMOVED);
    assert_int_equal(OPERATE(t, text, &rows, "user", "list"), SP_OK);
    assert_int_equal(rows, 1);
}

static void test_enrolment(void **state)
{
    struct tree *t = *state;
    struct client c, other;
    struct wire_in in;
    uint8_t wire[SIGCHAIN_MAX_WIRE], challenge[TOKEN] = {0};
    char code[1024];
    uint32_t rows;
    size_t len;
    send_ring(t);
    assert_int_equal(OPERATE(t, code, &rows, "user", "add", ADDRESS), SP_OK);
    expect_event(t, AUDIT_USER_ADDED);
    assert_int_equal(lookup(t, ADDRESS, &in), SP_ERR_NO_KEY);
    make_root(&c, "bob@example.org", wire, &len);
    assert_int_equal(enrol(t, ADDRESS, code, wire, len), SP_ERR_FORMAT); /* another's root */
    make_root(&c, "ANN@example.org", wire, &len);
    assert_int_equal(enrol(t, ADDRESS, "AAAA-AAAA", wire, len), SP_ERR_AUTH);
    assert_int_equal(enrol(t, "zoe@example.org", code, wire, len), SP_ERR_AUTH);
    wire[20] ^= 1;
    assert_int_equal(enrol(t, ADDRESS, code, wire, len), SP_ERR_FORMAT);
    wire[20] ^= 1;
    assert_int_equal(enrol(t, ADDRESS, code, wire, len), SP_OK);
    expect_event(t, AUDIT_USER_ENROLLED);
    assert_int_equal(enrol(t, ADDRESS, code, wire, len), SP_ERR_EXISTS);
    assert_int_equal(login(t, &c, "https://evil.example", NULL), SP_ERR_AUTH);
    assert_int_equal(login(t, &c, URL, challenge), SP_ERR_AUTH); /* not one of ours */
    other = c;
    randombytes_buf(other.device.id, ID_SIZE);
    assert_int_equal(login(t, &other, URL, NULL), SP_ERR_AUTH);
    assert_int_equal(login(t, &c, URL, NULL), SP_OK);
    assert_int_equal(lookup(t, "Ann+tag@EXAMPLE.org", &in), SP_OK);
    assert_int_equal(wire_get_u16(&in), 1);
    assert_memory_equal(wire_get_bytes(&in, ID_SIZE), c.user_id, ID_SIZE);
    assert_int_equal(wire_get_u32(&in), 1);
    assert_memory_equal(wire_get_bytes(&in, KEY_SIZE), c.chain.puk_pk, KEY_SIZE);
    assert_int_equal(lookup(t, "postmaster", &in), SP_OK);
    assert_int_equal(lookup(t, "bob@example.org", &in), SP_ERR_NOT_FOUND);
    assert_int_equal(lookup(t, "ann@elsewhere.org", &in), SP_ERR_NOT_FOUND);
}

static void test_lock(void **state)
{
    struct tree *t = *state;
    struct client c;
    uint8_t wire[SIGCHAIN_MAX_WIRE];
    char code[1024];
    uint32_t rows;
    size_t len;
    assert_int_equal(OPERATE(t, code, &rows, "user", "add", ADDRESS), SP_OK);
    expect_event(t, AUDIT_USER_ADDED);
    make_root(&c, ADDRESS, wire, &len);
    for (int i = 0; i < 10; i++) {
        if (i == 5) { /* tries outlive a crash */
            end(t, SIGKILL);
            start(t);
        }
        assert_int_equal(enrol(t, ADDRESS, "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA", wire, len),
                         SP_ERR_AUTH);
    }
    expect_event(t, AUDIT_CODE_LOCKED);
    assert_int_equal(enrol(t, ADDRESS, code, wire, len), SP_ERR_EXPIRED);
    assert_int_equal(OPERATE(t, code, &rows, "user", "add", ADDRESS), SP_OK);
    assert_int_equal(enrol(t, ADDRESS, code, wire, len), SP_OK);
}

static void test_chain(void **state)
{
    struct tree *t = *state;
    struct client c;
    struct wire_in in;
    uint8_t buf[4096], wire[SIGCHAIN_MAX_WIRE], puk[KEY_SIZE];
    size_t len;
    new_client(t, &c, ADDRESS);
    randombytes_buf(puk, sizeof(puk));
    struct chain_signer by = signer(&c);
    assert_int_equal(sigchain_make_rotate(&c.chain, &by, puk, wire, &len), SP_OK);
    for (int round = 0; round < 2; round++) {
        struct wire_out out = wire_out(buf, sizeof(buf));
        wire_put_bytes(&out, c.token, TOKEN);
        wire_put_b32(&out, wire, len);
        assert_int_equal(ask(t->web, SW_CHAIN_ADD, &out, &in), round == 0 ? SP_OK : SP_ERR_STATE);
        if (round == 0)
            expect_event(t, AUDIT_KEY_ROTATED);
    }
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_bytes(&out, c.token, TOKEN);
    for (uint8_t id = 0; id < 2; id++) { /* address, user_id */
        struct wire_out which = out;
        wire_put_u8(&which, id);
        wire_put_b16(&which, id == 0 ? (const void *)ADDRESS : c.user_id,
                     id == 0 ? strlen(ADDRESS) : ID_SIZE);
        wire_put_u32(&which, 1);
        assert_int_equal(ask(t->web, SW_CHAIN_GET, &which, &in), SP_OK);
        assert_memory_equal(wire_get_bytes(&in, ID_SIZE), c.user_id, ID_SIZE);
        assert_int_equal(wire_get_u8(&in), 0);
        assert_int_equal(in.left, len);
        assert_memory_equal(in.at, wire, len);
    }
    wire_put_u8(&out, 1);
    wire_put_b16(&out, "0123456789abcdef", ID_SIZE);
    wire_put_u32(&out, 0);
    assert_int_equal(ask(t->web, SW_CHAIN_GET, &out, &in), SP_ERR_NOT_FOUND);
    send_ring(t);
    assert_int_equal(lookup(t, ADDRESS, &in), SP_OK);
    wire_get_bytes(&in, 2 + ID_SIZE);
    assert_int_equal(wire_get_u32(&in), 2);
    assert_memory_equal(wire_get_bytes(&in, KEY_SIZE), puk, KEY_SIZE);
}

/* From any offset the rest of one and the same; the audit log hears of it once. */
static void check_message(struct tree *t, const struct wire_out *which)
{
    uint8_t whole[2048];
    struct wire_in in;
    struct wire_out out = *which;
    wire_put_u32(&out, 0);
    assert_int_equal(ask(t->web, SW_MESSAGE, &out, &in), SP_OK);
    uint32_t total = wire_get_u32(&in);
    assert_int_equal(in.left, total);
    wire_get_copy(&in, whole, total);
    expect_event(t, AUDIT_FETCHED);
    struct wire_in both = wire_in(whole, total);
    size_t len;
    wire_get_b32(&both, total, &len);
    wire_get_b32(&both, total, &len);
    assert_true(wire_in_done(&both));
    for (uint32_t offset = 1; offset <= total + 1; offset++) {
        out.len = which->len;
        wire_put_u32(&out, offset);
        assert_int_equal(ask(t->web, SW_MESSAGE, &out, &in),
                         offset <= total ? SP_OK : SP_ERR_LIMIT);
        if (offset > total)
            break;
        assert_int_equal(wire_get_u32(&in), total);
        assert_int_equal(in.left, total - offset);
        assert_memory_equal(in.at, whole + offset, in.left);
    }
}

static void test_mail(void **state)
{
    struct tree *t = *state;
    struct client ann, bob;
    struct wire_in in;
    uint8_t buf[256], id[ID_SIZE];
    size_t len;
    new_client(t, &ann, ADDRESS);
    new_client(t, &bob, "bob@example.org");
    send_ring(t);
    for (uint64_t u = 1; u <= 40; u++) { /* interleaved, and answered in one or a few groups */
        send_block(t, u, 0, 3000);
        if (u > 1) {
            send_block(t, u - 1, 0, BODY - 3000);
            send_commit(t, u - 1, (uint8_t)(u - 1), &ann, BODY);
        }
    }
    for (uint64_t u = 1; u < 40; u++)
        assert_int_equal(commit_status(t, u), SP_OK);
    send_commit(t, 40, 40, &ann, BODY); /* bytes are missing */
    assert_int_equal(commit_status(t, 40), SP_ERR_FORMAT);
    assert_int_equal(list(t, &ann, id), 39);
    assert_int_equal(list(t, &bob, id), 0);
    list(t, &ann, id);
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_bytes(&out, ann.token, TOKEN);
    wire_put_bytes(&out, id, ID_SIZE);
    struct wire_out piece = out;
    check_message(t, &out);
    wire_put_u16(&piece, 0);
    wire_put_u64(&piece, 2900);
    wire_put_u32(&piece, 65536);
    assert_int_equal(ask(t->web, SW_PIECE, &piece, &in), SP_OK);
    assert_int_equal(wire_get_u64(&in), BODY);
    const uint8_t *bytes = wire_get_b32(&in, 65536, &len);
    assert_int_equal(len, BODY - 2900);
    assert_int_equal(bytes[0], (uint8_t)(1 + 2900));
    assert_int_equal(bytes[100], 1);
    struct wire_out theirs = wire_out(buf, sizeof(buf));
    wire_put_bytes(&theirs, bob.token, TOKEN);
    wire_put_bytes(&theirs, id, ID_SIZE);
    wire_put_u32(&theirs, 0);
    assert_int_equal(ask(t->web, SW_MESSAGE, &theirs, &in), SP_ERR_NOT_FOUND);
    theirs.len = TOKEN + ID_SIZE;
    assert_int_equal(ask(t->web, SW_DELETE, &theirs, &in), SP_ERR_NOT_FOUND);
    memcpy(buf, ann.token, TOKEN);
    assert_int_equal(ask(t->web, SW_DELETE, &theirs, &in), SP_OK);
    expect_event(t, AUDIT_DELETED);
    assert_int_equal(list(t, &ann, id), 38);
    theirs.len = TOKEN;
    assert_int_equal(ask(t->web, SW_LOGOUT, &theirs, &in), SP_OK);
    theirs.len = TOKEN + ID_SIZE + 4;
    assert_int_equal(ask(t->web, SW_MESSAGE, &theirs, &in), SP_ERR_DENIED);
}

/* What was acknowledged is there after a kill; what was not is not. */
static void test_killed(void **state)
{
    struct tree *t = *state;
    struct client ann;
    uint8_t id[ID_SIZE];
    new_client(t, &ann, ADDRESS);
    send_ring(t);
    send_block(t, 1, 0, BODY);
    send_commit(t, 1, 1, &ann, BODY);
    assert_int_equal(commit_status(t, 1), SP_OK);
    send_block(t, 2, 0, BODY);
    end(t, SIGKILL);
    start(t);
    assert_int_equal(login(t, &ann, URL, NULL), SP_OK);
    assert_int_equal(list(t, &ann, id), 1);
    assert_int_equal(ipc_send_fd(t->control, CT_STOP, 0, NULL, 0, -1), SP_OK);
    expect_end(t->control);
}

/* Many rounds of the ring: consumed space comes back, large mail streams through. */
static void test_stream(void **state)
{
    struct tree *t = *state;
    struct client ann;
    uint64_t consumed = 0, sent = 0;
    new_client(t, &ann, ADDRESS);
    send_ring(t);
    for (int i = 0; i < 100; i++) {
        while (t->head + 2 * 49256 - consumed > RING) {
            struct ipc_frame f;
            assert_int_equal(ipc_recv(t->sealer, received, sizeof(received), &f), SP_OK);
            assert_int_equal(f.type, SS_CONSUMED);
            consumed = wire_get_u64(&f.body);
        }
        send_block(t, 1, 0, 49256);
        sent += 49256;
    }
    send_commit(t, 1, 1, &ann, sent);
    assert_int_equal(commit_status(t, 1), SP_OK);
}

static void test_full(void **state)
{
    struct tree *t = *state;
    struct client ann;
    struct wire_in in;
    uint64_t consumed = 0, sent = 0;
    new_client(t, &ann, ADDRESS);
    send_ring(t);
    for (int i = 0; i < 900; i++) { /* 44 MB into a map of 32 */
        while (t->head + 2 * 49256 - consumed > RING) {
            struct ipc_frame f;
            assert_int_equal(ipc_recv(t->sealer, received, sizeof(received), &f), SP_OK);
            consumed = wire_get_u64(&f.body);
        }
        send_block(t, 1, 0, 49256);
        sent += 49256;
    }
    assert_int_equal(lookup(t, ADDRESS, &in), SP_ERR_NO_SPACE);
    send_commit(t, 1, 1, &ann, sent);
    assert_int_equal(commit_status(t, 1), SP_ERR_NO_SPACE);
    for (int i = 0; i < 200 && lookup(t, ADDRESS, &in) != SP_OK; i++)
        usleep(10000); /* until it is swept */
    send_block(t, 2, 0, BODY);
    send_commit(t, 2, 2, &ann, BODY);
    assert_int_equal(commit_status(t, 2), SP_OK);
}

/* --- a sealer, or web, that was taken over --- */

static void test_before_ring(void **state)
{
    struct tree *t = *state;
    send_block_at(t, 1, 0, 0, 10);
    expect_end(t->sealer);
}

static void test_second_ring(void **state)
{
    struct tree *t = *state;
    send_ring(t);
    send_ring(t);
    expect_end(t->sealer);
}

static void test_ring_size(void **state)
{
    struct tree *t = *state;
    uint8_t buf[8];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u64(&out, RING * 2); /* reading behind the end would kill */
    assert_int_equal(ipc_send_fd(t->sealer, SS_RING, 0, buf, 8, t->ring_fd), SP_OK);
    expect_end(t->sealer);
}

static void test_bad_blocks(void **state)
{
    static const struct {
        uint64_t position;
        uint32_t n;
        uint16_t piece;
    } bad[] = {
        {RING - 1, 2, 0},     {5, 10, 0},           {100, 0, 0},
        {RING * 2ull, 10, 0}, {100, UINT32_MAX, 0}, {100, RING + 1, 0},
        {UINT64_MAX, 1, 0},   {UINT64_MAX, 2, 0},   {100, 10, 256},
    };
    struct tree *t = *state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        send_ring(t);
        send_block_at(t, 1, 0, 0, 100); /* good */
        send_block_at(t, 1, bad[i].piece, bad[i].position, bad[i].n);
        expect_end(t->sealer);
        end(t, SIGKILL);
        start(t);
    }
}

static void test_bad_frames(void **state)
{
    struct tree *t = *state;
    uint8_t junk[64];
    static const uint16_t types[] = {SS_LOOKUP, SS_COMMIT, SS_COMMIT_REPLY, SS_ABORT, CC_REQUEST};
    memset(junk, 0xff, sizeof(junk));
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        send_ring(t);
        assert_int_equal(ipc_send_fd(t->sealer, types[i], 1, junk, sizeof(junk), -1), SP_OK);
        expect_end(t->sealer);
        assert_int_equal(ipc_send_fd(t->web, SW_LIST, 1, junk, TOKEN + 10 + i, -1), SP_OK);
        expect_end(t->web);
        end(t, SIGKILL);
        start(t);
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_operators),   T(test_enrolment),   T(test_lock),      T(test_chain),
        T(test_mail),        T(test_killed),      T(test_stream),    T(test_full),
        T(test_before_ring), T(test_second_ring), T(test_ring_size), T(test_bad_blocks),
        T(test_bad_frames),
    };
    if (sodium_init() < 0)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
