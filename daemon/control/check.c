/* `sealpostctl check`. Trusts the kernel, and the supervisor about which process is which role; the
 * roles themselves are what is examined. */
#include "daemon/control/check.h"
#include "daemon/messages.h"
#include "daemon/role.h"

#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COLUMNS     5u
#define MAX_FORKED  16 /* sessions or deliveries that are looked at */
#define MAX_PROCESS (1 << 22)

/* The order of enum role_id, which uid_base counts in. */
const char *const ctl_role_names[ROLE_COUNT] = {
    [ROLE_SMTP] = "smtp",     [ROLE_SEALER] = "sealer",     [ROLE_STORE] = "store",
    [ROLE_KEEPER] = "keeper", [ROLE_WEB] = "web",           [ROLE_AUDIT] = "audit",
    [ROLE_RELAY] = "relay",   [ROLE_RESOLVER] = "resolver", [ROLE_DOOR] = "door",
};

static void add_cells(struct table *t, const char *const cells[COLUMNS])
{
    char **grown = realloc(t->cell, (t->rows + 1) * COLUMNS * sizeof(*grown));
    if (grown == NULL)
        abort();
    t->cell = grown;
    t->columns = COLUMNS;
    for (size_t i = 0; i < COLUMNS; i++)
        if ((t->cell[t->rows * COLUMNS + i] = strdup(cells[i])) == NULL)
            abort();
    t->rows++;
}

static void add_row(struct report *r, const char *where, const char *layer, const char *result,
                    const char *advice, const char *found, va_list args)
{
    char text[512];
    vsnprintf(text, sizeof(text), found, args);
    add_cells(&r->table, (const char *const[]){where, layer, result, text, advice});
}

void report_row(struct report *r, const char *where, const char *layer, const char *advice,
                const char *found, ...)
{
    va_list args;
    va_start(args, found);
    if (advice != NULL)
        add_row(r, where, layer, "FINDING", advice, found, args);
    else if (r->all)
        add_row(r, where, layer, "ok", "", found, args);
    va_end(args);
    r->findings += advice != NULL;
}

void report_note(struct report *r, const char *where, const char *layer, const char *advice,
                 const char *found, ...)
{
    va_list args;
    va_start(args, found);
    add_row(r, where, layer, "note", advice, found, args);
    va_end(args);
    r->notes++;
}

bool proc_read(pid_t pid, const char *name, char *out, size_t cap)
{
    char path[128];
    if (pid > 0)
        snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    else
        snprintf(path, sizeof(path), "%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n = fd >= 0 ? 1 : -1;
    while (n > 0 && len < cap - 1) {
        n = read(fd, out + len, cap - 1 - len);
        len += n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0)
        close(fd);
    out[len] = '\0';
    return n >= 0;
}

void proc_field(const char *text, const char *key, char *out, size_t cap)
{
    size_t len = strlen(key);
    out[0] = '\0';
    for (const char *line = text; line != NULL && *line != '\0';
         line = strchr(line, '\n') != NULL ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, key, len) != 0 || line[len] != ':')
            continue;
        line += len + 1;
        line += strspn(line, "\t ");
        snprintf(out, cap, "%.*s", (int)strcspn(line, "\n"), line);
        for (char *at = out; (at = strchr(at, '\t')) != NULL;)
            *at = ' ';
        return;
    }
}

const char *check_said(const struct table *status, const char *role, const char *name)
{
    for (size_t row = 1; row < status->rows; row++) {
        char **cell = &status->cell[row * status->columns];
        if (strcmp(cell[0], role) == 0 && strcmp(cell[1], name) == 0)
            return cell[2];
    }
    return NULL;
}

static const struct passwd *user_of(const struct config *config, int role)
{
    char name[32];
    snprintf(name, sizeof(name), "sealpost-%s", ctl_role_names[role]);
    return config->uid_base == 0 ? getpwnam(name) : NULL;
}

uid_t check_uid(const struct report *r, const struct config *config, int role)
{
    const struct passwd *pw = user_of(config, role);
    if (r->user_mode)
        return r->owner;
    return pw != NULL ? pw->pw_uid : (uid_t)(config->uid_base + (unsigned)role);
}

/* A role makes its gid of its uid; what the service manager starts has that of its user. */
static void set_ids(const struct report *r, struct subject *s, int role)
{
    const struct passwd *pw = user_of(s->config, role);
    s->gid = s->row->alone && pw != NULL ? pw->pw_gid : check_uid(r, s->config, role);
    s->uid = check_uid(r, s->config, role);
}

static pid_t parent_of(pid_t pid)
{
    char text[4096], ppid[16];
    if (!proc_read(pid, "status", text, sizeof(text)))
        return 0;
    proc_field(text, "PPid", ppid, sizeof(ppid));
    return (pid_t)strtol(ppid, NULL, 10);
}

