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

/* Long options: one row each, for all commands; a command's row says which it takes. */
enum { LONG_CA = 256, LONG_HELP, LONG_VERSION, LONG_FIRST };

static const struct {
    unsigned bit;
    const char *name;
    const char *value; /* what it is called in help; NULL: takes none */
    const char *help;
} table[] = {
    {OPT_JSON, "json", NULL, "print JSON"},
    {OPT_OUT, "out", "DIR", "write there"},
    {OPT_LINK, "link", NULL, "give recipients outside a link instead of the mail"},
    {OPT_EXPIRES, "expires", "TIME", "how long links work: 7d (if not given), 12h, 30m, 90s"},
    {OPT_SUBJECT, "subject", "TEXT",
     "put TEXT, which all servers read, into the links' notifications"},
    {OPT_PRINT_LINKS, "print-links", NULL,
     "print the links behind the id, to hand them over yourself"},
    {OPT_RESUME, "resume", NULL, "go on with an unfinished send (all of them without an ID)"},
    {OPT_DROP, "drop", NULL, "give up an unfinished send"},
    {OPT_TRACK, "track", NULL, "you compared it: send nothing to them after it changed"},
    {OPT_UNTRACK, "untrack", NULL, "follow changes again"},
    {OPT_FORGET, "forget", NULL, "forget what was seen of them, for an account made anew"},
};
#define N_TABLE (sizeof table / sizeof *table)

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
    fprintf(to, "usage: sealpost %s", c->name);
    for (size_t i = 0; i < N_TABLE; i++) {
        bool needed = (c->needs & table[i].bit) != 0;
        if (((c->options | c->needs) & table[i].bit) != 0)
            fprintf(to, needed ? " --%s%s%s" : " [--%s%s%s]", table[i].name,
                    table[i].value != NULL ? " " : "",
                    table[i].value != NULL ? table[i].value : "");
    }
    fprintf(to, "%s%s\n", *c->words != '\0' ? " " : "", c->words);
}

static void help_one(const struct command *c)
{
    usage_line(stdout, c);
    printf("\n%s.\n%s\n", c->help, c->more);
    for (size_t i = 0; i < N_TABLE; i++) {
        if (((c->options | c->needs) & table[i].bit) != 0)
            printf("  --%-8s%-5s %s\n", table[i].name, table[i].value != NULL ? table[i].value : "",
                   table[i].help);
    }
    if (c->need != NEED_KEYS)
        fputs("  --ca      FILE  trust this certificate authority too (or SEALPOST_CA)\n", stdout);
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
    const struct command *command;
    struct args args;
};

static void make_options(struct option out[N_TABLE + 4])
{
    size_t n = 0;
    memset(out, 0, (N_TABLE + 4) * sizeof *out);
    for (; n < N_TABLE; n++) {
        out[n].name = table[n].name;
        out[n].has_arg = table[n].value != NULL ? required_argument : no_argument;
        out[n].val = LONG_FIRST + (int)n;
    }
    out[n++] = (struct option){"ca", required_argument, NULL, LONG_CA};
    out[n++] = (struct option){"help", no_argument, NULL, LONG_HELP};
    out[n] = (struct option){"version", no_argument, NULL, LONG_VERSION};
}

static void take_long(struct parsed *p, int opt)
{
    if (opt == LONG_HELP)
        p->help = true;
    else if (opt == LONG_VERSION)
        p->version = true;
    else if (opt == LONG_CA)
        p->args.ca = optarg;
    else
        p->args.given |= table[opt - LONG_FIRST].bit;
    if (opt < LONG_FIRST || table[opt - LONG_FIRST].value == NULL)
        return;
    switch (table[opt - LONG_FIRST].bit) {
    case OPT_OUT:
        p->args.out = optarg;
        return;
    case OPT_EXPIRES:
        p->args.expires = optarg;
        return;
    default:
        p->args.subject = optarg;
    }
}

/* sendmail's flags: those that mean something here, those that are taken and ignored. */
static void take_flag(struct parsed *p, int opt)
{
    if (opt == 'h')
        p->help = true;
    else if (p->command == NULL || p->command->flags == NULL)
        p->wrong = true;
    else if (opt == 't')
        p->args.given |= OPT_HEADER;
    else if (opt == 'i' || (opt == 'o' && strcmp(optarg, "i") == 0))
        p->args.given |= OPT_DOTS;
    else if (opt == 'f' || opt == 'r')
        p->args.from = optarg;
    else if (opt == '?' || (opt == 'b' && strcmp(optarg, "m") != 0))
        p->wrong = true;
}

static void parse_some(struct parsed *p, int argc, char **argv, const char *flags)
{
    struct option longs[N_TABLE + 4];
    int opt;
    make_options(longs);
    while ((opt = getopt_long(argc, argv, flags, longs, NULL)) != -1) {
        if (opt >= LONG_CA)
            take_long(p, opt);
        else
            take_flag(p, opt);
    }
}

/* Options before the command are everybody's; the rest is the command's own. */
static void parse(int argc, char **argv, struct parsed *p)
{
    const char *slash = strrchr(argv[0], '/');
    memset(p, 0, sizeof *p);
    p->args.ca = getenv("SEALPOST_CA");
    if (strcmp(slash != NULL ? slash + 1 : argv[0], "sendmail") == 0) {
        p->command = find_command("send");
    } else {
        parse_some(p, argc, argv, "+h");
        p->args.words = argv + optind;
        if (optind == argc)
            return;
        p->command = find_command(argv[optind]);
        argc -= optind;
        argv += optind;
        optind = 0; /* anew, behind the command's name */
    }
    p->args.n = 1; /* there was a word */
    if (p->command == NULL)
        return;
    parse_some(p, argc, argv, p->command->flags != NULL ? p->command->flags : "h");
    if (p->args.ca != NULL && *p->args.ca == '\0')
        p->args.ca = NULL;
    p->args.n = argc - optind;
    p->args.words = argv + optind;
}

static bool is_good(const struct parsed *p)
{
    const struct command *c = p->command;
    const struct args *a = &p->args;
    return !p->wrong && a->n >= c->min_words && a->n <= c->max_words &&
           (a->given & ~(c->options | c->needs | (c->flags != NULL ? OPT_FLAGS : 0))) == 0 &&
           (c->needs & ~a->given) == 0 && (c->check == NULL || c->check(a));
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
    if (p.help && p.command != NULL) {
        help_one(p.command);
        return EXIT_DONE;
    }
    if (p.help && p.args.n == 0) {
        help_all(stdout);
        return EXIT_DONE;
    }
    if (p.args.n == 0 && p.command == NULL) {
        if (p.wrong)
            return usage_error(NULL);
        help_all(stderr);
        return EXIT_USAGE;
    }
    if (p.command == NULL)
        fprintf(stderr, "sealpost: there is no command '%s'\n", p.args.words[0]);
    if (p.command == NULL || !is_good(&p))
        return usage_error(p.command);
    return run(p.command, &p.args);
}
