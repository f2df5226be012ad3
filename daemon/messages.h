#ifndef SEALPOST_MESSAGES_H
#define SEALPOST_MESSAGES_H
/*
 * Every frame between the processes of the tree, by edge. The fields after each name are its
 * payload, in the notation of FORMAT.md section 1; "status" is a u8 holding an enum sp_err (0 is
 * success, and on another status nothing follows it). A reply carries the id of its request.
 * "+fd": a descriptor comes along.
 */

/* supervisor -> role (fd 3) */
enum {
    CT_CONFIG = 0x0100, /* the role's slice as text */
    CT_CERTIFICATE,     /* PEM chain: smtp, web (at start, and again on reload) */
    CT_KEY,             /* PEM private key: keeper (at start, when it has all else that is for it:
                           deliveries are heard from then on; and again on reload) */
    CT_ADMIN,           /* +fd: an operator's connection, store alone */
    CT_STATUS,          /* asks for CT_STATUS_REPLY */
    CT_STOP,            /* end cleanly */
    CT_METRICS_REPLY,   /* web: b16 role, b16 name, b16 value, and so on; empty: busy, ask again */
    CT_LOG,             /* +fd: audit: a new, empty file to go on in; answered by CT_LOG_REPLY */
    CT_DKIM, /* +fd: b16 selector: keeper; the file holds the PEM private key. In the order of
                the settings, before the first CT_KEY and again on reload */
    CT_AUTH, /* +fd: keeper; the file holds "user:password" for the smarthost. When as CT_DKIM */
    CT_RESOLV_CONF, /* +fd: resolver; /etc/resolv.conf as it is now (on reload) */
    CT_PROBE,       /* test build only: b16 name of an action to try; never answered if it kills */
    CT_SCAN,        /* test build only: b16 marker prefix; count it in own memory */
    /* role -> supervisor */
    CT_READY = 0x0180,
    CT_STATUS_REPLY, /* pairs of b16 name, b16 value */
    CT_PROBE_REPLY,  /* u32 errno (0: it was allowed) */
    CT_SCAN_REPLY,   /* u32 markers found */
    CT_METRICS,      /* web: asks for what all roles say in their status */
    CT_LOG_FULL,     /* audit: the log has reached [audit] rotate_size */
    CT_LOG_REPLY,    /* u64 seq of the last line in the file before; the new one begins behind it */
    CT_SESSION_DIED, /* u32 signal: a forked session died of it (test and status) */
};

/* smtp (parent) -> sealer, keeper, resolver */
enum {
    SP_SESSION = 0x0200, /* +fd: u32 session, b16 client address; the session's channel */
    SP_SESSION_GONE,     /* u32 session: its process is dead and reaped, its memory with it */
};

/* session <-> sealer */
enum {
    SE_RCPT = 0x0300, /* b16 address (local@domain, UTF-8, quotes removed) */
    SE_RESET,         /* forget the transaction */
    SE_DATA,          /* content is about to come: lend a slot */
    SE_ATTACH,  /* u64 splice_at, u16 media type bytes, u16 file name bytes (both in slot META):
                   an attachment begins; SE_SEALs of stream 1 belong to it until its last */
    SE_SEAL,    /* u8 stream (0 body, 1 attachment), u8 last, u32 bytes at slot WORK */
    SE_FINISH,  /* u32 bytes of the body's tail at slot WORK, u32 window high-water mark,
                   u64 plaintext microseconds: seal, store, answer */
    SE_ABORT,   /* b16 why (a word for the audit log): drop all of it */
    SE_REFUSED, /* u8 enum session_refusal: what the session refused by itself, to be counted */
    SE_RCPT_REPLY = 0x0380, /* status: OK, NOT_FOUND, NO_KEY, NO_SPACE, LIMIT, SYSTEM */
    SE_SLOT,                /* status (+fd the first time in a session) */
    SE_SEALED,              /* slot WORK is wiped and may be filled again */
    SE_DONE,                /* status, message_id[16]: on disk, synced; or nothing is */
};

enum session_refusal {
    REFUSED_NOT_OURS, /* a recipient elsewhere */
    REFUSED_BEYOND,   /* a recipient too many */
    REFUSED_SIZE,     /* a message announced as too big */
    REFUSED_COUNT
};

