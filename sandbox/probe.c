/* Test build only: tries, from inside a cage, what a taken-over process would try. An action is one
 * raw system call, so that a denial is that call's own. */
#include "sandbox/policy.h"

#ifdef SEALPOST_TEST

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

const char *sandbox_break;

#define OF_SUPERVISOR "supervisor "

static bool is_broken(const struct policy *row, const char *step)
{
    const char *name = sandbox_break;
    size_t len = strlen(OF_SUPERVISOR);
    if (name == NULL || row->deny != (strncmp(name, OF_SUPERVISOR, len) == 0))
        return false;
    if (strcmp(name, "groups and uid") == 0 && strcmp(step, "no way back to root") == 0)
        return true; /* it would find that out */
    return strcmp(row->deny ? name + len : name, step) == 0;
}

/* A file, a socket of the network's, and words that go elsewhere. */
static bool leave_descriptors(void)
{
    int file = open("/etc/passwd", O_RDONLY);
    return file >= 0 && socket(AF_INET, SOCK_DGRAM, 0) >= 0 && dup2(file, STDERR_FILENO) >= 0;
}

/* Some layers are there before their step: what the step would have seen to is done the other way.
 */
bool sandbox_breaks(const struct policy *row, const char *step)
{
    struct rlimit core;
    if (!is_broken(row, step))
        return false;
    if (row->root == ROOT_DATA && (strcmp(sandbox_break, "root directory") == 0 ||
                                   strcmp(sandbox_break, "groups and uid") == 0))
        return false; /* it would not find its data, or not be let in */
    if (strcmp(step, "descriptors") == 0)
        return leave_descriptors();
    if (strcmp(step, "dumpable") == 0 && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0)
        return false;
    if (strcmp(step, "resource limits") == 0 && getrlimit(RLIMIT_CORE, &core) == 0) {
        core.rlim_cur = core.rlim_max;
        return setrlimit(RLIMIT_CORE, &core) == 0;
    }
    return true;
}

#define P(at) ((long)(intptr_t)(at))

