/* What a process has mapped: whether anything is both writable and executable, and whether the
 * memory for secrets is of the kind it should be, and locked, mapping by mapping. */
#include "daemon/control/check.h"
#include "daemon/messages.h"
#include "daemon/tls.h"

#include <ctype.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>

#define NOT_ITSELF "restart the appliance; if it comes back, this process may have been taken over"
#define TOO_LITTLE                                                                                 \
    "let the service lock more: LimitMEMLOCK= of its unit (256M as it is delivered), or ulimit -l"

/* Who has secrets in locked memory, and how much of it the system has to let it lock: a session's
 * and a delivery's heap is locked as a whole, though most of it may never be touched. */
static const struct {
    const char *process;
    bool always; /* from its start on, in mappings of sandbox/lockmem.h; else some pages at least */
    uint64_t needed; /* bytes; 0: it has CAP_IPC_LOCK, or needs a few pages */
} secretive[] = {
    {"sealer", true, 0},
    {"keeper", true, 0},
    {"audit", true, 0},
    {"session", false, TLS_HEAP_SESSION + SLOT_SIZE},
    {"delivery", false, TLS_HEAP_DELIVERY},
};

struct mapped {
    bool exec;       /* something is writable and executable */
    bool secret;     /* there is memfd_secret */
    bool memfd;      /* there is memory that mlock has to lock */
    bool unlocked;   /* of that, some is not */
    bool any_locked; /* of anything, something is */
};

/* One mapping: its line as in /proc/PID/maps, then its flags (lo: locked). The shared ones are
 * those of sandbox/lockmem.h; a private one is a heap, whose image in the parent holds nothing. */
static void look_at(struct mapped *m, const char *line, const char *flags)
{
    char perms[8] = "";
    bool lo = strstr(flags, " lo") != NULL;
    sscanf(line, "%*s %7s", perms);
    bool memfd = strstr(line, "/memfd:sealpost") != NULL && perms[3] == 's';
    m->exec |= perms[1] == 'w' && perms[2] == 'x';
    m->secret |= strstr(line, "secretmem") != NULL;
    m->memfd |= memfd;
    m->unlocked |= memfd && !lo;
    m->any_locked |= lo;
}

static bool read_mappings(pid_t pid, struct mapped *out)
{
    char path[64], *text = NULL, line[512] = "";
    size_t cap = 0;
    snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
    FILE *file = fopen(path, "re");
    *out = (struct mapped){0};
    if (file == NULL)
        return false;
    while (getline(&text, &cap, file) > 0) {
        if (strncmp(text, "VmFlags:", strlen("VmFlags:")) == 0)
            look_at(out, line, text);
        else if (isdigit((unsigned char)text[0]) || islower((unsigned char)text[0]))
            snprintf(line, sizeof(line), "%s", text); /* its address; fields begin in capitals */
    }
    free(text);
    fclose(file);
    return line[0] != '\0';
}

static void check_limit(struct report *r, const struct subject *s, uint64_t needed)
{
    char limits[4096], most[32] = "";
    proc_read(s->pid, "limits", limits, sizeof(limits));
    const char *line = strstr(limits, "Max locked memory");
    if (needed == 0 || line == NULL)
        return;
    sscanf(line + strlen("Max locked memory"), "%31s", most);
    bool enough = strcmp(most, "unlimited") == 0 || strtoull(most, NULL, 10) >= needed;
    report_row(r, s->name, "locked memory", enough ? NULL : TOO_LITTLE,
               enough ? "may lock %s bytes, of %llu that it may need"
                      : "may lock %s bytes alone, of %llu that it may need",
               most, (unsigned long long)needed);
}

static void check_kind(struct report *r, const struct subject *s, const struct mapped *m,
                       bool always)
{
    bool weak = !m->secret && s->config->memory_lock == LOCK_SECRETMEM && (always || m->memfd);
    bool none = always ? !m->secret && !m->memfd : !m->any_locked;
    report_row(r, s->name, "locked memory", weak || none || m->unlocked ? NOT_ITSELF : NULL, "%s",
               m->unlocked ? "memfd that is not locked"
               : none      ? "none"
               : m->secret ? "memfd_secret"
               : m->memfd
                   ? "memfd and mlock (root can read it; the kernel lacks secretmem, or it is off)"
                   : "pages of its own; no slot or vault yet");
}

void check_memory(struct report *r, const struct subject *s)
{
    struct mapped m;
    if (!read_mappings(s->pid, &m))
        return;
    report_row(r, s->name, "memory", m.exec ? NOT_ITSELF : NULL,
               m.exec ? "memory that is writable and executable"
                      : "nothing writable and executable");
    for (size_t i = 0; i < sizeof(secretive) / sizeof(secretive[0]); i++) {
        if (strcmp(secretive[i].process, s->name) == 0)
            check_kind(r, s, &m, secretive[i].always);
        /* Of a parent before the first child is there: they have its limits. */
        const char *parent = policy_row(secretive[i].process)->parent;
        if (parent != NULL && strcmp(parent, s->name) == 0)
            check_limit(r, s, secretive[i].needed);
    }
}