/* The slot that a session shares with the sealer; offsets in bytes. */
#define SLOT_WORK        0u /* piece bytes to be sealed: up to three chunks */
#define SLOT_WORK_SIZE   (48u * 1024u)
#define SLOT_PARK        (SLOT_WORK + SLOT_WORK_SIZE) /* the body's tail while an attachment streams */
#define SLOT_PARK_SIZE   (16u * 1024u)
#define SLOT_READ        (SLOT_PARK + SLOT_PARK_SIZE) /* what was read off the network */
#define SLOT_READ_SIZE   (16u * 1024u)
#define SLOT_META        (SLOT_READ + SLOT_READ_SIZE) /* media type and file name of SE_ATTACH */
#define SLOT_META_SIZE   4096u
#define SLOT_CUTTER      (SLOT_META + SLOT_META_SIZE) /* the session's MIME cutter */
#define SLOT_CUTTER_SIZE (16u * 1024u)
#define SLOT_SIZE        (SLOT_CUTTER + SLOT_CUTTER_SIZE)

/* session <-> keeper, web <-> keeper */
enum {
    SK_SIGN =
        0x0400, /* b16 signature algorithm ("ECDSA", "RSA", "ED25519", "RSA-PSS"), b16 digest name
                   or empty, b32 whole to-be-signed input; once a session, always from web */
    SK_SIGN_REPLY = 0x0480, /* status, b16 signature */
};

/* sealer <-> store. Ciphertext goes through a ring in shared memory (the store maps it read-only):
 * positions are running byte counts, taken modulo the ring's size; a block never wraps. */
enum {
    SS_RING = 0x0500, /* +fd, once and first: u64 size */
    SS_LOOKUP,        /* b16 address */
    SS_BLOCK,  /* u64 upload, u16 piece, u64 position, u32 bytes: append to that piece; pieces of an
                  upload may interleave; position never falls, skipped bytes count as consumed */
    SS_COMMIT, /* u64 upload, message_id[16], u64 received_ms, u16 pieces, b32 envelope, u16 boxes,
                  then a box: user_id[16], b32 box. id: answered when synced; flags: how many more
                  messages may be about to be committed, which the store may wait for a moment */
    SS_ABORT,  /* u64 upload: drop what came of it */
    SS_LOOKUP_REPLY = 0x0580, /* status, u16 n, n times: user_id[16] u32 generation puk_pk[32] */
    SS_CONSUMED,              /* u64 position: the ring is free up to here */
    SS_COMMIT_REPLY,          /* status */
};

/* The form: what a client says about mail it sends (docs/api.md), the last part of its upload.
 *     "SPSB" u8 version=1  b32 envelope  b32 sent_copy  b16 mail_from
 *     u16 n, then n times: b32 box, and behind a box of kind
 *         1 user      nothing
 *         2 relay     b16 sealed_secret (FORMAT.md section 7), u16 m, m times: b16 address,
 * order[64] 3 password  b16 sealed_secret, b16 address, SHA256(gate)[32], b16 subject (UTF-8),
 *                     order[32]
 *     signature[64]
 * Orders and signature: envelope/order.h. */
#define FORM_PIECE 0xffffu       /* its number among the pieces of an upload */
#define FORM_MAX   (4u << 20)    /* bytes */
#define SENT_MAX   (512u << 10)  /* bytes of sent_copy: ciphertext of the sender's own (4.6) */
#define LINK_AGENT 512u          /* bytes of the agent in SW_LINK_PAGE */
#define PART_MAX   (64u * 1024u) /* bytes of one SW_UPLOAD_PUT, SD_REPORT_BYTES ... */

