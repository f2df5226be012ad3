/* The system calls that rows are made of, as sets of rules. Read by a role before it meets anything
 * hostile; nothing here depends on input. A number is compared in full where the kernel takes a
 * long, in its low 32 bits where it takes an int: what the kernel ignores, the filter ignores. */
#include "sandbox/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* Newer than Debian 12's headers. */
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08 /* Linux 6.11: glibc 2.41 keeps getrandom()'s state in such a page */
#endif

#define LOW32 0xffffffffu
#define IS(i, value)                                                                               \
    {                                                                                              \
        (i), SCMP_CMP_EQ, (value), 0                                                               \
    }
#define BITS(i, mask, value)                                                                       \
    {                                                                                              \
        (i), SCMP_CMP_MASKED_EQ, (mask), (value)                                                   \
    }
#define INT(i, value) BITS(i, LOW32, value)
#define OFF(i, mask)  BITS(i, mask, 0)

#define CALL(call)                                                                                 \
    {                                                                                              \
        .nr = SCMP_SYS(call)                                                                       \
    }
#define REFUSE(call, with)                                                                         \
    {                                                                                              \
        .nr = SCMP_SYS(call), .refuse = (with)                                                     \
    }
#define REFUSE_WHEN(call, with, words, ...)                                                        \
    {                                                                                              \
        .nr = SCMP_SYS(call), .refuse = (with), .when = (words), .n = COUNT(__VA_ARGS__), .arg = { \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define COUNT(...) (sizeof((struct scmp_arg_cmp[]){__VA_ARGS__}) / sizeof(struct scmp_arg_cmp))
#define WHEN(call, words, ...)                                                                     \
    {                                                                                              \
        .nr = SCMP_SYS(call), .when = (words), .n = COUNT(__VA_ARGS__), .arg = { __VA_ARGS__ }     \
    }

#define SET(id, title, text)                                                                       \
    const struct rule_set calls_##id = {title, text, id, sizeof(id) / sizeof(*id)}

#define NO_EXEC(i) OFF(i, PROT_EXEC)

/* futex(2): waiting and waking alone. The rest (requeue, priority inheritance) has a history. */
#define FUTEX(op, words)                                                                           \
    WHEN(futex, words, BITS(1, LOW32 & ~(unsigned)(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME), op))

/* Every process has these: its descriptors, its own memory, time, randomness, its end. */
static const struct rule core[] = {
    CALL(read),
    CALL(readv),
    CALL(pread64),
    CALL(lseek),
    CALL(write),
    CALL(writev),
    CALL(close),
    CALL(poll),
    CALL(ppoll),
    CALL(fstat),
    WHEN(newfstatat, "of a descriptor (AT_EMPTY_PATH)", INT(3, AT_EMPTY_PATH)),
    /* A descriptor that is peeked at is had twice: by this process, and by the next that takes it.
     */
    WHEN(recvmsg, "without MSG_PEEK", OFF(2, MSG_PEEK)),
    CALL(recvfrom),
    WHEN(sendto, "to no address, without MSG_FASTOPEN", OFF(3, MSG_FASTOPEN), IS(4, 0)),
    WHEN(fcntl, "F_GETFD", INT(1, F_GETFD)),
    WHEN(fcntl, "F_SETFD", INT(1, F_SETFD)),
    WHEN(fcntl, "F_GETFL", INT(1, F_GETFL)),
    WHEN(fcntl, "F_SETFL", INT(1, F_SETFL)),
    WHEN(fcntl, "F_DUPFD_CLOEXEC", INT(1, F_DUPFD_CLOEXEC)),
    WHEN(mmap, "private, not executable", NO_EXEC(2), BITS(3, MAP_TYPE, MAP_PRIVATE)),
    WHEN(mmap, "droppable, not executable", NO_EXEC(2), BITS(3, MAP_TYPE, MAP_DROPPABLE)),
    WHEN(mprotect, "not executable", NO_EXEC(2)),
    CALL(munmap),
    CALL(mremap),
    CALL(brk),
    WHEN(madvise, "MADV_DONTNEED", INT(2, MADV_DONTNEED)),
    WHEN(madvise, "MADV_FREE", INT(2, MADV_FREE)),
    WHEN(madvise, "MADV_DONTDUMP", INT(2, MADV_DONTDUMP)),
    WHEN(madvise, "MADV_WIPEONFORK", INT(2, MADV_WIPEONFORK)),
    FUTEX(FUTEX_WAIT, "wait"),
    FUTEX(FUTEX_WAKE, "wake"),
    FUTEX(FUTEX_WAIT_BITSET, "wait, bit set"),
    FUTEX(FUTEX_WAKE_BITSET, "wake, bit set"),
    CALL(sched_yield),
    CALL(clock_gettime),
    CALL(clock_getres),
    CALL(gettimeofday),
    CALL(time),
    CALL(getrandom),
    CALL(getpid),
    CALL(gettid),
    CALL(sysinfo), /* qsort() of more than a kilobyte asks how much memory there is, glibc < 2.37 */
    WHEN(prlimit64, "reading its own", INT(0, 0), IS(2, 0)),
    CALL(rt_sigaction),
    CALL(rt_sigprocmask),
    CALL(rt_sigreturn),
    CALL(restart_syscall),
    CALL(exit),
    CALL(exit_group),
    /* abort() then ends by SIGSEGV: a failed assertion is a crash, not a violation. */
    REFUSE(tgkill, EPERM),
};
SET(core, "core", "own descriptors, own memory, time, randomness, exit");

/* libevent's loop; its descriptors are made in prepare(). */
static const struct rule loop[] = {
    WHEN(sendmsg, "without MSG_FASTOPEN, which connects", OFF(2, MSG_FASTOPEN)),
    CALL(epoll_wait),
    CALL(epoll_pwait),
    CALL(epoll_ctl),
};
SET(loop, "loop", "an event loop that exists already, passing descriptors on");

/* Locked memory and memory shared with another role. */
static const struct rule memory[] = {
    WHEN(mmap, "shared, not executable", NO_EXEC(2), BITS(3, MAP_TYPE, MAP_SHARED)),
    CALL(mlock),
    CALL(mlock2),
    CALL(munlock),
    CALL(fstatfs),
    WHEN(fcntl, "F_GET_SEALS", INT(1, F_GET_SEALS)),
    WHEN(madvise, "MADV_DONTFORK", INT(2, MADV_DONTFORK)),
    WHEN(madvise, "MADV_DOFORK", INT(2, MADV_DOFORK)),
};
SET(memory, "memory", "locked memory, memory shared by descriptor");

#define SOCKOPT(level, option)                                                                     \
    WHEN(setsockopt, #option, INT(1, (unsigned)(level)), INT(2, (unsigned)(option)))

static const struct rule session[] = {
    CALL(shutdown),
    SOCKOPT(IPPROTO_TCP, TCP_QUICKACK),
    CALL(setitimer),
    CALL(alarm),
};
SET(session, "session", "answering at once, ending its connection, its own deadline");

/* What glibc's fork() asks for: nothing shared, no namespace. */
#define FORK_FLAGS (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD)

static const struct rule forks[] = {
    WHEN(socketpair, "AF_UNIX, SOCK_SEQPACKET", INT(0, AF_UNIX), BITS(1, 0xf, SOCK_SEQPACKET)),
    WHEN(clone, "fork(), exactly", IS(0, FORK_FLAGS)),
    CALL(set_robust_list),
    CALL(rseq),
    CALL(wait4),
    WHEN(kill, "one process, SIGTERM", OFF(0, 0x80000000u), INT(1, SIGTERM)),
    WHEN(kill, "one process, SIGKILL", OFF(0, 0x80000000u), INT(1, SIGKILL)),
    CALL(close_range),
    CALL(dup2),
    CALL(dup3),
    WHEN(seccomp, "adding a filter", INT(0, SECCOMP_SET_MODE_FILTER),
         INT(1, SECCOMP_FILTER_FLAG_TSYNC)),
};
SET(forks, "forks", "forking a process under a filter of its own, and ending it");

static const struct rule smtp[] = {
    CALL(accept4),
    CALL(getpeername),
    CALL(getsockname),
};
SET(smtp, "smtp", "accepting connections");

/* Outgoing TCP on sockets that the door has made, and no other network. */
#define TCP_OPTIONS                                                                                \
    SOCKOPT(SOL_SOCKET, SO_KEEPALIVE), SOCKOPT(SOL_SOCKET, SO_LINGER),                             \
        SOCKOPT(SOL_SOCKET, SO_RCVTIMEO), SOCKOPT(SOL_SOCKET, SO_SNDTIMEO),                        \
        SOCKOPT(SOL_SOCKET, SO_SNDBUF), SOCKOPT(SOL_SOCKET, SO_RCVBUF),                            \
        SOCKOPT(IPPROTO_TCP, TCP_NODELAY), SOCKOPT(IPPROTO_TCP, TCP_USER_TIMEOUT)
static const struct rule outgoing[] = {
    CALL(connect),
    CALL(getpeername),
    CALL(getsockname),
    /* Not shutdown(): the channels of the door are shared. */
    CALL(setitimer),
    CALL(alarm),
    WHEN(getsockopt, "SO_ERROR", INT(1, SOL_SOCKET), INT(2, SO_ERROR)),
    TCP_OPTIONS,
};
SET(outgoing, "outgoing", "TCP to the outside");

/* Questions and answers by UDP, long answers by TCP. Landlock lets no TCP port be bound. */
static const struct rule dns[] = {
    CALL(bind),
    CALL(connect),
    WHEN(getsockopt, "SO_ERROR", INT(1, SOL_SOCKET), INT(2, SO_ERROR)),
    SOCKOPT(SOL_SOCKET, SO_REUSEADDR),
    SOCKOPT(IPPROTO_IP, IP_MTU_DISCOVER),
    SOCKOPT(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT),
    SOCKOPT(IPPROTO_IPV6, IPV6_V6ONLY),
    SOCKOPT(IPPROTO_IPV6, IPV6_MTU),
    SOCKOPT(IPPROTO_IPV6, IPV6_MTU_DISCOVER),
    /* libunbound tries it first, and then connects. */
    REFUSE_WHEN(sendmsg, EPIPE, "with MSG_FASTOPEN", BITS(2, MSG_FASTOPEN, MSG_FASTOPEN)),
};
SET(dns, "dns", "UDP and TCP to servers of the outside");

/* No protocol but TCP and UDP; nothing to bind, connect or accept with. */
#define MAKE(family, type)                                                                         \
    WHEN(socket, #family ", " #type, INT(0, family), BITS(1, 0xf, type), INT(2, 0))
static const struct rule door[] = {
    MAKE(AF_INET, SOCK_STREAM),
    MAKE(AF_INET6, SOCK_STREAM),
    MAKE(AF_INET, SOCK_DGRAM),
    MAKE(AF_INET6, SOCK_DGRAM),
};
SET(door, "door", "making sockets of the Internet");

static const struct rule handing[] = {
    CALL(accept4),
    WHEN(getsockopt, "SO_PEERCRED", INT(1, SOL_SOCKET), INT(2, SO_PEERCRED)),
    WHEN(socketpair, "AF_UNIX, SOCK_SEQPACKET", INT(0, AF_UNIX), BITS(1, 0xf, SOCK_SEQPACKET)),
    SOCKOPT(SOL_SOCKET, SO_SNDBUF),
};
SET(handing, "handing", "answering the supervisor");

static const struct rule locked[] = {
    CALL(memfd_secret),
    CALL(memfd_create),
    CALL(ftruncate),
};
SET(locked, "locked", "making locked memory");

static const struct rule sealer[] = {
    WHEN(fcntl, "F_ADD_SEALS", INT(1, F_ADD_SEALS)),
};
SET(sealer, "sealer", "sealing slots against resizing");

/* LMDB once open, and the ring of the sealer. */
static const struct rule store[] = {
    CALL(pwrite64),
    CALL(pwritev),
    CALL(fdatasync),
    CALL(fsync),
    CALL(msync),
    CALL(ftruncate),
    WHEN(fcntl, "F_GETLK", INT(1, F_GETLK)),
    WHEN(fcntl, "F_SETLK", INT(1, F_SETLK)),
    WHEN(fcntl, "F_SETLKW", INT(1, F_SETLKW)),
};
SET(store, "store", "writing and syncing its open files");

/* What glibc's pthread_create() asks for, where there is no clone3(): LMDB copies with a thread
 * that writes. */
#define THREAD_FLAGS                                                                               \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)

static const struct rule copying[] = {
    CALL(openat),           CALL(uname),
    REFUSE(clone3, ENOSYS), WHEN(clone, "a thread", BITS(0, THREAD_FLAGS, THREAD_FLAGS)),
    CALL(set_robust_list),  CALL(rseq),
};
SET(copying, "copying", "opening files in its root, a thread");

static const struct rule keeper[] = {
    CALL(pwrite64),
    CALL(fdatasync),
};
SET(keeper, "keeper", "overwriting slots in place");

static const struct rule web[] = {
    CALL(accept4),
    CALL(getpeername),
    CALL(getsockname),
    CALL(shutdown),
    WHEN(getsockopt, "SOL_SOCKET", INT(1, SOL_SOCKET)),
    SOCKOPT(SOL_SOCKET, SO_KEEPALIVE),
    SOCKOPT(SOL_SOCKET, SO_LINGER),
    SOCKOPT(IPPROTO_TCP, TCP_NODELAY),
    SOCKOPT(IPPROTO_TCP, TCP_QUICKACK),
    WHEN(ioctl, "FIONREAD", INT(1, FIONREAD)),
    /* getnameinfo() wants the interface's name of a link-local client, and lives without it. */
    REFUSE(socket, EACCES),
};
SET(web, "web", "accepting and serving connections");

static const struct rule audit[] = {
    CALL(pwrite64),
    CALL(fdatasync),
    CALL(fsync),
};
SET(audit, "audit", "appending to the log, replacing its key");

/* What no process of the tree needs, from the first moment on, the supervisor included. */
static const struct rule never[] = {
    CALL(ptrace),
    CALL(process_vm_readv),
    CALL(process_vm_writev),
    CALL(pidfd_getfd),
    CALL(process_madvise),
    CALL(kcmp),
    CALL(bpf),
    CALL(perf_event_open),
    CALL(userfaultfd),
    CALL(io_uring_setup),
    CALL(io_uring_enter),
    CALL(io_uring_register),
    CALL(io_setup),
    CALL(keyctl),
    CALL(add_key),
    CALL(request_key),
    CALL(kexec_load),
    CALL(kexec_file_load),
    CALL(init_module),
    CALL(finit_module),
    CALL(delete_module),
    CALL(mount),
    CALL(umount2),
    CALL(pivot_root),
    CALL(open_tree),
    CALL(move_mount),
    CALL(fsopen),
    CALL(fsconfig),
    CALL(fsmount),
    CALL(fspick),
    CALL(mount_setattr),
    CALL(setns),
    CALL(open_by_handle_at),
    CALL(name_to_handle_at),
    CALL(swapon),
    CALL(swapoff),
    CALL(reboot),
    CALL(settimeofday),
    CALL(clock_settime),
    CALL(adjtimex),
    CALL(clock_adjtime),
    CALL(iopl),
    CALL(ioperm),
    CALL(modify_ldt),
    CALL(personality),
    CALL(acct),
    CALL(quotactl),
    CALL(syslog),
    CALL(fanotify_init),
    CALL(lookup_dcookie),
    CALL(uselib),
    CALL(vmsplice),
    CALL(sethostname),
    CALL(setdomainname),
    WHEN(unshare, "a user namespace", BITS(0, CLONE_NEWUSER, CLONE_NEWUSER)),
    WHEN(clone, "a user namespace", BITS(0, CLONE_NEWUSER, CLONE_NEWUSER)),
    /* Its flags are behind a pointer, where no filter sees them; glibc falls back to clone(). */
    REFUSE(clone3, ENOSYS),
};
SET(never, "never", "other processes' memory, kernel extensions, mounts, clocks, user namespaces");
