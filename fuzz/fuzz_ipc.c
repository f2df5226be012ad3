/* libs: -lcrypto -lsodium -levent */
/* Frames from a peer that was taken over, through a real socket pair: any bytes, any number of
 * descriptors, any size. Handlers see what the table says and no more; no descriptor is left over.
 * The first three bytes of each record: length, kind (descriptors, type), what to do after it. */
#include "daemon/ipc.c"
#include "envelope/error.c"
#include "envelope/wire.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct ipc_peer *fuzz_peer;
static struct event_base *fuzz_base;
static unsigned fuzz_gone, fuzz_once;
static bool fuzz_keeps; /* gone() does not free */

static void insist(bool good)
{
    if (!good)
        abort();
}

void lockmem_wipe(void *at, size_t len)
{
    explicit_bzero(at, len);
}

static void check_frame(const struct ipc_peer *peer, const struct ipc_frame *f, size_t rule)
{
    insist(peer == fuzz_peer && fuzz_gone == 0);
    const struct ipc_rule *r = &peer->rules->rule[rule];
    insist(f->type == r->type && f->body.left >= r->min && f->body.left <= r->max);
    insist((f->fd >= 0) == r->fd && !f->body.bad);
}

static enum sp_err on_any(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    (void)ctx;
    check_frame(peer, f, 0);
    if (f->body.left > 3)
        wire_get_bytes(&f->body, f->body.left);
    return SP_OK; /* up to three bytes are left: it ends */
}

static enum sp_err on_keep(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    (void)ctx;
    check_frame(peer, f, 1);
    insist(fcntl(f->fd, F_GETFD) == FD_CLOEXEC);
    close(f->fd);
    f->fd = -1;
    return wire_get_u16(&f->body) == 7 ? SP_ERR_AUTH : SP_OK;
}

static enum sp_err on_single(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    (void)ctx;
    check_frame(peer, f, 2);
    insist(fuzz_once++ == 0);
    return SP_OK;
}

static enum sp_err on_answer(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    uint8_t bytes[2000] = {0};
    struct wire_out body = {.at = bytes, .len = sizeof(bytes), .cap = sizeof(bytes)};
    (void)ctx;
    check_frame(peer, f, 3);
    unsigned n = wire_get_u16(&f->body);
    for (unsigned i = 0; i < n; i++)
        ipc_peer_send(peer, 1, i, &body, i % 7 == 0 ? 0 : -1);
    return SP_OK;
}

static enum sp_err on_permit(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    (void)ctx;
    check_frame(peer, f, 4);
    uint8_t what = wire_get_u8(&f->body);
    ipc_peer_pause(peer, what & 1);
    if (what & 2)
        ipc_deny(peer, 1);
    if (what & 4)
        ipc_permit_only(peer, 0x1f & ~4u);
    fuzz_keeps = what & 8;
    return SP_OK;
}

static enum sp_err on_end(void *ctx, struct ipc_peer *peer, struct ipc_frame *f)
{
    (void)ctx;
    check_frame(peer, f, 5);
    fuzz_peer = NULL;
    ipc_peer_free(peer);
    return f->id & 1 ? SP_OK : SP_ERR_LIMIT;
}

static void on_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    (void)ctx;
    insist(peer == fuzz_peer && fuzz_gone++ == 0 && why != SP_OK && why != SP_ERR_STATE);
    if (fuzz_keeps)
        return;
    fuzz_peer = NULL;
    ipc_peer_free(peer);
}

static const struct ipc_rule table[] = {
    {1, false, false, 0, 300, on_any},  {2, true, false, 2, 2, on_keep},
    {3, false, true, 0, 0, on_single},  {4, false, false, 2, 2, on_answer},
    {5, false, false, 1, 1, on_permit}, {6, false, false, 0, 0, on_end},
};
static const struct ipc_rules rules = {table, 6, UINT64_MAX, on_gone};

/* One hostile frame, with up to seven descriptors. */
static void throw_frame(int sock, const uint8_t *bytes, size_t len, unsigned n_fd)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(7 * sizeof(int))];
    } control = {0};
    if (n_fd > 0) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(n_fd * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fd * sizeof(int)); /* all zeros: standard input */
    }
    sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void turn(uint8_t what, int *sock)
{
    static uint8_t buf[IPC_HEADER + 4096];
    if (what & 1)
        event_base_loop(fuzz_base, EVLOOP_NONBLOCK);
    for (unsigned i = 0; (what & 2) && i < (what >> 4); i++) {
        struct ipc_frame f;
        if (receive(*sock, buf, sizeof(buf), MSG_DONTWAIT, &f) == SP_OK && f.fd >= 0)
            close(f.fd);
    }
    if ((what & 4) && fuzz_peer != NULL)
        ipc_peer_pause(fuzz_peer, false);
    if (what == 0xff)
        shutdown(*sock, SHUT_RDWR);
}

/* Which descriptors come next: tells of any that was left open among them. */
static uint64_t free_descriptors(void)
{
    uint64_t sum = 0;
    int fd[10];
    for (int i = 0; i < 10; i++) {
        fd[i] = dup(0);
        sum = sum * 31 + (uint64_t)fd[i];
    }
    for (int i = 0; i < 10; i++)
        close(fd[i]);
    return sum;
}

static void run(const uint8_t *data, size_t size, int *sock)
{
    uint8_t frame[1024] = {0};
    while (size >= 3) {
        size_t len = data[0];
        uint8_t kind = data[1], after = data[2];
        data += 3;
        size -= 3;
        size_t n = len < size ? len : size;
        frame[1] = kind & 7; /* type: most of the time one that exists */
        memcpy(frame + 2, data, n);
        throw_frame(*sock, frame, kind & 8 ? n : n + 2, kind >> 5);
        data += n;
        size -= n;
        turn(after, sock);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ipc_frame f;
    int pair[2];
    if (fuzz_base == NULL)
        fuzz_base = event_base_new();
    uint64_t before = free_descriptors();
    if (ipc_decode(data, size, &f) == SP_OK)
        insist(size >= IPC_HEADER && f.body.left == size - IPC_HEADER && f.fd == -1);
    insist(ipc_pair(pair) == SP_OK);
    fuzz_gone = fuzz_once = 0;
    fuzz_keeps = false;
    fuzz_peer = ipc_peer_new(fuzz_base, pair[0], &rules, NULL);
    run(data, size, &pair[1]);
    close(pair[1]);
    for (int i = 0; i < 200 && fuzz_peer != NULL && fuzz_gone == 0; i++) {
        ipc_peer_pause(fuzz_peer, false);
        event_base_loop(fuzz_base, EVLOOP_NONBLOCK);
    }
    insist(fuzz_peer == NULL || fuzz_gone == 1); /* the end is always seen */
    ipc_peer_free(fuzz_peer);
    insist(free_descriptors() == before);
    return 0;
}
