#ifndef SEALPOST_SUPERVISOR_H
#define SEALPOST_SUPERVISOR_H
/*
 * The root of the tree: opens what the roles need, starts them, watches them, answers operators.
 * Split by what it does: supervisor.c (life of the tree), wiring.c (edges, fork and exec),
 * resources.c (sockets and files), doorway.c (the door, where it is a service), relayfiles.c (DKIM
 * keys, credentials), operator.c (control socket), selfsigned.c (user mode's certificate),
 * killing.c (ending a role).
 */
#include "daemon/config.h"
#include "daemon/door/door.h"
#include "daemon/ipc.h"
#include "daemon/listen.h"
#include "daemon/role.h"
#include "envelope/keys.h"
#include "sandbox/lockmem.h"

#include <event2/util.h>
#include <stdbool.h>
#include <sys/types.h>

struct event_base;
struct operators;

/* Opened once, before privileges are dropped; handed to every tree that is started. */
struct resources {
    struct listening listening;
    int control; /* listening, for sealpostctl */
    int empty_dir, data_dir;
    int audit_log, audit_key;
    int relay_ca, link_template; /* -1: there is none */
    int keeper_key, slots;
};

struct child {
    pid_t pid; /* 0: not running */
    bool ready;
    struct ipc_peer *control;
};

/* The door as a service of its own. */
struct doorway {
    const char *path; /* of its socket; NULL: the door is a role of the tree */
    int sock;         /* -1: not connected. That it ends is all that is ever read again */
    struct event *end;
    int channel[DOOR_CHANNELS]; /* for the next tree; -1: given to one */
    pid_t pid;
    unsigned landlock_abi; /* as it says */
    bool mdwe;
};

struct supervisor {
    const struct config *config;
    enum lockmem_kind lock_kind;
    const char *config_path;
    char config_sha256[2 * HASH_SIZE + 1]; /* in hex, of the file */
    bool user_mode;
    uid_t uid[ROLE_COUNT];
    struct resources res;
    struct doorway doorway;
    struct event_base *base;
    struct child child[ROLE_COUNT];
    struct operators *operators;
    char *certificate, *key; /* PEM; the key is in locked pages and wiped once it is handed over */
    size_t certificate_len, key_len;
    int fresh_log;                   /* the audit role has been told to go on in it; -1 */
    bool files_open;                 /* relayfiles_open was called, _close not yet */
    int dkim[CONFIG_MAX_LIST], auth; /* then; -1: there is none */
    bool slots_new;                  /* a database is there, and they were not */
    char slots[64];                  /* for the audit log: how slots are erased, and that */
    int stage;                       /* of a shutdown; -1: running */
    int status;                      /* exit status */
    bool shut_out;                   /* the door is gone, and so this tree ends in order */
    bool restart;                    /* a role died: start a fresh tree when all are gone */
    bool announced;                  /* this tree is ready */
    bool served;                     /* some tree was */
    unsigned failures;
    uint64_t restarts, violations, crashes[ROLE_COUNT]; /* of the tree; of roles' cages */
    enum role_id culprit;                               /* the role that died first, and how */
    int culprit_status;
};

/* resources.c: everything is opened or nothing; what fails is said on stderr. */
enum sp_err resources_config_digest(struct supervisor *s);
enum sp_err resources_open(struct supervisor *s);
enum sp_err resources_load_tls(struct supervisor *s);
/* Says on stderr what is wrong with the dates and names of the certificate that was loaded. */
void resources_judge_certificate(const struct supervisor *s);
void resources_forget_key(struct supervisor *s);
/* [relay] link_template: read, and found to be one. */
enum sp_err resources_load_template(struct supervisor *s);
/* For each tree anew: /etc/resolv.conf and the DNSSEC trust anchors; -1 if there is none. */
int resources_resolv_conf(void);
/* And to the resolver that runs, unless a setting says whom to ask. */
void resources_give_resolv_conf(struct supervisor *s);
int resources_trust_anchor(const struct config *c);

/* relayfiles.c: the files of [relay] dkim_key and smarthost_auth. Each is opened and looked at;
 * what is wrong is said on stderr. Closed in any case by relayfiles_close. */
enum sp_err relayfiles_open(struct supervisor *s);
/* Hands them to the keeper. */
enum sp_err relayfiles_give(struct supervisor *s);
void relayfiles_close(struct supervisor *s);

/* wiring.c: starts all roles, each with its own descriptors at fixed numbers, and sends each its
 * slice of the configuration. */
extern const struct role_ops *const all_roles[ROLE_COUNT];
enum sp_err wiring_start(struct supervisor *s, const struct ipc_rules *control_rules);

/* operator.c */
enum sp_err operators_start(struct supervisor *s);
enum sp_err operators_status_reply(struct supervisor *s, enum role_id from,
                                   struct ipc_frame *frame);
void operators_role_gone(struct supervisor *s, enum role_id r);

/* Asks all roles, soon. Whoever asks: the service manager is told once every role has answered. */
void operators_watchdog(struct supervisor *s);
/* web asks for every role's status: answered by one CT_METRICS_REPLY, about once a second. */
enum sp_err operators_metrics(struct supervisor *s);
/* The audit log goes on in a new file, or not. */
void operators_rotated(struct supervisor *s, enum sp_err err, uint64_t last);

/* rotation.c: the log of the audit role in a new file; what fails is said on stderr. */
enum sp_err rotation_finish(const struct config *config); /* at start: what a crash left undone */
enum sp_err rotation_begin(struct supervisor *s);         /* SP_ERR_STATE: one is under way */
enum sp_err rotation_end(struct supervisor *s, uint64_t last); /* the audit role has done it */
void rotation_abandon(struct supervisor *s);                   /* the tree is gone */

/* selfsigned.c: P-256, ten years, for hostname and the loopback addresses. */
enum sp_err selfsigned_make(const char *hostname, const char *cert_path, const char *key_path);

/* killing.c: SIGKILL. */
void supervisor_kill(const struct supervisor *s, enum role_id r);
/* The same in a second, if it still runs then: it has closed its channel, and hears of nothing. */
void supervisor_kill_deaf(struct supervisor *s, enum role_id r);

/* doorway.c: connects to the door anew, checks that it is the door, and takes from it the
 * listeners, which replace those from before, and channels for one tree. gone: called on the loop
 * with the supervisor when the door has ended. What fails is said on stderr. */
enum sp_err doorway_open(struct supervisor *s, void (*gone)(evutil_socket_t, short, void *s));
/* The i-th channel, which becomes the caller's. */
int doorway_take(struct supervisor *s, size_t i);

/* Whether this role is one of the tree. */
static inline bool supervisor_has(const struct supervisor *s, int r)
{
    return r != ROLE_DOOR || s->doorway.path == NULL;
}

struct supervisor_start {
    const char *config_path;
    struct config *config;
    bool user_mode;
    const char *door; /* the path of its socket; NULL: a role of the tree */
};
/* supervisor.c: runs until told to end; the exit status. */
int supervisor_main(const struct supervisor_start *start);

#endif
