/*
 * A cheap load generator for SMTP, LMTP and HTTPS servers on loopback: options in, one line of JSON
 * out. See docs/performance.md. It is run by bench/run and trusts its command line.
 */
#include "bench/load.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: load [--lmtp] [--hold] --port N [--rcpt TEMPLATE] [--users N] [--from ADDRESS]\n"
    "            [--connections N] [--count N] [--seconds N] [--size BYTES] [--idle N]\n"
    "Sends --count messages of --size bytes to 127.0.0.1, a new connection each, --connections at\n"
    "once, and starts none after --seconds. The %d in --rcpt goes round --users.\n"
    "--hold  sends one message and keeps its session open until a line comes on stdin\n"
    "--idle  opens N TLS sessions instead and holds them until a line comes on stdin\n"
    "       load --port N --get PATH [--get PATH ...] [--header LINE] [--keep]\n"
    "            [--connections N] [--count N] [--seconds N]\n"
    "Fetches these paths over HTTPS, one after the other, over a new connection each time, or, "
    "with\n"
    "--keep, again and again over the same.\n";

static const struct option known[] = {
    {"lmtp", no_argument, NULL, 'l'},
    {"hold", no_argument, NULL, 'h'},
    {"port", required_argument, NULL, 'p'},
    {"rcpt", required_argument, NULL, 'r'},
    {"users", required_argument, NULL, 'u'},
    {"from", required_argument, NULL, 'f'},
    {"count", required_argument, NULL, 'n'},
    {"connections", required_argument, NULL, 'c'},
    {"size", required_argument, NULL, 's'},
    {"seconds", required_argument, NULL, 't'},
    {"idle", required_argument, NULL, 'i'},
    {"get", required_argument, NULL, 'g'},
    {"header", required_argument, NULL, 'H'},
    {"keep", no_argument, NULL, 'k'},
    {NULL, 0, NULL, 0},
};

double load_now(void)
{
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void load_wait(const char *what, unsigned count)
{
    int c;
    printf("%s %u\n", what, count);
    (void)fflush(stdout);
    do {
        c = getchar();
    } while (c != '\n' && c != EOF);
}

/* A number of the command line between low and high, or the end of the program. */
static unsigned number(const char *text, unsigned long low, unsigned long high)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < low || value > high) {
        (void)fprintf(stderr, "load: %s is not a number from %lu to %lu\n", text, low, high);
        exit(2);
    }
    return (unsigned)value;
}

static noreturn void misused(void)
{
    (void)fputs(usage, stderr);
    exit(2);
}

static void set_fetch_option(struct load_options *o, int c, const char *arg)
{
    switch (c) {
    case 'g':
        if (o->n_paths == LOAD_MAX_PATHS || strlen(arg) > 500) {
            misused();
        }
        o->paths[o->n_paths++] = arg;
        break;
    case 'H':
        o->header = arg;
        break;
    case 'k':
        o->keep = true;
        break;
    default:
        misused();
    }
}

static void set_option(struct load_options *o, int c, const char *arg)
{
    switch (c) {
    case 'l':
        o->lmtp = true;
        break;
    case 'h':
        o->hold = true;
        break;
    case 'p':
        o->server.sin_port = htons((uint16_t)number(arg, 1, 65535));
        break;
    case 'r':
        o->rcpt = arg;
        break;
    case 'f':
        o->from = arg;
        break;
    case 'u':
        o->users = number(arg, 1, 1000000);
        break;
    case 'n':
        o->count = number(arg, 1, 10000000);
        break;
    case 'c':
        o->connections = number(arg, 1, LOAD_MAX_CONNECTIONS);
        break;
    case 's':
        o->size = number(arg, 1024, 1000000000);
        break;
    case 't':
        o->seconds = number(arg, 1, 3600);
        break;
    case 'i':
        o->idle = number(arg, 1, 100000);
        break;
    default:
        set_fetch_option(o, c, arg);
    }
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_failures(const struct load_result *r)
{
    static const char *const name[] = {
        [LOAD_NO_CONNECT] = "connect", [LOAD_CLOSED] = "closed", [LOAD_TIMEOUT] = "timeout"};
    const char *comma = "";
    printf("\"failures\": {");
    for (unsigned i = 0; i < LOAD_CODES; i++) {
        if (r->failures[i] == 0) {
            continue;
        }
        if (i < 100) {
            printf("%s\"%s\": %u", comma, name[i], r->failures[i]);
        } else {
            printf("%s\"%u\": %u", comma, i, r->failures[i]);
        }
        comma = ", ";
    }
    printf("}");
}

static double cpu_seconds(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0) {
        return 0;
    }
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* size: bytes of a message, or of a fetch. */
static void print_result(const struct load_result *r, size_t size, double cpu)
{
    double median = 0, p99 = 0;
    if (r->messages > 0) {
        qsort(r->latency_us, r->messages, sizeof *r->latency_us, ascending);
        median = r->latency_us[r->messages / 2] / 1e3;
        p99 = r->latency_us[(size_t)r->messages * 99 / 100] / 1e3;
    }
    double rate = r->seconds > 0 ? r->messages / r->seconds : 0;
    printf("{\"messages\": %u, \"seconds\": %.4f, \"messages_per_second\": %.2f, "
           "\"mb_per_second\": %.3f, ",
           r->messages, r->seconds, rate, rate * (double)size / 1e6);
    print_failures(r);
    printf(", \"latency_ms\": {\"median\": %.3f, \"p99\": %.3f}, \"load_cpu_seconds\": %.4f}\n",
           median, p99, cpu);
}

/* Sends, or fetches; bytes of each into *size. */
static enum sp_err work(const struct load_options *options, struct load_result *result,
                        size_t *size)
{
    struct load_message message;
    if (options->n_paths > 0) {
        return load_fetch(options, result, size);
    }
    *size = options->size;
    *result = (struct load_result){0};
    enum sp_err err = load_message_make(options->size, &message);
    if (err == SP_OK) {
        err = load_run(options, &message, result);
        (void)close(message.fd);
    }
    return err;
}

int main(int argc, char **argv)
{
    struct load_options options = {
        .server = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
        .connections = 1,
        .count = 1,
        .users = 1,
        .size = 4096,
        .rcpt = "user%d@bench.example",
        .from = "ada@example.net",
    };
    struct load_result result;
    size_t size;
    int c;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        set_option(&options, c, optarg);
    }
    if (options.server.sin_port == 0 || optind != argc || (options.hold && options.count != 1)) {
        misused();
    }
    (void)signal(SIGPIPE, SIG_IGN); /* sendfile() has no MSG_NOSIGNAL */
    if (options.idle > 0) {
        return load_idle(&options) == SP_OK ? 0 : 1;
    }
    double before = cpu_seconds();
    enum sp_err err = work(&options, &result, &size);
    if (err != SP_OK) {
        perror("load");
    } else {
        print_result(&result, size, cpu_seconds() - before);
    }
    free(result.latency_us);
    return err == SP_OK && result.messages > 0 ? 0 : 1;
}
