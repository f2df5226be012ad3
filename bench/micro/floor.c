/* What no server of this shape can go below: an LMTP listener that forks a process for each
 * connection and keeps nothing, parses nothing, confines nothing. Driven by bench/load. With more
 * steps it does what the format asks for (AES-256-GCM and SHA-256 of every byte) and what a disk
 * asks for (a write, a sync before the reply).   floor PORT take|seal|keep|direct FILE
 * On SIGTERM it prints messages, bytes and processor time (its own and its children's). */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK (256u << 10)
#define ALIGN 4096u

enum step { TAKE, SEAL, KEEP, DIRECT };
static const char *const steps[] = {"take", "seal", "keep", "direct"};

struct totals {
    atomic_ullong messages, bytes;
};

static struct totals *totals;
static enum step step;
static const char *path;
static volatile sig_atomic_t ended;

static void on_signal(int sig)
{
    (void)sig;
    ended = 1;
}

static void must(bool good, const char *what)
{
    if (good)
        return;
    perror(what);
    _exit(1);
}

static void say(int fd, const char *text)
{
    must(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text), "send");
}

/* Reads until what came ends in this, which the load generator makes the end of a read. */
static bool hear(int fd, char *buf, size_t cap, const char *end)
{
    size_t len = 0, want = strlen(end);
    while (len < want || memcmp(buf + len - want, end, want) != 0) {
        ssize_t n = len < cap ? recv(fd, buf + len, cap - len, 0) : 0;
        if (n <= 0)
            return false;
        len += (size_t)n;
    }
    return true;
}

struct sink {
    EVP_CIPHER_CTX *cipher;
    EVP_MD_CTX *hash;
    uint8_t *sealed;
    int file;
};

static void sink_open(struct sink *s)
{
    static const uint8_t key[32] = {1}, nonce[12] = {0};
    *s = (struct sink){.file = -1};
    if (step >= SEAL) {
        s->cipher = EVP_CIPHER_CTX_new();
        s->hash = EVP_MD_CTX_new();
        must(posix_memalign((void **)&s->sealed, ALIGN, CHUNK + 16) == 0, "memory");
        must(EVP_EncryptInit_ex(s->cipher, EVP_aes_256_gcm(), NULL, key, nonce) == 1, "cipher");
        must(EVP_DigestInit_ex(s->hash, EVP_sha256(), NULL) == 1, "hash");
    }
    if (step >= KEEP) {
        char name[4096];
        snprintf(name, sizeof(name), "%s.%d", path, (int)getpid());
        s->file = open(name, O_CREAT | O_TRUNC | O_WRONLY | (step == DIRECT ? O_DIRECT : 0), 0600);
        must(s->file >= 0, name);
        unlink(name);
    }
}

static void sink_put(struct sink *s, const uint8_t *bytes, size_t n)
{
    int len;
    if (step < SEAL)
        return;
    must(EVP_EncryptUpdate(s->cipher, s->sealed, &len, bytes, (int)n) == 1, "seal");
    must(EVP_DigestUpdate(s->hash, s->sealed, n) == 1, "hash");
    size_t whole = step == DIRECT ? (n + ALIGN - 1) / ALIGN * ALIGN : n;
    if (step >= KEEP)
        must(write(s->file, s->sealed, whole) == (ssize_t)whole, "write");
}

/* The content, in chunks that are as full as they get; ended by its final dot. */
static bool content(int fd, struct sink *s)
{
    uint8_t *buf;
    size_t len = 0;
    must(posix_memalign((void **)&buf, ALIGN, CHUNK) == 0, "memory");
    for (;;) {
        ssize_t n = recv(fd, buf + len, CHUNK - len, 0);
        if (n <= 0)
            return false;
        len += (size_t)n;
        bool end = len >= 5 && memcmp(buf + len - 5, "\r\n.\r\n", 5) == 0;
        if (!end && len < CHUNK)
            continue;
        sink_put(s, buf, len);
        atomic_fetch_add(&totals->bytes, len);
        len = 0;
        if (end)
            break;
    }
    return s->file < 0 || fdatasync(s->file) == 0;
}

static void serve(int fd)
{
    char buf[4096];
    struct sink s;
    say(fd, "220 floor LMTP\r\n");
    if (!hear(fd, buf, sizeof(buf), "\r\n"))
        return;
    say(fd, "250-floor\r\n250 PIPELINING\r\n");
    if (!hear(fd, buf, sizeof(buf), "DATA\r\n"))
        return;
    sink_open(&s);
    say(fd, "250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go on\r\n");
    if (!content(fd, &s))
        return;
    atomic_fetch_add(&totals->messages, 1);
    say(fd, "250 2.0.0 ok\r\n");
    if (hear(fd, buf, sizeof(buf), "QUIT\r\n"))
        say(fd, "221 2.0.0 bye\r\n");
}

static int listener(int port)
{
    const struct sockaddr_in at = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    must(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
             bind(fd, (const struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, 512) == 0,
         "listen");
    return fd;
}

static double seconds(int who)
{
    struct rusage u;
    getrusage(who, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
    const struct sigaction stop = {.sa_handler = on_signal};
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: floor PORT take|seal|keep|direct [FILE]\n");
        return 2;
    }
    while (step < DIRECT && strcmp(argv[2], steps[step]) != 0)
        step++;
    path = argc == 4 ? argv[3] : "floor.out";
    totals = mmap(NULL, sizeof(*totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(totals != MAP_FAILED, "memory");
    sigaction(SIGTERM, &stop, NULL);
    int fd = listener(atoi(argv[1]));
    while (!ended) {
        int client = accept(fd, NULL, NULL);
        if (client >= 0 && fork() == 0) {
            serve(client);
            _exit(0);
        }
        if (client >= 0)
            close(client);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
    while (wait(NULL) > 0)
        ;
    double cpu = seconds(RUSAGE_SELF) + seconds(RUSAGE_CHILDREN);
    double n = (double)totals->messages, gb = (double)totals->bytes / 1e9;
    printf("%s: %.0f messages, %.3f GB, %.3f ms of processor a message, %.2f s a GB\n", steps[step],
           n, gb, cpu / n * 1e3, cpu / gb);
    return 0;
}
