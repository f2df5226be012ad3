/* The frame of every role: takes its configuration from the supervisor, puts on its cage, runs its
 * loop, ends when told. The supervisor is trusted; everybody else on the other descriptors is not.
 */
#include "daemon/role.h"
#include "daemon/messages.h"
#include "daemon/audit/events.h"
#include "daemon/histogram.h"
#include "daemon/testhooks.h"
#include "daemon/tls.h"
#include "envelope/keys.h"
#include "sandbox/lockmem.h"
#include "sandbox/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define MAX_FDS 256

static const char *log_name = "role";

void role_log(const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    dprintf(STDERR_FILENO, "sealpostd[%s]: %s\n", log_name, text);
}

void role_status_number(struct wire_out *pairs, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, value);
    wire_put_str(pairs, name);
    wire_put_str(pairs, text);
}

void role_status_count(struct wire_out *pairs, const char *prefix, const char *kind, uint64_t value)
{
    char name[64];
    if (value == 0)
        return;
    snprintf(name, sizeof(name), "%s_%s", prefix, kind);
    for (char *at = name; *at != '\0'; at++)
        *at = *at == '-' || *at == '.' ? '_' : *at;
    role_status_number(pairs, name, value);
}

void role_status_histogram(struct wire_out *pairs, const char *name, const struct histogram *h)
{
    char text[HISTOGRAM_TEXT];
    histogram_text(h, text);
    wire_put_str(pairs, name);
    wire_put_str(pairs, text);
}

enum lockmem_kind lockmem_wanted(const struct config *config)
{
    static const enum lockmem_kind kinds[] = {[LOCK_BEST] = LOCKMEM_NONE,
                                              [LOCK_SECRETMEM] = LOCKMEM_SECRET,
                                              [LOCK_MLOCK] = LOCKMEM_MLOCK};
    return kinds[config->memory_lock];
}

const char *lockmem_name(enum lockmem_kind kind)
{
    return kind == LOCKMEM_SECRET ? "memfd_secret" : "memfd and mlock";
}

/* Frames that come before the loop runs: the configuration, and what prepare() needs. */
static enum sp_err read_config(struct role *role)
{
    uint8_t *buf = malloc(IPC_HEADER + IPC_MAX_PAYLOAD);
    struct ipc_frame frame = {.fd = -1};
    enum sp_err err = buf != NULL ? SP_OK : SP_ERR_MEMORY;
    struct config *config = NULL;
    if (err == SP_OK)
        err = ipc_recv(FD_CONTROL, buf, IPC_HEADER + IPC_MAX_PAYLOAD, &frame);
    if (err == SP_OK && (frame.type != CT_CONFIG || frame.fd >= 0))
        err = SP_ERR_FORMAT;
    if (err == SP_OK)
        err = config_from_slice((const char *)frame.body.at, frame.body.left, &config);
    role->config = config;
    free(buf);
    return err;
}

static enum sp_err on_stop(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct role *role = ctx;
    (void)peer;
    (void)frame;
    if (role->ops->stop != NULL)
        role->ops->stop(role);
    else
        event_base_loopexit(role->base, NULL);
    return SP_OK;
}

static enum sp_err on_status(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    static uint8_t buf[16384];
    struct role *role = ctx;
    struct wire_out pairs = wire_out(buf, sizeof(buf));
    struct sandbox_layers layers;
    sandbox_layers(&layers);
    char abi[16];
    snprintf(abi, sizeof(abi), "%d", layers.landlock_abi);
    wire_put_str(&pairs, "landlock_abi");
    wire_put_str(&pairs, abi);
    wire_put_str(&pairs, "mdwe");
    wire_put_str(&pairs, layers.mdwe ? "yes" : "no");
    if (role->ops->status != NULL)
        role->ops->status(role, &pairs);
    return ipc_peer_send(peer, CT_STATUS_REPLY, frame->id, &pairs, -1);
}

static enum sp_err on_control(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct role *role = ctx;
    (void)peer;
    return role->ops->control != NULL ? role->ops->control(role, frame) : SP_ERR_DENIED;
}

static void on_supervisor_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    (void)ctx;
    (void)peer;
    (void)why;
    _exit(0); /* the tree is coming down */
}

