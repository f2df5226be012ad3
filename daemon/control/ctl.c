/* sealpostctl: the operator's side of the control socket. What it may do is what the socket's owner
 * may. */
#include "daemon/config.h"
#include "daemon/control/check.h"
#include "daemon/control/ctl.h"
#include "daemon/messages.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char usage_text[] =
    "usage: sealpostctl [--config FILE] [--json] VERB\n"
    "\n"
    "  setup                      makes the keys that are missing, prints the DNS records to\n"
    "                             publish, says what is left to do\n"
    "  user add ADDRESS           a new user; prints the enrolment code\n"
    "  user list                  who is there, and with which key\n"
    "  user remove ADDRESS        removes the user and the mailbox\n"
    "  alias add ALIAS ADDRESS... mail for ALIAS goes to these users\n"
    "  alias list\n"
    "  alias remove ALIAS\n"
    "  queue list                 mail that waits to be sent, and why\n"
    "  queue retry ID|all         try it now; ID: of the message, or its beginning\n"
    "  queue drop ID              give it up: the sender is told\n"
    "  link list                  links for outsiders, and what became of them\n"
    "  link revoke ID             ends one for good\n"
    "  status                     what each role says of itself\n"
    "  check [--all]              looks at the running tree and its host, layer by layer; --all:\n"
    "                             shows what is in order too; exit 1: a finding\n"
    "  backup DIR                 the database and the keeper's key into a new folder, while the\n"
    "                             appliance runs; keys of what waits or expires are not in it\n"
    "  dkim                       the DNS records that belong to the DKIM keys\n"
    "  dkim --new KIND FILE       a new key: rsa, ed25519\n"
    "  audit verify [FILE...] [--key HEX]\n"
    "                             checks the audit log, from its first line and over all its\n"
    "                             files, and its end by audit.key; FILE...: files elsewhere, but\n"
    "                             not their end; --key: the first public key, as it was noted\n"
    "  audit rotate               the log goes on in a new file; prints the old one's name\n"
    "\n"
    "  --config FILE              default /etc/sealpost/sealpost.conf\n"
    "  --json                     tables as JSON\n"
    "Exit status: 0 done, 1 refused or failed, 2 usage.\n";

struct options {
    const char *config_path, *key, *new_kind;
    bool json, all;
    struct config *config;
};

/* Prints the answer; the exit status. */
static int show(const struct options *o, struct answer *a)
{
    FILE *words = a->status == SP_OK ? stdout : stderr;
    if (a->message[0] != '\0')
        fprintf(words, "%s%s\n", a->status == SP_OK ? "" : "sealpostctl: ", a->message);
    else if (a->status != SP_OK)
        fprintf(stderr, "sealpostctl: %s\n", sp_err_text(a->status));
    if (a->table.columns > 0 && a->status == SP_OK) {
        if (o->json)
            table_print_json(&a->table, stdout);
        else
            table_print(&a->table, stdout);
    }
    int exit_status = a->status == SP_OK ? 0 : 1;
    answer_free(a);
    return exit_status;
}

static int ask_store(const struct options *o, char **args, size_t n)
{
    struct answer a;
    return ctl_ask(o->config->control, CC_STORE, args, n, &a) == SP_OK ? show(o, &a) : 1;
}

static int ask_status(const struct options *o, char **args, size_t n)
{
    struct answer a;
    (void)args;
    (void)n;
    return ctl_ask(o->config->control, CC_STATUS, NULL, 0, &a) == SP_OK ? show(o, &a) : 1;
}

static int ask_rotate(const struct options *o, char **args, size_t n)
{
    struct answer a;
    (void)args;
    (void)n;
    return ctl_ask(o->config->control, CC_ROTATE, NULL, 0, &a) == SP_OK ? show(o, &a) : 1;
}

static int verify_audit(const struct options *o, char **args, size_t n)
{
    return verify_run(o->config, args + 2, n - 2, o->key, o->json);
}

static int make_backup(const struct options *o, char **args, size_t n)
{
    (void)n;
    return backup_run(o->config, args[1]);
}

