/* The layers of a cage that the kernel has had for long: descriptors, namespaces, root directory,
 * limits, uid, flags of the process. Runs in a role as it starts, before it meets anything hostile.
 */
#include "sandbox/steps.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than Debian 12's headers; Linux 6.3. */
#ifndef PR_SET_MDWE
#define PR_SET_MDWE              65
#define PR_GET_MDWE              66
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

#define MAX_KEEP 64

static enum sp_err fail(int why)
{
    errno = why;
    return SP_ERR_SYSTEM;
}

static int ascending(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

/* Closes all but 0, 1, 2, the new root and what the role was told to keep; those must be open. */
enum sp_err step_descriptors(const struct policy *row, const struct cage *cage)
{
    int keep[MAX_KEEP + 4] = {0, 1, 2};
    size_t n = 3;
    if (cage->n_keep > MAX_KEEP)
        return fail(E2BIG);
    for (size_t i = 0; i < cage->n_keep; i++)
        keep[n++] = cage->keep[i];
    if (row == NULL || row->root != ROOT_INHERITED)
        keep[n++] = cage->root;
    qsort(keep, n, sizeof(*keep), ascending);
    for (size_t i = 0; i < n; i++) {
        if (keep[i] < 0 || fcntl(keep[i], F_GETFD) < 0)
            return fail(EBADF);
        unsigned first = (unsigned)keep[i] + 1;
        unsigned last = i + 1 < n ? (unsigned)keep[i + 1] : UINT_MAX;
        if (i + 1 < n && last <= first)
            continue; /* neighbours, or named twice */
        last = i + 1 < n ? last - 1 : last;
        if (syscall(SYS_close_range, first, last, 0) != 0)
            return SP_ERR_SYSTEM;
    }
    return SP_OK;
}

/* The supervisor starts every role with CLONE_NEWPID: it is the first process of its own world,
 * sees no other, and all it forks dies with it. */
enum sp_err step_process_namespace(const struct policy *row, const struct cage *cage)
{
    (void)row;
    (void)cage;
    return getpid() == 1 ? SP_OK : fail(ECHILD);
}

/* Mounts keep propagating from the outside, so that a disk can still be unmounted there. The other
 * way needs mount(2), which the supervisor's filter has taken from the whole tree already. */
enum sp_err step_namespaces(const struct policy *row, const struct cage *cage)
{
    (void)cage;
    return unshare(row->namespaces) == 0 ? SP_OK : SP_ERR_SYSTEM;
}

static enum sp_err check_empty(int dir)
{
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    if (list == NULL) {
        if (copy >= 0)
            close(copy);
        return SP_ERR_SYSTEM;
    }
    const struct dirent *entry;
    int found = 0;
    errno = 0;
    while ((entry = readdir(list)) != NULL)
        found += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    int broken = errno;
    closedir(list);
    if (broken != 0)
        return fail(broken);
    return found == 0 ? SP_OK : fail(ENOTEMPTY);
}

/* An empty root must stay empty: nobody but root may write it. In user mode there is one uid, and
 * Landlock alone keeps it empty. */
static enum sp_err check_root(const struct policy *row, const struct cage *cage, struct stat *st)
{
    if (fstat(cage->root, st) != 0)
        return SP_ERR_SYSTEM;
    if (!S_ISDIR(st->st_mode))
        return fail(ENOTDIR);
    if (row->root != ROOT_EMPTY)
        return SP_OK;
    if (!cage->user_mode && (st->st_uid == cage->uid || (st->st_mode & 022) != 0))
        return fail(EPERM);
    return check_empty(cage->root);
}

enum sp_err step_root(const struct policy *row, const struct cage *cage)
{
    struct stat want, got;
    enum sp_err err = check_root(row, cage, &want);
    if (err != SP_OK)
        return err;
    if (fchdir(cage->root) != 0 || chroot(".") != 0 || chdir("/") != 0 || close(cage->root) != 0)
        return SP_ERR_SYSTEM;
    if (stat("/", &got) != 0)
        return SP_ERR_SYSTEM;
    return got.st_dev == want.st_dev && got.st_ino == want.st_ino ? SP_OK : fail(EXDEV);
}

/* Sets both limits to most, or to what is allowed if that is less, and asks back. */
static enum sp_err limit(__rlimit_resource_t what, rlim_t most)
{
    struct rlimit now, set;
    if (getrlimit(what, &now) != 0)
        return SP_ERR_SYSTEM;
    rlim_t to = now.rlim_max < most ? now.rlim_max : most;
    set = (struct rlimit){.rlim_cur = to, .rlim_max = to};
    if (setrlimit(what, &set) != 0 || getrlimit(what, &now) != 0)
        return SP_ERR_SYSTEM;
    return now.rlim_cur == to && now.rlim_max == to ? SP_OK : fail(EINVAL);
}

enum sp_err step_limits(const struct policy *row, const struct cage *cage)
{
    const struct {
        __rlimit_resource_t what;
        rlim_t most;
    } limits[] = {
        {RLIMIT_CORE, 0},           {RLIMIT_NOFILE, row->nofile},
        {RLIMIT_NPROC, row->nproc}, {RLIMIT_FSIZE, row->fsize},
        {RLIMIT_MSGQUEUE, 0},       {RLIMIT_MEMLOCK, RLIM_INFINITY}, /* as much as is allowed */
    };
    (void)cage;
    umask(077);
    for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
        enum sp_err err = limit(limits[i].what, limits[i].most);
        if (err != SP_OK)
            return err;
    }
    return SP_OK;
}

