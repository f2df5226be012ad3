/* Puts a cage on this process, layer by layer, in the one order that works. The caller trusts the
 * row and its descriptors; from the return on, whatever the process reads may be hostile. */
#include "sandbox/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static struct sandbox_layers layers; /* written once, as the cage goes on */

void sandbox_layers(struct sandbox_layers *out)
{
    *out = layers;
}

enum sp_err step_prepare(const struct policy *row, const struct cage *cage)
{
    (void)row;
    return cage->prepare == NULL ? SP_OK : cage->prepare(cage->ctx);
}

enum sp_err step_filter(const struct policy *row, const struct cage *cage)
{
    (void)cage;
    struct sock_fprog prog;
    layers = (struct sandbox_layers){.landlock_abi = landlock_in_force(), .mdwe = mdwe_on()};
    enum sp_err err = sandbox_compile(row, &prog);
    if (err == SP_OK)
        err = sandbox_install(&prog);
    int why = errno;
    free(prog.filter);
    errno = why;
    return err;
}

/* UTC, without a file: otherwise the first reply that carries a date opens /etc/localtime. */
static enum sp_err step_time_zone(const struct policy *row, const struct cage *cage)
{
    (void)row;
    (void)cage;
    if (setenv("TZ", "UTC0", 1) != 0)
        return SP_ERR_MEMORY;
    tzset();
    return SP_OK;
}

/* Why this order: namespaces, chroot and uid need the capabilities that go next; no_new_privs is
 * what Landlock and the filter ask for; the uid change resets dumpable; prepare() may still open
 * files in the role's root; the filter takes the calls that all the others needed. */
struct step {
    const char *name;
    enum sp_err (*put_on)(const struct policy *row, const struct cage *cage);
};

static const struct step steps[] = {
    {"time zone", step_time_zone},
    {"descriptors", step_descriptors},
    {"process namespace", step_process_namespace},
    {"namespaces", step_namespaces},
    {"root directory", step_root},
    {"resource limits", step_limits},
    {"groups and uid", step_identity},
    {"capabilities", step_capabilities},
    {"no way back to root", step_identity_final},
    {"death with the supervisor", step_parent},
    {"no_new_privs", step_no_new_privs},
    {"dumpable", step_dumpable},
    {"memory-deny-write-execute", step_mdwe},
    {"Landlock", step_landlock},
    {"prepare", step_prepare},
    {"system call filter", step_filter},
};

/* Of a row that says alone. */
static const struct step alone[] = {
    {"time zone", step_time_zone},
    {"descriptors", step_descriptors},
    {"resource limits", step_limits},
    {"no way back to root", step_given_identity},
    {"no_new_privs", step_no_new_privs},
    {"dumpable", step_dumpable},
    {"memory-deny-write-execute", step_mdwe},
    {"Landlock", step_landlock},
    {"prepare", step_prepare},
    {"system call filter", step_filter},
};

const char *step_name(size_t i)
{
    return i < sizeof(steps) / sizeof(*steps) ? steps[i].name : NULL;
}

static enum sp_err put_on(const struct step *list, size_t n, const char *without,
                          const struct policy *row, const struct cage *cage, const char **step)
{
    for (size_t i = 0; i < n; i++) {
        if (without != NULL && strcmp(list[i].name, without) == 0)
            continue;
        *step = list[i].name;
        errno = 0;
#ifdef SEALPOST_TEST
        if (sandbox_breaks(row, list[i].name))
            continue;
#endif
        enum sp_err err = list[i].put_on(row, cage);
        if (err != SP_OK)
            return err;
    }
    *step = NULL;
    return SP_OK;
}

enum sp_err sandbox_enter(const struct policy *row, const struct cage *cage, const char **step)
{
    *step = "policy";
    if (row->parent != NULL || row->deny || row->alone || (!cage->user_mode && cage->uid == 0)) {
        errno = EINVAL;
        return SP_ERR_STATE;
    }
    return put_on(steps, sizeof(steps) / sizeof(*steps), NULL, row, cage, step);
}

enum sp_err sandbox_backup(const struct cage *cage, const char **step)
{
    return put_on(steps, sizeof(steps) / sizeof(*steps), "process namespace", policy_row("backup"),
                  cage, step);
}

enum sp_err sandbox_alone(const struct policy *row, const struct cage *cage, const char **step)
{
    *step = "policy";
    if (!row->alone) {
        errno = EINVAL;
        return SP_ERR_STATE;
    }
    return put_on(alone, sizeof(alone) / sizeof(*alone), NULL, row, cage, step);
}

/* Its securebits stay as they are: root's capabilities must reach the roles through execve(). */
static enum sp_err step_supervisor_capabilities(const struct policy *row, const struct cage *cage)
{
    (void)cage;
    return caps_limit(row->caps, false);
}

static const struct step supervising[] = {
    {"capabilities", step_supervisor_capabilities},
    {"no_new_privs", step_no_new_privs},
    {"dumpable", step_dumpable},
    {"system call filter", step_filter},
};

enum sp_err sandbox_supervisor(bool user_mode, const char **step)
{
    (void)user_mode; /* the same capabilities, though they count inside the user namespace alone */
    return put_on(supervising, sizeof(supervising) / sizeof(*supervising), NULL,
                  policy_row("supervisor"), NULL, step);
}

static enum sp_err write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return SP_ERR_SYSTEM;
    ssize_t n = write(fd, text, strlen(text));
    int why = errno;
    close(fd);
    errno = why;
    return n == (ssize_t)strlen(text) ? SP_OK : SP_ERR_SYSTEM;
}

/* setgroups must be denied before an unprivileged process may map its gid: user_namespaces(7). */
enum sp_err sandbox_user_namespace(void)
{
    char uid_map[32], gid_map[32];
    snprintf(uid_map, sizeof(uid_map), "0 %u 1\n", (unsigned)geteuid());
    snprintf(gid_map, sizeof(gid_map), "0 %u 1\n", (unsigned)getegid());
    if (unshare(CLONE_NEWUSER) != 0)
        return SP_ERR_SYSTEM;
    enum sp_err err = write_file("/proc/self/setgroups", "deny");
    if (err == SP_OK)
        err = write_file("/proc/self/uid_map", uid_map);
    if (err == SP_OK)
        err = write_file("/proc/self/gid_map", gid_map);
    return err;
}