static void check_forked(struct report *r, const struct subject *parent, const char *row)
{
    char list[4096], name[64];
    snprintf(name, sizeof(name), "task/%d/children", (int)parent->pid);
    if (!proc_read(parent->pid, name, list, sizeof(list)))
        return;
    char *at = list;
    for (int i = 0; i < MAX_FORKED; i++) {
        long pid = strtol(at, &at, 10);
        if (pid <= 0)
            return;
        struct subject s = *parent;
        s.name = row;
        s.row = policy_row(row);
        s.pid = (pid_t)pid;
        s.landlock = s.mdwe = NULL;
        check_process(r, &s);
    }
}

static void check_role(struct report *r, const struct config *c, const struct table *status,
                       int role)
{
    const char *name = ctl_role_names[role], *pid = check_said(status, name, "pid");
    const char *audit = check_said(status, "audit", "pid");
    bool alone = check_said(status, name, "service") != NULL;
    long n = pid != NULL ? strtol(pid, NULL, 10) : 0;
    if (n <= 0 || n > MAX_PROCESS || parent_of((pid_t)n) == 0) {
        report_row(r, name, "process", "see `sealpostctl status` and the service's log",
                   "it does not run, or cannot be seen");
        return;
    }
    pid_t of_tree = alone && audit != NULL ? (pid_t)strtol(audit, NULL, 10) : (pid_t)n;
    struct subject s = {.name = name,
                        .row = policy_row(alone ? "door-unit" : name),
                        .config = c,
                        .pid = (pid_t)n,
                        .supervisor = parent_of(of_tree),
                        .user_mode = r->user_mode,
                        .landlock = check_said(status, name, "landlock_abi"),
                        .mdwe = check_said(status, name, "mdwe")};
    set_ids(r, &s, role);
    check_process(r, &s);
    if (role == ROLE_SMTP)
        check_forked(r, &s, "session");
    if (role == ROLE_RELAY)
        check_forked(r, &s, "delivery");
}

/* The parent of the roles: of the one that is never a service of its own. */
static void check_supervisor(struct report *r, const struct config *c, const struct table *status)
{
    const char *audit = check_said(status, "audit", "pid"),
               *keeper = check_said(status, "keeper", "pid");
    long n = audit != NULL ? strtol(audit, NULL, 10) : 0;
    pid_t pid = n > 0 && n <= MAX_PROCESS ? parent_of((pid_t)n) : 0;
    struct subject s = {.name = "supervisor",
                        .row = policy_row("supervisor"),
                        .config = c,
                        .pid = pid,
                        .supervisor = pid,
                        .keeper = keeper != NULL ? (pid_t)strtol(keeper, NULL, 10) : 0,
                        .user_mode = r->user_mode,
                        .uid = r->owner};
    if (pid > 1)
        check_process(r, &s);
    else
        report_row(r, s.name, "process", "see `sealpostctl status` and the service's log",
                   "it cannot be found: the audit role does not say who it is");
}

/* A tree in user mode lives in a user namespace that maps one uid alone. */
static bool in_user_mode(const struct table *status)
{
    char map[4096];
    const char *pid = check_said(status, "audit", "pid");
    if (geteuid() != 0)
        return true;
    return pid != NULL && proc_read((pid_t)strtol(pid, NULL, 10), "uid_map", map, sizeof(map)) &&
           strstr(map, "4294967295") == NULL;
}

static void print_report(const struct report *r, bool json)
{
    if (json) {
        table_print_json(&r->table, stdout);
        return;
    }
    if (r->table.rows > 1) {
        table_print(&r->table, stdout);
        putchar('\n');
    }
    printf("%u finding%s", r->findings, r->findings == 1 ? "" : "s");
    if (r->notes > 0)
        printf(", %u note%s", r->notes, r->notes == 1 ? "" : "s");
    putchar('\n');
}

/* Who started a tree in user mode is who made its control socket, which has just answered. */
static void see_mode(struct report *r, const struct config *config, const struct table *status)
{
    struct stat st;
    r->user_mode = in_user_mode(status);
    if (r->user_mode)
        r->owner = stat(config->control, &st) == 0 ? st.st_uid : geteuid();
}

int check_run(const struct config *config, const char *path, bool all, bool json)
{
    static const char *const headings[COLUMNS] = {"where", "layer", "result", "found",
                                                  "what to do"};
    struct report r = {.all = all};
    struct answer status;
    if (ctl_ask(config->control, CC_STATUS, NULL, 0, &status) != SP_OK)
        return 1;
    see_mode(&r, config, &status.table);
    add_cells(&r.table, headings);
    if (geteuid() != 0)
        report_row(&r, "sealpostctl", "view", "run it as root",
                   "an ordinary user cannot look into the tree's processes");
    check_supervisor(&r, config, &status.table);
    for (int role = 0; role < ROLE_COUNT; role++)
        check_role(&r, config, &status.table, role);
    check_host(&r, config);
    check_certificate(&r, config, &status.table);
    check_files(&r, config, path);
    print_report(&r, json);
    struct answer shown = {.table = r.table};
    answer_free(&shown);
    answer_free(&status);
    return r.findings == 0 ? 0 : 1;
}
