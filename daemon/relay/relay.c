/* The relay role's parent: says to the store how many deliveries it has room for, forks one for
 * each lease that comes. It knows no more of a mail than the lease's number, and meets no stranger:
 * the certificates it reads are the operator's. */
#include "daemon/messages.h"
#include "daemon/relay/deliveries.h"
#include "daemon/relay/template.h"
#include "daemon/relay/remote.h"
#include "daemon/role.h"
#include "daemon/shed.h"
#include "daemon/tls.h"
#include "sandbox/lockmem.h"
#include "sandbox/sandbox.h"

#include <event2/event.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FD_CA       FD_EXTRA /* the certificates to believe; not there if the file is not */
#define FD_TEMPLATE (FD_EXTRA + 1)
#define CA_MAX      (8u * 1024u * 1024u)

static struct deliveries deliveries;

/* --- edge to the store --- */

static enum sp_err on_job(void *ctx, struct ipc_peer *peer, struct ipc_frame *frame)
{
    struct deliveries *d = ctx;
    (void)peer;
    uint64_t lease = wire_get_u64(&frame->body);
    return frame->body.bad ? SP_ERR_FORMAT : deliveries_start(d, lease);
}

static void on_store_gone(void *ctx, struct ipc_peer *peer, enum sp_err why)
{
    (void)ctx;
    (void)peer;
    role_log("the store is gone: %s", sp_err_text(why));
    _exit(1);
}

static const struct ipc_rule store_rule[] = {{SR_JOB, false, false, 8, 8, on_job}};
static const struct ipc_rules store_rules = {store_rule, 1, UINT64_MAX, on_store_gone};

/* --- certificates --- */

static enum sp_err read_all(int fd, char *buf, size_t *len)
{
    ssize_t n = 0;
    /* Not read(): the trees before this one have moved the place. */
    while (*len < CA_MAX && (n = pread(fd, buf + *len, CA_MAX - *len, (off_t)*len)) > 0)
        *len += (size_t)n;
    if (n < 0)
        return SP_ERR_SYSTEM;
    return *len < CA_MAX ? SP_OK : SP_ERR_LIMIT;
}

/* Parsed once; every delivery inherits it. Without certificates nothing verifies, which the
 * supervisor has allowed only where nothing must. */
static enum sp_err load_certificates(X509_STORE **out)
{
    *out = NULL;
    struct stat st;
    if (fstat(FD_CA, &st) != 0 || !S_ISREG(st.st_mode))
        return SP_OK; /* not there; the number may be the event loop's by now */
    size_t len = 0;
    char *pem = malloc(CA_MAX);
    enum sp_err err = pem != NULL ? read_all(FD_CA, pem, &len) : SP_ERR_MEMORY;
    if (err == SP_OK)
        err = remote_store_new(pem, len, out);
    if (err != SP_OK)
        role_log("the certificates of [relay] ca cannot be used: %s", sp_err_text(err));
    free(pem);
    close(FD_CA);
    return err;
}

/* The supervisor has checked it. */
static enum sp_err load_template(struct deliveries *d)
{
    static char text[TEMPLATE_MAX + 1];
    struct stat st;
    d->template = template_built_in;
    d->template_len = strlen(template_built_in);
    if (fstat(FD_TEMPLATE, &st) != 0 || !S_ISREG(st.st_mode))
        return SP_OK;
    ssize_t n = pread(FD_TEMPLATE, text, sizeof(text), 0);
    close(FD_TEMPLATE);
    if (n < 0 || template_fault(text, (size_t)n) != NULL)
        return SP_ERR_CONFIG;
    d->template = text;
    d->template_len = (size_t)n;
    return SP_OK;
}

/* --- role --- */

/* What a delivery does without. */
static const char *const unused[] = {"liblmdb.",    "libjansson.", "libinih.",    "libevent",
                                     "libseccomp.", "libpthread.", "libunbound.", "libresolv.",
                                     "libhogweed.", "libnettle.",  "libgmp.",     NULL};

static enum sp_err prepare(struct role *role)
{
    struct deliveries *d = &deliveries;
    enum lockmem_kind got;
    X509_STORE *store = NULL;
    role->state = d;
    d->role = role;
    if (role->config->relay_mode == RELAY_OFF)
        return SP_OK;
    enum sp_err err = lockmem_init(lockmem_wanted(role->config), &got);
    if (err == SP_OK)
        err = lockheap_init(TLS_HEAP_DELIVERY, 1);
    if (err == SP_OK)
        err = tls_use_lockheap();
    if (err == SP_OK)
        err = tls_init();
    if (err == SP_OK)
        err = load_certificates(&store);
    if (err == SP_OK)
        err = load_template(d);
    if (err == SP_OK)
        err = remote_tls_new(store, &d->tls);
    X509_STORE_free(store);
    if (err == SP_OK)
        err = sandbox_compile(policy_row("delivery"), &d->filter);
    if (err == SP_OK)
        err = shed_libraries(unused);
    if (err == SP_OK)
        err = lockheap_freeze();
    return err == SP_OK ? deliveries_init(d, role->config->deliveries) : err;
}

static void on_child(evutil_socket_t sig, short what, void *arg)
{
    struct deliveries *d = arg;
    (void)sig;
    (void)what;
    deliveries_reap(d);
    if (d->ending && d->n_running == 0)
        event_base_loopexit(d->role->base, NULL);
}

static enum sp_err run(struct role *role)
{
    struct deliveries *d = role->state;
    if (role->config->relay_mode == RELAY_OFF)
        return SP_OK;
    struct event *child = evsignal_new(role->base, SIGCHLD, on_child, d);
    if (child == NULL || event_add(child, NULL) != 0)
        return SP_ERR_MEMORY;
    d->store = ipc_peer_new(role->base, ROLE_FD(ROLE_STORE), &store_rules, d);
    if (d->store == NULL)
        return SP_ERR_MEMORY;
    deliveries_want(d);
    return SP_OK;
}

static void on_grace_over(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    deliveries_signal(arg, SIGKILL);
}

/* Who has not sent the final dot breaks off at SIGTERM; who has waits for the answer and reports
 * it. What has no result is sent by the next tree. */
static void stop(struct role *role)
{
    struct deliveries *d = role->state;
    struct timeval grace = {.tv_sec = (time_t)role->config->shutdown_grace};
    d->ending = true;
    deliveries_signal(d, SIGTERM);
    event_base_once(role->base, -1, EV_TIMEOUT, on_grace_over, d, &grace);
    if (d->n_running == 0)
        event_base_loopexit(role->base, NULL);
}

static void status(struct role *role, struct wire_out *pairs)
{
    const struct deliveries *d = role->state;
    role_status_number(pairs, "deliveries", d->n_running);
    role_status_number(pairs, "deliveries_started", d->started);
    role_status_number(pairs, "deliveries_crashed", d->crashed);
    role_status_count(pairs, "violations", "delivery", d->violations);
}

/* Mail exchangers, or the smarthost alone. */
static size_t connect_ports(const struct config *c, uint16_t out[ROLE_MAX_PORTS])
{
    out[0] = c->relay_mode == RELAY_SMARTHOST ? config_port(c->smarthost) : (uint16_t)c->relay_port;
    return c->relay_mode == RELAY_OFF || out[0] == 0 ? 0 : 1;
}

const struct role_ops relay_role = {.id = ROLE_RELAY,
                                    .name = "relay",
                                    .connect = connect_ports,
                                    .prepare = prepare,
                                    .run = run,
                                    .stop = stop,
                                    .status = status};