static enum sp_err check_identity(const struct cage *cage)
{
    uid_t ruid, euid, suid;
    gid_t rgid, egid, sgid;
    if (getresuid(&ruid, &euid, &suid) != 0 || getresgid(&rgid, &egid, &sgid) != 0)
        return SP_ERR_SYSTEM;
    if (cage->user_mode)
        return ruid == euid && euid == suid && rgid == egid && egid == sgid ? SP_OK : fail(EPERM);
    uid_t uid = cage->uid;
    if (ruid != uid || euid != uid || suid != uid || rgid != uid || egid != uid || sgid != uid)
        return fail(EPERM);
    return getgroups(0, NULL) == 0 ? SP_OK : fail(EPERM);
}

/* In user mode there is one uid only, which cannot be changed: the user namespace maps no other. */
enum sp_err step_identity(const struct policy *row, const struct cage *cage)
{
    (void)row;
    if (cage->user_mode)
        return check_identity(cage);
    if (cage->uid == 0)
        return fail(EINVAL);
    uid_t uid = cage->uid;
    /* Permitted capabilities outlive the change, for step_capabilities() to choose from. */
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 || setgroups(0, NULL) != 0 ||
        setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0)
        return SP_ERR_SYSTEM;
    return check_identity(cage);
}

/* With the capabilities gone: every way back to root must be shut. */
enum sp_err step_identity_final(const struct policy *row, const struct cage *cage)
{
    (void)row;
    if (setgroups(0, NULL) == 0)
        return fail(EPERM);
    if (!cage->user_mode &&
        (setuid(0) == 0 || seteuid(0) == 0 || setgid(0) == 0 || setegid(0) == 0))
        return fail(EPERM);
    return check_identity(cage);
}

enum sp_err step_given_identity(const struct policy *row, const struct cage *cage)
{
    uid_t ruid, euid, suid;
    gid_t rgid, egid, sgid, others[2];
    (void)row;
    (void)cage;
    enum sp_err err = caps_drop();
    if (err != SP_OK)
        return err;
    if (setuid(0) == 0 || seteuid(0) == 0 || setgid(0) == 0 || setegid(0) == 0 ||
        setgroups(0, NULL) == 0)
        return fail(EPERM);
    if (getresuid(&ruid, &euid, &suid) != 0 || getresgid(&rgid, &egid, &sgid) != 0)
        return SP_ERR_SYSTEM;
    int n = getgroups(2, others); /* systemd names the one group there again */
    bool one = ruid != 0 && ruid == euid && euid == suid && rgid != 0 && rgid == egid &&
               egid == sgid && (n == 0 || (n == 1 && others[0] == rgid));
    return one ? SP_OK : fail(EPERM);
}

/* A tree without a supervisor is none. A change of uid forgets this, so it comes after. */
enum sp_err step_parent(const struct policy *row, const struct cage *cage)
{
    int sig = 0;
    (void)row;
    (void)cage;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 ||
        prctl(PR_GET_PDEATHSIG, &sig, 0, 0, 0) != 0)
        return SP_ERR_SYSTEM;
    return sig == SIGKILL ? SP_OK : fail(EPERM);
}

enum sp_err step_no_new_privs(const struct policy *row, const struct cage *cage)
{
    (void)row;
    (void)cage;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return SP_ERR_SYSTEM;
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? SP_OK : fail(EPERM);
}

/* No core dump, also none into a pipe (which RLIMIT_CORE does not stop), no ptrace by the same uid.
 */
enum sp_err step_dumpable(const struct policy *row, const struct cage *cage)
{
    (void)row;
    (void)cage;
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return SP_ERR_SYSTEM;
    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 ? SP_OK : fail(EPERM);
}

bool mdwe_on(void)
{
    return prctl(PR_GET_MDWE, 0, 0, 0, 0) == PR_MDWE_REFUSE_EXEC_GAIN;
}

/* Memory that was ever writable never becomes executable. The one layer a kernel may lack (6.3 has
 * it): the filter refuses PROT_EXEC by itself, so this is a second lock on the same door. */
enum sp_err step_mdwe(const struct policy *row, const struct cage *cage)
{
    (void)row;
    (void)cage;
    if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0)
        return errno == EINVAL ? SP_OK : SP_ERR_SYSTEM;
    return mdwe_on() ? SP_OK : fail(EPERM);
}