/* web <-> store. token[32] names an authenticated session of one user's device. */
enum {
    SW_CHALLENGE = 0x0600, /* (nothing) */
    SW_LOGIN,              /* user_id[16] device_id[16] challenge[32] signature[64]: docs/api.md */
    SW_ENROLL,             /* b16 address, b16 code, b32 root wire (sigchain) */
    SW_CHAIN_GET,          /* token[32], u8 by (0 address, 1 user_id), b16 which, u32 after_seq:
                              links above it, oldest first */
    SW_CHAIN_ADD,          /* token[32], b32 wire */
    SW_LIST,               /* token[32], u64 after (0: from the start), u16 limit (1..500) */
    SW_MESSAGE,            /* token[32], message_id[16], u32 offset: PART_MAX bytes from there */
    SW_PIECE,        /* token[32], message_id[16], u16 piece, u64 offset, u32 bytes (1..65536) */
    SW_DELETE,       /* token[32], message_id[16] */
    SW_LOGOUT,       /* token[32] */
    SW_KEEPER_KEY,   /* (nothing) */
    SW_RESOLVE,      /* token[32], b16 address */
    SW_UPLOAD,       /* token[32], u16 n, n times u64 ciphertext bytes of piece 0 ... n - 1 */
    SW_UPLOAD_STATE, /* token[32], upload_id[16] */
    SW_UPLOAD_PUT,   /* token[32], upload_id[16], u16 piece (or FORM_PIECE), u64 offset, then bytes
                        to the end (1..PART_MAX). Not synced by itself. Offset 0 begins the form
                        anew; a form is gone after a restart, pieces are not */
    SW_UPLOAD_DROP,  /* token[32], upload_id[16] */
    SW_SEND,         /* token[32], upload_id[16]: all of it is there; deliver and queue */
    SW_SENT,         /* token[32], message_id[16], u32 offset: the sent copy */
    SW_DELIVERY_STATUS, /* token[32], message_id[16] */
    SW_REVOKE, /* token[32], message_id[16], b16 address (empty: all): what was not sent yet is not
                  sent any more, links end */
    /* Links, without a session. client: its address, for the audit log */
    SW_LINK_PAGE, /* link_id[16], b16 client, b16 agent (what it calls itself; LINK_AGENT at most)
                   */
    SW_LINK_ENVELOPE, /* link_id[16], gate[32], b16 client, u32 offset */
    SW_LINK_PIECE,    /* link_id[16], gate[32], b16 client, u16 piece, u64 offset, u32 bytes (0, if
                         first: the length alone; up to PART_MAX), u8 first (0: this request has been
                         served before; the store looks whether that is so) */
    SW_LINK_EXPOSED,  /* link_id[16], b16 client, b16 agent: the secret came in the path */
    /* replies: type | 0x80 */
    SW_CHALLENGE_REPLY = 0x0680, /* status, challenge[32] */
    SW_LOGIN_REPLY,              /* status, token[32], u32 seconds it lasts */
    SW_ENROLL_REPLY,             /* status, user_id[16] */
    SW_CHAIN_GET_REPLY,  /* status, user_id[16], u8 more, then wires as they are, to the end */
    SW_CHAIN_ADD_REPLY,  /* status */
    SW_LIST_REPLY,       /* status, u16 n, n times: u64 seq, message_id[16], u64 received_ms, u64
                            ciphertext bytes, u16 pieces, u32 puk_generation, u8 flags (bit 0: this
                            user sent it, a sent copy is there) */
    SW_MESSAGE_REPLY,    /* status, u32 total, then bytes of (b32 envelope, b32 box) from offset */
    SW_PIECE_REPLY,      /* status, u64 total ciphertext bytes, b32 bytes */
    SW_DELETE_REPLY,     /* status */
    SW_LOGOUT_REPLY,     /* status */
    SW_KEEPER_KEY_REPLY, /* status, keeper_pk[32] */
    SW_RESOLVE_REPLY,    /* status (NOT_FOUND: in a domain of ours, nobody there), u8 ours (0: not
                            in a domain of ours, then n = 0), u16 n, n times user_id[16] */
    SW_UPLOAD_REPLY,     /* status (LIMIT: over what a user may send, NO_SPACE), upload_id[16] */
    SW_UPLOAD_STATE_REPLY, /* status, u16 n, n times u64 bytes there, u64 bytes of the form there */
    SW_UPLOAD_PUT_REPLY,   /* status: STATE when offset is not what is there */
    SW_UPLOAD_DROP_REPLY,  /* status */
    SW_SEND_REPLY, /* status, message_id[16]. FORMAT: the form or the envelope is malformed, or does
                      not agree with the pieces, or a link ends too late or has ended; AUTH: sender
                      fields or signature are not this device's; DENIED: mail_from is not the
                      user's; EXPIRED: there is no session; STATE: a box is for an old PUK, fetch
                      chains anew; NOT_FOUND: a box's user is gone; LIMIT: too much for one user;
                      EXISTS: this message_id was sent; NO_KEY: the keeper cannot open a secret;
                      CONFIG: there are outside recipients and the relay is off */
    SW_SENT_REPLY, /* status, u32 total, then bytes from offset */
    SW_DELIVERY_STATUS_REPLY, /* status, u64 sent_ms, u16 n, n times: b16 address, u8 kind (box
                                 kinds), u8 state (enum store_delivery), u64 since_ms, u64 next_ms
                                 (0: none), u32 attempts, b16 text (the last answer, for people),
                                 u64 expires_ms, u32 visits, u64 opened_ms (these three: links, else
                                 0) */
    SW_REVOKE_REPLY,          /* status, u16 recipients concerned */
    SW_LINK_PAGE_REPLY,       /* status (NOT_FOUND: unknown, expired or revoked) */
    SW_LINK_ENVELOPE_REPLY,   /* status (NOT_FOUND; AUTH: the gate is wrong), u64 expires_ms, b16
                                 sender, u32 total, then bytes of (b32 envelope, b32 box) */
    SW_LINK_PIECE_REPLY,      /* status (as before), u64 total ciphertext bytes, b32 bytes */
    SW_LINK_EXPOSED_REPLY,    /* status (as SW_LINK_PAGE_REPLY) */
};

