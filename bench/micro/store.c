/* How fast the store's backend takes mail, without the processes around it: small messages with so
 * many to a commit, large ones, a mailbox that is full already, and after half of the mail was
 * deleted. Prints messages and megabytes a second of one core.   store DIR [large megabytes] */
#include "storage/store.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define BLOCK 49256u
#define SMALL (4096u + 56u + 16u)
#define USERS 16u

static uint8_t block[BLOCK];
static uint8_t envelope[700], box_bytes[260];
static uint64_t user_no[USERS];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void must(enum sp_err err, const char *what)
{
    if (err == SP_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, sp_err_text(err));
    exit(1);
}

static void number_id(uint8_t id[ID_SIZE], uint64_t n)
{
    memset(id, 0, ID_SIZE);
    for (unsigned i = 0; i < 8; i++)
        id[i] = (uint8_t)(n >> (56 - 8 * i));
}

static void add_users(struct store *s)
{
    for (unsigned i = 0; i < USERS; i++) {
        char address[32];
        uint8_t hash[HASH_SIZE] = {0};
        struct store_user u;
        snprintf(address, sizeof(address), "user%u@bench", i);
        must(store_user_add(s, address, hash, 1), "user");
        must(store_commit(s), "commit");
        must(store_user_by_address(s, address, &u), "user");
        number_id(u.user_id, i + 1);
        u.chain_seq = u.generation = 1;
        must(store_chain_add(s, &u, block, 200), "chain");
        must(store_commit(s), "commit");
        user_no[i] = u.no;
    }
}

static void send(struct store *s, uint64_t n, size_t size, unsigned user)
{
    struct store_upload *u;
    struct store_box box = {.generation = 1, .bytes = box_bytes, .len = sizeof(box_bytes)};
    struct store_message m = {.received_ms = n,
                              .pieces = 1,
                              .envelope = envelope,
                              .envelope_len = sizeof(envelope),
                              .box = &box,
                              .boxes = 1};
    must(store_upload_begin(s, &u), "upload");
    for (size_t at = 0; at < size; at += BLOCK) {
        must(store_upload_append(u, 0, block, size - at < BLOCK ? size - at : BLOCK), "append");
        if (store_pending(s) > 16u << 20)
            must(store_commit(s), "commit");
    }
    number_id(box.user_id, user + 1);
    number_id(m.message_id, n);
    must(store_upload_deliver(u, &m), "deliver");
}

static uint64_t next_message;

static void run(struct store *s, const char *what, unsigned count, unsigned group, size_t size,
                unsigned users)
{
    double start = now(), used = cpu();
    for (unsigned i = 0; i < count; i++) {
        send(s, ++next_message, size, i % users);
        if (i % group == group - 1)
            must(store_commit(s), "commit");
    }
    must(store_commit(s), "commit");
    double took = now() - start;
    used = cpu() - used;
    printf("%-44s %9.0f msg/s %8.1f MB/s %7.1f us CPU a message\n", what, count / took,
           (double)count * (double)size / took / 1e6, used * 1e6 / count);
    fflush(stdout);
}

static void delete_some(struct store *s, uint64_t from, uint64_t to, uint64_t step, unsigned users)
{
    uint8_t id[ID_SIZE];
    double start = now();
    unsigned n = 0;
    bool more = true;
    for (uint64_t i = from; i < to; i += step, n++) {
        number_id(id, i);
        must(store_delete(s, user_no[(i - 1) % users], id, 1), "delete");
        if (n % 64 == 63)
            must(store_commit(s), "commit");
    }
    while (more) {
        must(store_sweep(s, 256, &more), "sweep");
        must(store_commit(s), "commit");
    }
    printf("%-44s %9.0f msg/s\n", "deleting, 64 a commit", n / (now() - start));
}

int main(int argc, char **argv)
{
    struct store *s;
    unsigned large = argc > 2 ? (unsigned)atoi(argv[2]) : 1000;
    if (argc < 2)
        return 2;
    mallopt(M_MMAP_THRESHOLD, 64 << 20); /* as the role does */
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
    must(store_open(argv[1], UINT64_C(8) << 30, &s), "open");
    for (size_t i = 0; i < BLOCK; i++)
        block[i] = (uint8_t)(i * 31 + (i >> 8));
    add_users(s);
    run(s, "4 KB, 1 a commit", 2000, 1, SMALL, USERS);
    run(s, "4 KB, 8 a commit", 8000, 8, SMALL, USERS);
    run(s, "4 KB, 64 a commit", 40000, 64, SMALL, USERS);
    run(s, "10 MB", large / 10, 1, 10u << 20, USERS);
    run(s, "10 MB, 4 a commit", large / 10, 4, 10u << 20, USERS);
    run(s, "4 KB, 64 a commit, to one mailbox", 200000, 64, SMALL, 1);
    run(s, "4 KB, 64 a commit, it holds 200,000", 40000, 64, SMALL, 1);
    run(s, "4 KB, 8 a commit, it holds 200,000", 8000, 8, SMALL, 1);
    delete_some(s, 2001, 50000, 2, USERS);
    run(s, "4 KB, 64 a commit, every other deleted", 40000, 64, SMALL, USERS);
    run(s, "10 MB, after that", large / 10, 1, 10u << 20, USERS);
    store_close(s);
    return 0;
}
