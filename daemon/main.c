/* sealpostd: the supervisor, and, executed again by it, each role. */
#include "daemon/door/door.h"
#include "daemon/role.h"
#include "daemon/supervisor.h"
#include "sandbox/lockmem.h"
#include "sandbox/policy.h"
#include "sandbox/sandbox.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char usage_text[] =
    "usage: sealpostd --config FILE [--user-mode | --door SOCKET] [--check-config]\n"
    "       sealpostd --config FILE --as-door SOCKET\n"
    "\n"
    "The Sealpost mail appliance. Runs in the foreground.\n"
    "  --config FILE    the configuration (default /etc/sealpost/sealpost.conf)\n"
    "  --check-config   say what is wrong with it, with file and line, and what in it has no\n"
    "                   effect; exit (1: something is wrong)\n"
    "  --user-mode      run without root: one uid, user namespaces; every other layer stays on\n"
    "  --door SOCKET    take listening sockets and those to the outside from the door that "
    "answers\n"
    "                   there, and stay out of the network\n"
    "  --as-door SOCKET be that door, under a uid of its own (sealpost-door.service)\n"
    "  --print-sandbox  the table of roles and layers, as Markdown\n"
    "  --version, --help\n"
    "Signals: SIGTERM ends it cleanly, SIGHUP reads certificates, keys and\n"
    "resolv.conf again.\n";

enum {
    OPT_CONFIG = 1,
    OPT_USER,
    OPT_CHECK,
    OPT_DOOR,
    OPT_AS_DOOR,
    OPT_SANDBOX,
    OPT_VERSION,
    OPT_HELP,
    OPT_ROLE,
    OPT_UID,
    OPT_BREAK
};

static const struct option options[] = {
    {"config", required_argument, NULL, OPT_CONFIG},
    {"user-mode", no_argument, NULL, OPT_USER},
    {"check-config", no_argument, NULL, OPT_CHECK},
    {"door", required_argument, NULL, OPT_DOOR},
    {"as-door", required_argument, NULL, OPT_AS_DOOR},
    {"print-sandbox", no_argument, NULL, OPT_SANDBOX},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, OPT_HELP},
    {"role", required_argument, NULL, OPT_ROLE},
    {"uid", required_argument, NULL, OPT_UID},
#ifdef SEALPOST_TEST
    {"break", required_argument, NULL, OPT_BREAK},
#endif
    {NULL, 0, NULL, 0},
};

struct arguments {
    const char *config, *role, *door, *as_door;
    bool user_mode, check;
    unsigned uid;
    int exit_status; /* -1: go on */
};

static void take_option(struct arguments *a, int opt)
{
    switch (opt) {
    case OPT_CONFIG:
        a->config = optarg;
        break;
    case OPT_USER:
        a->user_mode = true;
        break;
    case OPT_CHECK:
        a->check = true;
        break;
    case OPT_DOOR:
        a->door = optarg;
        break;
    case OPT_AS_DOOR:
        a->as_door = optarg;
        break;
    case OPT_ROLE:
        a->role = optarg;
        break;
    case OPT_UID:
        a->uid = (unsigned)strtoul(optarg, NULL, 10);
        break;
#ifdef SEALPOST_TEST
    case OPT_BREAK:
        sandbox_break = optarg;
        break;
#endif
    case OPT_SANDBOX:
        policy_print(stdout);
        a->exit_status = 0;
        break;
    case OPT_VERSION:
        puts("sealpostd " SEALPOST_VERSION);
        a->exit_status = 0;
        break;
    case OPT_HELP:
        fputs(usage_text, stdout);
        a->exit_status = 0;
        break;
    default:
        fputs(usage_text, stderr);
        a->exit_status = 2;
    }
}

static int run_role(const struct arguments *a)
{
    for (int r = 0; r < ROLE_COUNT; r++)
        if (strcmp(all_roles[r]->name, a->role) == 0)
            return role_main(all_roles[r], a->user_mode, a->uid);
    return 2;
}

/* The files that are named, as a start would read them. */
static enum sp_err check_files(struct config *config)
{
    struct supervisor s = {.config = config};
    enum sp_err err = SP_OK, relay = relayfiles_open(&s);
    relayfiles_close(&s);
    if (resources_load_template(&s) != SP_OK)
        relay = SP_ERR_CONFIG;
    if (config->tls_certificate != NULL && config->tls_key != NULL) {
        err = lockmem_init(lockmem_wanted(config), &s.lock_kind);
        if (err == SP_OK)
            err = resources_load_tls(&s);
        if (err == SP_OK)
            resources_judge_certificate(&s);
        resources_forget_key(&s);
        free(s.certificate);
    }
    return err == SP_OK ? relay : err;
}

static int check_config(const char *path, bool user_mode)
{
    struct config *config;
    if (config_read(path, user_mode, stderr, &config) != SP_OK)
        return 1;
    int status = check_files(config) == SP_OK ? 0 : 1;
    config_unused(config, user_mode, path, stdout);
    config_free(config);
    if (status == 0)
        printf("%s: no errors\n", path);
    return status;
}

int main(int argc, char **argv)
{
    struct arguments a = {.config = "/etc/sealpost/sealpost.conf", .exit_status = -1};
    struct config *config;
    int opt;
    umask(077);
    while (a.exit_status < 0 && (opt = getopt_long(argc, argv, "", options, NULL)) != -1)
        take_option(&a, opt);
    if (a.exit_status >= 0)
        return a.exit_status;
    if (optind < argc) {
        fprintf(stderr, "sealpostd: not understood: %s\n", argv[optind]);
        fputs(usage_text, stderr);
        return 2;
    }
    if ((a.user_mode && a.door != NULL) || (a.as_door != NULL && (a.user_mode || a.door != NULL))) {
        fputs("sealpostd: --door, --as-door and --user-mode exclude each other\n", stderr);
        return 2;
    }
    if (a.role != NULL)
        return run_role(&a);
    if (a.check)
        return check_config(a.config, a.user_mode);
    if (config_read(a.config, a.user_mode, stderr, &config) != SP_OK)
        return 1;
    if (a.as_door != NULL)
        return door_unit_main(a.as_door, config);
    if (a.user_mode && sandbox_user_namespace() != SP_OK) {
        fprintf(stderr,
                "sealpostd: cannot enter a user namespace: %s; allow it "
                "(sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces) or run "
                "as root without --user-mode\n",
                strerror(errno));
        return 1;
    }
    const struct supervisor_start start = {
        .config_path = a.config, .config = config, .user_mode = a.user_mode, .door = a.door};
    return supervisor_main(&start);
}