static int run_setup(const struct options *o, char **args, size_t n)
{
    (void)args;
    (void)n;
    return setup_run(o->config);
}

static int run_check(const struct options *o, char **args, size_t n)
{
    (void)args;
    (void)n;
    return check_run(o->config, o->config_path, o->all, o->json);
}

static int show_dkim(const struct options *o, char **args, size_t n)
{
    if (n == 2 && o->new_kind != NULL)
        return dkim_new(o->new_kind, args[1]);
    if (n == 1 && o->new_kind == NULL)
        return dkim_show(o->config, o->json);
    fprintf(stderr, "sealpostctl: dkim, or dkim --new KIND FILE\n");
    return 2;
}

#define ANY SIZE_MAX
static const struct verb {
    const char *noun, *verb; /* verb NULL: the noun alone */
    size_t min, max;         /* words with these two */
    int (*run)(const struct options *o, char **args, size_t n);
} verbs[] = {
    {"user", "add", 3, 3, ask_store},          {"user", "list", 2, 2, ask_store},
    {"user", "remove", 3, 3, ask_store},       {"alias", "add", 4, 500, ask_store},
    {"alias", "list", 2, 2, ask_store},        {"alias", "remove", 3, 3, ask_store},
    {"queue", "list", 2, 2, ask_store},        {"queue", "retry", 3, 3, ask_store},
    {"queue", "drop", 3, 3, ask_store},        {"link", "list", 2, 2, ask_store},
    {"link", "revoke", 3, 3, ask_store},       {"status", NULL, 1, 1, ask_status},
    {"audit", "verify", 2, ANY, verify_audit}, {"audit", "rotate", 2, 2, ask_rotate},
    {"check", NULL, 1, 1, run_check},          {"backup", NULL, 2, 2, make_backup},
    {"dkim", NULL, 1, 2, show_dkim},           {"setup", NULL, 1, 1, run_setup},
};

static const struct verb *find_verb(char **args, size_t n)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        const struct verb *v = &verbs[i];
        if (n >= v->min && n <= v->max && strcmp(args[0], v->noun) == 0 &&
            (v->verb == NULL || strcmp(args[1], v->verb) == 0))
            return v;
    }
    return NULL;
}

/* Files that are named can be anywhere: an auditor's machine has no appliance. */
static bool needs_configuration(const struct verb *v, size_t n)
{
    return !(v->run == verify_audit && n > v->min) && !(v->run == show_dkim && n == v->max);
}

static int usage(FILE *out, int status)
{
    fputs(usage_text, out);
    return status;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"key", required_argument, NULL, 'k'},
        {"json", no_argument, NULL, 'j'},         {"all", no_argument, NULL, 'a'},
        {"new", required_argument, NULL, 'n'},    {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},      {NULL, 0, NULL, 0}};
    struct options o = {.config_path = "/etc/sealpost/sealpost.conf"};
    int opt;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt == 'c')
            o.config_path = optarg;
        else if (opt == 'k')
            o.key = optarg;
        else if (opt == 'n')
            o.new_kind = optarg;
        else if (opt == 'j')
            o.json = true;
        else if (opt == 'a')
            o.all = true;
        else if (opt == 'h')
            return usage(stdout, 0);
        else if (opt == 'v')
            return puts("sealpostctl " SEALPOST_VERSION) < 0;
        else
            return usage(stderr, 2);
    }
    char **args = argv + optind;
    size_t n = (size_t)(argc - optind);
    const struct verb *v = n > 0 ? find_verb(args, n) : NULL;
    if (v == NULL) {
        if (n > 0)
            fprintf(stderr, "sealpostctl: no such verb, or not with so many words: %s%s%s\n",
                    args[0], n > 1 ? " " : "", n > 1 ? args[1] : "");
        return usage(stderr, 2);
    }
    if (needs_configuration(v, n) && config_read(o.config_path, true, stderr, &o.config) != SP_OK)
        return 1;
    int status = v->run(&o, args, n);
    config_free(o.config);
    return status;
}
