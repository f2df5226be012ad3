/* sealpost, the user's command-line client. Arguments and environment are the user's and trusted;
 * servers, and the messages on them, are not. */
#include "client/client.h"
#include "client/report.h"
#include "client/secret.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2 };

static const struct option options[] = {
    {"ca", required_argument, NULL, 'c'},  {"json", no_argument, NULL, 'j'},
    {"out", required_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},   {NULL, 0, NULL, 0},
};

/* What is said of the options that some commands take. */
static const struct {
    unsigned bit;
    const char *usage;
    const char *help;
} option_help[] = {
    {OPT_JSON, " [--json]", "  --json      print JSON\n"},
    {OPT_OUT, " --out DIR", "  --out DIR   write there\n"},
};
#define N_OPTION_HELP (sizeof option_help / sizeof *option_help)

static void help_all(FILE *to)
{
    fputs("usage: sealpost COMMAND [ARGUMENTS]\n\n", to);
    for (const struct command *c = client_commands; c->name != NULL; c++)
        fprintf(to, "  %-12s %-22s %s\n", c->name, c->words, c->help);
    fputs("\n"
          "  --ca FILE   trust this certificate authority too (or SEALPOST_CA)\n"
          "  --help      say more: sealpost COMMAND --help\n"
          "\n"
          "Keys and settings are in $SEALPOST_HOME, else ~/.config/sealpost. The key file's "
          "passphrase is\n"
          "asked for on a terminal, or read from the file that SEALPOST_PASSPHRASE_FILE names.\n",
          to);
}

static void usage_line(FILE *to, const struct command *c)
{
    fprintf(to, "usage: sealpost %s%s%s", c->name, *c->words != '\0' ? " " : "", c->words);
    for (size_t i = 0; i < N_OPTION_HELP; i++) {
        if ((c->options & option_help[i].bit) != 0)
            fputs(option_help[i].usage, to);
    }
    fputc('\n', to);
}

static void help_one(const struct command *c)
{
    usage_line(stdout, c);
    printf("\n%s.\n%s\n", c->help, c->more);
    for (size_t i = 0; i < N_OPTION_HELP; i++) {
        if ((c->options & option_help[i].bit) != 0)
            fputs(option_help[i].help, stdout);
    }
    if (c->need != NEED_KEYS)
        fputs("  --ca FILE   trust this certificate authority too (or SEALPOST_CA)\n", stdout);
}

static const struct command *find_command(const char *name)
{
    for (const struct command *c = client_commands; c->name != NULL; c++) {
        if (strcmp(c->name, name) == 0)
            return c;
    }
    return NULL;
}

static int usage_error(const struct command *c)
{
    if (c != NULL)
        usage_line(stderr, c);
    fprintf(stderr, "Try 'sealpost %s%s--help'.\n", c != NULL ? c->name : "", c != NULL ? " " : "");
    return EXIT_USAGE;
}

struct parsed {
    bool help, version, wrong;
    struct args args;
};

static void parse(int argc, char **argv, struct parsed *p)
{
    int opt;
    memset(p, 0, sizeof *p);
    p->args.ca = getenv("SEALPOST_CA");
    while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (opt == 'h')
            p->help = true;
        else if (opt == 'V')
            p->version = true;
        else if (opt == 'c')
            p->args.ca = optarg;
        else if (opt == 'j')
            p->args.given |= OPT_JSON;
        else if (opt == 'o')
            p->args.given |= OPT_OUT, p->args.out = optarg;
        else
            p->wrong = true;
    }
    if (p->args.ca != NULL && *p->args.ca == '\0')
        p->args.ca = NULL;
    p->args.n = argc - optind;
    p->args.words = argv + optind;
}

static int run(const struct command *cmd, const struct args *args)
{
    struct client client;
    enum sp_err err = secret_harden();
    if (err != SP_OK)
        return EXIT_REFUSED;
    err = client_open(&client, args, cmd->need);
    if (err == SP_OK)
        err = cmd->run(&client);
    if (err == SP_OK && fflush(stdout) != 0)
        err = report_fail(SP_ERR_SYSTEM, "standard output");
    client_close(&client, err);
    return err == SP_OK ? EXIT_DONE : EXIT_REFUSED;
}

int main(int argc, char **argv)
{
    struct parsed p;
    signal(SIGPIPE, SIG_IGN); /* a closed output is an error that we report */
    parse(argc, argv, &p);
    if (p.version) {
        puts("sealpost " SEALPOST_VERSION);
        return EXIT_DONE;
    }
    const struct command *cmd = p.args.n > 0 ? find_command(p.args.words[0]) : NULL;
    if (p.help && (cmd != NULL || p.args.n == 0)) {
        if (cmd != NULL)
            help_one(cmd);
        else
            help_all(stdout);
        return EXIT_DONE;
    }
    if (p.args.n == 0) {
        help_all(stderr);
        return EXIT_USAGE;
    }
    if (cmd == NULL)
        fprintf(stderr, "sealpost: there is no command '%s'\n", p.args.words[0]);
    p.args.n--;
    p.args.words++;
    if (cmd == NULL || p.wrong || p.args.n < cmd->min_words || p.args.n > cmd->max_words ||
        (p.args.given & ~cmd->options) != 0 || ((cmd->options & ~p.args.given) & OPT_OUT) != 0)
        return usage_error(cmd);
    return run(cmd, &p.args);
}