/* store <-> keeper. A slot is a place in the slots file; wrapped bytes open with that slot's key
 * alone, and only for the ids they were wrapped for. */
enum {
    VT_SLOTS = 0x0900, /* u8 more, then u32 slots in use, to the end: at start, before all else;
                          what is in use and not named (with more = 0 at the last) is wiped */
    VT_SECRET, /* message_id[16], u8 kind, recipient_id[16], b16 sealed_secret: open, check, wrap */
    VT_WRAP,   /* message_id[16], link_id[16], b16 box */
    VT_UNWRAP, /* message_id[16], link_id[16], u32 slot, b16 wrapped: a box, never a secret */
    VT_LEASE,  /* u64 lease, message_id[16], u8 kind (0: nothing can be opened any more, wrapped is
                  empty), recipient_id[16], u32 slot, b16 wrapped: its delivery may ask for it once
                */
    VT_LEASE_END, /* u64 lease: void, also when it was never used */
    VT_ERASE, /* u32 slot, message_id[16], u8 kind (0: a box), recipient_id[16], u64 received_ms,
                 b16 why (a word for the audit log) */
    VT_SLOTS_REPLY = 0x0980, /* status (to the one with more = 0), keeper_pk[32] */
    VT_SECRET_REPLY,         /* status (AUTH: not ours, or another box's), u32 slot, b16 wrapped */
    VT_WRAP_REPLY,           /* status, u32 slot, b16 wrapped */
    VT_UNWRAP_REPLY,         /* status, b16 box */
    VT_ERASE_REPLY = VT_UNWRAP_REPLY + 3, /* status: overwritten and synced */
};
#define VT_SECRET_WRAPPED_MAX 256u
#define VT_BOX_MAX            2048u
#define VT_BOX_WRAPPED_MAX    (VT_BOX_MAX + 256u)

/* relay (parent) <-> store */
enum {
    SR_WANT = 0x0a00, /* u32 n: this many more jobs may be sent (replaces the number before) */
    SR_ENDED,         /* u64 lease, u32 signal (0: it ended by itself; SIGTERM: the relay is ending,
                         and this counts as no attempt; a crash's counts against the mail), u32 n
                         as in SR_WANT: its process is reaped. What it gave no result for is tried
                         again */
    SR_JOB = 0x0a80,  /* u64 lease */
};

/* relay (parent) -> store, keeper, resolver. A delivery has no way to pass its channel on, so that
 * the end of the channel is the end of the process. */
enum {
    RP_DELIVERY = 0x0b00, /* +fd: u32 delivery, u64 lease; the delivery's channel */
};

/* delivery <-> store */
enum {
    SD_JOB = 0x0c00, /* (nothing); once */
    SD_ENVELOPE,     /* u32 offset */
    SD_PIECE,        /* u16 piece, u64 offset, u32 bytes (1..SD_PIECE_MAX) */
    SD_REPORT_BYTES, /* bytes of piece 0 of a report to the sender, in order */
    SD_REPORT,       /* b32 envelope, b32 box: kept until SD_RESULT, and delivered with it */
    SD_RESULT, /* b16 host, u8 tls (0 none, 1 encrypted, 2 verified), u16 n, n times: u16 index, u8
                  outcome (enum store_delivery: SENT, DEFERRED, FAILED), u16 code (0: none), b16
                  enhanced, b16 text (printable ASCII, at most 500); may come more than once */
    SD_JOB_REPLY = 0x0c80, /* status, u8 kind (box kinds; 0: nothing can be opened any more, report
                              the failure), message_id[16], recipient_id[16], u64 queued_ms, u64
                              give_up_ms (after it a delay is a failure), u32 attempt, b16
                              mail_from (as the orders have it), b16 destination (domain),
                              user_id[16], u32 generation, puk_pk[32] (the sender's, for a report),
                              report_pk[32] (the same, as the orders have it), u64 expires_ms
                              (links; else 0), b16 subject (links; kind 0: why, for        people;
                              else empty), digest[32] (of a link's box; kind 3 alone), u16        n,
                              n times: b16 address of the sender's own; u16 n, n times: u16 index,
                              b16 recipient address, b16 order (envelope/order.h). Then, if the mail
                              may be opened and it all fits: b32 (b32 envelope, b32 box), b32 the
                              whole ciphertext of piece 0. Else nothing: they are asked for */
    SD_ENVELOPE_REPLY, /* status, u32 total, then bytes of (b32 envelope, b32 box) from offset */
    SD_PIECE_REPLY,    /* status, u64 total ciphertext bytes, b32 bytes */
    SD_REPORT_BYTES_REPLY, /* status */
    SD_REPORT_REPLY,       /* status */
    SD_RESULT_REPLY,       /* status: on disk, synced */
};

