/* How fast the store's process takes mail from a sealer that does nothing else: frames, ring, group
 * commit, disk. Plays the sealer with so many messages in flight.   store_role DIR */
#include "daemon/audit/events.h"
#include "daemon/messages.h"
#include "daemon/role.h"
#include "envelope/envelope.h"
#include "storage/store.h"

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RING  (32u << 20)
#define BLOCK 49256u

static int sock, ring_fd;
static uint8_t *ring, user_id[ID_SIZE] = {1};
static uint64_t head, consumed, next_upload, answered;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(int good, const char *what)
{
    if (good)
        return;
    perror(what);
    exit(1);
}

static void child(const char *dir, int sealer, int web)
{
    struct config config = {.map_size = UINT64_C(8) << 30, .code_expiry = 3600};
    struct role role = {.ops = &store_role, .config = &config};
    dup2(fcntl(web, F_DUPFD, 50), ROLE_FD(ROLE_WEB));
    dup2(sealer, ROLE_FD(ROLE_SEALER));
    role.base = event_base_new();
    must(chdir(dir) == 0 && store_role.prepare(&role) == SP_OK, "prepare");
    must(store_role.run(&role) == SP_OK, "run");
    ipc_loop(role.base);
    _exit(0);
}

static void make_user(const char *dir)
{
    struct store *s;
    struct store_user u;
    uint8_t hash[HASH_SIZE] = {0};
    must(store_open(dir, 1u << 30, &s) == SP_OK, "open");
    store_user_add(s, "a@x", hash, 1);
    store_commit(s);
    store_user_by_address(s, "a@x", &u);
    memcpy(u.user_id, user_id, ID_SIZE);
    u.chain_seq = u.generation = 1;
    store_chain_add(s, &u, hash, 32);
    must(store_commit(s) == SP_OK, "user");
    store_close(s);
}

static void receive(void)
{
    static uint8_t buf[IPC_HEADER + IPC_MAX_PAYLOAD];
    struct ipc_frame f;
    must(ipc_recv(sock, buf, sizeof(buf), &f) == SP_OK, "receive");
    if (f.type == SS_CONSUMED) {
        consumed = wire_get_u64(&f.body);
    } else {
        must(wire_get_u8(&f.body) == SP_OK, "commit");
        answered++;
    }
}

static void block(uint64_t upload, uint32_t n)
{
    uint8_t buf[32];
    struct wire_out out = wire_out(buf, sizeof(buf));
    if (RING - head % RING < n)
        head += RING - head % RING;
    while (head + n - consumed > RING)
        receive();
    memset(ring + head % RING, (int)upload, n);
    wire_put_u64(&out, upload);
    wire_put_u16(&out, 0);
    wire_put_u64(&out, head);
    wire_put_u32(&out, n);
    must(ipc_send_fd(sock, SS_BLOCK, 0, buf, out.len, -1) == SP_OK, "block");
    head += n;
}

static void commit(uint64_t upload, uint64_t size)
{
    uint8_t e_buf[1024], b_buf[512], buf[2048], manifest[600] = {0}, sealed[72] = {0};
    size_t e_len = 0, b_len = 0;
    struct envelope e = {.suite = ENVELOPE_SUITE_X25519,
                         .n_pieces = 1,
                         .piece_length = {size},
                         .manifest = manifest,
                         .manifest_len = cake_sealed_length(400)};
    struct box b = {.kind = BOX_USER, .puk_generation = 1, .sealed = sealed, .sealed_len = 72};
    keys_uuid7((uint64_t)time(NULL) * 1000, e.message_id);
    memset(e.ephemeral_pk, 9, KEY_SIZE);
    memset(b.recipient_pk, 9, KEY_SIZE);
    memcpy(b.recipient_id, user_id, ID_SIZE);
    must(envelope_encode(&e, e_buf, sizeof(e_buf), &e_len) == SP_OK, "envelope");
    must(box_encode(&b, b_buf, sizeof(b_buf), &b_len) == SP_OK, "box");
    struct wire_out out = wire_out(buf, sizeof(buf));
    wire_put_u64(&out, upload);
    wire_put_bytes(&out, e.message_id, ID_SIZE);
    wire_put_u64(&out, 12345);
    wire_put_u16(&out, 1);
    wire_put_b32(&out, e_buf, e_len);
    wire_put_u16(&out, 1);
    wire_put_bytes(&out, user_id, ID_SIZE);
    wire_put_b32(&out, b_buf, b_len);
    must(ipc_send_fd(sock, SS_COMMIT, 0, buf, out.len, -1) == SP_OK, "commit");
}

static double cpu_of(pid_t pid)
{
    char path[64], text[512] = "";
    unsigned long user = 0, sys = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (f != NULL) {
        must(fgets(text, sizeof(text), f) != NULL, path);
        fclose(f);
        sscanf(strrchr(text, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
               &sys);
    }
    return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static void run(const char *what, pid_t pid, unsigned count, unsigned flight, uint64_t size)
{
    double start = now(), used = cpu_of(pid);
    answered = 0;
    for (unsigned i = 0; i < count; i++) {
        uint64_t id = ++next_upload;
        while (i - answered >= flight)
            receive();
        for (uint64_t at = 0; at < size; at += BLOCK)
            block(id, (uint32_t)(size - at < BLOCK ? size - at : BLOCK));
        commit(id, size);
    }
    while (answered < count)
        receive();
    double took = now() - start;
    used = cpu_of(pid) - used;
    printf("%-32s %9.0f msg/s %8.1f MB/s   store: %7.1f us CPU a message\n", what, count / took,
           (double)count * (double)size / took / 1e6, used * 1e6 / count);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int sealer[2], web[2];
    uint8_t buf[8];
    struct wire_out out = wire_out(buf, sizeof(buf));
    if (argc < 2)
        return 2;
    make_user(argv[1]);
    must(ipc_pair(sealer) == SP_OK && ipc_pair(web) == SP_OK, "pair");
    pid_t pid = fork();
    if (pid == 0)
        child(argv[1], sealer[1], web[1]);
    close(sealer[1]);
    sock = sealer[0];
    ring_fd = memfd_create("ring", MFD_CLOEXEC);
    must(ftruncate(ring_fd, RING) == 0, "ring");
    ring = mmap(NULL, RING, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, 0);
    wire_put_u64(&out, RING);
    must(ipc_send_fd(sock, SS_RING, 0, buf, 8, ring_fd) == SP_OK, "ring");
    run("4 KB, 1 in flight", pid, 1000, 1, 4168);
    run("4 KB, 20 in flight", pid, 10000, 20, 4168);
    run("4 KB, 100 in flight", pid, 40000, 100, 4168);
    run("4 KB, 400 in flight", pid, 80000, 400, 4168);
    run("10 MB, 1 in flight", pid, 50, 1, cake_sealed_length(10u << 20));
    run("10 MB, 4 in flight", pid, 100, 4, cake_sealed_length(10u << 20));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return 0;
}