static _Alignas(4096) char page[4096];
static struct stat st;
static struct io_uring_params ring;
static union bpf_attr map = {
    .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
static struct perf_event_attr counter = {.type = PERF_TYPE_SOFTWARE, .size = sizeof(counter)};
static struct sockaddr_in loopback = {
    .sin_family = AF_INET, .sin_port = 0x0900, .sin_addr.s_addr = 0x0100007f};
static struct sockaddr_un journal = {.sun_family = AF_UNIX, .sun_path = "/run/systemd/journal"};
static struct msghdr message = {.msg_name = &loopback, .msg_namelen = sizeof(loopback)};

/* Where a call wants a socket it gets descriptor 3: every process of the tree has one there. */
#define SOCKET 3

static const struct action {
    const char *name;
    long nr, arg[6];
} actions[] = {
    /* files */
    {"open", SYS_openat, {AT_FDCWD, P("/etc/passwd"), O_RDONLY}},
    {"open-proc", SYS_openat, {AT_FDCWD, P("/proc/self/environ"), O_RDONLY}},
    {"open-root", SYS_openat, {AT_FDCWD, P("/"), O_RDONLY | O_DIRECTORY}},
    {"open-path", SYS_openat, {AT_FDCWD, P("/"), O_PATH | O_DIRECTORY}},
    {"open-device", SYS_openat, {AT_FDCWD, P("/dev/mem"), O_RDWR}},
    {"create", SYS_openat, {AT_FDCWD, P("/probe"), O_WRONLY | O_CREAT, 0600}},
    {"read-state", SYS_openat, {AT_FDCWD, P("../../../../var/lib"), O_RDONLY | O_DIRECTORY}},
    {"stat", SYS_newfstatat, {AT_FDCWD, P("/etc/passwd"), P(&st), 0}},
    {"mkdir", SYS_mkdirat, {AT_FDCWD, P("/probe"), 0700}},
    {"symlink", SYS_symlinkat, {P("/etc"), AT_FDCWD, P("/probe")}},
    {"unlink", SYS_unlinkat, {AT_FDCWD, P("/probe"), 0}},
    {"chmod", SYS_fchmodat, {AT_FDCWD, P("/"), 0777}},
    {"chdir", SYS_chdir, {P("..")}},
    {"chroot", SYS_chroot, {P("/")}},
    {"mount", SYS_mount, {P("none"), P("/"), P("tmpfs"), 0, 0}},
    /* network */
    {"socket-inet", SYS_socket, {AF_INET, SOCK_STREAM, 0}},
    {"socket-unix", SYS_socket, {AF_UNIX, SOCK_STREAM, 0}},
    {"socket-netlink", SYS_socket, {AF_NETLINK, SOCK_RAW, 0}},
    {"socketpair", SYS_socketpair, {AF_UNIX, SOCK_SEQPACKET, 0, P(page)}},
    {"connect", SYS_connect, {SOCKET, P(&loopback), sizeof(loopback)}},
    {"connect-unix", SYS_connect, {SOCKET, P(&journal), sizeof(journal)}},
    {"send-message", SYS_sendmsg, {SOCKET, P(&message), 0}},
    {"peek", SYS_recvmsg, {SOCKET, P(&message), MSG_PEEK | MSG_DONTWAIT}},
    {"shutdown", SYS_shutdown, {SOCKET, SHUT_RD}},
    {"connect-fastopen", SYS_sendmsg, {SOCKET, P(&message), MSG_FASTOPEN}},
    {"sendto-address", SYS_sendto, {SOCKET, P(page), 1, 0, P(&loopback), sizeof(loopback)}},
    {"bind", SYS_bind, {SOCKET, P(&loopback), sizeof(loopback)}},
    {"listen", SYS_listen, {SOCKET, 1}},
    {"accept", SYS_accept4, {SOCKET, 0, 0, 0}},
    {"attach-filter", SYS_setsockopt, {SOCKET, SOL_SOCKET, SO_ATTACH_FILTER, 0, 0}},
    /* code */
    {"execve", SYS_execve, {P("/bin/true"), 0, 0}},
    {"execveat", SYS_execveat, {AT_FDCWD, P("/bin/true"), 0, 0, 0}},
    {"mmap-exec",
     SYS_mmap,
     {0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
    {"mprotect-exec", SYS_mprotect, {P(page), sizeof(page), PROT_READ | PROT_EXEC}},
    /* processes */
    {"fork", SYS_clone, {CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, 0, 0, P(page)}},
    {"vfork", SYS_clone, {SIGCHLD, 0, 0, 0}},
    {"clone-newuser", SYS_clone, {CLONE_NEWUSER | SIGCHLD, 0, 0, 0}},
    {"clone3", SYS_clone3, {0, 0}},
    {"kill", SYS_kill, {-1, 0}},
    {"kill-supervisor", SYS_tgkill, {1, 1, SIGKILL}},
    {"ptrace", SYS_ptrace, {PTRACE_SEIZE, 1, 0, 0}},
    {"process-vm-readv", SYS_process_vm_readv, {1, 0, 0, 0, 0, 0}},
    {"pidfd-open", SYS_pidfd_open, {1, 0}},
    {"pidfd-getfd", SYS_pidfd_getfd, {SOCKET, 0, 0}},
    /* privilege */
    {"setuid", SYS_setresuid, {0, 0, 0}},
    {"setgroups", SYS_setgroups, {0, 0}},
    {"unshare", SYS_unshare, {CLONE_NEWUSER}},
    {"setns", SYS_setns, {SOCKET, 0}},
    {"prctl-dumpable", SYS_prctl, {PR_SET_DUMPABLE, 1, 0, 0, 0}},
    {"prlimit", SYS_prlimit64, {0, RLIMIT_CORE, P(page), 0}},
    {"personality", SYS_personality, {0}},
    /* the kernel's larger doors */
    {"bpf", SYS_bpf, {BPF_MAP_CREATE, P(&map), sizeof(map)}},
    {"io-uring", SYS_io_uring_setup, {1, P(&ring)}},
    {"userfaultfd", SYS_userfaultfd, {O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */}},
    {"perf", SYS_perf_event_open, {P(&counter), 0, -1, -1, 0}},
    {"keyctl", SYS_keyctl, {KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1}},
    {"futex-requeue", SYS_futex, {P(page), 12 /* FUTEX_CMP_REQUEUE_PI */, 1, 0, 0, 0}},
    {"module", SYS_finit_module, {SOCKET, P(""), 0}},
};

/* Only a fork can return 0 to someone else: the copy ends here. */
static bool is_fork(const struct action *action)
{
    return action->nr == SYS_clone;
}

#ifdef __x86_64__
/* The other two ways into the kernel of this processor, which count calls differently. */
static long call_i386(void)
{
    long result = 20; /* getpid */
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory");
    return result;
}

static long call_x32(void)
{
    return syscall(0x40000000 | SYS_getpid);
}
#endif

static const struct {
    const char *name;
    long (*call)(void);
} entries[] = {
#ifdef __x86_64__
    {"syscall-i386", call_i386},
    {"syscall-x32", call_x32},
#endif
    {NULL, NULL},
};

const char *sandbox_probe_name(size_t i)
{
    const size_t n = sizeof(actions) / sizeof(*actions);
    if (i < n)
        return actions[i].name;
    return i - n < sizeof(entries) / sizeof(*entries) ? entries[i - n].name : NULL;
}

int sandbox_probe(const char *name)
{
    for (size_t i = 0; i < sizeof(actions) / sizeof(*actions); i++) {
        const struct action *a = &actions[i];
        if (strcmp(a->name, name) != 0)
            continue;
        const long *arg = a->arg;
        long result = syscall(a->nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
        if (result == 0 && is_fork(a))
            _exit(0);
        return result < 0 ? errno : 0;
    }
    for (size_t i = 0; entries[i].name != NULL; i++) {
        if (strcmp(entries[i].name, name) == 0)
            return entries[i].call() < 0 ? ENOSYS : 0;
    }
    return -1;
}

#endif
