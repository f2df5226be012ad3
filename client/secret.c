/* Locked memory and passphrases. The terminal and the passphrase file belong to the user and are
 * trusted; swap, core dumps and other processes are not. */
#include "client/secret.h"
#include "client/report.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <termios.h>
#include <unistd.h>

enum sp_err secret_harden(void)
{
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return report_fail(SP_ERR_SYSTEM, "cannot turn core dumps off");
    if (sodium_init() < 0)
        return report_fail(SP_ERR_CRYPTO, "libsodium does not start");
    return SP_OK;
}

void *secret_alloc(size_t size)
{
    static bool warned;
    void *at = sodium_malloc(size);
    if (at == NULL)
        return NULL;
    /* Locking twice is harmless, and this call reports what the first kept to itself. */
    if (sodium_mlock(at, size) != 0 && !warned) {
        warned = true;
        report_note(
            "warning: memory for secrets cannot be locked (ulimit -l); it might be swapped out");
    }
    sodium_memzero(at, size);
    return at;
}

void secret_free(void *at)
{
    sodium_free(at);
}

/* Reads one line, without its end. SP_ERR_LIMIT when it does not fit. */
static enum sp_err read_line(int fd, struct passphrase *p)
{
    p->len = 0;
    while (p->len < sizeof p->text) {
        ssize_t n = read(fd, p->text + p->len, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return SP_ERR_SYSTEM;
        if (n == 1 && p->text[p->len] != '\n') {
            p->len++;
            continue;
        }
        if (p->len > 0 && p->text[p->len - 1] == '\r')
            p->len--;
        p->text[p->len] = '\0';
        return SP_OK;
    }
    return SP_ERR_LIMIT;
}

static enum sp_err from_file(const char *path, struct passphrase *p)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return report_fail(SP_ERR_SYSTEM, "passphrase file %s", path);
    enum sp_err err = read_line(fd, p);
    if (err != SP_OK)
        report_fail(err, "passphrase file %s", path);
    close(fd);
    return err;
}

static void put(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) < 0)
        return; /* a prompt that cannot be shown is no reason to stop */
}

/* One line typed at the terminal. Signals wait meanwhile, so that ^C never leaves the echo off. */
static enum sp_err from_terminal(int tty, const char *prompt, bool echo, struct passphrase *p)
{
    struct termios before, quiet;
    sigset_t all, old;
    if (tcgetattr(tty, &before) != 0)
        return report_fail(SP_ERR_SYSTEM, "terminal");
    quiet = before;
    if (!echo)
        quiet.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &old);
    tcsetattr(tty, TCSAFLUSH, &quiet); /* before the prompt: a quick answer must not be flushed */
    put(tty, prompt);
    enum sp_err err = read_line(tty, p);
    tcsetattr(tty, TCSAFLUSH, &before);
    if (!echo)
        put(tty, "\n");
    sigprocmask(SIG_SETMASK, &old, NULL);
    /* With ISIG off, ^C comes as a byte. */
    if (err == SP_OK && memchr(p->text, 0x03, p->len) != NULL)
        return report_plain(SP_ERR_DENIED, "interrupted");
    return err == SP_OK ? err : report_fail(err, "passphrase");
}

/* The controlling terminal, but only for somebody who reads our stderr there; else -1. */
static int open_terminal(void)
{
    return isatty(STDERR_FILENO) ? open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY) : -1;
}

static enum sp_err ask_fresh(int tty, struct passphrase *p)
{
    struct passphrase *again = secret_alloc(sizeof *again);
    if (again == NULL)
        return report_fail(SP_ERR_MEMORY, "passphrase");
    enum sp_err err =
        from_terminal(tty, "New passphrase for the key file (may be empty): ", false, p);
    if (err == SP_OK)
        err = from_terminal(tty, "Once more: ", false, again);
    if (err == SP_OK &&
        (p->len != again->len || sodium_memcmp(p->text, again->text, sizeof p->text) != 0))
        err = report_plain(SP_ERR_DENIED, "the two passphrases differ");
    secret_free(again);
    return err;
}

enum sp_err secret_passphrase(bool fresh, struct passphrase **out)
{
    *out = NULL;
    struct passphrase *p = secret_alloc(sizeof *p);
    if (p == NULL)
        return report_fail(SP_ERR_MEMORY, "passphrase");
    const char *file = getenv("SEALPOST_PASSPHRASE_FILE");
    int tty = -1;
    enum sp_err err = SP_OK;
    if (file != NULL && *file != '\0')
        err = from_file(file, p);
    else if ((tty = open_terminal()) >= 0)
        err = fresh ? ask_fresh(tty, p)
                    : from_terminal(tty, "Passphrase of the key file: ", false, p);
    else if (!fresh)
        err = report_plain(SP_ERR_DENIED, "the key file has a passphrase, and there is no terminal "
                                          "to ask on: name a file in SEALPOST_PASSPHRASE_FILE");
    if (tty >= 0)
        close(tty);
    if (err != SP_OK) {
        secret_free(p);
        return err;
    }
    *out = p;
    return SP_OK;
}

enum sp_err secret_confirm(const char *question)
{
    struct passphrase *answer = secret_alloc(sizeof *answer);
    if (answer == NULL)
        return report_fail(SP_ERR_MEMORY, "confirmation");
    int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    enum sp_err err = tty < 0 ? report_fail(SP_ERR_SYSTEM, "no terminal to confirm at") : SP_OK;
    if (err == SP_OK)
        err = from_terminal(tty, question, true, answer);
    if (err == SP_OK && strcmp(answer->text, "yes") != 0)
        err = report_plain(SP_ERR_DENIED, "not confirmed (the answer has to be \"yes\")");
    if (tty >= 0)
        close(tty);
    secret_free(answer);
    return err;
}
