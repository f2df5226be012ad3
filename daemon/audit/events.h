#ifndef SEALPOST_AUDIT_EVENTS_H
#define SEALPOST_AUDIT_EVENTS_H
/*
 * Every audit event: its name (INTERFACES), who may report it, and its fields in order as
 * "name:type": s text (C string), u number (uint64_t), x identifier (16 bytes, shown as hex).
 * One table for those who report (audit_emit) and for the role that writes.
 */
#include "envelope/error.h"

#define AUDIT_BIT(r) (1u << (r))
#define AUDIT_EVENTS(E)                                                                            \
    E(AUDIT_START, "start", AUDIT_BIT(ROLE_SUPERVISOR),                                            \
      "version:s hostname:s memory_lock:s slots:s page_sha256:s page_files_sha256:s")              \
    E(AUDIT_STOP, "stop", AUDIT_BIT(ROLE_SUPERVISOR), "why:s")                                     \
    E(AUDIT_CONFIG, "config", AUDIT_BIT(ROLE_SUPERVISOR), "file:s sha256:s")                       \
    E(AUDIT_ROLE_CRASHED, "role.crashed", AUDIT_BIT(ROLE_SUPERVISOR), "role:s why:s")              \
    E(AUDIT_VIOLATION, "sandbox.violation",                                                        \
      AUDIT_BIT(ROLE_SUPERVISOR) | AUDIT_BIT(ROLE_SMTP) | AUDIT_BIT(ROLE_RELAY),                   \
      "role:s session:u client:s")                                                                 \
    E(AUDIT_SESSION_OPEN, "session.open", AUDIT_BIT(ROLE_SMTP), "session:u client:s protocol:s")   \
    E(AUDIT_SESSION_CLOSE, "session.close", AUDIT_BIT(ROLE_SMTP), "session:u client:s ms:u")       \
    E(AUDIT_SESSION_CRASHED, "session.crashed", AUDIT_BIT(ROLE_SMTP),                              \
      "session:u client:s signal:u")                                                               \
    E(AUDIT_SESSION_REFUSED, "session.refused", AUDIT_BIT(ROLE_SMTP), "client:s why:s left_out:u") \
    E(AUDIT_SESSION_CUT, "session.cut", AUDIT_BIT(ROLE_SMTP),                                      \
      "session:u client:s why:s left_out:u")                                                       \
    E(AUDIT_SENDER_REFUSED, "sender.refused", AUDIT_BIT(ROLE_RESOLVER),                            \
      "session:u domain:s why:s left_out:u")                                                       \
    E(AUDIT_SEALED, "message.sealed", AUDIT_BIT(ROLE_SEALER),                                      \
      "id:x session:u recipients:u bytes:u pieces:u window_bytes:u plaintext_us:u")                \
    E(AUDIT_REFUSED, "message.refused", AUDIT_BIT(ROLE_SEALER), "session:u why:s")                 \
    E(AUDIT_SENT, "message.sent", AUDIT_BIT(ROLE_STORE),                                           \
      "id:x user:x users:u outside:u links:u bytes:u")                                             \
    E(AUDIT_SECRET_RECEIVED, "secret.received", AUDIT_BIT(ROLE_KEEPER), "id:x kind:s recipient:x") \
    E(AUDIT_SECRET_ERASED, "secret.erased", AUDIT_BIT(ROLE_KEEPER),                                \
      "id:x kind:s recipient:x residency_ms:u why:s")                                              \
    E(AUDIT_SLOTS_SWEPT, "slots.swept", AUDIT_BIT(ROLE_KEEPER), "wiped:u in_use:u")                \
    E(AUDIT_RELAY_QUEUED, "relay.queued", AUDIT_BIT(ROLE_STORE),                                   \
      "id:x destination:s recipients:u")                                                           \
    E(AUDIT_RELAY_SENT, "relay.sent", AUDIT_BIT(ROLE_STORE),                                       \
      "id:x destination:s recipients:u host:s tls:s attempts:u")                                   \
    E(AUDIT_RELAY_DEFERRED, "relay.deferred", AUDIT_BIT(ROLE_STORE),                               \
      "id:x destination:s recipients:u host:s code:u next_s:u")                                    \
    E(AUDIT_RELAY_FAILED, "relay.failed", AUDIT_BIT(ROLE_STORE),                                   \
      "id:x destination:s recipients:u host:s code:u")                                             \
    E(AUDIT_LINK_CREATED, "link.created", AUDIT_BIT(ROLE_STORE),                                   \
      "id:x link:x destination:s expires:u")                                                       \
    E(AUDIT_LINK_SENT, "link.sent", AUDIT_BIT(ROLE_STORE), "id:x link:x host:s tls:s attempts:u")  \
    E(AUDIT_LINK_PAGE, "link.page", AUDIT_BIT(ROLE_STORE), "link:x client:s agent:s got:s")        \
    E(AUDIT_LINK_OPENED, "link.opened", AUDIT_BIT(ROLE_STORE), "link:x client:s what:s got:s")     \
    E(AUDIT_LINK_EXPOSED, "link.exposed", AUDIT_BIT(ROLE_STORE), "link:x client:s agent:s got:s")  \
    E(AUDIT_LINK_LEFT_OUT, "link.left-out", AUDIT_BIT(ROLE_STORE), "requests:u")                   \
    E(AUDIT_LINK_EXPIRED, "link.expired", AUDIT_BIT(ROLE_STORE), "id:x link:x")                    \
    E(AUDIT_LINK_REVOKED, "link.revoked", AUDIT_BIT(ROLE_STORE), "id:x link:x")                    \
    E(AUDIT_DELIVERY_CRASHED, "delivery.crashed", AUDIT_BIT(ROLE_RELAY), "lease:u signal:u")       \
    E(AUDIT_FETCHED, "message.fetched", AUDIT_BIT(ROLE_STORE), "id:x user:x")                      \
    E(AUDIT_DELETED, "message.deleted", AUDIT_BIT(ROLE_STORE), "id:x user:x")                      \
    E(AUDIT_USER_ADDED, "user.added", AUDIT_BIT(ROLE_STORE), "address:s")                          \
    E(AUDIT_USER_REMOVED, "user.removed", AUDIT_BIT(ROLE_STORE), "user:x address:s")               \
    E(AUDIT_USER_ENROLLED, "user.enrolled", AUDIT_BIT(ROLE_STORE),                                 \
      "user:x address:s device:x fingerprint:s")                                                   \
    E(AUDIT_KEY_ROTATED, "key.rotated", AUDIT_BIT(ROLE_STORE),                                     \
      "user:x device:x generation:u fingerprint:s")                                                \
    E(AUDIT_ALIAS_CHANGED, "alias.changed", AUDIT_BIT(ROLE_STORE), "alias:s targets:s")            \
    E(AUDIT_TORN, "log.torn", AUDIT_BIT(ROLE_AUDIT), "bytes:u sha256:s")                           \
    E(AUDIT_ROTATED, "log.rotated", AUDIT_BIT(ROLE_AUDIT), "first_key:s")                          \
    E(AUDIT_CHECKPOINT, "checkpoint", AUDIT_BIT(ROLE_AUDIT), "next_key:s signature:s")

enum audit_event {
#define E(id, name, who, fields) id,
    AUDIT_EVENTS(E)
#undef E
        AUDIT_EVENT_COUNT
};

/* Reports an event over a role's one way into the audit role (FD_AUDIT); the arguments follow the
 * event's fields: const char *, uint64_t, const uint8_t[16]. Blocks while the log is behind: what
 * cannot be audited does not happen. Over-long texts are cut at 512 bytes. A dead audit role ends
 * the process (exit status 70): the tree is coming down anyway. */
void audit_emit(enum audit_event event, ...);
/* The same for one who outlives the audit role (the supervisor): SP_ERR_PEER instead of the end of
 * the process. */
enum sp_err audit_report(enum audit_event event, ...);
/* The frame's payload: u16 event, then the fields (s: b16, u: u64, x: 16 bytes). Frame type: */
#define AU_EVENT 0x0800

#endif
