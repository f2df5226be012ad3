/* Shows the table of cages to people, as Markdown; docs/sandbox.md holds this very text, and a unit
 * test compares them. Reads constants only. */
#include "sandbox/steps.h"

#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    uint64_t bit;
    const char *name;
} cap_names[] = {
#define CAP(name)                                                                                  \
    {                                                                                              \
        UINT64_C(1) << CAP_##name, #name                                                           \
    }
    CAP(CHOWN),    CAP(DAC_OVERRIDE), CAP(FOWNER),    CAP(KILL),
    CAP(SETGID),   CAP(SETUID),       CAP(SETPCAP),   CAP(NET_BIND_SERVICE),
    CAP(IPC_LOCK), CAP(SYS_CHROOT),   CAP(SYS_ADMIN),
#undef CAP
};

static void print_caps(FILE *out, uint64_t caps)
{
    const char *between = "";
    for (size_t i = 0; i < sizeof(cap_names) / sizeof(*cap_names); i++) {
        if ((caps & cap_names[i].bit) == 0)
            continue;
        fprintf(out, "%s%s", between, cap_names[i].name);
        between = " ";
    }
    fprintf(out, "%s | ", caps == 0 ? "none" : "");
}

static void print_limit(FILE *out, rlim_t limit, rlim_t unit, const char *suffix)
{
    if (limit == RLIM_INFINITY)
        fprintf(out, "any | ");
    else
        fprintf(out, "%llu%s | ", (unsigned long long)(limit / unit), suffix);
}

static void print_sets(FILE *out, const struct policy *row)
{
    fprintf(out, "%s", row->deny ? "all but " : "");
    for (size_t i = 0; i < POLICY_MAX_SETS && row->sets[i] != NULL; i++)
        fprintf(out, "%s%s", i == 0 ? "" : ", ", row->sets[i]->name);
}

static void print_row(FILE *out, const struct policy *row)
{
    static const char *const roots[] = {
        [ROOT_EMPTY] = "empty", [ROOT_DATA] = "its data", [ROOT_INHERITED] = "inherited"};
    fprintf(out, "| %s | %s | %s | ", row->name, row->what, roots[row->root]);
    if (row->parent != NULL) {
        fprintf(out, "inherited | inherited | inherited | inherited | inherited | ");
    } else {
        fprintf(out, "%s | ", row->namespaces & CLONE_NEWNET ? "own, empty" : "host");
        print_caps(out, row->caps);
        print_limit(out, row->deny ? RLIM_INFINITY : row->nofile, 1, "");
        print_limit(out, row->deny ? RLIM_INFINITY : row->nproc, 1, "");
        print_limit(out, row->deny ? RLIM_INFINITY : row->fsize, 1024 * 1024, " MiB");
    }
    print_sets(out, row);
    fprintf(out, " |\n");
}

/* Rules of the same call stand together in their set: one entry, conditions in brackets. */
static size_t print_call(FILE *out, const struct rule_set *set, size_t at)
{
    const struct rule *rule = &set->rule[at];
    char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, rule->nr);
    fprintf(out, "%s%s", at == 0 ? "" : ", ", name == NULL ? "?" : name);
    free(name);
    if (rule->refuse != 0) {
        fprintf(out, " (%s%sgets %s)", rule->when == NULL ? "" : rule->when,
                rule->when == NULL ? "" : ": ", strerrorname_np(rule->refuse));
        return at + 1;
    }
    size_t next = at;
    const char *open = " (";
    for (; next < set->count && set->rule[next].nr == rule->nr; next++) {
        if (set->rule[next].when != NULL) {
            fprintf(out, "%s%s", open, set->rule[next].when);
            open = "; ";
        }
    }
    fprintf(out, "%s", rule->when != NULL ? ")" : "");
    return next;
}

static void print_set(FILE *out, const struct rule_set *set)
{
    fprintf(out, "- **%s**: %s.  \n  ", set->name, set->what);
    for (size_t i = 0; i < set->count;)
        i = print_call(out, set, i);
    fprintf(out, "\n");
}

void policy_print(FILE *out)
{
    static const struct rule_set *const all[] = {
        &calls_core,     &calls_loop,   &calls_memory, &calls_session, &calls_forks,  &calls_smtp,
        &calls_outgoing, &calls_dns,    &calls_door,   &calls_handing, &calls_locked, &calls_sealer,
        &calls_store,    &calls_keeper, &calls_web,    &calls_audit,   &calls_never};
    fprintf(out, "### Layers, in the order in which a role puts them on\n\n");
    for (size_t i = 0; step_name(i) != NULL; i++)
        fprintf(out, "%zu. %s\n", i + 1, step_name(i));
    fprintf(out, "\n### Rows\n\n| process | does | root | network | capabilities | descriptors | "
                 "forks | file size | system calls |\n"
                 "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for (size_t i = 0; policy_at(i) != NULL; i++)
        print_row(out, policy_at(i));
    fprintf(out, "\n### Sets of system calls\n\n");
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        print_set(out, all[i]);
}