static const struct ipc_rule control_rules[] = {
    {CT_STOP, false, true, 0, 0, on_stop},
    {CT_STATUS, false, false, 0, 0, on_status},
    {CT_CERTIFICATE, false, false, 1, IPC_MAX_PAYLOAD, on_control},
    {CT_KEY, false, false, 1, IPC_MAX_PAYLOAD, on_control},
    {CT_DKIM, true, false, 2, 2 + CONFIG_MAX_TEXT, on_control},
    {CT_AUTH, true, false, 0, 0, on_control},
    {CT_RESOLV_CONF, true, false, 0, 0, on_control},
    {CT_ADMIN, true, false, 0, 0, on_control},
    {CT_METRICS_REPLY, false, false, 0, IPC_MAX_PAYLOAD, on_control},
    {CT_LOG, true, false, 0, 0, on_control},
#ifdef SEALPOST_TEST
    {CT_PROBE, false, false, 3, 64, testhook_probe},
    {CT_SCAN, false, false, 3, 64, testhook_scan},
#endif
};
static const struct ipc_rules control = {control_rules,
                                         sizeof(control_rules) / sizeof(control_rules[0]),
                                         UINT64_MAX, on_supervisor_gone};

/* What libraries fetch and read at their first use, they get now, while it is allowed. */
static enum sp_err warm_up_libraries(void)
{
    uint8_t hash[HASH_SIZE];
    enum sp_err err = sodium_init() < 0 ? SP_ERR_CRYPTO : tls_init();
    return err == SP_OK ? keys_sha256("", 0, hash) : err;
}

static enum sp_err prepare(void *ctx)
{
    struct role *role = ctx;
    tzset(); /* libraries ask for the time zone later, when no file can be opened */
    role->base = event_base_new();
    if (role->base == NULL)
        return SP_ERR_MEMORY;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* again: changing the uid has cleared it */
    enum sp_err err = role->ops->prepare != NULL ? role->ops->prepare(role) : SP_OK;
    return err == SP_OK ? warm_up_libraries() : err;
}

/* Everything that the supervisor put there; whatever else came along is closed by the cage. */
static size_t list_descriptors(int *keep)
{
    size_t n = 0;
    for (int fd = 0; fd < FD_EXTRA + 2 * CONFIG_MAX_LIST; fd++)
        if (fcntl(fd, F_GETFD) >= 0 && fd != FD_ROOT)
            keep[n++] = fd;
    return n;
}

static enum sp_err enter_cage(struct role *role, bool user_mode, unsigned uid)
{
    int keep[MAX_FDS];
    uint16_t ports[ROLE_MAX_PORTS];
    const char *step = "policy table";
    const struct policy *row = policy_row(role->ops->name);
    struct cage cage = {
        .keep = keep,
        .n_keep = list_descriptors(keep),
        .root = FD_ROOT,
        .user_mode = user_mode,
        .uid = uid,
        .connect = ports,
        .n_connect = role->ops->connect != NULL ? role->ops->connect(role->config, ports) : 0,
        .prepare = prepare,
        .ctx = role};
    errno = 0;
    enum sp_err err = row != NULL ? sandbox_enter(row, &cage, &step) : SP_ERR_STATE;
    if (err != SP_OK)
        role_log("cannot start: step '%s': %s%s%s", step, sp_err_text(err), errno != 0 ? ": " : "",
                 errno != 0 ? strerror(errno) : "");
    return err;
}

int role_main(const struct role_ops *ops, bool user_mode, unsigned uid)
{
    struct role role = {.ops = ops};
    log_name = ops->name;
    prctl(PR_SET_NAME, ops->name); /* for ps and top: /proc/self/exe leaves "exe" */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN); /* the supervisor says when */
    enum sp_err err = read_config(&role);
    if (err == SP_OK)
        err = enter_cage(&role, user_mode, uid);
    if (err == SP_OK) {
        role.supervisor = ipc_peer_new(role.base, FD_CONTROL, &control, &role);
        err = role.supervisor != NULL ? ops->run(&role) : SP_ERR_MEMORY;
    }
    if (err == SP_OK)
        err = ipc_peer_send(role.supervisor, CT_READY, 0, NULL, -1);
    if (err == SP_OK)
        err = ipc_loop(role.base);
    if (err != SP_OK)
        role_log("ends: %s", sp_err_text(err));
    return err == SP_OK ? 0 : 1;
}