#define SD_PIECE_MAX (120u * 1024u) /* bytes: its frame is as full as can be */

/* delivery <-> keeper. For the lease that its channel was announced with. */
enum {
    KD_OPEN = 0x0d00, /* once, kind 2: u8 suite, message_id[16], b16 sender_user_id, b16
                         sender_sign_pk, ephemeral_pk[32], bcc_commitment[32],
                         manifest_hash[32], b32 box (FORMAT.md 4.5) */
    KD_PASSWORD,      /* once, kind 3: (nothing) */
    KD_DKIM, /* once a key: u8 key (order of the settings), hash[32] for rsa-sha256, hash[32] for
                ed25519-sha256: the algorithm is in what is hashed, so the keeper takes the one of
                its key */
    KD_AUTH, /* once, mode = smarthost alone: (nothing). This and KD_DKIM may be asked for once
                KD_OPEN or KD_PASSWORD has succeeded */
    KD_OPEN_REPLY = 0x0d80, /* status, shared_key[32], u8 1: the smarthost wants a password */
    KD_PASSWORD_REPLY,      /* status, password[32], u8 as in KD_OPEN_REPLY */
    KD_DKIM_REPLY, /* status, u8 algorithm (1 rsa-sha256, 2 ed25519-sha256), b16 signature */
    KD_AUTH_REPLY, /* status (NOT_FOUND: there are none), b16 user, b16 password */
};

/* delivery, session <-> resolver. result: 0 found, 1 there is no such name, 2 the name has none of
 * these, 3 try later, 4 it does not validate (try later, and say so) */
enum {
    RD_MX = 0x0e00,       /* b16 domain (A-labels) */
    RD_ADDRESS,           /* b16 host */
    RD_SENDER,            /* a session's only question. b16 domain (A-labels) */
    RD_MX_REPLY = 0x0e80, /* u8 result, u8 secure (validated), u16 n, n times: u16 preference, b16
                             host (empty: the null MX of RFC 7505) */
    RD_ADDRESS_REPLY,     /* u8 result, u8 secure, u16 n, n times: b16 address (4 or 16 bytes) */
    RD_SENDER_REPLY,      /* u8: 1 it has a null MX (RFC 7505); 0 it has none, or nobody knows */
};
#define SENDER_QUESTIONS   100u /* of one session, one at a time: one more ends its channel */
#define SENDER_SECONDS     3    /* then the resolver says 0 */
#define SENDER_PATIENCE_MS 4000 /* then the session asks no more */

/* door, where it is a service of its own -> supervisor, in this order. Nothing goes the other way.
 */
enum {
    DS_LISTENER = 0x0f00, /* +fd: u8 enum listen_for, b16 address as the setting has it; each */
    DS_CHANNEL,           /* +fd: u8 place in door_channels[]; each */
    DS_READY,             /* u32 version of Landlock, u8 MDWE is on: what its cage is of */
};

/* sealpostctl <-> supervisor, store (control socket, SEQPACKET). The first frame says who is meant;
 * the supervisor hands the connection on and reads no more of it. */
enum {
    CC_STORE = 0x0700, /* (nothing): the next frames are the store's */
    CC_STATUS,         /* (nothing): answered by the supervisor with CC_TABLE */
    CC_ROTATE,         /* (nothing): the audit log goes on in a new file; CC_TABLE without rows */
    CC_SCAN,           /* test build only: b16 prefix; CC_TABLE of role, markers */
    CC_PROBE,          /* test build only: u8 role, b16 action; CC_TABLE of role, errno */
    CC_REQUEST,        /* u16 n, n times b16: verb and arguments, as on the command line */
    CC_TABLE = 0x0780, /* status, b16 message for people (may be empty), u16 columns, u32 rows, then
                          the cells as b16, the first row being headings; the last frame has flag 1,
                          others continue the table */
};
#define CC_LAST 1u

#endif
