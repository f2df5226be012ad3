#ifndef SEALPOST_TESTS_STORE_TREE_H
#define SEALPOST_TESTS_STORE_TREE_H
/* The store's role in a child over socket pairs; the test plays everybody around it: sealer, web,
 * keeper, relay, operators, the audit role. */
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
    int sealer, web, keeper, relay, control, audit;
    int ring_fd;
    uint8_t *ring;
    uint64_t head;
    int keeper_room; /* of the store's socket to the keeper, in bytes; 0: the system's */
    uint32_t wanted; /* jobs that the relay has asked for and not got */
};

/* --- the child --- */

static inline enum sp_err on_control(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
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

static inline void on_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
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

enum { SEALER, WEB, KEEPER, RELAY, CONTROL, AUDIT, ENDS };

static inline void child(const char *dir, const int end[ENDS])
{
    static char domain[] = "example.org", url[] = URL;
    struct config config = {.map_size = 32u << 20,
                            .code_expiry = 3600,
                            .web_url = url,
                            .send_recipients = 20,
                            .send_messages = 10,
                            .send_bytes = 1u << 20,
                            .deliveries = 4,
                            .per_destination = 2,
                            .retry_for = 86400};
    struct role role = {.ops = &store_role, .config = &config};
    int to[ENDS] = {ROLE_FD(ROLE_SEALER), ROLE_FD(ROLE_WEB), ROLE_FD(ROLE_KEEPER),
                    ROLE_FD(ROLE_RELAY),  FD_CONTROL,        FD_AUDIT};
    int from[ENDS];
    config.domain.count = 1;
    config.domain.item[0] = domain;
    for (size_t i = 0; i < ENDS; i++) /* out of the way first */
        from[i] = fcntl(end[i], F_DUPFD, 50);
    for (int fd = 3; fd < 50; fd++)
        close(fd);
    for (size_t i = 0; i < ENDS; i++)
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

static inline void start(struct tree *t)
{
    int pair[ENDS][2], theirs[ENDS];
    int *ours[ENDS] = {&t->sealer, &t->web, &t->keeper, &t->relay, &t->control, &t->audit};
    for (size_t i = 0; i < ENDS; i++) {
        assert_int_equal(ipc_pair(pair[i]), SP_OK);
        *ours[i] = pair[i][0];
        theirs[i] = pair[i][1];
    }
    if (t->keeper_room > 0)
        setsockopt(theirs[KEEPER], SOL_SOCKET, SO_SNDBUF, &t->keeper_room, sizeof(int));
    t->pid = fork();
    assert_true(t->pid >= 0);
    if (t->pid == 0)
        child(t->dir, theirs);
    for (size_t i = 0; i < ENDS; i++)
        close(theirs[i]);
    t->head = 0;
}

static inline void send_ring(struct tree *t)
{
    uint8_t buf[8];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u64(&out, RING);
    assert_int_equal(ipc_send_fd(t->sealer, SS_RING, 0, buf, 8, t->ring_fd), SP_OK);
}

static inline void end(struct tree *t, int signal_number)
{
    int status;
    kill(t->pid, signal_number);
    assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
    close(t->sealer);
    close(t->web);
    close(t->keeper);
    close(t->relay);
    close(t->control);
    close(t->audit);
}

static inline int set_up(void **state)
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

static inline int tear_down(void **state)
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
static inline struct ipc_frame next(int sock)
{
    struct ipc_frame f;
    do {
        struct pollfd p = {.fd = sock, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 5000), 1);
        assert_int_equal(ipc_recv(sock, received, sizeof(received), &f), SP_OK);
    } while (f.type == SS_CONSUMED);
    return f;
}

static inline void expect_end(int sock)
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

/* The store ends by itself, with an error. */
static inline void expect_exit(const struct tree *t)
{
    siginfo_t info = {0};
    assert_int_equal(waitid(P_PID, (id_t)t->pid, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(info.si_code, CLD_EXITED);
    assert_int_equal(info.si_status, EXIT_FAILURE);
}

/* Sends a frame; the status of the answer, whose other fields are left in *body. */
static inline enum sp_err ask(int sock, uint16_t type, const struct wire_out *out,
                              struct wire_in *body)
{
    assert_int_equal(ipc_send_fd(sock, type, 7, out->at, out->len, -1), SP_OK);
    struct ipc_frame f = next(sock);
    assert_int_equal(f.type, type == SS_LOOKUP ? SS_LOOKUP_REPLY : type | 0x80);
    assert_int_equal(f.id, 7);
    *body = f.body;
    return wire_get_u8(body);
}

static inline void expect_event(struct tree *t, enum audit_event event)
{
    struct ipc_frame f = next(t->audit);
    assert_int_equal(f.type, AU_EVENT);
    assert_int_equal(wire_get_u16(&f.body), event);
}

/* --- operators --- */

static inline enum sp_err operate(struct tree *t, const char *const *words, size_t n,
                                  char text[1024], uint32_t *rows)
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

static inline struct chain_signer signer(const struct client *c)
{
    return (struct chain_signer){c->device.id, c->sign_sk, 1000};
}

static inline void make_root(struct client *c, const char *address, uint8_t *wire, size_t *len)
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

static inline enum sp_err enrol(struct tree *t, const char *address, const char *code,
                                const uint8_t *wire, size_t len)
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
static inline enum sp_err login(struct tree *t, struct client *c, const char *url,
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
static inline void new_client(struct tree *t, struct client *c, const char *address)
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

static inline enum sp_err lookup(struct tree *t, const char *address, struct wire_in *in)
{
    uint8_t buf[512];
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_str(&out, address);
    return ask(t->sealer, SS_LOOKUP, &out, in);
}

static inline void send_block_at(struct tree *t, uint64_t upload, uint16_t piece, uint64_t position,
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

static inline void send_block(struct tree *t, uint64_t upload, uint16_t piece, uint32_t n)
{
    if (RING - t->head % RING < n)
        t->head += RING - t->head % RING;
    for (uint32_t i = 0; i < n; i++)
        t->ring[t->head % RING + i] = (uint8_t)(upload + i);
    send_block_at(t, upload, piece, t->head, n);
    t->head += n;
}

/* says: the piece's length in the envelope. */
static inline void send_commit(struct tree *t, uint64_t upload, uint8_t mark,
                               const struct client *c, uint64_t says)
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

static inline enum sp_err commit_status(struct tree *t, uint64_t upload)
{
    struct ipc_frame f = next(t->sealer);
    assert_int_equal(f.type, SS_COMMIT_REPLY);
    assert_int_equal(f.id, upload);
    return wire_get_u8(&f.body);
}

static inline uint16_t list(struct tree *t, const struct client *c, uint8_t id[ID_SIZE])
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

#endif
